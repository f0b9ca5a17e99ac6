"""Prompts as SAM 3's tracker takes them: in the square that it sees, those of one kind together."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from visenv.capabilities import Prompt
from visenv.masks import Masks
from visenv.types import FloatArray, IntArray

if TYPE_CHECKING:
    import torch

_MASK_LOGIT = 10.0
"""As SAM scales a binary mask that it is given: set 10, not set -10."""


@dataclass(frozen=True)
class Row:
    """One prompt of one request, in the frame that the network sees."""

    request: int
    """Which request of the batch it is of."""
    place: int
    """Which prompt of that request it is."""
    points: FloatArray
    """(K, 2) float64 xy pixels of the square."""
    labels: IntArray
    """(K,) int64: 1 on the object, 0 beside it."""
    box: FloatArray | None
    """(4,) float64 xyxy pixels of the square."""
    mask: Masks | None
    """One mask over the image."""

    @property
    def kind(self) -> Hashable:
        """Prompts of one kind go through the network together: filling up with empty points would change results."""
        return len(self.points), self.box is not None, self.mask is not None


def row_of(request: int, place: int, prompt: Prompt, size: tuple[int, int], side: int) -> Row | None:
    """A prompt in the square that the network sees; None if it says nothing.

    Args:
        request: which request it is of.
        place: which prompt of that request it is.
        prompt: in pixels of the image; points outside of it count as the nearest on its border, those that are not
            finite are left out.
        size: (width, height) of the image.
        side: of the square, in pixels.
    """
    prompt = prompt.located
    limits = np.array([*size, *size], np.float64)
    scale = side / limits
    points = np.asarray(prompt.points, np.float64).reshape(-1, 2)
    labels = np.ones(len(points), np.int64) if prompt.labels is None else np.asarray(prompt.labels, np.int64)
    finite = np.isfinite(points).all(axis=1)
    points, labels = np.clip(points[finite], 0, limits[:2]) * scale[:2], labels[finite]
    box = None if prompt.box is None else np.clip(np.asarray(prompt.box, np.float64), 0, limits) * scale
    if box is not None and not (box[:2] < box[2:]).all():
        box = None
    mask = prompt.mask if prompt.mask is not None and prompt.mask.areas[0] else None
    if not (labels > 0).any() and box is None and mask is None:
        return None
    return Row(request, place, points, labels, box, mask)


def inputs_of(
    rows: Sequence[Row], mask_size: tuple[int, int], device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """What the tracker takes of prompts of one kind.

    Args:
        rows: P of them.
        mask_size: (height, width) of masks, as the prompt encoder takes them.
        device: where the tracker is.
        dtype: its precision.

    Returns:
        Of what they have: ``input_points`` (P, 1, K, 2), ``input_labels`` (P, 1, K), ``input_boxes`` (P, 1, 4),
        ``input_masks`` (P, 1, h, w).
    """
    import torch

    made: dict[str, torch.Tensor] = {}
    if len(rows[0].points):
        points, labels = np.stack([row.points for row in rows]), np.stack([row.labels for row in rows])
        made["input_points"] = torch.tensor(points, dtype=torch.float32, device=device)[:, None]
        made["input_labels"] = torch.tensor(labels, dtype=torch.int64, device=device)[:, None]
    boxes = [row.box for row in rows if row.box is not None]
    if boxes:
        made["input_boxes"] = torch.tensor(np.stack(boxes), dtype=torch.float32, device=device)[:, None]
    frames = [row.mask.resize_nearest(mask_size).to_dense() for row in rows if row.mask is not None]
    if frames:
        masks = (2.0 * np.stack(frames) - 1.0) * _MASK_LOGIT
        made["input_masks"] = torch.tensor(masks, dtype=dtype, device=device)
    return made
