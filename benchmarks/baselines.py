"""What the policies that come with visenv score on every environment: ``python -m benchmarks.baselines``.

Writes ``docs/baselines.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import visenv
from visenv.builtin import ENVIRONMENTS
from visenv.errors import DatasetError
from visenv.policies import make_policy, rollout
from visenv.wrappers.summary import RunSummary
from visenv.wrappers.text import vision_env

POLICIES = (("random", "classical"), ("single", "classical"), ("scripted", "classical"), ("oracle", "oracle"))
"""Policy and experts."""
FIGURES = ("gIoU", "gIoU targeted", "F1@0.50", "F1@0.50:0.95", "MAE", "NAE")
DENSE_SHARE = 5
"""Episodes of the dense environment take as long as so many of the others, so there are fewer of them."""


@dataclass(frozen=True)
class Score:
    """What a policy scored on one environment and difficulty."""

    policy: str
    episodes: int
    figures: dict[str, float]
    turns: float
    faults: int


def score(env_id: str, policy: str, experts: str, episodes: int, seed: int, **keywords: Any) -> Score:
    """Run a policy and add up its figures; ``gIoU targeted`` leaves out samples on which nothing is to be found."""
    env = gym.make(env_id, split="val", experts=experts, obs="features", disable_env_checker=True, **keywords)
    vision, summary, targeted = vision_env(env), RunSummary(), []
    for end in rollout(env, make_policy(policy), episodes=episodes, seed=seed):
        summary.add(vision, end.reward)
        if "gIoU" in end.metrics and not vision.episode.truth.is_null:
            targeted.append(end.metrics["gIoU"])
    figures = summary.figures()
    metrics = dict(figures["metrics"])
    if targeted:
        metrics["gIoU targeted"] = float(np.mean(targeted))
    turns = figures["totals"]["turns"] / figures["episodes"]
    return Score(policy, figures["episodes"], metrics, turns, figures["totals"]["errors"])


def table(dataset: str, difficulties: Sequence[int | None], episodes: int, seed: int) -> list[str]:
    """Markdown rows of all environments that a data set has samples for."""
    lines = [
        "| environment | difficulty | n | figure | "
        + " | ".join(policy for policy, _ in POLICIES)
        + " | turns, scripted |",
        "|---|---|---|---|" + "---|" * (len(POLICIES) + 1),
    ]
    for env_id in ENVIRONMENTS:
        if "Mixed" in env_id:
            continue  # Its samples are those of the others.
        for difficulty in difficulties:
            keywords: dict[str, Any] = {"dataset": dataset}
            if difficulty is not None:
                keywords["difficulty"] = difficulty
            count = max(1, episodes // (DENSE_SHARE if "Dense" in env_id else 1))
            try:
                size = vision_env(gym.make(env_id, split="val", experts="oracle", **keywords)).dataset.size
            except DatasetError:
                continue
            count = count if difficulty is not None or size is None else size
            scores = [score(env_id, policy, experts, count, seed, **keywords) for policy, experts in POLICIES]
            lines += _rows(env_id, difficulty, scores)
            print(*lines[-2:], sep="\n", flush=True)
    return lines


def _rows(env_id: str, difficulty: int | None, scores: Sequence[Score]) -> list[str]:
    names = [name for name in FIGURES if name in scores[0].figures]
    turns = next(score.turns for score in scores if score.policy == "scripted")
    level = "" if difficulty is None else str(difficulty)
    return [
        f"| {env_id} | {level} | {scores[0].episodes} | {name} | "
        + " | ".join(f"{score.figures.get(name, float('nan')):.3f}" for score in scores)
        + f" | {turns:.1f} |"
        for name in names
    ]


def write(path: Path, episodes: int, seed: int, difficulties: Sequence[int]) -> None:
    """Write the page."""
    command = f"python -m benchmarks.baselines --episodes {episodes} --seed {seed}"
    text = [
        "# Baselines",
        "",
        f"Made by `{command}` with visenv {visenv.__version__}.",
        "Split `val`, at most 10 turns, reward and tool set `visharness`; every policy meets the same episodes.",
        "`random`, `single` and `scripted` use the experts `classical`, which see pixels alone; `oracle` uses the",
        "experts `oracle`, which read the truth.",
        "",
        "- `random` samples the structured action space.",
        "- `single` asks PhraseToBoxMask for the whole query on the whole picture, merges, and answers.",
        "- `scripted` follows VisHarness's published strategies.",
        "- *gIoU targeted* leaves out the samples on which nothing is to be found. Every other figure covers all n",
        "  episodes; one that ends without a result is a miss. MAE and NAE are errors: lower is better.",
        "- `VisHarness/Mixed-v0` has no rows of its own: its samples are those of the other environments.",
        "",
        "## Generated scenes",
        "",
        *table("scenes", difficulties, episodes, seed),
        "",
        "## Photographs",
        "",
        "The classical experts know 30 kinds of drawn things, and no photograph: this is where neural experts come in.",
        "",
        *table("photos", [None], episodes, seed),
        "",
    ]
    path.write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--difficulties", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "baselines.md")
    options = parser.parse_args()
    write(options.out, options.episodes, options.seed, options.difficulties)
