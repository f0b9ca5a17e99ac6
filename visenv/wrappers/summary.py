"""Figures over the episodes of a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visenv.env import VisionToolEnv
from visenv.records import costs, tool_of
from visenv.registration import Entry
from visenv.rewards.metrics.base import update_all

_TOTALS = ("turns", "tool_calls", "errors", "visual_tokens_shown", "visual_tokens_read", "visual_tokens_saved")


@dataclass
class _Scores:
    """What the episodes of one task came to."""

    metrics: dict[str, Any] = field(default_factory=dict)
    """From entry points to metrics."""
    rewards: list[float] = field(default_factory=list)


class RunSummary:
    """Adds up finished episodes: their benchmark's metrics, how they ended, and what they cost."""

    def __init__(self) -> None:
        self.episodes = 0
        self._tasks: dict[str, _Scores] = {}
        self._totals = dict.fromkeys(_TOTALS, 0.0)
        self._terminations: Counter[str] = Counter()
        self._tools: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._problems: Counter[str] = Counter()

    def add(self, env: VisionToolEnv, reward: float) -> None:
        """Add the episode that has ended in an environment.

        Args:
            env: the environment.
            reward: the sum of the episode's rewards.
        """
        episode = env.episode
        self.episodes += 1
        scores = self._tasks.setdefault(env.task, _Scores())
        scores.rewards.append(reward)
        for name in env.episode_metrics:
            if name not in scores.metrics:
                scores.metrics[name] = Entry(name, name).load()()
        update_all([scores.metrics[name] for name in env.episode_metrics], episode.outcome, episode.truth)
        self._terminations[str(episode.outcome.termination)] += 1
        if episode.problem is not None:
            self._problems[episode.problem] += 1
        for key, value in costs(episode).items():
            self._totals[key] += value
        for turn in episode.transcript:
            self._tools[tool_of(turn.action) or "malformed"] += 1
            if turn.error is not None:
                self._faults[turn.error.code] += 1

    def merge(self, other: RunSummary) -> None:
        """Add the episodes of another summary, as if they had ended here next."""
        self.episodes += other.episodes
        for task, theirs in other._tasks.items():
            scores = self._tasks.setdefault(task, _Scores())
            scores.rewards += theirs.rewards
            for name, metric in theirs.metrics.items():
                if name not in scores.metrics:
                    scores.metrics[name] = Entry(name, name).load()()
                scores.metrics[name].merge(metric)
        for key, value in other._totals.items():
            self._totals[key] += value
        self._terminations += other._terminations
        self._tools += other._tools
        self._faults += other._faults
        self._problems += other._problems

    def figures(self) -> dict[str, Any]:
        """The figures so far, as JSON values.

        Returns:
            ``episodes``; ``metrics``, each headline beside ``…_n``, over how many samples, and ``…_failed``, how many
            of them had no proper end; ``intervals``, the 95 % bootstrap interval of each of them, from the second
            episode on; ``reward_mean`` and ``reward_std``; ``tasks``, all of these for each task, where
            there were several; ``terminations``, ``tools`` and ``faults``, by name; ``totals`` of turns, calls, errors
            and visual tokens. A metric is over the episodes of those tasks alone that it is reported for.
        """
        by_task = {"tasks": {task: _figures([scores]) for task, scores in self._tasks.items()}}
        return {
            **_figures(self._tasks.values()),
            **(by_task if len(self._tasks) > 1 else {}),
            "terminations": dict(sorted(self._terminations.items())),
            "tools": dict(sorted(self._tools.items())),
            "faults": dict(sorted(self._faults.items())),
            **({"problems": dict(sorted(self._problems.items()))} if self._problems else {}),
            "totals": {key: int(value) for key, value in self._totals.items()},
        }


def _figures(tasks: Iterable[_Scores]) -> dict[str, Any]:
    """The figures over the episodes of some tasks together."""
    merged: dict[str, Any] = {}
    rewards: list[float] = []
    for scores in tasks:
        rewards += scores.rewards
        for name, metric in scores.metrics.items():
            if name not in merged:
                merged[name] = Entry(name, name).load()()
            merged[name].merge(metric)
    metrics: dict[str, float] = {}
    intervals: dict[str, list[float]] = {}
    for metric in merged.values():
        metrics |= metric.compute()
        intervals |= {name: list(ends) for name, ends in metric.intervals().items()}
    return {
        "episodes": len(rewards),
        "metrics": {name: value for name, value in metrics.items() if not math.isnan(value)},
        "intervals": intervals,
        "reward_mean": float(np.mean(rewards)) if rewards else None,
        "reward_std": float(np.std(rewards)) if rewards else None,
    }
