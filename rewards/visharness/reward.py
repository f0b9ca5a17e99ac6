"""The reward of the environments."""

from __future__ import annotations

import math
from typing import ClassVar

from visenv.errors import InvalidData
from visenv.rewards.functional.counting import REWARD_HIGH, REWARD_LOW
from visenv.rewards.metrics.dense_f1 import count_categories, mean_f1
from visenv.rewards.visharness.task import (
    TaskScore,
    score_answer,
    score_counting,
    score_detection,
    score_segmentation,
)
from visenv.types import AnswerTruth, BoxesTruth, MaskTruth, Outcome, PointsTruth, Truth, Turn


class VisHarnessReward:
    """A cost for every turn and the task reward at the end; an episode's sum is VisHarness's trajectory reward.

    The task reward is taken from the final result, at an answer or at a limit of turns or tokens alike:

    - ``MaskTruth``: 8 * IoU - 3, pixels to ignore removed from both sides. Where nothing is to be found, 5 if the agent
      *answered* without any result and -3 otherwise: running out of turns says nothing.
    - ``PointsTruth``: max(-3, 5 - 8 * relative error of the number of boxes); max(-3, 5 - 2 * boxes) where there is
      nothing to count.
    - ``BoxesTruth``: 8 * F1 - 3, F1 being the mean over IoU thresholds of .50 to .95. Ours: none is published.
    - ``AnswerTruth``: 8 * token F1 - 3, with exact match in place of F1 where choices were offered. Ours.

    No result where one is due is worth -3, a count of nothing included. An episode that ended as invalid (an expert
    broke: not the agent's fault) is worth 0.

    Args:
        step_cost: what every turn costs, faulty ones included. The published training runs use 0.

    Attributes:
        step_cost: as given.
        bounds: the least and the greatest sum of an episode; turns that cost something leave no least one.

    Raises:
        InvalidData: if ``step_cost`` is negative or not finite.

    Source:
        VisHarness, arXiv 2605.29894, trajectory reward, with the rules of its released code.

    Example:
        >>> from visenv.types import Answer, Outcome, PointsTruth, Turn
        >>> reward = VisHarnessReward(step_cost=0.2)
        >>> reward.turn(Turn(1, Answer("nothing"), ""))
        {'step_cost': -0.2}
        >>> reward.final(Outcome(None, "nothing", "answer", 1), PointsTruth([[3, 4]]))
        {'task': -3.0}
    """

    name: ClassVar[str] = "visharness"

    def __init__(self, step_cost: float = 0.0) -> None:
        if not (math.isfinite(step_cost) and step_cost >= 0):
            raise InvalidData(f"Expected argument `step_cost` to be a number of at least 0, but got {step_cost!r}.")
        self.step_cost = float(step_cost)
        self.bounds = (-math.inf if self.step_cost else REWARD_LOW, REWARD_HIGH - self.step_cost)

    def turn(self, turn: Turn) -> dict[str, float]:
        """Return the terms that one turn pays, whatever was done in it."""
        return {"step_cost": -self.step_cost if self.step_cost else 0.0}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        """Return the terms that the end of an episode pays.

        Args:
            outcome: what the episode ended with.
            truth: what is right.

        Raises:
            InvalidData: if the truth is of an unknown kind, or a mask is due and the result has boxes alone.
        """
        if outcome.termination == "invalid":
            return {"task": 0.0}
        return {"task": self.score(outcome, truth).reward}

    def score(self, outcome: Outcome, truth: Truth) -> TaskScore:
        """Return the task reward with the figures that it follows from."""
        found, finished = outcome.detections, outcome.termination == "answer"
        if isinstance(truth, MaskTruth):
            if found is not None and found.masks is None:
                raise InvalidData("Expected a result with masks for a MaskTruth, but got boxes alone: use BoxesTruth.")
            masks = None if found is None else found.masks
            return score_segmentation(masks, truth.target, truth.ignore, finished=finished)
        if isinstance(truth, PointsTruth):
            return score_counting(None if found is None else len(found), len(truth.points))
        if isinstance(truth, BoxesTruth):
            f1 = None if found is None else mean_f1(tuple(count_categories(found, truth)))
            return score_detection(f1, null=truth.is_null, finished=finished)
        if isinstance(truth, AnswerTruth):
            return score_answer(outcome.answer, truth.answers, choices=bool(truth.choices))
        raise InvalidData(f"Expected a truth of masks, points, boxes or answers, but got a {type(truth).__name__}.")

    def __repr__(self) -> str:
        return f"VisHarnessReward(step_cost={self.step_cost})"
