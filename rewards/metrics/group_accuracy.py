"""Accuracy of answers by what the questions count for: by sub-task, and by pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from visenv.rewards.functional.text import exact_match
from visenv.rewards.metrics.base import Metric
from visenv.rewards.metrics.bootstrap import SEED, resampling_weights
from visenv.types import AnswerTruth, FloatArray, Outcome


class Grouped(NamedTuple):
    """Whether one answer is right, and what it counts for."""

    group: str
    right: float


class _ByGroup(Metric[Grouped]):
    """What both metrics share."""

    higher_is_better = True
    bounds = (0.0, 1.0)
    truths = (AnswerTruth,)

    def _measure(self, outcome: Outcome, truth: AnswerTruth) -> Grouped:
        return Grouped(truth.group or "", exact_match(outcome.answer, truth.accepted))

    def _value(self, record: Grouped) -> float:
        return record.right

    def _groups(self) -> list[str]:
        return sorted({record.group for record in self._records})


class SubTaskAccuracy(_ByGroup):
    """The share of right answers in each sub-task, and the mean of these shares, as BLINK is reported.

    No answer scores 0. The mean weighs sub-tasks alike, however many questions they have.

    Keys: ``subtask_acc``, and for each sub-task ``subtask_acc/NAME``. ``values`` are 1 for a right answer, else 0.

    Source:
        BLINK, arXiv 2404.12390, table 1.

    Example:
        >>> from visenv.types import AnswerTruth, Outcome
        >>> metric = SubTaskAccuracy()
        >>> for answer, right, task in (("A", "A", "Jigsaw"), ("A", "B", "Jigsaw"), ("(B)", "B", "Counting")):
        ...     metric.update(Outcome(None, answer, "answer", 1), AnswerTruth((right,), group=task))
        >>> metric.compute()["subtask_acc"], metric.compute()["subtask_acc/Jigsaw"]
        (0.75, 0.5)
    """

    name = "subtask_acc"

    def _summarize(self, records: Sequence[Grouped]) -> dict[str, float]:
        figures = {}
        for group in self._groups():
            right = [record.right for record in records if record.group == group]
            figures[group] = float(np.mean(right)) if right else float("nan")
        known = [value for value in figures.values() if not np.isnan(value)]
        return {
            "subtask_acc": float(np.mean(known)) if known else float("nan"),
            **{f"subtask_acc/{group}": value for group, value in figures.items() if group},
        }

    def _covering(self) -> tuple[str, ...]:
        return ("subtask_acc", *(f"subtask_acc/{group}" for group in self._groups() if group))

    def _covers(self, figure: str, record: Grouped) -> bool:
        return figure == "subtask_acc" or figure == f"subtask_acc/{record.group}"

    def _weighted(self, weights: FloatArray) -> dict[str, FloatArray]:
        right = np.array([record.right for record in self._records])
        figures = {}
        for group in self._groups():
            here = np.array([record.group == group for record in self._records])
            drawn = weights[:, here].sum(axis=1)
            hits = weights[:, here] @ right[here]
            figures[group] = np.divide(hits, drawn, out=np.full(len(weights), np.nan), where=drawn > 0)
        stacked = np.stack(list(figures.values()))
        known = ~np.isnan(stacked)
        mean = np.where(known, stacked, 0.0).sum(axis=0) / known.sum(axis=0)
        return {"subtask_acc": mean, **{f"subtask_acc/{group}": value for group, value in figures.items() if group}}


class PairAccuracy(_ByGroup):
    """The share of pairs of which every answer is right, as MMVP is reported.

    No answer scores 0. A pair of which one question alone was asked is judged by that one, and counted in
    ``pair_incomplete``: figures of whole pairs are those where that is 0. A question that belongs to no pair is a pair
    of its own. Intervals draw pairs, not questions.

    Keys: ``pair_acc``, ``pair_count``, ``pair_incomplete``. ``values`` are 1 for a right answer, else 0.

    Source:
        MMVP, arXiv 2401.06209, section 2.3.

    Example:
        >>> from visenv.types import AnswerTruth, Outcome
        >>> metric = PairAccuracy()
        >>> for answer, right, pair in (("A", "A", "1"), ("A", "B", "1"), ("A", "A", "2"), ("B", "B", "2")):
        ...     metric.update(Outcome(None, answer, "answer", 1), AnswerTruth((right,), group=pair))
        >>> metric.compute()["pair_acc"], metric.compute()["pair_count"]
        (0.5, 2.0)
    """

    name = "pair_acc"
    counts = frozenset({"pair_count", "pair_incomplete"})

    def _summarize(self, records: Sequence[Grouped]) -> dict[str, float]:
        pairs = _pairs(records)
        right = [min(pair) for pair in pairs]
        return {
            "pair_acc": float(np.mean(right)) if right else float("nan"),
            "pair_count": float(len(pairs)),
            "pair_incomplete": float(sum(len(pair) < 2 for pair in pairs)),
        }

    def resampled(self, resamples: int | None = None, seed: int = SEED) -> dict[str, FloatArray]:
        """Return the figures of resampled data sets, (R,) each: pairs are drawn, so that none is torn apart."""
        right = np.array([min(pair) for pair in _pairs(self._records)])
        count = self.resamples if resamples is None else resamples
        parts = [weights @ right / len(right) for weights in resampling_weights(len(right), count, seed)]
        return {"pair_acc": np.concatenate(parts)}


def _pairs(records: Sequence[Grouped]) -> list[list[float]]:
    """Right or wrong, pair by pair, in order of their first question."""
    pairs: dict[str, list[float]] = {}
    for place, record in enumerate(records):
        pairs.setdefault(record.group or f"#{place}", []).append(record.right)
    return list(pairs.values())
