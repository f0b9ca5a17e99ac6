"""Episodes of a policy that is awaited, such as a chat endpoint: many under way at once, recorded in their order."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from dataclasses import replace
from typing import Any

import numpy as np

from visenv.async_runner import AsyncEpisodeRunner, AsyncPolicy, EpisodeResult
from visenv.env import VisionToolEnv
from visenv.policies.playing import check_counts
from visenv.wrappers.recording import EpisodeParcel, RunRecorder


def rollout_awaiting(
    env: VisionToolEnv,
    policy: AsyncPolicy,
    *,
    episodes: int,
    seed: int,
    concurrency: int,
    pictures: bool = True,
    usage: Counter[str] | None = None,
) -> Generator[EpisodeParcel, None, None]:
    """Run the episodes that ``rollout`` runs, with a policy that answers at leisure, several at a time.

    What an episode comes to depends on its plan and on the policy, and not on how many are under way. One that the
    policy brings to no end, as an endpoint that fails for good does, is invalid and pays nothing; its record says why.

    Args:
        env: which is not closed.
        policy: who acts; every episode plays a shallow copy of it.
        episodes: how many to run, at least 1.
        seed: of everything that is drawn.
        concurrency: episodes under way at once.
        pictures: whether pictures are drawn.
        usage: to which is added what the policy says that it has used.

    Yields:
        The episodes in their order, for ``RunRecorder.add``.

    Raises:
        InvalidData: if a number is out of range, or the environment is none for this policy.
    """
    check_counts(episodes, seed)
    # A policy for which this environment is none would refuse it in every episode.
    policy.reset(env, np.random.SeedSequence(seed))
    with contextlib.ExitStack() as stack:
        runner = stack.enter_context(AsyncEpisodeRunner(env, concurrency=concurrency, keep_episodes=True))
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        played = runner.episodes(policy, episodes=episodes, seed=seed)
        stack.callback(_end, loop, played, policy)
        waiting: dict[int, EpisodeParcel] = {}
        for index in range(episodes):
            while index not in waiting:
                result = _next(loop, played)
                if usage is not None:
                    usage.update(result.usage)
                waiting[result.index] = _parcel(env, result, pictures)
            yield waiting.pop(index)


def _next(loop: asyncio.AbstractEventLoop, played: AsyncGenerator[EpisodeResult, None]) -> EpisodeResult:
    """The next result; the loop stands still until the one after it is asked for."""
    task = loop.create_task(_first(played))
    try:
        return loop.run_until_complete(task)
    except BaseException:
        # Ctrl-C stops the loop and leaves the task where it was, and comes up once more in whoever waited for it.
        task.cancel()
        while not task.done():
            with contextlib.suppress(KeyboardInterrupt):
                loop.run_until_complete(asyncio.wait({task}))
        raise


async def _first(played: AsyncGenerator[EpisodeResult, None]) -> EpisodeResult:
    return await played.__anext__()


def _end(loop: asyncio.AbstractEventLoop, played: AsyncGenerator[EpisodeResult, None], policy: Any) -> None:
    """Cancel what is under way, and close the connections."""
    loop.run_until_complete(played.aclose())
    close = getattr(policy, "aclose", None)
    if close is not None:
        loop.run_until_complete(close())
    loop.run_until_complete(loop.shutdown_asyncgens())


def _parcel(env: VisionToolEnv, result: EpisodeResult, pictures: bool) -> EpisodeParcel:
    """An episode as its run's folder will hold it: of its pictures, small copies are all that is kept."""
    assert result.episode is not None
    state = result.episode.get_state()
    reward = result.reward
    if result.failure is not None:
        state, reward = replace(state, termination="invalid", problem=f"policy: {result.failure}"), 0.0
    seat = copy.copy(env)
    seat.begin(state.sample)
    seat.episode.set_state(state)
    terms = [turn["reward_terms"] for turn in result.trajectory["turns"]]
    with (
        tempfile.TemporaryDirectory(prefix="visenv-") as folder,
        RunRecorder(folder, pictures=pictures, first=result.index) as recorder,
    ):
        recorder.add_played(seat, terms, reward)
        return recorder.parcel()
