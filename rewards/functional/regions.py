"""Overlap of regions: sets of masks, taken as the union of what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools import mask as coco

from visenv.errors import InvalidData
from visenv.masks import Masks, as_masks

RATIO_TOLERANCE = 0.01
"""How far the aspect ratio of a prediction may be from its truth's in an evaluation, relatively (VisHarness)."""


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


def fit_to_frame(
    masks: Masks, frame: tuple[int, int], *, absolute: float | None = None, relative: float | None = None
) -> Masks:
    """Unite masks and stretch them to another frame by nearest neighbour, as OpenCV's ``INTER_NEAREST`` does.

    Args:
        masks: the prediction.
        frame: (height, width) of the truth.
        absolute: how far height / width of the two frames may be apart; any distance if left out.
        relative: how far width / height may be off as a share of the truth's; any if left out.

    Returns:
        One mask over ``frame``.

    Raises:
        InvalidData: if the frames are further apart.

    Example:
        >>> fit_to_frame(Masks.from_boxes([[1, 1, 2, 2]], (2, 2)), (4, 4), relative=0.01).boxes.tolist()
        [[2.0, 2.0, 4.0, 4.0]]
    """
    (height, width), (true_height, true_width) = masks.shape, frame
    for apart, limit in (
        (abs(height / width - true_height / true_width), absolute),
        (abs((width / height) / (true_width / true_height) - 1.0), relative),
    ):
        if limit is not None and apart > limit:
            raise InvalidData(
                f"Expected a prediction of the shape of its truth, {true_height}x{true_width} (height x width), "
                f"but got {height}x{width}, whose aspect ratio is {apart:.4f} off (at most {limit})."
            )
    return as_region(masks).resize_nearest(frame)


def _regions(*values: Any) -> list[Masks]:
    """Join each of several sets of masks into one; an empty list has the frame of the others."""
    regions = [None if isinstance(value, (list, tuple)) and not value else as_region(value) for value in values]
    frames = [region.shape for region in regions if region is not None]
    if not frames:
        raise InvalidData("Expected the frame of at least one side, but got empty lists: give Masks.empty((H, W)).")
    return [Masks.empty(frames[0]).union() if region is None else region for region in regions]
