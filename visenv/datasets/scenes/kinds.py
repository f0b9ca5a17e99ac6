"""Drawing one object of a kind: its pixels, its silhouette and the silhouettes of its parts.

An object is drawn as a map of labels at several times its resolution, which is coloured and then averaged down: that
gives smooth edges, an exact silhouette, and the parts, from one and the same geometry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from visenv.datasets.scenes.catalogue import KINDS
from visenv.datasets.scenes.parts import Kind, Part
from visenv.errors import UnknownName
from visenv.types import BoolArray

__all__ = [
    "COLOURS",
    "KINDS",
    "MATERIALS",
    "PATTERNS",
    "PATTERN_MIN_SIZE",
    "Drawing",
    "Kind",
    "Part",
    "draw_object",
    "vary",
]

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (212, 34, 38),
    "orange": (246, 136, 22),
    "yellow": (250, 222, 50),
    "green": (40, 150, 60),
    "cyan": (60, 205, 215),
    "blue": (30, 92, 215),
    "purple": (140, 45, 160),
    "pink": (248, 150, 195),
}
"""The colours an object can have, as RGB: at least 35 apart in CIE Lab (CIE76), and all of them saturated."""

PATTERNS: tuple[str, ...] = ("plain", "striped", "dotted", "checked")
"""What can be painted over the part that has the object's colour."""

PATTERN_MIN_SIZE = 32
"""Pixels: the least size of an object that can bear a pattern."""

MATERIALS: dict[str, tuple[int, int, int]] = {
    "wood": (112, 84, 60),
    "metal": (150, 154, 162),
    "glass": (198, 214, 224),
    "dark": (42, 42, 48),
    "cream": (240, 234, 220),
    "brick": (150, 92, 78),
    "leaf": (96, 124, 84),
}
"""The colours of the parts that no query names, as RGB."""

_EDGE_SHADE = 0.3
_PATTERN_INK = {name: (45, 45, 50) if name in {"yellow", "pink", "cyan"} else (250, 248, 240) for name in COLOURS}


@dataclass(frozen=True, eq=False)
class Drawing:
    """One object on its own, cropped to what is drawn."""

    rgba: NDArray[np.uint8]
    """(h, w, 4) RGB and coverage, not premultiplied."""
    mask: BoolArray
    """(h, w): the pixels at least half covered. This is what the truth calls the object."""
    parts: dict[str, BoolArray]
    """(h, w) for each part, what of it is not hidden by other parts; they do not overlap and make up the mask."""


def draw_object(
    kind: str,
    size_px: float,
    rotation: float = 0.0,
    colour: str = "red",
    pattern: str = "plain",
    rng: np.random.Generator | None = None,
    *,
    aspect: float = 1.0,
    phase: float = 0.0,
    with_parts: bool = True,
) -> Drawing:
    """Draw one object.

    Args:
        kind: a name in ``KINDS``.
        size_px: the longer side of its box, in pixels, once it is turned.
        rotation: degrees, clockwise.
        colour: a name in ``COLOURS``.
        pattern: one of ``PATTERNS``.
        rng: draws ``aspect`` (within 8 %) and ``phase`` instead, where one is given.
        aspect: width over height, relative to the catalogue's proportions.
        phase: by how many of its periods the pattern is shifted.
        with_parts: whether to work out ``parts`` (left empty otherwise; that is faster).

    Raises:
        UnknownName: for a kind, colour or pattern that does not exist.

    Example:
        >>> drawing = draw_object("umbrella", 48, rotation=10)
        >>> max(drawing.mask.shape), sorted(drawing.parts)
        (48, ['canopy', 'stick'])
    """
    for what, value, known in (("kind", kind, KINDS), ("colour", colour, COLOURS), ("pattern", pattern, PATTERNS)):
        if value not in known:
            raise UnknownName(f"Expected a {what} out of {', '.join(known)}, but got {value!r}.")
    if rng is not None:
        aspect, phase = vary(rng)
    return _draw(KINDS[kind], float(size_px), rotation, colour, pattern, aspect, phase, with_parts)


def vary(rng: np.random.Generator) -> tuple[float, float]:
    """An aspect and a phase by chance, for ``draw_object``."""
    return 0.92 + 0.16 * float(rng.random()), float(rng.random())


