"""The count reward of VisHarness and count errors, by hand and by properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.rewards.functional import count_error, count_reward

COUNTS = st.integers(0, 300)


@pytest.mark.parametrize(
    ("predicted", "true", "reward"),
    [
        (4, 4, 5.0),
        (3, 4, 3.0),
        (5, 4, 3.0),
        (2, 4, 1.0),
        (0, 4, -3.0),
        (8, 4, -3.0),
        (90, 4, -3.0),
        (90, 100, 4.2),
        (0, 0, 5.0),
        (1, 0, 3.0),
        (3, 0, -1.0),
        (4, 0, -3.0),
        (5, 0, -3.0),
    ],
)
def test_reward_by_hand(predicted, true, reward):
    assert count_reward(predicted, true) == pytest.approx(reward)


@pytest.mark.parametrize(
    ("predicted", "true", "absolute", "relative"), [(3, 4, 1, 0.25), (9, 6, 3, 0.5), (0, 0, 0, 0), (2, 0, 2, 2)]
)
def test_error_by_hand(predicted, true, absolute, relative):
    assert count_error(predicted, true) == absolute
    assert count_error(predicted, true, relative=True) == relative


@given(COUNTS, COUNTS)
def test_reward_is_bounded_and_highest_for_the_right_count_alone(predicted, true):
    reward = count_reward(predicted, true)
    assert -3.0 <= reward <= 5.0
    assert (reward == 5.0) == (predicted == true)


@given(COUNTS, st.integers(1, 300))
def test_a_worse_count_never_pays_more(error, true):
    assert count_reward(true + error + 1, true) <= count_reward(true + error, true)


@pytest.mark.parametrize(("predicted", "true"), [(-1, 3), (3, -1), (float("nan"), 3)])
def test_refuses_what_is_no_count(predicted, true):
    with pytest.raises(InvalidData, match="count"):
        count_reward(predicted, true)
