"""What runs on Ray Serve for one expert: requests of many clients in one batch, and a look at its own health."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visenv.capabilities import ExpertFailure, Request, Result, Upscaled
from visenv.experts_pool import CACHE_BYTES, ExpertPool
from visenv.serve.codec import pack_results, unpack_requests
from visenv.serve.planning import PlannedExpert, refuse_truth
from visenv.serve.wire import Limits, WireError, unpack
from visenv.types import Pixels

Reply = tuple[int, "NDArray[np.uint8]"]
"""As HTTP has it: a status, and a body."""
OK, BAD_REQUEST, CONFLICT = 200, 400, 409


class ExpertReplica:
    """Holds one expert, and answers its batches in a pool of its own, so that a bad request harms no other.

    Args:
        planned: which expert, and how it is served.
        limits: of messages.
        hang_seconds: after which a batch that has not been answered makes the replica unhealthy: Ray replaces it.
        cache_bytes: what it remembers of results, for all clients.
    """

    def __init__(
        self, planned: PlannedExpert, limits: Limits, hang_seconds: float, cache_bytes: int = CACHE_BYTES
    ) -> None:
        from ray import serve

        one_thread_each()
        self._expert = planned.make()
        refuse_truth(self._expert)
        warm_up = getattr(self._expert, "warm_up", None)
        if callable(warm_up):
            warm_up()
        self.key, self._options, self._limits, self._hang_seconds = planned.key, planned.options, limits, hang_seconds
        self.max_batch = max(1, self._options.max_batch or self._expert.max_batch)
        self._pool = ExpertPool(dict.fromkeys(self._expert.capabilities, self._expert), cache_bytes)
        self._began: float | None = None

        async def together(parts: list[list[Request]]) -> list[list[Result | ExpertFailure]]:
            return await self._together(parts)

        self._batch: Any = serve.batch(
            max_batch_size=self.max_batch,
            batch_wait_timeout_s=self._options.batch_wait_s,
            batch_size_fn=lambda parts: sum(len(part) for part in parts),
        )(together)

    async def describe(self) -> dict[str, Any]:
        """What it is, as JSON values; with where it runs."""
        return {
            "key": self.key,
            "name": self._expert.name,
            "fingerprint": self._expert.fingerprint,
            "capabilities": list(self._expert.capabilities),
            "max_batch": self.max_batch,
            "replicas": self._options.most_replicas,
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }

    async def answer(self, message: NDArray[np.uint8], images: Mapping[str, Pixels]) -> tuple[Reply, bool]:
        """Answer a message of requests.

        Args:
            message: as it came from the client.
            images: the pixels of those images that it names and does not hold, by digest. Those that it holds were
                compared with their digests before.

        Returns:
            The reply, and whether images were made that may be asked about next.
        """
        try:
            reader = unpack(message.data, self._limits)
            if (expected := reader.fields.text("fingerprint")) != self._expert.fingerprint:
                text = (
                    f"Expected the expert {expected!r}, but {self._expert.fingerprint!r} is served now: connect anew."
                )
                return (CONFLICT, as_bytes(text.encode())), False
            sent = reader.fields.inner("images")
            held = {digest: sent.array(digest) for digest in sent.values}
            requests = unpack_requests(reader, {**held, **images}, seal=True)
        except WireError as error:
            return (BAD_REQUEST, as_bytes(str(error).encode("utf-8", "replace"))), False
        parts = [requests[start : start + self.max_batch] for start in range(0, len(requests), self.max_batch)]
        answered = await asyncio.gather(*(self._batch(part) for part in parts))
        results = [result for part in answered for result in part]
        made = any(isinstance(result, Upscaled) for result in results)
        return (OK, as_bytes(await asyncio.to_thread(pack_results, results))), made

    async def _together(self, parts: Sequence[list[Request]]) -> list[list[Result | ExpertFailure]]:
        """Answer the parts of several clients as one batch, on a thread: health is looked at meanwhile."""
        requests = [request for part in parts for request in part]
        self._began = time.monotonic()
        try:
            answers = iter(await asyncio.to_thread(self._pool.answer, requests))
        finally:
            self._began = None
        return [[next(answers) for _ in part] for part in parts]

    async def check_health(self) -> None:
        """Ray asks now and then; one that raises is replaced.

        Raises:
            RuntimeError: if a batch has been going on for too long.
        """
        if self._began is not None and (seconds := time.monotonic() - self._began) > self._hang_seconds:
            raise RuntimeError(f"The expert {self.key!r} has not answered for {seconds:.0f} s.")


def as_bytes(data: bytes) -> NDArray[np.uint8]:
    """Bytes as an array, which Ray passes on without copies."""
    return np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)


def one_thread_each() -> None:
    """OpenCV's threads wait spinning for each other, which costs other processes their time."""
    import cv2

    cv2.setNumThreads(1)
