"""Average precision, as COCO defines it, for scenes with many small objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from pycocotools import mask as coco

from visenv.errors import InvalidData
from visenv.rewards.functional.boxes import check_boxes
from visenv.rewards.functional.matching import IOU_THRESHOLDS
from visenv.rewards.metrics.base import Metric
from visenv.types import BoolArray, BoxesTruth, Detections, FloatArray, IntArray, Outcome

AREA_BANDS: dict[str, tuple[float, float]] = {
    "eS": (0.0, 12.0**2),
    "rS": (12.0**2, 20.0**2),
    "gS": (20.0**2, 32.0**2),
    "N": (32.0**2, 40.0 * 50.0),
}
"""The sizes of SODA in square pixels, both ends included: extremely, relatively and generally small, and normal."""
_BANDS = np.array([(0.0, 1e10), *AREA_BANDS.values()])  # (A, 2), all sizes first
_THRESHOLDS = np.minimum(IOU_THRESHOLDS, 1.0 - 1e-10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_CELLS = 4_000_000
"""Weights of boxes that are held at once: 32 MB."""


class CategoryMatches(NamedTuple):
    """What became of the boxes of one category on one sample."""

    category: str
    scores: FloatArray
    """(D,) descending."""
    state: IntArray
    """(A, T, D) int8, by band of sizes and IoU threshold: 1 right, 0 wrong, -1 counted for neither."""
    true: IntArray
    """(A,) how many there are to find."""
    cut: int
    """Boxes left out, being more than are looked at."""


class CocoAP(Metric[tuple[CategoryMatches, ...]]):
    """AP of boxes with scores, over all sizes and in the bands of SODA.

    The definition is that of pycocotools, which counts the IoUs and with which it agrees; what it keeps of a sample is
    enough to resample. Unlike COCO's own limit of 100, that of dense scenes is 500 boxes of a category on a sample; how
    many were beyond it stands in ``AP_cut``. Boxes without scores have a score of 1, which makes the order of samples
    matter: AP is made for detectors, ``DenseF1`` for agents.

    Regions to ignore are crowds: any number of boxes may lie in one and count for neither side. Where the prediction
    names no categories, or the truth none, a sample is about one category. A sample without any name, as one on which
    nothing is to be found, is about the data set's category if there is only one.

    Args:
        max_dets: how many boxes of a category on a sample are looked at, those of the highest scores.

    Keys: ``AP``, ``AP@0.50``, ``AP@0.75``, ``AP_eS``, ``AP_rS``, ``AP_gS``, ``AP_N`` (NaN where nothing of the size is
    to be found), ``AR``, ``AP_cut``, ``AP_n``, ``AP_failed``. ``values`` are the AP of each sample alone, NaN where
    nothing is to be found.

    Raises:
        InvalidData: if ``max_dets`` is no whole number of at least 1.

    Source:
        COCO (arXiv 1405.0312) as in pycocotools; sizes as in SODA (arXiv 2207.14096), table 4.

    Example:
        >>> from visenv.types import BoxesTruth, Detections, Outcome
        >>> metric = CocoAP()
        >>> found = Detections([[0, 0, 10, 10], [40, 40, 50, 50]], scores=[0.9, 0.4])
        >>> metric.update(Outcome(found, "", "answer", 2), BoxesTruth([[0, 0, 10, 12]]))
        >>> metric.compute()["AP@0.50"], round(metric.compute()["AP"], 3)
        (1.0, 0.7)
    """

    name = "AP"
    higher_is_better = True
    bounds = (0.0, 1.0)
    truths = (BoxesTruth,)
    counts = frozenset({"AP_cut"})
    resamples = 200  # Each sorts out all boxes anew.

    def __init__(self, max_dets: int = 500) -> None:
        super().__init__()
        if isinstance(max_dets, bool) or not isinstance(max_dets, int) or max_dets < 1:
            raise InvalidData(f"Expected argument `max_dets` to be a whole number of at least 1, but got {max_dets!r}.")
        self.max_dets = max_dets

    def _measure(self, outcome: Outcome, truth: BoxesTruth) -> tuple[CategoryMatches, ...]:
        detections = Detections(np.zeros((0, 4))) if outcome.detections is None else outcome.detections
        return tuple(_match_categories(detections, truth, self.max_dets))

    def _summarize(self, records: Sequence[tuple[CategoryMatches, ...]]) -> dict[str, float]:
        figures = _figures(records, np.ones((1, len(records))))
        return {name: float(values[0]) for name, values in figures.items()}

    def _weighted(self, weights: FloatArray) -> dict[str, FloatArray]:
        return _figures(self._records, weights)

    def _value(self, record: tuple[CategoryMatches, ...]) -> float:
        return self._summarize([record])["AP"]


def _match_categories(detections: Detections, truth: BoxesTruth, max_dets: int) -> Iterator[CategoryMatches]:
    names = sorted(set(truth.labels or ()))
    boxes, true = check_boxes(detections.boxes), check_boxes(truth.boxes, "truth")
    ignore = check_boxes(np.zeros((0, 4)) if truth.ignore is None else truth.ignore, "ignore")
    if detections.labels is None or truth.labels is None:
        yield _match(names[0] if len(names) == 1 else "", boxes, detections.scores, true, ignore, max_dets)
        return
    found, there = np.array(detections.labels, dtype=object), np.array(truth.labels, dtype=object)
    for name in sorted({*names, *detections.labels}):
        own = found == name
        yield _match(name, boxes[own], detections.scores[own], true[there == name], ignore, max_dets)


def _match(
    category: str, boxes: FloatArray, scores: FloatArray, true: FloatArray, ignore: FloatArray, max_dets: int
) -> CategoryMatches:
    """Give each box, from the highest score on, the best true one that is left, as pycocotools' ``evaluateImg``."""
    order = np.argsort(-scores, kind="mergesort")[:max_dets]
    kept, targets = _xywh(boxes[order]), _xywh(np.concatenate([true, ignore]))
    crowd = np.arange(len(targets)) >= len(true)
    areas = targets[:, 2] * targets[:, 3]
    passed_over = crowd | (areas < _BANDS[:, :1]) | (areas > _BANDS[:, 1:])  # (A, G)
    state = np.zeros((len(_BANDS), len(_THRESHOLDS), len(kept)), np.int8)
    if len(kept) and len(targets):
        overlaps = np.asarray(coco.iou(kept, targets, crowd.astype(np.uint8).tolist()))
        _assign(overlaps, crowd, passed_over, state)
    areas = kept[:, 2] * kept[:, 3]
    outside = (areas < _BANDS[:, :1]) | (areas > _BANDS[:, 1:])  # (A, D)
    state[(state == 0) & outside[:, None]] = -1
    counted = np.count_nonzero(~passed_over, axis=1)
    return CategoryMatches(category, scores[order], state, counted, len(boxes) - len(kept))


