"""Unit tests of rewards: one of your own, and the published one.

    pytest examples/unit_test_a_reward.py

A reward is a pure function of an `Outcome` (what an episode ended with) and a truth: a test builds both by hand, and
needs no environment, no model and no trainer. Four kinds of test are worth having of every reward: cases computed by
hand, the bounds that it states, what an agent must not get away with, and an episode whose rewards add up. It prints:

    ........................................ [100%]
    40 passed in ...
"""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import visenv  # noqa: F401 - registers the environments
from visenv.episode import Reward
from visenv.masks import Masks
from visenv.rewards.visharness import VisHarnessReward
from visenv.types import (
    Answer,
    Detections,
    Malformed,
    MaskTruth,
    Outcome,
    PointsTruth,
    Termination,
    ToolCall,
    Truth,
    Turn,
)


class CloseCount:
    """The reward under test: 1 for the right count, 0.5 for one off, and a tenth less for each call that went wrong."""

    bounds = (-1.0, 1.0)  # of at most ten turns

    def turn(self, turn: Turn) -> dict[str, float]:
        return {"fault": -0.1 if turn.error else 0.0}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        if not isinstance(truth, PointsTruth):
            raise TypeError(f"Expected points to count, but got a {type(truth).__name__}.")
        if outcome.detections is None:
            return {"count": float(truth.is_null and outcome.termination == "answer")}
        off = abs(len(outcome.detections) - len(truth.points))
        return {"count": {0: 1.0, 1: 0.5}.get(off, 0.0)}


# --- what the tests are made of ------------------------------------------------------------------------------------

FRAME = (60, 100)  # height and width of the picture
TARGET = MaskTruth(Masks.from_boxes([[10, 10, 50, 30]], FRAME))  # 40 x 20 pixels
NOTHING_THERE = MaskTruth(Masks.empty(FRAME))
THREE = PointsTruth(np.array([[5.0, 5.0], [25.0, 5.0], [45.0, 5.0]]))


def answered(*boxes: list[int], termination: Termination = "answer") -> Outcome:
    """An episode that ended with these boxes, and masks of the same shape; without any, with no result."""
    found = Detections(np.array(boxes), Masks.from_boxes(boxes, FRAME)) if boxes else None
    return Outcome(found, "done" if termination == "answer" else None, termination, turns=3)


# --- your own reward -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "paid"), [(0, 0.0), (1, 0.0), (2, 0.5), (3, 1.0), (4, 0.5), (5, 0.0)])
def test_counts_pay_what_they_should(count: int, paid: float) -> None:
    boxes = [[10 * i, 0, 10 * i + 8, 8] for i in range(count)]
    assert CloseCount().final(answered(*boxes), THREE) == {"count": paid}


def test_a_fault_costs_a_tenth() -> None:
    fault = Turn(1, ToolCall("MergeBoxMask"), "Error", error=Malformed("no_boxes", "There are no boxes yet."))
    assert CloseCount().turn(fault) == {"fault": -0.1}
    assert CloseCount().turn(Turn(2, Answer("three"), "The end.")) == {"fault": 0.0}


# --- the published reward ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "truth", "paid"),
    [
        (answered([10, 10, 50, 30]), TARGET, 5.0),  # the target itself: 8 * 1 - 3
        (answered([10, 10, 30, 30]), TARGET, 1.0),  # its left half: IoU 400 / 800
        (answered([10, 10, 50, 50]), TARGET, 1.0),  # twice too much: IoU 800 / 1600
        (answered([10, 10, 30, 30], [30, 10, 50, 30]), TARGET, 5.0),  # two parts make a whole
        (answered([60, 40, 90, 50]), TARGET, -3.0),  # elsewhere
        (answered(), TARGET, -3.0),  # no result where one is due
        (answered(), NOTHING_THERE, 5.0),  # rightly nothing
        (answered([10, 10, 50, 30]), NOTHING_THERE, -3.0),  # something where nothing is
        (answered(termination="max_turns"), NOTHING_THERE, -3.0),  # running out of turns says nothing
        (answered([10, 10, 50, 30], termination="invalid"), TARGET, 0.0),  # an expert broke: nobody's fault
    ],
)
def test_regions_pay_what_the_paper_says(outcome: Outcome, truth: Truth, paid: float) -> None:
    assert VisHarnessReward().final(outcome, truth)["task"] == pytest.approx(paid)


def test_what_is_ignored_counts_for_neither_side() -> None:
    right_half = Masks.from_boxes([[30, 10, 50, 30]], FRAME)
    truth = MaskTruth(TARGET.target, ignore=right_half)
    assert VisHarnessReward().final(answered([10, 10, 30, 30]), truth) == {"task": 5.0}


def test_spam_does_not_pay() -> None:
    everything = answered([0, 0, 100, 60])
    assert VisHarnessReward().final(everything, TARGET)["task"] < 0


@pytest.mark.parametrize("seed", range(20))
def test_no_outcome_leaves_the_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 50, (rng.integers(1, 4), 2))
    outcome = answered(*np.hstack([corners, corners + rng.integers(1, 10, corners.shape)]).tolist())
    cases: list[tuple[Reward, Truth]] = [
        (VisHarnessReward(), TARGET),
        (VisHarnessReward(), THREE),
        (CloseCount(), THREE),
    ]
    for reward, truth in cases:
        low, high = reward.bounds
        assert low <= sum(reward.final(outcome, truth).values()) <= high


# --- in an environment ---------------------------------------------------------------------------------------------


def test_the_rewards_of_an_episode_add_up() -> None:
    env = gym.make("VisHarness/RefCount-v0", experts="oracle", reward=CloseCount())
    env.reset(seed=0)
    paid = [
        env.step({"name": name, "arguments": arguments})[1]
        for name, arguments in [
            ("MergeBoxMask", {"images": ["img_0"]}),  # too early: a fault
            ("PhraseToBoxMask", {"images": ["img_0"], "phrase": "all"}),
            ("MergeBoxMask", {"images": ["img_0"]}),
            ("Answer", {"text": "counted"}),
        ]
    ]
    assert paid == [-0.1, 0.0, 0.0, 1.0]


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-q"]))
