"""Telling the pattern painted over an object: plain, striped, dotted or checked.

A patterned object has ink, pixels without its hue, between those with it. How much of the hue's own area the ink covers
tells plain from patterned; the ink's gradients tell the rest: parallel for stripes (coherence of the structure tensor,
Bigun and Granlund 1987), and of dots and checks, dots leave more of the ground free.
"""

from __future__ import annotations

import math
from functools import cache

import cv2
import numpy as np

from visenv.experts.classical.colour import squared_chroma
from visenv.experts.classical.regions import Region
from visenv.types import FloatArray, IntArray

PATTERNS = ("plain", "striped", "dotted", "checked")
INK_CHROMA = 22.0
"""Chroma below which a pixel amid a hue is ink."""
LEAST_HUED = 60
"""Working pixels of hue below which nothing is said about a pattern."""


_SQUARE = np.ones((3, 3), dtype=np.uint8)


@cache
def _ellipse(side: int) -> IntArray:
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))


def pattern_features(region: Region, lab: FloatArray) -> tuple[float, float]:
    """What patterns are told by.

    Args:
        region: the object.
        lab: (h, w, 3) Lab colours of its crop.

    Returns:
        Share of ink in the closed area of the hue, and coherence of the ink's gradients in [0, 1].
    """
    side = max(3, int(round(0.16 * max(region.hued.shape))) | 1)
    reach = side // 2
    padded = cv2.copyMakeBorder(region.hued.view(np.uint8), reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=0)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _ellipse(side))
    inner = closed[reach:-reach, reach:-reach] & region.mask.view(np.uint8)
    inner = cv2.erode(inner, _SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    ink = inner & (squared_chroma(lab) < INK_CHROMA**2).view(np.uint8)
    inked = cv2.countNonZero(ink)
    if inked == 0:
        return 0.0, 0.0
    smooth = cv2.GaussianBlur(ink.astype(np.float32), (0, 0), 1.0)
    seen = inner.view(bool)
    gx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)[seen]
    gy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)[seen]
    xx, yy, xy = float(gx @ gx), float(gy @ gy), float(gx @ gy)
    return inked / cv2.countNonZero(inner), math.hypot(xx - yy, 2 * xy) / max(xx + yy, 1e-9)


def pattern_probabilities(region: Region, lab: FloatArray) -> dict[str, float]:
    """Probability of each pattern."""
    if region.hue < 0 or np.count_nonzero(region.hued) < LEAST_HUED:
        return {"plain": 0.7, "striped": 0.1, "dotted": 0.1, "checked": 0.1}
    share, coherence = pattern_features(region, lab)
    patterned = _logistic((share - 0.15) / 0.03)
    striped = _logistic((coherence - 0.4) / 0.06)
    checked = _logistic((share - 0.36) / 0.03)
    return {
        "plain": 1 - patterned,
        "striped": patterned * striped,
        "dotted": patterned * (1 - striped) * (1 - checked),
        "checked": patterned * (1 - striped) * checked,
    }


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-min(max(value, -50.0), 50.0)))
