"""The records that trainers hand to ``compute_score``, checked and turned into masks, points and boxes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.rewards.functional.matching import as_points
from visenv.types import FloatArray

MASK_TYPES = ("gres_rle_mask", "reasonseg_rle_mask")
TYPES = (*MASK_TYPES, "point")


@dataclass(frozen=True)
class GroundTruth:
    """What is right, as the published data sets write it."""

    type: str
    """One of ``TYPES``."""
    target: Masks | None = None
    """For masks: one mask; None for "nothing there"."""
    ignore: Masks | None = None
    """For ``reasonseg_rle_mask``: one mask over the same frame."""
    points: FloatArray | None = None
    """For ``point``: (N, 2) xy pixels."""

    @property
    def is_mask(self) -> bool:
        """Whether it is one of the types with masks."""
        return self.type in MASK_TYPES


@dataclass(frozen=True)
class FinalResult:
    """A final result as it was recorded; what is not needed for a score stays unchecked."""

    boxes: Sequence[Any]
    """Each [x1, y1, x2, y2] in pixels of the masks' frame."""
    rles: Sequence[Any]
    """COCO RLEs."""
    count: float | None

    @property
    def is_visual(self) -> bool:
        """Whether it shows anything."""
        return bool(len(self.boxes) or len(self.rles) or (self.count is not None and self.count > 0))

    def masks(self, frame: tuple[int, int]) -> Masks:
        """Return the masks; an empty list is an empty set over ``frame``, (height, width).

        Raises:
            InvalidData: if an RLE is broken, or their sizes differ.
        """
        if not len(self.rles):
            return Masks.empty(frame)
        try:
            return Masks.from_coco_rles(list(self.rles))
        except InvalidData as error:
            raise InvalidData(f"final_results['final_masks']: {error}") from error


def parse_ground_truth(value: Any, name: str = "ground_truth") -> GroundTruth:
    """Read a ground truth.

    Args:
        value: JSON text or a dict ``{"type": …, "data": …}``.
        name: how it is called in an error.

    Raises:
        InvalidData: if it is none, its type is unknown, or its data are not as the type says.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidData(f"Expected argument `{name}` to be JSON, but got {value!r:.80}: {error}") from error
    if not isinstance(value, Mapping) or "type" not in value or "data" not in value:
        raise InvalidData(
            f"Expected argument `{name}` to be a dict with 'type' and 'data', but got {_describe(value)}."
        )
    kind, data = value["type"], value["data"]
    try:
        if kind == "gres_rle_mask":
            return GroundTruth(kind, target=None if data is None else _one_mask(data))
        if kind == "reasonseg_rle_mask":
            return GroundTruth(kind, *_target_and_ignore(data))
        if kind == "point":
            return GroundTruth(kind, points=_points(data))
    except InvalidData as error:
        raise InvalidData(f"`{name}` of type {kind!r}: {error}") from error
    raise InvalidData(f"Expected the type of `{name}` to be one of {', '.join(TYPES)}, but got {kind!r:.80}.")


def parse_final_result(value: Any) -> FinalResult | None:
    """Read a final result.

    Args:
        value: None, or a dict with ``final_bboxes``, ``final_masks`` and ``count``.

    Raises:
        InvalidData: if it is neither, or a list in it is none.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidData(f"Expected `final_results` to be null or a dict, but got {_describe(value)}.")
    rles = value.get("final_masks")
    count = value.get("count")
    return FinalResult(
        boxes=_sequence(value.get("final_bboxes"), "final_results['final_bboxes']"),
        rles=[rles] if isinstance(rles, Mapping) else _sequence(rles, "final_results['final_masks']"),
        count=None if count is None else parse_number(count, "final_results['count']"),
    )


def parse_turns(value: Any) -> list[Mapping[str, Any]]:
    """Read the records of turns.

    Args:
        value: None or a sequence of dicts.

    Raises:
        InvalidData: if it is neither.
    """
    turns = list(_sequence(value, "turn_records"))
    for index, turn in enumerate(turns):
        if not isinstance(turn, Mapping):
            raise InvalidData(f"Expected turn_records[{index}] to be a dict, but got {_describe(turn)}.")
    return turns


def parse_number(value: Any, name: str) -> float:
    """Read a number of a record.

    Raises:
        InvalidData: if it is no number, or larger than any figure of a trajectory.
    """
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)) or not abs(value) < 2**53:
        raise InvalidData(f"Expected {name} to be a finite number, but got {_describe(value)}.")
    return float(value)


def _one_mask(data: Any) -> Masks:
    masks = Masks.from_coco_rles([data] if isinstance(data, Mapping) else data)
    if len(masks) != 1:
        raise InvalidData(f"Expected one RLE, but got {len(masks)}: write no target as null, several as their union.")
    return masks


def _target_and_ignore(data: Any) -> tuple[Masks, Masks]:
    if not isinstance(data, Mapping) or "target_rle" not in data or "ignore_rle" not in data:
        raise InvalidData(f"Expected data to be a dict with 'target_rle' and 'ignore_rle', but got {_describe(data)}.")
    target, ignore = _one_mask(data["target_rle"]), _one_mask(data["ignore_rle"])
    if target.shape != ignore.shape:
        raise InvalidData(f"Expected one frame for target and ignore, but got {target.shape} and {ignore.shape}.")
    return target, ignore


def _points(data: Any) -> FloatArray:
    if isinstance(data, (str, bytes, Mapping)) or not isinstance(data, (Sequence, np.ndarray)):
        raise InvalidData(f"Expected data to be a list of [x, y], but got {_describe(data)}.")
    return as_points(data, "data")


def _sequence(value: Any, name: str) -> Sequence[Any]:
    if value is None:
        return ()
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, (Sequence, np.ndarray)):
        raise InvalidData(f"Expected {name} to be a list, but got {_describe(value)}.")
    return list(value)


def _describe(value: Any) -> str:
    return f"a dict with {sorted(map(str, value))!r:.120}" if isinstance(value, Mapping) else f"{value!r:.80}"
