"""Overlap and matching of boxes and points, by hand, against pycocotools and brute force, and by properties."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from visenv.errors import InvalidData
from visenv.rewards.functional import (
    IOU_THRESHOLDS,
    box_coverage,
    box_iou,
    f1_score,
    greedy_match,
    hungarian_match,
    match_radius,
    point_matches,
    precision_recall_f1,
)


def boxes(side=12, most=6, least=0):
    numbers = st.tuples(*[st.integers(0, side - 1)] * 2, *[st.integers(1, side)] * 2)
    box = numbers.map(lambda n: [n[0], n[1], n[0] + n[2], n[1] + n[3]])
    return st.lists(box, min_size=least, max_size=most)


def matrices(most=5):
    cell = st.integers(0, 20).map(lambda n: n / 20)
    return st.tuples(st.integers(1, most), st.integers(1, most)).flatmap(
        lambda s: st.lists(st.lists(cell, min_size=s[1], max_size=s[1]), min_size=s[0], max_size=s[0]).map(np.array)
    )


def test_iou_by_hand():
    first = [[0, 0, 4, 4], [10, 10, 12, 12]]
    second = [[2, 0, 6, 4], [4, 0, 8, 4], [1, 1, 3, 3]]
    # 8 of 24; they only touch; 4 of 16.
    np.testing.assert_allclose(box_iou(first, second), [[8 / 24, 0, 4 / 16], [0, 0, 0]])


def test_iou_of_boxes_smaller_than_a_pixel():
    assert box_iou([[0, 0, 0.5, 0.5]], [[0, 0, 0.5, 0.5], [0.25, 0, 0.75, 0.5]]).tolist() == [
        [1.0, pytest.approx(1 / 3)]
    ]


def test_iou_of_boxes_without_area_is_zero():
    assert box_iou([[1, 1, 1, 5]], [[1, 1, 1, 5]]).tolist() == [[0.0]]
    assert box_iou([], [[0, 0, 1, 1]]).shape == (0, 1)


def test_epsilon_moves_an_iou_off_its_threshold():
    pair = [[0, 0, 10, 10]], [[0, 0, 10, 20]]
    assert box_iou(*pair)[0, 0] == 0.5
    assert 0.499 < box_iou(*pair, epsilon=1e-6)[0, 0] < 0.5


@pytest.mark.parametrize(
    "bad", [[[0, 0, 1]], [[0, 0, np.nan, 1]], [[0, 0, np.inf, 1]], [[3, 0, 1, 1]], "boxes", [["a"] * 4]]
)
def test_refuses_what_is_no_box(bad):
    with pytest.raises(InvalidData):
        box_iou(bad, [[0, 0, 1, 1]])


@given(boxes(), boxes())
def test_iou_agrees_with_pycocotools_and_is_symmetric(first, second):
    ours = box_iou(first, second)
    np.testing.assert_array_equal(ours, box_iou(second, first).T)
    if first and second:
        sides = [np.array([[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in side], float) for side in (first, second)]
        np.testing.assert_allclose(ours, coco.iou(*sides, [0] * len(second)))


@given(boxes(least=1), boxes())
def test_coverage_agrees_with_painting(targets, regions):
    painted = np.zeros((30, 30), bool)
    for x0, y0, x1, y1 in regions:
        painted[y0:y1, x0:x1] = True
    expected = [painted[y0:y1, x0:x1].mean() for x0, y0, x1, y1 in targets]
    np.testing.assert_allclose(box_coverage(targets, regions), expected, atol=1e-12)


def test_coverage_by_hand():
    # Two regions inside a third are not counted again, and neither is what lies outside of the box.
    assert box_coverage([[0, 0, 10, 10]], [[0, 0, 10, 6], [2, 1, 8, 2], [2, 3, 8, 4], [9, 9, 30, 30]]).tolist() == [
        0.61
    ]


def test_coverage_of_a_box_without_area_is_zero():
    assert box_coverage([[1, 1, 1, 3]], [[0, 0, 9, 9]]).tolist() == [0.0]


def test_thresholds_are_those_of_coco():
    np.testing.assert_allclose(IOU_THRESHOLDS, np.linspace(0.5, 0.95, 10))
    assert 0.55 in IOU_THRESHOLDS


def test_greedy_takes_the_best_pair_first_even_where_two_others_were_better_together():
    assert greedy_match([[0.9, 0.8], [0.85, 0.0]], 0.5).tolist() == [[0, 0]]
    assert greedy_match([[0.9, 0.8], [0.85, 0.6]], 0.5).tolist() == [[0, 0], [1, 1]]


def test_greedy_includes_its_threshold_and_breaks_ties_in_order():
    assert greedy_match([[0.5, 0.5], [0.5, 0.5]], 0.5).tolist() == [[0, 0], [1, 1]]
    assert greedy_match([[0.49]], 0.5).tolist() == []
    assert greedy_match(np.zeros((0, 3)), 0.5).shape == (0, 2)


@given(matrices(), st.integers(0, 20).map(lambda n: n / 20))
def test_greedy_agrees_with_repeated_argmax(similarity, threshold):
    left, expected = similarity.copy(), []
    while left.size and left.max() >= threshold:
        row, column = np.unravel_index(np.argmax(left), left.shape)
        expected.append([row, column])
        left[row], left[:, column] = -1, -1
    assert greedy_match(similarity, threshold).tolist() == expected


@given(matrices(most=4))
def test_hungarian_agrees_with_trying_everything(cost):
    rows, columns = cost.shape
    if rows <= columns:
        best = min(sum(cost[i, j] for i, j in enumerate(order)) for order in permutations(range(columns), rows))
    else:
        best = min(sum(cost[i, j] for j, i in enumerate(order)) for order in permutations(range(rows), columns))
    pairs = hungarian_match(cost)
    assert len(pairs) == min(rows, columns)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    assert cost[pairs[:, 0], pairs[:, 1]].sum() == pytest.approx(best)


def test_matching_refuses_numbers_that_are_not_finite():
    with pytest.raises(InvalidData):
        hungarian_match([[np.nan]])
    with pytest.raises(InvalidData):
        greedy_match([1.0, 2.0], 0.5)


def test_radius_by_hand():
    # Diagonals 5, 10 and 500: half of the middle one.
    assert match_radius([[0, 0, 6, 8], [0, 0, 3, 4], [0, 0, 300, 400]]) == 5.0
    # Diagonals 5, 10, 15 and 500: the mean of 5 and 7.5.
    assert match_radius([[0, 0, 6, 8], [0, 0, 9, 12], [0, 0, 3, 4], [0, 0, 300, 400]]) == 6.25
    assert match_radius([]) == 0.0


def test_point_matches_by_hand():
    # Centres (3, 4) and (103, 4), radius 5: a point exactly 5 away is right, one a little further is not.
    found = [[0, 0, 6, 8], [100, 0, 106, 8]]
    assert point_matches(found, [[3, 9], [103, 9.01]]).tolist() == [[0, 0]]
    assert point_matches(found, [[103, 4]]).tolist() == [[1, 0]]
    assert point_matches(found, [[3, 9], [103, 9.01]], radius=6.0).tolist() == [[0, 0], [1, 1]]
    assert point_matches([], [[1, 1]]).shape == point_matches(found, []).shape == (0, 2)


def test_point_matches_pair_by_total_distance_before_they_judge_it():
    # On a line, boxes at 0 and 10 (radius 2.8), points at 9 and 20: 0 to 9 and 10 to 20 is the shorter way in all, so
    # that neither pair is near enough, though the box at 10 is only 1 from the point at 9.
    found = [[-2, -2, 2, 2], [8, -2, 12, 2]]
    assert point_matches(found, [[9, 0], [20, 0]]).tolist() == []
    assert point_matches(found, [[11, 0], [1, 0]]).tolist() == [[0, 1], [1, 0]]


@given(boxes(least=1), st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=5))
def test_point_matches_agree_with_the_definition(found, points):
    centres = [((x0 + x1) / 2, (y0 + y1) / 2) for x0, y0, x1, y1 in found]
    by_area = sorted(found, key=lambda b: (b[2] - b[0]) * (b[3] - b[1]))
    halves = [np.hypot(x1 - x0, y1 - y0) / 2 for x0, y0, x1, y1 in by_area]
    count = len(found)
    sigma = halves[count // 2] if count % 2 else (halves[count // 2 - 1] + halves[count // 2]) / 2
    distance = cdist(centres, points)
    rows, columns = linear_sum_assignment(distance)
    assert len(point_matches(found, points)) == (distance[rows, columns] <= sigma).sum()


def test_precision_and_recall_by_hand():
    assert precision_recall_f1(3, 4, 6) == (0.75, 0.5, pytest.approx(0.6))
    assert precision_recall_f1(0, 0, 0) == (0.0, 0.0, 0.0)
    assert precision_recall_f1(0, 0, 5) == (0.0, 0.0, 0.0)
    assert f1_score(1.0, 0.0) == 0.0


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_f1_is_twice_the_matches_over_both_sides(matched, extra, missed):
    f1 = precision_recall_f1(matched, matched + extra, matched + missed)[2]
    total = 2 * matched + extra + missed
    assert f1 == pytest.approx(2 * matched / total if total else 0.0)
