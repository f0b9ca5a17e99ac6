"""From the episodes that were written to the report: figures, intervals, ends and costs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from visenv.errors import InvalidData
from visenv.evaluation.locks import write_whole
from visenv.evaluation.records import Ended
from visenv.evaluation.store import Run
from visenv.registration import Entry
from visenv.report.evaluation import REPORT, write_evaluation_page
from visenv.rewards.metrics import Metric, update_all
from visenv.rewards.metrics.bootstrap import percentile_interval, resampling_weights
from visenv.wrappers.recording import TRAJECTORIES, plain_json

TIMING = "timing.json"


def score(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Score an evaluation from the outcomes that were written, and write its report; it may be scored again any time.

    The folder gets ``trajectories.jsonl`` (the episodes in order), ``report.json`` (all that is returned but the last
    two), ``timing.json`` and ``index.html``. The first two have the same bytes however often the run was stopped,
    whoever played it; what differs from run to run stands in ``timing.json`` alone.

    Args:
        folder: of the evaluation, complete or not.

    Returns:
        ``settings``; ``episodes``, how many there are, and how many ``finished``; ``headline``, the name of the first
        metric's figure, its ``value`` and ``interval``, and whether ``higher_is_better``; ``metrics``, flat, each
        headline beside ``…_n`` and ``…_failed``; ``intervals``, 95 %, bootstrapped over samples; ``tasks``, metrics and
        intervals for each task, where there are several; ``reward`` of the episodes that are not invalid; ``ends`` and
        ``problems``, how episodes ended and why they are invalid; ``cost``: ``turns``, ``calls`` by tool, ``faults`` by
        code, and ``visual_tokens`` a trajectory, with archiving and without; ``timing``: ``seconds`` a trajectory by
        part, ``trajectories_a_minute``, ``usage`` of an endpoint; ``page``.

    Raises:
        InvalidData: if there is no evaluation in the folder, no episode has ended, or a record cannot be read.
    """
    run = Run(folder)
    episodes = [Ended.read(line) for line in run.lines()]
    if not episodes:
        raise InvalidData(f"Expected an episode that has ended in {str(run.folder)!r}, but there is none yet.")
    report = figures(run, episodes)
    timing = times(episodes)
    write_whole(run.folder / TRAJECTORIES, "".join(plain_json(ended.record) + "\n" for ended in episodes))
    write_whole(run.folder / REPORT, plain_json(report, indent=2) + "\n")
    write_whole(run.folder / TIMING, plain_json(timing, indent=2) + "\n")
    page = write_evaluation_page(run.folder)
    return {**report, "timing": timing, "page": str(page)}


def figures(run: Run, episodes: list[Ended]) -> dict[str, Any]:
    """The part of a report that is the same however often a run was stopped."""
    tasks: dict[str, list[Ended]] = {}
    for ended in episodes:
        tasks.setdefault(ended.task, []).append(ended)
    metrics = measured(episodes)
    first = next(iter(metrics.values()), None)
    scores, intervals = summary(metrics.values())
    headline = None
    if first is not None:
        headline = {
            "name": first.name,
            "value": scores.get(first.name),
            "interval": intervals.get(first.name),
            "higher_is_better": first.higher_is_better,
        }
    by_task = {}
    for task, part in sorted(tasks.items()):
        own = summary(measured(part).values())
        by_task[task] = {"episodes": len(part), "metrics": own[0], "intervals": own[1], "reward": _rewards(part)}
    return {
        "settings": run.settings,
        "facts": run.facts,
        "episodes": run.episodes,
        "finished": len(episodes),
        "headline": headline,
        "metrics": scores,
        "intervals": intervals,
        **({"tasks": by_task} if len(tasks) > 1 else {}),
        "reward": _rewards(episodes),
        "ends": _counted(str(ended.record["termination"]) for ended in episodes),
        "problems": _counted(str(ended.record["invalid"]) for ended in episodes if ended.record["invalid"]),
        "cost": _costs(episodes),
    }


def measured(episodes: Iterable[Ended]) -> dict[str, Metric[Any]]:
    """The metrics over some episodes, by entry point; each over those that it is reported for."""
    metrics: dict[str, Metric[Any]] = {}
    for ended in episodes:
        for name in ended.metric_names:
            if name not in metrics:
                metrics[name] = Entry(name, name).load()()
        update_all([metrics[name] for name in ended.metric_names], ended.outcome, ended.truth)
    return metrics


def summary(metrics: Iterable[Metric[Any]]) -> tuple[dict[str, float], dict[str, list[float]]]:
    """The figures of some metrics that are defined, and their intervals."""
    scores: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    for metric in metrics:
        scores |= {name: value for name, value in metric.compute().items() if not np.isnan(value)}
        intervals |= {name: list(ends) for name, ends in metric.intervals().items()}
    return scores, intervals


def times(episodes: Iterable[Ended]) -> dict[str, Any]:
    """What a run took: the part of a report that differs from run to run."""
    spent = [ended.spent for ended in episodes if ended.spent]
    seconds: Counter[str] = Counter()
    usage: Counter[str] = Counter()
    for one in spent:
        seconds.update(one["seconds"])
        usage.update(one["usage"])
    busy = _covered([(float(one["begun"]), float(one["ended"])) for one in spent])
    return {
        "trajectories": len(spent),
        "seconds": {part: value / max(1, len(spent)) for part, value in seconds.items()},
        "busy_seconds": busy,
        "trajectories_a_minute": 60.0 * len(spent) / busy if busy else None,
        "processes": len({one["process"] for one in spent}),
        "usage": dict(usage),
    }


def _covered(spans: list[tuple[float, float]]) -> float:
    """Seconds in which at least one episode was under way: neither overlaps nor a night between two calls count."""
    total, reached = 0.0, float("-inf")
    for begun, ended in sorted(spans):
        total += max(0.0, ended - max(begun, reached))
        reached = max(reached, ended)
    return total


def _rewards(episodes: Iterable[Ended]) -> dict[str, Any]:
    """The mean reward of the episodes that count: those of a broken expert or endpoint say nothing about a policy."""
    values = np.array(
        [ended.record["reward"] for ended in episodes if ended.record["termination"] != "invalid"], dtype=np.float64
    )
    if not len(values):
        return {"mean": None, "std": None, "interval": None, "episodes": 0}
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "interval": mean_interval(values),
        "episodes": len(values),
    }


def mean_interval(values: Any) -> list[float] | None:
    """The bootstrap interval of a mean; None for less than two values."""
    if len(values) < 2:
        return None
    draws = np.concatenate([weights @ values for weights in resampling_weights(len(values))]) / len(values)
    ends = percentile_interval(draws)
    return None if ends is None else list(ends)


def _costs(episodes: list[Ended]) -> dict[str, Any]:
    calls: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    for ended in episodes:
        for turn in ended.record["turns"]:
            calls[turn["name"] or "malformed"] += 1
            if turn["error"] is not None:
                faults[turn["error"]["code"]] += 1
    read, saved = (_mean(episodes, f"visual_tokens_{name}") for name in ("read", "saved"))
    return {
        "turns": {"total": sum(calls.values()), "mean": sum(calls.values()) / len(episodes)},
        "calls": dict(sorted(calls.items())),
        "faults": dict(sorted(faults.items())),
        "visual_tokens": {"with_archiving": read, "without_archiving": read + saved},
    }


def _mean(episodes: list[Ended], name: str) -> float:
    return float(np.mean([_own(ended.record["metrics"], name) for ended in episodes]))


def _own(metrics: Mapping[str, Any], name: str) -> float:
    return float(metrics.get(name) or 0.0)


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))
