"""Outlines from which the kinds of objects are put together: closed polygons in a unit frame, y pointing down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Outline = NDArray[np.float64]
"""(N, 2) xy, a closed polygon; about [-1, 1] on both axes."""


def polygon(*points: tuple[float, float]) -> Outline:
    """A polygon with straight sides."""
    return np.array(points, dtype=np.float64)


def box(x0: float, y0: float, x1: float, y1: float) -> Outline:
    """An upright rectangle."""
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Outline:
    """An ellipse, or the segment of one between two angles in degrees (0 points right, 90 down)."""
    whole = stop - start >= 360.0
    number = 12 + round(20 * max(rx, ry)) if whole else 20
    angles = np.radians(np.linspace(start, stop, number, endpoint=not whole))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def smooth(*points: tuple[float, float], rounds: int = 2) -> Outline:
    """A closed curve near the given corners, by Chaikin's corner cutting (1974)."""
    curve = np.array(points, dtype=np.float64)
    for _ in range(rounds):
        following = np.roll(curve, -1, axis=0)
        curve = np.stack([0.75 * curve + 0.25 * following, 0.25 * curve + 0.75 * following], axis=1).reshape(-1, 2)
    return curve


def stroke(points: Sequence[tuple[float, float]], width: float) -> Outline:
    """A line of the given width along a path that does not turn sharply."""
    path = np.array(points, dtype=np.float64)
    direction = np.gradient(path, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1) * (width / 2)
    return np.concatenate([path + normal, (path - normal)[::-1]])


def star(points: int, outer: float, inner: float) -> Outline:
    """A star with one point up."""
    angles = np.radians(-90 + np.arange(2 * points) * 180 / points)
    radius = np.where(np.arange(2 * points) % 2 == 0, outer, inner)
    return np.stack([radius * np.cos(angles), radius * np.sin(angles)], axis=1)


def petals(number: int, reach: float, lobe: float) -> Outline:
    """A rosette: a closed curve whose radius swings ``number`` times around."""
    angles = np.linspace(0, 2 * np.pi, 10 * number, endpoint=False)
    radius = reach * (1 - lobe + lobe * np.abs(np.cos(number * angles / 2)))
    return np.stack([radius * np.sin(angles), -radius * np.cos(angles)], axis=1)
