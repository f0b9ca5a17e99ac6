"""What SAM 3 consists of, and what its two heads take of what the backbone saw."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from visenv.errors import InvalidData
from visenv.experts.models.transformers_files import check_processor

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Sam3Parts:
    """What SAM 3 consists of. With one network alone, the expert answers what that one can.

    Raises:
        InvalidData: if there is no network.
    """

    processor: Any
    """``transformers.Sam3Processor``; a ``Sam3TrackerProcessor`` where there is no detector."""
    detector: Any = None
    """``transformers.Sam3Model``, which finds phrases."""
    tracker: Any = None
    """``transformers.Sam3TrackerModel``, which follows points and boxes. It may share its backbone with the detector
    (``tracker.vision_encoder.backbone = detector.vision_encoder.backbone``): an image is then looked at once for both.
    """

    def __post_init__(self) -> None:
        if self.detector is None and self.tracker is None:
            raise InvalidData("Expected a detector or a tracker in Sam3Parts, but got neither.")

    @property
    def networks(self) -> list[nn.Module]:
        """Those that are there."""
        return [part for part in (self.detector, self.tracker) if part is not None]

    @property
    def shares(self) -> bool:
        """Whether both networks look at an image through the same backbone."""
        return len(self.backbones) == 1

    @property
    def backbones(self) -> list[Any]:
        """What looks at an image: one network, or one for each."""
        networks: list[Any] = [
            part.vision_encoder.backbone for part in (self.detector, self.tracker) if part is not None
        ]
        return list({id(network): network for network in networks}.values())


def pyramid(network: Any, hidden: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What a network's neck makes of what the backbone saw: maps (N, C, h, w) and their places (1, C, h, w)."""
    neck = network.vision_encoder.neck
    count, tokens, channels = hidden.shape
    side = math.isqrt(tokens)
    grid = hidden.view(count, side, side, channels).permute(0, 3, 1, 2)
    levels = [layer(grid) for layer in neck.fpn_layers]
    return levels, [neck.position_encoding(one[:1].shape, one.device, one.dtype) for one in levels]


def embeddings(tracker: Any, hidden: torch.Tensor) -> list[torch.Tensor]:
    """What the tracker's decoder takes of one image: three maps, from fine to coarse."""
    decoder = tracker.mask_decoder
    # The neck has a fourth, coarser level, which is not used; the embedding belongs to the last one that is.
    fine, middle, coarse = pyramid(tracker, hidden)[0][: len(tracker.backbone_feature_sizes)]
    return [decoder.conv_s0(fine), decoder.conv_s1(middle), coarse + tracker.no_memory_embedding.reshape(1, -1, 1, 1)]


def side_of(network: Any) -> int:
    """Of the square that a network sees, in pixels."""
    side = network.config.vision_config.image_size
    return int(side if isinstance(side, int) else side[0])


def check_parts(parts: Sam3Parts, where: str) -> None:
    """Make sure that networks and processor belong together.

    Raises:
        InvalidData: if they do not.
    """
    images = getattr(parts.processor, "image_processor", parts.processor)
    check_processor(images, ("Sam3ImageProcessor",), where)
    if parts.detector is not None and getattr(parts.processor, "tokenizer", None) is None:
        raise InvalidData(f"Expected a Sam3Processor with a tokenizer for {where}, but got one for images alone.")
    size = (images.size["height"], images.size["width"])
    for network in parts.networks:
        side = side_of(network)
        if size != (side, side):
            raise InvalidData(
                f"Expected an image processor that makes images of {side}x{side} for the {type(network).__name__} of "
                f"{where}, but got one for {size[1]}x{size[0]}: model and processor do not belong together."
            )
