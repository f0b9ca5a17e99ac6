"""Compare memory policies in ``MultiImage-v0``: accuracy against visual tokens.

    python -m benchmarks.memory_policies --figure docs/images/memory-policies.svg
    python -m benchmarks.memory_policies --steps 0 --difficulty 2

With each of them an agent is trained with PPO, and plays the same episodes of ``val`` as the policies that need no
training. The table is printed as Markdown. Each run is a folder under ``runs/memory``, as ``visenv train`` writes it;
one that is complete is not repeated.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym

from visenv.policies import make_policy
from visenv.training import TrainConfig, evaluate, one_thread_each, train
from visenv.training.config import EVALUATION
from visenv.training.evaluation import SIDE_BY_SIDE, SPLIT, play
from visenv.vector import VisionToolVectorEnv

ROOT = Path(__file__).resolve().parent.parent
ENV_ID = "VisHarness/MultiImage-v0"
MEMORIES = ("latest", "last_k:3", "token_budget:300", "keep_all")
BASELINES = ("random", "scripted")
COLOURS = {"random": "#8a94a3", "scripted": "#0f8f9c", "trained": "#3a5ccc"}

Judged = Mapping[str, Mapping[str, Any]]
"""From the name of a policy to its figures."""


def carry_out(memory: str, parent: Path, *, steps: int, episodes: int, difficulty: int) -> Judged:
    """Train with a memory policy and play, or read what was done before.

    Args:
        memory: the policy.
        parent: of the run's folder.
        steps: of training; with 0 there is no trained policy, and nothing is written.
        episodes: of the evaluation.
        difficulty: of the samples.
    """
    folder = parent / f"d{difficulty}-{memory.replace(':', '-')}"
    done = folder / EVALUATION
    if steps == 0:
        return untrained(memory, episodes=episodes, difficulty=difficulty)
    if not done.is_file():
        env = {"difficulty": difficulty, "memory": memory}
        config = TrainConfig(ENV_ID, steps=steps, eval_episodes=episodes, env=env)
        train(config, folder)
        evaluate(folder, baselines=BASELINES, difficulties=(), shown=1)
    judged: Judged = json.loads(done.read_text(encoding="utf-8"))["policies"]
    return judged


def untrained(memory: str, *, episodes: int, difficulty: int) -> Judged:
    """Play with the policies that need no training.

    Args:
        memory: the policy.
        episodes: of the evaluation.
        difficulty: of the samples.
    """
    judged = {}
    settings = {"split": SPLIT, "difficulty": difficulty, "memory": memory, **TrainConfig(ENV_ID).env_keywords}
    for who in BASELINES:
        with closing(gym.make_vec(ENV_ID, num_envs=SIDE_BY_SIDE, **settings)) as envs:
            assert isinstance(envs, VisionToolVectorEnv)
            judged[who], _ = play(envs, [make_policy(who) for _ in range(SIDE_BY_SIDE)], episodes, "EM")
    return judged


def table(results: Mapping[str, Judged]) -> str:
    """Accuracy, visual tokens and turns of each policy with each memory, as Markdown.

    Args:
        results: by memory policy.
    """
    heads = ["memory", "policy", "EM", "95 %", "visual tokens read", "turns"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for memory, judged in results.items():
        for who, own in judged.items():
            low, high = own["interval"]
            cells = [f"`{memory}`", who, f"{own['metrics']['EM']:.2f}", f"{low:.2f} to {high:.2f}"]
            cells += [f"{own['tokens_read']:.0f}", f"{own['turns_mean']:.1f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(results: Mapping[str, Judged], path: Path) -> None:
    """Accuracy against visual tokens, a line a policy.

    Args:
        results: by memory policy.
        path: of the SVG file.
    """
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.hashsalt": "visenv", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.2), layout="constrained")
        marks = dict(zip(results, "osD^", strict=False))
        for who in next(iter(results.values())):
            points = sorted((judged[who]["tokens_read"], judged[who]["metrics"]["EM"]) for judged in results.values())
            axes.plot(*zip(*points, strict=True), color=COLOURS[who], linewidth=1, label=who)
            for memory, judged in results.items():
                at = judged[who]["tokens_read"], judged[who]["metrics"]["EM"]
                axes.plot(*at, marks[memory], color=COLOURS[who], markersize=5)
        for memory, mark in marks.items():
            axes.plot([], [], mark, color="0.4", markersize=5, label=memory)
        axes.set(xlabel="visual tokens read, an episode", ylabel="EM", ylim=(0, 1.05), xlim=(0, None))
        figure.legend(loc="outside right upper", frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        pyplot.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Carry out the runs, print the table and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "memory", help="folder of the runs")
    parser.add_argument("--figure", type=Path, help="where to draw the plot (.svg), if anywhere")
    parser.add_argument("--steps", type=int, default=16_384, help="of training, with each memory; 0 for none")
    parser.add_argument("--episodes", type=int, default=100, help="of val, by which each policy is judged")
    parser.add_argument("--difficulty", type=int, default=0, help="of the samples, 0 to 3")
    given = parser.parse_args(arguments)
    one_thread_each()
    sizes = {"steps": given.steps, "episodes": given.episodes, "difficulty": given.difficulty}
    results = {memory: carry_out(memory, given.out, **sizes) for memory in MEMORIES}
    print(table(results))
    if given.figure is not None:
        draw(results, given.figure)


if __name__ == "__main__":
    main()
