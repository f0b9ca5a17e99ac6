"""Visual prompts: circles, boxes and arrows with letters, drawn on a picture where a question marks something."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from visenv.contents import MarkedPlace
from visenv.types import Pixels

MarkKind = Literal["circle", "box", "arrow"]
KINDS: tuple[MarkKind, ...] = ("circle", "box", "arrow")
INK: dict[str, tuple[int, int, int]] = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
"""The pure colours that marks are drawn in; no thing of a scene has one of them."""
RADIUS = 9
"""Pixels of a circle's radius."""
THICKNESS = 2
FONT, FONT_SCALE, FONT_THICKNESS = cv2.FONT_HERSHEY_SIMPLEX, 0.6, 2
TIP = 3.0
"""Pixels around an arrow's tip that stand for what it points at."""
SHAFT = 26
"""Pixels from an arrow's tail to its tip, along each axis."""


@dataclass(frozen=True)
class Mark:
    """One visual prompt."""

    kind: MarkKind
    letter: str
    """Beside it; may be empty."""
    place: tuple[float, ...]
    """x, y of a circle's middle or an arrow's tip, or x0, y0, x1, y1 of a box; pixels."""
    ink: str = "red"
    """A name in ``INK``."""

    @property
    def marked(self) -> MarkedPlace:
        """What it marks, as experts name it."""
        box = self.place
        if self.kind != "box":
            reach = RADIUS + THICKNESS / 2 if self.kind == "circle" else TIP
            box = (box[0] - reach, box[1] - reach, box[0] + reach, box[1] + reach)
        return MarkedPlace(f"{self.kind} {self.letter}".strip(), (box[0], box[1], box[2], box[3]))


def draw_marks(pixels: Pixels, marks: Iterable[Mark]) -> Pixels:
    """A picture with marks drawn on it, each with its letter beside it, inside the picture.

    Args:
        pixels: (H, W, 3) uint8; not changed.
        marks: in the order of drawing.
    """
    canvas = np.ascontiguousarray(pixels.copy())
    for mark in marks:
        x0, y0, x1, y1 = _draw(canvas, mark)
        if mark.letter:
            (width, height), _ = cv2.getTextSize(mark.letter, FONT, FONT_SCALE, FONT_THICKNESS)
            x = x1 + 4 if x1 + 4 + width < canvas.shape[1] else max(0, x0 - 4 - width)
            y = min(max(height + 1, (y0 + y1 + height) // 2), canvas.shape[0] - 2)
            cv2.putText(canvas, mark.letter, (x, y), FONT, FONT_SCALE, INK[mark.ink], FONT_THICKNESS, cv2.LINE_8)
    return canvas


def _draw(canvas: Pixels, mark: Mark) -> tuple[int, int, int, int]:
    """Draw the mark itself; the box of what was drawn."""
    ink = INK[mark.ink]
    place = tuple(round(value) for value in mark.place)
    if mark.kind == "box":
        cv2.rectangle(canvas, place[:2], (place[2] - 1, place[3] - 1), ink, THICKNESS, cv2.LINE_8)
        return place[0], place[1], place[2], place[3]
    x, y = place
    if mark.kind == "circle":
        cv2.circle(canvas, (x, y), RADIUS, ink, THICKNESS, cv2.LINE_8)
        return x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS
    # An arrow comes from the side on which there is room.
    tail = (x - SHAFT if x > SHAFT + 4 else x + SHAFT, y - SHAFT if y > SHAFT + 4 else y + SHAFT)
    cv2.arrowedLine(canvas, tail, (x, y), ink, THICKNESS, cv2.LINE_8, tipLength=0.4)
    return min(x, tail[0]), min(y, tail[1]), max(x, tail[0]), max(y, tail[1])
