"""Small pictures of an episode, for its page."""

from __future__ import annotations

import io
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from visenv.episode import Episode
from visenv.geometry import scaling
from visenv.images import draw_detections, fit_within
from visenv.types import AnswerTruth, BoxesTruth, Detections, ImageTruth, MaskTruth, Outcome, Pixels, PointsTruth, Truth
from visenv.workspace import Picture

SIDE = 560
"""Pixels of the longer side of a picture that stands alone."""
RESULT_SIDE = 800
"""Of the pictures of the truth and the final result."""
SHARED_AREA = SIDE * SIDE
"""Pixels that the pictures of one reply share, however many they are."""
LEAST_SIDE = 96
"""Pixels of the longer side below which a picture tells nothing; many pictures may so take more than their share."""
TRUTH_COLOUR = (255, 45, 110)
QUALITY, SMALL_QUALITY = 82, 74
"""Of JPEG files, of pictures that stand alone and of the others."""


def encode(pixels: Pixels, side: int = SIDE) -> bytes:
    """A picture as a small JPEG file.

    Args:
        pixels: (H, W, 3) uint8.
        side: to which the longer side is shrunk, in pixels.
    """
    buffer = io.BytesIO()
    quality = QUALITY if side >= SIDE else SMALL_QUALITY
    Image.fromarray(fit_within(pixels, side, side)).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def side_of_one(count: int) -> int:
    """To which longer side the pictures of a reply are shrunk.

    Args:
        count: how many there are.

    Example:
        >>> side_of_one(1), side_of_one(4), side_of_one(64)
        (560, 280, 96)
    """
    return max(LEAST_SIDE, min(SIDE, round((SHARED_AREA / max(1, count)) ** 0.5)))


def turn_snapshots(pictures: Sequence[Picture]) -> list[bytes]:
    """The pictures of one reply as JPEG files: overviews of a split at full size, the others sharing what one takes.

    Args:
        pictures: those that the reply shows, in order.
    """
    overviews = [picture.overlay is not None and bool(picture.overlay.windows) for picture in pictures]
    rest = side_of_one(overviews.count(False))
    return [
        encode(picture.pixels, SIDE if overview else rest)
        for picture, overview in zip(pictures, overviews, strict=True)
    ]


def truth_snapshot(episode: Episode) -> Pixels | None:
    """The first image with the truth drawn on it; None where the truth is no part of a picture."""
    return draw_truth(episode.workspace.root.pixels, episode.truth)


def draw_truth(pixels: Pixels, truth: Truth) -> Pixels | None:
    """An image with the truth drawn on it; None where the truth is no part of a picture.

    What is to be found keeps its colours inside a bright outline, the rest is dimmed.

    Args:
        pixels: (H, W, 3) uint8 of ``img_0``; not changed.
        truth: in its frame; the image itself, where it is one.
    """
    if isinstance(truth, AnswerTruth):
        return None
    if isinstance(truth, ImageTruth):
        pixels = truth.clean
    if isinstance(truth, MaskTruth):
        dimmed = np.asarray(cv2.addWeighted(pixels, 0.45, np.full_like(pixels, 24), 0.55, 0), dtype=np.uint8)
        for mask in (truth.target, truth.ignore):
            if mask is not None and len(mask):
                region = mask.union().to_dense()[0]
                dimmed[region] = pixels[region]
        pixels = dimmed
    factor = _enlargement(pixels)
    return _outlined(_enlarged(pixels, factor), truth, factor)


def final_snapshot(episode: Episode) -> Pixels | None:
    """What an episode ended with, as a picture; see ``draw_final``."""
    return draw_final(episode.workspace.root.pixels, episode.outcome, episode.truth)


def draw_final(pixels: Pixels, outcome: Outcome, truth: Truth) -> Pixels | None:
    """The first image with the final result tinted and the truth outlined, or the image that a program made of it.

    Args:
        pixels: (H, W, 3) uint8 of ``img_0``; not changed.
        outcome: with the final result in its frame.
        truth: in its frame.

    Returns:
        None where the result is an answer alone.
    """
    final = outcome.detections
    if isinstance(truth, AnswerTruth) and final is None:
        return None
    if isinstance(truth, ImageTruth) and outcome.image is not None:
        pixels = outcome.image
    factor = _enlargement(pixels)
    pixels = _enlarged(pixels, factor)
    if final is not None:
        height, width = pixels.shape[:2]
        masks = None if final.masks is None else final.masks.warp(scaling(factor), (height, width))
        many = len(final) > 40
        larger = Detections(final.boxes * factor, masks, final.scores)
        pixels = draw_detections(pixels, larger, numbers=not many, alpha=0.3 if many else 0.5)
    return _outlined(pixels, truth, factor)


def _enlargement(pixels: Pixels) -> int:
    """How many times a small picture is enlarged, so that what is drawn on it is fine."""
    return max(1, min(4, SIDE // max(pixels.shape[:2])))


def _enlarged(pixels: Pixels, factor: int) -> Pixels:
    if factor == 1:
        return pixels.copy()
    return np.asarray(cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def _outlined(canvas: Pixels, truth: Truth, factor: int) -> Pixels:
    """Draw the truth's outline: of masks the contour, of boxes the sides, of points a ring.

    Args:
        canvas: (H, W, 3) uint8, the first image enlarged by ``factor``; drawn on.
        truth: in the frame of the first image.
        factor: how many times the image was enlarged.
    """
    width = max(1, round(max(canvas.shape[:2]) / 320))
    if isinstance(truth, MaskTruth):
        for masks, colour in ((truth.ignore, (128, 128, 128)), (truth.target, TRUTH_COLOUR)):
            if masks is not None and len(masks):
                region = masks.union().to_dense()[0].astype(np.uint8)
                size = (canvas.shape[1], canvas.shape[0])
                region = cv2.resize(region, size, interpolation=cv2.INTER_NEAREST)
                # Drawn around the region, not over its border: small things would vanish under it.
                region = cv2.dilate(region, np.ones((2 * width + 3, 2 * width + 3), np.uint8))
                contours, _ = cv2.findContours(region, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
                cv2.drawContours(canvas, contours, -1, colour, width)
    elif isinstance(truth, BoxesTruth):
        boxes = np.rint(np.asarray(truth.boxes, dtype=float).reshape(-1, 4) * factor).astype(int)
        for x0, y0, x1, y1 in boxes.tolist():
            cv2.rectangle(canvas, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), TRUTH_COLOUR, width)
    elif isinstance(truth, PointsTruth):
        points = np.rint(np.asarray(truth.points, dtype=float).reshape(-1, 2) * factor).astype(int)
        for x, y in points.tolist():
            cv2.circle(canvas, (x, y), 3 * width + 1, (255, 255, 255), width + 2)
            cv2.circle(canvas, (x, y), 3 * width + 1, TRUTH_COLOUR, width)
    return canvas
