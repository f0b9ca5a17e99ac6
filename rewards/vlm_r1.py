"""The detection reward of VLM-R1 (arXiv 2504.07615): average precision, less where too many boxes are predicted.

How it can be gamed: there are no scores, so that boxes rank in the order they are written. After the boxes that an
agent is sure of, guesses are free as long as it writes no more than there are objects: they can only add.
"""

from __future__ import annotations

import numpy as np

from visenv.rewards.answer_text import as_coordinates, find_answer, read_json
from visenv.rewards.metrics.coco_ap import CocoAP
from visenv.types import BoxesTruth, Detections, Outcome

BOUNDS = (0.0, 1.0)
"""The least and the greatest score."""
MAX_DETECTIONS = 100
"""Boxes of a category that are looked at, as COCO does."""


def score(found: Detections | None, truth: BoxesTruth) -> float:
    """Score boxes: COCO's mAP · (1 if there are no more than there should be, else true / predicted).

    Args:
        found: the predicted boxes with their labels, in the order they are written, which is their rank: scores are not
            read. None if there was no readable answer.
        truth: the true boxes with their labels; regions to ignore count for neither side.

    Returns:
        A number in [0, 1]; 1 if both are empty, 0 if one is. No readable answer is worth 0, also where nothing is to be
        found: the release pays 1 for that, and so for silence.

    Raises:
        InvalidData: if a box ends before it begins.

    Source:
        VLM-R1, arXiv 2504.07615.

    Example:
        >>> truth = BoxesTruth([[0, 0, 10, 10], [20, 20, 30, 30]], ("cup", "cup"))
        >>> score(Detections([[0, 0, 10, 10], [20, 20, 30, 30]], labels=("cup", "cup")), truth)
        1.0
        >>> four = Detections([[0, 0, 10, 10], [20, 20, 30, 30], [50, 0, 60, 9], [70, 0, 80, 9]], labels=("cup",) * 4)
        >>> score(four, truth)
        0.5
    """
    if found is None:
        return 0.0
    predicted, true = len(found), len(truth.boxes)
    if not predicted or not true:
        return float(predicted == true)
    boxes, labels = found.boxes, found.labels
    if labels is not None and truth.labels is not None:
        # Names that are not asked for have no precision; they count as predicted all the same.
        asked = [label in truth.labels for label in labels]
        boxes, labels = boxes[asked], tuple(label for label in labels if label in truth.labels)
        if not labels:
            return 0.0
    metric = CocoAP(max_dets=MAX_DETECTIONS)
    metric.update(Outcome(Detections(boxes, labels=labels), "", "answer", 1), truth)
    return float(metric.compute()["AP"] * min(1.0, true / predicted))


def parse_answer(text: str) -> Detections | None:
    """Read the boxes of an answer: a fenced JSON list of ``{"bbox_2d": [4 numbers], "label": name}`` in ``<answer>``.

    Args:
        text: what the model wrote; boxes in pixels of the picture that it was shown.

    Returns:
        The boxes in order; no box for ``[]`` or ``None``; None if there is no such block. What is malformed, or ends
        before it begins, becomes a box without area or name: it matches nothing and counts as predicted.

    Raises:
        InvalidData: if it is no text.

    Example:
        >>> text = '<answer>```json [{"bbox_2d": [1, 2, 30, 40], "label": "cup"}] ```</answer>'
        >>> parse_answer(text).labels, len(parse_answer("<answer>```json None ```</answer>"))
        (('cup',), 0)
    """
    answer = find_answer(text)
    if answer is None or not (answer.startswith("```json") and answer.endswith("```") and len(answer) >= 10):
        return None
    inside = answer[len("```json") : -len("```")].strip()
    items = [] if inside == "None" else read_json(inside)
    if not isinstance(items, list):
        return None
    read = [_item(item) for item in items]
    return Detections(np.array([box for box, _ in read]).reshape(-1, 4), labels=tuple(label for _, label in read))


def _item(item: object) -> tuple[list[float], str]:
    known = item if isinstance(item, dict) else {}
    box, label = as_coordinates(known.get("bbox_2d"), 4), known.get("label")
    if box is None or not isinstance(label, str) or box[0] > box[2] or box[1] > box[3]:
        return [0.0] * 4, ""
    return box, label
