"""The expert that runs programs, each in a sandbox."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from visenv.capabilities import Ran, Request, RunCode, not_answered
from visenv.errors import ExpertError, InvalidData, InvalidImage, MissingDependency
from visenv.experts.sandbox.backends import MODULES, Backend, Bubblewrap, Docker, Subprocess
from visenv.experts.sandbox.inside.server import CODE_BYTES
from visenv.experts.sandbox.limits import Limits
from visenv.experts.sandbox.pictures import read_picture
from visenv.experts.sandbox.pool import SandboxPool
from visenv.experts.sandbox.worker import Answer, SandboxLost

BACKENDS = ("auto", "bubblewrap", "docker", "subprocess")
_ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]+")
_SINCE_START = re.compile(r"(?<=\[ WARN:|\[ERROR:|\[ INFO:)(\d+)@\d+\.\d+(?=\])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x80-\x9f\u2028\u2029\ud800-\udfff]")


class Sandbox:
    """Runs programs that read an image file and may write one: Python with numpy, OpenCV and Pillow.

    A program has no network, no files but those of its own empty folder and the read-only interpreter, no environment,
    and sees no other process. What it leaves running ends with it. The image that it writes is read as any file from
    outside: never through a link, bounded in bytes and pixels, and never unpickled.

    Args:
        backend: ``bubblewrap``, ``docker``, or ``auto`` for the first of them that works here; ``subprocess`` is no
            sandbox at all and needs ``unsafe=True``.
        limits: what one program may use: ``Limits``, or a mapping of its fields.
        workers: how many programs run at the same time; None for as many as there are processors.
        image: of Docker.
        modules: packages that programs can import, besides the standard library.
        unsafe: run programs without a sandbox where there is none: they can then read, write and send what you can.

    Raises:
        MissingDependency: if there is no sandbox here; the message says what to install.
        InvalidData: if a value is out of range.

    Example:
        >>> import numpy as np
        >>> from visenv.capabilities import View
        >>> from visenv.images import Provenance, RootPixels
        >>> pixels = np.zeros((2, 3, 3), np.uint8)
        >>> code = "import cv2; cv2.imwrite('output.png', 255 - cv2.imread('input.png')); print('inverted')"
        >>> sandbox = Sandbox()
        >>> (ran,) = sandbox.run([RunCode(View(pixels, Provenance(RootPixels(pixels))), code)])
        >>> ran.text, ran.pixels.shape, int(ran.pixels.min())
        ('inverted', (2, 3, 3), 255)
        >>> sandbox.close()
    """

    name = "sandbox"
    capabilities: tuple[str, ...] = ("RunCode",)
    max_batch = 256
    per_sample = False
    divisible = True

    def __init__(
        self,
        backend: str | Backend = "auto",
        limits: Limits | Mapping[str, Any] | None = None,
        *,
        workers: int | None = None,
        image: str = "visenv-sandbox",
        modules: Sequence[str] = MODULES,
        unsafe: bool = False,
    ) -> None:
        self.limits = _limits(limits)
        self.workers = _cores() if workers is None else workers
        if isinstance(self.workers, bool) or not isinstance(self.workers, int) or self.workers < 1:
            raise InvalidData(f"Expected workers to be a whole number of at least 1, but got {workers!r}.")
        self._lock = threading.Lock()
        self._pool: SandboxPool | None = None
        self._end = weakref.finalize(self, _nothing)
        self.concurrent_calls = self.workers
        self.backend, versions = self._first_that_works(_candidates(backend, image, tuple(modules), unsafe), unsafe)
        known = [self.backend.name, self.limits.key, *(f"{name}={value}" for name, value in sorted(versions.items()))]
        self.versions = versions
        """Of Python and of the packages, in the sandbox."""
        self.fingerprint = f"sandbox-2-{hashlib.blake2b(repr(known).encode(), digest_size=8).hexdigest()}"

    def run(self, requests: Sequence[Request]) -> list[Ran | ExpertError]:
        """Answer a batch, several programs side by side; result ``i`` belongs to request ``i``.

        A program that fails is a result. A sandbox that is lost is an ``ExpertError`` in its own place.
        """
        for request in requests:
            if not isinstance(request, RunCode):
                raise not_answered(self.name, request)
        asked = [request for request in requests if isinstance(request, RunCode)]
        if len(asked) == 1:
            return [self._answer(asked[0])]
        with ThreadPoolExecutor(self.workers) as threads:
            return list(threads.map(self._answer, asked))

    def close(self) -> None:
        """End all sandboxes; a later request starts new ones."""
        self._end()
        with self._lock:
            self._pool = None

    def _answer(self, request: RunCode) -> Ran | ExpertError:
        if len(request.code.encode("utf-8", "replace")) > CODE_BYTES:
            return Ran(None, error=f"The program is longer than {CODE_BYTES >> 10} KiB.")
        done, image = cv2.imencode(os.path.splitext(request.source)[1], np.asarray(request.view.pixels)[..., ::-1])
        if not done:
            return Ran(None, error=f"The image cannot be written as {request.source}.")
        try:
            answer = self._sandboxes().run(request.code, request.source, image.tobytes(), request.target)
        except SandboxLost as error:
            if self.backend.isolated:
                return ExpertError(self.name, f"{self.backend.name}: {error}")
            # Where a program can reach the server of its sandbox, losing that is its own doing.
            return Ran(None, error="The program ended the sandbox in which it ran.")
        return self._ran(answer, request.target)

    def _ran(self, answer: Answer, target: str) -> Ran:
        text = _clean(answer.text, self.limits.text_chars)
        problems = [_clean(answer.error, 4000)]
        if answer.end and (not problems[0] or not answer.end.startswith("it ended with the status")):
            problems.append(f"The program was stopped: {answer.end}.")
        pixels = None
        if answer.image:
            try:
                pixels = read_picture(answer.image, self.limits.image_pixels)
            except InvalidImage as error:
                problems.append(f"{target} cannot be read: {error}")
        elif answer.image_problem != "missing":
            problems.append(f"{answer.image_problem or f'{target} is empty'}.")
        return Ran(pixels, text, "\n".join(problem for problem in problems if problem))

    def _sandboxes(self) -> SandboxPool:
        with self._lock:
            # Sandboxes are not shared with a process that was forked: two would talk at once.
            if self._pool is None or self._pool.owner != os.getpid():
                self._pool = self._open(self.backend)
            return self._pool

    def _open(self, backend: Backend) -> SandboxPool:
        pool = SandboxPool(backend, self.limits, self.workers)
        self._end.detach()
        self._end = weakref.finalize(self, pool.close)
        return pool

    def _first_that_works(self, candidates: Sequence[Backend], unsafe: bool) -> tuple[Backend, dict[str, str]]:
        problems = []
        for backend in candidates:
            if problem := backend.problem():
                problems.append(problem)
                continue
            pool = self._open(backend)
            try:
                versions = pool.versions()
                answer = pool.run("print(6 * 7)", "input.png", b"", "output.png")
                if answer.text.strip() != b"42":
                    raise SandboxLost(answer.end or answer.error.decode("utf-8", "replace"))
            except SandboxLost as error:
                pool.close()
                problems.append(f"{backend.name} does not work here: {error}")
                continue
            self._pool = pool
            return backend, versions
        raise MissingDependency(
            f"Running code needs a sandbox, and there is none here: {'; '.join(problems)}. Install bubblewrap or Docker"
            + ("." if unsafe else ", or pass unsafe=True to run programs as they are, with all that you may do.")
        )

    def __getstate__(self) -> dict[str, Any]:
        """All but what runs: a copy starts sandboxes of its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_pool", "_end")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock(), _pool=None)
        self._end = weakref.finalize(self, _nothing)


