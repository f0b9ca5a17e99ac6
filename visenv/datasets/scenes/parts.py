"""What a kind of object is: parts, each a few outlines and a paint, and the words for it."""

from __future__ import annotations

from dataclasses import dataclass

from visenv.datasets.scenes.shapes import Outline


@dataclass(frozen=True, eq=False)
class Part:
    """A part of a drawing, painted over the parts before it."""

    name: str
    outlines: tuple[Outline, ...]
    """Filled by the even-odd rule: an outline inside another is a hole."""
    fill: str = "main"
    """``main``, ``shade`` or ``tint`` of the object's colour, or a material."""
    edged: bool = True
    """Whether it gets the thin dark edge; lines too thin for one do not."""


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of object, its drawing and its words."""

    name: str
    plural: str
    purposes: tuple[str, ...]
    """Phrases that say what it is for, each to follow "something" or "the thing"."""
    parts: tuple[Part, ...]
    free_rotation: bool = False
    """Whether it may lie at any angle; other kinds stand roughly upright."""
    hollow: bool = False
    """Whether things can be inside of it."""
