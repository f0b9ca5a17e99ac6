"""Telling the pattern painted over an object: plain, striped, dotted or checked.

A patterned object has ink, pixels without its hue, between those with it. How much of the hue's own area the ink covers
tells plain from patterned; the ink's gradients tell the rest: parallel for stripes (coherence of the structure tensor,
Bigun and Granlund 1987), and of dots and checks, dots leave more of the ground free.
"""

from __future__ import annotations

import cv2
import numpy as np

from visenv.experts.classical.regions import Region
from visenv.types import FloatArray

PATTERNS = ("plain", "striped", "dotted", "checked")
INK_CHROMA = 22.0
"""Chroma below which a pixel amid a hue is ink."""
LEAST_HUED = 60
"""Working pixels of hue below which nothing is said about a pattern."""


def pattern_features(region: Region, lab: FloatArray) -> tuple[float, float, int]:
    """What patterns are told by.

    Args:
        region: the object.
        lab: (h, w, 3) Lab colours of its crop.

    Returns:
        Share of ink in the closed area of the hue, coherence of its gradients in [0, 1], and number of separate inks.
    """
    hued = region.hued.astype(np.uint8)
    side = max(3, int(round(0.16 * max(hued.shape))) | 1)
    padded = np.pad(hued, side)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)))
    inner = closed[side:-side, side:-side].astype(bool) & region.mask
    inner = cv2.erode(np.pad(inner.astype(np.uint8), 1), np.ones((3, 3), np.uint8))[1:-1, 1:-1].astype(bool)
    ink = inner & (np.hypot(lab[..., 1], lab[..., 2]) < INK_CHROMA)
    total = int(inner.sum())
    if total == 0:
        return 0.0, 0.0, 0
    smooth = cv2.GaussianBlur(np.where(ink, 1.0, 0.0).astype(np.float32), (0, 0), 1.0)
    gx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)[inner]
    gy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)[inner]
    xx, yy, xy = float((gx * gx).sum()), float((gy * gy).sum()), float((gx * gy).sum())
    coherence = float(np.hypot(xx - yy, 2 * xy) / max(xx + yy, 1e-9))
    count, _, stats, _ = cv2.connectedComponentsWithStats(ink.astype(np.uint8), connectivity=8)
    return float(ink.sum()) / total, coherence, int((stats[1:count, cv2.CC_STAT_AREA] >= 3).sum())


def pattern_probabilities(region: Region, lab: FloatArray) -> dict[str, float]:
    """Probability of each pattern."""
    if region.hue < 0 or int(region.hued.sum()) < LEAST_HUED:
        return {"plain": 0.7, "striped": 0.1, "dotted": 0.1, "checked": 0.1}
    share, coherence, _ = pattern_features(region, lab)
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
    return float(1 / (1 + np.exp(-np.clip(value, -50, 50))))
