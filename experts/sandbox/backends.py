"""Where programs run: which command starts a sandbox, and whether it can be used here."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from visenv.errors import InvalidData
from visenv.experts.sandbox.inside import seccomp
from visenv.experts.sandbox.limits import Limits

INSIDE = Path(__file__).resolve().parent / "inside"
"""The server that runs inside."""
MODULES = ("numpy", "cv2", "PIL")
"""What programs can import besides the standard library."""
_LIBRARIES_OF = {"cv2": "opencv_", "PIL": "pillow"}
"""How the names of folders begin in which wheels bring shared libraries, where not as the module's."""
_LIBRARIES, _PYTHON, _RUNNER = "/libraries", "/python", "/runner"
_FIRST_USER, _USERS = 1_000_000_000, 900_000_000
ENVIRONMENT = {
    "LANG": "C.UTF-8",
    # Each thread's own arena reserves address space, of which a program has little.
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Its warnings tell how long the process has run.
    "OPENCV_LOG_TIMESTAMP": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}
"""All that a program finds in its environment, besides ``HOME`` and ``TMPDIR``: its folder."""


class Backend(Protocol):
    """A way to start sandboxes."""

    name: str
    uses: int
    """How many programs one sandbox serves; 0 for any number."""
    isolated: bool
    """Whether a program cannot harm the server of its sandbox, so that the loss of one is never its fault."""

    def problem(self) -> str:
        """Why it cannot be used here, with what to do about it; empty if nothing is known against it."""
        ...

    def command(self, limits: Limits, token: int) -> list[str]:
        """What starts a sandbox.

        Args:
            limits: of each program.
            token: another number for each sandbox of this machine.
        """
        ...

    def environment(self) -> dict[str, str]:
        """The environment of that command."""
        ...

    def stop(self, token: int) -> None:
        """End what ending the command does not end."""
        ...


def configuration(limits: Limits, modules: Sequence[str], **more: Any) -> str:
    """What a server is told."""
    values = {"user": 0, "namespaces": False, "once": False, **more}
    return json.dumps({**limits.inside(), "environment": ENVIRONMENT, "modules": list(modules), **values})


@dataclass(frozen=True)
class Bubblewrap:
    """Sandboxes by ``bwrap``, for Linux: namespaces without a daemon, and without root.

    Args:
        modules: what programs can import besides the standard library.
    """

    modules: tuple[str, ...] = MODULES
    name = "bubblewrap"
    uses = 0
    isolated = True

    def problem(self) -> str:
        """Why it cannot be used here; that it works is known only once it has run something."""
        if not seccomp.supported():
            return f"bubblewrap needs Linux on x86_64 or aarch64, and this is {platform.system()} {platform.machine()}"
        if shutil.which("bwrap") is None:
            return (
                "bwrap is not installed: apt-get install bubblewrap (Debian, Ubuntu), dnf install bubblewrap (Fedora)"
            )
        return ""

    def command(self, limits: Limits, token: int) -> list[str]:
        """What starts a sandbox: nothing in it but an interpreter, libraries and the server, all read-only."""
        # Root cannot be bounded in the number of its processes, so the server becomes somebody who has none.
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        user = _FIRST_USER + token % _USERS if root else 0
        as_whom = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"] if root else ["--unshare-user"]
        namespaces = [f"--unshare-{name}" for name in ("ipc", "pid", "net", "uts", "cgroup-try")]
        # Folders on the way to what is bound are made for their owner alone, unless they are made before.
        mounts = [
            word
            for folder in (
                _LIBRARIES,
                _PYTHON,
                f"{_PYTHON}/bin",
                f"{_PYTHON}/lib",
                "/usr",
                "/usr/bin",
                _RUNNER,
                "/dev",
                "/etc",
            )
            for word in ("--perms", "0755", "--dir", folder)
        ]
        for folder in ("/usr/lib", "/usr/lib64", "/lib", "/lib64"):
            mounts += _system_folder(folder)
        mounts += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
        python, binds = _interpreter()
        for source, place in (*binds, *_packages(self.modules), (str(INSIDE), f"{_RUNNER}/inside")):
            mounts += ["--ro-bind", source, place]
        for device in ("/dev/null", "/dev/urandom"):
            mounts += ["--dev-bind", device, device]
        set_up = [
            *("--proc", "/proc", "--perms", "0755", "--dir", "/folder", "--remount-ro", "/", "--chdir", "/"),
            *("--hostname", "sandbox", "--die-with-parent", "--new-session"),
        ]
        told = configuration(limits, self.modules, user=user, namespaces=True)
        return [
            *(shutil.which("bwrap") or "bwrap", *as_whom, *namespaces, *mounts, *set_up),
            *("--", python, "-s", "-S", "-B", "-m", "inside.server", told),
        ]

    def environment(self) -> dict[str, str]:
        """The environment of the server."""
        return {**ENVIRONMENT, "PYTHONPATH": f"{_RUNNER}:{_LIBRARIES}", "LD_LIBRARY_PATH": f"{_PYTHON}/lib"}

    def stop(self, token: int) -> None:
        """Nothing: all of a sandbox ends with its command."""


