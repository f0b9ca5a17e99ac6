"""What the families of open-vocabulary detectors have in common: requests in, boxes in pixels of each image out."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np

from visenv.byte_cache import ByteCache
from visenv.capabilities import GroundPhrase, View
from visenv.experts.models.placing import Placement
from visenv.experts.models.transformers_files import channels_first
from visenv.types import FloatArray, Pixels

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class GroundingModel:
    """A detector and the processor that belongs to it."""

    model: Any
    """``GroundingDinoForObjectDetection``, ``MMGroundingDinoForObjectDetection``, ``Owlv2ForObjectDetection`` or
    ``Florence2ForConditionalGeneration``."""
    processor: Any
    """``GroundingDinoProcessor``, ``Owlv2Processor`` or ``Florence2Processor``."""


@dataclass(frozen=True)
class Wording:
    """How a model is asked, and which of its answers count."""

    score_threshold: float
    text_threshold: float
    template: str
    task: str


@dataclass(frozen=True)
class Found:
    """Boxes in one image."""

    boxes: FloatArray
    """(N, 4) float64 xyxy pixels; they may stick out of the image."""
    scores: FloatArray
    """(N,) float64 in [0, 1]."""


class Finder(ABC):
    """How one family of detectors is asked.

    Args:
        model: the network, on its device.
        processor: of the same family.
        placement: where the network is, and in what precision.
        cache: what is remembered of images and phrases.
        wording: how to ask.
        at_once: the most images and the most requests in one pass.
    """

    model_class: ClassVar[str]
    """In transformers."""
    processors: ClassVar[tuple[str, ...]]
    """Names of the classes of processors that fit."""
    score_threshold: ClassVar[float]
    """What is used where none is given."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        placement: Placement,
        cache: ByteCache[Any],
        wording: Wording,
        at_once: int,
    ) -> None:
        self.model, self.processor, self.placement = model, processor, placement
        self.cache, self.wording, self.at_once = cache, wording, at_once

    @abstractmethod
    def find(self, requests: Sequence[GroundPhrase]) -> list[Found]:
        """The boxes of each request, in order; every phrase has a word in it."""

    @staticmethod
    @abstractmethod
    def called(model: Any) -> list[nn.Module]:
        """The parts of a model that are called for themselves, and so can be compiled."""

    def seen(self, views: Sequence[View], look: Callable[[list[View]], Iterable[Any]]) -> dict[str, Any]:
        """What the network sees of images, each looked at once, by provenance.

        Args:
            views: of which some may be the same.
            look: what it makes of up to ``at_once`` images, one value each: tensors, or tuples of them.
        """
        new: dict[str, View] = {}
        found: dict[str, Any] = {}
        for view in views:
            key = view.provenance.key
            if key not in found:
                found[key] = self.cache.get(("image", key))
                if found[key] is None:
                    new[key] = view
        waiting = list(new.items())
        for start in range(0, len(waiting), self.at_once):
            part = waiting[start : start + self.at_once]
            for (key, _), value in zip(part, look([view for _, view in part]), strict=True):
                found[key] = value
                self.cache.put(("image", key), value, _bytes_of(value))
        return found

    def read(self, phrases: Sequence[str], read: Callable[[list[str]], Iterable[Any]]) -> dict[str, Any]:
        """What the network makes of phrases, each read once.

        Args:
            phrases: of which some may be the same.
            read: what it makes of some, one value each.
        """
        found = {phrase: self.cache.get(("text", phrase)) for phrase in phrases}
        new = [phrase for phrase, value in found.items() if value is None]
        for phrase, value in zip(new, read(new) if new else (), strict=True):
            found[phrase] = value
            self.cache.put(("text", phrase), value, _bytes_of(value))
        return found

    def inputs(self, pixels: Pixels) -> Any:
        """One image as the processor makes it, on the device; one at a time, so that large ones do not add up."""
        on_gpu = {"device": self.placement.device} if self.placement.device.type == "cuda" else {}
        made = self.processor.image_processor(
            [channels_first(pixels)], input_data_format="channels_first", return_tensors="pt", **on_gpu
        ).to(self.placement.device)
        made["pixel_values"] = made["pixel_values"].to(self.placement.dtype)
        return made


def at_most(pixels: Pixels, longest: int) -> Pixels:
    """An image, reduced if its longer side is longer than so many pixels, for processors that reduce last of all."""
    height, width = pixels.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return pixels
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_AREA), np.uint8)


def at_least(pixels: Pixels, aspect: float) -> Pixels:
    """An image, its shorter side stretched if it is shorter than the longer one by more than a factor.

    Processors that keep an image's shape would else make its shorter side 0 pixels.
    """
    height, width = pixels.shape[:2]
    least = math.ceil(max(height, width) / aspect)
    if min(height, width) >= least:
        return pixels
    size = (max(width, least), max(height, least))
    return np.asarray(cv2.resize(np.ascontiguousarray(pixels), size, interpolation=cv2.INTER_NEAREST), np.uint8)


def grouped(keys: Sequence[Hashable], at_once: int) -> list[list[int]]:
    """Which places may go together, those of one key, up to so many."""
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return [group[start : start + at_once] for group in places.values() for start in range(0, len(group), at_once)]


def to_found(result: dict[str, torch.Tensor]) -> Found:
    """What the post-processing of a processor of transformers gives for one image."""
    boxes = result["boxes"].double().cpu().numpy().reshape(-1, 4)
    return Found(boxes, result["scores"].double().cpu().numpy())


def _bytes_of(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(_bytes_of(part) for part in value)
    return int(value.nbytes) if hasattr(value, "nbytes") else 0
