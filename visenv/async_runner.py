"""Many episodes at once, for agent loops whose policies answer at different times."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice, repeat
from types import TracebackType
from typing import Any, Protocol, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium.utils.seeding import np_random

from visenv.async_batches import WINDOW, AsyncPool, ExpertThreads, drive_async
from visenv.env import VisionToolEnv
from visenv.episode import Episode, EpisodeState
from visenv.errors import InvalidData
from visenv.records import trajectory_record, turn_record
from visenv.registration import policies
from visenv.seeding import EpisodePlan, episode_plans
from visenv.types import Outcome, Sample
from visenv.wrappers.text import vision_env

logger = logging.getLogger(__name__)

GRACE = 1.0
"""Seconds that a policy has to clean up after it was cancelled."""


class AsyncPolicy(Protocol):
    """Chooses one action a turn; like ``visenv.policies.Policy``, but both methods may be coroutines."""

    def reset(self, env: VisionToolEnv, seed: np.random.SeedSequence) -> Any:
        """Get ready for the episode that an environment has just begun.

        Args:
            env: the environment of this episode, for its spaces, ``observation()``, ``info()`` and ``action_masks()``.
            seed: of this episode's choices.
        """
        ...

    def act(self, episode: Episode) -> Any:
        """The next action: anything that ``VisionToolEnv.step`` takes, or an awaitable of it."""
        ...


PolicyLike: TypeAlias = "str | AsyncPolicy | Callable[..., Any]"
"""A registered name, a policy, a class of policies, or a function from an ``Episode`` to an action, async or not."""


@dataclass(frozen=True)
class EpisodeResult:
    """What came of one episode."""

    index: int
    """From 0, in the order of the samples."""
    sample_id: str
    query: str
    reward: float
    """The sum over its turns."""
    outcome: Outcome
    metrics: dict[str, float]
    trajectory: dict[str, Any]
    """As a line of ``trajectories.jsonl``, with what stands in ``failure``."""
    failure: str | None = None
    """Why the policy brought it to no end (it raised, or took too long); None where it did."""
    usage: Mapping[str, int] = field(default_factory=dict)
    """What the policy says that it has used, such as requests and tokens; empty of one that has no ``usage``."""
    episode: Episode | None = None
    """The episode itself with all of its pictures, if the runner was told to keep it."""


class AsyncEpisodeRunner:
    """Plays many episodes at once, each awaiting its policy and its experts.

    A step never waits for the slowest policy, as it does in a vector environment. The expert requests of all episodes
    are gathered for a few milliseconds and answered as one batch on another thread, while the event loop goes on.
    Policies that are not async run on the loop. What an episode comes to depends on the seed and its index, and not on
    who answered first: it is what ``visenv.policies.rollout`` comes to.

    Args:
        env: an id, with the keywords of ``gym.make``; or an environment, whose wrappers are left out but for the limit
            of its steps, and which its owner closes.
        concurrency: how many episodes are under way; the next one begins when one has ended.
        window: for how many seconds requests are gathered, unless everybody waits already.
        policy_timeout: seconds that a policy has for a turn; None for no limit.
        keep_episodes: whether results hold their ``Episode``, with all pictures, and so its messages.
        **keywords: of ``gym.make``.

    Attributes:
        pool: the experts, with counters of what was asked, batched and remembered (``pool.counters``).

    Raises:
        InvalidData: if a number is out of range.

    Example:
        >>> async def policy(episode):
        ...     if episode.turns == 0:
        ...         return {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": episode.query}}
        ...     await asyncio.sleep(0.001)
        ...     return {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}} if episode.turns == 1 else "done"
        >>> with AsyncEpisodeRunner("VisHarness/RefSeg-v0", split="val", experts="oracle", max_turns=2) as runner:
        ...     results = asyncio.run(runner.run(policy, episodes=4, seed=0))
        >>> [result.metrics["gIoU"] for result in results], runner.pool.counters.requests
        ([1.0, 1.0, 1.0, 1.0], 4)
    """

    def __init__(
        self,
        env: str | gym.Env[Any, Any],
        *,
        concurrency: int = 64,
        window: float = WINDOW,
        policy_timeout: float | None = None,
        keep_episodes: bool = False,
        **keywords: Any,
    ) -> None:
        _whole("concurrency", concurrency)
        if not 0 <= window < float("inf"):
            raise InvalidData(f"Expected window to be a number of seconds of at least 0, but got {window!r}.")
        if policy_timeout is not None and not policy_timeout > 0:
            raise InvalidData(f"Expected policy_timeout to be a number of seconds above 0, but got {policy_timeout!r}.")
        if keywords and not isinstance(env, str):
            names = ", ".join(keywords)
            raise InvalidData(f"Expected no keywords beside an environment that is made already, but got {names}.")
        self._owned = isinstance(env, str)
        made: gym.Env[Any, Any] = gym.make(env, disable_env_checker=True, **keywords) if isinstance(env, str) else env
        self._env = vision_env(made)
        self._max_steps = made.spec.max_episode_steps if made.spec else None
        self.concurrency, self.window, self.policy_timeout = concurrency, window, policy_timeout
        self.keep_episodes = keep_episodes
        self.pool = self._env.pool
        self._threads = ExpertThreads()
        self._drawing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="visenv-samples")

    async def run(
        self,
        policy: PolicyLike,
        *,
        episodes: int | None = None,
        samples: Iterable[Sample | int | str] | None = None,
        seed: int = 0,
        group_size: int = 1,
    ) -> list[EpisodeResult]:
        """Play episodes, and return what came of them, in order; see ``episodes`` for arguments and errors."""
        played = self.episodes(policy, episodes=episodes, samples=samples, seed=seed, group_size=group_size)
        async with contextlib.aclosing(played):
            return sorted([result async for result in played], key=lambda result: result.index)

    def episodes(
        self,
        policy: PolicyLike,
        *,
        episodes: int | None = None,
        samples: Iterable[Sample | int | str] | None = None,
        seed: int = 0,
        group_size: int = 1,
    ) -> AsyncGenerator[EpisodeResult, None]:
        """Play episodes, and give each result as soon as it is there.

        A policy that raises or takes too long ends its own episode: the result says so in ``failure``, and holds the
        turns taken until then. Whoever wants no more of them breaks off the loop: what is under way is cancelled.

        Args:
            policy: who acts: a registered name, a policy (copied for every episode, shallowly), a class of policies, or
                a function from an ``Episode`` to an action. Functions and methods may be async.
            episodes: how many; if neither this nor ``samples`` is given, one for each sample of the data set.
            samples: what they are about, in place of a number: samples, their numbers, or their identifiers.
            seed: of all that is drawn; see ``visenv.seeding.episode_plans`` for which samples it stands for.
            group_size: so many episodes in a row are about the same sample, as GRPO needs it; their policies' seeds
                differ. With ``samples``, each of these is played as often.

        Raises:
            InvalidData: if the policy is none, or a number is out of range.
            DatasetError: if a sample cannot be read.
        """
        acting = _policy_maker(policy)
        _whole("group_size", group_size)
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise InvalidData(f"Expected a seed of at least 0, but got {seed!r}.")
        if episodes is not None:
            _whole("episodes", episodes)
        if episodes is not None and samples is not None:
            raise InvalidData("Expected a number of episodes or their samples, but got both.")
        size = self._env.dataset.size
        if samples is None and episodes is None and size is None:
            raise InvalidData("Expected a number of episodes: this data set has no end.")
        if samples is None:
            count = group_size * (size or 0) if episodes is None else episodes
            jobs = self._drawn(islice(episode_plans(size, int(seed), group_size), count))
        else:
            each = chain.from_iterable(repeat(sample, group_size) for sample in samples)
            jobs = self._asked(each, episode_plans(None, int(seed)))
        return self._play_all(acting, jobs)

    def close(self) -> None:
        """Wait for expert calls that are under way, and end the threads; an environment of its own is closed."""
        self._drawing.shutdown(wait=True, cancel_futures=True)
        self._threads.close()
        if self._owned:
            self._env.close()

    def __enter__(self) -> AsyncEpisodeRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- samples, on a thread of their own ----------------------------------------------------------------------------

    def _drawn(self, plans: Iterable[EpisodePlan]) -> Iterator[_Job]:
        """The samples that a seed stands for; the episodes of a group share theirs."""
        last: tuple[object, EpisodeState] | None = None
        for plan in plans:
            key = (plan.sample, plan.env_seed)
            if last is None or last[0] != key:
                last = (key, self._env.prepare(self._sample(plan)))
            yield _Job(plan, last[1])

    def _sample(self, plan: EpisodePlan) -> Sample:
        chosen = self._env.choose({} if plan.sample is None else {"index": plan.sample})
        return chosen or self._env.dataset.draw(np_random(plan.env_seed)[0])

    def _asked(self, samples: Iterable[Sample | int | str], plans: Iterable[EpisodePlan]) -> Iterator[_Job]:
        for given, plan in zip(samples, plans, strict=False):
            option = {"sample_id": given} if isinstance(given, str) else {"index": given}
            sample = given if isinstance(given, Sample) else self._env.choose(option)
            assert sample is not None
            yield _Job(plan, self._env.prepare(sample))

    # --- episodes, on the event loop ----------------------------------------------------------------------------------

    async def _play_all(
        self, acting: Callable[[], AsyncPolicy], jobs: Iterator[_Job]
    ) -> AsyncGenerator[EpisodeResult, None]:
        pool = AsyncPool(self.pool, self._threads, self.window)
        loop = asyncio.get_running_loop()
        ended: asyncio.Queue[EpisodeResult | BaseException | None] = asyncio.Queue()
        # Whoever is slow to take results is not overrun by them.
        room = asyncio.Semaphore(self.concurrency)

        async def seat() -> None:
            """Play one episode after another, as long as there are samples."""
            env = copy.copy(self._env)
            try:
                while (job := await loop.run_in_executor(self._drawing, next, jobs, None)) is not None:
                    with pool.member():
                        result = await self._play(env, job, acting(), pool)
                    await room.acquire()
                    ended.put_nowait(result)
            except BaseException as error:
                ended.put_nowait(error)
                raise
            ended.put_nowait(None)

        seats = [asyncio.create_task(seat()) for _ in range(self.concurrency)]
        try:
            left = len(seats)
            while left:
                came = await ended.get()
                if isinstance(came, asyncio.CancelledError):
                    raise RuntimeError("A task of this run was cancelled by somebody else.") from came
                if isinstance(came, BaseException):
                    raise came
                if came is None:
                    left -= 1
                else:
                    room.release()
                    yield came
        finally:
            pool.close()
            for task in seats:
                task.cancel()
            await asyncio.gather(*seats, return_exceptions=True)

    async def _play(self, env: VisionToolEnv, job: _Job, policy: AsyncPolicy, pool: AsyncPool) -> EpisodeResult:
        env.begin(job.state.sample)
        env.episode.set_state(job.state)
        turns: list[dict[str, Any]] = []
        reward, ended, failure = 0.0, False, None
        try:
            await self._patiently(policy.reset, env, job.plan.policy_seed)
            while not ended:
                action = await self._patiently(policy.act, env.episode)
                result = env.finish(await drive_async(env.stepping(action), pool))
                turns.append(turn_record(result.turn, result.reward_terms) | {"pictures": []})
                reward += result.reward
                ended = result.terminated or result.truncated or len(turns) == self._max_steps
        except _PolicyFailure as error:
            failure = str(error)
            logger.warning("Episode %d ended early: %s", job.plan.index, failure, exc_info=error.__cause__)
        episode, metrics = env.episode, env.metrics()
        record = trajectory_record(job.plan.index, episode, turns, reward, metrics) | {"failure": failure}
        return EpisodeResult(
            index=job.plan.index,
            sample_id=episode.sample_id,
            query=episode.query,
            reward=reward,
            outcome=episode.outcome,
            metrics=metrics,
            trajectory=record,
            failure=failure,
            usage=dict(getattr(policy, "usage", {})),
            episode=episode if self.keep_episodes else None,
        )

    async def _patiently(self, ask: Callable[..., Any], *arguments: Any) -> Any:
        """What a policy's method returns, awaited if it is to be.

        Raises:
            _PolicyFailure: if it raises, or takes too long.
        """
        try:
            answer = ask(*arguments)
        except (Exception, asyncio.CancelledError) as error:
            raise _PolicyFailure(_in_words(error)) from error
        if not inspect.isawaitable(answer):
            return answer
        task = asyncio.ensure_future(answer)
        try:
            await asyncio.wait({task}, timeout=self.policy_timeout)
            on_time = task.done()
        finally:
            await _end(task)
        if not on_time:
            raise _PolicyFailure(f"TimeoutError: no answer within {self.policy_timeout:g} s")
        if task.cancelled():
            raise _PolicyFailure("CancelledError: the policy was cancelled")
        raised = task.exception()
        if raised is not None:
            raise _PolicyFailure(_in_words(raised)) from raised
        return task.result()


class _PolicyFailure(Exception):
    """A policy has raised, or has taken too long."""


@dataclass(frozen=True)
class _Job:
    plan: EpisodePlan
    state: EpisodeState
    """What the episode begins with."""


class _FunctionPolicy:
    """A function as a policy."""

    def __init__(self, function: Callable[[Episode], Any]) -> None:
        self.act = function

    def reset(self, env: VisionToolEnv, seed: np.random.SeedSequence) -> None:
        """A function remembers nothing."""


def _policy_maker(policy: PolicyLike) -> Callable[[], AsyncPolicy]:
    """What gives each episode a policy of its own."""
    made: Any = policies.load(policy) if isinstance(policy, str) else policy
    is_policy = callable(getattr(made, "act", None)) and callable(getattr(made, "reset", None))
    if is_policy:
        make: Callable[[], AsyncPolicy] = made if isinstance(made, type) else lambda: copy.copy(made)
        return make
    if not callable(made) or isinstance(made, type):
        raise InvalidData(
            f"Expected a policy's name, a policy (reset and act), or a function of an Episode, but got {made!r:.80}."
        )
    return lambda: _FunctionPolicy(made)


async def _end(task: asyncio.Future[Any]) -> None:
    """Cancel a task that has not ended, and wait a moment for it to clean up."""
    # What it raises too late is nobody's.
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
    if not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=GRACE)


def _in_words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _whole(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise InvalidData(f"Expected {name} to be a whole number of at least 1, but got {value!r}.")
