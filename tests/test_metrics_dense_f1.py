"""F1 in dense scenes, by hand and against a transcription on pycocotools' IoU."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco

from visenv.errors import InvalidData
from visenv.rewards.metrics import DenseF1
from visenv.types import BoxesTruth, Detections, Outcome

FAR = [500, 500, 510, 510]


def outcome(boxes, labels=None, termination="answer"):
    detections = None if boxes is None else Detections(np.array(boxes, float).reshape(-1, 4), labels=labels)
    return Outcome(detections, None, termination, 1)


def score(metric, *samples):
    for result, truth in samples:
        metric.update(result, truth)
    return metric.compute()


def tall(height):
    """A box whose IoU with ``tall(100)`` is ``height`` per cent."""
    return [0, 0, 10, height]


def test_thresholds_by_hand():
    # IoU 0.72: right at .50, .55, .60, .65 and .70. One more is found, two more are there: P 1/2, R 1/3, F1 2/5.
    figures = score(DenseF1(), (outcome([tall(72), FAR]), BoxesTruth([tall(100), [20, 0, 30, 9], [40, 0, 50, 9]])))
    assert figures["F1@0.50"] == pytest.approx(2 / 5)
    assert figures["F1@0.95"] == 0.0
    assert figures["F1@0.50:0.95"] == pytest.approx(0.5 * 2 / 5)
    assert (figures["precision@0.50"], figures["recall@0.50"]) == (1 / 2, pytest.approx(1 / 3))
    assert figures["precision@0.50:0.95"] == pytest.approx(1 / 4)
    assert (figures["F1@0.50:0.95_n"], figures["F1@0.50:0.95_failed"]) == (1, 0)


def test_an_iou_on_the_threshold_counts_unless_the_evaluators_epsilon_is_asked_for():
    sample = outcome([tall(50)]), BoxesTruth([tall(100)])
    assert score(DenseF1(), sample)["F1@0.50"] == 1.0
    assert score(DenseF1(epsilon=1e-6), sample)["F1@0.50"] == 0.0
    assert score(DenseF1(), (outcome([tall(55)]), BoxesTruth([tall(100)])))["F1@0.50:0.95"] == pytest.approx(0.2)


def test_micro_counts_all_samples_together():
    one = outcome([tall(100)]), BoxesTruth([tall(100)], ("car",))
    none_of_three = outcome([FAR] * 3), BoxesTruth([tall(100)], ("bus",))
    missing = outcome(None, termination="max_turns"), BoxesTruth([tall(100)] * 2, ("bus",) * 2)
    figures = score(DenseF1(), one, none_of_three, missing)
    # 1 right of 4 found and 4 there.
    assert figures["F1@0.50"] == figures["F1@0.50:0.95"] == 1 / 4
    assert (figures["F1@0.50:0.95_n"], figures["F1@0.50:0.95_failed"]) == (3, 1)


def test_macro_averages_precision_and_recall_over_categories():
    cars = outcome([tall(100), FAR]), BoxesTruth([tall(100)], ("car",))
    buses = outcome([tall(80)]), BoxesTruth([tall(100)] + [[20 * i, 0, 20 * i + 9, 9] for i in (1, 2, 3)], ("bus",) * 4)
    figures = score(DenseF1("macro"), cars, buses)
    # Cars: P 1/2, R 1. Buses at .50: P 1, R 1/4; right up to .80, seven of ten thresholds.
    assert figures["precision@0.50"] == pytest.approx(3 / 4)
    assert figures["recall@0.50"] == pytest.approx(5 / 8)
    assert figures["F1@0.50"] == pytest.approx(2 * (3 / 4) * (5 / 8) / (3 / 4 + 5 / 8))
    assert figures["F1@0.95"] == pytest.approx(2 * (1 / 4) * (1 / 2) / (1 / 4 + 1 / 2))
    precision, recall = (1 / 2 + 0.7) / 2, (1 + 0.7 / 4) / 2
    assert figures["F1@0.50:0.95"] == pytest.approx(2 * precision * recall / (precision + recall))


def test_macro_leaves_out_categories_that_are_nowhere():
    cars = outcome([tall(100)], ("car",)), BoxesTruth([tall(100)], ("car",))
    ghosts = outcome([FAR, FAR], ("ghost", "car")), BoxesTruth(np.zeros((0, 4)), ())
    figures = score(DenseF1("macro"), cars, ghosts)
    assert (figures["precision@0.50"], figures["recall@0.50"]) == (1 / 2, 1.0)


def test_macro_needs_labels_where_a_truth_has_several_categories():
    truth = BoxesTruth([tall(100), FAR], ("car", "bus"))
    with pytest.raises(InvalidData, match="labels"):
        DenseF1("macro").update(outcome([tall(100)]), truth)
    assert score(DenseF1(), (outcome([tall(100)]), truth))["recall@0.50"] == 0.5


def test_boxes_are_paired_within_their_category():
    truth = BoxesTruth([tall(100), FAR], ("car", "bus"))
    figures = score(DenseF1(), (outcome([tall(100), FAR], ("bus", "bus")), truth))
    assert figures["F1@0.50"] == 1 / 2
    assert score(DenseF1(), (outcome([tall(100), FAR]), truth))["F1@0.50"] == 1.0


def test_wrong_boxes_in_ignored_regions_count_for_neither_side():
    ignore = [[500, 500, 505, 510], [200, 0, 300, 100]]
    truth = BoxesTruth([tall(100)], ignore=ignore)
    # Half of FAR is ignored; less than half of the next is; the right box is in no need of it.
    assert score(DenseF1(), (outcome([tall(100), FAR]), truth))["F1@0.50"] == 1.0
    assert score(DenseF1(), (outcome([tall(100), [499, 500, 511, 510]]), truth))["F1@0.50"] == pytest.approx(2 / 3)


def test_right_boxes_in_ignored_regions_are_right():
    truth = BoxesTruth([tall(100)], ignore=[[0, 0, 1000, 1000]])
    figures = score(DenseF1(), (outcome([tall(80), FAR]), truth))
    assert (figures["precision@0.50"], figures["recall@0.50"]) == (1.0, 1.0)
    # At .95 the box is wrong, and therefore ignored.
    assert (figures["precision@0.95"], figures["recall@0.95"]) == (0.0, 0.0)


def test_micro_takes_the_mean_of_f1_and_not_the_f1_of_means():
    truth = BoxesTruth([tall(100), FAR], ignore=[[0, 0, 20, 100]])
    figures = score(DenseF1(), (outcome([tall(72), FAR]), truth))
    # Up to .70 both are right; above, one is, and the other is ignored: F1 is 1, then 2/3.
    assert figures["F1@0.50:0.95"] == pytest.approx((1 + 2 / 3) / 2)


def test_values_are_the_mean_f1_of_each_sample():
    metric = DenseF1()
    nothing = BoxesTruth(np.zeros((0, 4)))
    score(metric, (outcome([tall(72)]), BoxesTruth([tall(100)])), (outcome(None), nothing), (outcome([FAR]), nothing))
    assert metric.values.tolist() == [pytest.approx(0.5), 1.0, 0.0]


def test_refuses_other_averages():
    with pytest.raises(InvalidData, match="'micro' or 'macro'"):
        DenseF1("weighted")


BOX = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 8), st.integers(1, 8))
BOXES = st.lists(BOX.map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]), max_size=5)
RUNS = st.lists(st.tuples(BOXES, BOXES, st.sampled_from(["car", "bus"])), min_size=1, max_size=5)


def transcribed(run):
    """Counts of each sample by threshold: pairs taken one by one, the best of all that are left first."""
    for found, true, category in run:
        counts = []
        for threshold in np.arange(50, 100, 5) / 100:
            left = np.zeros((len(found), len(true)))
            if found and true:
                sides = [
                    np.array([[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in side], float) for side in (found, true)
                ]
                left = coco.iou(*sides, [0] * len(true))
            right = 0
            while left.size and left.max() >= threshold:
                row, column = np.unravel_index(left.argmax(), left.shape)
                left[row], left[:, column] = -1, -1
                right += 1
            counts.append((right, len(found), len(true)))
        yield category, np.array(counts)


def divide(part, whole):
    return part / whole if whole else 0.0


def harmonic(precision, recall):
    return divide(2 * precision * recall, precision + recall)


@given(RUNS)
def test_micro_and_macro_agree_with_a_transcription(run):
    samples = [(outcome(found), BoxesTruth(np.array(true).reshape(-1, 4), (c,) * len(true))) for found, true, c in run]
    # A sample without any truth names no category, so that in a macro average it is left out.
    named = [sample for sample in transcribed(run) if sample[1][0, 2]]
    micro, macro = score(DenseF1(), *samples), score(DenseF1("macro"), *samples)

    total = sum(counts for _, counts in transcribed(run))
    f1 = [harmonic(divide(right, found), divide(right, true)) for right, found, true in total]
    assert micro["F1@0.50"] == pytest.approx(f1[0])
    assert micro["F1@0.95"] == pytest.approx(f1[-1])
    assert micro["F1@0.50:0.95"] == pytest.approx(np.mean(f1))

    groups = [sum(c for name, c in named if name == category) for category in {name for name, _ in named}]
    rates = [[(divide(right, found), divide(right, true)) for right, found, true in group] for group in groups]
    average = np.mean(rates, axis=0) if rates else np.zeros((10, 2))
    assert macro["F1@0.50"] == pytest.approx(harmonic(*average[0]))
    assert macro["F1@0.95"] == pytest.approx(harmonic(*average[-1]))
    assert macro["F1@0.50:0.95"] == pytest.approx(harmonic(*average.mean(axis=0)))
    assert macro["recall@0.50:0.95"] == pytest.approx(average.mean(axis=0)[1])
