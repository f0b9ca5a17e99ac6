"""The classical experts in this process, in threads of it, and in others: ``python -m benchmarks.bench_workers``.

The same episodes on the same generated scenes of 256x256 pixels in Gymnasium's ``SyncVectorEnv`` over single
environments, and in ``gym.make_vec`` with the experts in this process, in threads, and in processes of their own: once
on scenes that nobody has seen before, and once on a set of 48, where environments meet scenes that others have met.
Tool calls depend on the environment and the turn alone, so that all do the same work: look for a noun, point at
something else, turn the points into masks, cut into patches, enlarge two of them, look there, merge, answer.

Each row also says how much processor time the steps took, in all processes together: on two cores nothing can take less
than half of it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from statistics import median
from typing import Any

import gymnasium as gym

import visenv
from benchmarks._timing import Row, print_rows, row, timed
from benchmarks.bench_vector import Drawn, Listed, Saying
from visenv.capabilities import Request, Result
from visenv.datasets.base import Dataset
from visenv.experts.classical import Classical
from visenv.wrappers import StackableInfo

ENV_ID = "VisHarness/ReasonSeg-v0"
WORKERS = 2
PHRASES = ("red circle", "square", "green star", "dog", "yellow car", "tree", "house", "blue fish")
PATCHES = ("img_0_r1_c1", "img_0_r2_c2")
ENLARGED = tuple(f"{name}_4x" for name in PATCHES)


class Threads:
    """Classical experts in threads; requests about one image go to one of them.

    Args:
        workers: how many threads.
    """

    name = "threads"
    max_batch = 512
    per_sample = False

    def __init__(self, workers: int = WORKERS) -> None:
        self._experts = [Classical() for _ in range(workers)]
        self.fingerprint, self.capabilities = self._experts[0].fingerprint, self._experts[0].capabilities
        self._pool = ThreadPoolExecutor(workers)
        self._owners: dict[str, int] = {}

    def run(self, requests: Sequence[Request]) -> Sequence[Result]:
        parts: list[list[int]] = [[] for _ in self._experts]
        for place, request in enumerate(requests):
            parts[self._owner(request.view.provenance.key)].append(place)
        asked = [[requests[place] for place in part] for part in parts]
        answers: dict[int, Result] = {}
        for part, results in zip(parts, self._pool.map(_run, self._experts, asked), strict=True):
            answers |= zip(part, results, strict=True)
        return [answers[place] for place in range(len(requests))]

    def _owner(self, key: str) -> int:
        """Images in the order of their first mention, by turns."""
        return self._owners.setdefault(key, len(self._owners) % len(self._experts))


def _run(expert: Classical, requests: Sequence[Request]) -> Sequence[Result]:
    return expert.run(requests)


def turns(index: int) -> list[dict[str, Any]]:
    """The tool calls of one environment's episode; some look once or twice more before, so that all are out of step."""
    look, point = PHRASES[index % len(PHRASES)], PHRASES[(index + 3) % len(PHRASES)]
    before = [call("PhraseToBoxMask", images=["img_0"], phrase=PHRASES[(index + k) % 8]) for k in range(index % 3)]
    return [
        *before,
        call("PhraseToBoxMask", images=["img_0"], phrase=look),
        call("PhraseToPoint", images=["img_0"], phrase=f"the {point} on the left"),
        call("PointToBoxMask", images=["img_0"], mode="area"),
        call("SplitImageIntoPatches", patch_configs={"img_0": 128}),
        call("SuperResolution", images=list(PATCHES)),
        call("PhraseToBoxMask", images=list(ENLARGED), phrase=look),
        call("MergeBoxMask", images=["img_0", *ENLARGED]),
        call("Answer", text="done"),
    ]


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """A tool call, or an answer."""
    return {"name": name, "arguments": arguments}


def play(envs: Any, steps: int) -> float:
    """Seconds that some steps take; every environment repeats its turns, one step in between for the reset."""
    plans = [[*turns(index), call("Answer", text="")] for index in range(envs.num_envs)]
    envs.reset(seed=list(range(envs.num_envs)))
    # Processes start, and every cache of modules fills, before the clock does.
    envs.step([call("PhraseToBoxMask", images=["img_0"], phrase="dog") for _ in plans])
    envs.reset(seed=list(range(100, 100 + envs.num_envs)))
    return timed(lambda: [envs.step([plan[step % len(plan)] for plan in plans]) for step in range(steps)])[0]


def timed_play(make: Callable[[], Any], steps: int) -> float:
    """Seconds that fresh environments take: nothing is remembered from an earlier run."""
    with closing(make()) as envs:
        return play(envs, steps)


def processor_seconds(make: Callable[[], Any], steps: int) -> float:
    """Processor time that some steps take, of this process and of those that it starts; where the system counts it."""

    def spent(count: int) -> float:
        before = os.times()
        timed_play(make, count)
        after = os.times()
        return sum(after[:4]) - sum(before[:4])

    return spent(steps) - spent(0)


def compare(name: str, data: str | Dataset, count: int, steps: int, repeats: int) -> list[Row]:
    """Time all of them on one data set, by turns."""

    def single() -> Any:
        return StackableInfo(Saying(gym.make(ENV_ID, dataset=data, disable_env_checker=True)))

    def many(**keywords: Any) -> Any:
        return gym.make_vec(ENV_ID, num_envs=count, dataset=data, **keywords)

    makers: dict[str, Callable[[], Any]] = {
        "SyncVectorEnv": lambda: Listed([single] * count),
        "experts in this process": many,
        f"experts in {WORKERS} threads": lambda: many(experts=Threads()),
        f"experts in {WORKERS} processes": lambda: many(expert_workers=WORKERS),
    }
    times: dict[str, list[float]] = {each: [] for each in makers}
    for _ in range(repeats):
        for each, make in makers.items():
            times[each].append(timed_play(make, steps))
    base = median(times.pop("SyncVectorEnv"))
    busy = {each: processor_seconds(make, steps) for each, make in makers.items()}
    detail = f"{count} environments, {steps} steps each, visenv {visenv.__version__}; processor time"
    return [
        row(
            f"workers: {name}, {each}",
            median(taken),
            "SyncVectorEnv",
            base,
            f"{detail} {busy[each]:.1f} s against {busy['SyncVectorEnv']:.1f} s",
        )
        for each, taken in times.items()
    ]


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Return the rows of the report."""
    count, steps, repeats = (4, 10, 1) if quick else (16, 120, repeats)
    scenes = 8 if quick else 48
    return [
        *compare("a new scene each time", "scenes", count, steps, repeats),
        *compare(f"{scenes} scenes, drawn beforehand", Drawn(scenes), count, steps, repeats),
    ]


if __name__ == "__main__":
    print_rows(run())
