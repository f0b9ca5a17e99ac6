"""MMSearch-R1 by hand, and how its discount is gamed."""

import pytest

from visenv.errors import InvalidData
from visenv.rewards.mmsearch_r1 import BOUNDS, score


@pytest.mark.parametrize(
    ("answer", "pictures", "texts", "formed", "expected"),
    [
        ("Paris", 0, 0, True, [0.9, 0.1]),
        ("the Paris.", 1, 0, True, [0.81, 0.1]),
        ("Paris", 1, 2, True, [0.81, 0.1]),
        ("Paris", 2, 0, True, [0.81, 0.0]),
        ("Paris", 0, 3, True, [0.81, 0.0]),
        ("Paris", 0, 0, False, [0.9, 0.0]),
        ("Rome", 0, 1, True, [0.0, 0.1]),
        (None, 0, 0, False, [0.0, 0.0]),
    ],
)
def test_by_hand(answer, pictures, texts, formed, expected):
    terms = score(answer, ["Paris"], image_searches=pictures, text_searches=texts, well_formed=formed)
    assert list(terms.values()) == pytest.approx(expected)
    assert BOUNDS[0] <= sum(terms.values()) <= BOUNDS[1]


def test_a_number_of_searches_is_one():
    for wrong in (-1, 1.5, True):
        with pytest.raises(InvalidData, match="text_searches"):
            score("Paris", "Paris", text_searches=wrong, well_formed=True)


def test_how_it_is_gamed_after_the_first_search_the_others_are_free():
    once = score("Paris", "Paris", text_searches=1, well_formed=True)
    assert score("Paris", "Paris", image_searches=1, text_searches=2, well_formed=True) == once
