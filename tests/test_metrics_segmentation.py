"""gIoU, cIoU, N-acc, T-acc and Pr@X, by hand and against full frames and pycocotools."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.rewards.metrics import CIoU, GIoU, NullAccuracy, PrecisionAt
from visenv.types import Detections, MaskTruth, Outcome

SIZE = (8, 8)


def square(*box):
    return Masks.from_boxes([box], SIZE)


def found(masks, termination="answer"):
    return Outcome(Detections(masks.boxes, masks), "done" if termination == "answer" else None, termination, 3)


def nothing(termination):
    return Outcome(None, "none" if termination == "answer" else None, termination, 3)


TARGET = MaskTruth(square(0, 0, 4, 4))
NULL = MaskTruth(Masks.empty(SIZE))
SAMPLES = [
    (found(square(0, 0, 4, 4)), TARGET),  # 16 of 16
    (found(square(0, 0, 4, 2)), TARGET),  # 8 of 16
    (found(square(0, 2, 4, 6), "max_turns"), TARGET),  # 8 of 24
    (nothing("answer"), TARGET),  # 0 of 16
    (nothing("max_turns"), TARGET),  # 0 of 16, failed
    (nothing("answer"), NULL),
    (nothing("max_turns"), NULL),  # failed
    (nothing("invalid"), NULL),  # failed
    (found(square(0, 0, 2, 2)), NULL),  # 0 of 4
]


def score(metric, samples):
    for outcome, truth in samples:
        metric.update(outcome, truth)
    return metric.compute()


def test_giou_by_hand():
    figures = score(GIoU(), SAMPLES)
    assert figures == {
        "gIoU": pytest.approx((1 + 1 / 2 + 1 / 3 + 0 + 0 + 1 + 0 + 0 + 0) / 9),
        "gIoU_n": 9,
        "gIoU_failed": 3,
    }


def test_ciou_by_hand():
    figures = score(CIoU(), SAMPLES)
    assert figures == {
        "cIoU": pytest.approx((16 + 8 + 8) / (16 + 16 + 24 + 16 + 16 + 4)),
        "cIoU_n": 9,
        "cIoU_failed": 3,
    }


def test_null_accuracy_by_hand():
    assert score(NullAccuracy(), SAMPLES) == {
        **{"N_acc": 1 / 4, "N_acc_n": 4, "N_acc_failed": 2},
        **{"T_acc": 3 / 5, "T_acc_n": 5, "T_acc_failed": 1},
    }


def test_precision_at_by_hand():
    figures = score(PrecisionAt([0.3, 0.5, 0.9]), SAMPLES)
    assert figures == {
        "Pr@0.3": 3 / 5,
        "Pr@0.5": 2 / 5,
        "Pr@0.9": 1 / 5,
        "Pr_null": 4,
        "Pr@0.3_n": 5,
        "Pr@0.3_failed": 1,
    }


def test_values_are_one_a_sample():
    metrics = [GIoU(), CIoU(), NullAccuracy(), PrecisionAt([0.4])]
    for metric in metrics:
        score(metric, SAMPLES)
    giou, ciou, null, precision = (metric.values for metric in metrics)
    np.testing.assert_allclose(giou, [1, 1 / 2, 1 / 3, 0, 0, 1, 0, 0, 0])
    np.testing.assert_allclose(ciou, [1, 1 / 2, 1 / 3, 0, 0, np.nan, np.nan, np.nan, 0])
    np.testing.assert_allclose(null, [1, 1, 1, 0, 0, 1, 0, 0, 0])
    np.testing.assert_allclose(precision, [1, 1, 0, 0, 0] + [np.nan] * 4)


def test_ignored_pixels_are_removed_from_both_sides():
    # The lower half of the target is ignored, and so is what the prediction has there.
    truth = MaskTruth(square(0, 0, 4, 4), ignore=square(0, 2, 8, 8))
    assert score(CIoU(), [(found(square(0, 0, 2, 8)), truth)])["cIoU"] == 4 / 8


def test_a_target_that_is_wholly_ignored_is_none():
    truth = MaskTruth(square(0, 0, 2, 2), ignore=square(0, 0, 4, 4))
    assert score(GIoU(), [(nothing("answer"), truth), (found(square(0, 0, 2, 2)), truth)])["gIoU"] == 0.5
    assert score(NullAccuracy(), [(nothing("answer"), truth)])["N_acc"] == 1.0


def test_an_answer_with_an_empty_result_says_none():
    empty = Outcome(Detections(np.zeros((0, 4)), Masks.empty(SIZE)), "none", "answer", 3)
    assert score(GIoU(), [(empty, NULL)])["gIoU"] == 1.0
    assert score(GIoU(), [(empty, TARGET)])["gIoU"] == 0.0


def test_a_target_of_no_masks_at_all_is_none():
    truth = MaskTruth(None)
    assert score(GIoU(), [(nothing("answer"), truth), (nothing("max_turns"), truth)])["gIoU"] == 0.5
    assert score(CIoU(), [(found(square(0, 0, 2, 2)), truth), (found(square(0, 0, 4, 4)), TARGET)])["cIoU"] == 16 / 20


def test_several_masks_are_united():
    halves = Masks.from_boxes([[0, 0, 4, 2], [0, 1, 4, 4]], SIZE)
    assert score(GIoU(), [(found(halves), TARGET), (found(square(0, 0, 4, 4)), MaskTruth(halves))])["gIoU"] == 1.0


def test_figures_without_samples_are_nan():
    for metric in (GIoU(), CIoU(), NullAccuracy(), PrecisionAt([0.5])):
        figures = metric.compute()
        assert math.isnan(figures.pop(metric.name))
        figures.pop("T_acc", None)
        assert set(figures.values()) == {0.0}


def test_a_result_over_another_frame_is_stretched():
    # Twice as large: the left half of the target. Half as large again: all of it.
    large, small = Masks.from_boxes([[0, 0, 4, 8]], (16, 16)), Masks.from_boxes([[0, 0, 2, 2]], (4, 4))
    assert score(GIoU(), [(found(large), TARGET), (found(small), TARGET)])["gIoU"] == 0.75


def test_refuses_boxes_alone_and_frames_of_another_shape():
    with pytest.raises(InvalidData, match="boxes alone"):
        GIoU().update(Outcome(Detections([[0, 0, 2, 2]]), "done", "answer", 1), TARGET)
    with pytest.raises(InvalidData, match="aspect ratio"):
        GIoU().update(found(Masks.from_boxes([[0, 0, 2, 2]], (8, 9))), TARGET)


@pytest.mark.parametrize("thresholds", [[], [0.0], [1.5], [math.nan]])
def test_refuses_thresholds_that_are_none(thresholds):
    with pytest.raises(InvalidData, match="thresholds"):
        PrecisionAt(thresholds)


# --- against full frames --------------------------------------------------------------------------------------------


def samples_of(shape):
    return st.tuples(
        hnp.arrays(bool, shape) | st.just(np.zeros(shape, bool)),
        st.none() | hnp.arrays(bool, shape),
        st.none() | st.integers(1, 2).flatmap(lambda n: hnp.arrays(bool, (n, *shape))),
        st.sampled_from(["answer", "max_turns", "invalid"]),
    )


RUNS = st.tuples(st.integers(1, 6), st.integers(1, 6)).flatmap(
    lambda shape: st.lists(samples_of(shape), min_size=1, max_size=6)
)


@given(RUNS)
def test_metrics_agree_with_their_definitions_on_full_frames(run):
    metrics = [GIoU(), CIoU(), NullAccuracy(), PrecisionAt([0.25, 0.5])]
    ious, targeted, nulls, seen = [], [], [], []
    total_intersection = total_union = 0
    for target, ignore, masks, termination in run:
        truth = MaskTruth(Masks.from_dense(target), None if ignore is None else Masks.from_dense(ignore))
        detections = None
        if masks is not None:
            detections = Detections(np.zeros((len(masks), 4)), Masks.from_dense(masks))
        for metric in metrics:
            metric.update(Outcome(detections, None, termination, 1), truth)

        valid = np.ones_like(target) if ignore is None else ~ignore
        pred = np.zeros_like(target) if masks is None else masks.any(axis=0)
        intersection, union = (pred & target & valid).sum(), ((pred | target) & valid).sum()
        total_intersection, total_union = total_intersection + intersection, total_union + union
        if (target & valid).any():
            iou = intersection / union
            targeted.append(iou)
            seen.append(masks is not None)
        else:
            iou = float(masks is None and termination == "answer")
            nulls.append(iou)
        ious.append(iou)

    giou, ciou, null, precision = (metric.compute() for metric in metrics)
    assert giou["gIoU"] == pytest.approx(np.mean(ious))
    assert ciou["cIoU"] == pytest.approx(total_intersection / total_union if total_union else np.nan, nan_ok=True)
    assert null["N_acc"] == pytest.approx(np.mean(nulls) if nulls else np.nan, nan_ok=True)
    assert null["T_acc"] == pytest.approx(np.mean(seen) if seen else np.nan, nan_ok=True)
    for threshold in (0.25, 0.5):
        share = np.mean(np.array(targeted) >= threshold) if targeted else np.nan
        assert precision[f"Pr@{threshold}"] == pytest.approx(share, nan_ok=True)


@given(st.lists(st.tuples(hnp.arrays(bool, (5, 7)), hnp.arrays(bool, (5, 7))), min_size=1, max_size=5))
def test_giou_agrees_with_pycocotools_where_something_is_there(pairs):
    pairs = [(pred, target) for pred, target in pairs if target.any()]
    encoded = [[coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in pair] for pair in pairs]
    metric = GIoU()
    for pred, target in encoded:
        metric.update(found(Masks.from_coco_rles(pred)), MaskTruth(Masks.from_coco_rles(target)))
    np.testing.assert_allclose(metric.values, [coco.iou([pred], [target], [0])[0, 0] for pred, target in encoded])
