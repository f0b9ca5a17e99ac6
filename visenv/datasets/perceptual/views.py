"""A plain seen in perspective, with things that stand on it: what is nearer is larger, lower and less hazy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from visenv.datasets.scenes.backgrounds import finish
from visenv.datasets.scenes.kinds import draw_object
from visenv.datasets.scenes.profiles import Profile
from visenv.types import IntArray, Pixels

NEAREST, FARTHEST = 1.0, 5.0
"""Distances of things from the camera."""
HORIZON = 0.3
"""The part of the picture's height that is sky."""
HAZE = 0.55
"""How much of the sky's colour the farthest thing takes on."""


@dataclass(frozen=True)
class Standing:
    """A thing on the plain."""

    kind: str
    colour: str
    x: float
    """Sideways from the camera at rest, in units of the picture's width at distance 1."""
    z: float
    """Distance."""
    height: float = 0.3
    """Its size at distance 1, in parts of the picture's height."""


@dataclass(frozen=True, eq=False)
class PlainView:
    """What a camera sees of the plain."""

    image: Pixels
    """(H, W, 3) uint8 RGB."""
    owners: IntArray
    """(H, W) 1 + the number of the thing that is seen at a pixel; 0 for none."""
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    """xyxy pixels, half-open: where each thing was drawn; it may reach out of the picture."""

    def middle(self, index: int) -> tuple[float, float] | None:
        """A pixel that shows a thing and is well inside of what is seen of it; None if too little of it is seen."""
        seen = (self.owners == index + 1).astype(np.uint8)
        depth = cv2.distanceTransform(cv2.copyMakeBorder(seen, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return (float(x) - 1, float(y) - 1) if depth[y, x] >= 3 else None


def look_at_plain(
    things: Sequence[Standing], camera: float, look: Profile, ground: tuple[int, int, int], rng: np.random.Generator
) -> PlainView:
    """Draw the plain.

    Args:
        things: what stands on it.
        camera: how far the camera has moved sideways.
        look: the canvas, and its light and noise.
        ground: colour of the plain, RGB.
        rng: of light and noise.
    """
    width, height = look.canvas
    horizon = round(HORIZON * height)
    sky = np.array([196, 214, 232], np.float32)
    near = np.linspace(0, 1, height - horizon, dtype=np.float32)[:, None, None]
    canvas = np.empty((height, width, 3), np.float32)
    canvas[:horizon] = sky
    canvas[horizon:] = sky * (1 - near) * 0.7 + np.array(ground, np.float32) * (0.3 + 0.7 * near)
    owners = np.zeros((height, width), np.int64)
    boxes = [(0, 0, 0, 0)] * len(things)
    for index in sorted(range(len(things)), key=lambda i: -things[i].z):
        thing = things[index]
        size = max(8.0, thing.height * height / thing.z)
        drawing = draw_object(thing.kind, size, 0.0, thing.colour, with_parts=False)
        tall, wide = drawing.mask.shape
        x = round(width * (0.5 + (thing.x - camera) / thing.z) - wide / 2)
        y = round(foot(thing.z, height)) - tall
        boxes[index] = (x, y, x + wide, y + tall)
        x0, y0, x1, y1 = max(0, x), max(0, y), min(width, x + wide), min(height, y + tall)
        if x1 <= x0 or y1 <= y0:
            continue
        part = slice(y0 - y, y1 - y), slice(x0 - x, x1 - x)
        window = slice(y0, y1), slice(x0, x1)
        hazy = HAZE * (thing.z - NEAREST) / (FARTHEST - NEAREST)
        colours = drawing.rgba[part][..., :3].astype(np.float32) * (1 - hazy) + sky * hazy
        weight = drawing.rgba[part][..., 3:].astype(np.float32) / 255
        canvas[window] = canvas[window] * (1 - weight) + colours * weight
        owners[window][drawing.mask[part]] = index + 1
    image = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return PlainView(finish(rng, image, replace(look, lighting=0.0)), owners, tuple(boxes))


def foot(z: float, height: int) -> float:
    """The row on which a thing at a distance stands."""
    return height * (HORIZON + (0.97 - HORIZON) * NEAREST / z)
