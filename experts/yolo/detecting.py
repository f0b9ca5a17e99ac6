"""One pass of pictures through a YOLO, and what of its output answers a request."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from visenv.errors import InvalidData
from visenv.experts.models.placing import Placement
from visenv.experts.yolo.checkpoints import EMBEDDINGS
from visenv.experts.yolo.frames import Frame, squares
from visenv.experts.yolo.quiet import import_tasks
from visenv.experts.yolo.texts import Texts
from visenv.masks import Masks
from visenv.types import FloatArray, IntArray, Pixels

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Job:
    """One picture in one pass."""

    image: str
    """Which picture."""
    texts: tuple[str, ...] = ()
    """The phrases that are its classes, where the vocabulary is open."""


@dataclass(frozen=True)
class Found:
    """What answers one request, best first."""

    boxes: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))
    """(N, 4) xyxy pixels of the picture."""
    scores: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(N,)"""
    classes: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    """(N,) indices of classes."""
    masks: Masks | None = None
    """N masks over the picture; None if the model makes none."""


class Detector:
    """A network of ultralytics, ready to be asked.

    Args:
        network: of one of the kinds that are read.
        image_size: side in pixels of the squares that it gets.
        texts: makes vectors of phrases; None for a fixed vocabulary.

    Raises:
        InvalidData: if there is no class to look for, or the model filters its own proposals.
    """

    def __init__(self, network: Any, image_size: int, texts: Texts | None) -> None:
        self.network = network
        self.image_size = image_size
        self.texts = texts
        kept = EMBEDDINGS.get(type(network).__name__)
        if hasattr(self.head, "lrpc"):
            raise InvalidData("Expected a YOLOE that is asked for phrases, but got a prompt-free one.")
        if kept and texts is None:
            embeddings = getattr(network, kept, None)
            if embeddings is None or embeddings.shape[1] != len(network.names):
                raise InvalidData(
                    "Expected text_encoder, since this model has an open vocabulary and no classes were set before it "
                    "was saved."
                )

    @property
    def head(self) -> Any:
        """The layers that place and name boxes."""
        return self.network.model[-1]

    @property
    def makes_masks(self) -> bool:
        """Whether it outlines what it finds."""
        return hasattr(self.head, "proto")

    @property
    def end_to_end(self) -> bool:
        """Whether the network chooses boxes itself."""
        return bool(getattr(self.head, "end2end", False))

    @property
    def shares(self) -> bool:
        """Whether several phrases may be classes of one pass without changing each other's results."""
        return type(self.network).__name__ != "WorldModel" and not self.end_to_end

    def __call__(self, pictures: Sequence[Pixels], jobs: Sequence[Job], placement: Placement) -> list[Output]:
        """Pass pictures through the network.

        Args:
            pictures: B of (H, W, 3) uint8 RGB.
            jobs: one for each, all with equally many texts.
            placement: where the network is.

        Returns:
            B outputs.
        """
        import torch

        batch = squares(pictures, self.image_size).to(placement.device)
        batch = batch.to(placement.dtype) / 255
        if self.end_to_end and hasattr(self.head, "max_det"):
            self.head.max_det = _MOST
        if self.texts is None:
            embedded = getattr(self.network, EMBEDDINGS.get(type(self.network).__name__, ""), None)
            if embedded is not None:
                self.head.nc = embedded.shape[1]
            result = self.network(batch)
        else:
            width = self.head.cv3[0][-1].out_channels
            vectors = torch.stack([self.texts(job.texts, width) for job in jobs]).to(placement.device)
            self.head.nc = vectors.shape[1]
            world = type(self.network).__name__ == "WorldModel"
            result = self.network(batch, **{"txt_feats" if world else "tpe": vectors})
        predicted = result[0] if isinstance(result, (list, tuple)) else result
        predicted, prototypes = predicted if isinstance(predicted, tuple) else (predicted, None)
        return [
            Output(each, None if prototypes is None else prototypes[index], self)
            for index, each in enumerate(predicted.float())
        ]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled in two steps, so that ultralytics is imported as it should be before its objects are made."""
        stream = io.BytesIO()
        pickle.dump((self.network, self.image_size, self.texts), stream)
        return _revived, (stream.getvalue(),)


_MOST = 1000
"""Boxes that a network which chooses them itself may choose in one picture."""


def _revived(state: bytes) -> Detector:
    import_tasks()
    return Detector(*pickle.loads(state))


class Output:
    """What the network says of one picture.

    Args:
        predicted: (4 + classes + D, A) boxes as centre and size, scores, mask coefficients; or (A, 6 + D) corners,
            score, class, coefficients, where the network chooses boxes itself.
        prototypes: (D, h, w), or None.
        detector: of which network.
    """

    def __init__(self, predicted: torch.Tensor, prototypes: torch.Tensor | None, detector: Detector) -> None:
        self.predicted = predicted
        self.prototypes = prototypes
        self.end_to_end = detector.end_to_end
        self.open = detector.texts is not None
        self.classes = int(detector.head.nc)
        self._chosen: dict[tuple[float, float, int, int | None], torch.Tensor] = {}

    def of(self, classes: Sequence[int], frame: Frame, *, score: float, iou: float, most: int) -> Found:
        """The objects of some classes.

        Args:
            classes: their indices; one alone where the vocabulary is open.
            frame: where the picture lies.
            score: objects have more.
            iou: of two boxes of a class that overlap more, the better one is kept.
            most: how many at most.
        """
        import torch
        from torchvision.ops import nms

        rows = self._rows(score, iou, most, classes[0] if self.open and not self.end_to_end else None)
        if not self.open:
            rows = rows[torch.isin(rows[:, 5], torch.tensor(classes, device=rows.device, dtype=rows.dtype))]
            if len(classes) > 1:
                rows = rows[nms(rows[:, :4], rows[:, 4], iou)]
        boxes = frame.boxes_back(rows[:, :4].cpu().numpy())
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        rows, boxes = rows[torch.from_numpy(inside).to(rows.device)], boxes[inside]
        masks = None
        if self.prototypes is not None:
            prototypes = self.prototypes.float()
            maps = (rows[:, 6:] @ prototypes.flatten(1)).view(-1, *prototypes.shape[1:])
            masks = frame.masks_back(maps.cpu().numpy(), boxes)
        scores = rows[:, 4].double().clamp(0, 1).cpu().numpy()
        return Found(boxes, scores, rows[:, 5].long().cpu().numpy(), masks)

    def _rows(self, score: float, iou: float, most: int, only: int | None) -> torch.Tensor:
        """(N, 6 + D) the boxes that are kept: corners in the square, score, class, coefficients."""
        import torch
        from ultralytics.utils.nms import non_max_suppression

        key = (score, iou, most, only)
        if key not in self._chosen:
            predicted, count = self.predicted, self.classes
            if only is not None:
                head, rest = predicted[:4], predicted[4 + count :]
                predicted, count = torch.cat([head, predicted[4 + only : 5 + only], rest]), 1
            # Its limit of time would make results depend on how busy the machine is.
            (self._chosen[key],) = non_max_suppression(
                predicted[None].clone(),
                score,
                iou,
                max_det=most,
                nc=count,
                max_time_img=math.inf,
                end2end=self.end_to_end,
            )
        return self._chosen[key]


def place_network(network: Any, placement: Placement) -> None:
    """Move a network to its device and into its precision, all but the last layers.

    Those place boxes, and compute in 32 bits: in bf16, a coordinate of 600 is a multiple of 4.
    """
    import torch

    head = network.model[-1]
    network.to(placement.device)
    head.float()
    head.stride = head.stride.float()
    head.shape = None
    for layer in list(network.model)[:-1]:
        layer.to(placement.dtype)
    if placement.dtype is not torch.float32 and _to_float not in head._forward_pre_hooks.values():
        head.register_forward_pre_hook(_to_float)


def _to_float(head: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        [each.float() for each in argument] if isinstance(argument, (list, tuple)) else argument.float()
        for argument in arguments
    )
