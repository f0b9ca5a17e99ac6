"""How messages reach the server: over HTTP, or as calls inside a Ray; nothing here knows what is in them."""

from __future__ import annotations

import contextlib
import http.client
import os
import queue
import socket
import threading
import time
from typing import Any, Protocol
from urllib.parse import SplitResult, urlsplit

import numpy as np

from visenv.errors import InvalidData
from visenv.serve.wire import Limits

IDLE = 8
"""Connections that are kept for the next request."""
_CHUNK = 2**20
_MOST_TEXT = 2**20
"""Of what a server says that is no answer."""


class NotServed(Exception):
    """No answer came, but one may come later: the server is away, busy, or took too long."""


class Faulty(Exception):
    """What came is no answer: the server broke down over the request, or sent garbage."""


class Refused(Exception):
    """The server does not take this request, now or later."""


class Transport(Protocol):
    """A way to a server."""

    most: int
    """The most bytes that a reply may have."""

    def describe(self, seconds: float) -> bytes:
        """What is served: JSON.

        Raises:
            NotServed: if nobody answers in time.
            Faulty: if what answers breaks down.
            Refused: if the server refuses to say.
        """
        ...

    def answer(self, key: str, message: bytes, seconds: float) -> bytes | memoryview:
        """The reply to a message.

        Args:
            key: of the expert.
            message: of requests.
            seconds: how long to wait, for all of it.

        Raises:
            NotServed, Faulty, Refused: as ``describe``.
        """
        ...


def judged(status: int, body: bytes | memoryview) -> bytes | memoryview:
    """The body of a reply.

    Args:
        status: as HTTP has it.
        body: what came with it.

    Raises:
        NotServed, Faulty, Refused: by the status, with what the server said.
    """
    if status == 200:
        return body
    said = bytes(body[:500]).decode("utf-8", "replace").strip()
    text = f"the server answered {status}" + (f": {said}" if said else "")
    # Ray Serve answers 404 while an application is away; 408, 425 and 429 are said by what stands before a server.
    if status in (404, 408, 425, 429, 503, 504):
        raise NotServed(text)
    if status >= 500:
        raise Faulty(text)
    raise Refused(text)


class HttpTransport:
    """HTTP/1.1 over connections that are kept; every request has an end, whatever the other side does.

    Args:
        address: ``http://host:port`` or ``https://host:port``, also with a path that goes before all others.
        token: shown to the server, if it is not None.

    Attributes:
        most: the most bytes that a reply may have.

    Raises:
        InvalidData: if it is no such address.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        self.address, self.most = address, Limits().body_bytes
        self._parts = _split(address)
        self._headers = {"Content-Type": "application/octet-stream", "Accept": "*/*"}
        if token is not None:
            if not token.isascii() or not token.isprintable():
                raise InvalidData("Expected a token of printable ASCII characters.")
            self._headers["Authorization"] = f"Bearer {token}"
        self._reset()

    def _reset(self) -> None:
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """All but the connections, which belong to this process."""
        return {name: value for name, value in vars(self).items() if name not in ("_idle", "_lock", "_owner")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()

    def describe(self, seconds: float) -> bytes:
        """See ``Transport.describe``."""
        return bytes(judged(*self._ask("GET", "/describe", b"", seconds)))

    def answer(self, key: str, message: bytes, seconds: float) -> bytes | memoryview:
        """See ``Transport.answer``."""
        return judged(*self._ask("POST", f"/experts/{key}", message, seconds))

    def close(self) -> None:
        """Close the connections; they are opened again when something is asked."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self) -> None:
        if getattr(self, "_owner", None) == os.getpid():
            self.close()

    def _ask(self, method: str, path: str, body: bytes, seconds: float) -> tuple[int, bytes]:
        end = time.monotonic() + seconds
        while True:
            connection, used = self._take(seconds)
            try:
                with _EndsAt(end) as watch:
                    self._open(connection, end, watch)
                    status, reply, again = self._exchange(connection, method, path, body, end)
            except Exception as error:
                connection.close()
                if watch.over or time.monotonic() >= end:
                    raise NotServed(f"no answer within {seconds:.3g} s") from error
                if isinstance(error, Faulty):
                    raise
                gone = isinstance(error, (OSError, http.client.RemoteDisconnected, http.client.CannotSendRequest))
                if used and gone:
                    continue  # The server closed it while nobody was looking.
                if isinstance(error, (OSError, http.client.IncompleteRead)):
                    raise NotServed(f"{type(error).__name__}: {error}") from error
                if isinstance(error, (http.client.HTTPException, ValueError)):
                    raise Faulty(f"what came is no HTTP: {type(error).__name__}: {error!s:.200}") from error
                raise
            except BaseException:
                connection.close()
                raise
            if again:
                self._keep(connection)
            else:
                connection.close()
            return status, reply

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes, end: float
    ) -> tuple[int, bytes, bool]:
        """Status and body of the reply, and whether the connection can be used again."""
        headers = {**self._headers, "X-Visenv-Seconds": f"{max(1, round(end - time.monotonic()))}"}
        connection.request(method, self._parts.path.rstrip("/") + path, body or None, headers)
        response = connection.getresponse()
        most = self.most if response.status == 200 else _MOST_TEXT
        if response.length is not None and response.length > most:
            raise Faulty(f"the server answers with {response.length} bytes, more than {most}")
        chunks, size = [], 0
        while chunk := response.read(_CHUNK):
            size += len(chunk)
            if size > most:
                raise Faulty(f"the server answers with more than {most} bytes")
            chunks.append(chunk)
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return response.status, b"".join(chunks), not response.will_close

    def _open(self, connection: http.client.HTTPConnection, end: float, watch: _EndsAt) -> None:
        if connection.sock is None:
            connection.connect()
        sock: socket.socket = connection.sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(max(0.001, end - time.monotonic()))
        watch.sock = sock

    def _take(self, seconds: float) -> tuple[http.client.HTTPConnection, bool]:
        """A connection, and whether it was used before."""
        if self._owner != os.getpid():
            self._reset()  # Those of the process that this one was forked from are not ours.
        with self._lock:
            if self._idle:
                return self._idle.pop(), True
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        return kind(self._parts.hostname or "", self._parts.port, timeout=seconds), False

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < IDLE:
                self._idle.append(connection)
                return
        connection.close()


