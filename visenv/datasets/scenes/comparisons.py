"""Programs that compare the things of a scene: by size, by place, by order, and with one other thing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visenv.datasets.scenes.language import NounPhrase, ordinal, pick
from visenv.datasets.scenes.programs import Indices, Program
from visenv.datasets.scenes.scene import Scene, SceneObject

Direction = Literal["left", "right", "top", "bottom"]
RelationName = Literal["left of", "right of", "above", "below", "next to", "inside"]
Box = tuple[float, float, float, float]

_AXIS: dict[Direction, tuple[int, int]] = {"left": (0, 1), "right": (0, -1), "top": (1, 1), "bottom": (1, -1)}
_WHOLE_ENOUGH = 0.75


@dataclass(frozen=True)
class Sized(Program):
    """The small or the large ones of things that come in two sizes."""

    of: Program
    size: Literal["small", "large"]

    def evaluate(self, scene: Scene) -> Indices:
        """The objects meant: those on one side of the geometric mean of the least and the greatest length."""
        among = self.of.evaluate(scene)
        if not among:
            return ()
        lengths = [scene.objects[i].length for i in among]
        middle = math.sqrt(min(lengths) * max(lengths))
        return tuple(i for i, length in zip(among, lengths, strict=True) if (length < middle) == (self.size == "small"))

    def is_clear(self, scene: Scene) -> bool:
        """Whether the sizes are 1.6 apart, none is in between, and no object looks smaller for being covered."""
        things = [scene.objects[i] for i in self.of.evaluate(scene)]
        if len(things) < 2 or not self.of.is_clear(scene) or any(t.visible < _WHOLE_ENOUGH for t in things):
            return False
        lengths = [thing.length for thing in things]
        middle = math.sqrt(min(lengths) * max(lengths))
        return max(lengths) >= 1.6 * min(lengths) and not any(1 / 1.12 < length / middle < 1.12 for length in lengths)

    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it."""
        return self.of.phrase(rng).preceded(
            pick(rng, ("small", "little") if self.size == "small" else ("large", "big"))
        )


@dataclass(frozen=True)
class Extreme(Program):
    """The largest or the smallest."""

    of: Program
    which: Literal["largest", "smallest"]

    def _ranked(self, scene: Scene) -> list[int]:
        among = self.of.evaluate(scene)
        return sorted(among, key=lambda i: scene.objects[i].length, reverse=self.which == "largest")

    def evaluate(self, scene: Scene) -> Indices:
        """The object meant: that with the greatest, or least, longer side of its box."""
        return tuple(self._ranked(scene)[:1])

    def is_clear(self, scene: Scene) -> bool:
        """Whether it is the extreme by 1.2 in length and 1.3 in area, and none looks smaller for being covered."""
        things = [scene.objects[i] for i in self._ranked(scene)]
        if len(things) < 2 or not self.of.is_clear(scene) or any(thing.visible < _WHOLE_ENOUGH for thing in things):
            return False
        first, others = things[0], things[1:]
        if self.which == "largest":
            return all(first.length >= 1.2 * t.length and first.area >= 1.3 * t.area for t in others)
        return all(t.length >= 1.2 * first.length and t.area >= 1.3 * first.area for t in others)

    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it."""
        words = ("largest", "biggest") if self.which == "largest" else ("smallest",)
        return self.of.phrase(rng).preceded(pick(rng, words))


@dataclass(frozen=True)
class Side(Program):
    """Those in one half of the picture."""

    of: Program
    side: Direction

    def evaluate(self, scene: Scene) -> Indices:
        """The objects meant: those whose centre is in that half."""
        axis, sign = _AXIS[self.side]
        middle = scene.size[axis] / 2
        return tuple(i for i in self.of.evaluate(scene) if (scene.objects[i].centre[axis] - middle) * sign < 0)

    def is_clear(self, scene: Scene) -> bool:
        """Whether every centre is 6 % of the picture or more away from the middle."""
        axis, _ = _AXIS[self.side]
        extent = scene.size[axis]
        away = (abs(scene.objects[i].centre[axis] - extent / 2) for i in self.of.evaluate(scene))
        return self.of.is_clear(scene) and all(distance >= 0.06 * extent for distance in away)

    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it."""
        picture = pick(rng, ("picture", "image"))
        words = {"top": ("top", "upper"), "bottom": ("bottom", "lower")}.get(self.side, (self.side,))
        forms = [f"in the {word} half of the {picture}" for word in words]
        if self.side in ("left", "right"):
            forms.append(f"on the {self.side} side of the {picture}")
        return self.of.phrase(rng).followed(pick(rng, forms))


