"""What can be done with one cropped mask: trimming, cutting, placing on another.

A crop is an (h, w) bool array with the (x, y) offset of its upper left pixel in the frame; it is *tight* if no smaller
crop holds all of its pixels. The tight crop of an empty mask is (0, 0), at (0, 0).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from visenv.errors import InvalidData
from visenv.types import BoolArray

Offset: TypeAlias = tuple[int, int]
Placed: TypeAlias = tuple[BoolArray, Offset]


def as_crop(pixels: ArrayLike) -> BoolArray:
    """Return a crop as a bool array.

    Raises:
        InvalidData: if it has another number of axes, or values that are neither bool nor integers.
    """
    crop = np.asarray(pixels)
    if crop.ndim != 2 or crop.dtype.kind not in "biu":
        raise InvalidData(f"Expected a crop (h, w) of bool or integers, but got {crop.shape} of {crop.dtype}.")
    return crop if crop.dtype == np.bool_ else crop != 0


def tight(crop: BoolArray, offset: Offset = (0, 0)) -> Placed:
    """Return the tight crop of a crop: a view of it.

    Example:
        >>> tight(np.eye(3, k=1, dtype=bool), (10, 10))
        (array([[ True, False],
               [False,  True]]), (11, 10))
    """
    rows = np.asarray(crop.any(axis=1))
    if not rows.any():
        return np.zeros((0, 0), bool), (0, 0)
    top, bottom = int(rows.argmax()), len(rows) - int(rows[::-1].argmax())
    columns = np.asarray(crop[top:bottom].any(axis=0))
    left, right = int(columns.argmax()), len(columns) - int(columns[::-1].argmax())
    return crop[top:bottom, left:right], (offset[0] + left, offset[1] + top)


def fitted(crop: BoolArray, offset: Offset, size: tuple[int, int]) -> Placed:
    """Return the tight crop of what lies inside a frame of (H, W) pixels: a copy.

    Example:
        >>> fitted(np.ones((2, 3), bool), (-1, 3), (4, 4))
        (array([[ True,  True]]), (0, 3))
    """
    x, y = offset
    inside = crop[max(0, -y) : max(0, size[0] - y), max(0, -x) : max(0, size[1] - x)]
    trimmed, place = tight(inside, (max(x, 0), max(y, 0)))
    return trimmed.copy(), place


def united(crops: Iterable[Placed]) -> Placed:
    """Return the tight crop of all pixels that are set in any of several tight crops.

    Example:
        >>> united([(np.ones((1, 1), bool), (5, 5)), (np.ones((1, 1), bool), (6, 5))])
        (array([[ True,  True]]), (5, 5))
    """
    filled = [(crop, x, y) for crop, (x, y) in crops if crop.size]
    if not filled:
        return np.zeros((0, 0), bool), (0, 0)
    x0, y0 = min(x for _, x, _ in filled), min(y for _, _, y in filled)
    x1, y1 = max(x + crop.shape[1] for crop, x, _ in filled), max(y + crop.shape[0] for crop, _, y in filled)
    canvas = np.zeros((y1 - y0, x1 - x0), bool)
    for crop, x, y in filled:
        canvas[y - y0 : y - y0 + crop.shape[0], x - x0 : x - x0 + crop.shape[1]] |= crop
    return canvas, (x0, y0)


def covered(crop: BoolArray, offset: Offset, by: Placed) -> BoolArray:
    """Say which pixels of a crop, set or not, another one covers: an array of the first one's shape.

    Example:
        >>> covered(np.ones((1, 3), bool), (0, 0), (np.ones((2, 2), bool), (2, 0)))
        array([[False, False,  True]])
    """
    (x, y), (region, (left, top)) = offset, by
    inside = np.zeros_like(crop)
    x0, x1 = max(x, left), min(x + crop.shape[1], left + region.shape[1])
    y0, y1 = max(y, top), min(y + crop.shape[0], top + region.shape[0])
    if x0 < x1 and y0 < y1:
        inside[y0 - y : y1 - y, x0 - x : x1 - x] = region[y0 - top : y1 - top, x0 - left : x1 - left]
    return inside


def holding(crops: Iterable[Placed], points: ArrayLike) -> BoolArray:
    """Say which of some points lie on a pixel that is set in any of several crops.

    Args:
        crops: with their offsets.
        points: (K, 2) xy pixels.

    Returns:
        (K,) bool.

    Example:
        >>> holding([(np.ones((2, 2), bool), (2, 1))], [[2.5, 1.5], [4, 1]])
        array([ True, False])
    """
    places = np.floor(np.asarray(points, dtype=np.float64).reshape(-1, 2)).astype(np.int64)
    held = np.zeros(len(places), dtype=bool)
    for crop, (x0, y0) in crops:
        x, y = places[:, 0] - x0, places[:, 1] - y0
        within = (x >= 0) & (y >= 0) & (x < crop.shape[1]) & (y < crop.shape[0])
        held[within] |= crop[y[within], x[within]]
    return held


def flat_polygon(polygon: ArrayLike, longest: float) -> list[float]:
    """Return a polygon as COCO's flat list of numbers.

    Args:
        polygon: (K, 2) xy points, or the same numbers in a flat list.
        longest: the most pixels its outline may run over, along x and y together.

    Raises:
        InvalidData: if it has fewer than three points, or is not finite, far away, or too long.
    """
    try:
        points = np.asarray(polygon, np.float64).ravel()
    except (TypeError, ValueError) as error:
        raise InvalidData("Expected a polygon as (K, 2) numbers or a flat list of them; got something else.") from error
    if points.size < 6 or points.size % 2:
        raise InvalidData(f"Expected a polygon of three or more xy points, but got {points.size} numbers.")
    if not np.isfinite(points).all() or np.abs(points).max() > longest:
        raise InvalidData(f"Expected polygon coordinates that are finite and at most {longest:g} from 0.")
    corners = points.reshape(-1, 2)
    length = float(np.abs(corners - np.roll(corners, 1, axis=0)).sum())
    if length > longest:
        raise InvalidData(f"Expected a polygon whose outline is at most {longest:g} pixels long, but got {length:g}.")
    return list(points.tolist())
