"""How well an episode ended, and whether that is good enough to learn from (FACTS of VisHarness: IoU, count error)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from visenv.errors import InvalidData
from visenv.evaluation.records import read_outcome, read_truth
from visenv.rewards.functional.counting import count_error
from visenv.rewards.metrics.dense_f1 import count_categories
from visenv.rewards.visharness.task import score_answer, score_null, score_segmentation
from visenv.types import AnswerTruth, BoxesTruth, Detections, MaskTruth, Outcome, PointsTruth, Truth

MIN_IOU, MAX_COUNT_ERROR = 0.7, 0.3
"""What is learned from, at the least and at the most (VisHarness, arXiv 2605.29894)."""
SCORED = ("masks", "boxes", "points", "answers")
"""Types of truths that a record holds whole."""


@dataclass(frozen=True)
class Verdict:
    """What an episode is worth as an example."""

    score: float
    """In [0, 1]: IoU of masks, F1 at an IoU of .50 of boxes, token F1 or exact match of an answer, 1 - relative error
    of a count (0 if that is negative); 1 or 0 where there was nothing to find."""
    why: str = ""
    """Why it is no example: ``invalid``, ``unfinished``, ``unanswered``, ``low_reward``, ``low_score``, ``count_error``
    or ``not_scored``."""
    detail: str = ""
    """The same in figures."""

    @property
    def good(self) -> bool:
        """Whether it is an example."""
        return not self.why


def judge(
    record: Mapping[str, Any],
    *,
    min_iou: float = MIN_IOU,
    max_count_error: float = MAX_COUNT_ERROR,
    answered: bool = False,
    min_reward: float | None = None,
) -> Verdict:
    """Judge a recorded episode by its final result, and by its reward if that is asked for.

    A truth that is not in the record (a picture to be restored) leaves the reward alone to judge by.

    Args:
        record: a line of ``trajectories.jsonl``.
        min_iou: the least score of an example, but for counts.
        max_count_error: the greatest relative error of a count.
        answered: whether an example has to end with an answer.
        min_reward: the least sum of rewards of an example; None for any.

    Raises:
        InvalidData: if the outcome or the truth cannot be read.

    Example:
        >>> truth = {"type": "points", "points": [[1, 2], [3, 4], [5, 6], [7, 8]]}
        >>> boxes = [[0, 0, 2, 3], [2, 2, 5, 5], [4, 4, 8, 8]]
        >>> found = {"boxes": boxes, "scores": [1, 1, 1], "masks": None}
        >>> outcome = {**found, "answer": "3", "termination": "answer", "turns": 3}
        >>> judge({"truth": truth, "outcome": outcome, "reward": 3.0}).score
        0.75
    """
    try:
        outcome = read_outcome(record["outcome"])
        known = record["truth"]["type"] in SCORED
        truth = read_truth(record["truth"]) if known else None
        score = float(record["reward"]) if truth is None else score_of(outcome, truth)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        what = f"{type(error).__name__}: {error}"
        raise InvalidData(f"Expected an outcome and a truth in episode {record.get('episode')}, but {what}.") from error
    if outcome.termination == "invalid" or record.get("invalid"):
        return Verdict(score, "invalid", str(record.get("invalid") or ""))
    if outcome.termination is None:
        return Verdict(score, "unfinished", "it had not ended when it was recorded")
    if answered and outcome.termination != "answer":
        return Verdict(score, "unanswered", f"it ended by {outcome.termination}")
    if min_reward is not None and not record["reward"] >= min_reward:
        return Verdict(score, "low_reward", f"{record['reward']:.3f} is less than {min_reward:g}")
    if truth is None:
        detail = f"a truth of the type {record['truth']['type']!r:.40} is judged by its reward alone"
        return Verdict(score) if min_reward is not None else Verdict(score, "not_scored", detail)
    if isinstance(truth, PointsTruth):
        error_ = _count_error(outcome, truth)
        if error_ > max_count_error:
            return Verdict(score, "count_error", f"{error_:.3f} is more than {max_count_error:g}")
        return Verdict(score)
    return Verdict(score) if score >= min_iou else Verdict(score, "low_score", f"{score:.3f} is less than {min_iou:g}")


def score_of(outcome: Outcome, truth: Truth) -> float:
    """What a final result is worth; see ``Verdict.score``.

    Args:
        outcome: what an episode ended with.
        truth: what is right.

    Raises:
        InvalidData: if the truth is of another type.
    """
    found, finished = outcome.detections, outcome.termination == "answer"
    if isinstance(truth, PointsTruth):
        return max(0.0, 1.0 - _count_error(outcome, truth))
    if isinstance(truth, AnswerTruth):
        return score_answer(outcome.answer, truth.answers, choices=bool(truth.choices)).metric
    if truth.is_null:
        return score_null(found is None and finished).metric
    if isinstance(truth, MaskTruth):
        masks = None if found is None else found.masks
        return score_segmentation(masks, truth.target, truth.ignore, finished=finished).metric
    if isinstance(truth, BoxesTruth):
        return 0.0 if found is None else _f1_at_half(found, truth)
    raise InvalidData(f"Expected a truth of {', '.join(SCORED)}, but got a {type(truth).__name__}.")


def _count_error(outcome: Outcome, truth: PointsTruth) -> float:
    """The relative error of the number of boxes; saying that there is none counts as none only by an answer."""
    if outcome.detections is None and outcome.termination != "answer":
        return 1.0
    predicted = 0 if outcome.detections is None else len(outcome.detections)
    return float(count_error(predicted, len(truth.points), relative=True))


def _f1_at_half(found: Detections, truth: BoxesTruth) -> float:
    hits = predicted = true = 0
    for counts in count_categories(found, truth):
        hits, predicted, true = hits + int(counts.matched[0]), predicted + counts.predicted[0], true + counts.true
    return 2 * hits / (predicted + true) if predicted + true else 0.0
