"""Figures over the episodes of a run."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np

from visenv.env import VisionToolEnv
from visenv.records import costs, tool_of
from visenv.registration import Entry

_TOTALS = ("turns", "tool_calls", "errors", "visual_tokens_shown", "visual_tokens_read", "visual_tokens_saved")


class RunSummary:
    """Adds up finished episodes: their benchmark's metrics, how they ended, and what they cost."""

    def __init__(self) -> None:
        self.episodes = 0
        self._metrics: dict[str, Any] = {}
        self._rewards: list[float] = []
        self._totals = dict.fromkeys(_TOTALS, 0.0)
        self._terminations: Counter[str] = Counter()
        self._tools: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()

    def add(self, env: VisionToolEnv, reward: float) -> None:
        """Add the episode that has ended in an environment.

        Args:
            env: the environment.
            reward: the sum of the episode's rewards.
        """
        episode = env.episode
        self.episodes += 1
        self._rewards.append(reward)
        for name in env.metric_names:
            if name not in self._metrics:
                self._metrics[name] = Entry(name, name).load()()
            self._metrics[name].update(episode.outcome, episode.truth)
        self._terminations[str(episode.outcome.termination)] += 1
        for key, value in costs(episode).items():
            self._totals[key] += value
        for turn in episode.transcript:
            self._tools[tool_of(turn.action) or "malformed"] += 1
            if turn.error is not None:
                self._faults[turn.error.code] += 1

    def figures(self) -> dict[str, Any]:
        """The figures so far, as JSON values.

        Returns:
            ``episodes``; ``metrics``, each headline beside ``…_n``, over how many samples, and ``…_failed``, how many
            of them had no proper end; ``reward_mean`` and ``reward_std``; ``terminations``, ``tools`` and ``faults``,
            by name; ``totals`` of turns, calls, errors and visual tokens.
        """
        metrics: dict[str, float] = {}
        for metric in self._metrics.values():
            metrics |= metric.compute()
        return {
            "episodes": self.episodes,
            "metrics": {name: value for name, value in metrics.items() if not math.isnan(value)},
            "reward_mean": float(np.mean(self._rewards)) if self._rewards else None,
            "reward_std": float(np.std(self._rewards)) if self._rewards else None,
            "terminations": dict(sorted(self._terminations.items())),
            "tools": dict(sorted(self._tools.items())),
            "faults": dict(sorted(self._faults.items())),
            "totals": {key: int(value) for key, value in self._totals.items()},
        }
