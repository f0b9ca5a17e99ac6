"""Pointing at what a complex phrase refers to: what it asks for, applied to what is perceived.

Nothing here sees pixels: ``resolve`` chooses among things with places, sizes and probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import cv2
import numpy as np

from visenv.capabilities import Points
from visenv.experts.classical.parser import Description, Order, Phrase, Relation, parse
from visenv.experts.classical.perception import Perception

BELIEVED = 0.15
"""Least probability of being what a description asks for: lower than a grounder's, since the phrase says more."""
PRESUPPOSED = 0.06
"""The same for the likeliest thing, where a phrase speaks of one certain object and none is believed to be it."""
BESIDE = 0.6
"""Gap up to which things are next to each other, in mean lengths of the two."""
INSIDE_SLACK = 0.08
"""Share of the inner box's sides by which it may reach out of the outer one."""

Box = tuple[float, float, float, float]


class Thing(Protocol):
    """An object as the pointer knows it."""

    @property
    def box(self) -> Box:
        """Xyxy pixels, half-open."""

    @property
    def area(self) -> float:
        """Visible pixels."""

    @property
    def kinds(self) -> dict[str, float]:
        """Probability of each kind, in the lexicon's words."""

    @property
    def colours(self) -> dict[str, float]:
        """Probability of each colour name."""

    @property
    def patterns(self) -> dict[str, float]:
        """Probability of each pattern."""


def point(perception: Perception, phrase: str) -> Points:
    """A point on each object that a phrase refers to; none where nothing perceived fits.

    Args:
        perception: what is perceived in the view.
        phrase: English of any length.

    Returns:
        The deepest pixel of each object, in reading order, with the probability that it is as described.
    """
    meant = resolve(parse(phrase), perception.percepts, perception.masks.shape)
    points, scores = np.zeros((len(meant), 2)), np.zeros(len(meant))
    for row, (index, score) in enumerate(meant.items()):
        crop, offset = np.asarray(perception.masks.crops[index]), perception.masks.offsets[index]
        depth = cv2.distanceTransform(np.pad(crop.astype(np.uint8), 1), cv2.DIST_L2, 5)
        y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
        points[row] = offset[0] + x - 0.5, offset[1] + y - 0.5
        scores[row] = score
    return Points(points, scores)


def resolve(phrase: Phrase, things: Sequence[Thing], shape: tuple[int, int]) -> dict[int, float]:
    """Which things a phrase refers to.

    Args:
        phrase: as parsed.
        things: all that is perceived.
        shape: (height, width) of the picture.

    Returns:
        Index and probability of each, ascending by index; empty if none fits or nothing was understood.
    """
    found: dict[int, float] = {}
    if phrase.understood:
        found = _single(phrase, things, shape)
        for other in phrase.union:
            for index, score in resolve(other, things, shape).items():
                found[index] = max(found.get(index, 0.0), score)
    return dict(sorted(found.items()))


def _single(phrase: Phrase, things: Sequence[Thing], shape: tuple[int, int]) -> dict[int, float]:
    fits = {
        index: _fit(phrase.description, thing)
        for index, thing in enumerate(things)
        if not any(_fit(each, thing) >= 0.5 for each in phrase.excluded)
    }
    found = {index: score for index, score in fits.items() if score >= BELIEVED}
    if not found and phrase.one and fits:
        likeliest = max(fits, key=lambda index: fits[index])
        found = {likeliest: fits[likeliest]} if fits[likeliest] >= PRESUPPOSED else {}
    for relation in phrase.relations:
        found = _related(found, relation, things, shape)
    found = {
        index: score for index, score in found.items() if all(_on_side(things[index], s, shape) for s in phrase.sides)
    }
    if phrase.size:
        found = _sized(found, phrase.size, things)
    for order in phrase.orders:
        found = _ordered(found, order, things)
    return found


def _fit(description: Description, thing: Thing) -> float:
    """The probability that a thing is as described: that it is known at all, where nothing is said of its kind."""
    known = min(sum(thing.kinds.values()), 1.0)
    score = sum(thing.kinds.get(kind, 0.0) for kind in description.kinds) if description.kinds else known
    if description.colours:
        score *= min(sum(thing.colours.get(colour, 0.0) for colour in description.colours), 1.0)
    if description.patterns:
        score *= min(sum(thing.patterns.get(pattern, 0.0) for pattern in description.patterns), 1.0)
    return score


# --- relations ----------------------------------------------------------------------------------------------------


