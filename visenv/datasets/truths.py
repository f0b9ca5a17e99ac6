"""Truths from plain JSON values: the way back from ``visenv.records.truth_record``, and from VisHarness's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from visenv.datasets.files import points_array
from visenv.errors import DatasetError, InvalidData
from visenv.masks import Masks
from visenv.types import AnswerTruth, BoxesTruth, MaskTruth, PointsTruth, Truth


def truth_of_record(record: Mapping[str, Any], size: tuple[int, int], where: str) -> Truth:
    """A truth as it was before it was written down.

    Args:
        record: as ``truth_record`` writes it.
        size: (H, W) of the picture.
        where: what messages call it.

    Raises:
        DatasetError: if it is none.

    Example:
        >>> truth_of_record({"type": "points", "points": [[1.5, 2.0]]}, (4, 4), "here").points.tolist()
        [[1.5, 2.0]]
    """
    try:
        kind = record["type"]
        if kind == "masks":
            ignore = record["ignore"]
            return MaskTruth(
                Masks.from_coco_rles(record["target"], size),
                None if ignore is None else Masks.from_coco_rles(ignore, size),
            )
        if kind == "boxes":
            ignore, labels = record["ignore"], record["labels"]
            return BoxesTruth(
                _boxes(record["boxes"]),
                labels=None if labels is None else tuple(labels),
                ignore=None if ignore is None else _boxes(ignore),
            )
        if kind == "points":
            return PointsTruth(points_array(record["points"], where))
        if kind == "answers":
            choices = record["choices"]
            return AnswerTruth(tuple(record["answers"]), None if choices is None else tuple(choices))
    except (KeyError, TypeError, ValueError, InvalidData) as error:
        raise DatasetError(f"Expected a truth in {where}, but it is broken: {error!r:.200}") from error
    raise DatasetError(f"Expected a truth of type masks, boxes, points or answers in {where}, but got {kind!r:.60}.")


def _boxes(rows: Any) -> Any:
    boxes = np.asarray(rows, np.float64).reshape(len(rows), 4)
    if not np.isfinite(boxes).all():
        raise ValueError("a coordinate is not finite")
    return boxes
