"""What turns, tokens and trajectories count, by hand and in general."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.rewards.credit import (
    group_advantages,
    potential_differences,
    token_mask,
    turn_advantages,
    turn_cost,
    two_layer_mask,
)
from visenv.types import Answer, Malformed, ToolCall, Turn

CUT = Turn(1, Malformed("cut", "…"), "", error=Malformed("cut", "…"), cut=True)
FORMAT = Turn(2, Malformed("bad_json", "…"), "", error=Malformed("bad_json", "…"))
ARGUMENTS = Turn(3, ToolCall("MergeBoxMask"), "", error=Malformed("no_boxes", "…"))
GOOD = Turn(4, Answer("done"), "")


def test_costs_are_exclusive_the_first_applies():
    assert [turn_cost(turn) for turn in (CUT, FORMAT, ARGUMENTS, GOOD)] == [0.5, 0.2, 0.2, 0.0]


@pytest.mark.parametrize(
    ("advantage", "expected"),
    [(1.0, [-0.5, -0.2, -0.2, 1.0]), (-0.3, [-0.5, -0.3, -0.3, -0.3]), (-2.0, [-2.0, -2.0, -2.0, -2.0])],
)
def test_a_faulty_turn_gains_nothing_from_a_good_trajectory(advantage, expected):
    assert turn_advantages(advantage, [CUT, FORMAT, ARGUMENTS, GOOD]).tolist() == expected
    assert turn_advantages(advantage, []).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_potential_differences_telescope(potentials):
    assert potential_differences(potentials).sum() == pytest.approx(potentials[-1] - potentials[0])


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 20))
def test_going_to_and_fro_earns_nothing(low, high, times):
    assert potential_differences([low, high] * times + [low]).sum() == pytest.approx(0, abs=1e-9)


def test_potentials_by_hand_and_their_errors():
    assert potential_differences([0.2, 0.6, 0.5], gamma=0.5).tolist() == pytest.approx([0.1, -0.35])
    for wrong, gamma in (([], 1.0), ([np.nan], 1.0), ([[0.1]], 1.0), ([0.1], 1.5)):
        with pytest.raises(InvalidData):
            potential_differences(wrong, gamma)


@given(st.lists(st.floats(-3, 5), min_size=1, max_size=16), st.data())
def test_advantages_of_a_group_have_mean_0_and_deviation_1_over_the_valid(rewards, data):
    valid = data.draw(st.lists(st.booleans(), min_size=len(rewards), max_size=len(rewards)))
    group = group_advantages(rewards, valid)
    counted = np.asarray(rewards)[valid]
    assert group.kept == (len(counted) >= 4 and counted.std() >= 0.3)
    assert group.advantages[~np.asarray(valid)].tolist() == [0.0] * (len(rewards) - len(counted))
    if group.kept:
        assert group.advantages[valid].mean() == pytest.approx(0, abs=1e-9)
        assert group.advantages[valid].std() == pytest.approx(1)
    else:
        assert not group.advantages.any()
        assert group.why == ("few_valid" if len(counted) < 4 else "small_std")


def test_groups_and_their_errors():
    assert group_advantages([], min_valid=0).why == "few_valid"
    assert group_advantages([1.0, 1.0], min_valid=1, min_std=0.0).why == "small_std", (
        "A deviation of 0 divides nothing."
    )
    with pytest.raises(InvalidData, match="as many flags"):
        group_advantages([1, 2], [True])


def test_only_what_the_agent_wrote_carries_loss():
    mask = token_mask([("system", 3), ("user", 2), ("assistant", 2), ("tool", 4), ("assistant", 1)])
    assert mask.nonzero()[0].tolist() == [5, 6, 11]
    assert token_mask([]).tolist() == []
    with pytest.raises(InvalidData):
        token_mask([("user", -1)])


@given(st.lists(st.tuples(st.lists(st.booleans(), max_size=8), st.floats(0, 2)), max_size=6))
def test_weights_of_a_batch_sum_to_1_and_lie_on_tokens_that_count(batch):
    tokens, weights = [tokens for tokens, _ in batch], [weight for _, weight in batch]
    made = two_layer_mask(tokens, weights)
    some = any(any(own) and weight > 0 for own, weight in batch)
    assert sum(each.sum() for each in made) == pytest.approx(1.0 if some else 0.0)
    for each, own, weight in zip(made, tokens, weights, strict=True):
        assert each.shape == (len(own),)
        assert not each[~np.asarray(own, bool)].any()
        assert weight > 0 or not each.any()


def test_a_mask_of_two_layers_needs_a_weight_a_trajectory():
    for weights in ([1], [1, -1], [1, np.inf]):
        with pytest.raises(InvalidData):
            two_layer_mask([[True], [True]], weights)
