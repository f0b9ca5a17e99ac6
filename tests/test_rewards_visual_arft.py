"""Visual-ARFT by hand, and its flaws."""

import pytest

from visenv.errors import InvalidData
from visenv.rewards.visual_arft import (
    CODING_BOUNDS,
    PROBLEMS,
    SEARCH_BOUNDS,
    coding_score,
    problem_accuracy,
    released_code_reward,
    search_score,
)


@pytest.mark.parametrize(
    ("named", "true", "expected"),
    [
        (["dark"], ["dark"], 1.0),
        (["dark", "rotation90"], ["rotation90", "dark"], 1.0),
        (["rotation90"], ["rotation90", "dark"], 0.5),
        (["rotation180"], ["rotation90", "dark"], 0.0),
        (["dark"], ["rotation90", "dark"], 0.0),
        (["rotation90", "blur"], ["rotation90", "dark"], 0.0),
        (["rotation90"], ["rotation90", "rotation180"], 0.0),
        (["dark", "dark"], ["dark"], 0.0),
        (["dark"], ["dark", "noise"], 0.0),
        ([], ["none"], 0.0),
        (None, ["none"], 0.0),
        (["none"], ["none"], 1.0),
    ],
)
def test_problems_by_hand(named, true, expected):
    assert problem_accuracy(named, true) == expected


def test_a_true_problem_is_one_of_eight():
    assert len(PROBLEMS) == 8
    for wrong in (["foggy"], "dark"):
        with pytest.raises(InvalidData, match="overexposure"):
            problem_accuracy(["dark"], wrong)


def test_searching_by_hand():
    # Two of three words, all of one: 2 · 1 / (2 + 1).
    assert search_score("red tower", ["the tower"], well_formed=True) == pytest.approx({"answer": 2 / 3, "format": 1.0})
    assert search_score(None, "tower", well_formed=False) == {"answer": 0.0, "format": 0.0}
    assert sum(search_score("tower", "tower", well_formed=True).values()) == SEARCH_BOUNDS[1]


def test_coding_by_hand():
    whole = coding_score(["blur"], ["blur"], "mend()", "three", ["three"], well_formed=True)
    assert whole == {"problems": 1.0, "code": 0.9, "answer": 1.0, "format": 1.0}
    assert sum(whole.values()) == pytest.approx(CODING_BOUNDS[1])
    nothing = coding_score(None, ["blur"], None, None, ["three"], well_formed=False)
    assert sum(nothing.values()) == CODING_BOUNDS[0]


def test_how_it_is_gamed_code_that_does_nothing_earns_what_code_earns():
    assert released_code_reward("raise SystemExit") == released_code_reward("") == 0.9
    assert released_code_reward("import cv2; cv2.imwrite('out.jpg', cv2.imread('in.jpg')[::-1])") == 0.9


def test_how_it_is_gamed_naming_all_colours_earns_more_than_guessing():
    colours = ["red", "green", "blue"]
    hedged = sum(search_score("red green blue", true, well_formed=True)["answer"] for true in colours) / 3
    guessed = sum(search_score("red", true, well_formed=True)["answer"] for true in colours) / 3
    assert hedged == pytest.approx(0.5)
    assert guessed == pytest.approx(1 / 3)
