"""From an id to the environment that an adapter is a view of."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import gymnasium as gym

import visenv
from visenv.async_batches import AsyncPool, ExpertThreads
from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.protocol.schema import ANSWER_TOOL
from visenv.types import ToolSpec

T = TypeVar("T")


def make_env(env_id: str, keywords: Mapping[str, Any]) -> VisionToolEnv:
    """An environment without Gymnasium's wrappers.

    Args:
        env_id: as ``gym.make`` takes it.
        keywords: of the environment.

    Raises:
        InvalidData: if the id is of another package.
        VisenvError: as ``gym.make``.

    Example:
        >>> make_env("VisHarness/RefSeg-v0", {"split": "val"}).family
        'refseg'
    """
    env = gym.make(env_id, disable_env_checker=True, **keywords).unwrapped
    if not isinstance(env, VisionToolEnv):
        raise InvalidData(f"Expected an environment of visenv {visenv.__version__}, but {env_id!r} is none.")
    return env


_COMMON = {"dataset", "split", "difficulty", "experts", "expert_workers", "expert_timeout"}
"""Keywords that say what environments have in common."""


class Shared:
    """Environments of one kind that have the data, the experts, and what the pool remembers in common.

    Args:
        env_id: as ``gym.make`` takes it.
        keywords: of the environment.

    Attributes:
        first: an environment that nobody plays in: the others are made like it.

    Raises:
        VisenvError: as ``gym.make``: data, weights and devices are checked now.

    Example:
        >>> shared = Shared("VisHarness/RefSeg-v0", {"split": "val"})
        >>> one, other = shared.make(), shared.make()
        >>> one.pool is other.pool, one.dataset is other.dataset
        (True, True)
    """

    def __init__(self, env_id: str, keywords: Mapping[str, Any]) -> None:
        self.env_id, self.keywords = env_id, dict(keywords)
        self.first = make_env(env_id, self.keywords)

    def make(self, **changes: Any) -> VisionToolEnv:
        """One more environment.

        Args:
            **changes: keywords that are other than the first one's; not those of data and experts.

        Raises:
            InvalidData: if data or experts would be others.
        """
        if fixed := sorted(_COMMON & changes.keys()):
            raise InvalidData(f"Expected no {', '.join(fixed)} here: data and experts are those of all environments.")
        first = self.first
        shared = {"dataset": first.dataset, "experts": first.pool.experts, "expert_workers": 0, "expert_timeout": None}
        env = make_env(self.env_id, {**self.keywords, **changes, **shared})
        env.pool = first.pool
        return env

    @property
    def specs(self) -> list[ToolSpec]:
        """The tools, and the answer as one more."""
        return [*self.first.specs, ANSWER_TOOL]

    def close(self) -> None:
        """End the processes of the experts."""
        self.first.close()


class AsyncShared(Shared):
    """``Shared``, for environments that are stepped by coroutines of one event loop.

    Args:
        env_id: as ``gym.make`` takes it.
        keywords: of the environment.

    Raises:
        VisenvError: as ``gym.make``.
    """

    def __init__(self, env_id: str, keywords: Mapping[str, Any]) -> None:
        super().__init__(env_id, keywords)
        self._threads = ExpertThreads()
        # Data sets are read by one thread at a time.
        self._drawing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="visenv-samples")
        self._pools: tuple[asyncio.AbstractEventLoop, AsyncPool] | None = None

    @property
    def pool(self) -> AsyncPool:
        """The experts, for coroutines of the loop that is running: what they ask at the same time is one batch."""
        loop = asyncio.get_running_loop()
        if self._pools is None or self._pools[0] is not loop:
            self._pools = (loop, AsyncPool(self.first.pool, self._threads))
        return self._pools[1]

    async def drawing(self, read: Callable[[], T]) -> T:
        """What a function returns, which is called on the thread that reads samples."""
        return await asyncio.get_running_loop().run_in_executor(self._drawing, read)

    def close(self) -> None:
        """Wait for what is under way, and end threads and processes."""
        self._drawing.shutdown(wait=True, cancel_futures=True)
        self._threads.close()
        super().close()
