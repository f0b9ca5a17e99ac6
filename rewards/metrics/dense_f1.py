"""Detection in dense scenes, without scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from visenv.errors import InvalidData
from visenv.rewards.functional.boxes import box_coverage, box_iou
from visenv.rewards.functional.matching import IOU_THRESHOLDS, f1_score, greedy_match, precision_recall_f1
from visenv.rewards.metrics.base import Metric, ratios
from visenv.types import BoolArray, BoxesTruth, Detections, FloatArray, IntArray, Outcome

IGNORED_COVERAGE = 0.5
"""A wrong box counts for neither side if at least this share of it lies in regions to ignore."""


class CategoryCounts(NamedTuple):
    """The counts of one category on one sample."""

    category: str
    matched: tuple[int, ...]
    """True positives at each of ``IOU_THRESHOLDS``."""
    predicted: tuple[int, ...]
    """Boxes predicted, at each threshold without the wrong ones in regions to ignore."""
    true: int


class DenseF1(Metric[tuple[CategoryCounts, ...]]):
    """F1 of boxes over a whole data set, at IoU thresholds of .50 to .95.

    On each sample predicted and true boxes are paired greedily, the highest IoU first. With ``average="micro"``
    (VisDrone) all samples are counted together, and F1@0.50:0.95 is the mean of the ten F1. With ``"macro"``
    (Dense200) precision and recall are counted for each category and averaged over the categories that have any true
    box, F1 is their harmonic mean, and F1@0.50:0.95 that of the means over thresholds.

    A box is paired only with one of its own category where truth and prediction both name categories. Where the
    prediction names none, a sample is one task about one category. No result is no box. A box that is wrong and lies to
    at least half in the truth's ``ignore`` regions counts for neither side.

    Args:
        average: ``"micro"`` or ``"macro"``.
        epsilon: square pixels added to every union; 1e-6 reproduces the released evaluators to the digit, which only
            matters for an IoU that lies exactly on a threshold.

    Keys: ``F1@0.50``, ``F1@0.95``, ``F1@0.50:0.95``, ``precision@…`` and ``recall@…`` likewise, and ``_n`` and
    ``_failed`` of ``F1@0.50:0.95``, which hold for all; 0 where a figure would be 0 / 0. ``values`` are the mean of the
    ten F1 of each sample alone, 1 where there is nothing to find and nothing was found.

    Raises:
        InvalidData: if ``average`` is neither; when updating, if it is ``"macro"`` and the truth names several
            categories but the prediction none.

    Source:
        VisHarness (arXiv 2605.29894), its evaluators of VisDrone and Dense200; ignored regions as crowds in COCO.

    Example:
        >>> from visenv.types import BoxesTruth, Detections, Outcome
        >>> metric = DenseF1()
        >>> found = Detections([[0, 0, 10, 10], [40, 40, 50, 50]])
        >>> metric.update(Outcome(found, "", "answer", 2), BoxesTruth([[0, 0, 10, 12], [20, 20, 30, 30]]))
        >>> metric.compute()["F1@0.50"], metric.compute()["F1@0.95"]
        (0.5, 0.0)
    """

    name = "F1@0.50:0.95"
    higher_is_better = True
    bounds = (0.0, 1.0)
    truths = (BoxesTruth,)

    def __init__(self, average: Literal["micro", "macro"] = "micro", *, epsilon: float = 0.0) -> None:
        super().__init__()
        if average not in ("micro", "macro"):
            raise InvalidData(f"Expected argument `average` to be 'micro' or 'macro', but got {average!r}.")
        self.average = average
        self.epsilon = epsilon

    def _measure(self, outcome: Outcome, truth: BoxesTruth) -> tuple[CategoryCounts, ...]:
        detections = Detections(np.zeros((0, 4))) if outcome.detections is None else outcome.detections
        if self.average == "macro" and detections.labels is None and len(set(truth.labels or ())) > 1:
            raise InvalidData(
                "Expected labels on a prediction whose truth has several categories, to average over them, "
                "but got none: score one task a category, or use average='micro'."
            )
        return tuple(count_categories(detections, truth, epsilon=self.epsilon))

    def _summarize(self, records: Sequence[tuple[CategoryCounts, ...]]) -> dict[str, float]:
        figures = self._figures(self._tallies(records).sum(axis=2, keepdims=True))
        return {name: float(values[0]) for name, values in figures.items()}

    def _weighted(self, weights: FloatArray) -> dict[str, FloatArray]:
        return self._figures(self._tallies(self._records) @ weights.T)

    def _tallies(self, records: Sequence[tuple[CategoryCounts, ...]]) -> FloatArray:
        """Return (groups, 21, N) counts of each sample: matched and predicted at each threshold, and true.

        A group is what is counted together: everything, or a category that has any true box.
        """
        micro = self.average == "micro"
        names = {count.category for record in records for count in record if count.true}
        places = {"": 0} if micro else {name: place for place, name in enumerate(sorted(names))}
        tallies = np.zeros((len(places), 2 * len(IOU_THRESHOLDS) + 1, len(records)))
        for number, record in enumerate(records):
            for count in record:
                place = 0 if micro else places.get(count.category)
                if place is not None:
                    tallies[place, :, number] += (*count.matched, *count.predicted, count.true)
        return tallies

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        """Return the figures that follow from (groups, 21, R) counts."""
        steps, micro = len(IOU_THRESHOLDS), self.average == "micro"
        matched, predicted, true = totals[:, :steps], totals[:, steps : 2 * steps], totals[:, 2 * steps :]
        # A category without any true box in a resample is none of it.
        there = np.broadcast_to(micro | (true > 0), matched.shape)
        rates = ratios(matched, predicted, 0.0), ratios(matched, np.broadcast_to(true, matched.shape), 0.0)
        precision, recall = (ratios((rate * there).sum(axis=0), there.sum(axis=0), 0.0) for rate in rates)
        f1 = _harmonic(precision, recall)
        overall = precision.mean(axis=0), recall.mean(axis=0)
        return {
            "F1@0.50": f1[0],
            "F1@0.95": f1[-1],
            "F1@0.50:0.95": f1.mean(axis=0) if micro else _harmonic(*overall),
            "precision@0.50": precision[0],
            "precision@0.95": precision[-1],
            "precision@0.50:0.95": overall[0],
            "recall@0.50": recall[0],
            "recall@0.95": recall[-1],
            "recall@0.50:0.95": overall[1],
        }

    def _value(self, record: tuple[CategoryCounts, ...]) -> float:
        return mean_f1(record)


class MacroDenseF1(DenseF1):
    """``DenseF1("macro")`` under names of its own, to stand beside the figures of ``DenseF1()``.

    A sample whose truth names several categories, but whose prediction none, counts for a category of that mixture.

    Keys: those of ``DenseF1``, each after ``macro_``.

    Source:
        Dense200 as evaluated by VisHarness (arXiv 2605.29894).
    """

    name = "macro_F1@0.50:0.95"

    def __init__(self, *, epsilon: float = 0.0) -> None:
        super().__init__("macro", epsilon=epsilon)

    def _measure(self, outcome: Outcome, truth: BoxesTruth) -> tuple[CategoryCounts, ...]:
        found, names = outcome.detections, sorted(set(truth.labels or ()))
        if found is not None and found.labels is None and len(names) > 1:
            truth = replace(truth, labels=(" + ".join(names),) * len(truth.boxes))
        return super()._measure(outcome, truth)

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        return {f"macro_{name}": values for name, values in super()._figures(totals).items()}


def _harmonic(precision: FloatArray, recall: FloatArray) -> FloatArray:
    return ratios(2.0 * precision * recall, precision + recall, 0.0)


def mean_f1(counts: Sequence[CategoryCounts]) -> float:
    """The mean over ``IOU_THRESHOLDS`` of the F1 of one sample.

    Args:
        counts: of its categories, counted together.

    Returns:
        A number in [0, 1]; 1 where there is nothing to find and nothing was found.
    """
    if not any(count.true or any(count.predicted) for count in counts):
        return 1.0
    return float(np.mean([f1_score(precision, recall) for precision, recall in _rates(counts)]))


def count_categories(detections: Detections, truth: BoxesTruth, *, epsilon: float = 0.0) -> Iterator[CategoryCounts]:
    """Pair the boxes of one sample and count them.

    Args:
        detections: what was found.
        truth: what is there, in the same frame.
        epsilon: square pixels added to every union.

    Yields:
        The counts of each category, by name; where one side names no category, of all together, under the name that the
        truth gives it if there is one.
    """
    names = sorted(set(truth.labels or ()))
    if detections.labels is None or truth.labels is None:
        everything = np.ones(len(detections), dtype=bool), np.ones(len(truth.boxes), dtype=bool)
        yield _count(names[0] if len(names) == 1 else "", detections.boxes, truth, *everything, epsilon=epsilon)
        return
    found, true = np.array(detections.labels, dtype=object), np.array(truth.labels, dtype=object)
    for name in sorted({*names, *detections.labels}):
        yield _count(name, detections.boxes, truth, found == name, true == name, epsilon=epsilon)


def _count(
    category: str, boxes: FloatArray, truth: BoxesTruth, found: BoolArray, true: BoolArray, *, epsilon: float
) -> CategoryCounts:
    predicted, targets = boxes[found], np.asarray(truth.boxes, dtype=np.float64).reshape(-1, 4)[true]
    iou = box_iou(predicted, targets, epsilon=epsilon)
    pairs: IntArray = greedy_match(iou, IOU_THRESHOLDS[0])
    overlaps = iou[pairs[:, 0], pairs[:, 1]]
    ignorable = np.zeros(len(predicted), dtype=bool)
    if truth.ignore is not None and len(truth.ignore):
        ignorable = box_coverage(predicted, truth.ignore) >= IGNORED_COVERAGE
    matched, counted = [], []
    for threshold in IOU_THRESHOLDS:
        right = pairs[overlaps >= threshold, 0]
        matched.append(len(right))
        counted.append(len(predicted) - int(np.count_nonzero(ignorable)) + int(np.count_nonzero(ignorable[right])))
    return CategoryCounts(category, tuple(matched), tuple(counted), len(targets))


def _rates(counts: Sequence[CategoryCounts]) -> list[tuple[float, float]]:
    """Precision and recall at each threshold of counts taken together."""
    true = sum(count.true for count in counts)
    rates = []
    for index in range(len(IOU_THRESHOLDS)):
        matched = sum(count.matched[index] for count in counts)
        predicted = sum(count.predicted[index] for count in counts)
        rates.append(precision_recall_f1(matched, predicted, true)[:2])
    return rates
