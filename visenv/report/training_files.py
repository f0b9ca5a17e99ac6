"""What a training run left in its folder, read without trust: what is missing or broken becomes None or is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visenv.errors import InvalidData

CONFIG = "config.json"
CURVE = "curve.jsonl"
EVALUATION = "evaluation.json"
LARGEST = 1e12
"""A figure beyond this is taken for a mistake: no plot could show it beside others."""
MOST_TURNS = 200
"""Turns of an episode beyond this are not shown."""


@dataclass(frozen=True)
class Point:
    """One rollout of a training run."""

    steps: float
    """Taken by its end, by all environments together."""
    seconds: float | None
    reward: float | None
    metrics: Mapping[str, float]
    calls: Mapping[str, float]
    """The share of each tool among the turns."""
    errors: float | None
    """The share of faulty turns."""


@dataclass(frozen=True)
class Result:
    """What a policy came to in an evaluation."""

    episodes: int
    metrics: Mapping[str, float]
    interval: tuple[float, float] | None
    """Of the headline, 95 %."""
    reward_mean: float | None
    reward_std: float | None
    turns_mean: float | None
    errors: float | None
    calls_by_turn: tuple[Mapping[str, float], ...]

    @property
    def calls(self) -> dict[str, float]:
        """How often each tool was called, over all turns."""
        total: dict[str, float] = {}
        for turn in self.calls_by_turn:
            for name, count in turn.items():
                total[name] = total.get(name, 0.0) + count
        return total


@dataclass(frozen=True)
class Evaluation:
    """The trained policy beside others."""

    split: str
    headline: str
    higher_is_better: bool
    policies: Mapping[str, Result]
    by_difficulty: Mapping[str, Result]
    gap_closed: float | None


@dataclass(frozen=True)
class TrainingRun:
    """A training run, as far as it got."""

    folder: Path
    settings: Mapping[str, Any]
    curve: tuple[Point, ...] = ()
    """In the order of the steps."""
    broken: int = 0
    """Lines of the curve that could not be read."""
    evaluation: Evaluation | None = None
    """None where the run was stopped before it."""

    @classmethod
    def load(cls, folder: Path) -> TrainingRun:
        """Read a run's folder.

        Args:
            folder: with ``config.json``.

        Raises:
            InvalidData: if there is no training run in the folder.
        """
        if not (folder / CONFIG).is_file():
            raise InvalidData(f"Expected a training run's folder with {CONFIG}, but there is none in {str(folder)!r}.")
        curve, broken = _curve(folder / CURVE)
        return cls(
            folder, mapping(read_json(folder / CONFIG)), curve, broken, _evaluation(read_json(folder / EVALUATION))
        )


def figure(value: object) -> float | None:
    """A value as a number that can be shown; None if it is none.

    Example:
        >>> figure(3), figure("3"), figure(float("nan")), figure(True)
        (3.0, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) <= LARGEST else None


def read_json(path: Path) -> Any:
    """The content of a file of JSON; None if there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError, RecursionError):
        return None


def _curve(path: Path) -> tuple[tuple[Point, ...], int]:
    """The points of a curve, of two with as many steps the later one, and the number of lines that hold none."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return (), 0
    points: dict[float, Point] = {}
    broken = 0
    for line in filter(str.strip, lines):
        try:
            point = _point(mapping(json.loads(line)))
        except (ValueError, RecursionError):
            point = None
        if point is None:
            broken += 1
        else:
            points[point.steps] = point
    return tuple(points[steps] for steps in sorted(points)), broken


def _point(values: Mapping[str, Any]) -> Point | None:
    steps = figure(values.get("steps"))
    if steps is None or steps < 0:
        return None
    return Point(
        steps,
        figure(values.get("seconds")),
        figure(values.get("reward")),
        _figures(values.get("metrics")),
        _amounts(values.get("calls")),
        figure(values.get("errors")),
    )


def _evaluation(content: object) -> Evaluation | None:
    values = mapping(content)
    policies = {name: _result(mapping(each)) for name, each in mapping(values.get("policies")).items()}
    if not policies:
        return None
    by_difficulty = {name: _result(mapping(each)) for name, each in mapping(values.get("by_difficulty")).items()}
    return Evaluation(
        str(values.get("split", "val")),
        str(values.get("headline", "reward")),
        values.get("higher_is_better") is not False,
        policies,
        dict(sorted(by_difficulty.items())),
        figure(values.get("gap_closed")),
    )


def _result(values: Mapping[str, Any]) -> Result:
    ends = values.get("interval")
    low, high = (figure(end) for end in ends) if isinstance(ends, list) and len(ends) == 2 else (None, None)
    turns = values.get("calls_by_turn")
    return Result(
        int(figure(values.get("episodes")) or 0),
        _figures(values.get("metrics")),
        None if low is None or high is None or low > high else (low, high),
        figure(values.get("reward_mean")),
        figure(values.get("reward_std")),
        figure(values.get("turns_mean")),
        figure(values.get("errors")),
        tuple(_amounts(turn) for turn in turns[:MOST_TURNS]) if isinstance(turns, list) else (),
    )


def mapping(value: object) -> Mapping[str, Any]:
    """A value if it is an object of JSON, else an empty one."""
    return value if isinstance(value, dict) else {}


def _figures(value: object) -> dict[str, float]:
    figures = {name: figure(each) for name, each in mapping(value).items()}
    return {name: each for name, each in figures.items() if each is not None}


def _amounts(value: object) -> dict[str, float]:
    return {name: amount for name, amount in _figures(value).items() if amount > 0}
