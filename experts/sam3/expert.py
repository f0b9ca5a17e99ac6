"""The expert: images and phrases looked at once, then one pass of the detector or of the tracker for all requests."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visenv.capabilities import (
    Candidates,
    ExpertFailure,
    GroundPhrase,
    Request,
    Result,
    SegmentPrompts,
    View,
    not_answered,
)
from visenv.errors import ExpertError, MissingWeights
from visenv.experts.models.base import share
from visenv.experts.models.outlines import masks_from_logits
from visenv.experts.models.remembering import RememberingExpert
from visenv.experts.models.transformers_files import (
    channels_first,
    find_model,
    import_transformers,
    load_model,
    load_processor,
    model_type,
    processor_digest,
    version,
)
from visenv.experts.sam3.parts import Sam3Parts, check_parts, embeddings, pyramid, side_of
from visenv.experts.sam3.prompts import Row, inputs_of, row_of
from visenv.masks import Masks
from visenv.types import Detections, FloatArray

if TYPE_CHECKING:
    import torch
    from torch import nn

PROMPTS_AT_ONCE = 32
"""Prompts of one forward pass; each has its own copy of the image's features."""
ANSWERS = {
    "sam3_video": ("GroundPhrase", "SegmentPrompts"),
    "sam3": ("GroundPhrase",),
    "sam3_tracker": ("SegmentPrompts",),
}
"""What a folder can answer, by the ``model_type`` in its config.json; facebook/sam3 is a ``sam3_video``."""
_GATED = (
    " SAM 3 is gated: accept its licence on https://huggingface.co/facebook/sam3 first, then log in: hf auth login."
)


