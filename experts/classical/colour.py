"""Naming colours: how likely each basic colour word is for pixels in CIE Lab.

Source of the words: the eleven basic colour terms of Berlin and Kay (1969), and teal, which stands for cyan and
turquoise. Their prototypes here are sRGB values that people draw with, each with a shade and a tint; the distance is
Euclidean in Lab with lightness weighted down, because lighting changes it most.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from visenv.types import FloatArray, Pixels

PROTOTYPES: dict[str, tuple[tuple[int, int, int], ...]] = {
    "red": ((212, 34, 38), (159, 26, 29), (235, 155, 157)),
    "orange": ((246, 136, 22), (190, 102, 16), (251, 200, 150)),
    "yellow": ((250, 222, 50), (188, 166, 38), (253, 240, 163)),
    "green": ((40, 150, 60), (30, 112, 45), (110, 190, 110), (158, 208, 167)),
    "teal": ((60, 205, 215), (45, 154, 161), (20, 130, 130), (167, 232, 237)),
    "blue": ((38, 78, 205), (28, 58, 154), (90, 150, 230), (157, 175, 232)),
    "purple": ((125, 45, 165), (94, 34, 124), (165, 110, 205), (196, 160, 214)),
    "pink": ((248, 150, 195), (186, 112, 146), (240, 110, 165), (252, 208, 228)),
    "brown": ((135, 85, 45), (100, 60, 35)),
    "white": ((245, 245, 245),),
    "grey": ((135, 135, 135), (90, 90, 90), (185, 185, 185)),
    "black": ((25, 25, 25),),
}
"""sRGB prototypes of each colour word."""
NAMES = tuple(PROTOTYPES)
CHROMATIC = NAMES.index("white")
"""How many of the names, the first ones, are of a hue."""
LIGHTNESS_WEIGHT = 0.5
SOFTNESS = 9.0
"""Lab units over which the likelihood of a name falls by a factor of e^(1/2)."""


def to_lab(pixels: Pixels) -> FloatArray:
    """CIE Lab of an image: (H, W, 3) float32, L in [0, 100], a and b about [-128, 127]."""
    return np.asarray(cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2Lab))


def squared_chroma(lab: FloatArray) -> FloatArray:
    """How far (H, W, 3) Lab colours are from grey, squared: (H, W)."""
    return np.asarray(cv2.transform(cv2.multiply(lab, lab), _A_AND_B))


_A_AND_B = np.array([[0, 1, 1]], dtype=np.float32)


@cache
def _prototypes() -> tuple[FloatArray, tuple[int, ...]]:
    rgb = np.array([[value for values in PROTOTYPES.values() for value in values]], dtype=np.uint8)
    owners = tuple(index for index, values in enumerate(PROTOTYPES.values()) for _ in values)
    return to_lab(rgb)[0] * [LIGHTNESS_WEIGHT, 1, 1], owners


def name_probabilities(lab: FloatArray) -> FloatArray:
    """Probability of each name in ``NAMES`` for Lab colours.

    Args:
        lab: (..., 3) CIE Lab.

    Returns:
        (..., 12), each row summing to 1.

    Example:
        >>> lab = to_lab(np.array([[[220, 30, 35]]], np.uint8))
        >>> NAMES[int(name_probabilities(lab)[0, 0].argmax())]
        'red'
    """
    prototypes, owners = _prototypes()
    scaled = np.asarray(lab, dtype=np.float64) * [LIGHTNESS_WEIGHT, 1, 1]
    distances = ((scaled[..., None, :] - prototypes) ** 2).sum(axis=-1)
    nearest = np.full((*distances.shape[:-1], len(NAMES)), np.inf)
    for column, owner in enumerate(owners):
        np.minimum(nearest[..., owner], distances[..., column], out=nearest[..., owner])
    exponent = -(nearest - nearest.min(axis=-1, keepdims=True)) / (2 * SOFTNESS**2)
    likelihood = np.exp(exponent)
    return likelihood / likelihood.sum(axis=-1, keepdims=True)
