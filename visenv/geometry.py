"""Boxes, and the affine transforms between an image and its root.

Boxes are (N, 4) float64 ``xyxy`` pixels, half-open: the box of a single pixel at the origin is (0, 0, 1, 1). A
transform is a (3, 3) float64 matrix that maps column vectors (x, y, 1) of one image to those of another.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visenv.errors import InvalidData

Boxes = NDArray[np.float64]
"""(N, 4) float64 xyxy pixels, half-open."""
Transform = NDArray[np.float64]
"""(3, 3) float64, affine."""


# --- boxes ----------------------------------------------------------------------------------------------------------


def as_boxes(boxes: ArrayLike) -> Boxes:
    """Return boxes as an (N, 4) float64 array; their values are not judged.

    Args:
        boxes: N rows of four numbers, one such row, or nothing.

    Raises:
        InvalidData: if it has another shape or holds anything but numbers.

    Example:
        >>> as_boxes([1, 2, 3, 4]).shape, as_boxes([]).shape
        ((1, 4), (0, 4))
    """
    try:
        rows = np.asarray(boxes, np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidData(f"Expected boxes as (N, 4) numbers, but got something else: {error}.") from error
    if rows.size == 0:
        return np.zeros((0, 4))
    if rows.shape == (4,):
        return rows[None]
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise InvalidData(f"Expected boxes of the shape (N, 4), xyxy, but got {rows.shape}.")
    return rows


def valid_boxes(boxes: ArrayLike) -> NDArray[np.bool_]:
    """Say which boxes are finite and have a positive area.

    Args:
        boxes: (N, 4) xyxy pixels.

    Returns:
        (N,) bool.

    Example:
        >>> valid_boxes([[0, 0, 2, 1], [2, 0, 0, 1], [0, 0, float("nan"), 1], [0, 0, 0, 1]]).tolist()
        [True, False, False, False]
    """
    rows = as_boxes(boxes)
    return np.asarray(np.isfinite(rows).all(axis=1) & (rows[:, 2] > rows[:, 0]) & (rows[:, 3] > rows[:, 1]))


def box_areas(boxes: ArrayLike) -> NDArray[np.float64]:
    """Return the areas of boxes, 0 where one is inverted.

    Args:
        boxes: (N, 4) xyxy pixels.

    Returns:
        (N,) float64 square pixels.

    Example:
        >>> box_areas([[0, 0, 2, 3], [2, 0, 0, 3]]).tolist()
        [6.0, 0.0]
    """
    rows = as_boxes(boxes)
    return np.asarray(np.maximum(rows[:, 2:] - rows[:, :2], 0.0).prod(axis=1))


def clip_boxes(boxes: ArrayLike, width: float, height: float) -> Boxes:
    """Cut boxes down to an image; one that lies outside is left without area.

    Args:
        boxes: (N, 4) xyxy pixels.
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        (N, 4) float64.

    Example:
        >>> clip_boxes([[-1, 2, 5, 9]], 4, 6).tolist()
        [[0.0, 2.0, 4.0, 6.0]]
    """
    return np.minimum(np.maximum(as_boxes(boxes), 0.0), [width, height, width, height])


def intersection_boxes(a: ArrayLike, b: ArrayLike) -> Boxes:
    """Return what every pair of boxes has in common; where that is nothing, the box is inverted or without area.

    Args:
        a: (N, 4) xyxy pixels.
        b: (M, 4) xyxy pixels.

    Returns:
        (N, M, 4) float64.

    Example:
        >>> intersection_boxes([[0, 0, 4, 4]], [[2, 1, 6, 3]]).tolist()
        [[[2.0, 1.0, 4.0, 3.0]]]
    """
    first, second = as_boxes(a)[:, None], as_boxes(b)[None]
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., 2:], second[..., 2:])
    return np.concatenate((low, high), axis=2)


def box_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Return the intersection over union of every pair of boxes.

    Args:
        a: (N, 4) xyxy pixels.
        b: (M, 4) xyxy pixels.

    Returns:
        (N, M) float64 in [0, 1]; 0 where both have no area.

    Example:
        >>> box_iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(3).tolist()
        [[0.333, 0.0]]
    """
    sides = intersection_boxes(a, b)
    common = np.maximum(sides[..., 2:] - sides[..., :2], 0.0).prod(axis=2)
    union = box_areas(a)[:, None] + box_areas(b)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def hull(boxes: ArrayLike) -> NDArray[np.float64]:
    """Return the smallest box around boxes.

    Args:
        boxes: (N, 4) xyxy pixels, N at least 1.

    Returns:
        (4,) float64.

    Raises:
        InvalidData: if there is no box.

    Example:
        >>> hull([[0, 1, 2, 3], [1, 0, 5, 2]]).tolist()
        [0.0, 0.0, 5.0, 3.0]
    """
    rows = as_boxes(boxes)
    if not len(rows):
        raise InvalidData("Expected at least one box to take the hull of, but got none.")
    return np.concatenate((rows[:, :2].min(axis=0), rows[:, 2:].max(axis=0)))


# --- transforms -----------------------------------------------------------------------------------------------------


