"""What one process does for an evaluation: it takes blocks that nobody plays, and plays what is missing of them."""

from __future__ import annotations

import asyncio
import copy
import inspect
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from typing import Any

from gymnasium.utils.seeding import np_random

from visenv.async_batches import AsyncPool, ExpertThreads, drive_async
from visenv.env import VisionToolEnv
from visenv.episode import Stepping, StepResult
from visenv.errors import InvalidData, MissingDependency, UnknownName
from visenv.evaluation.config import EvalConfig
from visenv.evaluation.records import evaluation_record
from visenv.evaluation.store import BlockWriter, Run
from visenv.records import turn_record
from visenv.seeding import EpisodePlan, episode_plans
from visenv.types import Sample

PAUSE = 0.2
"""Seconds between two looks at blocks that others hold."""
_USERS_MISTAKES = (InvalidData, UnknownName, MissingDependency)
"""What stops a run where a policy raises it; whatever else it raises makes its episode invalid."""


def work(
    folder: str | os.PathLike[str],
    *,
    concurrency: int = 1,
    wait: bool = True,
    told: Callable[[], None] = lambda: None,
) -> int:
    """Play episodes of an evaluation until none is left.

    Any number of processes may do so at the same time, on any machines that share the folder; as a task of Ray it is
    ``ray.remote(visenv.evaluation.work).remote(folder)``.

    Args:
        folder: of an evaluation that ``Run.open`` or ``evaluate`` has begun.
        concurrency: how many episodes are under way at once: their expert requests share batches, and a chat endpoint
            answers as many at a time. What episodes come to does not depend on it.
        wait: whether to stay until others have played the blocks that they hold, and to take over those of one that
            dies.
        told: called after every episode that has been written.

    Returns:
        How many episodes it has played.

    Raises:
        VisenvError: if the environment or the policy cannot be made, or the folder cannot be written.
    """
    run = Run(folder)
    config = EvalConfig.from_settings(run.settings)
    with closing(config.make_env()) as env:
        return play(run, config, env, config.make_policy(), concurrency=concurrency, wait=wait, told=told)


def play(
    run: Run,
    config: EvalConfig,
    env: VisionToolEnv,
    policy: Any,
    *,
    concurrency: int = 1,
    wait: bool = True,
    told: Callable[[], None] = lambda: None,
) -> int:
    """Do what ``work`` does, with an environment and a policy that are made already.

    Args:
        run: which evaluation.
        config: what it is made of.
        env: which is not closed.
        policy: of which every episode plays a shallow copy.
        concurrency: see ``work``, as of the rest.
        wait: whether to stay until others have played what they hold.
        told: called after every episode that has been written.

    Raises:
        InvalidData: if a number is out of range, or the folder cannot be written.
    """
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
        raise InvalidData(f"Expected concurrency to be a whole number of at least 1, but got {concurrency!r}.")
    with closing(ExpertThreads()) as threads:
        return asyncio.run(_Worker(run, config, env, policy, threads, told).play(concurrency, wait))


