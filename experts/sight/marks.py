"""Visual prompts: circles, boxes and arrows in pure colours, and the letters beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from visenv.experts.sight.letters import GreyArray, ReadWord, Shape, read_by_templates
from visenv.masks import Masks
from visenv.types import BoolArray, Detections, Pixels

INKS: dict[str, tuple[int, int, int]] = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}
"""The colours that marks are drawn in, RGB."""
_TOLERANCE = 36
"""The most by which a channel of a mark's pixel differs from the ink, as marks are drawn."""
_DOMINANCE = 80
"""By how much the ink's channel exceeds the others in marks that were compressed with their picture. Things of that
colour have it too, so that such a mark counts only if a letter stands beside it."""
_CLEAR = 0.86
"""The least score of such a mark."""
_FRAMED = 0.8
"""The least share of each side of a box along which there is ink."""
_MOST_SHAPES = 24
"""More shapes than that are no marks but a pattern: their pairs are not looked at."""
_LEAST = 6
"""Pixels of the longer side of the smallest letter."""
_SMALLEST_MARK = 13
_LETTER_REACH = 20.0
"""Pixels between a mark and its letter, at most."""


@dataclass(frozen=True)
class FoundMark:
    """One visual prompt that was found."""

    kind: str
    """``circle``, ``box`` or ``arrow``."""
    letter: str
    """What is written beside it; empty if nothing is."""
    box: tuple[float, float, float, float]
    """xyxy pixels: of a circle or box its own, of an arrow a few pixels around its tip."""
    ink: str
    """A name in ``INKS``."""
    score: float
    """How well its form fits, in [0, 1]."""

    @property
    def point(self) -> tuple[float, float]:
        """What is marked, xy pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


def find_marks(pixels: Pixels, read: ReadWord = read_by_templates) -> tuple[FoundMark, ...]:
    """The visual prompts in an image, in reading order of their letters, then of their places.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        read: reads what is written beside a mark.

    Example:
        >>> image = np.full((80, 80, 3), 128, np.uint8)
        >>> _ = cv2.circle(image, (30, 40), 9, (255, 0, 0), 2)
        >>> [(mark.kind, mark.point) for mark in find_marks(image)]
        [('circle', (30.0, 40.0))]
    """
    found = []
    channels = pixels.astype(np.int16)
    for ink, colour in INKS.items():
        others = np.delete(channels, colour.index(255), axis=2).max(axis=2)
        excess = channels[..., colour.index(255)] - others
        strength = np.clip(excess, 0, 255).astype(np.uint8)
        drawn = _marks(np.abs(channels - np.array(colour, np.int16)).max(axis=2) <= _TOLERANCE, strength, ink, read)
        compressed = _marks(excess > _DOMINANCE, strength, ink, read)
        compressed = [mark for mark in compressed if mark.letter and mark.score > _CLEAR]
        found += drawn if sum(bool(mark.letter) for mark in drawn) >= len(compressed) else compressed
    return tuple(sorted(found, key=lambda mark: (not mark.letter, mark.letter, mark.box[1], mark.box[0])))


def as_detections(marks: Sequence[FoundMark], frame: tuple[int, int]) -> Detections:
    """Marks as detections over a frame (height, width), labelled by kind and letter."""
    if not marks:
        return Detections(np.zeros((0, 4)), Masks.empty(frame), np.zeros(0), ())
    height, width = frame
    boxes = np.clip(np.array([mark.box for mark in marks], dtype=np.float64), 0, (width, height, width, height))
    labels = tuple(f"{mark.kind} {mark.letter}".strip() for mark in marks)
    return Detections(boxes, Masks.from_boxes(boxes, frame), np.array([mark.score for mark in marks]), labels)


def _marks(near: BoolArray, strength: GreyArray, ink: str, read: ReadWord) -> list[FoundMark]:
    """The marks that pixels near to an ink make up; ``strength`` says how much of the ink is in each pixel."""
    judged = [(shape, _form(shape)) for shape in _joined(_shapes(near))]
    letters = [shape for shape, form in judged if form is None]
    return [
        FoundMark(form[0], _read(_word_beside(shape, letters), strength, read), form[1], ink, form[2])
        for shape, form in judged
        if form is not None
    ]


def _read(word: Sequence[Shape], strength: GreyArray, read: ReadWord) -> str:
    return read(word, strength) if word else ""


def _shapes(mask: BoolArray) -> list[Shape]:
    number, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    shapes = []
    for index in range(1, number):
        x, y, width, height, _ = stats[index].tolist()
        if max(width, height) >= _LEAST:
            part = labels[y : y + height, x : x + width] == index
            shapes.append(Shape((x, y, x + width, y + height), part))
    return shapes


def _joined(shapes: list[Shape]) -> list[Shape]:
    """The shapes, with two as one where they are a box that a line in another ink has cut in two."""
    large = [shape for shape in shapes if shape.side >= _SMALLEST_MARK]
    if len(large) > _MOST_SHAPES:
        return shapes
    for one, other in combinations(large, 2):
        if max(_frame_share(one.mask), _frame_share(other.mask)) > _FRAMED:
            continue
        whole = _union(one, other)
        if _frame_share(whole.mask) > _FRAMED:
            return _joined([whole, *(shape for shape in shapes if shape is not one and shape is not other)])
    return shapes


def _union(one: Shape, other: Shape) -> Shape:
    x0, y0 = min(one.box[0], other.box[0]), min(one.box[1], other.box[1])
    x1, y1 = max(one.box[2], other.box[2]), max(one.box[3], other.box[3])
    mask = np.zeros((y1 - y0, x1 - x0), bool)
    for shape in (one, other):
        mask[shape.box[1] - y0 : shape.box[3] - y0, shape.box[0] - x0 : shape.box[2] - x0] |= shape.mask
    return Shape((x0, y0, x1, y1), mask)


def _form(shape: Shape) -> tuple[str, tuple[float, float, float, float], float] | None:
    """The kind, box and score of the form that fits best; None if it is none of them, such as a letter."""
    if shape.side < _SMALLEST_MARK:
        return None
    height, width = shape.mask.shape
    x0, y0, x1, y1 = shape.box
    fits: list[tuple[float, str, tuple[float, float, float, float]]] = []
    framed = _frame_share(shape.mask)
    if framed > _FRAMED:
        fits.append((framed, "box", (x0, y0, x1, y1)))
    round_share = _ring_share(shape.mask)
    if round_share > 0.75 and max(height, width) < 1.25 * min(height, width):
        # The middle of the pixels x0 to x1 - 1: a circle of radius r covers 2 r + 1 + its thickness.
        fits.append((round_share, "circle", (x0 - 0.5, y0 - 0.5, x1 - 0.5, y1 - 0.5)))
    if not fits:
        tip = _arrow_tip(shape.mask)
        if tip is not None:
            x, y, score = tip
            fits.append((score, "arrow", (x0 + x - 2, y0 + y - 2, x0 + x + 2, y0 + y + 2)))
    if not fits:
        return None
    score, kind, box = max(fits)
    return kind, box, min(1.0, score)


def _frame_share(mask: BoolArray) -> float:
    """The least share of a side of the bounding box along which there is ink, the inside being mostly empty."""
    height, width = mask.shape
    if min(height, width) < 8:
        return 0.0
    sides = (mask[:3].any(axis=0), mask[-3:].any(axis=0), mask[:, :3].any(axis=1), mask[:, -3:].any(axis=1))
    inner = mask[4:-4, 4:-4]
    crowded = inner.size > 0 and float(inner.mean()) > 0.25
    return 0.0 if crowded else float(min(side.mean() for side in sides))


def _ring_share(mask: BoolArray) -> float:
    """The share of directions from the middle in which there is ink at about the same distance, less what is not."""
    height, width = mask.shape
    rows, columns = np.nonzero(mask)
    x, y = (columns - (width - 1) / 2) / (width / 2), (rows - (height - 1) / 2) / (height / 2)
    distance = np.hypot(x, y)
    # The line's thickness, as a part of the radius.
    thick = min(0.6, 8.0 / min(height, width))
    on = (distance > 1 - thick) & (distance < 1.15)
    sectors = np.unique((np.arctan2(y[on], x[on]) + np.pi) // (2 * np.pi / 24))
    return float(len(sectors) / 24 * on.mean())


def _arrow_tip(mask: BoolArray) -> tuple[float, float, float] | None:
    """Where an arrow points, xy in its mask, and how much it looks like one; None if it does not."""
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    middle = points.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov((points - middle).T))
    if values[1] < 40 or values[1] < 3 * max(values[0], 1e-6):
        return None
    along, across = (points - middle) @ axes[:, 1], (points - middle) @ axes[:, 0]
    low, high = along.min(), along.max()
    length = high - low
    spread = []
    for near_end in (along < low + 0.4 * length, along > high - 0.4 * length):
        spread.append(float(np.abs(across[near_end]).max()))
    head, tail = (spread[1], spread[0]) if spread[1] > spread[0] else (spread[0], spread[1])
    if head < 1.6 * max(tail, 1.0):
        return None
    end = along >= high - 2 if spread[1] > spread[0] else along <= low + 2
    x, y = points[end].mean(axis=0)
    return float(x), float(y), float(min(1.0, head / (4 * max(tail, 1.0)) + 0.3))


def _word_beside(mark: Shape, letters: Sequence[Shape]) -> list[Shape]:
    """The letters that stand beside a mark, from left to right."""
    near = [(away, shape) for shape in letters if (away := _gap(mark.box, shape.box)) <= _LETTER_REACH]
    if not near:
        return []
    first = min(near, key=lambda pair: pair[0])[1]
    word, rest = [first], [shape for shape in letters if shape is not first]
    # Letters of one word stand on one line and close to each other.
    grown = True
    while grown:
        grown = False
        for shape in rest:
            close = min(_gap(shape.box, each.box) for each in word) <= 5
            if close and abs(shape.box[3] - first.box[3]) <= 4:
                word.append(shape)
                rest = [other for other in rest if other is not shape]
                grown = True
                break
    return sorted(word, key=lambda shape: shape.box[0])


def _gap(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    across = max(0, one[0] - other[2], other[0] - one[2])
    down = max(0, one[1] - other[3], other[1] - one[3])
    return float(np.hypot(across, down))
