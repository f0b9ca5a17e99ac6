"""Pixel-Reasoner by hand, and how its curiosity is gamed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.rewards.pixel_reasoner import bounds, score


@pytest.mark.parametrize(
    ("right", "calls", "rate", "broken", "expected"),
    [
        # (0.3 - 0.125) / 2 / 0.125 = 0.7, a quarter of which is 0.175.
        (True, 1, 0.125, False, [1.0, 0.175, 0.0]),
        (True, 3, 0.25, False, [1.0, 0.025, -0.1]),
        (True, 1, 0.3, False, [1.0, 0.0, 0.0]),
        (True, 1, 1.0, False, [1.0, 0.0, 0.0]),
        (False, 2, 0.125, False, [0.0, 0.175, -0.05]),
        (True, 1, 0.5, True, [0.0, 0.0, 0.0]),
        (True, 0, 0.0, False, [1.0, 0.0, 0.0]),
        (True, 0, 0.125, False, [1.0, 0.0, 0.0]),
    ],
)
def test_by_hand(right, calls, rate, broken, expected):
    terms = score(right=right, calls=calls, rate=rate, broken=broken)
    assert list(terms.values()) == pytest.approx(expected)


@given(st.booleans(), st.integers(0, 8), st.integers(1, 16), st.data())
def test_bounds(right, calls, size, data):
    used = data.draw(st.integers(1 if calls else 0, size))
    low, high = bounds(size, 8)
    assert low <= sum(score(right=right, calls=calls, rate=used / size).values()) <= high + 1e-12


def test_errors():
    for wrong in ({"rate": 1.2, "calls": 1}, {"rate": 0.0, "calls": 1}, {"rate": 0.5, "calls": -1}):
        with pytest.raises(InvalidData):
            score(right=True, **wrong)
    with pytest.raises(InvalidData, match="at least 1"):
        bounds(0, 1)


def test_how_it_is_gamed_a_call_before_a_wrong_answer_pays():
    idle = sum(score(right=False, calls=0, rate=0.125).values())
    called = sum(score(right=False, calls=1, rate=0.125).values())
    assert idle == 0.0
    assert called == pytest.approx(0.175)
