"""One process that runs experts, and how one talks to it: frames over its standard input and output.

The process is a plain ``python -c``: it imports visenv and not the script that started it, so that unguarded scripts,
``python -c``, standard input and notebooks all work, and it inherits no threads or locks, as a forked one would.
Experts are sent by cloudpickle, which takes along what is defined in ``__main__``.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, TypeAlias

from visenv.capabilities import Expert, ExpertFailure, Request, Result, View, foresees
from visenv.errors import ExpertError, InvalidData, VisenvError
from visenv.types import Pixels
from visenv.worker_pixels import Parcel, hold, made, made_views, unpack

START_SECONDS = 300.0
"""How long a process may take to start and to load its experts."""
GRACE_SECONDS = 2.0
"""How long a process may take to end after it was told to."""
PIPE_BYTES = 2**20
"""What a pipe holds: the most that Linux gives to everybody."""
_COMMAND = "import sys, json; sys.path[:] = json.loads(sys.stdin.buffer.readline()); import {0} as it; it.serve()"


class ProcessLost(VisenvError):
    """A process died, or was killed because it took too long; the message says which."""


class Foreseen:
    """A process has looked at what it was to foresee."""


class RemoteError(VisenvError):
    """An expert raised in its process; the message is that of its exception.

    Args:
        message: the exception's type and text.
        memory: whether it was a ``MemoryError``.
    """

    def __init__(self, message: str, memory: bool) -> None:
        super().__init__(message)
        self.memory = memory


Reply: TypeAlias = "list[Result | ExpertFailure | ExpertError] | RemoteError | Foreseen"
"""What a process says: the answers to a batch, that the expert raised, or that it has looked ahead."""


# --- frames -------------------------------------------------------------------------------------------------------


def send(stream: io.BufferedWriter, value: object) -> None:
    """Write one value; the memory of its arrays goes as it lies, without a copy."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    stream.write(struct.pack(f"<I{len(parts)}Q", len(parts), *(part.nbytes for part in parts)))
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: io.BufferedReader) -> Any:
    """Read one value.

    Raises:
        EOFError: if the other side has gone.
    """
    count = struct.unpack("<I", _exactly(stream, 4))[0]
    sizes = struct.unpack(f"<{count}Q", _exactly(stream, 8 * count))
    head, *buffers = [_exactly(stream, size) for size in sizes]
    return pickle.loads(head, buffers=buffers)


def _exactly(stream: io.BufferedReader, size: int) -> bytearray:
    data = bytearray(size)
    view, read = memoryview(data), 0
    while read < size:
        count = stream.readinto(view[read:])
        if not count:
            raise EOFError
        read += count
    return data


def widen(pipe: int) -> None:
    """Let a pipe hold more, so that the two sides wait less for each other; where the system allows it."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def launch(module: str) -> tuple[subprocess.Popen[bytes], io.BufferedWriter, io.BufferedReader]:
    """Start a process that runs the function ``serve`` of a module.

    It must not be sent anything before it has said something: until then it reads too far.

    Returns:
        The process, where to write what it reads, and where to read what it writes.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND.format(module)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert isinstance(process.stdin, io.BufferedWriter)
    assert isinstance(process.stdout, io.BufferedReader)
    for pipe in (process.stdin, process.stdout):
        widen(pipe.fileno())
    with contextlib.suppress(OSError):  # who does not listen is found lost when it is asked
        process.stdin.write(json.dumps(sys.path).encode() + b"\n")
        process.stdin.flush()
    return process, process.stdin, process.stdout


# --- the side that asks -------------------------------------------------------------------------------------------


class WorkerProcess:
    """A process that holds experts and answers batches, one after the other.

    Args:
        experts: a list of experts, pickled by cloudpickle.
        bell: rung whenever the process has said something.
    """

    def __init__(self, experts: bytes, bell: queue.SimpleQueue[None]) -> None:
        self._experts = experts
        self._process, self._input, output = launch(__name__)
        self._replies: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        # Replies are read as they come: a process that waits to be read would look like one that is slow.
        threading.Thread(target=_read_into, args=(output, self._replies, bell), daemon=True).start()
        self.ready = False
        """Whether its experts are loaded."""
        self._greeted = False

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process.poll() is None

    def greet(self) -> None:
        """The first half of becoming ready: hand over the experts, once the process listens.

        Raises:
            ProcessLost: if it did not start.
        """
        if not self._greeted:
            self._await("start")
            self._write(self._experts)
            self._greeted = True

    def await_ready(self) -> None:
        """The second half: wait until the experts are loaded.

        Raises:
            ProcessLost: if the process died, or did not become ready in time.
            RemoteError: if the experts could not be loaded there.
        """
        if not self.ready:
            self._await("load its experts")
            self.ready = True

    def ask(self, expert: int, parcel: Parcel) -> None:
        """Ask; ``reply`` gives the answer, after those to what was asked before.

        Raises:
            ProcessLost: if the process has died.
        """
        self._write(("ask", expert, parcel))

    def foresee(self, parcel: Parcel) -> None:
        """Have the experts look at images once nobody asks them anything; ``reply`` says when they have.

        Raises:
            ProcessLost: if the process has died.
        """
        self._write(("foresee", -1, parcel))

    def reply(self) -> Reply | None:
        """What the process has said next; None if it has said nothing since.

        Raises:
            ProcessLost: if the process has died.
        """
        try:
            kind, value = self._replies.get_nowait()
        except queue.Empty:
            return None
        if kind == "end":
            raise self._lost()
        if kind == "error":
            return RemoteError(*value)
        return Foreseen() if kind == "foreseen" else value

    def late(self, timeout: float) -> ProcessLost:
        """Kill a process that takes too long; what there is to say about it."""
        self.kill()
        return ProcessLost(f"its process took more than {timeout:g} s to answer, and was killed")

    def kill(self) -> None:
        """End the process at once; nothing is left of it."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):  # the output is closed by the thread that reads it
            self._input.close()

    def stop(self) -> None:
        """Tell the process to end; ``wait`` waits for it."""
        with contextlib.suppress(OSError):
            self._input.close()

    def wait(self) -> None:
        """Wait until a process that was told to end has ended; kill it if it takes long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS)
        self.kill()

    def _write(self, value: object) -> None:
        try:
            send(self._input, value)
        except OSError:
            raise self._lost() from None

    def _await(self, what: str) -> None:
        try:
            kind, value = self._replies.get(timeout=START_SECONDS)
        except queue.Empty:
            self.kill()
            raise ProcessLost(f"its process took more than {START_SECONDS:g} s to {what}, and was killed") from None
        if kind == "end":
            raise self._lost()
        if kind == "error":
            raise RemoteError(*value)

    def _lost(self) -> ProcessLost:
        self._replies.put(("end", None))  # also for whoever asks again
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        code = self._process.poll()
        self.kill()
        return ProcessLost(f"its process died{'' if code is None else f' (exit code {code})'}")


