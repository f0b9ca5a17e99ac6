"""How near things are: Depth Anything V2, DPT, ZoeDepth and Depth Pro, through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any

import cv2
import numpy as np

from visenv.capabilities import Depth, EstimateDepth, Request, not_answered
from visenv.errors import InvalidData
from visenv.experts.models.pairs import PairExpert
from visenv.experts.models.transformers_files import channels_first, read_json
from visenv.types import FloatArray, Pixels

OUTPUTS = ("auto", "nearness", "distance")
_NEARNESS, _DISTANCE = ("depth_anything", "dpt"), ("depth_pro", "glpn", "zoedepth")
_LONGEST = 4


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
        images = []
        for request in requests:
            if not isinstance(request, EstimateDepth):
                raise not_answered(self.name, request)
            images.append(_padded(request.view.pixels))
        inputs = [
            processor(images=[channels_first(image)], input_data_format="channels_first", return_tensors="pt")[
                "pixel_values"
            ]
            for image in images
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
            for place, values in zip(places, _resized(processor, outputs, [images[p] for p in places]), strict=True):
                height, width = requests[place].view.pixels.shape[:2]
                answers[place] = Depth(_nearness(values[:height, :width], self.output == "distance"))
        return [answers[place] for place in range(len(requests))]


def _padded(pixels: Pixels) -> Pixels:
    """An image that is at most four times as long as wide: processors make slivers empty or huge."""
    height, width = pixels.shape[:2]
    least = -(-max(height, width) // _LONGEST)
    below, right = max(0, least - height), max(0, least - width)
    if not (below or right):
        return pixels
    return np.asarray(cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REPLICATE), np.uint8)


def _resized(processor: Any, outputs: Any, images: Sequence[Pixels]) -> list[FloatArray]:
    """What the network wrote, each at the size of its image."""
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    keywords: dict[str, Any] = {"target_sizes": sizes}
    if "source_sizes" in signature(processor.post_process_depth_estimation).parameters:
        keywords["source_sizes"] = sizes
    found = processor.post_process_depth_estimation(outputs, **keywords)
    return [each["predicted_depth"].cpu().numpy().reshape(size) for each, size in zip(found, sizes, strict=True)]


def _nearness(values: FloatArray, distance: bool) -> FloatArray:
    """(H, W) float32 from 0 to 1, from inverse distances or from distances."""
    known = np.isfinite(values)
    if not known.any():
        return np.zeros(values.shape, np.float32)
    values = np.where(known, values, 0).astype(np.float32)
    if distance:
        # What is nearer than a thousandth of the farthest is an artefact, and would leave no range to all else.
        values = 1 / np.maximum(values, max(float(values.max()) * 1e-3, 1e-6))
    low, high = float(values[known].min()), float(values[known].max())
    if not high - low > 1e-6 * max(abs(low), abs(high)):
        return np.zeros(values.shape, np.float32)
    return np.where(known, np.clip((values - low) / (high - low), 0, 1), 0).astype(np.float32)
