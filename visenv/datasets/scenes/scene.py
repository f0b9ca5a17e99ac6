"""What a scene holds, as seen: the only thing that a query is evaluated on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene, with what can be seen of it."""

    kind: str
    """A name in ``KINDS``."""
    colour: str
    """A name in ``COLOURS``."""
    pattern: str
    """One of ``PATTERNS``."""
    box: tuple[float, float, float, float]
    """xyxy pixels, half-open: the bounds of its visible pixels."""
    area: int
    """Visible pixels."""
    visible: float = 1.0
    """The share of its silhouette that nothing covers, in (0, 1]."""

    @property
    def centre(self) -> tuple[float, float]:
        """The middle of the box, xy pixels."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2

    @property
    def length(self) -> float:
        """The longer side of the box, pixels."""
        x0, y0, x1, y1 = self.box
        return max(x1 - x0, y1 - y0)


@dataclass(frozen=True)
class Scene:
    """A picture's content."""

    size: tuple[int, int]
    """Width and height, pixels."""
    objects: tuple[SceneObject, ...]
    """In the order of painting: a later object covers an earlier one."""
