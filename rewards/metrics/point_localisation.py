"""Localisation of counted objects."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from visenv.rewards.functional.matching import point_matches, precision_recall_f1
from visenv.rewards.metrics.base import SummedMetric, ratios
from visenv.types import FloatArray, Outcome, PointsTruth


class Matched(NamedTuple):
    """True positives, and how many could have been."""

    matched: int
    predicted: int
    true: int


class PointLocalisation(SummedMetric[Matched]):
    """Precision, recall and F1 of boxes against points, micro: over the objects of all samples together.

    Boxes and points of a sample are paired by the Hungarian method on the distances between box centres and points; a
    pair is right if it is no further apart than half the diagonal of the predicted box of median area.

    Keys: ``precision``, ``recall``, ``point_F1``, ``TP``, ``FP``, ``FN``, ``point_F1_n``, ``point_F1_failed``.
    ``values`` are the F1 of each sample alone, 1 where there is nothing to find and nothing was found.

    Source:
        REC-8K (Referring Expression Counting, CVPR 2024), with the rule of the evaluator released with VisHarness
        (arXiv 2605.29894).

    Example:
        >>> from visenv.types import Detections, Outcome, PointsTruth
        >>> metric = PointLocalisation()
        >>> metric.update(Outcome(Detections([[0, 0, 2, 2]]), "", "answer", 2), PointsTruth([[1, 2], [5, 5]]))
        >>> metric.compute()["precision"], metric.compute()["recall"]
        (1.0, 0.5)
    """

    name = "point_F1"
    higher_is_better = True
    bounds = (0.0, 1.0)
    truths = (PointsTruth,)
    counts = frozenset({"TP", "FP", "FN"})
    width = 3

    def _measure(self, outcome: Outcome, truth: PointsTruth) -> Matched:
        boxes = np.zeros((0, 4)) if outcome.detections is None else outcome.detections.boxes
        return Matched(len(point_matches(boxes, truth.points)), len(boxes), len(truth.points))

    def _tally(self, record: Matched) -> tuple[float, ...]:
        return record

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        matched, predicted, true = totals
        precision, recall = ratios(matched, predicted, 0.0), ratios(matched, true, 0.0)
        return {
            "precision": precision,
            "recall": recall,
            "point_F1": ratios(2.0 * precision * recall, precision + recall, 0.0),
            "TP": matched,
            "FP": predicted - matched,
            "FN": true - matched,
        }

    def _value(self, record: Matched) -> float:
        return precision_recall_f1(*record)[2] if record.predicted or record.true else 1.0
