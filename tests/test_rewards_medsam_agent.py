"""MedSAM-Agent by hand, and how its bonus is farmed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.rewards.functional import mask_iou
from visenv.rewards.medsam_agent import BOUNDS, score
from visenv.rewards.rsagent import process_reward


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


def test_how_it_is_gamed_spoiling_a_mask_and_mending_it_pays():
    steady, oscillating = [0.6], [0.6, 0.1, 0.6, 0.1, 0.6]
    assert score(steady, stopped=True)["quality"] == pytest.approx(0.532)
    # Four masks more cost 0.04, two rises of 0.5 bring 0.1.
    assert score(oscillating, stopped=True)["quality"] == pytest.approx(0.58)
    assert sum(process_reward(oscillating)) == pytest.approx(sum(process_reward(steady)))
