"""Images as vectors: colours and edges by place."""

from __future__ import annotations

import cv2
import numpy as np

from visenv.types import FloatArray, Pixels

SIDE, CELLS, ANGLES = 64, 4, 8
"""Pixels of a side as an image is looked at; cells along it; directions of edges."""
_BINS = 4
_WEIGHTS = {"places": 1.0, "colours": 1.0, "edges": 0.5}


def embed(pixels: Pixels) -> FloatArray:
    """An image as a vector of length 1, so that dot products say how alike two look.

    It is made of the colours of a grid, against their mean; a histogram of colours; and histograms of the directions of
    edges in a grid (as HOG: Dalal and Triggs, 2005).

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Returns:
        (D,) float32.
    """
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    lab: FloatArray = np.asarray(cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB), np.float32)
    parts = {
        "places": cv2.resize(lab, (2 * CELLS, 2 * CELLS), interpolation=cv2.INTER_AREA) - np.median(lab, axis=(0, 1)),
        "colours": _histogram(lab),
        "edges": _edges(lab[..., 0]),
    }
    joined = np.concatenate([_WEIGHTS[name] * _unit(part.ravel()) for name, part in parts.items()])
    return np.asarray(_unit(joined), np.float32)


def _histogram(lab: FloatArray) -> FloatArray:
    """The square roots of how common colours are: how saturated ones count as much as the ground."""
    bins = (np.clip(lab[..., 0] / 100, 0, 0.999) * _BINS).astype(int)
    red = (np.clip((lab[..., 1] + 80) / 160, 0, 0.999) * 2 * _BINS).astype(int)
    yellow = (np.clip((lab[..., 2] + 80) / 160, 0, 0.999) * 2 * _BINS).astype(int)
    index = (bins * 2 * _BINS + red) * 2 * _BINS + yellow
    counts = np.bincount(index.ravel(), minlength=4 * _BINS**3)
    return np.asarray(np.sqrt(counts))


def _edges(grey: FloatArray) -> FloatArray:
    across, down = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = np.hypot(across, down)
    direction = ((np.arctan2(down, across) % np.pi) / np.pi * ANGLES).astype(int) % ANGLES
    step = SIDE // CELLS
    cells = np.arange(SIDE) // step
    index = (cells[:, None] * CELLS + cells[None]) * ANGLES + direction
    return np.asarray(np.bincount(index.ravel(), weights=strength.ravel(), minlength=CELLS**2 * ANGLES))


def _unit(values: FloatArray) -> FloatArray:
    length = float(np.linalg.norm(values))
    if length < 1e-9:
        return np.full(values.shape, 1 / np.sqrt(values.size))
    return np.asarray(values / length)
