"""A sandbox that is running, seen from outside: a process that is sent programs and sends back what came of them."""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

from visenv.experts.sandbox.backends import Backend
from visenv.experts.sandbox.inside import frames
from visenv.experts.sandbox.limits import Limits

START_SECONDS = 60.0
"""How long a sandbox may take until it takes programs."""
GRACE_SECONDS = 10.0
"""How much longer than its program a sandbox may take."""
_ERROR_BYTES = 16_000


class SandboxLost(Exception):
    """A sandbox ended, or said nothing for too long, or something that makes no sense."""


@dataclass(frozen=True)
class Answer:
    """What a sandbox says of a program."""

    end: str
    """How it ended, if not well."""
    image_problem: str
    """Why there is no image, if there is none."""
    text: bytes
    error: bytes
    image: bytes


class Worker:
    """One sandbox.

    Args:
        backend: starts it.
        limits: of each program.
        token: another number for each sandbox of this machine.

    Raises:
        SandboxLost: if it cannot be started.
    """

    def __init__(self, backend: Backend, limits: Limits, token: int) -> None:
        self.backend, self.limits, self.token = backend, limits, token
        self.served = 0
        self.versions: dict[str, str] = {}
        """Of Python and of the modules, once it is ready."""
        self._owner = os.getpid()
        self._asked = threading.RLock()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        try:
            self._process = subprocess.Popen(
                backend.command(limits, token),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=backend.environment(),
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            self._stderr.close()
            raise SandboxLost(str(error)) from error
        self._input, self._output = _pipe(self._process.stdin), _pipe(self._process.stdout)
        for end in (self._input, self._output):
            os.set_blocking(end, False)

    def wait(self) -> None:
        """Wait until it takes programs.

        Raises:
            SandboxLost: if it does not, with what it said.
        """
        with self._asked:
            if not self.versions:
                self._wait()

    def _wait(self) -> None:
        try:
            head, _ = frames.unpack(_Reader(self._output, time.monotonic() + START_SECONDS), ())
            ready = head.get("ready")
            if not isinstance(ready, dict):
                raise ValueError("no versions")
            self.versions = {str(name): str(value) for name, value in ready.items()}
        except (EOFError, TimeoutError, OSError, ValueError) as error:
            raise SandboxLost(self._last_words() or f"it did not start: {error}") from error

    def run(self, code: str, source: str, image: bytes, target: str) -> Answer:
        """Run one program.

        Raises:
            SandboxLost: if the sandbox is lost over it.
        """
        with self._asked:
            return self._run(code, source, image, target)

    def _run(self, code: str, source: str, image: bytes, target: str) -> Answer:
        self.wait()
        self.served += 1
        deadline = time.monotonic() + self.limits.seconds + GRACE_SECONDS
        request = frames.pack({"source": source, "target": target}, (code.encode("utf-8", "replace"), image))
        inside = self.limits.inside()
        most = (inside["text_bytes"], _ERROR_BYTES, inside["image_bytes"])
        try:
            _send(self._input, b"R" + request, deadline)
            head, (text, error, found) = frames.unpack(_Reader(self._output, deadline), most)
        except (EOFError, TimeoutError, OSError, ValueError) as lost:
            raise SandboxLost(str(lost) or type(lost).__name__) from lost
        if "failed" in head:
            raise SandboxLost(str(head["failed"])[:1000])
        return Answer(_word(head, "end"), _word(head, "image"), text, error, found)

    def close(self) -> None:
        """End it, and all that runs in it. In a copy of the process that started it, let go of it."""
        if os.getpid() != self._owner:
            self._let_go()
            return
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        # Whoever waits for an answer on another thread gets to know of the end before the pipes are closed.
        with self._asked:
            self._let_go()
        self.backend.stop(self.token)

    def _let_go(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._stderr.seek(0)
            lines = self._stderr.read(_ERROR_BYTES).decode("utf-8", "replace").strip().splitlines()
            return lines[-1][:500] if lines else ""
        return ""


class _Reader:
    """Reads exactly so many bytes from a pipe before a deadline."""

    def __init__(self, end: int, deadline: float) -> None:
        self._end, self._deadline = end, deadline

    def __call__(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            _wait(self._end, selectors.EVENT_READ, self._deadline)
            with contextlib.suppress(BlockingIOError):
                more = os.read(self._end, min(1 << 20, size - len(data)))
                if not more:
                    raise EOFError("it ended")
                data += more
        return bytes(data)


def _send(end: int, data: bytes, deadline: float) -> None:
    view = memoryview(data)
    while view:
        _wait(end, selectors.EVENT_WRITE, deadline)
        with contextlib.suppress(BlockingIOError):
            view = view[os.write(end, view[: 1 << 16]) :]


def _wait(end: int, event: int, deadline: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(end, event)
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise TimeoutError("it said nothing in time")


def _pipe(stream: IO[bytes] | None) -> int:
    assert stream is not None  # noqa: S101 - asked of Popen
    return stream.fileno()


def _word(head: Mapping[str, Any], name: str) -> str:
    return str(head.get(name, ""))[:300]