class _EndsAt:
    """Cuts a connection off at a time: a timeout of the socket begins anew with every byte."""

    def __init__(self, end: float) -> None:
        self.over = False
        self.sock: socket.socket | None = None
        self._timer = threading.Timer(max(0.0, end - time.monotonic()), self._cut)
        self._timer.daemon = True

    def __enter__(self) -> _EndsAt:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        self.over = True
        if self.sock is not None:
            # Not the method of a TLS socket, which would wait for the other side.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


def _split(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError as error:
        raise InvalidData(f"Expected an address like http://127.0.0.1:8000, but got {address!r}: {error}.") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidData(f"Expected an address like http://127.0.0.1:8000, but got {address!r}.")
    if parts.username is not None or parts.password is not None:
        raise InvalidData("Expected an address without a password: a token goes into VISENV_TOKEN.")
    return parts


class RayTransport:
    """Calls inside a Ray that this process is connected to.

    Args:
        app: the name of the application on Ray Serve.

    Attributes:
        most: the most bytes that a reply may have.
    """

    def __init__(self, app: str) -> None:
        self.app, self.most = app, Limits().body_bytes
        self._handle: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_handle": None}

    def describe(self, seconds: float) -> bytes:
        """See ``Transport.describe``."""
        return bytes(self._call("describe", (), seconds))

    def answer(self, key: str, message: bytes, seconds: float) -> bytes | memoryview:
        """See ``Transport.answer``."""
        return self._call("answer", (key, np.frombuffer(message, np.uint8), seconds), seconds)

    def close(self) -> None:
        """Let go of the application; it is looked up again when something is asked."""
        self._handle = None

    def _call(self, method: str, arguments: tuple[Any, ...], seconds: float) -> bytes | memoryview:
        """Call from a thread of its own: looking for an application may wait for ever in a Ray that is going down."""
        outcome: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def ask() -> None:
            try:
                outcome.put(self._reply(method, arguments, seconds))
            except BaseException as error:
                outcome.put(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            reply = outcome.get(timeout=seconds + 1.0)
        except queue.Empty:
            self._handle = None
            raise NotServed(f"no answer within {seconds:.3g} s") from None
        if isinstance(reply, BaseException):
            raise reply
        status, body = reply
        return judged(status, memoryview(body))

    def _reply(self, method: str, arguments: tuple[Any, ...], seconds: float) -> Any:
        from ray import serve
        from ray.exceptions import RayError
        from ray.serve.exceptions import RayServeException

        try:
            if self._handle is None:
                self._handle = serve.get_app_handle(self.app)
            return getattr(self._handle, method).remote(*arguments).result(timeout_s=seconds)
        except TimeoutError as error:
            raise NotServed(f"no answer within {seconds:.3g} s") from error
        except (RayError, RayServeException, RuntimeError) as error:
            self._handle = None
            raise NotServed(f"{type(error).__name__}: {error!s:.300}") from error
