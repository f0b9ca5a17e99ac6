"""The expert ``sight``: one object that answers what neural networks answer better, so that nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence

from visenv.capabilities import (
    Depth,
    Describe,
    Description,
    Embed,
    Embedding,
    EstimateDepth,
    FindVisualPrompts,
    Request,
    Result,
    not_answered,
)
from visenv.errors import InvalidData
from visenv.experts.classical.perception import MEMORY_BYTES, Perceiver
from visenv.experts.sight.depth import nearness
from visenv.experts.sight.letters import ReadByNetworks, ReadWord, read_by_templates
from visenv.experts.sight.likeness import embed
from visenv.experts.sight.marks import as_detections, find_marks
from visenv.experts.sight.words import caption, compare, describe_marks


class Sight:
    """Estimates depth, embeds, describes and finds visual prompts from pixels alone.

    Depth is where things stand: what stands lower in a picture is nearer, as on any plain. Embeddings are colours and
    edges by place. Descriptions are what the classical perception recognises. Visual prompts are pure colours in the
    form of circles, boxes and arrows. All of it is made for generated scenes; on photographs, use neural experts.

    Args:
        letters: who reads the letters of visual prompts: ``"templates"`` of OpenCV's typeface, which need no package,
            or ``"rapidocr"``, networks that read any typeface (``pip install "visenv[ocr]"``).
        memory_bytes: how much of what it perceives it remembers. It changes speed, never a result.

    Raises:
        InvalidData: if nobody of that name reads letters.
        MissingDependency: if rapidocr is asked for and not installed.
    """

    name = "sight"
    capabilities = ("EstimateDepth", "Embed", "Describe", "FindVisualPrompts")
    max_batch = 256
    per_sample = False
    divisible = True

    def __init__(self, letters: str = "templates", memory_bytes: int = MEMORY_BYTES) -> None:
        if letters not in ("templates", "rapidocr"):
            raise InvalidData(f"Expected letters to be 'templates' or 'rapidocr', but got {letters!r:.40}.")
        self.perceive = Perceiver(memory_bytes)
        self._read: ReadWord = read_by_templates
        self.fingerprint = "sight-1"
        if letters == "rapidocr":
            self._read = networks = ReadByNetworks()
            self.fingerprint = f"sight-1-{networks.fingerprint}"

    def run(self, requests: Sequence[Request]) -> Sequence[Result]:
        """Answer a batch; result ``i`` belongs to request ``i``."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Result:
        if isinstance(request, EstimateDepth):
            return Depth(nearness(self.perceive(request.view)))
        if isinstance(request, Embed):
            if request.texts:
                raise InvalidData("The expert 'sight' embeds images alone: use EmbedExpert to compare with texts.")
            return Embedding(embed(request.view.pixels))
        if isinstance(request, FindVisualPrompts):
            return as_detections(find_marks(request.view.pixels, self._read), request.view.pixels.shape[:2])
        if isinstance(request, Describe):
            return Description(self._words(request))
        raise not_answered(self.name, request)

    def _words(self, request: Describe) -> str:
        views = (request.view, *request.others)
        if request.task == "visual_prompt":
            return describe_marks(find_marks(request.view.pixels, self._read), self.perceive(request.view))
        if request.task == "compare":
            return compare([(view.name, self.perceive(view)) for view in views], request.focus)
        return caption(self.perceive(request.view), request.focus)
