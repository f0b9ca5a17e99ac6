"""The expert set ``oracle``: answers every request with the truth, for tests and upper bounds.

Source: the role of an oracle in VisHarness-like environments is ours; nothing here looks at pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visenv.capabilities import (
    FindVisualPrompts,
    GroundPhrase,
    PointPhrase,
    Points,
    Ran,
    Request,
    Result,
    RunCode,
    SegmentPrompts,
    Upscale,
    Upscaled,
    not_answered,
)
from visenv.experts.truth_view import (
    FindSample,
    RecentSamples,
    choose_masks,
    clean_picture,
    enlarge,
    interior_points,
    truth_for,
)


class Oracle:
    """Knows every sample's truth, and says it.

    Where the truth is what is to be found, it is said whatever the phrase. Where it is the answer to a question about
    generated pictures, a phrase means the things in the picture that it describes. Of other questions (BLINK, MMVP) the
    data do not say what their pictures show: a request fails, and says so.

    Args:
        find: from a sample's identifier to the sample.
    """

    name = "oracle"
    fingerprint = "oracle-1"
    capabilities = ("GroundPhrase", "PointPhrase", "SegmentPrompts", "Upscale", "RunCode", "FindVisualPrompts")
    max_batch = 256
    per_sample = True

    def __init__(self, find: FindSample) -> None:
        self.find = RecentSamples(find)

    def run(self, requests: Sequence[Request]) -> Sequence[Result]:
        """Answer a batch; result ``i`` belongs to request ``i``.

        Returns:
            ``GroundPhrase``: the targets that the view shows. ``PointPhrase``: the deepest pixel of each.
            ``SegmentPrompts``: the target under, or nearest to, each prompt, as all three candidates.
            ``FindVisualPrompts``: the marks that the view shows, with their letters.
            ``Upscale``: every pixel repeated. ``RunCode``: the clean picture, whatever the program.
        """
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Result:
        if isinstance(request, Upscale):
            return Upscaled(enlarge(request.view.pixels, request.factor), self.fingerprint)
        if isinstance(request, RunCode):
            return Ran(clean_picture(self.find, request.view))
        if not isinstance(request, (GroundPhrase, PointPhrase, SegmentPrompts, FindVisualPrompts)):
            raise not_answered(self.name, request)
        seen = truth_for(self.find, request)
        if isinstance(request, (GroundPhrase, FindVisualPrompts)):
            return seen
        assert seen.masks is not None
        if isinstance(request, PointPhrase):
            return Points(interior_points(seen.masks), np.ones(len(seen)))
        return choose_masks(seen.masks, request.prompts)


def make(find: FindSample) -> list[Oracle]:
    """The expert set ``oracle``.

    Args:
        find: from a sample's identifier to the sample, such as a data set's ``find``.

    Returns:
        One expert that answers every capability.
    """
    return [Oracle(find)]
