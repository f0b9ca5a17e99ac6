"""Localisation of counted objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from visenv.rewards.functional.matching import point_matches, precision_recall_f1
from visenv.rewards.metrics.base import Metric
from visenv.types import Outcome, PointsTruth


class Matched(NamedTuple):
    """True positives, and how many could have been."""

    matched: int
    predicted: int
    true: int


class PointLocalisation(Metric[Matched]):
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

    def _measure(self, outcome: Outcome, truth: PointsTruth) -> Matched:
        boxes = np.zeros((0, 4)) if outcome.detections is None else outcome.detections.boxes
        return Matched(len(point_matches(boxes, truth.points)), len(boxes), len(truth.points))

    def _summarize(self, records: Sequence[Matched]) -> dict[str, float]:
        matched, predicted, true = (sum(record[field] for record in records) for field in range(3))
        precision, recall, f1 = precision_recall_f1(matched, predicted, true)
        return {
            "precision": precision,
            "recall": recall,
            "point_F1": f1,
            "TP": float(matched),
            "FP": float(predicted - matched),
            "FN": float(true - matched),
        }

    def _value(self, record: Matched) -> float:
        return precision_recall_f1(*record)[2] if record.predicted or record.true else 1.0
