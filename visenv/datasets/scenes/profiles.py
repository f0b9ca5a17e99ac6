"""How hard a scene is to look at: one record of numbers for each family and difficulty."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from visenv.datasets.scenes.kinds import KINDS

DENSE_KINDS = ("apple", "star", "car", "tree", "house", "kite")
"""The kinds that can still be told apart by colour and coarse outline at 10 pixels."""


@dataclass(frozen=True)
class Profile:
    """What the pictures of one family and difficulty look like. Ranges include both ends."""

    canvas: tuple[int, int]
    """Width and height, pixels."""
    count: tuple[int, int]
    """Objects that are tried; one that finds no room, or would hide another, is left out."""
    size: tuple[int, int]
    """The longer side of an object, pixels."""
    kinds: tuple[int, int]
    """Different kinds in one scene."""
    colours: tuple[int, int]
    """Different colours in one scene."""
    pool: tuple[str, ...] = tuple(kind.name for kind in KINDS.values() if not kind.hollow)
    """The kinds to choose from."""
    large: float = 0.0
    """The share of objects that are much larger than ``size``."""
    large_size: tuple[int, int] = (60, 100)
    """The longer side of those, pixels."""
    rotation: float = 10.0
    """Degrees by which an upright kind may lean to either side."""
    free_rotation: bool = False
    """Whether kinds that can lie at any angle do."""
    patterned: float = 0.0
    """The share of objects with a pattern, of those large enough for one."""
    container: float = 0.0
    """The probability of something hollow with something inside of it."""
    beside: float = 0.0
    """The share of objects put right beside another."""
    overlapping: float = 0.0
    """The share of objects put partly over another."""
    least_visible: float = 0.6
    """No object is covered more than down to this share of its silhouette."""
    gap: int = 6
    """Pixels between objects that do not touch on purpose."""
    texture: tuple[float, float] = (3.0, 8.0)
    """Standard deviation of the background's texture, grey levels."""
    saturation: float = 0.06
    """How colourful backgrounds are at most, 0 to 1."""
    clutter: tuple[int, int] = (0, 0)
    """Marks scattered over the background."""
    lighting: float = 0.0
    """The most by which lighting changes from one side to the other, as a share of the brightness."""
    noise: tuple[float, float] = (0.0, 0.0)
    """Standard deviation of the noise added at the end, grey levels."""
    blur: tuple[float, float] = (0.0, 0.0)
    """Standard deviation of the blur, pixels; under 0.3 there is none."""


_LOOKS: tuple[dict[str, Any], ...] = (
    {"lighting": 0.05},
    {"lighting": 0.15, "texture": (4.0, 11.0), "clutter": (2, 8), "noise": (0.0, 4.0), "blur": (0.0, 0.6)},
    {"lighting": 0.25, "texture": (6.0, 15.0), "clutter": (15, 40), "noise": (2.0, 7.0), "blur": (0.0, 0.8)},
    {"lighting": 0.35, "texture": (8.0, 19.0), "clutter": (30, 80), "noise": (4.0, 11.0), "blur": (0.0, 1.1)},
)
_COLOURFUL: tuple[dict[str, Any], ...] = ({}, {}, {"saturation": 0.1}, {"saturation": 0.14})
_LEANING: tuple[dict[str, Any], ...] = ({}, {"rotation": 18.0}, {"rotation": 25.0}, {"rotation": 32.0})
_ARRANGED: dict[str, Any] = {"free_rotation": True, "container": 0.4, "beside": 0.25}
_MIXING: tuple[dict[str, Any], ...] = (
    {"patterned": 0.15},
    _ARRANGED | {"patterned": 0.35, "container": 0.25, "beside": 0.2, "overlapping": 0.15},
    _ARRANGED | {"patterned": 0.4, "overlapping": 0.2},
    _ARRANGED | {"patterned": 0.4, "overlapping": 0.3, "least_visible": 0.5},
)
_REFERRING: tuple[dict[str, Any], ...] = (
    {"canvas": (256, 256), "count": (4, 6), "size": (44, 80), "kinds": (2, 5), "colours": (3, 5)},
    {"canvas": (256, 256), "count": (5, 9), "size": (34, 62), "kinds": (2, 5), "colours": (3, 5)},
    {"canvas": (512, 512), "count": (10, 16), "size": (24, 46), "kinds": (3, 7), "colours": (3, 6), "large": 0.15},
    {"canvas": (512, 512), "count": (14, 24), "size": (18, 38), "kinds": (4, 8), "colours": (4, 7), "large": 0.12},
)
_COUNTING: tuple[dict[str, Any], ...] = (
    {"canvas": (256, 256), "count": (7, 13), "size": (28, 42), "kinds": (2, 3), "colours": (2, 3)},
    {"canvas": (384, 384), "count": (12, 26), "size": (28, 46), "kinds": (2, 4), "colours": (2, 4)},
    {"canvas": (512, 512), "count": (22, 40), "size": (22, 40), "kinds": (2, 4), "colours": (2, 4), "large": 0.05},
    {"canvas": (512, 512), "count": (30, 56), "size": (18, 34), "kinds": (2, 5), "colours": (2, 5), "large": 0.04},
)
_DENSE: tuple[dict[str, Any], ...] = (
    {"count": (100, 160), "size": (12, 20), "kinds": (2, 3), "colours": (2, 4), "gap": 3},
    {"count": (130, 240), "size": (9, 20), "kinds": (3, 4), "colours": (3, 5), "gap": 2},
    {"count": (180, 320), "size": (8, 18), "kinds": (3, 5), "colours": (3, 6), "gap": 2},
    {"count": (260, 400), "size": (7, 16), "kinds": (4, 6), "colours": (4, 8), "gap": 1},
)


@cache
def profile(family: str, difficulty: int) -> Profile:
    """The profile of a family at a difficulty of 0 to 3.

    Example:
        >>> profile("densedet", 1).canvas
        (1280, 960)
    """
    looks = _LOOKS[difficulty] | _COLOURFUL[difficulty] | _LEANING[difficulty]
    if family == "densedet":
        return Profile(canvas=(1280, 960), pool=DENSE_KINDS, **(looks | {"blur": (0.0, 0.0)} | _DENSE[difficulty]))
    shape = _COUNTING if family == "refcount" else _REFERRING
    return Profile(**(looks | _MIXING[difficulty] | shape[difficulty]))
