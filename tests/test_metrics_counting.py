"""MAE, RMSE, NAE, localisation and answers, by hand and against numpy and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from visenv.rewards.metrics import AnswerAccuracy, CountError, PointLocalisation
from visenv.types import AnswerTruth, BoxesTruth, Detections, Outcome, PointsTruth


def outcome(boxes, termination="answer"):
    return Outcome(None if boxes is None else Detections(boxes), None, termination, 1)


def counted(number):
    return outcome(None if number is None else [[0, 0, 1, 1]] * number)


def points(number):
    return PointsTruth(np.zeros((number, 2)))


def score(metric, samples):
    for result, truth in samples:
        metric.update(result, truth)
    return metric.compute()


def test_count_errors_by_hand():
    # Errors 1, -3, 2 and -4; of 4, 6, 0 and 4.
    samples = [(counted(5), points(4)), (counted(3), points(6)), (counted(2), points(0)), (counted(None), points(4))]
    figures = score(CountError(), samples)
    assert figures["MAE"] == pytest.approx(10 / 4)
    assert figures["RMSE"] == pytest.approx(math.sqrt((1 + 9 + 4 + 16) / 4))
    assert figures["NAE"] == pytest.approx((1 / 4 + 3 / 6 + 4 / 4) / 3)
    assert (figures["MAE_n"], figures["NAE_n"], figures["MAE_failed"], figures["NAE_failed"]) == (4, 3, 0, 0)


def test_boxes_are_counted_as_points_are():
    assert score(CountError(), [(counted(3), BoxesTruth([[0, 0, 9, 9]] * 5))])["MAE"] == 2


def test_values_are_the_absolute_errors():
    metric = CountError()
    score(metric, [(counted(5), points(4)), (counted(3), points(6))])
    assert metric.values.tolist() == [1.0, 3.0]


def test_count_errors_of_nothing_are_nan():
    figures = CountError().compute()
    assert all(math.isnan(figures[key]) for key in ("MAE", "RMSE", "NAE"))
    assert (figures["MAE_n"], figures["NAE_n"]) == (0, 0)


@given(st.lists(st.tuples(st.none() | st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=10))
def test_count_errors_agree_with_numpy(pairs):
    figures = score(CountError(), [(counted(predicted), points(true)) for predicted, true in pairs])
    predicted, true = np.array([[p or 0, t] for p, t in pairs], float).T
    assert figures["MAE"] == pytest.approx(np.abs(predicted - true).mean())
    assert figures["RMSE"] == pytest.approx(np.linalg.norm(predicted - true) / np.sqrt(len(pairs)))
    some = true > 0
    expected = (np.abs(predicted - true)[some] / true[some]).mean() if some.any() else np.nan
    assert figures["NAE"] == pytest.approx(expected, nan_ok=True)
    assert figures["MAE"] <= figures["RMSE"] + 1e-9


def test_localisation_is_micro():
    # Two of two right with one point missed; none of three right; a missing result, 2 missed.
    near, far = [[0, 0, 6, 8], [100, 0, 106, 8]], [[0, 0, 6, 8]] * 3
    samples = [
        (outcome(near), PointsTruth([[3, 4], [103, 8], [50, 50]])),
        (outcome(far), PointsTruth([[90, 90]])),
        (outcome(None, "max_turns"), PointsTruth([[1, 1], [2, 2]])),
    ]
    figures = score(PointLocalisation(), samples)
    assert (figures["TP"], figures["FP"], figures["FN"]) == (2, 3, 4)
    assert (figures["precision"], figures["recall"]) == (2 / 5, 2 / 6)
    assert figures["point_F1"] == pytest.approx(4 / 11)
    assert (figures["point_F1_n"], figures["point_F1_failed"]) == (3, 1)


def test_localisation_of_each_sample():
    metric = PointLocalisation()
    score(metric, [(outcome([[0, 0, 6, 8]]), PointsTruth([[3, 4], [50, 50]])), (outcome(None), points(0))])
    assert metric.values.tolist() == [pytest.approx(2 / 3), 1.0]


BOX = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 9), st.integers(1, 9))
LOCALISED = st.tuples(
    st.lists(BOX.map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]), max_size=5),
    st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), max_size=5),
)


@given(st.lists(LOCALISED, min_size=1, max_size=4))
def test_localisation_agrees_with_scipy(run):
    figures = score(PointLocalisation(), [(outcome(boxes), PointsTruth(np.array(at))) for boxes, at in run])
    right = 0
    for boxes, at in run:
        if boxes and at:
            array = np.array(boxes, float)
            sides = array[:, 2:] - array[:, :2]
            halves = np.linalg.norm(sides[np.argsort(sides.prod(axis=1), kind="stable")], axis=1) / 2
            distances = cdist((array[:, :2] + array[:, 2:]) / 2, np.array(at, float))
            rows, columns = linear_sum_assignment(distances)
            radius = (halves[(len(halves) - 1) // 2] + halves[len(halves) // 2]) / 2
            right += (distances[rows, columns] <= radius + 1e-9).sum()
    assert figures["TP"] == right
    assert figures["TP"] + figures["FP"] == sum(len(boxes) for boxes, _ in run)
    assert figures["TP"] + figures["FN"] == sum(len(at) for _, at in run)


def test_answers_by_hand():
    def said(text, termination="answer"):
        return Outcome(None, text, termination, 1)

    truth = AnswerTruth(("the red umbrella", "parasol"))
    samples = [
        (said("Parasol!"), truth),
        (said("umbrella"), truth),
        (said(None, "max_turns"), truth),
        (said("A"), truth),
    ]
    figures = score(AnswerAccuracy(), samples)
    assert figures["EM"] == 1 / 4
    assert figures["token_F1"] == pytest.approx((1 + 2 / 3 + 0 + 0) / 4)
    assert (figures["EM_n"], figures["EM_failed"]) == (4, 1)
