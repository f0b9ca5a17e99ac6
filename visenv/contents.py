"""What a drawn picture shows, kept small: for experts that are given the truth, and for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from visenv.masks import Masks
from visenv.types import BoolArray


@dataclass(frozen=True)
class SeenThing:
    """A thing in a picture, and the pixels that show it."""

    kind: str
    colour: str
    pattern: str
    box: tuple[int, int, int, int]
    """xyxy pixels, half-open, inside of the picture; it encloses all that is seen of the thing."""
    bits: bytes = field(repr=False)
    """The mask in the box, row by row, a pixel a bit, the first one the highest (``numpy.packbits``)."""

    @classmethod
    def of(cls, words: tuple[str, str, str], mask: BoolArray, corner: tuple[int, int]) -> SeenThing:
        """A thing from a part of its picture.

        Args:
            words: its kind, colour and pattern.
            mask: (h, w) which pixels of the part show it.
            corner: the x and y of the part's left top pixel in the picture.

        Example:
            >>> SeenThing.of(("car", "red", "plain"), np.eye(2, dtype=bool), (3, 4))
            SeenThing(kind='car', colour='red', pattern='plain', box=(3, 4, 5, 6))
        """
        (x, y), (height, width) = corner, mask.shape
        return cls(*words, (x, y, x + width, y + height), np.packbits(mask).tobytes())

    @property
    def words(self) -> tuple[str, str, str]:
        """Its kind, colour and pattern."""
        return self.kind, self.colour, self.pattern

    @property
    def mask(self) -> BoolArray:
        """(h, w) the pixels of its box that show it."""
        x0, y0, x1, y1 = self.box
        bits = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=(y1 - y0) * (x1 - x0))
        return bits.astype(bool).reshape(y1 - y0, x1 - x0)


@dataclass(frozen=True)
class MarkedPlace:
    """A visual prompt that is drawn on a picture."""

    label: str
    """Its form and its letter: ``circle A``."""
    box: tuple[float, float, float, float]
    """xyxy pixels; its middle is what is marked."""


@dataclass(frozen=True)
class ImageContent:
    """What one picture of a sample shows."""

    size: tuple[int, int]
    """(width, height) in pixels."""
    things: tuple[SeenThing, ...]
    marks: tuple[MarkedPlace, ...] = ()

    @property
    def masks(self) -> Masks:
        """One mask a thing, over the picture."""
        offsets = np.array([thing.box[:2] for thing in self.things], dtype=np.int64).reshape(-1, 2)
        return Masks.from_crops([thing.mask for thing in self.things], offsets, self.size[::-1])


def side_by_side(contents: Sequence[ImageContent], height: int, gap: int) -> ImageContent:
    """What pictures show that are joined from left to right.

    Args:
        contents: one a picture.
        height: to which each is scaled, by nearest neighbour, pixels.
        gap: pixels between two of them.
    """
    x = -gap
    things: list[SeenThing] = []
    marks: list[MarkedPlace] = []
    for content in contents:
        x += gap
        width = max(1, round(content.size[0] * height / content.size[1]))
        masks = content.masks.resize_nearest((height, width))
        for thing, area, crop, offset in zip(content.things, masks.areas, masks.crops, masks.offsets, strict=True):
            if area:
                things.append(SeenThing.of(thing.words, np.asarray(crop), (int(offset[0]) + x, int(offset[1]))))
        across, down = width / content.size[0], height / content.size[1]
        for mark in content.marks:
            x0, y0, x1, y1 = mark.box
            box = (x0 * across + x, y0 * down, x1 * across + x, y1 * down)
            marks.append(MarkedPlace(mark.label, box))
        x += width
    return ImageContent((x, height), tuple(things), tuple(marks))
