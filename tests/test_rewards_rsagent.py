"""RSAgent-style: the process term by hand and in general, and the reward in an episode."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import visenv  # noqa: F401 - registers the environments
from visenv.episode import Reward
from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.rewards.rsagent import RSAgentReward, process_reward
from visenv.types import Answer, Detections, Malformed, MaskTruth, Outcome, ToolCall, Turn

TARGET = MaskTruth(Masks.from_boxes([[0, 0, 4, 4]], (8, 8)))
NOTHING = MaskTruth(Masks.empty((8, 8)))
HALF = Detections([[0, 0, 4, 2]], Masks.from_boxes([[0, 0, 4, 2]], (8, 8)))
SHARES = st.floats(0, 1)


def outcome(detections, termination="answer"):
    return Outcome(detections, "done" if termination == "answer" else None, termination, 3)


def test_process_by_hand():
    assert process_reward([0.25, 0.75, 0.5]) == [0.25, 0.5, -0.25]
    assert process_reward([0.25], start=0.5) == [-0.25]
    assert process_reward([]) == []


@given(st.lists(SHARES, min_size=1, max_size=40), SHARES)
def test_process_adds_up_to_the_last_less_the_first(ious, start):
    terms = process_reward(ious, start=start)
    assert len(terms) == len(ious)
    assert sum(terms) == pytest.approx(ious[-1] - start)


@given(SHARES, SHARES, st.lists(SHARES, max_size=10), st.integers(1, 20))
def test_oscillation_earns_nothing(low, high, before, times):
    plain = [*before, low]
    oscillating = [*plain, *[high, low] * times]
    assert sum(process_reward(oscillating)) == pytest.approx(sum(process_reward(plain)), abs=1e-9)


@given(st.permutations([0.1, 0.4, 0.6, 0.7]), SHARES)
def test_the_way_does_not_matter_only_where_it_leads(way, last):
    assert sum(process_reward([*way, last])) == pytest.approx(last)


@pytest.mark.parametrize("wrong", [[1.1], [-0.1], [float("nan")], ["high"]])
def test_an_iou_is_a_share(wrong):
    with pytest.raises(InvalidData, match=r"\[0, 1\]"):
        process_reward(wrong)


@pytest.mark.parametrize("wrong", [None, 0.5])
def test_ious_are_a_sequence(wrong):
    with pytest.raises(InvalidData, match="sequence"):
        process_reward(wrong)


def test_numbers_of_numpy_are_numbers():
    assert process_reward(np.array([0.5, 0.25], np.float32)) == [0.5, -0.25]
    assert process_reward(np.array([0, 1])) == [0, 1]


def test_an_episode_by_hand():
    reward = RSAgentReward(final=2.0, process=1.0, format=0.25, max_turns=4)
    assert isinstance(reward, Reward)
    assert reward.bounds == (-1.0, 3.0)
    assert reward.final(outcome(HALF), TARGET) == {"final": 1.0}
    assert reward.final(outcome(HALF), TARGET, ious=[0.25, 0.75, 0.5]) == {"final": 1.0, "process": 0.5}
    assert reward.final(outcome(None), TARGET, ious=[0.0]) == {"final": 0.0, "process": 0.0}


def test_turn_by_turn_comes_to_the_same_as_at_the_end():
    reward, ious = RSAgentReward(), [0.25, 0.75, 0.5]
    paid = sum(
        reward.improvement(before, after)["process"] for before, after in zip([0, *ious[:-1]], ious, strict=True)
    )
    assert paid == pytest.approx(reward.final(outcome(HALF), TARGET, ious=ious)["process"])


def test_where_nothing_is_there_only_an_answer_without_a_result_pays():
    reward = RSAgentReward()
    assert reward.final(outcome(None), NOTHING, ious=[1.0]) == {"final": 1.0, "process": 0.0}
    assert reward.final(outcome(None, "max_turns"), NOTHING)["final"] == 0.0
    assert reward.final(outcome(HALF), NOTHING)["final"] == 0.0


def test_an_experts_fault_pays_nothing():
    assert RSAgentReward().final(outcome(HALF, "invalid"), TARGET, ious=[0.5]) == {"final": 0.0, "process": 0.0}


def test_malformed_turns_cost_and_well_formed_ones_earn_nothing():
    reward = RSAgentReward(format=0.1)
    wrong = Malformed("no_boxes", "…")
    assert reward.turn(Turn(1, ToolCall("Zoom"), "")) == {"format": 0.0}
    assert reward.turn(Turn(1, ToolCall("Zoom"), "", error=wrong)) == {"format": 0.0}, "Wrong, but well formed."
    assert reward.turn(Turn(1, wrong, "")) == {"format": -0.1}
    assert reward.turn(Turn(1, Answer("cut"), "", cut=True)) == {"format": -0.1}


def test_bounds_without_a_limit_of_turns():
    assert RSAgentReward().bounds == (-float("inf"), 1.5)
    assert RSAgentReward(format=0.0).bounds == (0.0, 1.5)
    for wrong in (
        {"final": -1.0},
        {"process": float("inf")},
        {"format": float("nan")},
        {"max_turns": -1},
        {"final": "1"},
        {"process": None},
    ):
        with pytest.raises(InvalidData):
            RSAgentReward(**wrong)


def test_it_is_paid_in_an_environment():
    env = gym.make("VisHarness/RefSeg-v0", experts="oracle", reward=RSAgentReward(max_turns=10))
    env.reset(seed=0)
    env.step({"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "it"}})
    env.step({"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}})
    _, _, terminated, _, info = env.step({"name": "Answer", "arguments": {"text": "done"}})
    assert terminated
    assert info["reward_terms"] == {"format": 0.0, "process": 0.0, "final": 1.0}


def test_how_it_is_gamed_a_candidate_that_is_never_submitted_keeps_the_process_term():
    kept = RSAgentReward().final(outcome(None, "max_turns"), TARGET, ious=[0.5, 1.0])
    assert kept == {"final": 0.0, "process": 0.5}
