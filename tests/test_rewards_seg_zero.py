"""Seg-Zero by hand, on whatever text, and how its thresholds are gamed."""

import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.rewards.answer_text import MAX_TEXT
from visenv.rewards.seg_zero import BOUNDS, box_terms, inclusive_iou, score

BOX, POINTS = [100, 100, 199, 199], [[120, 120], [180, 180]]


def written(box, first, second, thought="<think>…</think>"):
    return f"{thought}<answer>{json.dumps({'bbox': box, 'points_1': first, 'points_2': second})}</answer>"


def terms(text, **keywords):
    return list(score(text, BOX, POINTS, **keywords).values())


def test_perfect_and_in_the_other_order():
    assert score(written(BOX, *POINTS), BOX, POINTS) == dict.fromkeys(
        ("think_format", "json_format", "iou", "box_l1", "points"), 1.0
    )
    assert terms(written(BOX, *POINTS[::-1])) == [1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("box", "iou", "l1"),
    [
        # 100 x 100 against 100 x 50 of it, both counted to their last pixels: 0.5, which is not above 0.5.
        ([100, 100, 199, 149], 0, 0),
        ([100, 100, 199, 150], 1, 0),
        # Differences of 10 on average, and of 9.75.
        ([110, 110, 209, 209], 1, 0),
        ([110, 110, 209, 208], 1, 1),
        # It ends before it begins.
        ([199, 199, 100, 100], 0, 0),
    ],
)
def test_boxes_by_hand(box, iou, l1):
    found = box_terms(box, POINTS, BOX, POINTS)
    assert (found["iou"], found["box_l1"]) == (iou, l1)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([[100, 100], [199, 199]], 1),
        ([[99, 120], [180, 180]], 0),  # One beside the box.
        ([[120, 120], [180, 180.5]], 1),
    ],
)
def test_points_by_hand(points, expected):
    assert box_terms(BOX, points, BOX, POINTS)["points"] == expected


def test_points_may_not_be_100_pixels_away_on_average():
    box, true = [0, 0, 300, 300], [[0, 0], [0, 0]]
    assert box_terms(box, [[100, 0], [99, 0]], box, true)["points"] == 1.0
    assert box_terms(box, [[100, 0], [100, 0]], box, true)["points"] == 0.0


def test_the_truth_is_stretched_to_840():
    half = {"box": np.array(BOX) / [2, 4, 2, 4], "points": np.array(POINTS) / [2, 4], "size": (420, 210)}
    assert sum(score(written(BOX, *POINTS), **half).values()) == 5.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [0, 0, 0, 0, 0]),
        (written(BOX, *POINTS, thought=""), [0, 1, 1, 1, 1]),
        (written(BOX, *POINTS) + " Done.", [0, 1, 1, 1, 1]),
        (written(BOX, *POINTS) + written(BOX, *POINTS), [0, 0, 0, 0, 0]),
        ("<think></think><answer>left</answer>", [1, 0, 0, 0, 0]),
        ("<think></think><answer>[1, 2]</answer>", [1, 0, 0, 0, 0]),
        ('<think></think><answer>{"bbox": [0, 0, 9, 9]}</answer>', [1, 0, 0, 0, 0]),
        (written(BOX, [1, 2, 3], POINTS[1]), [1, 0, 0, 0, 0]),
        (written([True, 1, 2, 3], *POINTS), [1, 0, 0, 0, 0]),
        (written([1e9, 1, 2, 3], *POINTS), [1, 0, 0, 0, 0]),
        ("<think></think><answer>" + "[" * 5000 + "</answer>", [1, 0, 0, 0, 0]),
        ("<think></think><answer>{'bbox': [0, 0, 9, 9]}</answer>", [1, 0, 0, 0, 0]),
    ],
)
def test_form_by_hand(text, expected):
    assert terms(text) == expected


@given(st.text(alphabet='<>/thinkaswer {}[]0123,.":box', max_size=200))
def test_no_text_breaks_it(text):
    assert BOUNDS[0] <= sum(score(text, BOX, POINTS).values()) <= BOUNDS[1]


def test_a_hostile_text_takes_no_time():
    start = time.perf_counter()
    for text in ("<think>" * 10_000, "<answer>" + "<" * 90_000, "a" * (MAX_TEXT + 1), "</think>" * 12_000 + "<answer>"):
        assert sum(terms(text)) == 0.0
    assert time.perf_counter() - start < 1.0


def test_errors_of_the_caller():
    good = written(BOX, *POINTS)
    for keywords in (
        {"text": None, "box": BOX, "points": POINTS},
        {"text": good, "box": [1, 2, 3], "points": POINTS},
        {"text": good, "box": BOX, "points": [[1, 2]]},
        {"text": good, "box": BOX, "points": POINTS, "size": (0, 5)},
        {"text": good, "box": ["left"] * 4, "points": POINTS},
        {"text": good, "box": BOX, "points": POINTS, "size": "ab"},
    ):
        with pytest.raises(InvalidData):
            score(**keywords)


def test_inclusive_iou_by_hand():
    # 2 x 1 and 1 x 1 pixels.
    assert inclusive_iou(np.array([[0, 0, 1, 0.0]]), np.array([[1, 0, 1, 0.0]])).tolist() == [[0.5]]


def test_how_it_is_gamed_beside_a_small_object_earns_4_of_5():
    box, points = [400, 400, 408, 408], [[402, 402], [406, 406]]
    beside = written([409, 409, 417, 417], [411, 411], [415, 415])
    assert score(beside, box, points) == {"think_format": 1, "json_format": 1, "iou": 0, "box_l1": 1, "points": 1}
