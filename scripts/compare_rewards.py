"""Compare published rewards on the same recorded episodes, as a table and a plot.

    python scripts/compare_rewards.py RUN [RUN …] [--out docs/images/rewards.svg] [--no-replay]

A RUN is a folder that `visenv rollout` wrote. Runs of several policies with the same seed play the same samples, which
makes groups of them. The table is printed as Markdown; ρ is Spearman's rank correlation with the first reward over all
episodes, and over those in which there is something to find.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from visenv.cli.common import make_env, parse_tasks  # noqa: E402 - after the path, so that it is this checkout's
from visenv.errors import InvalidData, VisenvError  # noqa: E402
from visenv.evaluation.published import (  # noqa: E402
    REWARDS,
    Played,
    published_rewards,
    rank_correlations,
    read_played,
    replay,
)
from visenv.report.page import read_records  # noqa: E402
from visenv.types import FloatArray  # noqa: E402

SETTINGS = (
    "dataset", "split", "difficulty", "experts", "max_turns", "token_budget", "reward", "toolset", "memory",
)  # fmt: skip
"""What a run's environment was made with, besides its tasks."""
COLOURS = ("#0b62c4", "#d9730d", "#2e8b57", "#8e44ad", "#c0392b", "#7f8c8d")


@dataclass(frozen=True)
class Run:
    """A recorded run."""

    name: str
    episodes: list[Played]
    unread: int
    """Lines that could not be read."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the runs, print the table and draw the plot."""
    parser = argparse.ArgumentParser(description="Compare published rewards on recorded episodes.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a folder that `visenv rollout` wrote")
    parser.add_argument("--out", type=Path, help="where to draw the plot (.svg or .png)")
    parser.add_argument(
        "--no-replay", action="store_true", help="leave out the rewards that need the result after each turn"
    )
    given = parser.parse_args(arguments)
    try:
        runs = [read_run(folder, again=not given.no_replay) for folder in given.runs]
        names, rewards = scored(runs)
    except VisenvError as error:
        raise SystemExit(f"Error: {error}") from None
    everything = [terms for run in rewards for terms in run]
    print(table(runs, rewards, names))
    print()
    print(counts(runs, rewards))
    if given.out is not None:
        draw(runs, rewards, names, rank_correlations(everything, names), given.out)
        print(f"Plot: {given.out}")


def read_run(folder: Path, *, again: bool) -> Run:
    """A run's episodes, played again if that is wanted.

    Raises:
        InvalidData: if the folder holds no run.
    """
    source = folder / "trajectories.jsonl"
    try:
        settings = json.loads((folder / "summary.json").read_text("utf-8"))["settings"]
        records = list(read_records(source))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidData(f"Expected a folder that `visenv rollout` wrote, but {str(folder)!r} is none.") from error
    episodes = [read_played(record) for record in records if record is not None]
    if again and episodes:
        chosen: dict[str, Any] = {key: settings[key] for key in SETTINGS if settings.get(key) is not None}
        if chosen.get("dataset") == "mixed":
            del chosen["dataset"]  # What a mix of several is called, no name that can be asked for.
        if isinstance(settings.get("tasks"), str):
            chosen["tasks"] = parse_tasks(settings["tasks"])
        elif settings.get("tasks") is not None:
            chosen["tasks"] = settings["tasks"]
        env = make_env(settings["env_id"], **chosen, obs="features")
        episodes = [replay(played, env) for played in episodes]
    return Run(str(settings.get("policy", folder.name)), episodes, records.count(None))


def scored(runs: Sequence[Run]) -> tuple[list[str], list[list[dict[str, float]]]]:
    """The rewards that some episode has, and those of each run's episodes."""
    rewards = iter(published_rewards([played for run in runs for played in run.episodes]))
    parts = [[next(rewards) for _ in run.episodes] for run in runs]
    names = [name for name in REWARDS if any(name in terms for part in parts for terms in part)]
    if not names:
        raise InvalidData("Expected an episode that came to its end, but the runs hold none.")
    return names, parts


def table(runs: Sequence[Run], rewards: Sequence[Sequence[dict[str, float]]], names: Sequence[str]) -> str:
    """The mean of each reward in each run, and its rank correlations with the first reward, as Markdown."""
    everything = [terms for part in rewards for terms in part]
    episodes = [played for run in runs for played in run.episodes]
    targeted = [terms for played, terms in zip(episodes, everything, strict=True) if not played.truth.is_null]
    ranks, there = (rank_correlations(some, names)[0].tolist() for some in (everything, targeted))
    heads = ["reward", "most", *[run.name for run in runs], "episodes", "ρ", "ρ, something there"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for place, name in enumerate(names):
        means = [_number(mean(part, name)) for part in rewards]
        over = str(sum(name in terms for terms in everything))
        cells = [name, f"{REWARDS[name]:g}", *means, over, _number(ranks[place]), _number(there[place])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def counts(runs: Sequence[Run], rewards: Sequence[Sequence[dict[str, float]]]) -> str:
    """How many episodes there were, and how many have no reward."""
    episodes = sum(len(run.episodes) for run in runs)
    samples = len({played.sample_id for run in runs for played in run.episodes})
    without = sum(not terms for part in rewards for terms in part)
    unread = sum(run.unread for run in runs)
    return f"{episodes} episodes about {samples} samples; {without} ended as invalid, {unread} could not be read."


def mean(part: Sequence[dict[str, float]], name: str) -> float:
    """Of a reward over the episodes that have it; NaN if none has."""
    values = [terms[name] for terms in part if name in terms]
    return float(np.mean(values)) if values else float("nan")


def draw(
    runs: Sequence[Run],
    rewards: Sequence[Sequence[dict[str, float]]],
    names: Sequence[str],
    correlations: FloatArray,
    out: Path,
) -> None:
    """Two panels: what each reward pays each run, of the most it pays; and how alike the rewards rank episodes."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "visenv", "svg.fonttype": "none", "font.size": 9})
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11.5, 1.6 + 0.42 * len(names)), layout="constrained", width_ratios=(1, 1.05)
    )
    rows = np.arange(len(names))
    for place, (run, part) in enumerate(zip(runs, rewards, strict=True)):
        shares = [mean(part, name) / REWARDS[name] for name in names]
        left.plot(shares, rows, "o", color=COLOURS[place % len(COLOURS)], label=run.name, markersize=7, alpha=0.85)
    left.axvline(0, color="#999999", linewidth=0.8)
    left.set_yticks(rows, names)
    left.invert_yaxis()
    left.grid(axis="x", color="#dddddd", linewidth=0.7)
    left.set_axisbelow(True)
    left.spines[["top", "right"]].set_visible(False)
    left.set_xlabel("mean, as a share of the most that is paid")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=len(runs), frameon=False)
    right.imshow(correlations, cmap="RdBu", vmin=-1, vmax=1)
    right.set_xticks(rows, names, rotation=40, ha="right")
    right.set_yticks(rows, [])
    right.set_title("rank correlation over episodes", fontsize=9)
    for row, column in np.ndindex(correlations.shape):
        value = correlations[row, column]
        words = "–" if np.isnan(value) else f"{value:.2f}"
        right.text(column, row, words, ha="center", va="center", color="white" if abs(value) > 0.6 else "black")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    plt.close(figure)


def _number(value: float) -> str:
    # A zero has no sign, whatever was rounded.
    return "–" if np.isnan(value) else f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


if __name__ == "__main__":
    main()
