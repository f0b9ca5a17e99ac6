"""Does an agent learn here? ``python -m benchmarks.learning`` trains a dozen of them and writes docs/learning.md.

Each run is a folder under ``runs/learning``, as ``visenv train`` writes it; one that is complete is not repeated, one
that was stopped goes on. ``--quick`` trains for a few steps only, to try the program itself; it writes no page.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from benchmarks._machine import describe
from visenv.registration import rewards
from visenv.training import TrainConfig, evaluate, one_thread_each, train
from visenv.training.config import EVALUATION, HYPERPARAMETERS
from visenv.training.evaluation import BASELINES, gap_closed
from visenv.training.learning import CURVE
from visenv.types import Outcome, Truth, Turn

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "learning.md"
FIGURE = ROOT / "docs" / "images" / "learning.svg"
ENV_ID = "VisHarness/ReasonSeg-v0"
STEPS = 40_960
FEWER_STEPS = 20_480
"""Of the ablations."""
FEWER_EPISODES = 200


class FaultsOnly:
    """The reward without its task: all that is left is what a faulty turn costs, as published for turns.

    Source:
        VisHarness, arXiv 2605.29894: 0.2 for a turn of bad format or with bad arguments.
    """

    bounds: ClassVar[tuple[float, float]] = (float("-inf"), 0.0)

    def turn(self, turn: Turn) -> dict[str, float]:
        return {"fault": -0.2 if turn.error is not None else 0.0}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        return {}


@dataclass(frozen=True)
class Run:
    """One agent."""

    name: str
    seed: int = 0
    steps: int = FEWER_STEPS
    algo: str = "ppo"
    env: Mapping[str, Any] = field(default_factory=dict)
    baselines: Sequence[str] = ("scripted",)
    episodes: int = FEWER_EPISODES
    difficulties: Sequence[int] = ()
    start: Run | None = None
    """Whose policy it begins with."""

    @property
    def folder(self) -> str:
        return self.name.replace(",", "").replace(" ", "-")

    def config(self, parent: Path) -> TrainConfig:
        env = {"difficulty": 1, "experts": "classical", "expert_workers": os.cpu_count() or 1, **self.env}
        start = None if self.start is None else str(parent / self.start.folder)
        return TrainConfig(ENV_ID, self.algo, self.steps, self.seed, 16, self.episodes, start, env=env)


SEEDS = [
    Run(f"seed {seed}", seed, STEPS, baselines=BASELINES, episodes=500, difficulties=(0, 1, 2, 3)) for seed in range(3)
]
COSTS = [Run(f"step cost {cost}", env={"reward": f"visharness:step_cost={cost}"}) for cost in (0.02, 0.2)]
WHOLE = Run("nothing left out")
NO_TASK = Run("no task reward", env={"reward": "faults-only"})
TURNS = [Run(f"{turns} turns", env={"max_turns": turns}) for turns in (2, 4, 8, 12)]
KEEP_ALL = Run("no archiving", env={"memory": "keep_all"})
MASKED = Run("masked", algo="maskable_ppo")
HARD = Run(
    "difficulty 3, step cost 0.5",
    steps=STEPS,
    env={"difficulty": 3, "reward": "visharness:step_cost=0.5"},
    episodes=500,
    start=SEEDS[0],
)
ALL = [*SEEDS, WHOLE, *COSTS, NO_TASK, *TURNS, KEEP_ALL, MASKED, HARD]


@dataclass(frozen=True)
class Result:
    """What became of a run."""

    curve: list[dict[str, Any]]
    policies: dict[str, dict[str, Any]]
    by_difficulty: dict[str, dict[str, Any]]
    differences: dict[str, dict[str, Any]]

    @property
    def minutes(self) -> float:
        """Of training, without the evaluation."""
        return float(self.curve[-1]["seconds"]) / 60

    def figure(self, who: str = "trained") -> float:
        """The gIoU of a policy."""
        return float(self.policies[who]["metrics"]["gIoU"])


def carry_out(run: Run, parent: Path) -> Result:
    """Train and evaluate, or read what was done before."""
    folder = parent / run.folder
    config = run.config(parent)
    done = folder / EVALUATION
    if not done.is_file():
        train(config, folder, progress=lambda steps, line: _say(run, line))
        shown = 8 if run in SEEDS else 1
        evaluate(folder, baselines=run.baselines, difficulties=run.difficulties, shown=shown)
    report = json.loads(done.read_text(encoding="utf-8"))
    curve = [json.loads(line) for line in (folder / CURVE).read_text(encoding="utf-8").splitlines()]
    return Result(curve, report["policies"], report["by_difficulty"], report["differences"])


def _say(run: Run, line: Mapping[str, Any] | None) -> None:
    if line is not None and line["reward"] is not None:
        figure = line["metrics"]["gIoU"]
        print(f"{run.name}: {line['steps']} steps, {line['seconds']:.0f} s, gIoU {figure:.3f}", flush=True)


# --- the page -----------------------------------------------------------------------------------------------------

HEAD = """# Does an agent learn here?

