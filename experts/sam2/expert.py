"""The expert: requests about images in, three candidates a prompt out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from visenv.byte_cache import ByteCache
from visenv.capabilities import Candidates, ExpertFailure, Request, Result, SegmentPrompts, View, not_answered
from visenv.errors import ExpertError, InvalidData
from visenv.experts.models.base import ModelExpert
from visenv.experts.models.outlines import masks_from_logits
from visenv.experts.sam2 import loading
from visenv.experts.sam2.network import Embedding, decode, encode, squares
from visenv.experts.sam2.prompts import SquarePrompt, square_prompt
from visenv.masks import Masks
from visenv.types import FloatArray

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")

EMBEDDINGS_MB = 512.0
"""What is remembered of images where no ``memory_mb`` says otherwise: about 30 of them in fp32 at 1024 x 1024."""
CANDIDATES = 3


class Sam2Expert(ModelExpert[Any]):
    """Segments what points, boxes or earlier masks mean, by SAM 2 or SAM 2.1 (arXiv 2408.00714).

    Three candidates a prompt: what SAM calls ``multimask_output=True``. For one point they are often the object, its
    part and what it belongs to; for a box, several points or an earlier mask they are three attempts at much the same.
    Scores are the network's own guesses of their IoU. A prompt in which nothing says where to look gets three empty
    masks with score 0. The image encoder runs once an image, for several at a time; what it makes of them stays on the
    device as long as there is room.

    Args:
        model: a checkpoint (``sam2.1_hiera_large.pt``), a folder that holds one, a hub id
            (``facebook/sam2.1-hiera-large``), or a ``SAM2Base`` (of a ``SAM2ImagePredictor``, its model is taken).
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``. In the last two, matrix products are computed in half
            precision, as SAM 2 does it; coordinates never are.
        compile: whether the image encoder is compiled by ``torch.compile``.
        max_batch: the most requests in one call.
        memory_mb: the most megabytes that weights and remembered embeddings may take together; None for no limit.
        config: the configuration of a checkpoint that is of none of the published sizes: a YAML file, or the name of
            one of the package's.
        mask_threshold: logits above it are on the mask.
        max_images: the most images in one call of the image encoder; by default 8 on a GPU and 1 on the CPU, which
            gains nothing from more.
        max_prompts: the most prompts in one call of the mask decoder; by default 64 on a GPU and 4 on the CPU.
        embeddings_mb: the most megabytes of embeddings that are remembered; 0 for none. By default what ``memory_mb``
            leaves, or 512.

    Raises:
        MissingWeights: if the weights are not there; the message says how to get them.
        MissingDependency: if torch or sam2 is missing.
        InvalidData: if a value is out of range.
    """

    family, extra = "sam2", "sam2"
    capabilities: tuple[str, ...] = ("SegmentPrompts",)

    def __init__(
        self,
        model: Any,
        *,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_batch: int = 16,
        memory_mb: float | None = None,
        config: str | Path | None = None,
        mask_threshold: float = 0.0,
        max_images: int | None = None,
        max_prompts: int | None = None,
        embeddings_mb: float | None = None,
    ) -> None:
        for name, value, least in (
            ("max_images", max_images, 1),
            ("max_prompts", max_prompts, 1),
            ("embeddings_mb", embeddings_mb, 0),
        ):
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or value < least):
                raise InvalidData(f"Expected {name} to be a number of at least {least}, but got {value!r}.")
        if isinstance(mask_threshold, bool) or not np.isfinite(mask_threshold):
            raise InvalidData(f"Expected mask_threshold to be a number, but got {mask_threshold!r}.")
        self._config = config
        super().__init__(
            _network_of(model),
            device=device,
            precision=precision,
            compile=compile,
            max_batch=max_batch,
            memory_mb=memory_mb,
            settings={"mask_threshold": float(mask_threshold)},
        )
        if config is not None and not self._from_files:
            raise InvalidData("Expected config only for a checkpoint, but got it for a model that is built already.")
        on_cpu = self.placement.device.type == "cpu"
        self.mask_threshold = float(mask_threshold)
        self.max_images = int(max_images or (1 if on_cpu else 8))
        self.max_prompts = int(max_prompts or (4 if on_cpu else 64))
        self.mixes_images = not on_cpu
        """Whether prompts of several images are decoded together. On the CPU copying their embeddings costs more."""
        self._embeddings_mb = embeddings_mb
        self._embeddings: ByteCache[Embedding] = ByteCache(0)

    # --- the network --------------------------------------------------------------------------------------------------

    def _find(self, source: str | Path) -> tuple[Path, ...]:
        with loading.importing_sam2():
            checkpoint = loading.find_checkpoint(source)
            return (checkpoint,) if self._config is None else (checkpoint, loading.find_config(self._config))

    def _load(self, source: tuple[Path, ...]) -> Any:
        return loading.load(source[0], source[1] if len(source) > 1 else None)

    def _modules(self, model: Any) -> list[nn.Module]:
        parts = ("image_encoder", "sam_prompt_encoder", "sam_mask_decoder", "image_size")
        return [model] if all(hasattr(model, part) for part in parts) else []

    def _called(self, model: Any) -> list[nn.Module]:
        return [model.image_encoder]

    @property
    def _dynamic(self) -> bool | None:
        # It sees images of one size: were that left open, what follows for its windows would take minutes to prove.
        return None

    def _place(self, module: nn.Module) -> None:
        import torch
        from torch import nn

        module.to(self.placement.device)
        if self.placement.dtype == torch.float32:
            module.float()
            return
        # What autocast would turn into half precision at every call; norms, embeddings and coordinates stay exact.
        for name, layer in module.named_modules():
            in_half = name.startswith(("image_encoder.", "sam_mask_decoder."))
            if in_half and isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                layer.to(self.placement.dtype)

    @contextlib.contextmanager
    def _half(self) -> Iterator[None]:
        import torch

        dtype, device = self.placement.dtype, self.placement.device.type
        with torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32):
            yield

    def load(self) -> Any:
        """The network on its device; read now if it was not yet.

        Raises:
            InvalidData: if it cannot be read, or takes more than ``memory_mb`` or than the device has left.
        """
        with self._lock:
            was_loaded = self._loaded is not None
            model = super().load()
            if not was_loaded:
                spare, wanted = self.spare_bytes, self._embeddings_mb
                limits = [] if spare is None else [spare]
                if wanted is not None or spare is None:
                    limits.append(int((EMBEDDINGS_MB if wanted is None else wanted) * 1e6))
                self._embeddings = ByteCache(min(limits))
            return model

    def _forget(self) -> None:
        self._embeddings.clear()

    # --- answering ----------------------------------------------------------------------------------------------------

    def _answer(self, model: Any, requests: Sequence[Request]) -> Sequence[Result | ExpertFailure | ExpertError]:
        answers: dict[int, Result | ExpertFailure | ExpertError] = {}
        by_image: dict[str, list[int]] = {}
        asked: dict[int, list[SquarePrompt | None]] = {}
        for index, request in enumerate(requests):
            if not isinstance(request, SegmentPrompts):
                raise not_answered(self.name, request)
            try:
                asked[index] = self._square_prompts(model, request)
            except InvalidData as error:
                answers[index] = ExpertFailure(self.name, str(error))
                continue
            if any(prompt is not None for prompt in asked[index]):
                by_image.setdefault(request.view.provenance.key, []).append(index)
            else:
                answers[index] = _candidates(request, {})
        remembered = {key: found for key in by_image if (found := self._embeddings.get(key)) is not None}
        new = {key: requests[indices[0]].view for key, indices in by_image.items() if key not in remembered}
        made = (self._embed(model, dict(part)) for part in _chunks(new.items(), self.max_images))
        for embeddings in chain([remembered], made):
            answers |= self._segment(model, requests, asked, {key: by_image[key] for key in embeddings}, embeddings)
        return [answers[index] for index in range(len(requests))]

    def _square_prompts(self, model: Any, request: SegmentPrompts) -> list[SquarePrompt | None]:
        mask_side = model.sam_prompt_encoder.mask_input_size[0]
        return [square_prompt(prompt, request.view.size, model.image_size, mask_side) for prompt in request.prompts]

    def _embed(self, model: Any, views: dict[str, View]) -> dict[str, Embedding]:
        batch = squares([view.pixels for view in views.values()], model.image_size, self.placement.device)
        with self._half():
            made = dict(zip(views, encode(model, batch), strict=True))
        for key, embedding in made.items():
            self._embeddings.put(key, embedding, embedding.nbytes)
        return made

    def _segment(
        self,
        model: Any,
        requests: Sequence[Request],
        asked: dict[int, list[SquarePrompt | None]],
        by_image: dict[str, list[int]],
        embeddings: dict[str, Embedding],
    ) -> dict[int, Candidates]:
        """Answer the requests about some images, whose embeddings are at hand."""
        groups: dict[tuple[Any, ...], list[tuple[int, int, int]]] = {}
        for owner, indices in enumerate(by_image.values()):
            for index in indices:
                for number, prompt in enumerate(asked[index]):
                    if prompt is not None:
                        group = (len(prompt.points), prompt.mask is None, None if self.mixes_images else owner)
                        groups.setdefault(group, []).append((owner, index, number))
        made = list(embeddings.values())
        found: dict[int, dict[int, tuple[Masks, FloatArray]]] = {}
        for alike in groups.values():
            for chunk in _chunks(alike, self.max_prompts):
                prompts = [prompt for _, index, number in chunk if (prompt := asked[index][number]) is not None]
                logits, scores = decode(model, made, [owner for owner, _, _ in chunk], prompts, self._half())
                certain = scores.clamp(0, 1).double().cpu().numpy()
                for (_, index, number), maps, score in zip(chunk, logits.cpu().numpy(), certain, strict=True):
                    masks = masks_from_logits(maps, requests[index].view.size, threshold=self.mask_threshold)
                    found.setdefault(index, {})[number] = (masks, score)
        return {index: _candidates(requests[index], found[index]) for indices in by_image.values() for index in indices}


def _network_of(model: Any) -> Any:
    """A predictor's network; anything else as it is."""
    return model.model if hasattr(model, "set_image") and hasattr(model, "model") else model


def _candidates(request: Any, found: dict[int, tuple[Masks, FloatArray]]) -> Candidates:
    """What was found for each prompt; three empty masks where nothing could be."""
    height, width = request.view.pixels.shape[:2]
    empty = Masks.from_crops([np.zeros((1, 1), np.bool_)] * CANDIDATES, np.zeros((CANDIDATES, 2), int), (height, width))
    nothing = (empty, np.zeros(CANDIDATES))
    pairs = [found.get(number, nothing) for number in range(len(request.prompts))]
    return Candidates(tuple(masks for masks, _ in pairs), tuple(scores for _, scores in pairs))


def _chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(values)
    while chunk := list(islice(left, size)):
        yield chunk
