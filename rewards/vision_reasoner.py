"""The reward of VisionReasoner (arXiv 2505.12081): form, no repetition, and a matching of boxes and points.

How it can be gamed: beyond 120 items nothing is looked at, so that where 120 are to be found any number of further ones
is free. Form alone pays 4 of 7: two numbers a point and four a box, whatever they are. Repetition is looked for between
full stops alone: the same words over and over, parted by commas, are none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from visenv.errors import InvalidData
from visenv.rewards.answer_text import as_coordinates, bounded, find_json_answer, is_think_answer
from visenv.rewards.functional.boxes import check_boxes
from visenv.rewards.functional.matching import as_points, hungarian_match
from visenv.rewards.seg_zero import inclusive_iou, points_inside
from visenv.types import FloatArray

BOUNDS = (0.0, 7.0)
"""The least and the greatest sum of the terms."""
MAX_ITEMS = 120
"""Predicted and true objects that are looked at, the first ones."""
MIN_IOU, MAX_BOX_L1, MAX_POINT_DISTANCE = 0.5, 10.0, 30.0
"""What has to be exceeded, and in pixels what has to be undercut."""
MAX_REPEATS = 2
"""Repeated sentences from which on a text is repetitive."""


class _Items(NamedTuple):
    """What stands in an answer."""

    boxes: list[list[float] | None]
    points: list[list[float] | None]


def score(text: str, boxes: ArrayLike, points: ArrayLike) -> dict[str, float]:
    """Score what a model wrote: ``<answer>[{"bbox_2d": [4 numbers], "point_2d": [2 numbers]}, …]</answer>``.

    Args:
        text: what it wrote; coordinates in the frame of the picture that it was shown.
        boxes: (N, 4) of the objects, xyxy pixels in that frame.
        points: (N, 2) one on each object, xy pixels.

    Returns:
        ``format`` (1 for a thought, an answer and nothing else), ``item_format`` (the mean over the items of 1 for a
        box of four numbers and 1 for a point of two), ``no_repeat`` (see ``repetition_term``) and ``match`` (see
        ``match_score``; 0 unless every item has both).

    Raises:
        InvalidData: if boxes or points are none, or not as many of both.

    Source:
        VisionReasoner, arXiv 2505.12081. It takes the first match of several tags; here each stands once.

    Example:
        >>> text = '<think>one</think><answer>[{"bbox_2d": [0, 0, 40, 40], "point_2d": [20, 20]}]</answer>'
        >>> score(text, [[0, 0, 40, 44]], [[20, 22]])
        {'format': 1.0, 'item_format': 2.0, 'no_repeat': 1.0, 'match': 3.0}
    """
    items = _parse(find_json_answer(text))
    match = 0.0
    found = [(box, point) for box, point in zip(*items, strict=True) if box is not None and point is not None]
    if found and len(found) == len(items.boxes):
        match = match_score([box for box, _ in found], [point for _, point in found], boxes, points)
    else:
        _check_truth(boxes, points)
    given = sum(value is not None for value in (*items.boxes, *items.points))
    return {
        "format": float(is_think_answer(text)),
        "item_format": given / max(1, len(items.boxes)),
        "no_repeat": repetition_term(text),
        "match": match,
    }


def match_score(boxes: ArrayLike, points: ArrayLike, true_boxes: ArrayLike, true_points: ArrayLike) -> float:
    """Match predicted with true objects one to one so that the pairs earn most, and return their mean.

    A pair earns 1 for IoU > 0.5, 1 for a mean absolute difference of the boxes' numbers < 10 pixels, and 1 for a point
    less than 30 pixels away that lies in its own box.

    Args:
        boxes: (N, 4) predicted, xyxy pixels; those that end before they begin overlap nothing.
        points: (N, 2) predicted, xy pixels.
        true_boxes: (M, 4).
        true_points: (M, 2).

    Returns:
        The sum over the pairs / max(N, M), in [0, 3], over the first 120 of both; 0 if either is empty, also if both
        are, as in the release.

    Raises:
        InvalidData: if there are not as many boxes as points, or something is no number.

    Example:
        >>> match_score([[0, 0, 40, 40]], [[20, 20]], [[0, 0, 40, 40], [90, 90, 99, 99]], [[20, 20], [95, 95]])
        1.5
    """
    try:
        found = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidData(f"Expected argument `boxes` to be (N, 4) numbers, but got {boxes!r:.80}.") from error
    found, spots = found[:MAX_ITEMS], as_points(points)[:MAX_ITEMS]
    if len(found) != len(spots) or not np.isfinite(found).all():
        raise InvalidData(f"Expected finite boxes and as many points, but got {len(found)} and {len(spots)}.")
    true, targets = (values[:MAX_ITEMS] for values in _check_truth(true_boxes, true_points))
    if not len(found) or not len(true):
        return 0.0
    near = (cdist(spots, targets) < MAX_POINT_DISTANCE) & points_inside(spots, found)[:, None]
    close = cdist(found, true, "cityblock") / 4 < MAX_BOX_L1
    worth = (inclusive_iou(found, true) > MIN_IOU).astype(np.float64) + close + near
    pairs = hungarian_match(-worth)
    return float(worth[pairs[:, 0], pairs[:, 1]].sum() / max(len(found), len(true)))


def repetition_term(text: str) -> float:
    """1 unless a text repeats itself: 0 once two of its sentences have stood before.

    Args:
        text: what the model wrote; parted at full stops, as published, which parts numbers too.

    Example:
        >>> repetition_term("So. It is. So. Red."), repetition_term("So. So. So.")
        (1.0, 0.0)
    """
    known = bounded(text)
    sentences = [sentence.strip() for sentence in known.split(".")]
    said = [sentence for sentence in sentences if sentence]
    return float(len(known) == len(text) and len(said) - len(set(said)) < MAX_REPEATS)


def _parse(value: object) -> _Items:
    items = value if isinstance(value, list) else []
    known = [item if isinstance(item, dict) else {} for item in items]
    return _Items(
        [as_coordinates(item.get("bbox_2d"), 4) for item in known],
        [as_coordinates(item.get("point_2d"), 2) for item in known],
    )


def _check_truth(boxes: ArrayLike, points: ArrayLike) -> tuple[FloatArray, FloatArray]:
    true, targets = check_boxes(boxes, "true_boxes"), as_points(points, "true_points")
    if len(true) != len(targets):
        raise InvalidData(f"Expected a true point for each true box, but got {len(targets)} for {len(true)}.")
    return true, targets