@dataclass(frozen=True)
class Nth(Program):
    """The n-th, counted from a side of the picture; n from 1."""

    of: Program
    n: int
    side: Direction

    def _ordered(self, scene: Scene) -> list[int]:
        axis, sign = _AXIS[self.side]
        return sorted(self.of.evaluate(scene), key=lambda i: scene.objects[i].centre[axis] * sign)

    def evaluate(self, scene: Scene) -> Indices:
        """The object meant, by the order of the centres."""
        return tuple(self._ordered(scene)[self.n - 1 : self.n])

    def is_clear(self, scene: Scene) -> bool:
        """Whether its centre is 3 % of the picture (and 8 pixels) away from its neighbours' in that order."""
        axis, _ = _AXIS[self.side]
        places = [scene.objects[i].centre[axis] for i in self._ordered(scene)]
        least = max(8.0, 0.03 * scene.size[axis])
        near = places[max(self.n - 2, 0) : self.n + 1]
        return self.of.is_clear(scene) and all(abs(a - b) >= least for a, b in zip(near, near[1:], strict=False))

    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it."""
        phrase = self.of.phrase(rng)
        if self.n == 1 and rng.random() < 0.6:
            return phrase.preceded(
                {"left": "leftmost", "right": "rightmost", "top": "topmost", "bottom": "lowest"}[self.side]
            )
        return phrase.preceded(ordinal(self.n)).followed(f"from the {self.side}")


_RELATION_WORDS: dict[RelationName, tuple[str, ...]] = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "higher up than"),
    "below": ("below", "lower down than"),
    "next to": ("next to", "beside"),
    "inside": ("inside", "in the middle of"),
}
_BEYOND: dict[RelationName, tuple[int, int]] = {
    "left of": (0, 1),
    "right of": (0, -1),
    "above": (1, 1),
    "below": (1, -1),
}


@dataclass(frozen=True)
class Relation(Program):
    """Those that stand in a relation to one other thing, the anchor."""

    of: Program
    relation: RelationName
    anchor: Program

    def _judge(self, scene: Scene) -> dict[int, bool | None]:
        anchors = self.anchor.evaluate(scene)
        if len(anchors) != 1:
            return {}
        anchor = scene.objects[anchors[0]]
        return {i: self._holds(scene.objects[i], anchor) for i in self.of.evaluate(scene) if i != anchors[0]}

    def _holds(self, thing: SceneObject, anchor: SceneObject) -> bool | None:
        """Whether it stands so to the anchor; None where opinions may differ."""
        if self.relation == "inside":
            if contains(anchor.box, thing.box):
                return True
            return False if gap(thing.box, anchor.box) > 0 else None
        if self.relation == "next to":
            distance = gap(thing.box, anchor.box) / (0.5 * (thing.length + anchor.length))
            if contains(anchor.box, thing.box) or contains(thing.box, anchor.box):
                return None
            return True if distance <= 0.3 else False if distance >= 0.9 else None
        axis, sign = _BEYOND[self.relation]
        near_edge = anchor.box[axis] if sign > 0 else anchor.box[axis + 2]
        offset = (thing.centre[axis] - near_edge) * sign
        if offset < 0:
            return True
        return False if (thing.centre[axis] - anchor.centre[axis]) * sign >= 0 else None

    def evaluate(self, scene: Scene) -> Indices:
        """The objects meant; none where the anchor is not exactly one thing.

        Left of (and so on): the centre lies beyond the anchor's edge. Next to: the gap between the boxes is at most 0.3
        of their mean length. Inside: the box lies within the anchor's.
        """
        return tuple(i for i, holds in self._judge(scene).items() if holds)

    def is_clear(self, scene: Scene) -> bool:
        """Whether the anchor is one thing, and no candidate stands half-way.

        Half-way is a centre between the anchor's edge and its centre, a gap of 0.3 to 0.9 mean lengths, a box that
        touches the anchor's and is not within it.
        """
        if len(self.anchor.evaluate(scene)) != 1 or not (self.of.is_clear(scene) and self.anchor.is_clear(scene)):
            return False
        return None not in self._judge(scene).values()

    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it."""
        words = pick(rng, _RELATION_WORDS[self.relation])
        return self.of.phrase(rng).followed(f"{words} the {self.anchor.phrase(rng).singular}")


@dataclass(frozen=True)
class Nearest(Program):
    """The one nearest to one other thing, the anchor."""

    of: Program
    anchor: Program

    def _distances(self, scene: Scene) -> list[tuple[float, float, int]]:
        """The distance of the centres and the gap between the boxes, for each candidate, nearest first."""
        anchors = self.anchor.evaluate(scene)
        if len(anchors) != 1:
            return []
        anchor = scene.objects[anchors[0]]
        others = [(i, scene.objects[i]) for i in self.of.evaluate(scene) if i != anchors[0]]
        return sorted((math.dist(t.centre, anchor.centre), gap(t.box, anchor.box), i) for i, t in others)

    def evaluate(self, scene: Scene) -> Indices:
        """The object meant, by the distance of the centres; none where the anchor is not exactly one thing."""
        return tuple(i for _, _, i in self._distances(scene)[:1])

    def is_clear(self, scene: Scene) -> bool:
        """Whether all others are 1.3 times as far off, by centres and by the gaps between the boxes."""
        ranked = self._distances(scene)
        if len(ranked) < 2 or not (self.of.is_clear(scene) and self.anchor.is_clear(scene)):
            return False
        distance, least_gap, _ = ranked[0]
        return all(d >= 1.3 * distance and g > 1.3 * least_gap for d, g, _ in ranked[1:])

    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it."""
        words = pick(rng, ("nearest to", "closest to"))
        return self.of.phrase(rng).followed(f"{words} the {self.anchor.phrase(rng).singular}")


def gap(a: Box, b: Box) -> float:
    """The distance between two boxes in pixels, 0 where they touch or overlap."""
    return math.hypot(max(a[0] - b[2], b[0] - a[2], 0.0), max(a[1] - b[3], b[1] - a[3], 0.0))


def contains(outer: Box, inner: Box) -> bool:
    """Whether a box lies within another."""
    return outer[0] <= inner[0] and outer[1] <= inner[1] and inner[2] <= outer[2] and inner[3] <= outer[3]
