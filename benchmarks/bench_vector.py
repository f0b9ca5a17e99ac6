"""Many environments in one batch, against Gymnasium's ``SyncVectorEnv``: ``python -m benchmarks.bench_vector``.

Both play the same episodes (point, segment, merge, answer) on the same generated scenes, with the oracle's answers from
an expert that takes as long as a model would: 50 ms a batch whatever its size, or 50 ms for each distinct image in it,
as the image encoder of a segmenter does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv

import visenv
from benchmarks._timing import Row, print_rows, row
from visenv.capabilities import Expert, Request, Result
from visenv.datasets.scenes import make as make_scenes
from visenv.experts.oracle import make as make_oracle
from visenv.types import Sample
from visenv.wrappers import StackableInfo

ENV_ID = "VisHarness/RefSeg-v0"
SECONDS = 0.05


class Slow:
    """The oracle, taking its time.

    Args:
        oracle: who answers.
        cost: seconds that a batch takes in all.
    """

    name = "slow"
    fingerprint = "slow-1"
    max_batch = 64
    per_sample = True

    def __init__(self, oracle: Expert, cost: Callable[[Sequence[Request]], float]) -> None:
        self._oracle, self._cost = oracle, cost
        self.capabilities = oracle.capabilities

    def run(self, requests: Sequence[Request]) -> Sequence[Result]:
        ready = time.perf_counter() + self._cost(requests)
        results = self._oracle.run(requests)
        # The oracle's own work is part of what a batch takes, which would grow with its size otherwise.
        time.sleep(max(0.0, ready - time.perf_counter()))
        return results


class Drawn:
    """Generated scenes, drawn beforehand: drawing takes the same time for both, and is not what is compared."""

    def __init__(self, count: int) -> None:
        scenes = make_scenes(path=None, family="refseg", split="val", difficulty=1)
        self.name, self.split, self.vocabulary, self.size = scenes.name, scenes.split, scenes.vocabulary, count
        self._samples = [scenes.get(index) for index in range(count)]

    def get(self, index: int) -> Sample:
        return self._samples[index]

    def find(self, sample_id: str) -> Sample:
        return next(sample for sample in self._samples if sample.sample_id == sample_id)

    def draw(self, rng: np.random.Generator) -> Sample:
        return self._samples[int(rng.integers(self.size))]


def per_batch(requests: Sequence[Request]) -> float:
    """Seconds of a batch: the same for any size."""
    return SECONDS


def per_image(requests: Sequence[Request]) -> float:
    """Seconds of a batch: so many for each distinct image."""
    return SECONDS * len({request.view.provenance.key for request in requests})


def play(envs: Any, seeds: list[int], episodes: int) -> float:
    """Seconds that some episodes of every environment take."""
    envs.reset(seed=seeds)
    start = time.perf_counter()
    for _ in range(episodes):
        for name in ("PhraseToPoint", "PointToBoxMask", "MergeBoxMask", "Answer"):
            envs.step([call(name, index) for index in range(envs.num_envs)])
        envs.step([call("Answer", 0)] * envs.num_envs)  # the next episodes begin
    return time.perf_counter() - start


def timed_play(make: Callable[[], Any], seeds: list[int]) -> float:
    """Seconds that fresh environments take: nothing is remembered from an earlier run."""
    with closing(make()) as envs:
        return play(envs, seeds, 2)


def call(name: str, index: int) -> dict[str, Any]:
    """A tool call; each environment words its phrase differently."""
    arguments: dict[str, dict[str, Any]] = {
        "PhraseToPoint": {"images": ["img_0"], "phrase": f"target {index}"},
        "PointToBoxMask": {"images": ["img_0"], "mode": "area"},
        "MergeBoxMask": {"images": ["img_0"]},
        "Answer": {"text": "done"},
    }
    return {"name": name, "arguments": arguments[name]}


class Listed(SyncVectorEnv):
    """Gymnasium's own, taking a list of tool calls in place of elements of the action space."""

    def step(self, actions: Any) -> Any:
        for env, action in zip(self.envs, actions, strict=True):
            env.get_wrapper_attr("say")(action)
        return super().step(self.action_space.sample())


class Saying(gym.ActionWrapper[Any, Any, Any]):
    """Plays what it was told."""

    def say(self, action: Any) -> None:
        self._said = action

    def action(self, action: Any) -> Any:
        return self._said


def compare(name: str, num_envs: int, cost: Callable[[Sequence[Request]], float], group: int, repeats: int) -> Row:
    """Time both on the same episodes."""
    data = Drawn(48)

    def single() -> Any:
        expert = Slow(make_oracle(data.find)[0], cost)
        env = gym.make(ENV_ID, dataset=data, experts=expert, disable_env_checker=True)
        return StackableInfo(Saying(env))

    def many() -> Any:
        expert = Slow(make_oracle(data.find)[0], cost)
        return gym.make_vec(ENV_ID, num_envs=num_envs, group_size=group, dataset=data, experts=expert)

    seeds = [index // group for index in range(num_envs)]
    times = [(timed_play(many, seeds), timed_play(lambda: Listed([single] * num_envs), seeds)) for _ in range(repeats)]
    return row(
        name,
        median(own for own, _ in times),
        "SyncVectorEnv",
        median(other for _, other in times),
        f"{num_envs} environments, 2 episodes each, visenv {visenv.__version__}",
    )


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Return the rows of the report."""
    count, group = (4, 4) if quick else (16, 8)
    return [
        compare("vector: an expert of 50 ms a batch", count, per_batch, 1, 1 if quick else repeats),
        compare(
            "vector: a group on one sample, 50 ms an image",
            4 if quick else 8,
            per_image,
            4 if quick else 8,
            1 if quick else repeats,
        ),
    ]


if __name__ == "__main__":
    print_rows(run())
