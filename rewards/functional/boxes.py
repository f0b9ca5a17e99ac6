"""Overlaps of boxes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from visenv.errors import InvalidData
from visenv.geometry import as_boxes, box_areas, intersection_boxes
from visenv.types import FloatArray


def check_boxes(value: ArrayLike, name: str = "boxes") -> FloatArray:
    """Return boxes that are fit to be scored, or say what is wrong with them.

    Args:
        value: (N, 4) ``xyxy``; an empty sequence is no box.
        name: how the argument is called in the error.

    Returns:
        (N, 4) float64.

    Raises:
        InvalidData: if the shape is another, a number is not finite, or a box ends before it begins.
    """
    try:
        boxes = as_boxes(value)
    except InvalidData as error:
        raise InvalidData(f"Argument `{name}`: {error}") from error
    wrong = ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < boxes[:, :2]).any(axis=1)
    if wrong.any():
        index = int(np.argmax(wrong))
        raise InvalidData(
            f"Expected `{name}` to be finite with x1 <= x2 and y1 <= y2, but box {index} is {boxes[index].tolist()}."
        )
    return boxes


def box_iou(first: ArrayLike, second: ArrayLike, *, epsilon: float = 0.0) -> FloatArray:
    """Intersection over union of every pair of boxes.

    Two boxes without any area have a union of 0 and an IoU of 0: there is nothing that they could agree on.

    Args:
        first: (N, 4) xyxy pixels, half-open.
        second: (M, 4), in the same frame.
        epsilon: square pixels added to every union. VisHarness's detection evaluators add 1e-6, which only matters for
            an IoU that lies exactly on a threshold.

    Returns:
        (N, M) float64 in [0, 1].

    Raises:
        InvalidData: if an argument is no array of boxes.

    Example:
        >>> box_iou([[0, 0, 10, 10]], [[0, 0, 10, 20], [20, 20, 30, 30]])
        array([[0.5, 0. ]])
    """
    a, b = check_boxes(first, "first"), check_boxes(second, "second")
    common = intersection_boxes(a, b)
    intersection = np.clip(common[..., 2:] - common[..., :2], 0.0, None).prod(axis=2)
    union = box_areas(a)[:, None] + box_areas(b)[None] - intersection + epsilon
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=intersection > 0)


def box_coverage(boxes: ArrayLike, regions: ArrayLike) -> FloatArray:
    """The share of each box that lies inside the union of some regions.

    Args:
        boxes: (N, 4) xyxy pixels, half-open.
        regions: (K, 4) xyxy, in the same frame; they may overlap each other.

    Returns:
        (N,) float64 in [0, 1]; 0 for a box without area.

    Example:
        >>> box_coverage([[0, 0, 10, 10]], [[0, 0, 5, 10], [3, 0, 6, 10]])
        array([0.6])
    """
    inner, outer = check_boxes(boxes), check_boxes(regions, "regions")
    areas = box_areas(inner)
    shares = np.zeros(len(inner))
    common = intersection_boxes(inner, outer)
    touched = np.any(np.all(common[..., 2:] > common[..., :2], axis=2), axis=1)
    for index in np.flatnonzero(touched):
        shares[index] = _union_area(_clip(outer, inner[index])) / areas[index]
    return np.clip(shares, 0.0, 1.0)


def _clip(boxes: FloatArray, window: FloatArray) -> FloatArray:
    clipped = np.concatenate([np.maximum(boxes[:, :2], window[:2]), np.minimum(boxes[:, 2:], window[2:])], axis=1)
    return clipped[(clipped[:, :2] < clipped[:, 2:]).all(axis=1)]


def _union_area(boxes: FloatArray) -> float:
    """The area of a union of boxes, slab by slab between the xs at which one begins or ends."""
    total = 0.0
    for left, right in pairwise(np.unique(boxes[:, ::2])):
        end = -np.inf
        height = 0.0
        for top, bottom in sorted(boxes[(boxes[:, 0] <= left) & (boxes[:, 2] >= right)][:, 1::2].tolist()):
            height += max(0.0, bottom - max(top, end))
            end = max(end, bottom)
        total += height * float(right - left)
    return total