class Sam3Expert(RememberingExpert[Sam3Parts]):
    """Finds every instance of a phrase, and outlines what points, boxes and masks mean.

    An image is looked at once: what the backbone sees of it is remembered, and used for every phrase and every prompt;
    so is what the text encoder makes of a phrase.

    Args:
        model: a folder, ``facebook/sam3`` or another hub id, or ``Sam3Parts`` that you have built.
        score_threshold: instances with a lower score are left out; from 0 to 1.
        mask_threshold: pixels with a probability above it belong to an instance; from 0 to 1.
        device: as ``ModelExpert`` takes it, and so the rest.
        precision: of all networks.
        compile: whether they are compiled.
        max_batch: the most requests in one call, and images and phrases in one pass.
        memory_mb: for weights and what is remembered of images and phrases; without it, 1 GiB is remembered.

    Raises:
        MissingWeights: if the weights are not there.
        MissingDependency: if transformers or torch is missing.
        InvalidData: if a value is out of range, or the folder holds another model.
    """

    family: ClassVar[str] = "sam3"
    extra: ClassVar[str] = "transformers"
    capabilities: tuple[str, ...] = ("GroundPhrase", "SegmentPrompts")

    def __init__(
        self,
        model: str | Path | Sam3Parts = "facebook/sam3",
        *,
        score_threshold: float = 0.4,
        mask_threshold: float = 0.5,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_batch: int = 8,
        memory_mb: float | None = None,
    ) -> None:
        self.score_threshold = share(score_threshold, "score_threshold")
        self.mask_threshold = share(mask_threshold, "mask_threshold")
        import_transformers()
        settings: dict[str, Any] = {"score_threshold": self.score_threshold, "mask_threshold": self.mask_threshold}
        if isinstance(model, Sam3Parts):
            settings["processor"] = processor_digest(model.processor)
            can = {"GroundPhrase": model.detector, "SegmentPrompts": model.tracker}
            self.capabilities = tuple(name for name, part in can.items() if part is not None)
        super().__init__(
            model,
            device=device,
            precision=precision,
            compile=compile,
            max_batch=max_batch,
            memory_mb=memory_mb,
            settings=settings,
        )
        if isinstance(model, Sam3Parts):
            check_parts(model, "the given model")

    # --- the model ----------------------------------------------------------------------------------------------------

    def _find(self, source: str | Path) -> tuple[Path, ...]:
        try:
            folder = find_model(source, tuple(ANSWERS), texts=False)
            if model_type(folder) != "sam3_tracker":
                find_model(source, texts=True)
        except MissingWeights as error:
            raise MissingWeights(f"{error}{_GATED}") from None
        self.capabilities = ANSWERS[model_type(folder)]
        return (folder,)

    def _load(self, source: tuple[Path, ...]) -> Sam3Parts:
        transformers = import_transformers()
        folder, dtype = source[0], self.placement.dtype
        detector = tracker = None
        if "GroundPhrase" in self.capabilities:
            detector = load_model(transformers.Sam3Model, folder, dtype)
        if "SegmentPrompts" in self.capabilities:
            tracker = load_model(transformers.Sam3TrackerModel, folder, dtype)
        if detector is not None and tracker is not None:
            # Both were read from the same tensors; only their necks are of their own.
            tracker.vision_encoder.backbone = detector.vision_encoder.backbone
        texts = model_type(folder) != "sam3_tracker"
        kind = transformers.Sam3Processor if texts else transformers.Sam3TrackerProcessor
        parts = Sam3Parts(load_processor(folder, kind=kind), detector, tracker)
        check_parts(parts, str(folder))
        return parts

    def _modules(self, model: Any) -> list[nn.Module]:
        return model.networks if isinstance(model, Sam3Parts) else []

    def _called(self, model: Sam3Parts) -> list[nn.Module]:
        return [*model.backbones, *model.networks]

    def _version(self) -> str:
        return version()

    # --- answering ----------------------------------------------------------------------------------------------------

    def _answer(self, model: Sam3Parts, requests: Sequence[Request]) -> Sequence[Result | ExpertFailure | ExpertError]:
        phrases: dict[int, GroundPhrase] = {}
        prompts: dict[int, SegmentPrompts] = {}
        found: dict[int, Result] = {}
        for place, request in enumerate(requests):
            if isinstance(request, GroundPhrase) and model.detector is not None:
                # An empty phrase names nothing.
                if request.phrase.strip():
                    phrases[place] = request
                else:
                    found[place] = Detections(np.zeros((0, 4)), Masks.empty(request.view.size[::-1]))
            elif isinstance(request, SegmentPrompts) and model.tracker is not None:
                prompts[place] = request
            else:
                raise not_answered(self.name, request)
        views = [request.view for request in phrases.values()], [request.view for request in prompts.values()]
        if model.shares:
            seen = (self._seen(model, model.networks[0], views[0] + views[1]),) * 2
        else:
            seen = self._seen(model, model.detector, views[0]), self._seen(model, model.tracker, views[1])
        found.update(zip(phrases, self._ground(model, list(phrases.values()), seen[0]), strict=True))
        found.update(zip(prompts, self._segment(model, list(prompts.values()), seen[1]), strict=True))
        return [found[place] for place in range(len(requests))]

    def _seen(self, model: Sam3Parts, network: Any, views: Sequence[View]) -> dict[str, torch.Tensor]:
        """What a network's backbone sees of images, (1, tokens, channels) each, by provenance."""
        import torch

        cache, found, new = self._cache(), dict[str, Any](), dict[str, View]()
        whose = "" if model.shares else type(network).__name__
        for view in views:
            key = view.provenance.key
            known = found.get(key, cache.get((whose, key)))
            if known is None:
                new[key] = view
            else:
                found[key] = known
        images = getattr(model.processor, "image_processor", model.processor)
        waiting = list(new.items())
        for start in range(0, len(waiting), self.max_batch):
            part = waiting[start : start + self.max_batch]
            pixels = torch.cat([self._pixels(images, view) for _, view in part])
            hidden = network.vision_encoder.backbone(pixels).last_hidden_state
            for (key, _), one in zip(part, hidden.split(1), strict=True):
                # A view would keep all of the batch in memory for as long as one of its images is remembered.
                found[key] = one.clone()
                cache.put((whose, key), found[key], found[key].nbytes)
        return found

    def _pixels(self, images: Any, view: View) -> torch.Tensor:
        """An image as the backbone takes it, (1, 3, side, side); one at a time, so that large ones do not add up."""
        on_gpu = {"device": self.placement.device} if self.placement.device.type == "cuda" else {}
        made = images(
            [channels_first(view.pixels)], input_data_format="channels_first", return_tensors="pt", **on_gpu
        ).pixel_values
        pixels: torch.Tensor = made.to(self.placement.device, self.placement.dtype)
        return pixels

    # --- phrases ------------------------------------------------------------------------------------------------------

    def _ground(
        self, model: Sam3Parts, requests: Sequence[GroundPhrase], seen: dict[str, torch.Tensor]
    ) -> list[Detections]:
        words = self._read(model, [request.phrase for request in requests])
        made: list[Detections] = []
        for start in range(0, len(requests), self.max_batch):
            made += self._detect(model, requests[start : start + self.max_batch], seen, words)
        return made

    def _read(self, model: Sam3Parts, phrases: Sequence[str]) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        """What the text encoder makes of phrases, (1, tokens, channels) each, and which tokens are not padding."""
        cache = self._cache()
        known = {phrase: cache.get(("text", phrase)) for phrase in phrases}
        found = {phrase: features for phrase, features in known.items() if features is not None}
        new = [phrase for phrase, features in known.items() if features is None]
        if new:
            length = min(32, model.detector.config.text_config.max_position_embeddings)
            tokens = model.processor.tokenizer(
                new, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
            ).to(self.placement.device)
            features = model.detector.get_text_features(tokens.input_ids, tokens.attention_mask).pooler_output
            for phrase, one, mask in zip(new, features.split(1), tokens.attention_mask.split(1), strict=True):
                found[phrase] = (one.clone(), mask.clone())
                cache.put(("text", phrase), found[phrase], one.nbytes + mask.nbytes)
        return found

    def _detect(
        self,
        model: Sam3Parts,
        requests: Sequence[GroundPhrase],
        seen: dict[str, torch.Tensor],
        words: dict[str, tuple[torch.Tensor, torch.Tensor]],
    ) -> list[Detections]:
        import torch
        from transformers.modeling_outputs import BaseModelOutputWithPooling
        from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

        keys = list(dict.fromkeys(request.view.provenance.key for request in requests))
        rows = torch.tensor([keys.index(request.view.provenance.key) for request in requests])
        rows = rows.to(self.placement.device)
        levels, places = pyramid(model.detector, torch.cat([seen[key] for key in keys]))
        outputs = model.detector(
            vision_embeds=Sam3VisionEncoderOutput(
                fpn_hidden_states=tuple(level.index_select(0, rows) for level in levels),
                fpn_position_encoding=tuple(place.expand(len(rows), -1, -1, -1) for place in places),
            ),
            text_embeds=BaseModelOutputWithPooling(
                pooler_output=torch.cat([words[request.phrase][0] for request in requests])
            ),
            attention_mask=torch.cat([words[request.phrase][1] for request in requests]),
        )
        scores = (outputs.pred_logits.float().sigmoid() * outputs.presence_logits.float().sigmoid()).cpu().numpy()
        boxes = outputs.pred_boxes.float().cpu().numpy()
        chosen = [np.flatnonzero(each >= self.score_threshold) for each in scores]
        chosen = [each[np.argsort(-own[each], kind="stable")] for each, own in zip(chosen, scores, strict=True)]
        flat = np.repeat(np.arange(len(chosen)), [len(each) for each in chosen]), np.concatenate(chosen)
        maps = outputs.pred_masks[tuple(torch.from_numpy(part).to(self.placement.device) for part in flat)]
        shares = np.split(maps.float().sigmoid().cpu().numpy(), np.cumsum([len(each) for each in chosen])[:-1])
        return [
            self._found(request.view.size, boxes[row][chosen[row]], shares[row], scores[row][chosen[row]])
            for row, request in enumerate(requests)
        ]

    def _found(
        self, size: tuple[int, int], boxes: FloatArray, probabilities: FloatArray, scores: FloatArray
    ) -> Detections:
        """Instances in the frame of an image, from boxes in shares of its sides and maps of probabilities."""
        sides = np.array([*size, *size], np.float64)
        masks = masks_from_logits(probabilities, size, threshold=self.mask_threshold)
        return Detections(np.clip(boxes * sides, 0, sides), masks, scores)

    # --- prompts ------------------------------------------------------------------------------------------------------

    def _segment(
        self, model: Sam3Parts, requests: Sequence[SegmentPrompts], seen: dict[str, torch.Tensor]
    ) -> list[Candidates]:
        import torch

        if not requests:
            return []
        keys = {request.view.provenance.key for request in requests}
        features = {key: embeddings(model.tracker, seen[key]) for key in keys}
        mask_size = model.tracker.prompt_encoder.mask_input_size
        rows: dict[Hashable, list[Row]] = {}
        found: list[list[Any]] = [[None] * len(request.prompts) for request in requests]
        for index, request in enumerate(requests):
            for place, prompt in enumerate(request.prompts):
                row = row_of(index, place, prompt, request.view.size, side_of(model.tracker))
                if row is None:
                    nothing = Masks.from_crops(
                        [np.zeros((1, 1), bool)] * 3, np.zeros((3, 2), int), request.view.size[::-1]
                    )
                    found[index][place] = nothing, np.zeros(3)
                else:
                    rows.setdefault(row.kind, []).append(row)
        for alike in rows.values():
            for start in range(0, len(alike), PROMPTS_AT_ONCE):
                part = alike[start : start + PROMPTS_AT_ONCE]
                own = [features[requests[row.request].view.provenance.key] for row in part]
                levels = [torch.cat(level) for level in zip(*own, strict=True)]
                inputs = inputs_of(part, mask_size, self.placement.device, self.placement.dtype)
                outputs = model.tracker(image_embeddings=levels, multimask_output=True, **inputs)
                maps = outputs.pred_masks[:, 0].float().cpu().numpy()
                scores = outputs.iou_scores[:, 0].float().clamp(0, 1).cpu().numpy().astype(np.float64)
                for row, three, each in zip(part, maps, scores, strict=True):
                    masks = masks_from_logits(three, requests[row.request].view.size)
                    found[row.request][row.place] = masks, each
        return [Candidates(tuple(masks for masks, _ in each), tuple(scores for _, scores in each)) for each in found]
