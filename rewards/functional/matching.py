"""Pairing predictions with truths, and what the pairs are worth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from visenv.errors import InvalidData
from visenv.geometry import box_areas
from visenv.rewards.functional.boxes import check_boxes
from visenv.types import FloatArray, IntArray

IOU_THRESHOLDS: tuple[float, ...] = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""0.50, 0.55, …, 0.95: the thresholds of COCO."""


def greedy_match(similarity: ArrayLike, threshold: float) -> IntArray:
    """Pair rows with columns one to one, the most similar first.

    Pairs of the same similarity are taken in row-major order. As the best come first, the pairs at a higher threshold
    are those of a lower one that reach it.

    Args:
        similarity: (N, M), for instance ``box_iou(predicted, true)``.
        threshold: the least similarity of a pair, itself included.

    Returns:
        (P, 2) pairs of a row and a column, best first.

    Raises:
        InvalidData: if ``similarity`` is no matrix of finite numbers.

    Example:
        >>> greedy_match([[0.9, 0.8], [0.85, 0.1]], 0.5)
        array([[0, 0]])
    """
    matrix = _as_matrix(similarity, "similarity")
    rows, columns = np.nonzero(matrix >= threshold)
    order = np.argsort(-matrix[rows, columns], kind="stable")
    free_rows, free_columns = np.ones(matrix.shape[0], dtype=bool), np.ones(matrix.shape[1], dtype=bool)
    pairs = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)


def hungarian_match(cost: ArrayLike) -> IntArray:
    """Pair rows with columns one to one at the least total cost.

    Args:
        cost: (N, M).

    Returns:
        (min(N, M), 2) pairs of a row and a column, by row.

    Raises:
        InvalidData: if ``cost`` is no matrix of finite numbers.

    Example:
        >>> hungarian_match([[1.0, 2.0], [1.5, 9.0]])
        array([[0, 1],
               [1, 0]])
    """
    from scipy.optimize import linear_sum_assignment  # longer to import than all of visenv

    return np.stack(linear_sum_assignment(_as_matrix(cost, "cost")), axis=1).astype(np.int64)


def match_radius(boxes: ArrayLike) -> float:
    """How far a box's centre may be from a point that it stands for: half the diagonal of the box of median area.

    With an even number of boxes, the mean of the half-diagonals of the middle two.

    Args:
        boxes: (N, 4) xyxy pixels, half-open.

    Returns:
        A distance in pixels; 0 without boxes.

    Source:
        REC-8K, localisation of counted objects, as in the evaluator released with VisHarness (arXiv 2605.29894).

    Example:
        >>> match_radius([[0, 0, 6, 8], [0, 0, 3, 4], [0, 0, 300, 400]])
        5.0
    """
    array = check_boxes(boxes)
    if not len(array):
        return 0.0
    order = np.argsort(box_areas(array), kind="stable")
    middle = array[order[(len(array) - 1) // 2 : len(array) // 2 + 1]]
    return float(np.mean(np.hypot(*(middle[:, 2:] - middle[:, :2]).T)) / 2.0)


def point_matches(boxes: ArrayLike, points: ArrayLike, radius: float | None = None) -> IntArray:
    """Pair predicted boxes with true points: Hungarian on the distances to the centres, then those near enough.

    Args:
        boxes: (N, 4) predicted, xyxy pixels, half-open.
        points: (M, 2) true, xy pixels in the same frame.
        radius: the greatest distance of a pair, itself included; ``match_radius(boxes)`` if left out. Huge predicted
            boxes make that one large: where the result is *paid*, give a radius that comes from the truth.

    Returns:
        (P, 2) pairs of a box and a point; P is the number of true positives.

    Raises:
        InvalidData: if the boxes or points are none.

    Source:
        REC-8K, as in the evaluator released with VisHarness (arXiv 2605.29894).

    Example:
        >>> point_matches([[0, 0, 6, 8], [50, 50, 56, 58]], [[3, 9], [30, 30]])
        array([[0, 0]])
    """
    array, targets = check_boxes(boxes), as_points(points)
    if not len(array) or not len(targets):
        return np.zeros((0, 2), dtype=np.int64)
    from scipy.spatial.distance import cdist

    distances = cdist((array[:, :2] + array[:, 2:]) / 2.0, targets)
    pairs = hungarian_match(distances)
    limit = match_radius(array) if radius is None else radius
    return pairs[distances[pairs[:, 0], pairs[:, 1]] <= limit]


def precision_recall_f1(matched: float, predicted: float, true: float) -> tuple[float, float, float]:
    """Precision, recall and F1 from counts.

    Args:
        matched: true positives.
        predicted: how many were predicted.
        true: how many there are.

    Returns:
        Three numbers in [0, 1]; each is 0 where it would be 0 / 0.

    Example:
        >>> precision_recall_f1(2, 4, 2)
        (0.5, 1.0, 0.6666666666666666)
    """
    precision = matched / predicted if predicted else 0.0
    recall = matched / true if true else 0.0
    return precision, recall, f1_score(precision, recall)


def f1_score(precision: float, recall: float) -> float:
    """The harmonic mean of precision and recall, 0 where both are 0.

    Example:
        >>> f1_score(0.5, 0.5), f1_score(0.0, 0.0)
        (0.5, 0.0)
    """
    total = precision + recall
    return 2.0 * precision * recall / total if total else 0.0


def as_points(value: ArrayLike, name: str = "points") -> FloatArray:
    """Return points as an array, or say what is wrong with them.

    Args:
        value: (N, 2) ``xy``; an empty sequence is no point.
        name: how the argument is called in the error.

    Returns:
        (N, 2) float64.

    Raises:
        InvalidData: if the shape is another or a number is not finite.
    """
    try:
        points = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidData(f"Expected argument `{name}` to be (N, 2) numbers, but got {value!r:.200}.") from error
    if points.size == 0:
        return np.zeros((0, 2))
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise InvalidData(f"Expected argument `{name}` to be finite, of shape (N, 2), but got shape {points.shape}.")
    return points


def _as_matrix(value: ArrayLike, name: str) -> FloatArray:
    matrix = np.asarray(value, dtype=np.float64)
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise InvalidData(f"Expected argument `{name}` to be a finite (N, M) matrix, but got shape {matrix.shape}.")
    return matrix
