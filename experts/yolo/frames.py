"""Pictures into the squares that a YOLO takes, and what it finds there back into the pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visenv.experts.models.outlines import letterbox_scale, masks_from_logits
from visenv.masks import Masks
from visenv.types import FloatArray, Pixels

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Frame:
    """Where in a square of ``side`` pixels a picture lies: as ultralytics' ``LetterBox`` puts it, in the middle."""

    width: int
    height: int
    """Of the picture."""
    side: int

    @property
    def fitted(self) -> tuple[int, int]:
        """(width, height) of the picture in the square."""
        return letterbox_scale((self.width, self.height), self.side)[1:]

    @property
    def corner(self) -> tuple[int, int]:
        """(x, y) of its upper left corner there; what is over of the padding goes to the right and below."""
        return round((self.side - self.fitted[0]) / 2 - 0.1), round((self.side - self.fitted[1]) / 2 - 0.1)

    def boxes_back(self, boxes: FloatArray) -> FloatArray:
        """From the square to the picture.

        Args:
            boxes: (N, 4) xyxy pixels of the square.

        Returns:
            (N, 4) xyxy pixels of the picture, cut at its sides.
        """
        scale = np.array([self.fitted[0] / self.width, self.fitted[1] / self.height] * 2)
        moved = (np.asarray(boxes, np.float64) - np.array(self.corner * 2)) / scale
        return np.clip(moved, 0, [self.width, self.height] * 2)

    def masks_back(self, logits: FloatArray, boxes: FloatArray) -> Masks:
        """From maps over the square to masks over the picture, none of which leaves its box.

        Args:
            logits: (N, h, w) above 0 on the object.
            boxes: (N, 4) xyxy pixels of the picture.
        """
        high, wide = logits.shape[1] / self.side, logits.shape[2] / self.side
        return masks_from_logits(
            logits,
            (self.width, self.height),
            content=(self.fitted[0] * wide, self.fitted[1] * high),
            origin=(self.corner[0] * wide, self.corner[1] * high),
            boxes=boxes,
        )


def squares(pictures: Sequence[Pixels], side: int) -> torch.Tensor:
    """(B, 3, side, side) uint8: pictures as YOLOs take them, each on grey."""
    import torch
    from ultralytics.data.augment import LetterBox

    fit = LetterBox((side, side), auto=False)
    stacked = np.stack([np.asarray(fit(image=np.ascontiguousarray(picture))) for picture in pictures])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2)