def _draw(
    kind: Kind, size: float, rotation: float, colour: str, pattern: str, aspect: float, phase: float, with_parts: bool
) -> Drawing:
    factor = 4 if size < 24 else 3 if size < 40 else 2
    labels = _label_map(kind, size, rotation, aspect, factor)
    if pattern != "plain":
        labels = cv2.add(labels, _ink(pattern, labels, size * factor, rotation, phase)).astype(np.uint8, copy=False)
    coloured = _palette(kind.name, colour).take(labels).view(np.uint8).reshape(*labels.shape, 4)
    height, width = labels.shape[0] // factor, labels.shape[1] // factor
    rgba = cv2.resize(coloured, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    mask: BoolArray = rgba[:, :, 3] >= 128
    parts = _parts(kind, labels, mask, size, rotation, aspect, factor) if with_parts else {}
    return Drawing(rgba, mask, parts)


# Labels: 0 nothing, 1 the edge, 2 + i the part i; 128 more where the pattern has ink.
_EDGE, _FIRST_PART, _INKED = 1, 2, 128


def _label_map(
    kind: Kind, size: float, rotation: float, aspect: float, factor: int, edges: bool = True
) -> NDArray[np.uint8]:
    """A map of labels, ``factor`` times the size asked for, each side a multiple of ``factor``."""
    cosine, sine = math.cos(math.radians(rotation)), math.sin(math.radians(rotation))
    turn = np.array([[cosine * aspect, sine * aspect], [-sine, cosine]])
    points, stops = _STACKED[kind.name]
    turned = points @ turn
    low, high = turned.min(axis=0), turned.max(axis=0)
    edge = min(max(size / 50, 0.4), 1.5) * factor
    spans = (high - low).tolist()
    scale = (size * factor - edge) / max(spans)
    width, height = (max(1, math.ceil(round((span * scale + edge) / factor, 6))) * factor for span in spans)
    shift = np.array([(width - 1) / 2, (height - 1) / 2]) - (low + high) * (scale / 2)
    fixed = np.rint(turned * (scale * 16) + shift * 16).astype(np.int32)
    outlines = [fixed[start:stop] for start, stop in pairwise(stops)]
    labels = np.zeros((height, width), dtype=np.uint8)
    thickness = max(1, round(edge))
    at = 0
    for index, part in enumerate(kind.parts):
        shapes = outlines[at : at + len(part.outlines)]
        at += len(part.outlines)
        cv2.fillPoly(labels, shapes, _FIRST_PART + index, cv2.LINE_8, 4)
        if edges and part.edged:
            cv2.polylines(labels, shapes, True, _EDGE, thickness, cv2.LINE_8, 4)
    return labels


_STACKED: dict[str, tuple[NDArray[np.float64], list[int]]] = {
    name: (
        np.concatenate([outline for part in kind.parts for outline in part.outlines]),
        [0, *accumulate(len(outline) for part in kind.parts for outline in part.outlines)],
    )
    for name, kind in KINDS.items()
}
"""All outlines of a kind, one after the other, and where each starts and stops."""


def _ink(pattern: str, labels: NDArray[np.uint8], size: float, rotation: float, phase: float) -> NDArray[np.uint8]:
    """Where a pattern has ink: ``_INKED``, elsewhere 0."""
    angle = math.radians(rotation + (45 if pattern == "striped" else 0))
    step = _PERIOD / max(size * 0.2, 6.0)
    cosine, sine = math.cos(angle) * step, math.sin(angle) * step
    height, width = labels.shape
    middle = (_REPEATS / 2 + phase) * _PERIOD
    x = middle - (cosine * width + sine * height) / 2
    y = middle - (cosine * height - sine * width) / 2
    place = np.array([[cosine, sine, x], [-sine, cosine, y]])
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(_pattern(pattern), place, (width, height), flags=flags).astype(np.uint8, copy=False)


_PERIOD, _REPEATS = 32, 10


@cache
def _pattern(pattern: str) -> NDArray[np.uint8]:
    """Ten periods of a pattern both ways, more than fit across any object."""
    u = (np.arange(_PERIOD) + 0.5) / _PERIOD
    v = u[:, None]
    if pattern == "striped":
        ink = np.broadcast_to(u < 0.38, (_PERIOD, _PERIOD))
    elif pattern == "dotted":
        ink = np.square(u - 0.5) + np.square(v - 0.5) < 0.085
    else:
        ink = (u < 0.5) ^ (v < 0.5)
    return np.tile(ink.astype(np.uint8) * _INKED, (_REPEATS, _REPEATS))


@cache
def _palette(name: str, colour: str) -> NDArray[np.uint32]:
    """(256,) the RGBA of every label, its four bytes taken as one number."""
    main = np.array(COLOURS[colour], dtype=np.float64)
    palette = np.zeros((256, 4), dtype=np.uint8)
    palette[:, :3] = main * _EDGE_SHADE
    palette[_EDGE:_INKED, 3] = 255
    for index, part in enumerate(KINDS[name].parts):
        palette[_FIRST_PART + index, :3] = _fill(part.fill, main)
    palette[_INKED:] = palette[:_INKED]
    for index, part in enumerate(KINDS[name].parts):
        if part.fill == "main":
            palette[_INKED + _FIRST_PART + index, :3] = _PATTERN_INK[colour]
    return palette.view(np.uint32).reshape(-1)


def _fill(fill: str, main: NDArray[np.float64]) -> NDArray[np.float64]:
    if fill == "main":
        return main
    if fill == "shade":
        return main * 0.75
    if fill == "tint":
        return main * 0.45 + 255 * 0.55
    return np.array(MATERIALS[fill], dtype=np.float64)


def _parts(
    kind: Kind, labels: NDArray[np.uint8], mask: BoolArray, size: float, rotation: float, aspect: float, factor: int
) -> dict[str, BoolArray]:
    """Each pixel of the mask goes to the part that covers most of it, edges to the part they belong to."""
    plain = _label_map(kind, size, rotation, aspect, factor, edges=False)
    shape = (mask.shape[1], mask.shape[0])
    cover = np.stack(
        [
            cv2.resize((plain == _FIRST_PART + i).astype(np.float32), shape, interpolation=cv2.INTER_AREA)
            for i in range(len(kind.parts))
        ]
    )
    bare = mask & (cover.max(axis=0) == 0)
    winner = cover.argmax(axis=0)
    if bare.any():
        _, nearest = cv2.distanceTransformWithLabels(
            (cover.max(axis=0) == 0).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        filled = cover.max(axis=0) > 0
        by_label = np.zeros(int(nearest.max()) + 1, dtype=np.int64)
        by_label[nearest[filled]] = winner[filled]
        winner = np.where(bare, by_label[nearest], winner)
    return {part.name: mask & (winner == i) for i, part in enumerate(kind.parts)}
