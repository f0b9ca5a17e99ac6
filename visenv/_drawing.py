"""Drawing results onto pictures; the public names are in ``visenv.images``.

Every function returns a new picture. Masks are blended inside their own crops only, so that the cost follows the size
of the objects and not that of the picture.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import ArrayLike

from visenv.errors import InvalidData
from visenv.types import Detections, Pixels

if TYPE_CHECKING:
    from visenv.types import FloatArray

_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Hues that stay apart for most kinds of colour vision (after Okabe and Ito), brightened for photographs.
_COLOURS = (
    (255, 170, 0),
    (64, 180, 255),
    (0, 200, 120),
    (250, 235, 70),
    (60, 110, 255),
    (240, 85, 20),
    (235, 110, 195),
    (0, 225, 225),
    (165, 95, 255),
    (150, 215, 50),
)
_FAR = 1 << 20  # OpenCV draws with 32-bit fixed-point numbers: anything further out is off every picture
MOST_NUMBERED = 40
"""Objects that get numbers when they are drawn together."""


@lru_cache(maxsize=1024)
def colour_of(index: int) -> tuple[int, int, int]:
    """The RGB colour of the object with that number, from 0; neighbours differ clearly.

    Example:
        >>> colour_of(0), colour_of(0) == colour_of(1)
        ((255, 170, 0), False)
    """
    if index < len(_COLOURS):
        return _COLOURS[index]
    # Steps by the golden ratio spread any number of hues evenly; lightness alternates between rounds.
    red, green, blue = colorsys.hls_to_rgb(index * 0.618033988749895 % 1.0, 0.62 if index % 2 else 0.48, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_detections(
    pixels: Pixels, detections: Detections, *, numbers: bool | None = None, alpha: float = 0.45, first: int = 1
) -> Pixels:
    """Draw boxes with their numbers, and tint what the masks cover.

    Args:
        pixels: (H, W, 3) uint8 RGB; not changed.
        detections: in the frame of ``pixels``.
        numbers: write each object's number at its box; if left out, where there are at most ``MOST_NUMBERED`` objects:
            more numbers would hide them.
        alpha: how strong the tint is, from 0 (none) to 1 (opaque).
        first: the number of the first object; colours follow the numbers.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        InvalidData: if the masks are of another frame.
    """
    canvas = pixels.copy()
    masks = detections.masks
    if masks is not None:
        if tuple(masks.shape[-2:]) != canvas.shape[:2]:
            raise InvalidData(
                f"Expected masks over a frame of {canvas.shape[:2]}, but they are over {masks.shape[-2:]}."
            )
        if alpha > 0:
            placed = zip(masks.crops, masks.offsets.tolist(), strict=True)
            for index, (crop, (x, y)) in enumerate(placed, start=first - 1):
                _tint(canvas, crop, x, y, colour_of(index), alpha)
    line, font = _line_width(canvas), _font_scale(canvas)
    corners = _whole(detections.boxes).tolist()
    for index, (x0, y0, x1, y1) in enumerate(corners, start=first - 1):
        cv2.rectangle(canvas, (x0, y0), (max(x0, x1 - 1), max(y0, y1 - 1)), colour_of(index), line)
    if numbers or (numbers is None and len(detections) <= MOST_NUMBERED):
        for index, (x0, y0, _, _) in enumerate(corners, start=first - 1):
            _tag(canvas, str(index + 1), x0, y0, colour_of(index), font)
    return canvas


def draw_points(pixels: Pixels, points: FloatArray, *, numbers: bool = True, first: int = 1) -> Pixels:
    """Mark points, each with its number.

    Args:
        pixels: (H, W, 3) uint8 RGB; not changed.
        points: (P, 2) xy pixels.
        numbers: write each point's number beside it.
        first: the number of the first point; colours follow the numbers.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    canvas = pixels.copy()
    line, font = _line_width(canvas), _font_scale(canvas)
    radius = 2 + line
    centres = _whole(np.asarray(points, dtype=np.float64).reshape(-1, 2)).tolist()
    for index, (x, y) in enumerate(centres):
        cv2.circle(canvas, (x, y), radius + 1, (0, 0, 0), -1)
        cv2.circle(canvas, (x, y), radius, colour_of(first - 1 + index), -1)
    if numbers:
        for index, (x, y) in enumerate(centres):
            _tag(canvas, str(first + index), x + radius + 1, y - radius, colour_of(first - 1 + index), font)
    return canvas


