"""Prompts in pixels of an image, as SAM 2 takes them: tokens in its square frame, and coarse logits for masks."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from visenv.capabilities import Prompt
from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.types import FloatArray

BACKGROUND, FOREGROUND, TOP_LEFT, BOTTOM_RIGHT = 0, 1, 2, 3
"""What SAM's labels say a point is."""
_SURE = 10.0
"""The logit of a pixel that is on a mask; minus that beside it (``SAM2Base._use_mask_as_output``)."""


@dataclass(frozen=True, eq=False)
class SquarePrompt:
    """A prompt in the square that the network sees."""

    points: NDArray[np.float32]
    """(T, 2) xy in pixels of the square: the corners of the box if there is one, then points."""
    labels: NDArray[np.int32]
    """(T,) as SAM numbers them."""
    mask: NDArray[np.float32] | None
    """(side, side) logits."""


def square_prompt(prompt: Prompt, size: tuple[int, int], side: int, mask_side: int) -> SquarePrompt | None:
    """Carry a prompt into the square that an image is stretched to.

    What is not finite is left out, and what lies outside of the image counts as its nearest edge. A mask alone comes
    with its box: SAM was trained on masks beside the points or the box that they came from.

    Args:
        prompt: in pixels of an image.
        size: (width, height) of the image.
        side: of the square, pixels.
        mask_side: of masks that are refined, cells.

    Returns:
        The prompt; None if nothing in it says where to look: no point on the object, no box with an area, no mask with
        a pixel.

    Raises:
        InvalidData: if a mask is not one mask over the image, or points and labels disagree in number.
    """
    points, labels = _points(prompt, size)
    mask = None if prompt.mask is None else _mask_logits(prompt.mask, size, mask_side)
    corners = _corners(prompt.located, size)
    if corners is None and mask is None and not (labels == FOREGROUND).any():
        return None
    if corners is not None:
        points = np.concatenate([corners, points])
        labels = np.concatenate([np.array([TOP_LEFT, BOTTOM_RIGHT], np.int32), labels])
    square = (points / np.array(size)).astype(np.float32) * np.float32(side)
    return SquarePrompt(square, labels, mask)


def _points(prompt: Prompt, size: tuple[int, int]) -> tuple[FloatArray, NDArray[np.int32]]:
    points = np.asarray(prompt.points, np.float64).reshape(-1, 2)
    labels = np.ones(len(points)) if prompt.labels is None else np.asarray(prompt.labels, np.float64).reshape(-1)
    if len(labels) != len(points):
        raise InvalidData(f"expected a label a point, but got {len(points)} points and {len(labels)} labels")
    finite = np.isfinite(points).all(axis=1)
    return np.clip(points[finite], 0, size), np.where(labels[finite] > 0, FOREGROUND, BACKGROUND).astype(np.int32)


def _corners(prompt: Prompt, size: tuple[int, int]) -> FloatArray | None:
    """(2, 2) xy; None if there is no box, or nothing of it lies in the image."""
    if prompt.box is None:
        return None
    box = np.asarray(prompt.box, np.float64).reshape(-1)
    if len(box) != 4 or not np.isfinite(box).all():
        return None
    corners = np.clip(box.reshape(2, 2), 0, size)
    return corners if (corners[1] > corners[0]).all() else None


def _mask_logits(mask: Masks, size: tuple[int, int], side: int) -> NDArray[np.float32] | None:
    """A mask on the coarse grid of SAM's own masks, from -10 to 10 by the share of a cell that it covers."""
    if len(mask) != 1 or mask.shape != size[::-1]:
        raise InvalidData(
            f"expected one mask over the image's (height, width) {size[::-1]} as a prompt, but got {len(mask)} over "
            f"{mask.shape}"
        )
    if not mask.areas[0]:
        return None
    share = cv2.resize(mask.to_dense()[0].view(np.uint8) * np.uint8(255), (side, side), interpolation=cv2.INTER_AREA)
    return (share.astype(np.float32) / 255 * 2 - 1) * np.float32(_SURE)
