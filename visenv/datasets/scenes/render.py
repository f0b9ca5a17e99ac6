"""Painting a scene, object by object, and keeping account of which pixels of each can still be seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from visenv.datasets.scenes.backgrounds import background, finish
from visenv.datasets.scenes.kinds import Drawing, draw_object, vary
from visenv.datasets.scenes.layout import Item, choose_items, find_room
from visenv.datasets.scenes.profiles import Profile
from visenv.datasets.scenes.scene import Scene, SceneObject
from visenv.types import BoolArray, Pixels


@dataclass(frozen=True)
class Placement:
    """How an object was drawn: enough to draw it again."""

    item: Item
    corner: tuple[int, int]
    """The x and y of its left top pixel."""
    aspect: float
    phase: float


@dataclass(frozen=True, eq=False)
class RenderedScene:
    """A scene and its picture."""

    image: Pixels
    """(H, W, 3) uint8 RGB."""
    scene: Scene
    placements: tuple[Placement, ...]
    """How each object was drawn, in the order of painting."""
    owners: NDArray[np.int16]
    """(H, W): 1 + the index of the object whose pixel it is, 0 for the background."""

    def visible(self, index: int) -> tuple[BoolArray, tuple[int, int]]:
        """What can be seen of an object: a mask cropped to its box, and the left top corner of that."""
        x0, y0, x1, y1 = (int(side) for side in self.scene.objects[index].box)
        return self.owners[y0:y1, x0:x1] == index + 1, (x0, y0)


def render_scene(rng: np.random.Generator, profile: Profile) -> RenderedScene:
    """Draw a scene.

    Objects are painted one after the other; one that would hide too much of another is left out. Light, blur and noise
    come last and change no truth: an object's pixels are those its outline covers, as far as nothing covers them.

    Args:
        rng: the only source of chance.
        profile: what the picture is to look like.

    Example:
        >>> from visenv.datasets.scenes.profiles import profile
        >>> rendered = render_scene(np.random.default_rng(0), profile("reasonseg", 0))
        >>> rendered.image.shape, len(rendered.scene.objects) > 1
        ((256, 256, 3), True)
    """
    ground = background(rng, profile)
    return _painted(rng, profile, ground, choose_items(rng, profile))


def render_items(rng: np.random.Generator, profile: Profile, items: Iterable[Item]) -> RenderedScene:
    """Draw a scene of certain things; one that finds no room is left out.

    Args:
        rng: the only source of chance. Colours take none of it: the same state draws the same places.
        profile: what the picture is to look like otherwise.
        items: what to draw, in the order of painting.
    """
    return _painted(rng, profile, background(rng, profile), items)


def _painted(rng: np.random.Generator, profile: Profile, ground: Pixels, items: Iterable[Item]) -> RenderedScene:
    canvas = _Canvas(ground, profile)
    for item in items:
        canvas.paint(rng, item)
    return RenderedScene(finish(rng, canvas.image, profile), canvas.scene(), tuple(canvas.placements), canvas.owners)


def draw_item(item: Item, aspect: float, phase: float) -> Drawing:
    """The drawing of an item, without its parts."""
    return draw_object(
        item.kind,
        item.size,
        item.rotation,
        item.colour,
        item.pattern,
        aspect=aspect,
        phase=phase,
        with_parts=False,
    )


class _Canvas:
    """A picture in the making."""

    def __init__(self, image: Pixels, profile: Profile) -> None:
        self.image = image
        self.profile = profile
        self.owners = np.zeros(image.shape[:2], dtype=np.int16)
        self.placements: list[Placement] = []
        self.masks: list[BoolArray] = []
        self.full: list[int] = []
        self.left: list[int] = []
        self.boxes = np.zeros((0, 4), dtype=np.int64)

    def paint(self, rng: np.random.Generator, item: Item) -> None:
        """Paint an object where there is room for it; without room, or where it would hide too much, leave it out."""
        aspect, phase = vary(rng)
        drawing = draw_item(item, aspect, phase)
        height, width = drawing.mask.shape
        corner = find_room(rng, item.place, (width, height), self.boxes, self.profile)
        if corner is None:
            return
        x, y = corner
        window = slice(y, y + height), slice(x, x + width)
        owners = self.owners[window]
        covered = owners[drawing.mask]
        if covered.any():
            losses = np.bincount(covered, minlength=len(self.placements) + 1)[1:]
            remaining = np.array(self.left) - losses
            if ((remaining < self.profile.least_visible * np.array(self.full)) & (losses > 0)).any():
                return
            self.left = remaining.tolist()
        owners[drawing.mask] = len(self.placements) + 1
        self._blend(drawing.rgba, window)
        area = int(np.count_nonzero(drawing.mask))
        self.placements.append(Placement(item, corner, aspect, phase))
        self.masks.append(drawing.mask)
        self.full.append(area)
        self.left.append(area)
        self.boxes = np.concatenate([self.boxes, [[x, y, x + width, y + height]]])

    def _blend(self, rgba: NDArray[np.uint8], window: tuple[slice, slice]) -> None:
        colours = cv2.cvtColor(rgba, cv2.COLOR_RGBA2RGB)
        weight = rgba[:, :, 3] * np.float32(1 / 255)
        self.image[window] = cv2.blendLinear(colours, self.image[window], weight, 1 - weight)

    def scene(self) -> Scene:
        """What can be seen of what was painted."""
        objects = []
        for index, (placement, box) in enumerate(zip(self.placements, self.boxes.tolist(), strict=True)):
            item, (x, y) = placement.item, placement.corner
            seen = self.masks[index]
            if self.left[index] < self.full[index]:
                seen = self.owners[y : box[3], x : box[2]] == index + 1
            left, top, width, height = cv2.boundingRect(seen.view(np.uint8))
            objects.append(
                SceneObject(
                    kind=item.kind,
                    colour=item.colour,
                    pattern=item.pattern,
                    box=(float(x + left), float(y + top), float(x + left + width), float(y + top + height)),
                    area=self.left[index],
                    visible=self.left[index] / self.full[index],
                )
            )
        return Scene(self.profile.canvas, tuple(objects))