class _Worker:
    """Several seats that play side by side in one process."""

    def __init__(
        self,
        run: Run,
        config: EvalConfig,
        env: VisionToolEnv,
        policy: Any,
        threads: ExpertThreads,
        told: Callable[[], None],
    ) -> None:
        self._run, self._env, self._policy, self._told = run, env, policy, told
        self._max_steps = env.spec.max_episode_steps if env.spec else None
        self._plans = list(islice(episode_plans(env.dataset.size, config.seed, config.tries), run.episodes))
        # Processes begin at different places, so that they rarely ask for the same block.
        self._order = [*run.blocks]
        start = os.getpid() * 7919 % len(self._order)
        self._order = self._order[start:] + self._order[:start]
        self._held: set[int] = set()
        self._complete: set[int] = set()
        self._threads, self._played = threads, 0

    async def play(self, seats: int, wait: bool) -> int:
        pool = AsyncPool(self._env.pool, self._threads)
        with closing(pool), ThreadPoolExecutor(1, thread_name_prefix="visenv-samples") as loading:
            tasks = [asyncio.create_task(self._seat(pool, loading, wait)) for _ in range(seats)]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                close = getattr(self._policy, "aclose", None)
                if close is not None:
                    await close()
        return self._played

    async def _seat(self, pool: AsyncPool, loading: ThreadPoolExecutor, wait: bool) -> None:
        env = copy.copy(self._env)
        while len(self._complete) < len(self._order):
            taken = next(self._claims(), None)
            if taken is None:
                if not wait:
                    return
                await asyncio.sleep(PAUSE)
                continue
            block, writer = taken
            try:
                with writer:
                    for number in list(writer.missing):
                        with pool.member():
                            line = await self._episode(env, self._plans[number], pool, loading)
                        writer.append(line)
                        self._played += 1
                        self._told()
                self._complete.add(block)
            finally:
                self._held.discard(block)

    def _claims(self) -> Iterator[tuple[int, BlockWriter]]:
        """Blocks of which something is missing, and which nobody held."""
        for block in self._order:
            # Locks of some network file systems are a process's, not a file's: do not ask twice.
            if block in self._complete or block in self._held:
                continue
            writer = self._run.claim(block)
            if writer is None:
                continue
            if not writer.missing:
                writer.close()
                self._complete.add(block)
                continue
            self._held.add(block)
            yield block, writer

    async def _episode(
        self, env: VisionToolEnv, plan: EpisodePlan, pool: AsyncPool, loading: ThreadPoolExecutor
    ) -> dict[str, Any]:
        """Play an episode, and return its line."""
        begun, start = time.time(), time.perf_counter()
        clock = {"loading": 0.0, "policy": 0.0, "experts": 0.0}
        sample = await asyncio.get_running_loop().run_in_executor(loading, self._sample, plan)
        clock["loading"] = time.perf_counter() - start
        env.begin(sample)
        policy = copy.copy(self._policy)
        turns: list[dict[str, Any]] = []
        reward, ended, failure = 0.0, False, None
        try:
            await _timed(clock, policy.reset, env, plan.policy_seed)
            while not ended:
                action = await _timed(clock, policy.act, env.episode)
                result = env.finish(await drive_async(_clocked(env.stepping(action), clock), pool))
                turns.append(turn_record(result.turn, result.reward_terms))
                reward += result.reward
                ended = result.terminated or result.truncated or len(turns) == self._max_steps
        except _PolicyFailure as error:
            failure = str(error)
        record = evaluation_record(plan.index, env, turns, reward, failure)
        seconds = time.perf_counter() - start
        clock["env"] = max(0.0, seconds - sum(clock.values()))
        spent = {
            "seconds": {part: round(value, 6) for part, value in clock.items()},
            "begun": round(begun, 3),
            "ended": round(begun + seconds, 3),
            "process": os.getpid(),
            "usage": dict(getattr(policy, "usage", {})),
        }
        return {"record": record, "spent": spent}

    def _sample(self, plan: EpisodePlan) -> Sample:
        if plan.sample is not None:
            return self._env.dataset.get(plan.sample)
        return self._env.dataset.draw(np_random(plan.env_seed)[0])


class _PolicyFailure(Exception):
    """A policy has raised what is not the user's mistake."""


def _clocked(steps: Stepping, clock: dict[str, float]) -> Stepping:
    """An episode's step, which adds the seconds that it waits for experts to its clock."""
    try:
        requests = next(steps)
        while True:
            start = time.perf_counter()
            results = yield requests
            clock["experts"] += time.perf_counter() - start
            requests = steps.send(results)
    except StopIteration as stop:
        result: StepResult = stop.value
        return result
    finally:
        steps.close()


async def _timed(clock: dict[str, float], ask: Callable[..., Any], *arguments: Any) -> Any:
    """What a policy's method returns, awaited if it is to be.

    Raises:
        _PolicyFailure: if it fails, unless by a mistake of the user's.
    """
    start = time.perf_counter()
    try:
        answer = ask(*arguments)
        return await answer if inspect.isawaitable(answer) else answer
    except _USERS_MISTAKES:
        raise
    except Exception as error:
        raise _PolicyFailure(f"{type(error).__name__}: {error}") from error
    finally:
        clock["policy"] += time.perf_counter() - start
