"""Pairs of cropped masks: which ones can overlap, and the pixels they have in common."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visenv.masks import Masks
from visenv.types import BoolArray, IntArray

Indices = NDArray[np.int64]


def touching_pairs(boxes: IntArray, groups: IntArray) -> tuple[Indices, Indices, Indices]:
    """Find the pairs of different groups whose boxes overlap, by a sweep along the axis with fewer candidates.

    Args:
        boxes: (N, 4) xyxy pixels, half-open, each with an area.
        groups: (N,) pairs within one group are left out.

    Returns:
        Three (P,) int64 arrays: the smaller index of each pair, the larger one, and the area that the boxes share.

    Example:
        >>> i, j, area = touching_pairs(np.array([[0, 0, 4, 4], [3, 2, 9, 9], [4, 0, 5, 1]]), np.array([0, 1, 2]))
        >>> i.tolist(), j.tolist(), area.tolist()
        ([0], [1], [2])
    """
    sweeps = [_sweep(boxes[:, axis], boxes[:, axis + 2]) for axis in (0, 1)]
    order, ends = min(sweeps, key=lambda sweep: int(sweep[1].sum()))
    first = np.repeat(np.arange(len(order)), ends)
    second = np.arange(len(first)) - np.repeat(np.cumsum(ends) - ends, ends) + first + 1
    a, b = order[first], order[second]
    apart = groups[a] != groups[b]
    a, b = a[apart], b[apart]
    sides = np.minimum(boxes[a, 2:], boxes[b, 2:]) - np.maximum(boxes[a, :2], boxes[b, :2])
    touching = (sides > 0).all(axis=1)
    a, b = a[touching], b[touching]
    return np.minimum(a, b), np.maximum(a, b), sides[touching].prod(axis=1)


def _sweep(low: IntArray, high: IntArray) -> tuple[Indices, Indices]:
    """Order along one axis, and how many of those that follow each one begin before it ends."""
    order = np.argsort(low, kind="stable")
    ends = np.searchsorted(low[order], high[order], side="left")
    return order, np.maximum(ends - np.arange(len(order)) - 1, 0)


class Overlaps:
    """The pixels that pairs of masks have in common, cut out of the crops."""

    def __init__(self, masks: Masks) -> None:
        """Prepare the lookup of crops and boxes.

        Args:
            masks: over one frame.
        """
        self._crops = masks.crops
        self._boxes: list[tuple[int, int, int, int]] = [tuple(box) for box in masks.boxes.astype(np.int64).tolist()]

    def pixels(self, i: int, j: int) -> tuple[BoolArray, tuple[int, int]]:
        """Return what two masks have in common, inside both their boxes.

        Returns:
            (h, w) bool and its (x, y) offset in the frame; the boxes have to overlap.
        """
        ax0, ay0, ax1, ay1 = self._boxes[i]
        bx0, by0, bx1, by1 = self._boxes[j]
        x0, y0, x1, y1 = max(ax0, bx0), max(ay0, by0), min(ax1, bx1), min(ay1, by1)
        a = self._crops[i][y0 - ay0 : y1 - ay0, x0 - ax0 : x1 - ax0]
        return a & self._crops[j][y0 - by0 : y1 - by0, x0 - bx0 : x1 - bx0], (x0, y0)

    def area(self, i: int, j: int) -> int:
        """Return how many pixels two masks have in common; their boxes have to overlap."""
        return int(np.count_nonzero(self.pixels(i, j)[0]))