_shared: weakref.WeakValueDictionary[int, Sandbox] = weakref.WeakValueDictionary()
"""The one behind the name, by process, as long as somebody holds it."""


def make() -> list[Sandbox]:
    """The expert set ``sandbox``: the same one for all in this process that ask by name."""
    found = _shared.get(os.getpid())
    if found is None:
        found = _shared[os.getpid()] = Sandbox()
    return [found]


def _candidates(backend: str | Backend, image: str, modules: tuple[str, ...], unsafe: bool) -> list[Backend]:
    if not isinstance(backend, str):
        return [backend]
    made: dict[str, Backend] = {
        "bubblewrap": Bubblewrap(modules),
        "docker": Docker(image, modules),
        "subprocess": Subprocess(modules),
    }
    if backend == "subprocess" and not unsafe:
        raise InvalidData(
            "Expected unsafe=True with backend='subprocess', which is no sandbox: programs can do all that you can."
        )
    if backend in made:
        return [made[backend]]
    if backend != "auto":
        raise InvalidData(f"Expected backend to be one of {', '.join(BACKENDS)}, but got {backend!r}.")
    return [made["bubblewrap"], made["docker"], *([made["subprocess"]] if unsafe else [])]


def _limits(value: Limits | Mapping[str, Any] | None) -> Limits:
    if value is None or isinstance(value, Limits):
        return value or Limits()
    known = Limits.__dataclass_fields__
    if not isinstance(value, Mapping) or (unknown := [name for name in value if name not in known]):
        got = repr(value) if not isinstance(value, Mapping) else ", ".join(map(str, unknown))
        raise InvalidData(f"Expected limits by name ({', '.join(known)}), but got {got:.80}.")
    return Limits(**value)


def _clean(data: bytes, chars: int) -> str:
    """What a program says, as text that can stand anywhere, the same each time where the program is."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    text = _SINCE_START.sub(r"\1", text)
    text = _ADDRESS.sub("at 0x...", _CONTROL.sub("\ufffd", text)).strip()
    return text if len(text) <= chars else f"{text[:chars]}\n[...]"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _nothing() -> None:
    """In the place of what ends sandboxes while there are none."""
