"""What a tool gained, by hand and in general, and the mask of two layers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.rewards.imagent import IMAgentReward, loss_weights, tool_gain

GROUPS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=16)


@pytest.mark.parametrize(
    ("right", "used", "expected"),
    [
        # 2 of 2 with, 1 of 4 without.
        ([1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0], [0.375, 0.375, 0, 0, 0, 0]),
        # 1 of 2 with, 0 of 2 without: only the right one is paid.
        ([1, 0, 0, 0], [1, 1, 0, 0], [0.25, 0, 0, 0]),
        # It did not help, or harmed.
        ([1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]),
        ([1, 0, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]),
        # Nothing to compare with.
        ([1, 1], [1, 1], [0, 0]),
        ([1, 1], [0, 0], [0, 0]),
        ([], [], []),
    ],
)
def test_by_hand(right, used, expected):
    assert tool_gain(right, used).tolist() == expected


@given(GROUPS, st.floats(0, 1))
def test_it_is_paid_only_to_those_that_used_it_and_are_right(group, coefficient):
    right, used = (np.array(each, bool) for each in zip(*group, strict=True))
    gains = tool_gain(right, used, coefficient=coefficient)
    assert (gains[~(right & used)] == 0).all()
    assert ((gains >= 0) & (gains <= coefficient)).all()


def test_errors():
    for right, used, coefficient in (([1], [1, 0], 0.5), ([[1]], [[1]], 0.5), ([1], [1], 1.5)):
        with pytest.raises(InvalidData):
            tool_gain(right, used, coefficient=coefficient)


@pytest.mark.parametrize("wrong", [["yes"], [float("nan")], [2], [0.5], [None], [[1], [1, 0]], None, "1"])
def test_what_is_no_flag_is_refused_since_it_would_count_as_true(wrong):
    for right, used in ((wrong, [1]), ([1], wrong)):
        with pytest.raises(InvalidData, match="flags"):
            tool_gain(right, used)
    with pytest.raises(InvalidData, match=r"flags|number of tokens|weights"):
        loss_weights([[("assistant", wrong)]], wrong)


@pytest.mark.parametrize("segments", [["assistant"], [("assistant", 1.5)], [("assistant", "3")], [("assistant",)], [4]])
def test_tokens_are_counted_in_whole_numbers(segments):
    with pytest.raises(InvalidData):
        loss_weights([segments], [1])


def test_the_tools_of_the_reward_are_names():
    """A text is a sequence of letters, of which none is a tool: nothing would ever be paid."""
    for keywords in ({"tools": "Reflect"}, {"tools": [1]}, {"right": "1"}, {"right": float("nan")}, {"gain": None}):
        with pytest.raises(InvalidData):
            IMAgentReward(**keywords)
    assert IMAgentReward(tools=["Reflect"], rate_without_tool=np.float32(0)).bounds == (0.0, 1.5)


def test_two_layers_by_hand():
    looked_again = [("system", 2), ("user", 1), ("assistant", 3), ("tool", 4), ("assistant", 1)]
    at_once, invalid = [("user", 2), ("assistant", 2)], [("assistant", 5)]
    weights = loss_weights([looked_again, at_once, invalid], [1, 1, 0])
    assert weights[0].tolist() == [0, 0, 0, 0.125, 0.125, 0.125, 0, 0, 0, 0, 0.125]
    assert weights[1].tolist() == [0, 0, 0.25, 0.25]
    assert weights[2].tolist() == [0] * 5
    with pytest.raises(InvalidData):
        loss_weights([at_once], [1, 1])


def test_how_it_is_gamed_a_group_earns_more_where_it_fails_on_purpose_without_the_tool():
    used = [True] * 7 + [False]
    honest, sandbagged = [True] * 8, [True] * 7 + [False]
    assert sum(honest) + tool_gain(honest, used).sum() == 8.0
    assert sum(sandbagged) + tool_gain(sandbagged, used).sum() == 10.5
