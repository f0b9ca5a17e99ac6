"""An environment of your own: count the gold coins among others, on pictures drawn here.

    python examples/own_env.py

An environment is a class that says what it asks for (`family`) and what it reports (`metric_names`), a data set, and an
id; tools, experts and reward have defaults. `gym.make_vec` steps many of its episodes as one batch. It prints:

    How many gold coins are there? 7 reward 5.0, exact 1
    8 at once: [5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0] [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]

From elsewhere, `gym.make("own_env:Mine/Coins-v0")` imports this module first.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import gymnasium as gym
import numpy as np
from gymnasium.utils.env_checker import check_env

from visenv.datasets.listed import SampleList
from visenv.env import VisionToolEnv
from visenv.rewards.metrics import Metric
from visenv.types import Outcome, PointsTruth, Sample
from visenv.vector import VisionToolVectorEnv

SIZE, RADIUS = 192, 12  # in pixels
GOLD, SILVER, FELT = (250, 210, 40), (170, 174, 180), (24, 92, 52)
WORDS = tuple(f"{colour} thing" for colour in ("yellow", "grey", "white", "green", "orange", "brown", "red", "black"))
"""What an agent in discrete mode can ask for, beside words of the question."""


def table(index: int) -> Sample:
    """A picture of four to sixteen coins, each in a cell of its own, with the question and the truth."""
    rng = np.random.default_rng(np.random.SeedSequence(2024, spawn_key=(index,)))
    picture = np.full((SIZE, SIZE, 3), FELT, np.uint8)
    gold = []
    for cell in rng.choice(16, size=rng.integers(4, 17), replace=False):
        row, column = divmod(int(cell), 4)
        x, y = (np.array([column, row]) * 48 + 24 + rng.integers(-10, 11, 2)).tolist()
        is_gold = rng.random() < 0.6
        cv2.circle(picture, (x, y), RADIUS, GOLD if is_gold else SILVER, thickness=-1, lineType=cv2.LINE_AA)
        if is_gold:
            gold.append([x, y])
    truth = PointsTruth(np.array(gold, dtype=float).reshape(-1, 2))
    return Sample(f"coins/{index}", (picture,), "How many gold coins are there?", truth, task="counting")


class ExactCount(Metric[bool]):
    """The share of pictures that were counted exactly."""

    name, higher_is_better, bounds, truths = "exact", True, (0.0, 1.0), (PointsTruth,)

    def _measure(self, outcome: Outcome, truth: PointsTruth) -> bool:
        return outcome.termination == "answer" and len(outcome.detections or ()) == len(truth.points)

    def _summarize(self, records: Sequence[bool]) -> dict[str, float]:
        return {self.name: float(np.mean(records)) if records else float("nan")}

    def _value(self, record: bool) -> float:
        return float(record)


class CoinsEnv(VisionToolEnv):
    """Count the gold coins on a table."""

    family = "refcount"
    metric_names = ("visenv.rewards.metrics:CountError", f"{__name__}:ExactCount")


class CoinsVectorEnv(VisionToolVectorEnv):
    """Many `CoinsEnv` at once."""

    env_class = CoinsEnv


gym.register(
    "Mine/Coins-v0",
    entry_point=f"{__name__}:CoinsEnv",
    vector_entry_point=f"{__name__}:CoinsVectorEnv",
    kwargs={"dataset": SampleList("coins", map(table, range(20)), vocabulary=WORDS), "max_turns": 4},
)

PLAN = [
    {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "yellow thing"}},
    {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}},
    {"name": "Answer", "arguments": {"text": "These are all."}},
]


def main() -> None:
    env = gym.make("Mine/Coins-v0")
    check_env(env.unwrapped, skip_render_check=True)
    _, info = env.reset(options={"index": 0})
    query = info["query"]
    for call in PLAN:
        _, reward, _, _, info = env.step(call)
    print(query, len(info["outcome"]["boxes"]), f"reward {reward:.1f}, exact {info['metrics']['exact']:.0f}")

    envs = gym.make_vec("Mine/Coins-v0", num_envs=8)
    envs.reset(seed=0)
    for call in PLAN:
        _, rewards, _, _, infos = envs.step([call] * 8)
    print("8 at once:", rewards.round(1).tolist(), infos["metrics"]["exact"].tolist())


if __name__ == "__main__":
    main()