@dataclass(frozen=True)
class Docker:
    """Sandboxes by ``docker``: a container a program, made beforehand.

    Args:
        image: with Python 3.9 or later and the modules; ``DOCKERFILE`` builds one.
        modules: what programs can import besides the standard library.
    """

    image: str = "visenv-sandbox"
    modules: tuple[str, ...] = MODULES
    name = "docker"
    uses = 1
    isolated = False

    def problem(self) -> str:
        """Why it cannot be used here: no docker, no daemon, no image."""
        if shutil.which("docker") is None:
            return "docker is not installed: https://docs.docker.com/engine/install"
        if (said := _said("docker", "version", "--format", "{{.Server.Version}}")) is not None:
            return f"docker does not answer: {said}"
        if _said("docker", "image", "inspect", "--format", "{{.Id}}", self.image) is not None:
            return (
                f"docker has no image {self.image!r}: python -c 'from visenv.experts.sandbox import DOCKERFILE; "
                f"print(DOCKERFILE)' | docker build -t {self.image} -"
            )
        return ""

    def command(self, limits: Limits, token: int) -> list[str]:
        """What starts a container: no network, no privilege, nothing to write to but a folder in memory."""
        folder = f"rw,noexec,nosuid,nodev,mode=1777,size={limits.folder_mb}m,nr_inodes={limits.files + 1}"
        # The interpreter and its libraries take some themselves; the folder lies in memory, too.
        memory = f"{limits.memory_mb + limits.folder_mb + 256}m"
        options = {
            "name": _container(token),
            "network": "none",
            "cap-drop": "ALL",
            "security-opt": "no-new-privileges",
            "user": "65534:65534",
            "ipc": "none",
            "pids-limit": str(limits.processes + 4),
            "memory": memory,
            "memory-swap": memory,
            "cpus": "1",
            "hostname": "sandbox",
            "log-driver": "none",
            "tmpfs": f"/folder:{folder}",
            "volume": f"{INSIDE}:{_RUNNER}/inside:ro",
        }
        environment = {**ENVIRONMENT, "PYTHONPATH": _RUNNER}
        told = configuration(limits, self.modules, once=True)
        return [
            *("docker", "run", "--rm", "--interactive", "--read-only", "--pull", "never"),
            *(f"--{name}={value}" for name, value in options.items()),
            *(f"--env={name}={value}" for name, value in environment.items()),
            *("--entrypoint=python", self.image, "-s", "-B", "-m", "inside.server", told),
        ]

    def environment(self) -> dict[str, str]:
        """What docker itself needs to find its daemon; the container gets nothing of it."""
        return {name: value for name, value in os.environ.items() if name in ("PATH", "HOME") or "DOCKER" in name}

    def stop(self, token: int) -> None:
        """Kill the container, which goes on where only its command was ended."""
        _said("docker", "kill", _container(token))


