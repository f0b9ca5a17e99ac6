"""YOLO detectors and segmenters of ultralytics as an expert: with a fixed vocabulary, or with an open one."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visenv.capabilities import Expert, ExpertFailure, GroundPhrase, Request, Result, View, not_answered
from visenv.errors import ExpertError, InvalidData, MissingDependency, MissingWeights
from visenv.experts.models.base import ModelExpert, share
from visenv.experts.models.chaining import check_segmenter, outline_boxes
from visenv.experts.models.placing import import_torch
from visenv.experts.models.weights import files_digest, find_file
from visenv.experts.yolo.checkpoints import EMBEDDINGS, IMAGE_SIZE, PLAN, TENSORS, build, kind_of, network_of, read
from visenv.experts.yolo.detecting import Detector, Found, Job, Output, place_network
from visenv.experts.yolo.frames import Frame
from visenv.experts.yolo.quiet import import_tasks
from visenv.experts.yolo.texts import CLIP, ClipTexts, Texts, find_clip
from visenv.experts.yolo.vocabulary import ClassMatcher
from visenv.masks import Masks
from visenv.types import Detections

if TYPE_CHECKING:
    from torch import nn

ASSETS = "https://github.com/ultralytics/assets/releases/download/v8.3.0"
"""Where ultralytics publishes its weights."""


class YoloExpert(ModelExpert[Detector]):
    """Finds every instance of a phrase by a YOLO: detection, segmentation, YOLO-World or YOLOE.

    A model with a fixed vocabulary answers a phrase with the objects of the classes that it names (see
    ``ClassMatcher``), and with none if it names none of them. Models with an open vocabulary embed the phrase itself.
    Phrases about one image share one pass through the network where its results do not depend on the other phrases.

    Masks come from a segmentation model's own prototypes; else from the segmenter; else they are the filled boxes.

    Args:
        model: a ``.pt`` file of ultralytics, a folder that ``save_yolo`` wrote, or a built model (an
            ``ultralytics.YOLO`` or the network in it), not fused. Nothing in a file is executed.
        segmenter: an expert that answers ``SegmentPrompts`` and outlines the boxes of a model without masks.
        score_threshold: least score of a detection, from 0 to 1.
        iou_threshold: of two boxes of one class that overlap more, the better one is kept.
        synonyms: further words for classes, ``{"truck": ["rig"]}``.
        text_encoder: for an open vocabulary. ``auto``: the one that YOLO-World was trained with,
            ``openai/clip-vit-base-patch32`` from the hub's cache. Or such a folder or id; or a function from a list of
            T texts to (T, D) numbers, which YOLOE needs; or None: the classes that were set when the model was saved.
        image_size: side in pixels of the square that an image is fitted into, a multiple of 32; that which the
            model was trained on if left out.
        max_detections: the most objects in one image.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``; the last layers, which place boxes, stay in fp32.
        compile: whether the network is compiled.
        max_batch: the most requests in one call.
        memory_mb: the most megabytes that the weights may take; None for no limit.

    Raises:
        MissingWeights: if the weights, or those of the text encoder, are not there.
        MissingDependency: if ultralytics is missing.
        InvalidData: if a value is out of range, or a checkpoint holds what it should not.
    """

    family, extra = "yolo", "yolo"
    capabilities = ("GroundPhrase",)

    def __init__(
        self,
        model: Any,
        *,
        segmenter: Expert | None = None,
        score_threshold: float = 0.25,
        iou_threshold: float = 0.7,
        synonyms: Mapping[str, Sequence[str]] | None = None,
        text_encoder: str | Path | Callable[[list[str]], Any] | None = "auto",
        image_size: int | None = None,
        max_detections: int = 1000,
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        max_batch: int = 16,
        memory_mb: float | None = None,
    ) -> None:
        import_torch(self.extra)
        if importlib.util.find_spec("ultralytics") is None:
            raise MissingDependency('YOLO experts need ultralytics: pip install "visenv[yolo]".')
        self.score_threshold = share(score_threshold, "score_threshold")
        self.iou_threshold = share(iou_threshold, "iou_threshold")
        for name, count, step in (("image_size", image_size, 32), ("max_detections", max_detections, 1)):
            if count is not None and (type(count) is not int or count < step or count % step):
                raise InvalidData(f"Expected {name} to be a positive multiple of {step}, but got {count!r}.")
        check_segmenter(segmenter)
        self.segmenter = segmenter
        self.image_size, self.max_detections = image_size, max_detections
        self._synonyms = dict(synonyms or {})
        self._matcher: ClassMatcher | None = None
        from_files = isinstance(model, (str, Path))
        network = None if from_files else network_of(model)
        found = self._find(model) if from_files else ()
        self.kind = kind_of(found[0]) if found else type(network).__name__
        self._encoder, digest = self._find_encoder(text_encoder)
        super().__init__(
            model if from_files else self._detector(network, IMAGE_SIZE),
            device=device,
            precision=precision,
            compile=compile,
            max_batch=max_batch,
            memory_mb=memory_mb,
            settings={
                "score_threshold": self.score_threshold,
                "iou_threshold": self.iou_threshold,
                "image_size": image_size,
                "max_detections": max_detections,
                "synonyms": sorted((name, tuple(words)) for name, words in self._synonyms.items()),
                "names": None if network is None else sorted(dict(network.names).items()),
                "segmenter": getattr(segmenter, "fingerprint", None),
                "texts": digest,
                "classes": None if network is None else _classes_digest(network),
            },
        )
        if network is not None:
            self._matcher = self._closed_matcher(network)

    # --- its files ----------------------------------------------------------------------------------------------------

    def _find(self, source: str | Path) -> tuple[Path, ...]:
        path = Path(source).expanduser()
        if path.is_dir() and (path / PLAN).is_file():
            if not (path / TENSORS).is_file():
                raise MissingWeights(f"Expected {TENSORS} beside {path / PLAN}, but there is no such file.")
            return (path / PLAN, path / TENSORS)
        file = find_file(source, ("yolo.pt",), url=f"{ASSETS}/{path.name}")
        if file.suffix == ".yaml":
            raise InvalidData(f"Expected a checkpoint of a YOLO, but got {file}: name the folder, or a .pt file.")
        return (file,)

    def _find_encoder(self, given: Any) -> tuple[Path | Texts | None, str | None]:
        """Where the text encoder is, or it itself, and a digest of it."""
        if self.kind not in EMBEDDINGS or given is None:
            return None, None
        if callable(given):
            texts = Texts(given)
            return texts, texts.digest()
        if given == "auto" and self.kind != "WorldModel":
            raise InvalidData(
                "Expected text_encoder for a YOLOE: a function from texts to the embeddings of MobileCLIP, which it "
                "was trained with (docs/neural/yolo.md shows one); or None, to ask for the classes that were set when "
                "the model was saved."
            )
        folder = find_clip(CLIP if given == "auto" else given)
        return folder, files_digest(folder)

    def _load(self, source: tuple[Path, ...]) -> Detector:
        checkpoint = read(source[0])
        return self._detector(build(checkpoint), checkpoint.image_size)

    def _detector(self, network: Any, image_size: int) -> Detector:
        import_tasks()
        encoder = Texts(ClipTexts(self._encoder)) if isinstance(self._encoder, Path) else self._encoder
        return Detector(network, self.image_size or image_size, encoder)

    def _modules(self, model: Any) -> list[nn.Module]:
        return [model.network, *(model.texts.modules if model.texts is not None else [])]

    def _version(self) -> str:
        import_tasks()
        import ultralytics

        return f"1-{ultralytics.__version__}"

    def _place(self, module: nn.Module) -> None:
        if hasattr(module, "yaml"):
            place_network(module, self.placement)
        else:
            super()._place(module)

    def load(self) -> Detector:
        """The model on its device; read now if it was not yet.

        Raises:
            InvalidData: if a checkpoint cannot be read, or takes more than ``memory_mb`` or than the device has left.
        """
        with self._lock:
            fresh = self._loaded is None
            detector = super().load()
            if fresh:
                self._matcher = self._closed_matcher(detector.network)
            return detector

    def _closed_matcher(self, network: Any) -> ClassMatcher | None:
        """What finds the classes that a phrase names; None where the vocabulary is open."""
        if self._encoder is not None:
            return None
        names = dict(network.names)
        return ClassMatcher([str(names[index]) for index in sorted(names)], self._synonyms)

    def _examples(self, view: View) -> list[Request]:
        self.load()
        return [GroundPhrase(view, "thing" if self._matcher is None else self._matcher.names[0])]

    # --- answering ----------------------------------------------------------------------------------------------------

    def _answer(self, model: Detector, requests: Sequence[Request]) -> Sequence[Result | ExpertFailure | ExpertError]:
        for request in requests:
            if not isinstance(request, GroundPhrase):
                raise not_answered(self.name, request)
        asked = [request for request in requests if isinstance(request, GroundPhrase)]
        found = self._found(model, asked)
        views = [request.view for request in asked]
        outlined: Sequence[Masks | ExpertFailure | ExpertError]
        if self.segmenter is not None and not model.makes_masks:
            outlined = outline_boxes(self.segmenter, views, [each.boxes for each in found])
        else:
            outlined = [
                Masks.from_boxes(each.boxes, view.pixels.shape[:2]) if each.masks is None else each.masks
                for each, view in zip(found, views, strict=True)
            ]
        return [
            self._detections(request.phrase, each, masks) if isinstance(masks, Masks) else masks
            for request, each, masks in zip(asked, found, outlined, strict=True)
        ]

    def _detections(self, phrase: str, found: Found, masks: Masks) -> Detections:
        kept = np.flatnonzero(masks.areas)
        classes = found.classes[kept].tolist()
        labels = [phrase] * len(kept) if self._matcher is None else [self._matcher.names[index] for index in classes]
        return Detections(found.boxes[kept], masks[kept], found.scores[kept], tuple(labels))

    def _found(self, model: Detector, requests: Sequence[GroundPhrase]) -> list[Found]:
        """What the network finds for each request."""
        plans = self._jobs(model, requests)
        jobs = list(dict.fromkeys(job for job, _ in plans if job is not None))
        views = {request.view.provenance.key: request.view for request in requests}
        outputs: dict[Job, Output] = {}
        for start in range(0, len(jobs), self.max_batch):
            part = jobs[start : start + self.max_batch]
            pictures = [views[job.image].pixels for job in part]
            outputs.update(zip(part, model(pictures, part, self.placement), strict=True))
        return [
            Found()
            if job is None
            else outputs[job].of(
                classes,
                Frame(*request.view.size, model.image_size),
                score=self.score_threshold,
                iou=self.iou_threshold,
                most=self.max_detections,
            )
            for request, (job, classes) in zip(requests, plans, strict=True)
        ]

    def _jobs(self, model: Detector, requests: Sequence[GroundPhrase]) -> list[tuple[Job | None, tuple[int, ...]]]:
        """For each request the pass through the network that answers it, and the classes there that it asks for."""
        if self._matcher is not None:
            matched = [self._matcher(request.phrase) for request in requests]
            return [
                (Job(request.view.provenance.key) if classes else None, classes)
                for request, classes in zip(requests, matched, strict=True)
            ]
        phrases = [" ".join(request.phrase.lower().split()) for request in requests]
        everything = tuple(dict.fromkeys(phrase for phrase in phrases if phrase))
        planned: list[tuple[Job | None, tuple[int, ...]]] = []
        for request, phrase in zip(requests, phrases, strict=True):
            if not phrase:
                planned.append((None, ()))
                continue
            texts = everything if model.shares else (phrase,)
            planned.append((Job(request.view.provenance.key, texts), (texts.index(phrase),)))
        return planned


def _classes_digest(network: Any) -> str | None:
    """Of the embeddings of the classes that were set in a built model, which are none of its tensors."""
    embeddings = getattr(network, EMBEDDINGS.get(type(network).__name__, ""), None)
    if embeddings is None:
        return None
    return hashlib.blake2b(embeddings.detach().float().cpu().numpy().tobytes(), digest_size=8).hexdigest()