def _assign(overlaps: FloatArray, crowd: BoolArray, passed_over: BoolArray, state: IntArray) -> None:
    """Fill in ``state`` for all sizes and thresholds at once.

    Args:
        overlaps: (D, G) IoUs, boxes from the highest score on.
        crowd: (G,) what any number of boxes may match.
        passed_over: (A, G) what counts for neither side.
        state: (A, T, D) of zeros.
    """
    taken = np.zeros((*state.shape[:2], len(crowd)), bool)
    for box in np.flatnonzero((overlaps >= _THRESHOLDS[0]).any(axis=1)):
        near = np.flatnonzero(overlaps[box] >= _THRESHOLDS[0])
        # From the least IoU to the greatest, so that the last that fits is the best; of equals the later one.
        near = near[np.argsort(overlaps[box, near], kind="stable")]
        fits = (overlaps[box, near] >= _THRESHOLDS[:, None]) & (~taken[:, :, near] | crowd[near])
        counting = fits & ~passed_over[:, None, near]
        right = counting.any(axis=2)
        choice = np.where(right[:, :, None], counting, fits)
        matched = choice.any(axis=2)
        best = np.where(choice, np.arange(len(near)), 0).max(axis=2)
        bands, steps = np.nonzero(matched)
        taken[bands, steps, near[best[matched]]] = True
        state[:, :, box] = np.where(right, 1, np.where(matched, -1, 0))


def _xywh(boxes: FloatArray) -> FloatArray:
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)


