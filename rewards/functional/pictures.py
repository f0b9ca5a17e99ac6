"""How near a picture is to another: in its grey levels and colours, and in its edges."""

from __future__ import annotations

import cv2
import numpy as np

from visenv.errors import InvalidData
from visenv.types import FloatArray, Pixels

COLOUR_FLOOR = 4 / 255
"""A colour error that is not more than this counts as none: what is that near need not get nearer."""
EDGE_FLOOR = 0.25
"""The same for the error of edges."""


def colour_error(picture: Pixels, clean: Pixels) -> float:
    """The mean absolute difference of two pictures.

    Args:
        picture: (H, W, 3) uint8; one of another size is resized to the other's first, whatever its shape.
        clean: (h, w, 3) uint8.

    Returns:
        In [0, 1]: 1 is black against white.

    Raises:
        InvalidData: if one of them is no picture.

    Example:
        >>> colour_error(np.full((2, 2, 3), 51, np.uint8), np.zeros((4, 4, 3), np.uint8))
        0.2
    """
    fitted, other = _fitted(picture, clean)
    return float(cv2.norm(fitted, other, cv2.NORM_L1) / (255 * other.size))


def edge_error(picture: Pixels, clean: Pixels) -> float:
    """How much the edges of two pictures disagree: the distance of their gradients, both brought to length 1.

    What is lighter, darker or paler has the same edges; what is turned, shifted, blurred or flat has others. That is
    √(2 − 2ρ), ρ being the correlation of the gradients, and 1 from ρ = 0.5 down: a blend of four pictures has the
    edges of none.

    Args:
        picture: (H, W, 3) uint8; one of another size is resized to the other's first.
        clean: (h, w, 3) uint8.

    Returns:
        In [0, 1]: 1 where little agrees, or one of the two has no edge and the other has; 0 where neither has.

    Raises:
        InvalidData: if one of them is no picture.

    Example:
        >>> step = np.zeros((8, 8, 3), np.uint8)
        >>> step[:, 4:] = 200
        >>> round(edge_error(step // 2, step), 6), edge_error(step.transpose(1, 0, 2), step) > 0.9
        (0.0, True)
    """
    fitted, other = _fitted(picture, clean)
    one, two = _gradients(fitted), _gradients(other)
    lengths = float(np.linalg.norm(one)), float(np.linalg.norm(two))
    if not all(lengths):
        return float(any(lengths))
    correlation = float(one @ two) / (lengths[0] * lengths[1])
    # What is left of rounding is nothing.
    return float(min(1.0, np.sqrt(max(0.0, 2 - 2 * correlation)))) if correlation < 1 - 1e-12 else 0.0


def mending(picture: Pixels, damaged: Pixels, clean: Pixels) -> float:
    """How much of what was wrong with a picture has been put right.

    Args:
        picture: (H, W, 3) uint8; what was made of the damaged one. Of another size it is resized to the clean one's.
        damaged: (h', w', 3) uint8; what it was made of.
        clean: (h, w, 3) uint8; what it should be.

    Returns:
        In [0, 1]: the lesser of two relative reductions, max(0, 1 − x(picture) / max(x(damaged), floor)), where x is
        by how much an error is above its floor: ``colour_error`` (floor 4/255) and ``edge_error`` (floor 0.25). 0
        for the damaged picture itself where it is worse than a floor by as much again, 1 for the clean one, be it
        damaged or not. That it is the lesser of the two keeps a flat or a blurred picture, whose grey levels are near
        everything, from earning.

    Raises:
        InvalidData: if one of them is no picture.

    Example:
        >>> clean = np.zeros((8, 8, 3), np.uint8)
        >>> clean[:, 4:] = 200
        >>> mending(clean, clean // 4, clean), mending(clean // 4, clean // 4, clean)
        (1.0, 0.0)
        >>> round(mending(clean // 2, clean // 4, clean), 2), mending(np.full_like(clean, 100), clean // 4, clean)
        (0.35, 0.0)
    """
    return reduction(picture_errors(picture, clean), picture_errors(damaged, clean))


def picture_errors(picture: Pixels, clean: Pixels) -> tuple[float, float]:
    """``colour_error`` and ``edge_error``, of which ``mending`` is made."""
    return colour_error(picture, clean), edge_error(picture, clean)


def reduction(after: tuple[float, float], before: tuple[float, float]) -> float:
    """``mending`` by errors that are known.

    Args:
        after: the ``picture_errors`` of what was made of the damaged picture.
        before: those of the damaged picture.

    Example:
        >>> reduction((0.1, 0.0), (0.2, 0.5)) == 1 - (0.1 - COLOUR_FLOOR) / (0.2 - COLOUR_FLOOR)
        True
    """
    parts = []
    for floor, left, wrong in zip((COLOUR_FLOOR, EDGE_FLOOR), after, before, strict=True):
        parts.append(max(0.0, 1 - max(0.0, left - floor) / max(wrong - floor, floor)))
    return min(parts)


def likeness(picture: Pixels, clean: Pixels) -> float:
    """How near a picture is to another, all by itself.

    Args:
        picture: (H, W, 3) uint8; one of another size is resized to the other's first.
        clean: (h, w, 3) uint8.

    Returns:
        In [0, 1]: (1 − edge error) · max(0, 1 − 4 · colour error).

    Raises:
        InvalidData: if one of them is no picture.

    Example:
        >>> clean = np.zeros((8, 8, 3), np.uint8)
        >>> clean[:, 4:] = 204
        >>> likeness(clean, clean), round(likeness(clean // 2, clean), 2)
        (1.0, 0.2)
    """
    return (1 - edge_error(picture, clean)) * max(0.0, 1 - 4 * colour_error(picture, clean))


def _fitted(picture: Pixels, clean: Pixels) -> tuple[Pixels, Pixels]:
    for pixels in (picture, clean):
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise InvalidData(f"Expected pictures (H, W, 3) uint8, but got {pixels.dtype} {pixels.shape}.")
    if picture.shape == clean.shape:
        return picture, clean
    size = (clean.shape[1], clean.shape[0])
    shrinks = picture.shape[0] * picture.shape[1] > size[0] * size[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=way), np.uint8), clean


def _gradients(pixels: Pixels) -> FloatArray:
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY).astype(np.float32)
    parts = [cv2.Sobel(grey, cv2.CV_32F, *way, ksize=3).ravel() for way in ((1, 0), (0, 1))]
    return np.concatenate(parts).astype(np.float64)
