"""Enlarging an image: a mild unsharp mask, then cubic interpolation."""

from __future__ import annotations

import cv2
import numpy as np

from visenv.errors import InvalidImage
from visenv.types import Pixels

FINGERPRINT = "classical-upscaler-2"
SHARPENING = 0.4
"""Weight of the detail that the unsharp mask adds back, over a Gaussian of half a pixel of the image given."""
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
    pixels = np.ascontiguousarray(pixels)
    soft = cv2.GaussianBlur(pixels, (0, 0), 0.5)
    # Sharpened while it is small: much the same result, at a fraction of the pixels.
    sharp = cv2.addWeighted(pixels, 1 + SHARPENING, soft, -SHARPENING, 0)
    return np.asarray(
        cv2.resize(sharp, (width * factor, height * factor), interpolation=cv2.INTER_CUBIC), dtype=np.uint8
    )