def check_transform(transform: ArrayLike) -> Transform:
    """Return a transform as a (3, 3) float64 array.

    Raises:
        InvalidData: if it is not (3, 3), not finite, not affine, or cannot be inverted.

    Example:
        >>> check_transform([[1, 0, 5], [0, 1, 7], [0, 0, 1]])[0].tolist()
        [1.0, 0.0, 5.0]
    """
    try:
        matrix = np.asarray(transform, np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidData(f"Expected a transform as (3, 3) numbers, but got something else: {error}.") from error
    if matrix.shape != (3, 3):
        raise InvalidData(f"Expected a transform of the shape (3, 3), but got {matrix.shape}.")
    (a, b, x), (c, d, y), last = matrix.tolist()
    if not all(map(math.isfinite, (a, b, x, c, d, y, *last))):
        raise InvalidData("Expected a transform of finite numbers, but got NaN or infinity in it.")
    if last != [0.0, 0.0, 1.0]:
        raise InvalidData(f"Expected an affine transform, its last row (0, 0, 1), but got {last}.")
    if abs(a * d - b * c) < 1e-12:
        raise InvalidData("Expected a transform that can be inverted, but it maps the image onto a line or a point.")
    return matrix


def identity() -> Transform:
    """Return the transform that leaves everything where it is."""
    return np.eye(3)


def translation(dx: float, dy: float) -> Transform:
    """Return the transform that moves by (dx, dy) pixels.

    Example:
        >>> map_points(translation(3, 4), [[1, 1]]).tolist()
        [[4.0, 5.0]]
    """
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy], [0.0, 0.0, 1.0]])


def scaling(sx: float, sy: float | None = None) -> Transform:
    """Return the transform that multiplies x by ``sx`` and y by ``sy``, the same if left out.

    Example:
        >>> map_points(scaling(0.25), [[8, 4]]).tolist()
        [[2.0, 1.0]]
    """
    return np.array([[sx, 0.0, 0.0], [0.0, sx if sy is None else sy, 0.0], [0.0, 0.0, 1.0]])


def compose(*transforms: ArrayLike) -> Transform:
    """Return one transform that does the given ones in turn, the first one first.

    Example:
        >>> map_points(compose(scaling(2), translation(1, 0)), [[3, 3]]).tolist()
        [[7.0, 6.0]]
    """
    whole = identity()
    for transform in transforms:
        whole = check_transform(transform) @ whole
    return whole


def invert(transform: ArrayLike) -> Transform:
    """Return the transform that leads back.

    Raises:
        InvalidData: if there is none.

    Example:
        >>> invert(scaling(4))[0].tolist()
        [0.25, 0.0, 0.0]
    """
    inverse: Transform = np.asarray(np.linalg.inv(check_transform(transform)), np.float64)
    inverse[2] = 0.0, 0.0, 1.0
    return inverse


def map_points(transform: ArrayLike, points: ArrayLike) -> NDArray[np.float64]:
    """Map points.

    Args:
        transform: (3, 3).
        points: (N, 2) xy pixels.

    Returns:
        (N, 2) float64.

    Raises:
        InvalidData: if either has another shape.
    """
    matrix = check_transform(transform)
    rows = np.asarray(points, np.float64)
    rows = np.zeros((0, 2)) if rows.size == 0 else rows
    if rows.ndim != 2 or rows.shape[1] != 2:
        raise InvalidData(f"Expected points of the shape (N, 2), xy, but got {rows.shape}.")
    # Written out rather than as a matrix product, whose order of additions differs between linear algebra libraries.
    x, y = rows[:, 0], rows[:, 1]
    return np.stack([row[0] * x + row[1] * y + row[2] for row in matrix[:2].tolist()], axis=1)


def map_boxes(transform: ArrayLike, boxes: ArrayLike) -> Boxes:
    """Map boxes: the result is the smallest upright box around the four mapped corners.

    Args:
        transform: (3, 3).
        boxes: (N, 4) xyxy pixels.

    Returns:
        (N, 4) float64; a box that was inverted still is, under any transform that only scales up or down and moves.

    Example:
        >>> map_boxes(translation(10, 20), [[0, 0, 2, 1]]).tolist()
        [[10.0, 20.0, 12.0, 21.0]]
        >>> map_boxes([[0, -1, 0], [1, 0, 0], [0, 0, 1]], [[0, 0, 2, 1]]).tolist()
        [[-1.0, 0.0, 0.0, 2.0]]
    """
    matrix, rows = check_transform(transform), as_boxes(boxes)
    (a, b, x), (c, d, y), _ = matrix.tolist()
    if b == 0 == c and a > 0 and d > 0:
        return rows * [a, d, a, d] + [x, y, x, y]
    corners = np.stack([map_points(matrix, rows[:, [i, j]]) for i in (0, 2) for j in (1, 3)], axis=1)
    return np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)


def footprint(transform: ArrayLike, width: float, height: float) -> NDArray[np.float64]:
    """Return the part of the root that an image covers, as an upright box.

    Args:
        transform: (3, 3) from the image to its root.
        width: of the image, pixels.
        height: of the image, pixels.

    Returns:
        (4,) float64 xyxy pixels of the root.

    Example:
        >>> footprint(translation(100, 50), 40, 30).tolist()
        [100.0, 50.0, 140.0, 80.0]
    """
    return map_boxes(transform, [[0.0, 0.0, width, height]])[0]
