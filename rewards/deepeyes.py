"""The reward of DeepEyes (arXiv 2505.14362) and the rules of its one tool, a zoom.

    0.8 · accuracy + 0.2 · format (0 or −1) + 1.2 · [a tool was used and the answer is right]

How it can be gamed: the bonus asks whether the tool was used, not whether it helped. Zooming on the whole picture
before an answer that was known anyway is worth 1.2, more than the answer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from visenv.errors import InvalidData
from visenv.rewards.answer_text import as_share
from visenv.rewards.functional.text import exact_match
from visenv.types import FloatArray, Malformed

BOUNDS = (-0.2, 2.0)
"""The least and the greatest sum of the terms."""
ACCURACY, FORMAT, TOOL = 0.8, 0.2, 1.2
"""What an answer, its form and a tool weigh."""
LONG_ANSWER = 1000
"""Characters from which on an answer is wrong: written to please a judge."""
RIGHT = 0.5
"""Accuracy above which an answer is right."""
MIN_SIDE, MAX_ASPECT = 30, 100
"""Pixels that both sides of a zoom have to exceed, and the most that one may be of the other."""


def score(
    answer: str | None,
    answers: str | Sequence[str],
    *,
    used_tool: bool,
    well_formed: bool,
    accuracy: float | None = None,
) -> dict[str, float]:
    """Score an episode.

    Args:
        answer: the answer given; None if none was.
        answers: the accepted answer or answers.
        used_tool: whether a call of the zoom tool was *carried out*. The release counts the pictures in the text.
        well_formed: whether all tags of all turns are in place.
        accuracy: a judge's verdict in [0, 1], as in the release; exact match if left out.

    Returns:
        ``accuracy``, ``format`` (0 or −0.2) and ``tool``. An answer of 1,000 characters or more is wrong, and of bad
        form, as in the release.

    Raises:
        InvalidData: if no answer is accepted at all, or the verdict is out of range.

    Source:
        DeepEyes, arXiv 2505.14362, and its released code.

    Example:
        >>> score("red", "Red.", used_tool=True, well_formed=True)
        {'accuracy': 0.8, 'format': 0.0, 'tool': 1.2}
    """
    verdict = exact_match(answer, answers) if accuracy is None else as_share(accuracy, "accuracy")
    long = answer is not None and len(answer) >= LONG_ANSWER
    if long or answer is None:
        verdict = 0.0
    return {
        "accuracy": ACCURACY * verdict,
        "format": -FORMAT if long or not well_formed else 0.0,
        "tool": TOOL if used_tool and verdict > RIGHT else 0.0,
    }


def zoom_box(bbox_2d: ArrayLike, size: tuple[int, int]) -> FloatArray | Malformed:
    """What the zoom tool shows of a picture, or why it refuses.

    Args:
        bbox_2d: (4,) as the agent gives it, xyxy pixels.
        size: (width, height) of the picture.

    Returns:
        (4,) the box, clamped to the picture; or what is wrong with it: both sides have to exceed 30 pixels once
        clamped, and neither be more than 100 times the other.

    Raises:
        InvalidData: if the size is none.

    Source:
        DeepEyes' released code.

    Example:
        >>> zoom_box([-5, 10, 120, 80], (100, 100)).tolist(), zoom_box([0, 0, 30, 90], (100, 100)).code
        ([0.0, 10.0, 100.0, 80.0], 'bad_box')
    """
    width, height = size
    if not (width > 0 and height > 0):
        raise InvalidData(f"Expected argument `size` to be (width, height), but got {size!r:.80}.")
    try:
        box = np.asarray(bbox_2d)
    except ValueError:
        box = np.zeros(0)
    if box.shape != (4,) or box.dtype.kind not in "iuf" or not np.isfinite(box).all():
        return Malformed("bad_box", "Expected bbox_2d to be four numbers: left, top, right, bottom.")
    clamped = np.array([max(0.0, box[0]), max(0.0, box[1]), min(width, box[2]), min(height, box[3])])
    sides = clamped[2:] - clamped[:2]
    if not (sides > MIN_SIDE).all():
        return Malformed(
            "bad_box",
            f"Expected both sides of bbox_2d to exceed {MIN_SIDE} pixels inside the picture of {width}x{height}.",
        )
    if sides.max() / sides.min() > MAX_ASPECT:
        return Malformed("bad_box", f"Expected no side of bbox_2d to be more than {MAX_ASPECT} times the other.")
    return clamped
