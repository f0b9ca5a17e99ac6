"""The reward of Seg-Zero (arXiv 2503.06520): five terms of 0 or 1 for a box and two points, written as text.

How it can be gamed: thresholds pay all or nothing. A box of IoU 0.51 earns what a perfect one does, and in the 840 x
840 frame 10 pixels of box and 100 of points are more than a small object's size: beside it, without any overlap, earns
all but one term.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from visenv.errors import InvalidData
from visenv.rewards.answer_text import as_coordinates, find_json_answer, is_think_answer
from visenv.rewards.functional.boxes import box_iou, check_boxes
from visenv.rewards.functional.matching import as_points
from visenv.types import FloatArray

BOUNDS = (0.0, 5.0)
"""The least and the greatest sum of the terms."""
SIDE = 840
"""Pixels of both sides of the picture that the model is shown."""
MIN_IOU, MAX_BOX_L1, MAX_POINT_DISTANCE = 0.5, 10.0, 100.0
"""What has to be exceeded, and in pixels what has to be undercut."""
_KEYS = ("bbox", "points_1", "points_2")


def score(text: str, box: ArrayLike, points: ArrayLike, *, size: tuple[int, int] = (SIDE, SIDE)) -> dict[str, float]:
    """Score what a model wrote: ``<think>…</think><answer>{"bbox": …, "points_1": …, "points_2": …}</answer>``.

    Args:
        text: what it wrote; coordinates in the 840 x 840 frame.
        box: (4,) of the object, xyxy pixels.
        points: (2, 2) two points on the object, xy pixels.
        size: (width, height) of the frame of ``box`` and ``points``, which are stretched to 840 x 840.

    Returns:
        ``think_format`` (the two blocks and nothing else), ``json_format`` (an object of exactly the three keys, with
        4, 2 and 2 coordinates), and the three terms of ``box_terms``, which are 0 without the latter.

    Raises:
        InvalidData: if the box, the points or the size are none.

    Source:
        Seg-Zero, arXiv 2503.06520. It takes the first match of several; here each tag stands once.

    Example:
        >>> json = '{"bbox": [10, 10, 50, 50], "points_1": [20, 20], "points_2": [9, 9]}'
        >>> score(f"<think>big</think><answer>{json}</answer>", [10, 10, 52, 50], [[20, 20], [40, 40]])
        {'think_format': 1.0, 'json_format': 1.0, 'iou': 1.0, 'box_l1': 1.0, 'points': 0.0}
    """
    frame = _as_numbers(size)
    if frame.shape != (2,) or not (np.isfinite(frame).all() and (frame > 0).all()):
        raise InvalidData(f"Expected argument `size` to be (width, height), but got {size!r:.80}.")
    scale = SIDE / frame
    true_box, true_points = _as_box(box) * np.tile(scale, 2), _as_two_points(points) * scale
    found = _parse(find_json_answer(text))
    terms = {"think_format": float(is_think_answer(text)), "json_format": float(found is not None)}
    if found is None:
        return {**terms, "iou": 0.0, "box_l1": 0.0, "points": 0.0}
    return {**terms, **box_terms(found[0], found[1], true_box, true_points)}


def box_terms(box: ArrayLike, points: ArrayLike, true_box: ArrayLike, true_points: ArrayLike) -> dict[str, float]:
    """Score a box and two points, all in the 840 x 840 frame.

    Args:
        box: (4,) predicted, xyxy pixels; one that ends before it begins overlaps nothing.
        points: (2, 2) predicted, xy pixels.
        true_box: (4,).
        true_points: (2, 2).

    Returns:
        ``iou``: IoU > 0.5; ``box_l1``: mean absolute difference of the four numbers < 10; ``points``: both points are
        in the *predicted* box and their mean distance from the true ones, in the better of the two orders, is < 100.
        The box that is meant and the order are our reading.

    Raises:
        InvalidData: if an argument has another shape.

    Example:
        >>> box_terms([0, 0, 9, 9], [[1, 1], [8, 8]], [0, 0, 9, 9], [[8, 8], [1, 1]])
        {'iou': 1.0, 'box_l1': 1.0, 'points': 1.0}
    """
    found, true = _as_box(box), _as_box(true_box)
    spots, targets = _as_two_points(points), _as_two_points(true_points)
    distance = min(float(np.hypot(*(spots - order).T).mean()) for order in (targets, targets[::-1]))
    inside = bool(points_inside(spots, found[None].repeat(2, axis=0)).all())
    return {
        "iou": float(inclusive_iou(found[None], true[None])[0, 0] > MIN_IOU),
        "box_l1": float(np.abs(found - true).mean() < MAX_BOX_L1),
        "points": float(inside and distance < MAX_POINT_DISTANCE),
    }


def inclusive_iou(boxes: FloatArray, true_boxes: FloatArray) -> FloatArray:
    """IoU of boxes whose last pixel belongs to them, as the release counts: a side is x2 − x1 + 1 pixels long.

    Args:
        boxes: (N, 4) predicted, xyxy pixels; those that end before they begin overlap nothing.
        true_boxes: (M, 4).

    Returns:
        (N, M) float64.

    Example:
        >>> inclusive_iou(np.array([[0, 0, 1, 0.0]]), np.array([[0, 0, 0, 0.0]])).tolist()
        [[0.5]]
    """
    last = np.array([0.0, 0.0, 1.0, 1.0])
    proper = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    ious = np.zeros((len(boxes), len(true_boxes)))
    ious[proper] = box_iou(boxes[proper] + last, check_boxes(true_boxes) + last)
    return ious


def points_inside(points: FloatArray, boxes: FloatArray) -> FloatArray:
    """Whether each point is in its box, sides included.

    Args:
        points: (N, 2) xy pixels.
        boxes: (N, 4) xyxy pixels.

    Returns:
        (N,) bool.
    """
    return np.asarray(((points >= boxes[:, :2]) & (points <= boxes[:, 2:])).all(axis=1))


def _parse(value: object) -> tuple[list[float], list[list[float]]] | None:
    if not isinstance(value, dict) or set(value) != set(_KEYS):
        return None
    box, first, second = (as_coordinates(value[key], count) for key, count in zip(_KEYS, (4, 2, 2), strict=True))
    return None if box is None or first is None or second is None else (box, [first, second])


def _as_box(value: ArrayLike) -> FloatArray:
    box = _as_numbers(value)
    if box.shape != (4,) or not np.isfinite(box).all():
        raise InvalidData(f"Expected a box (4,) of finite numbers, but got {value!r:.80}.")
    return box


def _as_numbers(value: ArrayLike) -> FloatArray:
    """As numbers; none at all where something is no number."""
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.zeros(0)


def _as_two_points(value: ArrayLike) -> FloatArray:
    points = as_points(value)
    if len(points) != 2:
        raise InvalidData(f"Expected two points (2, 2), but got {len(points)}.")
    return points
