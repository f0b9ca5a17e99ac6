"""What is in a scene and where: kinds, colours, sizes and places, drawn from a profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from visenv.datasets.scenes.kinds import COLOURS, KINDS, PATTERN_MIN_SIZE, PATTERNS
from visenv.datasets.scenes.profiles import Profile
from visenv.types import BoolArray, IntArray

Place = Literal["free", "beside", "over", "inside"]

_MARGIN = 2
_TRIES = 24
_NEARBY = 8


@dataclass(frozen=True)
class Item:
    """An object that is to be drawn, and what place it should get."""

    kind: str
    colour: str
    pattern: str
    size: int
    """The longer side of its box, pixels."""
    rotation: float
    """Degrees, clockwise."""
    place: Place


def choose_items(rng: np.random.Generator, profile: Profile) -> list[Item]:
    """What to draw, in the order of painting.

    One kind is twice as likely as the others, so that there is something to tell apart.
    """
    kinds = _some(rng, profile.pool, _between(rng, profile.kinds))
    colours = _some(rng, tuple(COLOURS), _between(rng, profile.colours))
    number = _between(rng, profile.count)
    which = np.maximum(rng.integers(-1, len(kinds), number), 0).tolist()
    hue = rng.integers(0, len(colours), number).tolist()
    low, high = profile.size
    sizes = np.round(np.exp(rng.uniform(np.log(low), np.log(high), number))).astype(int).tolist()
    chances = rng.random((number, 3)).tolist()
    turns = rng.uniform(-1, 1, number).tolist()
    patterns = rng.integers(1, len(PATTERNS), number).tolist()

    items = []
    if rng.random() < profile.container:
        items += _container(rng, profile, kinds, colours)
    for i in range(number):
        kind = KINDS[kinds[which[i]]]
        large, patterned, placed = chances[i]
        size = _between(rng, profile.large_size) if large < profile.large else sizes[i]
        free = profile.free_rotation and kind.free_rotation
        items.append(
            Item(
                kind=kind.name,
                colour=colours[hue[i]],
                pattern=PATTERNS[patterns[i]]
                if patterned < profile.patterned and size >= PATTERN_MIN_SIZE
                else "plain",
                size=size,
                rotation=turns[i] * (180.0 if free else profile.rotation),
                place=_place(placed, profile),
            )
        )
    return items


def _place(chance: float, profile: Profile) -> Place:
    if chance < profile.beside:
        return "beside"
    return "over" if chance < profile.beside + profile.overlapping else "free"


def _container(rng: np.random.Generator, profile: Profile, kinds: list[str], colours: list[str]) -> list[Item]:
    """Something hollow, and one of the scene's kinds in the middle of it."""
    hollow = [kind.name for kind in KINDS.values() if kind.hollow]
    low, high = profile.size
    size = min(round(rng.uniform(1.7, 2.3) * high), min(profile.canvas) // 2)
    return [
        Item(_some(rng, hollow, 1)[0], _some(rng, colours, 1)[0], "plain", size, float(rng.uniform(-8, 8)), "free"),
        Item(
            _some(rng, kinds, 1)[0],
            _some(rng, colours, 1)[0],
            "plain",
            max(low, round(size * rng.uniform(0.36, 0.48))),
            float(rng.uniform(-1, 1) * profile.rotation),
            "inside",
        ),
    ]


def find_room(
    rng: np.random.Generator,
    place: Place,
    side: tuple[int, int],
    boxes: IntArray,
    profile: Profile,
) -> tuple[int, int] | None:
    """Where to put an object.

    Args:
        rng: source of chance.
        place: ``free`` of everything, ``beside`` or ``over`` one of the boxes, or ``inside`` the last one. Where
            there is no such room, anywhere free.
        side: width and height of the object, pixels.
        boxes: (N, 4) xyxy of the objects placed already.
        profile: the canvas and the gap to keep.

    Returns:
        The left top corner, or None where nothing was found.
    """
    width, height = side
    free_x, free_y = profile.canvas[0] - width - 2 * _MARGIN, profile.canvas[1] - height - 2 * _MARGIN
    if free_x <= 0 or free_y <= 0:
        return None
    if place == "inside" and len(boxes):
        x0, y0, x1, y1 = boxes[-1].tolist()
        return (x0 + x1 - width) // 2, (y0 + y1 - height) // 2
    if place in ("beside", "over") and len(boxes):
        corners = _corners_around(rng, place, side, boxes)
        inside = ((corners >= _MARGIN) & (corners <= (free_x + _MARGIN, free_y + _MARGIN))).all(axis=1)
        allowed = 0 if place == "beside" else 1
        found = _first(corners, inside & (_hits(corners, side, boxes, 1) <= allowed))
        if found is not None:
            return found
    for tries in (3, _TRIES):
        corners = _MARGIN + (rng.random((tries, 2)) * (free_x + 1, free_y + 1)).astype(np.int64)
        found = _first(corners, _hits(corners, side, boxes, profile.gap) == 0)
        if found is not None:
            break
    return found


def _corners_around(rng: np.random.Generator, place: Place, side: tuple[int, int], boxes: IntArray) -> IntArray:
    """(8, 2) corners right beside, or partly over, boxes chosen by chance."""
    chosen = boxes[(rng.random(_NEARBY) * len(boxes)).astype(np.int64)]
    chance = rng.random((_NEARBY, 4))
    horizontal, before = chance[:, 0] < 0.75, chance[:, 1] < 0.5
    along, across = np.where(horizontal, 0, 1), np.where(horizontal, 1, 0)
    rows = np.arange(_NEARBY)
    extent = np.array(side)
    low, high = chosen[rows, along], chosen[rows, along + 2]
    if place == "beside":
        shift = 2 + 3 * chance[:, 2]
    else:
        shift = -np.minimum(extent[along], high - low) * (0.15 + 0.3 * chance[:, 2])
    corners = np.empty((_NEARBY, 2))
    corners[rows, along] = np.where(before, low - extent[along] - shift, high + shift)
    low, high = chosen[rows, across], chosen[rows, across + 2]
    corners[rows, across] = (low + high - extent[across]) / 2 + (chance[:, 3] - 0.5) * 0.5 * (high - low)
    return np.rint(corners).astype(np.int64)


def _hits(corners: IntArray, side: tuple[int, int], boxes: IntArray, gap: int) -> IntArray:
    """How many boxes each place would come nearer to than the gap."""
    near_x = _overlap(corners[:, :1], side[0], boxes[:, 0], boxes[:, 2], gap)
    near_y = _overlap(corners[:, 1:], side[1], boxes[:, 1], boxes[:, 3], gap)
    return np.count_nonzero(near_x & near_y, axis=1)


def _overlap(start: IntArray, extent: int, low: IntArray, high: IntArray, gap: int) -> BoolArray:
    return (start < high + gap) & (start > low - extent - gap)


def _first(corners: IntArray, good: BoolArray) -> tuple[int, int] | None:
    if not good.any():
        return None
    x, y = corners[int(good.argmax())].tolist()
    return x, y


def _some(rng: np.random.Generator, choices: Sequence[str], number: int) -> list[str]:
    """So many different ones of the choices."""
    return [choices[i] for i in rng.permutation(len(choices))[:number].tolist()]


def _between(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    return int(rng.integers(bounds[0], bounds[1] + 1))
