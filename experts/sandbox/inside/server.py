"""Serves programs from inside a sandbox: ``python -m inside.server CONFIGURATION``.

The server imports what programs use, once, and never sees one. For each it forks a *keeper*, which reads the request,
makes a folder, forks the *program*, watches it, ends it and all that it has started, reads its image and answers. So
the next program's processes are copies of a server that has met none before.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import platform
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import confine, frames, program

CODE_BYTES = 1 << 20
"""The longest program."""
IMAGE_BYTES = 1 << 28
"""The longest image file that a program can be given."""
_BEFOREHAND = (
    *("numpy.random", "numpy.linalg", "numpy.fft", "PIL.Image", "PIL.ImageOps", "PIL.ImageFilter"),
    *("PIL.ImageEnhance", "PIL.ImageDraw", "PIL.ImageChops", "math", "random", "collections", "itertools"),
    *("statistics", "threading", "traceback", "linecache", "pathlib", "io", "re"),
)
"""What programs often import, imported once; what is missing is left out."""
_LOOK_SECONDS = 0.02
"""How often a program is looked at."""
_DRAIN_BYTES = 1 << 24
"""What a program may print, most of it thrown away, before it is ended."""
_ERROR_BYTES = 16_000
_FOLDER = "/folder"


def main() -> None:
    """Serve until the input ends."""
    limits: dict[str, Any] = json.loads(sys.argv[1])
    if limits["namespaces"] and confine.fix_addresses():
        os.execv(sys.executable, sys.orig_argv)
    if limits["user"]:
        confine.become(limits.pop("user"))
    # What a program finds of its server is the same everywhere.
    for words in (sys.argv, getattr(sys, "orig_argv", [])):
        del words[1:]
    versions = {"python": platform.python_version()}
    for name in limits["modules"]:
        versions[name] = str(getattr(importlib.import_module(name), "__version__", ""))
    for name in _BEFOREHAND:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if "PIL.Image" in sys.modules:
        sys.modules["PIL.Image"].init()
    if "cv2" in sys.modules:
        # Threads do not survive a fork.
        sys.modules["cv2"].setNumThreads(1)
    gc.collect()
    gc.disable()
    gc.freeze()
    _send(frames.pack({"ready": versions}))
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    while os.read(0, 1):
        keeper = os.fork()
        if not keeper:
            try:
                _keep(limits)
            except BaseException as error:
                with contextlib.suppress(BaseException):
                    _send(frames.pack({"failed": f"{type(error).__name__}: {error}"[:1000]}, (b"", b"", b"")))
                os._exit(1)
            os._exit(0)
        if os.waitpid(keeper, 0)[1] or limits["once"]:
            break


@dataclass
class _Watched:
    """A program that is running."""

    process: int
    output: bytearray = field(default_factory=bytearray)
    error: bytearray = field(default_factory=bytearray)
    printed: int = 0
    broken: str = ""
    """The limit that it broke."""
    status: int = 0
    cpu_seconds: float = 0.0


def _keep(limits: dict[str, Any]) -> None:
    """Answer one request."""
    head, (code, image) = frames.unpack(_receive, (CODE_BYTES, IMAGE_BYTES))
    request = {"source": head["source"], "target": head["target"], "code": code.decode("utf-8", "replace")}
    if limits["namespaces"]:
        confine.enter_namespaces()
        folder = _FOLDER
        confine.mount_folder(folder, limits["folder_bytes"], limits["files"])
    elif limits["once"]:
        folder = _FOLDER
    else:
        folder = tempfile.mkdtemp(prefix="visenv-")
    try:
        os.chdir(folder)
        confine.adopt_orphans()
        watched = _watch(request, image, limits)
        found, problem = _read_image(request["target"], limits["image_bytes"])
    finally:
        if not limits["namespaces"]:
            os.chdir("/")
            shutil.rmtree(folder, ignore_errors=True)
    answer = {
        "end": watched.broken or _ending(watched, limits),
        "image": problem,
    }
    _send(frames.pack(answer, (bytes(watched.output), bytes(watched.error), found)))


def _watch(request: Mapping[str, Any], image: bytes, limits: Mapping[str, Any]) -> _Watched:
    """Run a program, and see to it that it ends, with all that it has started."""
    base = _memory(os.getpid())[0]
    pipes = {name: os.pipe() for name in ("output", "error", "ready")}
    deadline = time.monotonic() + limits["seconds"]
    process = os.fork()
    if not process:
        program.run(request, image, limits, {name: ends[1] for name, ends in pipes.items()})
    for ends in pipes.values():
        os.close(ends[1])
    watched = _Watched(process)
    try:
        _started(pipes["ready"][0])
        _look_after(watched, {name: pipes[name][0] for name in ("output", "error")}, limits, deadline, base)
    finally:
        _end(watched)
    return watched


def _started(ready: int) -> None:
    """Wait until a program begins.

    Raises:
        RuntimeError: if it cannot.
    """
    said = b""
    while more := os.read(ready, 1024):
        said += more
    os.close(ready)
    if said != b"+":
        raise RuntimeError(f"a program cannot be started: {said.decode('utf-8', 'replace') or 'it died'}")


def _look_after(
    watched: _Watched, pipes: Mapping[str, int], limits: Mapping[str, Any], deadline: float, base: int
) -> None:
    """Wait for a program to end, and read what it says; end it where it breaks a limit."""
    names = {end: name for name, end in pipes.items()}
    poll = select.poll()
    for end in names:
        os.set_blocking(end, False)
        poll.register(end, select.POLLIN)
    poll.register(0, select.POLLHUP)
    handle = _handle(watched.process)
    if handle is not None:
        poll.register(handle, select.POLLIN)
    weighed = 0.0
    while True:
        wait = min(_LOOK_SECONDS if handle is not None else 0.002, max(0.0, deadline - time.monotonic()))
        events = poll.poll(max(1, wait * 1000))
        for end, event in events:
            if end == 0 and event & (select.POLLHUP | select.POLLERR):
                raise EOFError("nobody listens any more")
            if end in names and _read_some(watched, end, names[end], limits) is False:
                poll.unregister(end)
        if _ended(watched):
            break
        now = time.monotonic()
        if now > deadline:
            watched.broken = f"it ran for more than {limits['seconds']:g} s"
        elif watched.printed > _DRAIN_BYTES:
            watched.broken = f"it printed more than {_DRAIN_BYTES >> 20} MiB"
        elif limits["namespaces"] and now >= weighed + _LOOK_SECONDS:
            weighed = now
            if _used_bytes(base, limits["memory_bytes"]) > limits["memory_bytes"]:
                watched.broken = f"it used more than {limits['memory_bytes'] >> 20} MiB of memory"
        if watched.broken:
            return
    for end, name in names.items():
        while _read_some(watched, end, name, limits) is None:
            pass


def _read_some(watched: _Watched, end: int, name: str, limits: Mapping[str, Any]) -> bool | None:
    """Read what is there: None if there may be more, True if there is nothing now, False if there will be nothing."""
    try:
        data = os.read(end, 1 << 16)
    except BlockingIOError:
        return True
    if not data:
        return False
    kept, most = (watched.output, limits["text_bytes"]) if name == "output" else (watched.error, _ERROR_BYTES)
    kept += data[: max(0, most - len(kept))]
    watched.printed += len(data)
    return None if watched.printed <= _DRAIN_BYTES else False


def _ended(watched: _Watched) -> bool:
    process, status, usage = os.wait4(watched.process, os.WNOHANG)
    if not process:
        return False
    watched.process = 0
    watched.status, watched.cpu_seconds = status, usage.ru_utime + usage.ru_stime
    return True


def _end(watched: _Watched) -> None:
    """End a program and whatever it has left behind."""
    if watched.process:
        with contextlib.suppress(ProcessLookupError):
            os.kill(watched.process, signal.SIGKILL)
        _, watched.status, usage = os.wait4(watched.process, 0)
        watched.cpu_seconds = usage.ru_utime + usage.ru_stime
        watched.process = 0
    # In a namespace the kernel has ended them with the first. Elsewhere they are this process's children by now.
    for _ in range(1000):
        orphans = _children()
        if not orphans:
            break
        for orphan in orphans:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(orphan, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.001)


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(number) for number in file.read().split()]
    except OSError:
        return []


def _ending(watched: _Watched, limits: Mapping[str, Any]) -> str:
    """How a program ended, if not well; its exception, if it had one, says more."""
    if os.WIFSIGNALED(watched.status):
        number = os.WTERMSIG(watched.status)
        # The kernel counts for the limit in ticks, and for us more finely.
        if number in (signal.SIGKILL, signal.SIGXCPU) and watched.cpu_seconds >= limits["cpu_seconds"] * 0.7:
            return f"it used more than {limits['cpu_seconds']} s of processor time"
        with contextlib.suppress(ValueError):
            return f"it was ended by the signal {signal.Signals(number).name}"
        return f"it was ended by the signal {number}"
    code = os.WEXITSTATUS(watched.status)
    return f"it ended with the status {code}" if code else ""


def _read_image(name: str, limit: int) -> tuple[bytes, str]:
    """A file that nobody can change any more, and else why it cannot be read."""
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return b"", "missing"
    except OSError:
        return b"", f"{name} is no plain file"
    try:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            return b"", f"{name} is no plain file"
        if about.st_size > limit:
            return b"", f"{name} has more than {limit >> 20} MiB"
        data = bytearray()
        while len(data) <= limit and (more := os.read(file, 1 << 20)):
            data += more
        return (bytes(data), "") if len(data) <= limit else (b"", f"{name} has more than {limit >> 20} MiB")
    finally:
        os.close(file)


def _memory(process: int, exact: bool = False) -> tuple[int, int]:
    """What a process has in memory and in swap: of its own, and shared memory (files of its folder that it maps).

    Args:
        process: its number.
        exact: to count of what several have only this one's part, which is slow.
    """
    names = (b"Pss_Anon:", b"SwapPss:", b"Pss_Shmem:") if exact else (b"RssAnon:", b"VmSwap:", b"RssShmem:")
    found = dict.fromkeys(names, 0)
    with contextlib.suppress(OSError), open(f"/proc/{process}/{'smaps_rollup' if exact else 'status'}", "rb") as lines:
        for line in lines:
            name = line.split(None, 1)[0]
            if name in found:
                found[name] = int(line.split()[1]) << 10
    own, swapped, shared = found.values()
    # A process can close its maps to others, and then has all of it.
    return (own + swapped, shared) if own or not exact else _memory(process)


def _used_bytes(base: int, most: int) -> int:
    """What all processes of a program have in memory, beyond what each got from the server.

    In a sandbox with namespaces nothing else runs but the server (1 or 2) and this keeper.

    Args:
        base: what each got.
        most: up to which a figure may be too high, as what several have is counted several times.
    """
    ours = {os.getpid(), os.getppid(), 1}
    others = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) not in ours]
    used = sum(max(0, own - base) + shared for own, shared in map(_memory, others))
    if used <= most or len(others) < 2:
        return used
    # What they got from the server they share with this keeper, which has its part of it, too.
    base = _memory(os.getpid(), True)[0]
    return sum(max(0, own - base) + shared for own, shared in (_memory(process, True) for process in others))


def _handle(process: int) -> int | None:
    try:
        return os.pidfd_open(process)
    except (AttributeError, OSError):
        return None


def _receive(size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        more = os.read(0, min(1 << 20, size - len(parts)))
        if not more:
            raise EOFError("the input ended")
        parts += more
    return bytes(parts)


def _send(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]


if __name__ == "__main__":
    main()
