"""What do policies mend? ``python -m benchmarks.mending`` prints the tables of docs/mending.md: programs really run.

The first samples of ``val`` at each difficulty, played by each policy with its programs in the sandbox; then the
published reward for the same behaviour, and what the right programs put right, by damage.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np

from visenv.env import VisionToolEnv
from visenv.policies import make_policy
from visenv.types import ImageTruth

ENV_ID = "VisHarness/MATCoding-v0"
POLICIES = ("random", "single", "scripted", "oracle")


def played(policy: str, difficulty: int, count: int, **keywords: Any) -> Iterator[tuple[float, dict[str, Any], str]]:
    """The reward, the metrics and the damage of each of the first samples of ``val``."""
    mode = "discrete" if policy == "random" else "structured"
    env = gym.make(ENV_ID, split="val", difficulty=difficulty, obs="features", action_mode=mode, **keywords).unwrapped
    assert isinstance(env, VisionToolEnv)
    player, seeds = make_policy(policy), np.random.SeedSequence(0).spawn(count)
    with closing(env):
        for index in range(count):
            _, info = env.reset(options={"index": index})
            player.reset(env, seeds[index])
            total, ended = 0.0, False
            while not ended:
                _, reward, terminated, truncated, info = env.step(player.act(env.episode))
                total, ended = total + reward, terminated or truncated
            truth = env.episode.truth
            assert isinstance(truth, ImageTruth)
            yield total, info["metrics"], " and ".join(truth.damage) or "nothing"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="samples of each difficulty")
    count = parser.parse_args().count
    print(f"| difficulty | {' | '.join(POLICIES)} |\n|---|{'---|' * len(POLICIES)}")
    mended: dict[str, list[float]] = defaultdict(list)
    for difficulty in range(4):
        cells = []
        for policy in POLICIES:
            ends = list(played(policy, difficulty, count))
            reward, near, right = (
                float(np.mean(values))
                for values in zip(*((paid, m["likeness"], m["EM"]) for paid, m, _ in ends), strict=True)
            )
            cells.append(f"{reward:.2f} ({near:.2f}, {right:.2f})")
            if policy == "oracle" and difficulty == 1:
                for _, metrics, damage in ends:
                    mended[damage].append(metrics["likeness"])
        print(f"| {difficulty} | {' | '.join(cells)} |", flush=True)
    published = [
        np.mean([paid for paid, *_ in played(policy, 1, count // 2, reward="arft_coding")]) for policy in POLICIES
    ]
    print(
        "\n`arft_coding`, difficulty 1:",
        ", ".join(f"{who} {p:.2f}" for who, p in zip(POLICIES, published, strict=True)),
    )
    shares = ", ".join(f"{damage} {np.mean(values):.2f}" for damage, values in sorted(mended.items()))
    print(f"likeness by damage, `oracle`, difficulty 1: {shares}")


if __name__ == "__main__":
    main()
