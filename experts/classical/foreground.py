"""What stands out from the background, at the working resolution: a smooth background model and hue labels.

The background is a quadratic surface in each Lab channel, fitted robustly (iteratively reweighted least squares with a
Cauchy weight), which follows uneven light; what the surface leaves over in most pixels is the background's texture and
noise, and a pixel is foreground where it leaves over much more.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from visenv.types import FloatArray

WORKING_SIDE = 320
"""Pixels of the long side at which an image is looked at."""
FIT_SIDE = 40
"""Pixels of the long side at which the background is fitted."""
FIT_ROUNDS = 6
NOISE_FLOOR = np.array([2.5, 1.5, 1.5])
"""Least standard deviation of the background in L, a and b."""
STANDS_OUT = 4.0
"""Standard deviations from which a pixel is foreground."""
SATURATED = 33.0
"""Chroma from which a pixel has a hue that an object is named by: wood, brick and leaves stay below."""


@dataclass(frozen=True, eq=False)
class Surface:
    """The background: a quadratic surface over [-1, 1] x [-1, 1] in each Lab channel."""

    coefficients: FloatArray
    """(6, 3): of 1, x, y, xx, xy, yy."""
    spread: FloatArray
    """(3,) standard deviation of what the surface leaves over."""
    explained: float
    """Share of the image's pixels that the surface explains, in [0, 1]."""

    def levels(self, width: int, height: int) -> FloatArray:
        """The background's Lab colours over an image of a size: (height, width, 3) float32."""
        columns, rows = min(width, FIT_SIDE), min(height, FIT_SIDE)
        coarse = (_design(columns, rows) @ self.coefficients).reshape(rows, columns, 3).astype(np.float32)
        return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))

    def deviation(self, lab: FloatArray) -> FloatArray:
        """Distance of (H, W, 3) Lab colours from the background, in standard deviations: (H, W) float32."""
        height, width = lab.shape[:2]
        scaled = cv2.subtract(lab, self.levels(width, height))
        weights = (1 / self.spread**2).astype(np.float32)[None, :]
        return np.asarray(cv2.sqrt(cv2.transform(cv2.multiply(scaled, scaled), weights)))


def working_size(width: int, height: int) -> tuple[int, int]:
    """(width, height) at which an image is looked at: never larger than it is.

    Example:
        >>> working_size(1280, 960), working_size(100, 40), working_size(4000, 2)
        ((320, 240), (100, 40), (320, 1))
    """
    scale = min(1.0, WORKING_SIDE / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def fit_background(lab: FloatArray) -> Surface:
    """Fit the background of an image.

    Args:
        lab: (H, W, 3) CIE Lab.
    """
    height, width = lab.shape[:2]
    scale = min(1.0, FIT_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(lab, size, interpolation=cv2.INTER_NEAREST).reshape(-1, 3).astype(np.float64)
    design = _design(*size)
    level = _mode(small)
    scaled = (small - level) / [8.0, 5.0, 5.0]
    weights = 1 / (1 + (scaled**2).sum(axis=1))
    coefficients, spread = np.zeros((6, 3)), NOISE_FLOOR
    ridge = np.diag([0.0, 1, 1, 1, 1, 1]) * 1e-3 * len(small)
    for _ in range(FIT_ROUNDS):
        weighted = design * weights[:, None]
        coefficients = np.linalg.solve(weighted.T @ design + ridge + 1e-9 * np.eye(6), weighted.T @ small)
        rest = small - design @ coefficients
        near = weights > 0.2
        used = np.abs(rest[near]) if near.sum() > 12 else np.abs(rest)
        spread = np.maximum(1.4826 * np.median(used, axis=0), NOISE_FLOOR)
        weights = 1 / (1 + (((rest / spread) ** 2).sum(axis=1) / 6.0) ** 2)
    rest = small - design @ coefficients
    explained = float((((rest / spread) ** 2).sum(axis=1) < STANDS_OUT**2).mean())
    return Surface(coefficients, spread, explained)


def _mode(values: FloatArray) -> FloatArray:
    """The fullest cell of a coarse histogram, (3,): the median would fall between background and objects."""
    cells = np.floor(values / [10.0, 8.0, 8.0]).astype(np.int64) + [0, 20, 20]
    counts = np.bincount(np.ravel_multi_index(cells.T, (16, 40, 40), mode="clip"))
    fullest = np.array(np.unravel_index(int(counts.argmax()), (16, 40, 40)))
    return np.asarray(values[(np.abs(cells - fullest) <= 1).all(axis=1)].mean(axis=0))


@lru_cache(maxsize=16)
def _design(width: int, height: int) -> FloatArray:
    """(width * height, 6) the surface's terms at each pixel, in reading order."""
    xs = np.tile((2 * np.arange(width) + 1) / width - 1, height)
    ys = np.repeat((2 * np.arange(height) + 1) / height - 1, width)
    terms = np.stack([np.ones_like(xs), xs, ys, xs * xs, xs * ys, ys * ys], axis=1)
    terms.flags.writeable = False
    return terms
