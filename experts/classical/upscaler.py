"""Enlarging an image: cubic interpolation and a mild unsharp mask."""

from __future__ import annotations

import cv2
import numpy as np

from visenv.errors import InvalidImage
from visenv.types import Pixels

FINGERPRINT = "classical-upscaler-1"
SHARPENING = 0.4
"""Weight of the detail that the unsharp mask adds back, over a Gaussian of half the factor."""
MAX_PIXELS = 200_000_000
"""The largest result, in pixels."""


def upscale(pixels: Pixels, factor: int) -> Pixels:
    """Enlarge an image by a whole factor.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        factor: at least 1.

    Returns:
        (factor * H, factor * W, 3) uint8 RGB.

    Raises:
        InvalidImage: if the factor is below 1 or the result would be absurdly large.

    Example:
        >>> upscale(np.full((3, 5, 3), 90, np.uint8), 4).shape
        (12, 20, 3)
    """
    height, width = pixels.shape[:2]
    if factor < 1:
        raise InvalidImage(f"Expected an upscaling factor of at least 1, but got {factor}.")
    if height * width * factor * factor > MAX_PIXELS:
        raise InvalidImage(
            f"Expected an upscaled image of at most {MAX_PIXELS} pixels, but {width}x{height} x {factor} is larger: "
            "split it into patches first."
        )
    if factor == 1:
        return pixels.copy()
    large = cv2.resize(np.ascontiguousarray(pixels), (width * factor, height * factor), interpolation=cv2.INTER_CUBIC)
    soft = cv2.GaussianBlur(large, (0, 0), factor / 2)
    sharp = cv2.addWeighted(large, 1 + SHARPENING, soft, -SHARPENING, 0)
    return np.asarray(sharp, dtype=np.uint8)