def _figures(records: Sequence[tuple[CategoryMatches, ...]], weights: FloatArray) -> dict[str, FloatArray]:
    """The figures over samples that count several times, (R,) each.

    Args:
        records: of N samples.
        weights: (R, N) how often each counts.
    """
    groups = _grouped(records)
    shape = (len(_BANDS), len(_THRESHOLDS), len(groups), len(weights))
    precision, recall = np.full(shape, np.nan), np.full(shape, np.nan)
    for place, parts in enumerate(groups):
        samples = np.array([sample for sample, _ in parts])
        lengths = [len(part.scores) for _, part in parts]
        order = np.argsort(-np.concatenate([part.scores for _, part in parts]), kind="mergesort")
        state = np.concatenate([part.state for _, part in parts], axis=2)[:, :, order]
        owners = np.repeat(samples, lengths)[order]
        true = weights[:, samples] @ np.array([part.true for _, part in parts])  # (R, A)
        rows = max(1, _CELLS // max(1, len(owners)))
        for start in range(0, len(weights), rows):
            some = slice(start, start + rows)
            times = weights[some].T[owners]  # (D, r): boxes are picked row by row
            for band in np.flatnonzero(true.any(axis=0)):
                predicted: dict[bytes, FloatArray] = {}
                for step in range(len(_THRESHOLDS)):
                    there, right = np.flatnonzero(state[band, step] >= 0), np.flatnonzero(state[band, step] == 1)
                    # Which boxes count at all rarely depends on the threshold.
                    key = there.tobytes()
                    if key not in predicted:
                        predicted[key] = np.cumsum(times[there], axis=0)
                    before = predicted[key][np.searchsorted(there, right)]
                    curve = _curve(before.T, times[right].T, true[some, band])
                    precision[band, step, place, some], recall[band, step, place, some] = curve
    cut = weights @ np.array([sum(part.cut for part in record) for record in records], dtype=np.float64)
    steps = {"AP": slice(None), "AP@0.50": slice(0, 1), "AP@0.75": slice(5, 6)}
    figures = {name: _mean(precision[0, chosen]) for name, chosen in steps.items()}
    bands = {f"AP_{name}": _mean(precision[band]) for band, name in enumerate(AREA_BANDS, start=1)}
    return {**figures, **bands, "AR": _mean(recall[0]), "AP_cut": cut}


def _grouped(records: Sequence[tuple[CategoryMatches, ...]]) -> list[list[tuple[int, CategoryMatches]]]:
    """The parts of each category with the numbers of their samples."""
    groups: dict[str, list[tuple[int, CategoryMatches]]] = {}
    named = {part.category for record in records for part in record if part.category}
    for sample, record in enumerate(records):
        for part in record:
            name = part.category or (next(iter(named)) if len(named) == 1 else "")
            groups.setdefault(name, []).append((sample, part))
    return [groups[name] for name in sorted(groups)]


def _curve(predicted: FloatArray, times: FloatArray, true: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Average precision and final recall, (R,) each; NaN where there is nothing to find.

    Precision is greatest, and recall grows, at boxes that are right: no other is looked at.

    Args:
        predicted: (R, P) how many boxes there are up to each of the P that are right, from the highest score on.
        times: (R, P) how often each of these counts.
        true: (R,) how many there are to find.
    """
    matched = np.cumsum(times, axis=1)
    found = matched[:, -1] if matched.shape[1] else np.zeros(len(times))
    precisions = np.divide(matched, predicted, out=np.zeros_like(matched), where=predicted > 0)
    best = np.maximum.accumulate(precisions[:, ::-1], axis=1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)
    precision = np.take_along_axis(best, _places(matched, true), axis=1).mean(axis=1)
    there = true > 0
    return np.where(there, precision, np.nan), np.where(there, found / np.maximum(true, 1), np.nan)


def _places(matched: FloatArray, true: FloatArray) -> IntArray:
    """Where each row first reaches each of the recalls, (R, 101); P where it never does.

    Args:
        matched: (R, P) whole numbers that never fall along a row.
        true: (R,) how many there are to find.
    """
    whole = np.maximum(true, 1.0)[:, None]
    needed = np.ceil(_RECALLS * whole)
    # The least whole number whose quotient reaches the recall, as quotients are rounded.
    needed -= (needed - 1.0) / whole >= _RECALLS
    needed += needed / whole < _RECALLS
    count, width = matched.shape
    # One search for all rows: each is lifted above the one before.
    lift = np.arange(count)[:, None] * (max(float(matched.max(initial=0.0)), float(needed.max(initial=0.0))) + 1.0)
    places = np.searchsorted((matched + lift).ravel(), (needed + lift).ravel(), side="left").reshape(count, -1)
    return np.asarray(np.clip(places - np.arange(count)[:, None] * width, 0, width), np.int64)


def _mean(values: FloatArray) -> FloatArray:
    """The mean over the first axes, without what is not defined; (R,), NaN where nothing is."""
    flat = values.reshape(-1, values.shape[-1])
    there = np.isfinite(flat)
    count = there.sum(axis=0)
    return np.divide(np.where(there, flat, 0.0).sum(axis=0), count, out=np.full(len(count), np.nan), where=count > 0)
