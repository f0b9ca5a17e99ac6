"""The reward of VisHarness and broken records: each is said to be broken, by name."""

import math

import numpy as np
import pytest
from visharness_records import NO_TARGET, corner, gres, points, reasonseg, rle, score, turn

from visenv.errors import InvalidData
from visenv.rewards.visharness import compute_score


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"ground_truth": "[" * 100_000}, "ground_truth"),
        ({"ground_truth": {"type": "point", "data": [[10**400, 1]]}}, "data"),
        ({"extra_info": 5}, "extra_info"),
        ({"trajectory_step_cost": "much"}, "trajectory_step_cost"),
        ({"trajectory_step_cost": float("nan")}, "trajectory_step_cost"),
        ({"extra_info": {"final_results": {"count": 10**400}}}, "count"),
        ({"extra_info": {"final_results": {"count": float("inf")}}}, "count"),
        ({"extra_info": {"turn_records": [{"turn_response_length": "long"}]}}, "turn_response_length"),
        ({"extra_info": {"tool_call_count": float("nan")}}, "tool_call_count"),
        (
            {"extra_info": {"validation_sample": True, "evaluation_original_width": "wide"}},
            "evaluation_original_width",
        ),
    ],
)
def test_broken_records_are_named(keywords, named):
    with pytest.raises(InvalidData, match=named):
        compute_score(**({"data_source": "", "solution_str": "", "ground_truth": NO_TARGET} | keywords))


@pytest.mark.parametrize(
    ("truth", "match"),
    [
        ("{", "to be JSON"),
        ("[1]", "'type' and 'data'"),
        (7, "'type' and 'data'"),
        ({"type": "point"}, "'type' and 'data'"),
        ({"type": "boxes", "data": []}, "gres_rle_mask, reasonseg_rle_mask, point"),
        ({"type": "point", "data": None}, "list of"),
        ({"type": "point", "data": [[1, 2, 3]]}, "shape"),
        ({"type": "point", "data": [[1, math.inf]]}, "finite"),
        ({"type": "point", "data": [["a", "b"]]}, "numbers"),
        ({"type": "gres_rle_mask", "data": 3}, "gres_rle_mask"),
        ({"type": "gres_rle_mask", "data": []}, "gres_rle_mask"),
        ({"type": "gres_rle_mask", "data": [rle(corner(1, 1))] * 2}, "union"),
        ({"type": "gres_rle_mask", "data": {"size": [4, 4], "counts": "garbage!"}}, "RLE"),
        ({"type": "reasonseg_rle_mask", "data": None}, "target_rle"),
        ({"type": "reasonseg_rle_mask", "data": {"target_rle": rle(corner(1, 1))}}, "ignore_rle"),
        (reasonseg(corner(1, 1), corner(1, 1, (9, 9))), "one frame"),
    ],
)
def test_a_broken_ground_truth_is_said_to_be_broken(truth, match):
    with pytest.raises(InvalidData, match=match):
        score(truth)


@pytest.mark.parametrize(
    ("found", "match"),
    [
        ([1], "final_results"),
        ({"final_bboxes": "four", "final_masks": []}, "final_bboxes"),
        ({"final_bboxes": [], "final_masks": "some"}, "final_masks"),
        ({"final_bboxes": [], "final_masks": [], "count": "many"}, "count"),
        ({"final_bboxes": [], "final_masks": [{"size": [4, 4], "counts": [1, 2]}]}, "final_masks"),
        ({"final_bboxes": [], "final_masks": [rle(corner(1, 1)), rle(corner(1, 1, (9, 9)))]}, "final_masks"),
    ],
)
def test_a_broken_result_is_said_to_be_broken(found, match):
    with pytest.raises(InvalidData, match=match):
        score(gres(corner(1, 1)), found)


def test_broken_turn_records_are_said_to_be_broken():
    with pytest.raises(InvalidData, match="turn_records"):
        score(NO_TARGET, turns=["turn"])
    with pytest.raises(InvalidData, match="turn_records"):
        compute_score("", "", NO_TARGET, {"turn_records": "turns"})


def test_arrays_of_records_are_taken_as_lists():
    records = np.empty(2, object)
    records[:] = [turn(), turn()]
    found = {"final_bboxes": np.zeros((3, 4)), "final_masks": [], "count": np.int64(3)}
    figures = compute_score("", "", points(4), {"turn_records": records, "final_results": found})
    assert (figures["num_assistant_turns"], figures["pred_count"]) == (2, 3)