Yes: PPO from Stable-Baselines3, which sees only the numbers of `obs="features"` and knows no language, learns to call
the right tools in the right order. This page is written by `python -m benchmarks.learning`; every figure on it comes
from there, and `visenv train VisHarness/ReasonSeg-v0` repeats one row of it.

Measured on {machine}
"""

MAIN = """
## Three seeds

{steps} steps of `VisHarness/ReasonSeg-v0` at difficulty 1, `classical` experts in {workers} processes, evaluated on the
same 500 scenes of `val`, none of which is trained on. In brackets the 95 % interval of the mean over scenes. The gap is
the one between the random and the scripted policy.

| | minutes of training | gIoU | gap closed | reward | turns | faulty turns |
|---|---|---|---|---|---|---|
{rows}

![gIoU of the three seeds against steps]({figure})

*gIoU of the episodes that ended in each rollout, actions drawn by their probabilities; lines: the policies that need no
training.*

## What the first seed does on other difficulties

Trained at difficulty 1 alone.

| difficulty | 0 | 1 | 2 | 3 |
|---|---|---|---|---|
| gIoU | {transfer} |
"""

BEYOND = """
## Where the scripted rules are not the best

The scripted policy cuts a picture up wherever nothing or something tiny was found, whatever a turn costs; and it asks
for points even where no turn is left to make masks of them. The last row begins with the policy of the first seed,
which was trained without a cost.

| | scenes | reward, scripted | trained | difference | gIoU, scripted | trained | turns, scripted | trained |
|---|---|---|---|---|---|---|---|---|
{rows}

In brackets the 95 % interval of the mean difference in reward on the same scene, bootstrapped over scenes.
"""

ABLATIONS = """
## Ablations

One seed each, {steps} steps, {episodes} scenes of `val`. Half as long as the runs above, these end while gIoU still
rises, where seeds differ by a tenth or two: only large differences mean something.

| | gIoU | reward | turns | faulty turns | gIoU, scripted |
|---|---|---|---|---|---|
{rows}

- *No task reward*: a faulty turn costs 0.2, nothing else pays.
- *2 turns* are enough for PhraseToBoxMask and MergeBoxMask, and too few for a point to become a box.
- *No archiving* changes what an agent reads, not what it can do: {tokens}.

## How

Hyperparameters: {hyperparameters}.

