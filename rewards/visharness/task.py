"""What a final result is worth: one function for each kind of truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from visenv.masks import Masks
from visenv.rewards.functional.counting import REWARD_HIGH, REWARD_LOW, count_error, count_reward
from visenv.rewards.functional.regions import as_region, fit_to_frame, mask_iou
from visenv.rewards.functional.text import exact_match, token_f1

NAN = float("nan")
TASK_RATIO_TOLERANCE = 0.05
"""How far height / width of a prediction may be from the truth's in the task reward, absolutely."""


@dataclass(frozen=True)
class TaskScore:
    """What a final result is worth, and the figures that it follows from; NaN where one does not apply."""

    reward: float
    """In [-3, 5]."""
    metric: float
    """In [0, 1]: IoU, 1 or 0 on a null, 1 - relative error of a count (0 if that is negative), F1 or exact match."""
    null: bool = False
    """Whether there was nothing to segment or to detect."""
    iou: float = NAN
    true_count: float = NAN
    predicted_count: float = NAN


MISSED = TaskScore(REWARD_LOW, 0.0)
"""No result where one is due."""


def score_segmentation(
    found: Masks | None, target: Masks | None, ignore: Masks | None = None, *, finished: bool
) -> TaskScore:
    """Score a segmentation: 8 * IoU - 3.

    Args:
        found: the predicted masks, which are united; None for no final result. Masks over another frame than the target
            are stretched to it by nearest neighbour.
        target: the masks to find, which are united; None, or no pixel outside of ``ignore``, for "nothing there".
        ignore: pixels that count for neither side, over the target's frame.
        finished: whether the trajectory ended with an answer and is valid. "Nothing there" is paid only then, and only
            without any result: at the turn limit nothing has been said.

    Raises:
        InvalidData: if height / width of prediction and target are more than 0.05 apart.
    """
    if target is None:
        return score_null(found is None and finished)
    region = as_region(target) if ignore is None else as_region(target).minus(as_region(ignore))
    if not region.areas[0]:
        return score_null(found is None and finished)
    if found is None:
        return MISSED
    iou = mask_iou(fit_to_frame(found, region.shape, absolute=TASK_RATIO_TOLERANCE), region, ignore)
    return TaskScore(scale_to_reward(iou), iou, iou=iou)


def score_counting(predicted: int | None, true: int) -> TaskScore:
    """Score a count by its relative error.

    Args:
        predicted: how many boxes the final result has; None for no final result, which is worth -3 even where there is
            nothing to count.
        true: how many there are.
    """
    if predicted is None:
        return MISSED
    metric = max(0.0, 1.0 - count_error(predicted, true, relative=True))
    return TaskScore(count_reward(predicted, true), metric, true_count=true, predicted_count=predicted)


def score_detection(f1: float | None, *, null: bool, finished: bool) -> TaskScore:
    """Score a detection: 8 * F1 - 3, F1 being the mean over IoU thresholds of .50 to .95.

    VisHarness publishes no reward for dense detection; this one is ours, on the scale of the others.

    Args:
        f1: of the final result; None for no final result.
        null: whether there is nothing to detect.
        finished: whether the trajectory ended with an answer and is valid.
    """
    if null:
        return score_null(f1 is None and finished)
    return MISSED if f1 is None else TaskScore(scale_to_reward(f1), f1)


def score_answer(answer: str | None, answers: Sequence[str], *, choices: bool) -> TaskScore:
    """Score a text: 8 * s - 3, s being exact match where choices were offered, token F1 otherwise.

    VisHarness has no such task; this reward is ours, on the scale of the others.

    Args:
        answer: the answer given, None if none was.
        answers: the accepted ones.
        choices: whether options were offered.
    """
    score = (exact_match if choices else token_f1)(answer, answers)
    return TaskScore(scale_to_reward(score), score)


def score_null(right: bool) -> TaskScore:
    """Score a trajectory where nothing is to be found."""
    return TaskScore(REWARD_HIGH if right else REWARD_LOW, float(right), null=True)


def scale_to_reward(score: float) -> float:
    """Map [0, 1] to [-3, 5]."""
    return 8.0 * score - 3.0
