"""Policies that answer at different times, under ``AsyncEpisodeRunner``: ``python -m benchmarks.bench_async``.

Every episode is the same four turns (point, segment, merge, answer), and before each its policy takes a time of its
own: drawn from an exponential distribution with a mean of 50 ms, as calls of a language model have a long tail. An
expert takes 50 ms a batch whatever its size. The same episodes are played by a vector environment, which takes each
step when the slowest policy has answered; and by one coroutine an episode that asks experts for itself alone.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np

import visenv
from benchmarks._timing import Row, print_rows, row
from benchmarks.bench_vector import ENV_ID, Drawn, Slow, call, per_batch
from visenv.async_batches import drive_async
from visenv.async_runner import AsyncEpisodeRunner
from visenv.capabilities import ExpertFailure, Request, Result
from visenv.env import VisionToolEnv
from visenv.experts.oracle import make as make_oracle

TURNS = ("PhraseToPoint", "PointToBoxMask", "MergeBoxMask", "Answer")
MEAN = 0.05
"""Seconds that a policy takes for a turn, on average."""


def latencies(episodes: int) -> np.ndarray[Any, Any]:
    """(episodes, turns) seconds: the same for every way to play."""
    return np.random.default_rng(0).exponential(MEAN, (episodes, len(TURNS)))


def settings(data: Drawn) -> dict[str, Any]:
    """Keywords of an environment whose expert is slow and remembers nothing from another run."""
    return {"dataset": data, "experts": Slow(make_oracle(data.find)[0], per_batch)}


def played_together(data: Drawn, episodes: int, at_once: int) -> tuple[float, float]:
    """Seconds that the runner takes, and how many requests its batches held."""
    waits = latencies(episodes)

    class Policy:
        def reset(self, env: VisionToolEnv, seed: np.random.SeedSequence) -> None:
            self.index = seed.spawn_key[0] - 1

        async def act(self, episode: Any) -> Any:
            await asyncio.sleep(waits[self.index, episode.turns])
            return call(TURNS[episode.turns], self.index)

    with AsyncEpisodeRunner(ENV_ID, concurrency=at_once, **settings(data)) as runner:
        start = time.perf_counter()
        asyncio.run(runner.run(Policy, samples=range(episodes)))
        return time.perf_counter() - start, runner.pool.counters.mean_batch


def played_in_step(data: Drawn, episodes: int, at_once: int) -> float:
    """Seconds that a vector environment takes, whose policies answer at the same time, each in its own."""
    waits = latencies(episodes).reshape(-1, at_once, len(TURNS))
    with closing(gym.make_vec(ENV_ID, num_envs=at_once, autoreset_mode="same_step", **settings(data))) as envs:
        envs.reset(seed=0)
        start = time.perf_counter()
        for first, group in enumerate(waits):
            for turn, name in enumerate(TURNS):
                time.sleep(group[:, turn].max())
                envs.step([call(name, first * at_once + index) for index in range(at_once)])
        return time.perf_counter() - start


def played_apart(data: Drawn, episodes: int, at_once: int) -> float:
    """Seconds that coroutines take that ask experts one by one."""
    waits = latencies(episodes)
    first: Any = gym.make(ENV_ID, disable_env_checker=True, **settings(data)).unwrapped

    async def main() -> None:
        loop, room = asyncio.get_running_loop(), asyncio.Semaphore(at_once)

        class Alone:
            async def answer(self, requests: Sequence[Request]) -> list[Result | ExpertFailure]:
                return await loop.run_in_executor(thread, first.pool.answer, requests)

        async def play(index: int) -> None:
            async with room:
                env = copy.copy(first)
                env.reset(options={"index": index})
                for turn, name in enumerate(TURNS):
                    await asyncio.sleep(waits[index, turn])
                    # Duck typing: of a pool, only its answers are asked.
                    pool: Any = Alone()
                    env.finish(await drive_async(env.stepping(call(name, index)), pool))

        await asyncio.gather(*(play(index) for index in range(episodes)))

    with ThreadPoolExecutor(1) as thread:
        start = time.perf_counter()
        asyncio.run(main())
        return time.perf_counter() - start


def compare(episodes: int, at_once: int, repeats: int) -> list[Row]:
    """Time all three on the same episodes."""
    data = Drawn(episodes)
    own = [played_together(data, episodes, at_once) for _ in range(repeats)]
    ours, batch = median(seconds for seconds, _ in own), median(size for _, size in own)
    name = f"async: policies of 50 ms on average, {at_once} at once"
    detail = f"{episodes / ours:.0f} episodes/s, {batch:.1f} requests a batch, visenv {visenv.__version__}"
    others: dict[str, Callable[[Drawn, int, int], float]] = {
        "a vector environment": played_in_step,
        "a coroutine each, no batches": played_apart,
    }
    return [
        row(name, ours, other, median(play(data, episodes, at_once) for _ in range(repeats)), detail)
        for other, play in others.items()
    ]


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Return the rows of the report."""
    if quick:
        return compare(8, 4, 1)
    return [*compare(64, 16, repeats), *compare(128, 64, repeats)]


if __name__ == "__main__":
    print_rows(run())
