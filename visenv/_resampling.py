"""Where the pixels of a mask come from when it is resized or mapped by an affine transform."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from visenv._crops import Placed
from visenv.errors import InvalidData
from visenv.types import BoolArray

_WHOLE = 1e-6
"""How far from a whole number a source coordinate may be, in pixels: far below what moves a value across 0.5."""

_LONGEST_SIDE = 2**15 - 2
"""Of a frame, in pixels: OpenCV's warp counts them in 16 bits."""


class Stride(NamedTuple):
    """New pixel (u, v) is old pixel ``(step_x * u + from_x, step_y * v + from_y)``; steps are 1 or more."""

    step_x: int
    step_y: int
    from_x: int
    from_y: int


def whole_stride(matrix: NDArray[np.float64]) -> Stride | None:
    """Return how to map by slicing, or None if new pixels lie between old ones.

    Args:
        matrix: (3, 3) from old pixels to new ones.

    Example:
        >>> whole_stride(np.array([[0.25, 0, 10], [0, 0.25, 20], [0, 0, 1]]))
        Stride(step_x=4, step_y=4, from_x=-40, from_y=-80)
    """
    (a, b, x), (c, d, y), _ = matrix.tolist()
    if b or c or a <= 0 or d <= 0:
        return None
    steps = (1 / a, 1 / d)
    starts = (-x * steps[0], -y * steps[1])
    if max(*steps, *map(abs, starts)) > 2**31:
        return None
    whole_steps, whole_starts = [round(step) for step in steps], [round(start) for start in starts]
    # A step's error grows with every pixel, a start's does not.
    off_step = max(abs(step - whole) for step, whole in zip(steps, whole_steps, strict=True))
    off_start = max(abs(start - whole) for start, whole in zip(starts, whole_starts, strict=True))
    if min(whole_steps) < 1 or off_step > _WHOLE * 1e-4 or off_start > _WHOLE:
        return None
    return Stride(*whole_steps, *whole_starts)


def strided(placed: Placed, stride: Stride) -> Placed:
    """Map a crop by slicing it; the result is a view, and not always tight.

    Example:
        >>> strided((np.ones((2, 5), bool), (3, 0)), Stride(4, 1, 0, 0))
        (array([[ True],
               [ True]]), (1, 0))
    """
    crop, (x, y) = placed
    # The first new pixel at or after the crop's corner, and then every step-th old one.
    u, v = -((stride.from_x - x) // stride.step_x), -((stride.from_y - y) // stride.step_y)
    first_x, first_y = stride.step_x * u + stride.from_x - x, stride.step_y * v + stride.from_y - y
    return crop[first_y :: stride.step_y, first_x :: stride.step_x], (u, v)


def warped(frame: BoolArray, matrix: NDArray[np.float64], size: tuple[int, int]) -> BoolArray:
    """Map a full frame through OpenCV: linear interpolation, above 0.5.

    Args:
        frame: (H, W) bool.
        matrix: (3, 3) from its pixels to those of the new frame.
        size: (H, W) of the new frame.

    Raises:
        InvalidData: if a side of either frame is too long for OpenCV.
    """
    if max(*frame.shape, *size) > _LONGEST_SIDE:
        raise InvalidData(
            f"Expected frames of at most {_LONGEST_SIDE} pixels a side, but got {frame.shape} and {size}: "
            "OpenCV cannot interpolate larger ones."
        )
    height, width = size
    values = cv2.warpAffine(frame.astype(np.float32), matrix[:2], (width, height), flags=cv2.INTER_LINEAR)
    return np.asarray(values) > 0.5


def nearest_sources(old: int, new: int) -> NDArray[np.int64]:
    """Return for each of ``new`` pixels along one side the one of ``old`` pixels that it shows.

    OpenCV is asked itself, on one row of indices, so that its rounding is matched whatever its version.

    Example:
        >>> nearest_sources(3, 6).tolist()
        [0, 0, 1, 1, 2, 2]
    """
    row: Any = np.arange(old, dtype=np.float64)[None]
    return np.asarray(cv2.resize(row, (new, 1), interpolation=cv2.INTER_NEAREST))[0].astype(np.int64)


def resized(placed: Placed, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Placed:
    """Stretch a crop.

    Args:
        placed: the crop and its offset.
        rows: for each row of the new frame the old one that it shows, ascending.
        columns: the same for columns.

    Example:
        >>> resized((np.ones((1, 1), bool), (1, 1)), np.array([0, 0, 1, 1]), np.array([0, 1]))
        (array([[ True],
               [ True]]), (1, 2))
    """
    crop, (x, y) = placed
    top, bottom = np.searchsorted(rows, (y, y + crop.shape[0])).tolist()
    left, right = np.searchsorted(columns, (x, x + crop.shape[1])).tolist()
    return crop[np.ix_(rows[top:bottom] - y, columns[left:right] - x)], (left, top)