def draw_windows(pixels: Pixels, windows: ArrayLike, labels: Sequence[str] | None = None) -> Pixels:
    """Outline windows of a picture, each with its label: the overview of a split.

    Args:
        pixels: (H, W, 3) uint8 RGB; not changed.
        windows: (N, 4) xyxy pixels, half-open; they may overlap.
        labels: N short texts, written in the windows' middles; the numbers from 1 if left out.

    Returns:
        (H, W, 3) uint8 RGB, a new array.

    Raises:
        InvalidData: if there are not as many labels as windows.
    """
    canvas = pixels.copy()
    corners = _whole(np.asarray(windows, dtype=np.float64).reshape(-1, 4)).tolist()
    texts = [str(index + 1) for index in range(len(corners))] if labels is None else list(labels)
    if len(texts) != len(corners):
        raise InvalidData(f"Expected as many labels as windows, but got {len(texts)} for {len(corners)}.")
    line, font = _line_width(canvas), _font_scale(canvas)
    for index, (x0, y0, x1, y1) in enumerate(corners):
        # Overlapping windows share no outline: each is drawn a line's width further in than the one before.
        inset = (index % 3) * line
        start = (x0 + inset, y0 + inset)
        end = (max(start[0], x1 - 1 - inset), max(start[1], y1 - 1 - inset))
        cv2.rectangle(canvas, start, end, colour_of(index), line)
    for index, ((x0, y0, x1, y1), text) in enumerate(zip(corners, texts, strict=True)):
        width, height = _text_size(text, font)
        fitting = font * min(1.0, max(0.25, 0.9 * (x1 - x0) / max(1, width)))
        ratio = fitting / font
        left, top = (x0 + x1 - round(width * ratio)) // 2, (y0 + y1 - round(height * ratio)) // 2
        _tag(canvas, text, left, top, colour_of(index), fitting)
    return canvas


def _tint(canvas: Pixels, crop: np.ndarray, x: int, y: int, colour: tuple[int, int, int], alpha: float) -> None:
    """Blend a colour into the pixels that a crop covers, in place."""
    height, width = crop.shape
    region = canvas[y : y + height, x : x + width]
    if not region.size:
        return
    painted = np.empty((height, width, 3), np.uint8)
    cv2.rectangle(painted, (0, 0), (width, height), colour, -1)  # NumPy takes ten times as long to fill it
    blended = cv2.addWeighted(region, 1.0 - alpha, painted, alpha, 0.0)
    cv2.copyTo(blended, np.ascontiguousarray(crop).view(np.uint8), region)


@lru_cache(maxsize=4096)
def _text_size(text: str, font: float) -> tuple[int, int]:
    """(width, height) in pixels of a text; measuring it takes longer than drawing it."""
    (width, height), _ = cv2.getTextSize(text, _FONT, font, 1)
    return width, height


def _tag(canvas: Pixels, text: str, x: int, y: int, colour: tuple[int, int, int], font: float) -> None:
    """Write a text on a filled plate whose top left corner is at (x, y), kept inside the picture; in place."""
    width, height, pad = _plate(text, font)
    x = min(max(0, x), max(0, canvas.shape[1] - width))
    y = min(max(0, y), max(0, canvas.shape[0] - height))
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), colour, -1)
    stroke = max(1, round(font * 1.5))
    cv2.putText(canvas, text, (x + pad, y + height - pad - 1), _FONT, font, _ink_on(colour), stroke, cv2.LINE_AA)


@lru_cache(maxsize=4096)
def _plate(text: str, font: float) -> tuple[int, int, int]:
    """(width, height) in pixels of a text's plate, and how far the text lies inside it."""
    width, height = _text_size(text, font)
    pad = max(1, round(2 * font))
    return width + 2 * pad, height + 2 * pad, pad


@lru_cache(maxsize=1024)
def _ink_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    bright = 299 * colour[0] + 587 * colour[1] + 114 * colour[2] > 110_000
    return (0, 0, 0) if bright else (255, 255, 255)


def _whole(values: FloatArray) -> np.ndarray:
    """Rounded to integers that OpenCV can draw with; what is not finite goes off the picture."""
    return np.rint(np.minimum(np.fmax(values, -_FAR), _FAR)).astype(np.int64)


def _line_width(canvas: Pixels) -> int:
    return max(1, round(max(canvas.shape[:2]) / 450))


def _font_scale(canvas: Pixels) -> float:
    return max(0.32, max(canvas.shape[:2]) / 1600)
