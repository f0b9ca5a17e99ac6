"""Errors of counts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visenv.rewards.metrics.base import SummedMetric, ratios
from visenv.types import BoxesTruth, FloatArray, Outcome, PointsTruth


class Counts(NamedTuple):
    """The two counts of a sample."""

    predicted: int
    true: int


class CountError(SummedMetric[Counts]):
    """How far counts are off: MAE, RMSE and NAE, over the boxes of the final result.

    No result is a count of 0. With e = predicted - true: MAE is the mean of |e|, RMSE the root of the mean of e², NAE
    the mean of |e| / true over the samples on which there is something to count.

    Keys: ``MAE``, ``RMSE``, ``NAE``, and ``_n`` and ``_failed`` of MAE (RMSE covers the same) and NAE. ``values`` are
    the |e|.

    Source:
        REC-8K (Referring Expression Counting, CVPR 2024) and FSC-147 (arXiv 2104.08391); NAE as in NWPU-Crowd (arXiv
        2001.03360).

    Example:
        >>> from visenv.types import Detections, Outcome, PointsTruth
        >>> metric = CountError()
        >>> metric.update(Outcome(Detections([[0, 0, 2, 2]]), "", "answer", 2), PointsTruth([[1, 1], [5, 5]]))
        >>> metric.compute()["MAE"], metric.compute()["NAE"]
        (1.0, 0.5)
    """

    name = "MAE"
    higher_is_better = False
    bounds = (0.0, float("inf"))
    truths = (PointsTruth, BoxesTruth)
    width = 5

    def _measure(self, outcome: Outcome, truth: PointsTruth | BoxesTruth) -> Counts:
        true = len(truth.points) if isinstance(truth, PointsTruth) else len(truth.boxes)
        return Counts(0 if outcome.detections is None else len(outcome.detections), true)

    def _tally(self, record: Counts) -> tuple[float, ...]:
        error = abs(record.predicted - record.true)
        return 1, error, error**2, record.true > 0, error / record.true if record.true else 0

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        samples, errors, squares, countable, relative = totals
        return {
            "MAE": ratios(errors, samples),
            "RMSE": np.sqrt(ratios(squares, samples)),
            "NAE": ratios(relative, countable),
        }

    def _covering(self) -> tuple[str, ...]:
        return "MAE", "NAE"

    def _covers(self, figure: str, record: Counts) -> bool:
        return figure == "MAE" or record.true > 0

    def _value(self, record: Counts) -> float:
        return float(abs(record.predicted - record.true))
