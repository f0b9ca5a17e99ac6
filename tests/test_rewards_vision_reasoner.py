"""VisionReasoner by hand, on whatever text, and how it is gamed."""

import json
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.rewards.answer_text import MAX_TEXT
from visenv.rewards.vision_reasoner import BOUNDS, match_score, repetition_term, score

BOXES, POINTS = [[0, 0, 40, 40], [100, 100, 180, 180]], [[20, 20], [140, 140]]


def items(boxes=BOXES, points=POINTS):
    return [{"bbox_2d": box, "point_2d": point} for box, point in zip(boxes, points, strict=True)]


def written(value, thought="<think>two</think>"):
    return f"{thought} <answer>{value if isinstance(value, str) else json.dumps(value)}</answer>"


def terms(text):
    return list(score(text, BOXES, POINTS).values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (written(items()), [1, 2, 1, 3]),
        (written(items()[::-1]), [1, 2, 1, 3]),
        (written(items()[:1]), [1, 2, 1, 1.5]),
        (written(items() * 2), [1, 2, 1, 1.5]),  # Each of two twice: 6 over 4.
        (written(items(), thought=""), [0, 2, 1, 3]),
        (written([]), [1, 0, 1, 0]),
        (written("none"), [1, 0, 1, 0]),
        (written([{"bbox_2d": [0, 0, 40, 40]}, {"bbox_2d": [0, 0, 40], "point_2d": [20, 20]}]), [1, 1, 1, 0]),
        (written([7, None, []]), [1, 0, 1, 0]),
        (written(items()) + written(items()), [0, 0, 1, 0]),
        ("So. So. So." + written(items()), [0, 2, 0, 3]),
    ],
)
def test_by_hand(text, expected):
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("box", "point", "expected"),
    [
        ([100, 100, 180, 180], [140, 140], 3.0),
        ([100, 100, 180, 180], [140, 110], 2.0),  # 30 pixels away.
        ([100, 100, 180, 180], [140, 110.1], 3.0),
        ([100, 100, 140, 180], [141, 140], 1.0),  # Half of it and a row: IoU 0.51, the point beside its own box.
        ([180, 180, 100, 100], [140, 140], 0.0),
        ([110, 110, 190, 190], [140, 140], 2.0),  # 10 pixels off on average.
    ],
)
def test_a_pair_by_hand(box, point, expected):
    assert match_score([box], [point], BOXES[1:], POINTS[1:]) == expected


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**16))
def test_it_is_the_best_of_all_ways_to_pair(predicted, true, seed):
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, 40, (predicted + true, 2))
    boxes = np.concatenate([corners, corners + generator.integers(1, 40, corners.shape)], axis=1).astype(float)
    points = boxes[:, :2] + generator.integers(0, 40, corners.shape)
    alone = np.array(
        [
            [match_score(boxes[i : i + 1], points[i : i + 1], boxes[j : j + 1], points[j : j + 1]) for j in truths]
            for i in range(predicted)
            for truths in [range(predicted, predicted + true)]
        ]
    )
    if predicted > true:
        alone = alone.T
    best = max(
        sum(alone[row, column] for row, column in enumerate(columns))
        for columns in permutations(range(alone.shape[1]), alone.shape[0])
    )
    together = match_score(boxes[:predicted], points[:predicted], boxes[predicted:], points[predicted:])
    assert together == pytest.approx(best / max(predicted, true))


def test_empty_sides():
    for first, second in (([], BOXES), (BOXES, []), ([], [])):
        assert match_score(first, POINTS[: len(first)], second, POINTS[: len(second)]) == 0.0


def test_errors_of_the_caller():
    for boxes, points in ((BOXES, POINTS[:1]), ([[5, 5, 1, 1]], [[1, 1]]), (BOXES, [[np.nan, 0], [0, 0]])):
        for text in (written(items()), "nothing"):
            with pytest.raises(InvalidData):
                score(text, boxes, points)
    for boxes, points in ((BOXES, POINTS[:1]), ([["left"] * 4], POINTS[:1]), ([[1, 2, 3]], POINTS[:1])):
        with pytest.raises(InvalidData):
            match_score(boxes, points, BOXES, POINTS)
    with pytest.raises(InvalidData):
        repetition_term(None)


@given(st.text(alphabet='<>/thinkaswer {}[]0123,.":box_2dpoint', max_size=200))
def test_no_text_breaks_it(text):
    assert BOUNDS[0] <= sum(score(text, BOXES, POINTS).values()) <= BOUNDS[1]


def test_repetition_by_hand():
    assert repetition_term("One. Two. One.") == 1.0
    assert repetition_term("One. Two. One. Two.") == 0.0
    assert repetition_term("... . .") == 1.0
    assert repetition_term("a" * (MAX_TEXT + 1)) == 0.0


def test_how_it_is_gamed_beyond_120_items_anything_is_free():
    boxes = np.array([[x, y, x + 9, y + 9] for x in range(0, 240, 20) for y in range(0, 200, 20)], float)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    spam = np.full((1000, 4), 500.0)
    assert len(boxes) == 120
    assert match_score(boxes, centres, boxes, centres) == 3.0
    assert match_score([*boxes, *spam], [*centres, *spam[:, :2]], boxes, centres) == 3.0
    # Below the limit the same spam costs.
    assert match_score([*boxes[:60], *spam[:60]], [*centres[:60], *spam[:60, :2]], boxes[:60], centres[:60]) == 1.5


def test_how_it_is_gamed_form_alone_pays_4_of_7_and_commas_hide_repetition():
    anything = written([{"bbox_2d": [500] * 4, "point_2d": [9, 9]}], "<think>so, so, so, so, so</think>")
    assert sum(terms(anything)) == 4.0