def _related(
    found: dict[int, float], relation: Relation, things: Sequence[Thing], shape: tuple[int, int]
) -> dict[int, float]:
    """Those that stand so to one of the anchors, an anchor never to itself."""
    anchors = resolve(relation.anchor, things, shape)
    if not anchors:
        return dict(found) if relation.negated else {}
    if relation.anchor.one and len(anchors) > 1:
        best = max(anchors, key=lambda index: anchors[index])
        anchors = {best: anchors[best]}
    others = {index: score for index, score in found.items() if not (index in anchors and len(anchors) == 1)}
    if relation.name in ("nearest", "farthest"):
        sign = 1 if relation.name == "nearest" else -1
        distance = {
            index: min(math.dist(_centre(things[index]), _centre(things[a])) for a in anchors if a != index)
            for index in others
        }
        chosen = sorted(others, key=lambda index: sign * distance[index])[:1]
        return {index: score for index, score in others.items() if (index in chosen) != relation.negated}
    return {
        index: score
        for index, score in others.items()
        if any(_holds(relation.name, things[index], things[a]) for a in anchors if a != index) != relation.negated
    }


_BEYOND = {"left": (0, 1), "right": (0, -1), "above": (1, 1), "below": (1, -1)}


def _holds(name: str, thing: Thing, anchor: Thing) -> bool:
    """Whether a relation holds; a thing is beyond another from half-way between that one's middle and its edge."""
    if name in _BEYOND:
        axis, sign = _BEYOND[name]
        edge = anchor.box[axis] if sign > 0 else anchor.box[axis + 2]
        border = (edge + _centre(anchor)[axis]) / 2
        return (_centre(thing)[axis] - border) * sign < 0
    if name == "inside":
        return _contains(anchor.box, thing.box)
    if name == "around":
        return _contains(thing.box, anchor.box)
    if name in ("near", "far"):
        apart = _gap(thing.box, anchor.box) / max(0.5 * (_length(thing) + _length(anchor)), 1e-9)
        return (apart <= BESIDE) == (name == "near")
    ratio = _length(thing) / max(_length(anchor), 1e-9)
    return ratio > 1 if name == "larger" else ratio < 1


def _gap(a: Box, b: Box) -> float:
    return math.hypot(max(a[0] - b[2], b[0] - a[2], 0.0), max(a[1] - b[3], b[1] - a[3], 0.0))


def _contains(outer: Box, inner: Box) -> bool:
    slack = (INSIDE_SLACK * (inner[2] - inner[0]), INSIDE_SLACK * (inner[3] - inner[1]))
    smaller = (inner[2] - inner[0]) * (inner[3] - inner[1]) < (outer[2] - outer[0]) * (outer[3] - outer[1])
    return (
        smaller
        and outer[0] <= inner[0] + slack[0]
        and outer[1] <= inner[1] + slack[1]
        and inner[2] <= outer[2] + slack[0]
        and inner[3] <= outer[3] + slack[1]
    )


# --- places, sizes, orders ----------------------------------------------------------------------------------------


def _centre(thing: Thing) -> tuple[float, float]:
    x0, y0, x1, y1 = thing.box
    return (x0 + x1) / 2, (y0 + y1) / 2


def _length(thing: Thing) -> float:
    x0, y0, x1, y1 = thing.box
    return max(x1 - x0, y1 - y0)


def _on_side(thing: Thing, side: str, shape: tuple[int, int]) -> bool:
    x, y = _centre(thing)
    height, width = shape
    central = abs(x - width / 2) < width / 4 and abs(y - height / 2) < height / 4
    return {
        "left": x < width / 2,
        "right": x > width / 2,
        "top": y < height / 2,
        "bottom": y > height / 2,
        "centre": central,
        "edge": not central,
    }[side]


def _sized(found: dict[int, float], size: str, things: Sequence[Thing]) -> dict[int, float]:
    """The small or the large ones: parted at the geometric mean of the least and the greatest length."""
    if len(found) < 2:
        return found
    lengths = {index: _length(things[index]) for index in found}
    middle = math.sqrt(min(lengths.values()) * max(lengths.values()))
    return {index: score for index, score in found.items() if (lengths[index] < middle) == (size == "small")}


def _ordered(found: dict[int, float], order: Order, things: Sequence[Thing]) -> dict[int, float]:
    keys = {
        "left": lambda index: _centre(things[index])[0],
        "right": lambda index: -_centre(things[index])[0],
        "top": lambda index: _centre(things[index])[1],
        "bottom": lambda index: -_centre(things[index])[1],
        "largest": lambda index: -_length(things[index]),
        "smallest": lambda index: _length(things[index]),
    }
    row = sorted(found, key=keys[order.key])
    start = order.rank - 1 if order.rank > 0 else max(len(row) + order.rank, 0)
    return {index: found[index] for index in row[start : start + order.count]}
