"""What a drawn picture shows, for the experts that are given the truth: which pixels are whose, and what is marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visenv.contents import ImageContent, MarkedPlace, SeenThing
from visenv.datasets.scenes.render import RenderedScene
from visenv.types import FloatArray

Box = tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Sketch:
    """A picture's things, from which those of its parts and of pictures made of it follow."""

    owners: NDArray[Any]
    """(H, W) whole numbers: 1 + the index of the thing whose pixel it is, 0 for none."""
    boxes: Sequence[Box]
    """xyxy pixels, half-open: at least what can be seen of each thing; it may reach out of the picture."""
    things: Sequence[tuple[str, str, str]]
    """Kind, colour and pattern of each."""

    @classmethod
    def of(cls, rendered: RenderedScene) -> Sketch:
        """The sketch of a scene."""
        objects = rendered.scene.objects
        boxes = [(int(x0), int(y0), int(x1), int(y1)) for x0, y0, x1, y1 in (each.box for each in objects)]
        return cls(rendered.owners, boxes, [(each.kind, each.colour, each.pattern) for each in objects])

    def part(self, box: Box) -> Sketch:
        """What is seen in a part of the picture.

        Args:
            box: xyxy pixels, half-open, inside of the picture.
        """
        x, y, x1, y1 = box
        boxes = [(left - x, top - y, right - x, bottom - y) for left, top, right, bottom in self.boxes]
        return Sketch(self.owners[y:y1, x:x1], boxes, self.things)

    def without(self, box: Box) -> Sketch:
        """What is seen where a part of the picture is covered."""
        owners = self.owners.copy()
        owners[box[1] : box[3], box[0] : box[2]] = 0
        return Sketch(owners, self.boxes, self.things)

    def warped(self, transform: FloatArray) -> Sketch:
        """What is seen once the picture is turned, shifted or scaled, on a canvas of the same size.

        Args:
            transform: (2, 3), as OpenCV's ``warpAffine`` takes it.
        """
        height, width = self.owners.shape
        owners = cv2.warpAffine(self.owners.astype(np.int16, copy=False), transform, (width, height), flags=_NEAREST)
        corners = np.array(self.boxes, np.float64).reshape(-1, 4)[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
        moved = corners @ transform[:, :2].T + transform[:, 2]
        boxes = np.concatenate([np.floor(moved.min(axis=1)) - 1, np.ceil(moved.max(axis=1)) + 1], axis=1)
        return Sketch(np.asarray(owners), [_box(row) for row in boxes.astype(int).tolist()], self.things)

    def content(self, marks: Iterable[MarkedPlace] = ()) -> ImageContent:
        """What the picture shows.

        Args:
            marks: that were drawn on it.
        """
        height, width = self.owners.shape
        seen = []
        for index, ((x0, y0, x1, y1), words) in enumerate(zip(self.boxes, self.things, strict=True)):
            left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
            if right <= left or bottom <= top:
                continue
            mask = self.owners[top:bottom, left:right] == index + 1
            if mask.any():
                seen.append(SeenThing.of(words, mask, (left, top)))
        return ImageContent((width, height), tuple(seen), tuple(marks))


_NEAREST = cv2.INTER_NEAREST


def _box(row: Sequence[int]) -> Box:
    return row[0], row[1], row[2], row[3]
