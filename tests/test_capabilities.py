"""Requests that refuse what no expert could answer, and results that are checked before anybody gets them."""

import numpy as np
import pytest

from visenv.capabilities import NOWHERE, Passages, Ran, RunCode, Search, View
from visenv.errors import InvalidData
from visenv.experts_checks import check_result, result_bytes
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels

BLACK = np.zeros((2, 2, 3), np.uint8)
VIEW = View(BLACK, Provenance(RootPixels(BLACK)))


@pytest.mark.parametrize(
    "name", ["../x.png", "/x.png", "x", "x.sh", "", ".png", "a/b.png", "x.png\n", "C:x.png", "ü.png"]
)
def test_programs_only_name_images_of_their_own_folder(name):
    for files in ({"source": name}, {"target": name}):
        with pytest.raises(InvalidData, match="plain name of an image file"):
            RunCode(VIEW, "", **files)


def test_a_search_wants_something():
    with pytest.raises(InvalidData, match="at least 1 passage"):
        Search("x", 0)


@pytest.mark.parametrize(
    "found",
    [
        Passages(("a",), (), np.ones(1)),
        Passages(("a", "b"), ("a", "b"), np.array([2.0, 1.0])),
        Passages(("a",), ("a",), np.array([np.nan])),
        Passages(("a",), (None,), np.ones(1)),
        Passages((5,), ("a",), np.ones(1)),
    ],
)
def test_passages_are_as_many_as_asked_for_at_most(found):
    with pytest.raises(InvalidData, match="passages|finite"):
        check_result(Search("x", 1), found)


def test_passages_come_best_first():
    check_result(Search("x", 2), Passages(("a", "b"), ("a", "b"), np.array([2.0, 1.0])))
    with pytest.raises(InvalidData, match="best first"):
        check_result(Search("x", 2), Passages(("a", "b"), ("a", "b"), np.array([1.0, 2.0])))


def test_the_image_that_a_program_made_is_one():
    request = RunCode(VIEW, "")
    check_result(request, Ran(None, error="ZeroDivisionError"))
    check_result(request, Ran(np.zeros((9, 7, 3), np.uint8)))
    for wrong in (np.zeros((9, 7), np.uint8), np.zeros((9, 7, 3)), np.zeros((0, 7, 3), np.uint8)):
        with pytest.raises(InvalidData, match="an image of uint8"):
            check_result(request, Ran(wrong))


class Library:
    name = fingerprint = "library"
    capabilities, max_batch, per_sample = ("Search",), 8, False

    def __init__(self):
        self.asked = []

    def run(self, requests):
        self.asked += [request.query for request in requests]
        return [Passages((request.query,), ("text",), np.ones(1)) for request in requests]


def test_the_same_question_is_asked_once_whoever_asks():
    library = Library()
    pool = ExpertPool({"Search": library})
    first, again, other = pool.answer([Search("x"), Search("x"), Search("y")])
    assert library.asked == ["x", "y"]
    assert first is again
    assert other.titles == ("y",)
    assert pool.answer([Search("x", view=NOWHERE)])[0] is first
    assert result_bytes(first) > 512
