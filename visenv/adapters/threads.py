"""Environments that a trainer plays on threads: what they ask experts at the same time is answered together."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from visenv.adapters.making import Shared
from visenv.async_batches import AsyncPool, drive_async
from visenv.env import VisionToolEnv
from visenv.episode import StepResult


class OnThreads(Shared):
    """Environments of one kind for trainers that step many of them at once, each on a thread of its own.

    Everything here may be called on any thread. Steps run on an event loop, which gathers what they ask into batches;
    a step that has no company does not wait for any.

    Args:
        env_id: as ``gym.make`` takes it.
        keywords: of the environment.

    Raises:
        VisenvError: as ``gym.make``: data, weights and devices are checked now.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> kind = OnThreads("VisHarness/RefSeg-v0", {"split": "val", "experts": "oracle"})
        >>> call = {"name": "PhraseToPoint", "arguments": {"images": ["img_0"], "phrase": "cat"}}
        >>> def turn(index):
        ...     env = kind.make()
        ...     kind.begin(env, options={"index": index})
        ...     return kind.step(env, call).turn.error
        >>> with ThreadPoolExecutor(4) as threads:
        ...     list(threads.map(turn, range(4)))
        [None, None, None, None]
    """

    def __init__(self, env_id: str, keywords: Mapping[str, Any]) -> None:
        super().__init__(env_id, keywords)
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool = AsyncPool(self.first.pool)

    def __deepcopy__(self, memo: dict[int, Any]) -> OnThreads:
        """Itself: registries copy what they are given, and a copy would have experts of its own."""
        return self

    def make(self, **changes: Any) -> VisionToolEnv:
        """One more environment.

        Args:
            **changes: keywords that are other than the first one's; not those of data and experts.

        Raises:
            InvalidData: if data or experts would be others.
        """
        with self._lock:
            return super().make(**changes)

    def begin(self, env: VisionToolEnv, *, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode; see ``VisionToolEnv.reset``. One at a time, since data sets need not know of threads."""
        with self._lock:
            env.reset(seed=seed, options=options)

    def step(self, env: VisionToolEnv, action: Any) -> StepResult:
        """Take one turn; see ``VisionToolEnv.step``.

        Raises:
            EpisodeOver: if the episode has ended.
        """
        future = asyncio.run_coroutine_threadsafe(self._stepped(env, action), self._running())
        try:
            return env.finish(future.result())
        except BaseException:
            # Whoever was interrupted has not taken the turn.
            future.cancel()
            raise

    async def _stepped(self, env: VisionToolEnv, action: Any) -> StepResult:
        with self._pool.member():
            return await drive_async(env.stepping(action), self._pool)

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = loop = asyncio.new_event_loop()
                threading.Thread(target=_run, args=(loop,), name="visenv-steps", daemon=True).start()
                weakref.finalize(self, loop.call_soon_threadsafe, loop.stop)
            return self._loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