16 environments; `visenv.adapters.sb3.Features` (words and their places embedded, memory slots and detections pooled),
64 hidden units for the policy and 64 for the value. The reward is the published one, 8 · IoU − 3 at the end of an
episode, without a step cost where none is named. The trained policy takes its likeliest action.
"""


def write_page(results: Mapping[str, Result]) -> None:
    """Write docs/learning.md and its figure."""
    first = results[SEEDS[0].name]
    rows = []
    for run in SEEDS:
        result = results[run.name]
        own, closed = result.policies["trained"], gap_closed(result.policies, "gIoU")
        rows.append(_main_row(f"PPO, {run.name}", own, f"{result.minutes:.1f}", f"{closed:.0%}"))
    for who in reversed(BASELINES):
        rows.append(_main_row(who, first.policies[who], "–", "–"))
    text = HEAD.format(machine=describe("torch", "stable-baselines3"))
    levels = {"1": first.policies["trained"], **first.by_difficulty}
    text += MAIN.format(
        steps=f"{STEPS:,}",
        workers=SEEDS[0].config(ROOT).env["expert_workers"],
        rows="\n".join(rows),
        figure=FIGURE.relative_to(PAGE.parent).as_posix(),
        transfer=" | ".join(f"{levels[level]['metrics']['gIoU']:.3f}" for level in sorted(levels)),
    )
    beyond = []
    for run in (*COSTS, TURNS[0], HARD):
        scripted, trained = (results[run.name].policies[who] for who in ("scripted", "trained"))
        figures = [str(trained["episodes"]), *(f"{each['reward_mean']:+.2f}" for each in (scripted, trained))]
        apart = results[run.name].differences["scripted"]["reward"]
        low, high = apart["interval"]
        figures += [f"{apart['mean']:+.2f} ({low:+.2f} to {high:+.2f})"]
        figures += [f"{each['metrics']['gIoU']:.3f}" for each in (scripted, trained)]
        figures += [f"{each['turns_mean']:.1f}" for each in (scripted, trained)]
        beyond.append(f"| {run.name} | {' | '.join(figures)} |")
    text += BEYOND.format(rows="\n".join(beyond))
    ablations = []
    for run in (WHOLE, *COSTS, NO_TASK, *TURNS, KEEP_ALL, MASKED):
        result = results[run.name]
        ablations.append(_ablation_row(run.name, result))
    kept, archived = (results[run.name].policies["scripted"]["tokens_read"] for run in (KEEP_ALL, COSTS[0]))
    text += ABLATIONS.format(
        steps=f"{FEWER_STEPS:,}",
        episodes=FEWER_EPISODES,
        rows="\n".join(ablations),
        tokens=f"the scripted policy, taking the same turns, reads {kept:.0f} visual tokens an episode instead of "
        f"{archived:.0f}",
        hyperparameters=", ".join(f"`{name}` {value}" for name, value in HYPERPARAMETERS.items()),
    )
    PAGE.write_text(text, encoding="utf-8")
    draw(results)


def _main_row(name: str, figures: Mapping[str, Any], minutes: str, closed: str) -> str:
    low, high = figures["interval"]
    return (
        f"| {name} | {minutes} | {figures['metrics']['gIoU']:.3f} ({low:.3f}–{high:.3f}) | {closed} "
        f"| {figures['reward_mean']:+.2f} | {figures['turns_mean']:.1f} | {figures['errors']:.0%} |"
    )


def _ablation_row(name: str, result: Result) -> str:
    own = result.policies["trained"]
    return (
        f"| {name} | {result.figure():.3f} | {own['reward_mean']:+.2f} | {own['turns_mean']:.1f} | {own['errors']:.0%} "
        f"| {result.figure('scripted'):.3f} |"
    )


def draw(results: Mapping[str, Result]) -> None:
    """Draw the learning curves of the seeds."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    with pyplot.rc_context({"svg.hashsalt": "visenv", "font.size": 9}):
        figure, axes = pyplot.subplots(figsize=(6.4, 3.2), layout="constrained")
        for run in SEEDS:
            curve = [line for line in results[run.name].curve if "gIoU" in line["metrics"]]
            axes.plot([line["steps"] for line in curve], [line["metrics"]["gIoU"] for line in curve], label=run.name)
        for who, style in zip(BASELINES, (":", "--", "-."), strict=True):
            axes.axhline(results[SEEDS[0].name].figure(who), color="0.5", linestyle=style, linewidth=1, label=who)
        axes.set(xlabel="steps", ylabel="gIoU", ylim=(0, 1))
        axes.legend(loc="lower right", ncols=2, frameon=False)
        figure.savefig(FIGURE, metadata={"Date": None})
        pyplot.close(figure)


def main() -> None:
    """Carry out the runs, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "learning", help="folder of the runs")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these runs alone, and no page")
    parser.add_argument("--quick", action="store_true", help="a few steps of each, and no page")
    arguments = parser.parse_args()
    one_thread_each()
    rewards.register("faults-only", "benchmarks.learning:FaultsOnly", summary="what faulty turns cost, and no task")
    results = {}
    for run in ALL:
        if arguments.only and run.name not in arguments.only:
            continue
        chosen = replace(run, steps=256, episodes=4, difficulties=()) if arguments.quick else run
        results[run.name] = carry_out(chosen, arguments.out)
    if not arguments.quick and not arguments.only:
        write_page(results)


if __name__ == "__main__":
    main()
