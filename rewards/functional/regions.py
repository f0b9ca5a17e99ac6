"""Overlap of regions: sets of masks, taken as the union of what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools import mask as coco

from visenv.errors import InvalidData
from visenv.masks import Masks, as_masks


def mask_intersection_union(pred: Any, target: Any, ignore: Any = None) -> tuple[int, int]:
    """Pixels that two regions have in common, and pixels that either has.

    Regions that are given as run-length encodings are compared run by run, without decoding, unless there is something
    to ignore.

    Args:
        pred: the predicted masks: a ``Masks``, a dense (H, W) or (N, H, W) array of bool or integers, one COCO RLE or a
            list of them. An empty list of RLEs is an empty region.
        target: the true masks, likewise, over the same frame.
        ignore: masks of pixels that count for neither side; they are removed from both first.

    Returns:
        Intersection and union, in pixels.

    Raises:
        InvalidData: if an argument is no set of masks, or the frames differ: resize the prediction first.

    Source:
        Ignored pixels as in the ReasonSeg evaluation of LISA (arXiv 2308.00692) and VisHarness (arXiv 2605.29894).

    Example:
        >>> import numpy as np
        >>> pred, target, ignore = np.array([[1, 1, 0, 1]]), np.array([[0, 1, 1, 0]]), np.array([[0, 0, 0, 1]])
        >>> mask_intersection_union(pred, target), mask_intersection_union(pred, target, ignore)
        ((1, 4), (1, 3))
    """
    first, second, *rest = _regions(pred, target) if ignore is None else _regions(pred, target, ignore)
    if rest and rest[0].areas[0]:
        first, second = first.minus(rest[0]), second.minus(rest[0])
    intersection = int(first.intersection_areas(second)[0, 0])
    return intersection, int(first.areas[0]) + int(second.areas[0]) - intersection


def mask_iou(pred: Any, target: Any, ignore: Any = None, *, empty: float = 1.0) -> float:
    """Intersection over union of two regions.

    Args:
        pred: the predicted masks, in any form that ``mask_intersection_union`` takes.
        target: the true masks.
        ignore: masks of pixels that count for neither side.
        empty: what two regions without any pixel score: 1, they agree. (A metric that asks for an explicit "nothing
            there" must look at the episode instead, as ``GIoU`` does.)

    Returns:
        A number in [0, 1].

    Raises:
        InvalidData: if an argument is no set of masks, or the frames differ.

    Example:
        >>> import numpy as np
        >>> nothing = np.zeros((1, 3), bool)
        >>> mask_iou(np.array([[1, 1, 0]]), np.array([[0, 1, 0]])), mask_iou(nothing, nothing)
        (0.5, 1.0)
    """
    intersection, union = mask_intersection_union(pred, target, ignore)
    return intersection / union if union else empty


def dice(pred: Any, target: Any, ignore: Any = None, *, empty: float = 1.0) -> float:
    """The Dice coefficient of two regions: twice the intersection over the sum of the areas.

    Args:
        pred: the predicted masks, in any form that ``mask_intersection_union`` takes.
        target: the true masks.
        ignore: masks of pixels that count for neither side.
        empty: what two regions without any pixel score.

    Returns:
        A number in [0, 1]; equal to 2 * IoU / (1 + IoU).

    Raises:
        InvalidData: if an argument is no set of masks, or the frames differ.

    Example:
        >>> import numpy as np
        >>> dice(np.array([[1, 1, 0]]), np.array([[0, 1, 1]]))
        0.5
    """
    intersection, union = mask_intersection_union(pred, target, ignore)
    return 2.0 * intersection / (union + intersection) if union else empty


def as_region(value: Any) -> Masks:
    """Join masks of any form into one.

    Args:
        value: a ``Masks``, a dense array, one COCO RLE or a list of them.

    Returns:
        A ``Masks`` of exactly one mask.

    Raises:
        InvalidData: if it is no set of masks.
    """
    masks = as_masks(value)
    if len(masks) == 1:
        return masks
    if len(masks) and isinstance(value, Sequence) and isinstance(value[0], Mapping):
        return Masks.from_coco_rles(coco.merge(masks.to_coco_rles()))
    return masks.union()


def _regions(*values: Any) -> list[Masks]:
    """Join each of several sets of masks into one; an empty list has the frame of the others."""
    regions = [None if isinstance(value, (list, tuple)) and not value else as_region(value) for value in values]
    frames = [region.shape for region in regions if region is not None]
    if not frames:
        raise InvalidData("Expected the frame of at least one side, but got empty lists: give Masks.empty((H, W)).")
    return [Masks.empty(frames[0]).union() if region is None else region for region in regions]
