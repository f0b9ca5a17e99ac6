"""How near things are: Depth Anything V2, DPT, ZoeDepth and Depth Pro, through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from visenv.capabilities import Depth, EstimateDepth, Request, not_answered
from visenv.errors import InvalidData
from visenv.experts.models.pairs import PairExpert
from visenv.experts.models.transformers_files import channels_first, read_json
from visenv.types import FloatArray, Pixels

if TYPE_CHECKING:
    import torch

OUTPUTS = ("auto", "nearness", "distance")
_INVERTED_LATER = ("depth_pro",)
"""Those whose processor itself turns what the network writes into distances, while it enlarges it."""
_NEARNESS, _DISTANCE = ("depth_anything", "dpt"), ("depth_pro", "glpn", "zoedepth")
_LEAST_SIDE, _LARGEST_SIDE, _LONGEST = 32, 2048, 4
_FLAT = 1e-4
"""A map whose values differ by no more than this share of the greatest is the same everywhere: the rest is rounding."""


class DepthExpert(PairExpert):
    """Says how near everything in an image is, from 0 (the farthest) to 1 (the nearest), relative to that image.

    Models write one of two things. Most (Depth Anything, DPT) write inverse distance up to a scale and a shift: it is
    taken as it is. Metric ones (those whose ``depth_estimation_type`` is ``metric``, ZoeDepth, GLPN, Depth Pro) write
    distances: their inverse is taken. Either is brought to the image's size by the processor's own rules, then to 0 to
    1 by its least and greatest value. A map that is the same everywhere is 0 everywhere; what is not a number is 0.

    Images of one size after processing run as one batch. In fp32 a batch of n differs from n batches of one by less
    than 1e-4.

    Args:
        model: a folder, a hub id such as ``depth-anything/Depth-Anything-V2-Small-hf``, or the pair of a model and its
            image processor.
        output: what the model writes, ``nearness`` (inverse distance) or ``distance``; ``auto`` for what its
            configuration says. A DPT that was trained on metric depth needs ``distance``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        compile: whether the network is compiled by ``torch.compile``.
        max_batch: the most requests in one call.
        memory_mb: the most megabytes that the weights may take; None for no limit.

    Raises:
        MissingWeights: if a file is not there; the message says how to get it.
        MissingDependency: if ``transformers`` is not installed.
        InvalidData: if a value is out of range, or it is not known what the model writes.
    """

    family = "depth"
    capabilities: tuple[str, ...] = ("EstimateDepth",)
    auto_class = "AutoModelForDepthEstimation"
    auto_processor = "AutoImageProcessor"
    texts = False

    def __init__(
        self,
        model: Any,
        *,
        output: str = "auto",
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_batch: int = 16,
        memory_mb: float | None = None,
    ) -> None:
        if output not in OUTPUTS:
            raise InvalidData(f"Expected output to be one of {', '.join(OUTPUTS)}, but got {output!r}.")
        super().__init__(
            model,
            settings={"output": output},
            device=device,
            precision=precision,
            compile=compile,
            max_batch=max_batch,
            memory_mb=memory_mb,
        )
        self.output = self._told() if output == "auto" else output

    def _told(self) -> str:
        """What the model's configuration says that it writes."""
        config = self._given[0].config.to_dict() if self._given is not None else read_json(self._folder / "config.json")
        if config.get("depth_estimation_type") == "metric" or self.model_type in _DISTANCE:
            return "distance"
        if self.model_type in _NEARNESS:
            return "nearness"
        raise InvalidData(
            f"Expected a model that is known to estimate depth ({', '.join(sorted(_NEARNESS + _DISTANCE))}), but got "
            f'the type {self.model_type!r} in {self.where}: say what it writes, output="nearness" or "distance".'
        )

    def _answer(self, model: tuple[Any, Any], requests: Sequence[Request]) -> list[Depth]:
        import torch

        network, processor = model
        given = []
        for request in requests:
            if not isinstance(request, EstimateDepth):
                raise not_answered(self.name, request)
            given.append(_fitted(request.view.pixels))
        inputs = [
            processor(images=[channels_first(image)], input_data_format="channels_first", return_tensors="pt")[
                "pixel_values"
            ]
            for image, _ in given
        ]
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, values in enumerate(inputs):
            groups.setdefault(tuple(values.shape), []).append(place)
        answers: dict[int, Depth] = {}
        for places in groups.values():
            stacked = torch.cat([inputs[place] for place in places])
            outputs = network(pixel_values=stacked.to(self.placement.device, self.placement.dtype))
            for name, value in outputs.items():
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    outputs[name] = value.float()
            before = self.output == "distance" and self.model_type not in _INVERTED_LATER
            if before:
                outputs["predicted_depth"] = _inverse(outputs["predicted_depth"])
            for place, values in zip(places, _resized(processor, outputs, [given[p] for p in places]), strict=True):
                height, width = requests[place].view.pixels.shape[:2]
                values = _inverse(values) if self.output == "distance" and not before else values
                answers[place] = Depth(_nearness(values[:height, :width].cpu().numpy()))
        return [answers[place] for place in range(len(requests))]


