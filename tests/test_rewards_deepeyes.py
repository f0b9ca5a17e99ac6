"""DeepEyes by hand, its zoom, and how its bonus is gamed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.rewards.deepeyes import BOUNDS, score, zoom_box
from visenv.types import Malformed


@pytest.mark.parametrize(
    ("answer", "used", "formed", "accuracy", "expected"),
    [
        ("red", True, True, None, [0.8, 0.0, 1.2]),
        ("red", False, True, None, [0.8, 0.0, 0.0]),
        ("blue", True, True, None, [0.0, 0.0, 0.0]),
        ("red", True, False, None, [0.8, -0.2, 1.2]),
        (None, True, True, None, [0.0, 0.0, 0.0]),
        ("it is red", True, True, 1.0, [0.8, 0.0, 1.2]),
        ("reddish", True, True, 0.5, [0.4, 0.0, 0.0]),  # A half is not right.
        (None, True, True, 1.0, [0.0, 0.0, 0.0]),
        ("red" + " " * 997, True, True, None, [0.0, -0.2, 0.0]),
        ("red" + " " * 996, True, True, None, [0.8, 0.0, 1.2]),
    ],
)
def test_by_hand(answer, used, formed, accuracy, expected):
    terms = score(answer, "red", used_tool=used, well_formed=formed, accuracy=accuracy)
    assert list(terms.values()) == pytest.approx(expected)
    assert BOUNDS[0] <= sum(terms.values()) <= BOUNDS[1]


def test_a_verdict_is_a_share():
    with pytest.raises(InvalidData, match="accuracy"):
        score("red", "red", used_tool=True, well_formed=True, accuracy=2.0)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ([10, 20, 60, 80], [10, 20, 60, 80]),
        ([-10, -20, 5000, 9000], [0, 0, 4000, 200]),
        ([0, 0, 31, 31], [0, 0, 31, 31]),
        ([0, 0, 30, 31], None),
        ([0, 0, 31, 30], None),
        ([3980, 0, 5000, 100], None),  # 20 pixels inside.
        ([60, 20, 10, 80], None),
        ([0, 0, 3200, 31.5], None),  # More than 100 times as wide.
        ([0, 0, 3150, 31.5], [0, 0, 3150, 31.5]),
        ([0, 0, float("nan"), 80], None),
        ([0, 0, 80], None),
        ("left", None),
        (["10", "20", "60", "80"], None),
        ([10, 20, 60, 10**30], None),
        ([[10], 20, 60, 80], None),
        (None, None),
        ([[0, 0], [80, 80]], None),
    ],
)
def test_zoom_by_hand(box, expected):
    shown = zoom_box(box, (4000, 200))
    if expected is None:
        assert isinstance(shown, Malformed)
        assert "Expected" in shown.message
    else:
        assert shown.tolist() == expected


@given(st.lists(st.floats(-1e4, 1e4), min_size=4, max_size=4), st.integers(1, 3000), st.integers(1, 3000))
def test_what_is_shown_lies_in_the_picture(box, width, height):
    shown = zoom_box(box, (width, height))
    if not isinstance(shown, Malformed):
        sides = shown[2:] - shown[:2]
        assert (shown >= 0).all()
        assert (shown[2:] <= [width, height]).all()
        assert (sides > 30).all()
        assert sides.max() / sides.min() <= 100
        assert np.array_equal(zoom_box(shown, (width, height)), shown)


def test_a_picture_has_a_size():
    with pytest.raises(InvalidData, match="size"):
        zoom_box([0, 0, 50, 50], (0, 50))


def test_how_it_is_gamed_zooming_on_the_whole_picture_is_worth_more_than_the_answer():
    assert zoom_box([0, 0, 640, 480], (640, 480)).tolist() == [0, 0, 640, 480]
    plain, zoomed = (sum(score("red", "red", used_tool=used, well_formed=True).values()) for used in (False, True))
    assert zoomed - plain == pytest.approx(1.2)
    assert plain == pytest.approx(0.8)