@dataclass(frozen=True)
class Subprocess:
    """No sandbox: a process of this machine, that can read and write whatever its user can.

    Some limits hold all the same. Only for programs that you would run yourself.

    Args:
        modules: what is imported beforehand.
    """

    modules: tuple[str, ...] = MODULES
    name = "subprocess"
    uses = 0
    isolated = False

    def problem(self) -> str:
        """Why it cannot be used here."""
        return "" if os.name == "posix" else f"programs are run by forking, which {platform.system()} cannot"

    def command(self, limits: Limits, token: int) -> list[str]:
        """What starts a server."""
        return [sys.executable, "-s", "-B", "-m", "inside.server", configuration(limits, self.modules)]

    def environment(self) -> dict[str, str]:
        """The environment of the server: none of this process's."""
        return {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join((str(INSIDE.parent), *sys.path[1:]))}

    def stop(self, token: int) -> None:
        """Nothing: what a server has started ends with its command, if it has not run away."""


DOCKERFILE = f"""FROM python:{sys.version_info.major}.{sys.version_info.minor}-slim
RUN pip install --no-cache-dir numpy=={importlib.metadata.version("numpy")} \\
    opencv-python-headless pillow=={importlib.metadata.version("pillow")}
"""
"""Builds the image for ``Docker``, with the releases that are installed here."""


def _interpreter() -> tuple[str, list[tuple[str, str]]]:
    """The interpreter's path in a sandbox, and what is to be bound for it.

    It appears under a neutral name, unless it is the system's, whose place is the same everywhere.
    """
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    prefix = os.path.realpath(sys.base_prefix)
    program = os.path.realpath(sys.executable)
    standard = os.path.realpath(os.path.dirname(os.__file__))
    place = "/usr" if prefix == "/usr" else _PYTHON
    python = f"{place}/bin/{version}"
    if prefix == "/usr":
        return python, [(program, python), (standard, standard)]
    binds = [(program, python), (standard, f"{place}/lib/{version}")]
    libraries = sorted(Path(prefix, "lib").glob("lib*.so*"))
    return python, binds + [(str(file.resolve()), f"{place}/lib/{file.name}") for file in libraries]


def _packages(modules: Sequence[str]) -> list[tuple[str, str]]:
    """Folders of packages, each with the shared libraries that its wheel brings beside it.

    Raises:
        InvalidData: if one is no package that is installed.
    """
    binds = []
    for name in modules:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise InvalidData(f"Expected modules that are installed here, but got {name!r}.")
        file = Path(spec.origin).resolve()
        source = file.parent if spec.submodule_search_locations else file
        binds.append((str(source), f"{_LIBRARIES}/{source.name}"))
        for libraries in sorted(source.parent.glob(f"{_LIBRARIES_OF.get(name, name)}*.libs")):
            binds.append((str(libraries), f"{_LIBRARIES}/{libraries.name}"))
    return binds


def _system_folder(folder: str) -> list[str]:
    """A folder of shared libraries, as a link where it is one (``/lib`` to ``usr/lib``).

    Debian and its like keep those of a machine's kind in a folder of their own, and all sorts of things beside it.
    """
    if os.path.islink(folder):
        return ["--symlink", os.readlink(folder), folder]
    libraries = f"{folder}/{platform.machine()}-linux-gnu"
    if os.path.isdir(libraries):
        return ["--perms", "0755", "--dir", folder, "--ro-bind", libraries, libraries]
    return ["--ro-bind", folder, folder] if os.path.isdir(folder) else []


def _container(token: int) -> str:
    return f"visenv-sandbox-{token}"


def _said(*command: str) -> str | None:
    """What a command that fails says; None if it does not fail."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    return (done.stderr.strip() or f"status {done.returncode}").splitlines()[-1][:300]