def _fitted(pixels: Pixels) -> tuple[Pixels, tuple[int, int]]:
    """An image as any processor can take it, and the (height, width) to which what is said of it is brought.

    It is no larger than 2,048 pixels a side, and padded on the right or below to at least 32 and at most four times as
    long as wide: some processors keep the size of what they get, and all make slivers empty or huge.
    """
    height, width = pixels.shape[:2]
    least = max(_LEAST_SIDE, -(-max(height, width) // _LONGEST))
    below, right = max(0, least - height), max(0, least - width)
    size = (height + below, width + right)
    factor = min(1.0, _LARGEST_SIDE / max(size))
    if factor < 1:
        small = (max(1, round(width * factor)), max(1, round(height * factor)))
        pixels = np.asarray(cv2.resize(pixels, small, interpolation=cv2.INTER_AREA), np.uint8)
        below, right = round(size[0] * factor) - small[1], round(size[1] * factor) - small[0]
    if below or right:
        pixels = np.asarray(cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)
    return pixels, size


def _resized(processor: Any, outputs: Any, given: Sequence[tuple[Pixels, tuple[int, int]]]) -> list[torch.Tensor]:
    """What the network wrote, each at the size that belongs to its image."""
    sizes = [size for _, size in given]
    keywords: dict[str, Any] = {"target_sizes": sizes}
    if "source_sizes" in signature(processor.post_process_depth_estimation).parameters:
        keywords["source_sizes"] = [(image.shape[0], image.shape[1]) for image, _ in given]
    found = processor.post_process_depth_estimation(outputs, **keywords)
    return [each["predicted_depth"].reshape(size) for each, size in zip(found, sizes, strict=True)]


def _inverse(distances: torch.Tensor) -> torch.Tensor:
    """Inverse distances, of one image or of several.

    They are taken before a map is enlarged, since cubic interpolation overshoots, and beside something far what is near
    would be at no distance at all, or a negative one. What is nearer than a thousandth of the farthest counts as that
    near: it is an artefact, and would leave no range to all else.
    """
    known = distances.where(distances.isfinite(), 0)
    return 1 / distances.clamp(min=(known.amax(dim=(-2, -1), keepdim=True) * 1e-3).clamp(min=1e-6))


def _nearness(values: FloatArray) -> FloatArray:
    """(H, W) float32 from 0 to 1, from inverse distances."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(values.shape, np.float32)
    low, high = float(values[known].min()), float(values[known].max())
    if not high - low > _FLAT * max(abs(low), abs(high)):
        return np.zeros(values.shape, np.float32)
    return np.where(known, np.clip((values - low) / (high - low), 0, 1), 0).astype(np.float32)
