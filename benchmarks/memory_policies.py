"""Compare memory policies in ``MultiImage-v0``: accuracy against visual tokens.

    python -m benchmarks.memory_policies --figure docs/images/memory-policies.svg
    python -m benchmarks.memory_policies --steps 0 --difficulty 2

With each of them an agent is trained, first to play as ``scripted`` does, then with PPO, and plays the same episodes of
``val`` as the policies that need no training. Two tables are printed as Markdown: what policies come to with each
memory, and how often they are right about each form of question. Each run is a folder under ``runs/memory``, as
``visenv train`` writes it; one that is complete is not repeated.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium as gym

from visenv.policies import Policy, make_policy
from visenv.seeding import episode_plans
from visenv.training import TrainConfig, TrainedPolicy, one_thread_each, train
from visenv.training.evaluation import SEED, SIDE_BY_SIDE, SPLIT, play
from visenv.vector import VisionToolVectorEnv

ROOT = Path(__file__).resolve().parent.parent
ENV_ID = "VisHarness/MultiImage-v0"
MEMORIES = ("latest", "last_k:3", "token_budget:300", "keep_all")
BASELINES = ("random", "scripted")
COLOURS = {"random": "#8a94a3", "scripted": "#0f8f9c", "trained": "#3a5ccc"}

IMITATED, DEMONSTRATIONS = "scripted", 8000
HYPERPARAMETERS = {"n_steps": 128, "n_epochs": 3, "ent_coef": 0.002}
"""Gentler than those that begin with nothing, so that what was imitated is not forgotten."""

Judged = Mapping[str, Mapping[str, Any]]
"""From the name of a policy to its figures."""


def carry_out(memory: str, parent: Path, *, steps: int, episodes: int, difficulty: int) -> Judged:
    """Train with a memory policy, unless that was done before, and let all policies play.

    Args:
        memory: the policy.
        parent: of the run's folder.
        steps: of PPO; with 0 there is no trained policy, and nothing is written.
        episodes: of the evaluation.
        difficulty: of the samples.
    """
    env = {"difficulty": difficulty, "memory": memory}
    players: dict[str, Callable[[], Policy]] = {who: lambda who=who: make_policy(who) for who in BASELINES}
    if steps:
        folder = parent / f"d{difficulty}-{memory.replace(':', '-')}"
        config = TrainConfig(
            ENV_ID,
            steps=steps,
            imitate=IMITATED,
            demonstrations=DEMONSTRATIONS,
            env=env,
            hyperparameters=HYPERPARAMETERS,
        )
        train(config, folder)
        players["trained"] = lambda: TrainedPolicy(folder)
    judged = {}
    settings = {"split": SPLIT, **TrainConfig(ENV_ID).env_keywords, **env}
    for who, make in players.items():
        with closing(gym.make_vec(ENV_ID, num_envs=SIDE_BY_SIDE, **settings)) as envs:
            assert isinstance(envs, VisionToolVectorEnv)
            figures, scores = play(envs, [make() for _ in range(SIDE_BY_SIDE)], episodes, "EM")
            dataset, right = envs.envs[0].dataset, defaultdict(list)
        for plan, score in zip(islice(episode_plans(dataset.size, SEED), episodes), scores["EM"], strict=True):
            right[dataset.get(plan.sample or 0).metadata["form"]].append(score)
        judged[who] = {**figures, "by_form": {form: fmean(values) for form, values in sorted(right.items())}}
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


def table_of_forms(results: Mapping[str, Judged]) -> str:
    """How often each policy is right with each memory, by form of question, as Markdown.

    Args:
        results: by memory policy.
    """
    forms = list(next(iter(next(iter(results.values())).values()))["by_form"])
    lines = [f"| memory | policy | {' | '.join(forms)} |", "|---" * (2 + len(forms)) + "|"]
    for memory, judged in results.items():
        for who, own in judged.items():
            cells = [f"{own['by_form'].get(form, 0):.2f}" for form in forms]
            lines.append(f"| `{memory}` | {who} | {' | '.join(cells)} |")
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
    parser.add_argument("--steps", type=int, default=8_192, help="of PPO, with each memory; 0 for no training")
    parser.add_argument("--episodes", type=int, default=300, help="of val, by which each policy is judged")
    parser.add_argument("--difficulty", type=int, default=0, help="of the samples, 0 to 3")
    given = parser.parse_args(arguments)
    one_thread_each()
    sizes = {"steps": given.steps, "episodes": given.episodes, "difficulty": given.difficulty}
    results = {memory: carry_out(memory, given.out, **sizes) for memory in MEMORIES}
    print(table(results))
    print(f"\n{table_of_forms(results)}")
    if given.figure is not None:
        draw(results, given.figure)


if __name__ == "__main__":
    main()
