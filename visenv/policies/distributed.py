"""Episodes spread over processes of Ray, which come to what they would come to one after another."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from typing import Any, TypeAlias

import cloudpickle
import gymnasium as gym

from visenv.clusters import LOCAL, TOKEN_VARIABLE, joined
from visenv.errors import InvalidData, VisenvError
from visenv.policies.base import Policy
from visenv.policies.playing import check_counts, play
from visenv.seeding import EpisodePlan, episode_plans
from visenv.wrappers.recording import EpisodeParcel, RecordTrajectories

Make: TypeAlias = "Callable[[], tuple[gym.Env[Any, Any], Policy]]"
AHEAD = 4
"""Episodes a worker that may be finished before it is their turn to be written."""
LOSSES = 3
"""Processes that one episode may cost before it is given up, and the run with it."""
START_SECONDS = 300.0
"""How long the first process may take to start."""


def rollout_on_ray(
    make: Make,
    *,
    episodes: int,
    seed: int,
    size: int | None,
    workers: int,
    address: str = LOCAL,
    pictures: bool = True,
) -> Generator[EpisodeParcel, None, None]:
    """Run the episodes that ``rollout`` runs, on Ray, several at a time.

    An episode whose process dies is run again by another one, and comes to the same: it depends on its plan alone.

    Args:
        make: makes an environment and a policy; called once in each process.
        episodes: how many to run, at least 1.
        seed: of everything that is drawn.
        size: samples in the data set; None where they never end.
        workers: processes, each of which takes a processor.
        address: ``"local"`` to start a Ray here, ``"auto"`` for the one of this machine, or ``"host:port"``.
        pictures: whether pictures are drawn.

    Yields:
        The episodes in their order, for ``RunRecorder.add``.

    Raises:
        InvalidData: if a number is out of range, no Ray can be joined, or it has no processor free for any worker.
        VisenvError: if an episode has cost several processes.
        Exception: what an environment or a policy raised.
    """
    check_counts(episodes, seed)
    if workers < 1:
        raise InvalidData(f"Expected at least 1 worker, but got {workers}.")
    plans = itertools.islice(episode_plans(size, seed), episodes)
    with joined(address, **({"num_cpus": max(workers, os.cpu_count() or 1)} if address == LOCAL else {})) as ray:
        spread = _Spread(ray, make, plans, min(workers, episodes), pictures)
        with contextlib.closing(spread):
            for index in range(episodes):
                yield spread.wait_for(index)


class _Spread:
    """Hands plans to processes, and again where one is lost."""

    def __init__(self, ray: Any, make: Make, plans: Iterator[EpisodePlan], workers: int, pictures: bool) -> None:
        self._ray, self._plans, self._workers = ray, plans, workers
        token = os.environ.get(TOKEN_VARIABLE)
        self._arguments = (bytes(cloudpickle.dumps(make)), tuple(sys.path), os.getcwd(), token, pictures)
        self._kind = ray.remote(num_cpus=1, max_restarts=0)(_Player)
        self._running: dict[Any, tuple[Any, EpisodePlan | None]] = {}
        """By what is waited for: who works on it, and on what; on None while it gets ready."""
        self._again: list[EpisodePlan] = []
        self._done: dict[int, EpisodeParcel] = {}
        self._losses: Counter[int | None] = Counter()
        self._idle: list[Any] = []
        self._begun = time.monotonic()
        self._was_ready = False
        for _ in range(workers):
            self._hire()

    def close(self) -> None:
        """End all processes."""
        for player in (*self._idle, *(player for player, _ in self._running.values())):
            self._ray.kill(player)

    def wait_for(self, index: int) -> EpisodeParcel:
        """One episode, once it and all before it have been waited for."""
        while index not in self._done:
            self._hand_out(index + AHEAD * self._workers)
            ready, _ = self._ray.wait(list(self._running), num_returns=1, timeout=1.0)
            for reference in ready:
                self._take(reference)
            if not self._was_ready and time.monotonic() - self._begun > START_SECONDS:
                raise InvalidData(
                    f"No worker could be started within {START_SECONDS:g} s: each needs a processor that nobody else "
                    "on this Ray has taken."
                )
        return self._done.pop(index)

    def _hire(self) -> None:
        player = self._kind.remote(*self._arguments)
        self._running[player.ready.remote()] = (player, None)

    def _hand_out(self, before: int) -> None:
        while self._idle and (plan := self._next(before)) is not None:
            player = self._idle.pop()
            self._running[player.play.remote(plan)] = (player, plan)

    def _next(self, before: int) -> EpisodePlan | None:
        """The next plan, unless so many are done that were not waited for that there is no hurry."""
        if not self._again and (plan := next(self._plans, None)) is not None:
            self._again.append(plan)
        if self._again and min(plan.index for plan in self._again) < before:
            self._again.sort(key=lambda plan: -plan.index)
            return self._again.pop()
        return None

    def _take(self, reference: Any) -> None:
        from ray.exceptions import RayError, RayTaskError

        player, plan = self._running.pop(reference)
        try:
            result = self._ray.get(reference)
        except RayTaskError as error:
            self._idle.append(player)
            cause = getattr(error, "cause", None)
            raise cause if isinstance(cause, Exception) else error from None
        except RayError as error:
            self._lost(plan, error)
            return
        self._was_ready, self._losses[None] = True, 0
        self._idle.append(player)
        if plan is not None:
            self._done[plan.index] = result

    def _lost(self, plan: EpisodePlan | None, error: Exception) -> None:
        """A process died: another one does its work."""
        index = None if plan is None else plan.index
        self._losses[index] += 1
        if self._losses[index] == LOSSES:
            what = "getting ready" if index is None else f"episode {index}"
            why = " ".join(str(error).split())
            raise VisenvError(f"{LOSSES} processes were lost, all over {what}: {why:.500}") from error
        if plan is not None:
            self._again.append(plan)
        self._hire()


class _Player:
    """Plays episodes in a process of its own.

    Args:
        make: makes environment and policy, pickled.
        path: where modules are found.
        folder: in which relative paths begin.
        token: what servers of experts ask for.
        pictures: whether to draw them.
    """

    def __init__(self, make: bytes, path: tuple[str, ...], folder: str, token: str | None, pictures: bool) -> None:
        import cv2

        cv2.setNumThreads(1)
        sys.path += [place for place in path if place not in sys.path]
        with contextlib.suppress(OSError):
            os.chdir(folder)
        if token is not None:
            os.environ[TOKEN_VARIABLE] = token
        self._make, self._pictures = make, pictures
        self._made: tuple[gym.Env[Any, Any], Policy] | None = None

    def ready(self) -> None:
        """Make environment and policy, so that what is wrong with them is said."""
        if self._made is None:
            self._made = pickle.loads(self._make)()

    def play(self, plan: EpisodePlan) -> EpisodeParcel:
        """Run one episode, and record it as its run would."""
        self.ready()
        assert self._made is not None
        env, policy = self._made
        with tempfile.TemporaryDirectory(prefix="visenv-") as folder:
            recorded = RecordTrajectories(env, folder, pictures=self._pictures, page=None, first=plan.index)
            play(recorded, policy, plan)
            recorded.recorder.close()
            return recorded.recorder.parcel()
