"""From the coarse maps that networks give to masks over an image, without a full frame for each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visenv.masks import Masks
from visenv.types import BoolArray

_AT_ONCE = 2**16
"""Pixels that are made at a time: as many as a processor keeps close by."""

_BLOCK = 2**18
"""Pixels of an enlarged map that are made at once: what fits into a processor's cache is made several times faster."""


def masks_from_logits(
    logits: NDArray[np.floating[Any]],
    size: tuple[int, int],
    *,
    content: tuple[float, float] | None = None,
    origin: tuple[float, float] = (0.0, 0.0),
    boxes: NDArray[np.floating[Any]] | None = None,
    threshold: float = 0.0,
) -> Masks:
    """Binary masks over an image, from maps of a lower resolution.

    A map is enlarged by linear interpolation between the centres of its cells (as torch's ``interpolate`` with
    ``align_corners=False``) and compared with the threshold; only the part of the image where it can be above is made.

    Args:
        logits: (N, h, w) float, whatever is above the threshold is on the object.
        size: (width, height) of the image.
        content: the (width, height) of the part of a map that the image covers, in cells; all of it if left out. The
            rest is padding.
        origin: the (x, y) where that part begins in a map, in cells.
        boxes: (N, 4) xyxy pixels of the image; pixels whose centres lie outside their mask's box are not set.
        threshold: see above.

    Returns:
        N masks over the image, as cropped as they can be.
    """
    width, height = size
    maps = np.asarray(logits, dtype=np.float32)
    wide, high = content or (maps.shape[2], maps.shape[1])
    left, top = math.floor(origin[0]), math.floor(origin[1])
    maps = maps[:, top : math.ceil(origin[1] + high), left : math.ceil(origin[0] + wide)]
    start = (origin[0] - left, origin[1] - top)
    step = (wide / width, high / height)
    limits = np.tile([0, 0, width, height], (len(maps), 1))
    if boxes is not None:
        limits = np.clip(np.ceil(np.asarray(boxes, np.float64).reshape(-1, 4) - 0.5), 0, limits[:, [2, 3, 2, 3]])
    crops: list[BoolArray] = []
    offsets: list[tuple[int, int]] = []
    for each, limit in zip(maps, limits.astype(np.int64).tolist(), strict=True):
        window = _window(each > threshold, step, start, limit)
        if window is None:
            crops.append(np.zeros((1, 1), np.bool_))
            offsets.append((0, 0))
            continue
        x0, y0, x1, y1 = window
        columns = _interpolated(each, np.arange(x0, x1), step[0], start[0], axis=1)
        crop = np.empty((y1 - y0, x1 - x0), np.bool_)
        at_once = max(1, _BLOCK // (x1 - x0))
        for y in range(y0, y1, at_once):
            rows = np.arange(y, min(y + at_once, y1))
            crop[rows[0] - y0 : rows[-1] + 1 - y0] = _interpolated(columns, rows, step[1], start[1], axis=0) > threshold
        crops.append(crop)
        offsets.append((x0, y0))
    return Masks.from_crops(crops, np.array(offsets, np.int64).reshape(-1, 2), (height, width))


def _window(
    above: BoolArray, steps: tuple[float, float], starts: tuple[float, float], limit: Sequence[int]
) -> tuple[int, int, int, int] | None:
    """The pixels within limits that lie less than a cell from one above the threshold: x0, y0, x1, y1."""
    ranges = []
    for axis, step, start in ((0, steps[0], starts[0]), (1, steps[1], starts[1])):
        cells = np.flatnonzero(above.any(axis=axis))
        if not len(cells):
            return None
        # Pixel p lies at start + (p + 0.5) * step - 0.5 cells, and cell c reaches to c - 1 and c + 1.
        first, last = (cells[0] - 0.5 - start) / step - 0.5, (cells[-1] + 1.5 - start) / step - 0.5
        first = limit[axis] if cells[0] == 0 else first
        last = limit[axis + 2] - 1 if cells[-1] == above.shape[1 - axis] - 1 else last
        ranges.append((max(limit[axis], math.floor(first)), min(limit[axis + 2], math.ceil(last) + 1)))
    (x0, x1), (y0, y1) = ranges
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _interpolated(
    cells: NDArray[np.float32], pixels: NDArray[np.int64], step: float, start: float, axis: int
) -> NDArray[np.float32]:
    """The values at some pixels along one axis; beyond the outermost centres, the outermost cells'."""
    last = cells.shape[axis] - 1
    places = np.clip(start + (pixels + 0.5) * step - 0.5, 0, last)
    before = np.minimum(places.astype(np.int64), last)
    weight = (places - before).astype(np.float32)
    weight = weight[:, None] if axis == 0 else weight[None, :]
    lower, upper = np.take(cells, before, axis), np.take(cells, np.minimum(before + 1, last), axis)
    blended: NDArray[np.float32] = lower + (upper - lower) * weight
    return blended


def letterbox_scale(size: tuple[int, int], side: int | Sequence[int]) -> tuple[float, int, int]:
    """How an image is fitted into a square (or a width and height) without changing its shape.

    Args:
        size: (width, height) of the image.
        side: of the square, or (width, height), in pixels.

    Returns:
        The factor, and the width and height of the fitted image, at least 1 each.
    """
    wide, high = (side, side) if isinstance(side, int) else side
    factor = min(wide / size[0], high / size[1])
    return factor, max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
