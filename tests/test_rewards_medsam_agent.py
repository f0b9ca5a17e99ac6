"""MedSAM-Agent by hand, and how its bonus is farmed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.episode import ProcessReward
from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.rewards.functional import mask_iou
from visenv.rewards.medsam_agent import BOUNDS, MedSAMAgentReward, candidate_ious, score
from visenv.rewards.rsagent import process_reward
from visenv.types import AnswerTruth, Detections, MaskTruth, Outcome, ToolCall, Turn
from visenv.workspace import Candidate, Effect, Workspace


@pytest.mark.parametrize(
    ("ious", "stopped", "form", "quality"),
    [
        # One mask: (0.6 + 1.2 / 1.6) / 2 = 0.675, less 0.01.
        ([0.6], True, 0.2, 0.8 * 0.665),
        ([0.6], False, 0.1, 0.8 * 0.665),
        # Up: (0.5 + 1 / 1.5) / 2 = 0.58333, less 0.02, and 0.1 of 0.3.
        ([0.2, 0.5], True, 0.2, 0.8 * (0.583333333 - 0.02 + 0.03)),
        # Down: (0.25 + 0.4) / 2 = 0.325, less 0.5 and 0.02: nothing.
        ([0.75, 0.25], True, 0.2, 0.0),
        # Perfect at last: (1 + 1) / 2, less 0.02, and 0.1 of 0.5: more than 1.
        ([0.5, 1.0], True, 0.2, 0.8),
        ([], True, 0.1, 0.0),
        ([], False, 0.0, 0.0),
    ],
)
def test_by_hand(ious, stopped, form, quality):
    assert score(ious, stopped=stopped) == pytest.approx({"format": form, "quality": quality})


def test_two_empty_masks_count_as_1():
    nothing = np.zeros((1, 4, 4), bool)
    assert score([mask_iou(nothing, nothing)], stopped=True)["quality"] == pytest.approx(0.8 * 0.99)


@given(st.lists(st.floats(0, 1), max_size=8), st.booleans())
def test_bounds(ious, stopped):
    assert BOUNDS[0] <= sum(score(ious, stopped=stopped).values()) <= BOUNDS[1]


def test_an_iou_is_a_share():
    with pytest.raises(InvalidData, match="ious"):
        score([1.5], stopped=True)
    with pytest.raises(InvalidData, match="ious"):
        score(None, stopped=True)


TURN = Turn(1, ToolCall("SegmentPoints"), "")
TRUTH = MaskTruth(Masks.from_boxes([[0, 0, 10, 10]], (20, 20)))


def candidate(name, width, image="img_0"):
    box = [[0, 0, width, 10]]
    return Candidate(name, image, Detections(box, Masks.from_boxes(box, (20, 20))))


def workspaces(*candidates):
    """Before the first turn, and after each, which makes a candidate."""
    found = [Workspace([np.zeros((20, 20, 3), np.uint8)] * 2)]
    for each in candidates:
        found.append(found[-1].after(Effect("made", candidates=(each,))))
    return found


@given(st.lists(st.integers(1, 20), max_size=5), st.booleans())
def test_turn_by_turn_it_comes_to_the_same(widths, stopped):
    reward = MedSAMAgentReward()
    assert isinstance(reward, ProcessReward)
    seen = workspaces(*(candidate(f"c{index}", width) for index, width in enumerate(widths)))
    paid = reward.final(Outcome(None, None, "answer" if stopped else "max_turns", 5), TRUTH)["stop"]
    for before, after in zip(seen, seen[1:], strict=False):
        paid += sum(reward.progress(TURN, before, after, TRUTH).values())
    ious = [min(width, 10) / max(width, 10) for width in widths]
    assert candidate_ious(seen[-1], TRUTH) == pytest.approx(ious)
    assert paid == pytest.approx(sum(score(ious, stopped=stopped).values()))


def test_what_makes_no_candidate_or_has_no_mask_for_its_truth_pays_nothing():
    first, second = workspaces(candidate("c1", 10))
    nothing = {"interaction": 0.0, "quality": 0.0}
    assert MedSAMAgentReward().turn(TURN) == {}
    assert MedSAMAgentReward().progress(TURN, second, second, TRUTH) == nothing
    assert MedSAMAgentReward().progress(TURN, first, second, AnswerTruth(("red",))) == nothing


def test_candidates_of_other_images_and_where_nothing_is_there():
    last = workspaces(candidate("c1", 10, "img_1"), candidate("c2", 5))[-1]
    assert candidate_ious(last, TRUTH) == [0.0, 0.5]
    assert candidate_ious(last, MaskTruth(None)) == [0.0, 0.0]


def test_how_it_is_gamed_spoiling_a_mask_and_mending_it_pays():
    steady, oscillating = [0.6], [0.6, 0.1, 0.6, 0.1, 0.6]
    assert score(steady, stopped=True)["quality"] == pytest.approx(0.532)
    # Four masks more cost 0.04, two rises of 0.5 bring 0.1.
    assert score(oscillating, stopped=True)["quality"] == pytest.approx(0.58)
    assert sum(process_reward(oscillating)) == pytest.approx(sum(process_reward(steady)))
