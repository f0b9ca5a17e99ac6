"""Where the pixels of a mask come from when it is resized or mapped by an affine transform."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_WHOLE = 1e-6
"""How far from a whole number a source coordinate may be, in pixels: far below what moves a value across 0.5."""


def whole_stride(matrix: NDArray[np.float64]) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return how to map by slicing: new pixel (u, v) is old pixel ``(step_x * u + from_x, step_y * v + from_y)``.

    Returns:
        ``((step_x, step_y), (from_x, from_y))`` with steps of at least 1, or None if new pixels lie between old ones.

    Example:
        >>> whole_stride(np.array([[0.25, 0, 10], [0, 0.25, 20], [0, 0, 1]]))
        ((4, 4), (-40, -80))
    """
    if matrix[0, 1] or matrix[1, 0] or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        return None
    steps = 1 / np.diagonal(matrix)[:2]
    starts = -matrix[:2, 2] * steps
    whole_steps, whole_starts = np.rint(steps), np.rint(starts)
    # A step's error grows with every pixel, a start's does not.
    if (np.abs(steps - whole_steps) > _WHOLE * 1e-4).any() or (np.abs(starts - whole_starts) > _WHOLE).any():
        return None
    if (whole_steps < 1).any() or (np.abs(whole_starts) > 2**31).any():
        return None
    (step_x, step_y), (from_x, from_y) = whole_steps.astype(int).tolist(), whole_starts.astype(int).tolist()
    return (step_x, step_y), (from_x, from_y)


def nearest_sources(old: int, new: int) -> NDArray[np.int64]:
    """Return for each of ``new`` pixels along one side the one of ``old`` pixels that it shows.

    OpenCV is asked itself, on one row of indices, so that its rounding is matched whatever its version.

    Example:
        >>> nearest_sources(3, 6).tolist()
        [0, 0, 1, 1, 2, 2]
    """
    row: Any = np.arange(old, dtype=np.float64)[None]
    return np.asarray(cv2.resize(row, (new, 1), interpolation=cv2.INTER_NEAREST))[0].astype(np.int64)
