"""Where a patch ends inside its root, and which detections may have been cut there.

Sides are always in the order left, top, right, bottom. A border is *shared* with another image if that image goes on
across it, so that an object cut there may be found whole, or its other half, on the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visenv.geometry import footprint
from visenv.types import BoolArray, FloatArray

Placed: TypeAlias = tuple[FloatArray, tuple[int, int], bool]
"""An image's (3, 3) transform to the root, its (height, width), and whether it comes from a split."""

_TOLERANCE = 1e-6
_LEAST_MARGIN = 2


def near_sides(boxes: FloatArray, shapes: ArrayLike, edge_margin: float) -> BoolArray:
    """Say to which sides of their image masks come close.

    Args:
        boxes: (N, 4) tight boxes of the masks, xyxy pixels of the image, half-open.
        shapes: (height, width) of the image, or (N, 2) of each box's own.
        edge_margin: share of a side that counts as close; at least 2 pixels.

    Returns:
        (N, 4) bool: left, top, right, bottom.

    Example:
        >>> near_sides(np.array([[0, 10, 50, 20]]), (100, 100), 0.03).tolist()
        [[True, False, False, False]]
    """
    sides = np.asarray(shapes)[..., ::-1]
    margins = np.maximum(_LEAST_MARGIN, np.rint(sides * edge_margin))
    return np.concatenate((boxes[:, :2] <= margins, boxes[:, 2:] >= sides - margins), axis=1)


def shared_borders(images: Sequence[Placed], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Say at which sides of one image another goes on.

    Args:
        images: S images.
        size: (width, height) of the root.

    Returns:
        (S, S, 4) bool: whether that side of the first image lies inside the root, and the second image extends across
        it. False for all sides unless both come from a split and cover different parts of the root.
    """
    prints = footprints(images)
    tolerance = _TOLERANCE * max(1.0, *map(float, size))
    low, high = prints[:, None, :2], prints[:, None, 2:]
    others_low, others_high = prints[None, :, :2], prints[None, :, 2:]
    low_sides = (low > tolerance) & (others_low < low - tolerance) & (others_high > low + tolerance)
    inside = high < np.array(size, np.float64) - tolerance
    high_sides = inside & (others_low < high - tolerance) & (others_high > high + tolerance)
    split = np.array([image[2] for image in images], bool)
    scale = np.maximum(np.abs(prints).max(axis=1), 1.0)
    apart = np.abs(prints[:, None] - prints[None]).max(axis=2) > _TOLERANCE * np.maximum(scale[:, None], scale[None])
    return np.concatenate((low_sides, high_sides), axis=2) & (split[:, None] & split[None] & apart)[..., None]


def border_limits(images: Sequence[Placed], edge_margin: float) -> NDArray[np.float64]:
    """Return how far from a side an overlap's bounds may lie, in pixels of the root.

    Returns:
        (S, 4) float64: the greatest left and top bound that is still at that side, and the greatest *negated* right and
        bottom one, so that a bound is compared with ``<=`` on every side.
    """
    prints = footprints(images)
    sides = prints[:, 2:] - prints[:, :2]
    pixels = np.array([[max(1, width), max(1, height)] for _, (height, width), _ in images], np.float64).reshape(-1, 2)
    margins = np.maximum(_LEAST_MARGIN * sides / pixels, sides * edge_margin)
    return np.concatenate((prints[:, :2] + margins, -(prints[:, 2:] - margins)), axis=1)


def footprints(images: Sequence[Placed]) -> NDArray[np.float64]:
    """Return the parts of the root that images cover, (S, 4) xyxy pixels."""
    rows = [footprint(transform, width, height) for transform, (height, width), _ in images]
    return np.array(rows, np.float64).reshape(-1, 4)
