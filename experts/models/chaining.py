"""Masks for a detector's boxes, by another expert that segments prompts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from visenv.capabilities import Candidates, Expert, ExpertFailure, Prompt, SegmentPrompts, View
from visenv.errors import ExpertError, InvalidData
from visenv.experts_checks import check_result
from visenv.masks import Masks
from visenv.types import FloatArray


def check_segmenter(segmenter: Expert | None) -> None:
    """Make sure that something can be asked for masks.

    Raises:
        InvalidData: if it is no expert that answers ``SegmentPrompts``.
    """
    if segmenter is not None and "SegmentPrompts" not in getattr(segmenter, "capabilities", ()):
        raise InvalidData(f"Expected segmenter to be an expert that answers SegmentPrompts, but got {segmenter!r:.80}.")


def outline_boxes(
    segmenter: Expert, views: Sequence[View], boxes: Sequence[FloatArray]
) -> list[Masks | ExpertFailure | ExpertError]:
    """For each box of each image, the mask that a segmenter thinks best.

    Args:
        segmenter: answers ``SegmentPrompts``; asked in batches as large as it takes.
        views: R images.
        boxes: for each of them (N, 4) xyxy pixels; nothing is asked where N is 0.

    Returns:
        For each image N masks; or what the segmenter gave instead, where it failed.

    Raises:
        InvalidData: if the segmenter answers something else than candidates for those boxes.
    """
    found: list[Masks | ExpertFailure | ExpertError] = [Masks.empty(view.pixels.shape[:2]) for view in views]
    asked = [index for index, each in enumerate(boxes) if len(each)]
    for start in range(0, len(asked), segmenter.max_batch):
        part = asked[start : start + segmenter.max_batch]
        requests = [SegmentPrompts(views[i], tuple(Prompt(box=box) for box in boxes[i])) for i in part]
        results = segmenter.run(requests)
        if len(results) != len(requests):
            raise InvalidData(f"Expected {len(requests)} results of {segmenter.name}, but got {len(results)}.")
        for index, request, result in zip(part, requests, results, strict=True):
            if isinstance(result, (ExpertFailure, ExpertError)):
                found[index] = result
                continue
            check_result(request, result)
            assert isinstance(result, Candidates)
            found[index] = _best(result, views[index].pixels.shape[:2])
    return found


def _best(candidates: Candidates, size: tuple[int, int]) -> Masks:
    picked = zip(candidates.masks, candidates.scores, strict=True)
    return Masks.concatenate([masks[int(np.argmax(scores))] for masks, scores in picked], size)
