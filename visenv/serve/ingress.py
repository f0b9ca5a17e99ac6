"""Where requests arrive: checks who asks and how much, keeps the pixels that were sent, and hands on to the experts."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import visenv
from visenv.byte_cache import ByteCache
from visenv.serve.codec import digest_of, images_named
from visenv.serve.replica import BAD_REQUEST, OK, Reply, as_bytes
from visenv.serve.wire import PROTOCOL, Limits, WireError, pack, unpack
from visenv.types import Pixels

UNAUTHORIZED, NOT_FOUND, TOO_LARGE, CRASHED, UNAVAILABLE, TIMEOUT = 401, 404, 413, 502, 503, 504
STORE_BYTES = 512 * 2**20
"""What it remembers of pixels."""
PING_SECONDS = 5.0


class Ingress:
    """The one address of all experts.

    ``GET /health`` says whether all experts answer; ``GET /describe`` what there is; ``POST /experts/KEY`` takes a
    message of requests and gives one of results, or one that says which pixels it needs (``need``).

    Args:
        experts: handles of the deployments, by key.
        token: what clients have to show; None for nothing.
        limits: of messages.
        seconds: the longest that a request may take.
        store_bytes: what it remembers of pixels.
    """

    def __init__(
        self,
        experts: Mapping[str, Any],
        token: str | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        seconds: float = 120.0,
        store_bytes: int = STORE_BYTES,
    ) -> None:
        self._experts, self._token, self._limits, self._seconds = dict(experts), token, limits, seconds
        self._store: ByteCache[Pixels] = ByteCache(store_bytes)
        self._described: dict[str, dict[str, Any]] = {}

    # --- HTTP -----------------------------------------------------------------------------------------------------

    async def __call__(self, request: Any) -> Any:
        """Answer an HTTP request.

        Args:
            request: of Starlette.
        """
        from starlette.responses import Response

        status, body = await self._route(request)
        kind = "application/octet-stream" if status == OK and request.method == "POST" else "text/plain; charset=utf-8"
        return Response(body.tobytes(), status, media_type=kind)

    async def _route(self, request: Any) -> Reply:
        route = request.scope.get("root_path", "")
        path = [part for part in request.url.path.removeprefix(route).split("/") if part]
        if path == ["health"]:
            return await self.health()
        if not self._may(request.headers.get("authorization", "")):
            return _text(UNAUTHORIZED, "Expected the token of this server: set VISENV_TOKEN, or connect(…, token=…).")
        if request.method == "GET" and path == ["describe"]:
            return await self.describe()
        if request.method == "POST" and len(path) == 2 and path[0] == "experts":
            body = bytearray()
            async for chunk in request.stream():
                if len(body) + len(chunk) > self._limits.body_bytes:
                    return _text(TOO_LARGE, f"Expected at most {self._limits.body_bytes} bytes in one request.")
                body += chunk
            seconds = request.headers.get("x-visenv-seconds", "")
            limit = float(seconds) if seconds.isdecimal() and len(seconds) < 9 else self._seconds
            return await self.answer(path[1], np.frombuffer(body, np.uint8) if body else as_bytes(b""), limit)
        return _text(NOT_FOUND, "Expected GET /health, GET /describe or POST /experts/KEY.")

    def _may(self, header: str) -> bool:
        if self._token is None:
            return True
        kind, _, shown = header.partition(" ")
        shown_bytes = shown.strip().encode("utf-8", "surrogateescape")
        return kind.lower() == "bearer" and hmac.compare_digest(shown_bytes, self._token.encode())

    # --- for handles too ------------------------------------------------------------------------------------------

    async def health(self) -> Reply:
        """Whether every expert answers."""
        try:
            await asyncio.wait_for(asyncio.gather(*(self._describe(key) for key in self._experts)), PING_SECONDS)
        except Exception:
            return _text(UNAVAILABLE, '{"status": "unavailable"}')
        return _text(OK, '{"status": "ok"}')

    async def describe(self) -> Reply:
        """What is served, by which version, within which limits: JSON."""
        missing = [key for key in self._experts if key not in self._described]
        try:
            found = await asyncio.wait_for(asyncio.gather(*map(self._describe, missing)), self._seconds)
        except Exception as error:
            return _text(*_what_went_wrong(error))
        self._described |= zip(missing, found, strict=True)
        document = {
            "protocol": PROTOCOL,
            "visenv": visenv.__version__,
            "body_bytes": self._limits.body_bytes,
            "requests": self._limits.requests,
            "experts": [self._described[key] for key in self._experts],
        }
        return _text(OK, json.dumps(document))

    async def _describe(self, key: str) -> dict[str, Any]:
        found: dict[str, Any] = await self._experts[key].describe.remote()
        return {name: value for name, value in found.items() if name not in ("host", "pid")}

    async def answer(self, key: str, message: NDArray[np.uint8], seconds: float | None = None) -> Reply:
        """Answer a message of requests.

        Args:
            key: of the expert.
            message: as ``pack_requests`` makes it.
            seconds: how long the client waits.
        """
        if key not in self._experts:
            return _text(NOT_FOUND, f"Expected one of the experts {', '.join(self._experts)}, but got {key!r:.80}.")
        try:
            named = await asyncio.to_thread(lambda: images_named(unpack(message.data, self._limits)))
        except WireError as error:
            return _text(BAD_REQUEST, str(error))
        for digest, pixels in named.items():
            if pixels is not None:
                self._keep(digest, pixels)
        kept = {digest: self._store.get(digest) for digest, sent in named.items() if sent is None}
        if needed := [digest for digest, pixels in kept.items() if pixels is None]:
            return OK, as_bytes(pack({"need": needed}))
        limit = min(self._seconds, seconds or self._seconds)
        try:
            answered: tuple[Reply, bool] = await asyncio.wait_for(
                self._experts[key].answer.remote(message, kept), limit
            )
        except Exception as error:
            return _text(*_what_went_wrong(error))
        reply, made = answered
        if made:
            for digest, pixels in await asyncio.to_thread(self._made, reply[1]):
                self._keep(digest, pixels)
        return reply

    def _keep(self, digest: str, pixels: Pixels) -> None:
        """Remember pixels; a copy, since what they lie in may be a whole message."""
        kept = pixels.copy()
        kept.flags.writeable = False
        self._store.put(digest, kept, kept.nbytes)

    def _made(self, message: NDArray[np.uint8]) -> list[tuple[str, Pixels]]:
        """The images that a reply brings into being: they are what is asked about next."""
        reader = unpack(message.data, self._limits)
        records = reader.fields.inners("results", self._limits.requests)
        made = [record.array("pixels") for record in records if record.values.get("kind") == "Upscaled"]
        return [(digest_of(pixels), pixels) for pixels in made]


def _text(status: int, text: str) -> Reply:
    return status, as_bytes(text.encode("utf-8", "replace"))


def _what_went_wrong(error: Exception) -> tuple[int, str]:
    """A status, and why: what is worth trying again is told apart from what is not."""
    from ray.exceptions import RayActorError, RayError, RayTaskError
    from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError

    if isinstance(error, (asyncio.TimeoutError, TimeoutError)):
        return TIMEOUT, "The expert took too long."
    if isinstance(error, (BackPressureError, DeploymentUnavailableError)):
        return UNAVAILABLE, f"{type(error).__name__}: the expert takes no requests now."
    if isinstance(error, RayActorError):
        return CRASHED, "The process of the expert died."
    if isinstance(error, RayError) and not isinstance(error, RayTaskError):
        return UNAVAILABLE, f"{type(error).__name__}: {str(error).splitlines()[-1]:.300}"
    return 500, f"{type(error).__name__}: {error!s:.300}"
