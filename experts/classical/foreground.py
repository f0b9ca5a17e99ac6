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
        coarse = (_design(columns, rows).T @ self.coefficients).reshape(rows, columns, 3).astype(np.float32)
        return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))

    def deviation(self, lab: FloatArray) -> FloatArray:
        """Distance of (H, W, 3) Lab colours from the background, in standard deviations: (H, W) float32."""
        height, width = lab.shape[:2]
        scaled = cv2.subtract(lab, self.levels(width, height))
        weights = (1 / self.spread**2).astype(np.float32)[None, :]
        return np.asarray(cv2.sqrt(cv2.transform(cv2.multiply(scaled, scaled), weights)))


def working_size(width: int, height: int, side: int = WORKING_SIDE) -> tuple[int, int]:
    """(width, height) at which an image is looked at: never larger than it is.

    Args:
        width: of the image, pixels.
        height: of the image, pixels.
        side: the most that the longer side is looked at with, working pixels.

    Example:
        >>> working_size(1280, 960), working_size(100, 40), working_size(4000, 2)
        ((320, 240), (100, 40), (320, 1))
    """
    scale = min(1.0, side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def fit_background(lab: FloatArray) -> Surface:
    """Fit the background of an image.

    Args:
        lab: (H, W, 3) CIE Lab.
    """
    height, width = lab.shape[:2]
    scale = min(1.0, FIT_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(lab, size, interpolation=cv2.INTER_NEAREST).reshape(-1, 3).T.astype(np.float64, order="C")
    design = _design(*size)
    scaled = (small - _mode(small)[:, None]) / [[8.0], [5.0], [5.0]]
    weights = 1 / (1 + (scaled * scaled).sum(axis=0))
    ridge = np.diag([0.0, 1, 1, 1, 1, 1]) * 1e-3 * small.shape[1] + 1e-9 * np.eye(6)
    for _ in range(FIT_ROUNDS):
        weighted = design * weights
        coefficients = np.linalg.solve(weighted @ design.T + ridge, weighted @ small.T)
        rest = small - coefficients.T @ design
        near = weights > 0.2
        used = np.abs(rest.compress(near, axis=1) if np.count_nonzero(near) > 12 else rest)
        spread = np.maximum(1.4826 * _medians(used), NOISE_FLOOR)
        rest /= spread[:, None]
        squares = np.einsum("ij,ij->j", rest, rest)
        weights = 1 / (1 + (squares / 6.0) ** 2)
    return Surface(coefficients, spread, float((squares < STANDS_OUT**2).mean()))


def _medians(values: FloatArray) -> FloatArray:
    """The median of each row, (rows,); the values are reordered."""
    count = values.shape[1]
    middle = ((count - 1) // 2, count // 2)
    values.partition(middle[1], axis=1)
    # Of an even number, the lower middle one is the largest of those before the upper.
    upper = values[:, middle[1]]
    lower = upper if middle[0] == middle[1] else values[:, : middle[1]].max(axis=1)
    return np.asarray((lower + upper) / 2)


def _mode(values: FloatArray) -> FloatArray:
    """The fullest cell of a coarse histogram of (3, N) colours, (3,): the median would fall between it and objects."""
    cells = np.floor(values / [[10.0], [8.0], [8.0]]).astype(np.int64) + [[0], [20], [20]]
    flat = np.ravel_multi_index(tuple(cells), _CELLS, mode="clip")
    fullest = np.array(np.unravel_index(int(np.bincount(flat).argmax()), _CELLS))
    near = (np.abs(cells - fullest[:, None]) <= 1).all(axis=0)
    return np.asarray(values[:, near].mean(axis=1))


_CELLS = (16, 40, 40)


@lru_cache(maxsize=64)
def _design(width: int, height: int) -> FloatArray:
    """(6, width * height) the surface's terms at each pixel, in reading order."""
    xs = np.tile((2 * np.arange(width) + 1) / width - 1, height)
    ys = np.repeat((2 * np.arange(height) + 1) / height - 1, width)
    terms = np.stack([np.ones_like(xs), xs, ys, xs * xs, xs * ys, ys * ys])
    terms.flags.writeable = False
    return terms