def _read_into(
    stream: io.BufferedReader, replies: queue.SimpleQueue[tuple[str, Any]], bell: queue.SimpleQueue[None]
) -> None:
    """Read replies until there are no more."""
    with stream:
        while True:
            try:
                said = receive(stream)
            except (EOFError, OSError):
                said = ("end", None)
            except Exception as error:
                said = ("error", (f"its reply cannot be read: {type(error).__name__}: {error}", False))
            replies.put(said)
            bell.put(None)
            if said[0] == "end":
                return


# --- the side that answers ----------------------------------------------------------------------------------------


def serve() -> None:
    """Be the process: load experts, and answer until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    replies, incoming = claim_streams()
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(incoming, inbox), daemon=True).start()
    send(replies, ("up", None))
    import cv2

    cv2.setNumThreads(1)  # its threads wait spinning for each other, which costs the other processes their time
    try:
        experts: list[Expert] = pickle.loads(inbox.get())
    except Exception as error:
        send(replies, ("error", (f"cannot be loaded in another process: {type(error).__name__}: {error}", False)))
        return
    send(replies, ("ready", None))
    _serve(experts, inbox, replies)


def _serve(experts: list[Expert], inbox: queue.SimpleQueue[Any], replies: io.BufferedWriter) -> None:
    held: dict[str, Pixels] = {}
    asked: deque[tuple[int, list[Any]]] = deque()
    foreseen: deque[tuple[list[View], bool]] = deque()
    """What is to be looked at once nothing is asked, and whether somebody wants to know when it was."""
    while True:
        while not (asked or foreseen) or not inbox.empty():
            message = inbox.get()
            if message is None:
                return
            kind, expert, parcel = message
            # Parcels are unpacked as they come, whatever is done first: each says what is held after those before.
            requests: list[Any] = unpack(parcel, held)
            if kind == "ask":
                asked.append((expert, requests))
            else:
                foreseen.append(([glance.view for glance in requests], True))
        if asked:
            expert, requests = asked.popleft()
            kind, value = _answer(experts[expert], requests)
            if kind == "results":
                hold(made(requests, value), held)
                foreseen.extend(([view], False) for view in made_views(requests, value))
            send(replies, (kind, value))
        else:
            views, awaited = foreseen.popleft()
            _look_at(views, experts)
            if awaited:
                send(replies, ("foreseen", None))


def _look_at(views: list[View], experts: list[Expert]) -> None:
    """Let experts look ahead that can; one that fails will fail again when it is asked, and say so then."""
    for expert in experts:
        if foresees(expert):
            with contextlib.suppress(Exception):
                expert.foresee(views)  # type: ignore[attr-defined]


def _answer(expert: Expert, requests: Sequence[Request]) -> tuple[str, Any]:
    """What ``WorkerProcess.finish`` is told; each capability is a batch of its own."""
    results: dict[int, Result | ExpertFailure | ExpertError] = {}
    try:
        groups: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault(request.capability, []).append(place)
        for places in groups.values():
            answered = list(expert.run([requests[place] for place in places]))
            if len(answered) != len(places):
                raise InvalidData(f"expected {len(places)} results, but got {len(answered)}")
            results |= zip(places, answered, strict=True)
        return "results", [results[place] for place in range(len(requests))]
    except Exception as error:
        return "error", (f"{type(error).__name__}: {error}", isinstance(error, MemoryError))


def claim_streams() -> tuple[io.BufferedWriter, io.BufferedReader]:
    """Where replies go and requests come from; whatever experts print goes to standard error."""
    replies, requests = os.dup(1), os.dup(0)
    os.dup2(2, 1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    return open(replies, "wb"), open(requests, "rb")


def _listen(requests: io.BufferedReader, inbox: queue.SimpleQueue[Any]) -> None:
    """Read what is asked; when the asking process has gone, end soon, even in the middle of a batch."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            inbox.put(receive(requests))
    inbox.put(None)
    time.sleep(GRACE_SECONDS)
    os._exit(1)
