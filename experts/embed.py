"""Images and texts as vectors that can be compared: CLIP, SigLIP and SigLIP 2, through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from visenv.capabilities import Embed, Embedding, Request, not_answered
from visenv.experts.models.pairs import PairExpert
from visenv.experts.models.transformers_files import channels_first
from visenv.types import FloatArray, Pixels

_TEXTS_AT_ONCE = 256
_LONGEST = 4


class EmbedExpert(PairExpert):
    """Maps images and texts to vectors of length 1 whose dot products are cosine similarities.

    Images of a batch run together, and so do the texts of all its requests, each different one once. A text that is
    longer than the model can read (CLIP 77 tokens, SigLIP 64) is cut there. In fp32 a batch of n differs from n batches
    of one by less than 1e-5 in any number.

    Args:
        model: a folder, a hub id such as ``google/siglip2-base-patch16-256``, or the pair of a model and its processor.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        compile: whether the network is compiled by ``torch.compile``.
        max_batch: the most requests in one call.
        memory_mb: the most megabytes that the weights may take; None for no limit.

    Raises:
        MissingWeights: if a file is not there; the message says how to get it.
        MissingDependency: if ``transformers`` is not installed.
        InvalidData: if a value is out of range, or it is a model of another type.
    """

    family = "embed"
    capabilities: tuple[str, ...] = ("Embed",)
    auto_class = "AutoModel"
    model_types = ("clip", "siglip", "siglip2")
    processors = ("CLIPProcessor", "SiglipProcessor", "Siglip2Processor")

    def __init__(
        self,
        model: Any,
        *,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_batch: int = 32,
        memory_mb: float | None = None,
    ) -> None:
        super().__init__(
            model,
            settings={},
            device=device,
            precision=precision,
            compile=compile,
            max_batch=max_batch,
            memory_mb=memory_mb,
        )

    def _called(self, model: tuple[Any, Any]) -> list[Any]:
        return [model[0].vision_model, model[0].text_model]

    def _answer(self, model: tuple[Any, Any], requests: Sequence[Request]) -> list[Embedding]:
        asked = []
        for request in requests:
            if not isinstance(request, Embed):
                raise not_answered(self.name, request)
            asked.append(request)
        images = self._images(model, [request.view.pixels for request in asked])
        places = {
            text: place for place, text in enumerate(dict.fromkeys(t for request in asked for t in request.texts))
        }
        texts = self._texts(model, list(places)) if places else images[:0]
        return [
            Embedding(image, texts[[places[text] for text in request.texts]])
            for image, request in zip(images, asked, strict=True)
        ]

    def _images(self, model: tuple[Any, Any], images: Sequence[Pixels]) -> FloatArray:
        """(N, D) float32 of length 1."""
        network, processor = model
        cropped = getattr(processor.image_processor, "do_center_crop", False)
        inputs = processor.image_processor(
            images=[channels_first(_middle(image) if cropped else image) for image in images],
            input_data_format="channels_first",
            return_tensors="pt",
        )
        return _unit(network.get_image_features(**inputs.to(self.placement.device, self.placement.dtype)))

    def _texts(self, model: tuple[Any, Any], texts: list[str]) -> FloatArray:
        """(T, D) float32 of length 1."""
        network, processor = model
        found = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            inputs = processor.tokenizer(
                texts[start : start + _TEXTS_AT_ONCE],
                # SigLIP was trained on padded texts, and reads the padding; CLIP stops at the end of the text.
                padding="max_length" if network.config.model_type.startswith("siglip") else True,
                truncation=True,
                max_length=network.config.text_config.max_position_embeddings,
                return_tensors="pt",
            )
            found.append(_unit(network.get_text_features(**inputs.to(self.placement.device))))
        return np.concatenate(found)


def _middle(pixels: Pixels) -> Pixels:
    """The middle of a sliver, for processors that enlarge it to its shorter side and then cut a square out."""
    height, width = pixels.shape[:2]
    long = _LONGEST * min(height, width)
    top, left = max(0, height - long) // 2, max(0, width - long) // 2
    return pixels[top : top + long, left : left + long]


def _unit(found: Any) -> FloatArray:
    import torch

    vectors = found if isinstance(found, torch.Tensor) else found.pooler_output
    normal: FloatArray = torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return normal
