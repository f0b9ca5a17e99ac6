"""The classical expert: one object that perceives a view once and answers all that is asked about it."""

from __future__ import annotations

from collections.abc import Sequence

from visenv.capabilities import (
    GroundPhrase,
    PointPhrase,
    Request,
    Result,
    SegmentPrompts,
    Upscale,
    Upscaled,
    View,
    not_answered,
)
from visenv.experts.classical import upscaler
from visenv.experts.classical.grounder import ground
from visenv.experts.classical.perception import MEMORY_BYTES, Perceiver
from visenv.experts.classical.pointer import point
from visenv.experts.classical.segmenter import segment
from visenv.experts.classical.shape import bank_digest


class Classical:
    """Grounds, points, segments and upscales from pixels alone.

    Args:
        memory_bytes: how much of what it perceives it remembers, at least 0. It changes speed, never a result.
    """

    name = "classical"
    capabilities = ("GroundPhrase", "PointPhrase", "SegmentPrompts", "Upscale")
    max_batch = 256
    per_sample = False
    divisible = True
    """A batch takes as long as its requests one by one."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self.fingerprint = f"classical-2-{bank_digest()}"
        self.perceive = Perceiver(memory_bytes)

    def run(self, requests: Sequence[Request]) -> Sequence[Result]:
        """Answer a batch; result ``i`` belongs to request ``i``; a view is perceived once."""
        return [self._answer(request) for request in requests]

    def foresee(self, views: Sequence[View]) -> None:
        """Look at images that will likely be asked about: each is perceived, and remembered."""
        for view in views:
            self.perceive(view)

    def _answer(self, request: Request) -> Result:
        pixels = request.view.pixels
        if isinstance(request, GroundPhrase):
            return ground(self.perceive(request.view), request.phrase)
        if isinstance(request, PointPhrase):
            return point(self.perceive(request.view), request.phrase)
        if isinstance(request, SegmentPrompts):
            return segment(pixels, self.perceive(request.view), request.prompts)
        if isinstance(request, Upscale):
            return Upscaled(upscaler.upscale(pixels, request.factor), upscaler.FINGERPRINT)
        raise not_answered(self.name, request)
