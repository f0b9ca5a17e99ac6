"""The reward of VisHarness on validation samples: by hand, at the original size."""

import json
import math

import pytest
from visharness_records import FINISHED, NO_TARGET, corner, gres, points, reasonseg, result, score

from visenv.errors import InvalidData


def validate(truth, found=None, size=(8, 8), original=None, **info):
    sizes = {"evaluation_original_height": size[0], "evaluation_original_width": size[1]} if size else {}
    original = truth if original is None else original
    validation = {"validation_sample": True, "evaluation_ground_truth": json.dumps(original)}
    return score(truth, found, **{**validation, **sizes, **FINISHED, **info})


def test_validation_of_a_mask_at_the_original_size():
    figures = validate(
        gres(corner(4, 4)), result(corner(4, 2), count=1), size=(16, 16), original=gres(corner(8, 8, (16, 16)))
    )
    assert figures["iou"] == 0.5
    assert (figures["eval_intersection"], figures["eval_union"]) == (32, 64)
    assert (figures["eval_iou"], figures["eval_reward"]) == (0.5, 1.0)
    assert figures["eval_ground_truth_empty"] is figures["eval_empty_correct"] is False
    assert math.isnan(figures["eval_gt_count"])


def test_validation_removes_ignored_pixels():
    figures = validate(reasonseg(corner(8, 4), ~corner(4, 8)), result(corner(8, 2), count=1))
    assert (figures["eval_intersection"], figures["eval_union"], figures["eval_iou"]) == (8, 16, 0.5)


@pytest.mark.parametrize("truth", [NO_TARGET, reasonseg(corner(2, 2), corner(2, 2)), gres(corner(0, 0))])
def test_validation_asks_for_an_explicit_answer_where_nothing_is_there(truth):
    said = validate(truth)
    assert (said["eval_iou"], said["eval_reward"], said["eval_empty_correct"]) == (1.0, 5.0, True)
    for info in ({"trajectory_finished": False}, {"trajectory_invalid": True}):
        unsaid = validate(truth, **info)
        assert (unsaid["eval_iou"], unsaid["eval_reward"], unsaid["eval_empty_correct"]) == (0.0, -3.0, False)
        assert unsaid["eval_ground_truth_empty"] is True
    filled = validate(truth, result(~corner(4, 8), count=1))
    assert (filled["eval_iou"], filled["eval_intersection"], filled["eval_union"]) == (0.0, 0, 32)


def test_validation_takes_an_empty_result_for_none_where_the_task_reward_does_not():
    figures = validate(NO_TARGET, result(count=0))
    assert (figures["eval_iou"], figures["eval_explicit_empty_prediction"]) == (1.0, True)
    assert figures["task_reward"] == -3.0


def test_validation_of_a_count_scales_boxes_first():
    # Centres (2, 2) and (6, 6) at the original size, radius 2 * sqrt(2); as seen, none is near enough.
    found = result(corner(2, 2), ~corner(6, 6), boxes=[[0, 0, 2, 2], [2, 2, 4, 4]], count=2)
    truth = {"type": "point", "data": [[1, 3], [9.1, 6], [15, 15]]}
    figures = validate(points(3), found, size=(16, 16), original=truth)
    assert (figures["eval_tp"], figures["eval_fp"], figures["eval_fn"]) == (1, 1, 2)
    assert (figures["eval_gt_count"], figures["eval_pred_count"]) == (3, 2)
    assert (figures["eval_absolute_error"], figures["eval_squared_error"], figures["eval_exact_count"]) == (1, 1, 0.0)
    assert figures["eval_reward"] == pytest.approx(5 - 8 / 3)
    assert math.isnan(figures["eval_iou"])


def test_validation_of_a_count_without_a_result():
    figures = validate(points(3), size=None)
    assert (figures["eval_tp"], figures["eval_fp"], figures["eval_fn"]) == (0, 0, 3)
    figures = validate(points(0))
    assert (figures["eval_reward"], figures["eval_exact_count"], figures["task_reward"]) == (5.0, 1.0, -3.0)


INCONSISTENT = {
    "more boxes than masks": result(corner(1, 1), boxes=[[0, 0, 1, 1]] * 2, count=2),
    "another count": result(corner(1, 1), count=2),
    "a count alone": result(count=2),
    "masks alone": result(corner(1, 1), boxes=[]),
}


@pytest.mark.parametrize("name", INCONSISTENT)
def test_numbers_have_to_agree_on_validation_samples_alone(name):
    found = INCONSISTENT[name]
    assert score(gres(corner(1, 1)), found, **FINISHED)["task_reward"] in (5.0, -3.0)
    with pytest.raises(InvalidData, match="as many boxes as masks"):
        validate(gres(corner(1, 1)), found)


@pytest.mark.parametrize(
    ("truth", "found", "size", "match"),
    [
        (gres(corner(4, 4)), result(corner(4, 4), count=1), (9, 8), "original size"),
        (NO_TARGET, None, None, "evaluation_original_width"),
        (points(1), result(corner(4, 4), count=1), None, "evaluation_original_width"),
        (points(1), result(corner(4, 4, (100, 100)), count=1), (100, 102), "aspect ratio"),
        (points(1), result(corner(4, 4), boxes=[[0, 0, 9, 4]], count=1), (8, 8), "inside"),
        (points(1), result(corner(4, 4), boxes=[[4, 0, 4, 4]], count=1), (8, 8), "with an area"),
        (points(1), result(corner(4, 4), boxes=[[0, 0, math.nan, 4]], count=1), (8, 8), "finite"),
    ],
)
def test_validation_refuses_what_does_not_fit(truth, found, size, match):
    with pytest.raises(InvalidData, match=match):
        validate(truth, found, size)


def test_validation_is_stricter_about_ratios_than_the_task_reward():
    truth, found = gres(corner(4, 4, (100, 100))), result(corner(4, 4, (100, 102)), count=1)
    assert score(truth, found)["iou"] > 0.8
    with pytest.raises(InvalidData, match="aspect ratio"):
        validate(truth, found, (100, 100))
