"""Cutting an object out of a photograph: GrabCut (Rother, Kolmogorov and Blake 2004), seeded by a grown region."""

from __future__ import annotations

import cv2
import numpy as np

from visenv.types import BoolArray, FloatArray, IntArray, Pixels

CUT_SIDE = 160
"""Pixels of the long side at which is cut."""
ROUNDS = 3
COMPONENTS = 5
"""Gaussians of the object's and of the background's colour model, as OpenCV has them."""


def grow(lab: FloatArray, x: int, y: int, tolerance: float) -> BoolArray:
    """The connected pixels whose colour is near that of a seed.

    Args:
        lab: (H, W, 3) CIE Lab.
        x: column of the seed.
        y: row of the seed.
        tolerance: largest difference from the seed in a and b; in L it is 1.6 times as much.

    Returns:
        (H, W), the seed included.
    """
    height, width = lab.shape[:2]
    filled = np.zeros((height + 2, width + 2), dtype=np.uint8)
    flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (1 << 8)
    limits = (1.6 * tolerance, tolerance, tolerance)
    cv2.floodFill(np.array(lab, dtype=np.float32), filled, (x, y), (0, 0, 0), limits, limits, flags)
    return np.asarray(filled[1:-1, 1:-1] > 0)


def cut_out(pixels: Pixels, trimap: IntArray) -> BoolArray:
    """The object's pixels, by GrabCut from a map of what is known.

    OpenCV's own start of the colour models draws on its global random numbers; here they start by splitting the pixels
    along their principal axis (Orchard and Bouman 1991, as in the original paper), so that equal images
    are cut equally.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        trimap: (H, W) uint8 of ``cv2.GC_BGD``, ``GC_FGD``, ``GC_PR_BGD`` and ``GC_PR_FGD``.

    Returns:
        (H, W); where one side has too few pixels for a colour model, what the trimap says.
    """
    likely = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
    if min(int(likely.sum()), int((~likely).sum())) < 2 * COMPONENTS:
        return np.asarray(likely)
    labels = np.array(trimap, dtype=np.uint8)
    image = np.ascontiguousarray(pixels)
    behind, before = _colour_model(image[~likely]), _colour_model(image[likely])
    cv2.grabCut(image, labels, (0, 0, 1, 1), behind, before, ROUNDS, cv2.GC_EVAL)
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))


def _colour_model(colours: IntArray) -> FloatArray:
    """A Gaussian mixture in OpenCV's layout: (1, 65) weights, means, covariances."""
    groups = [colours.astype(np.float64)]
    while len(groups) < COMPONENTS:
        spreads = [_principal(group)[0] * len(group) for group in groups]
        group = groups.pop(int(np.argmax(spreads)))
        axis = _principal(group)[1]
        order = np.argsort(group @ axis, kind="stable")
        middle = len(group) // 2
        groups += [group[order[:middle]], group[order[middle:]]]
    weights = [len(group) / len(colours) for group in groups]
    means = [group.mean(axis=0) for group in groups]
    covariances = [np.cov(group.T, bias=True) + 0.5 * np.eye(3) for group in groups]
    return np.concatenate([weights, np.ravel(means), np.ravel(covariances)])[None, :]


def _principal(group: FloatArray) -> tuple[float, FloatArray]:
    """Largest variance of a group of colours, and its direction; groups of under 4 are never split."""
    if len(group) < 4:
        return 0.0, np.zeros(3)
    values, vectors = np.linalg.eigh(np.cov(group.T, bias=True))
    axis = vectors[:, -1] * (1 if vectors[:, -1].sum() >= 0 else -1)
    return float(values[-1]), axis
