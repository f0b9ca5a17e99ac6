"""The expert: boxes from a detector, without near duplicates, outlined by a segmenter in one call for the batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from visenv.capabilities import Expert, ExpertFailure, GroundPhrase, Request, Result, not_answered
from visenv.errors import ExpertError, InvalidData
from visenv.experts.grounding.dino import DinoFinder, MMDinoFinder
from visenv.experts.grounding.finder import Finder, Found, GroundingModel, Wording
from visenv.experts.grounding.florence2 import TASKS, Florence2Finder
from visenv.experts.grounding.owlv2 import Owlv2Finder
from visenv.experts.models.base import share
from visenv.experts.models.chaining import check_segmenter, outline_boxes
from visenv.experts.models.remembering import RememberingExpert
from visenv.experts.models.transformers_files import (
    check_processor,
    find_model,
    import_transformers,
    load_model,
    load_processor,
    model_type,
    processor_digest,
    read_json,
    version,
)
from visenv.masks import Masks
from visenv.types import Detections

if TYPE_CHECKING:
    from torch import nn

FINDERS: dict[str, type[Finder]] = {
    "grounding-dino": DinoFinder,
    "mm-grounding-dino": MMDinoFinder,
    "owlv2": Owlv2Finder,
    "florence2": Florence2Finder,
}
"""How a model is asked, by the ``model_type`` in its config.json."""


class GroundingExpert(RememberingExpert[GroundingModel]):
    """Finds every instance of a phrase by an open-vocabulary detector: Grounding DINO, OWLv2 or Florence-2.

    Which of them it is, the model's ``config.json`` says. They find boxes; masks come from ``segmenter``, which is
    called once for all boxes of a batch: of its candidates for a box the best-scored one is taken. Without a segmenter
    the boxes are filled.

    Args:
        model: a folder, a hub id, or a ``GroundingModel`` that you have built.
        segmenter: any expert that answers ``SegmentPrompts``.
        score_threshold: boxes that do not score above are left out; from 0 to 1. If left out, 0.35 for Grounding DINO
            and 0.1 for OWLv2; Florence-2 gives no scores, all of its boxes have 1.
        text_threshold: Grounding DINO's alone: a word of the phrase must score above.
        nms_threshold: of two boxes of one request with a larger IoU, the better-scored one stays; 1 to keep all.
        template: OWLv2's alone: what a phrase is put into; ``"{}"`` leaves it as it is.
        task: Florence-2's alone: ``<OPEN_VOCABULARY_DETECTION>``, or ``<CAPTION_TO_PHRASE_GROUNDING>`` to find
            everything that the phrase names.
        device: as ``ModelExpert`` takes it, and so the rest.
        precision: of the detector.
        compile: whether its parts are compiled.
        max_batch: the most requests in one call.
        memory_mb: for weights and what is remembered of images and phrases; without it, 1 GiB is remembered.

    Raises:
        MissingWeights: if the weights are not there.
        MissingDependency: if transformers or torch is missing.
        InvalidData: if a value is out of range, the folder holds another model, or the segmenter is none.
    """

    family: ClassVar[str] = "grounding"
    extra: ClassVar[str] = "transformers"
    capabilities: tuple[str, ...] = ("GroundPhrase",)

    def __init__(
        self,
        model: str | Path | GroundingModel = "IDEA-Research/grounding-dino-base",
        segmenter: Expert | None = None,
        *,
        score_threshold: float | None = None,
        text_threshold: float = 0.25,
        nms_threshold: float = 0.8,
        template: str = "a photo of a {}",
        task: str = TASKS[0],
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_batch: int = 8,
        memory_mb: float | None = None,
    ) -> None:
        check_segmenter(segmenter)
        if task not in TASKS:
            raise InvalidData(f"Expected task to be {' or '.join(TASKS)}, but got {task!r}.")
        if not isinstance(template, str) or template.count("{}") != 1 or "{" in template.replace("{}", ""):
            raise InvalidData(f"Expected a template with one {{}} for the phrase, but got {template!r}.")
        import_transformers()
        self.segmenter = segmenter
        self.nms_threshold = share(nms_threshold, "nms_threshold")
        if isinstance(model, GroundingModel):
            self._finder = _finder_of(model.model.config.model_type, "the given model")
            check_processor(model.processor, self._finder.processors, "the given model")
        given = None if score_threshold is None else share(score_threshold, "score_threshold")
        self._wording = Wording(given or 0.0, share(text_threshold, "text_threshold"), template, task)
        super().__init__(
            model,
            device=device,
            precision=precision,
            compile=compile,
            max_batch=max_batch,
            memory_mb=memory_mb,
            settings={
                "score_threshold": given,
                "wording": self._wording,
                "nms_threshold": self.nms_threshold,
                "segmenter": None if segmenter is None else segmenter.fingerprint,
                "processor": processor_digest(model.processor) if isinstance(model, GroundingModel) else None,
            },
        )
        if given is None:
            self._wording = Wording(self._finder.score_threshold, self._wording.text_threshold, template, task)
        self.per_sample = segmenter is not None and segmenter.per_sample

    @property
    def score_threshold(self) -> float:
        """Boxes that do not score above are left out."""
        return self._wording.score_threshold

    # --- the model ----------------------------------------------------------------------------------------------------

    def _find(self, source: str | Path) -> tuple[Path, ...]:
        folder = find_model(source, tuple(FINDERS))
        self._finder = _finder_of(model_type(folder), str(folder))
        if self._finder is Florence2Finder and "auto_map" in read_json(folder / "config.json"):
            raise InvalidData(
                f"Expected Florence-2 in the layout of transformers, but {folder} holds the one that brings code of "
                "its own. Fetch the same weights in the other: hf download florence-community/Florence-2-large"
            )
        return (folder,)

    def _load(self, source: tuple[Path, ...]) -> GroundingModel:
        kind = getattr(import_transformers(), self._finder.model_class)
        processor = load_processor(source[0], self._finder.processors)
        return GroundingModel(load_model(kind, source[0], self.placement.dtype), processor)

    def _modules(self, model: Any) -> list[nn.Module]:
        return [model.model] if isinstance(model, GroundingModel) else []

    def _called(self, model: GroundingModel) -> list[nn.Module]:
        return self._finder.called(model.model)

    def _version(self) -> str:
        return f"{version()} {self._finder.__name__} {self._finder.score_threshold}"

    # --- answering ----------------------------------------------------------------------------------------------------

    def _answer(
        self, model: GroundingModel, requests: Sequence[Request]
    ) -> Sequence[Result | ExpertFailure | ExpertError]:
        asked: list[GroundPhrase] = []
        for request in requests:
            if not isinstance(request, GroundPhrase):
                raise not_answered(self.name, request)
            asked.append(request)
        # An empty phrase names nothing: nothing is found.
        named = [place for place, request in enumerate(asked) if request.phrase.strip()]
        finder = self._finder(
            model.model, model.processor, self.placement, self._cache(), self._wording, self.max_batch
        )
        answers = finder.find([asked[place] for place in named]) if named else []
        found = [Found(np.zeros((0, 4)), np.zeros(0))] * len(asked)
        for place, answer in zip(named, answers, strict=True):
            found[place] = _tidied(answer, asked[place].view.size, self.nms_threshold)
        return self._outlined(asked, found)

    def _outlined(
        self, requests: Sequence[GroundPhrase], found: Sequence[Found]
    ) -> list[Detections | ExpertFailure | ExpertError]:
        """Boxes with masks: of the segmenter, or filled."""
        views = [request.view for request in requests]
        masks: Sequence[Masks | ExpertFailure | ExpertError]
        if self.segmenter is None:
            masks = [Masks.from_boxes(each.boxes, view.size[::-1]) for each, view in zip(found, views, strict=True)]
        else:
            masks = outline_boxes(self.segmenter, views, [each.boxes for each in found])
        return [
            Detections(each.boxes, outline, each.scores) if isinstance(outline, Masks) else outline
            for each, outline in zip(found, masks, strict=True)
        ]


def _tidied(found: Found, size: tuple[int, int], nms_threshold: float) -> Found:
    """Boxes inside the image, with an area, without near duplicates, the best first."""
    import torch
    from torchvision.ops import nms

    boxes = np.clip(found.boxes, 0, np.array([*size, *size], np.float64))
    inside = np.flatnonzero(np.isfinite(boxes).all(axis=1) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1))
    inside = inside[np.argsort(-found.scores[inside], kind="stable")]
    boxes, scores = boxes[inside], found.scores[inside]
    if nms_threshold < 1:
        kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), nms_threshold).numpy()
        boxes, scores = boxes[kept], scores[kept]
    return Found(boxes, scores)


def _finder_of(model_type: str, where: str) -> type[Finder]:
    if model_type not in FINDERS:
        raise InvalidData(f"Expected a model of the type {' or '.join(FINDERS)} in {where}, but got {model_type!r}.")
    return FINDERS[model_type]
