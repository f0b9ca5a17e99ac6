"""The reward of VisHarness: every rule by hand, and both of its faces against a transcription on full frames."""

import json
import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from visharness_records import FINISHED, KEYS, NO_TARGET, corner, gres, points, reasonseg, result, score, turn

from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.rewards.visharness import VisHarnessReward, compute_score
from visenv.types import (
    Answer,
    AnswerTruth,
    BoxesTruth,
    Detections,
    Malformed,
    MaskTruth,
    Outcome,
    PointsTruth,
    ToolCall,
    Turn,
)

# --- compute_score: the task reward -----------------------------------------------------------------------------------

TASKS = {
    "all of it": (gres(corner(4, 4)), result(corner(4, 4)), FINISHED, 5.0, 1.0),
    "half of it": (gres(corner(4, 4)), result(corner(4, 2)), FINISHED, 1.0, 0.5),
    "two masks are united": (gres(corner(4, 4)), result(corner(4, 2), corner(2, 4)), FINISHED, 3.0, 0.75),
    "none of it": (gres(corner(4, 4)), result(~corner(4, 4)), FINISHED, -3.0, 0.0),
    "at the turn limit all the same": (gres(corner(4, 4)), result(corner(4, 2)), {}, 1.0, 0.5),
    "no result": (gres(corner(4, 4)), None, FINISHED, -3.0, 0.0),
    "a result without masks": (gres(corner(4, 4)), result(), FINISHED, -3.0, 0.0),
    "nothing there, and said": (NO_TARGET, None, FINISHED, 5.0, 1.0),
    "nothing there, not said": (NO_TARGET, None, {"max_agent_turns_reached": True}, -3.0, 0.0),
    "nothing there, invalid": (NO_TARGET, None, {"trajectory_finished": True, "trajectory_invalid": True}, -3.0, 0.0),
    "nothing there, something found": (NO_TARGET, result(corner(4, 4)), FINISHED, -3.0, 0.0),
    "nothing there, an empty result": (NO_TARGET, result(), FINISHED, -3.0, 0.0),
    "no pixel there, and said": (gres(corner(0, 0)), None, FINISHED, 5.0, 1.0),
    "ignored on the prediction's side": (
        reasonseg(corner(4, 4), ~corner(4, 8)),
        result(corner(4, 4) | ~corner(4, 8)),
        FINISHED,
        5.0,
        1.0,
    ),
    "ignored on the truth's side": (reasonseg(corner(8, 4), ~corner(4, 8)), result(corner(4, 4)), FINISHED, 5.0, 1.0),
    "partly ignored": (reasonseg(corner(8, 4), ~corner(4, 8)), result(corner(8, 2)), FINISHED, 1.0, 0.5),
    "all ignored, and nothing said": (reasonseg(corner(2, 2), corner(4, 4)), None, FINISHED, 5.0, 1.0),
    "all ignored, and found": (reasonseg(corner(2, 2), corner(4, 4)), result(corner(2, 2)), FINISHED, -3.0, 0.0),
    "the right count": (points(4), result(boxes=[[0, 0, 1, 1]] * 4), FINISHED, 5.0, 1.0),
    "one too few": (points(4), result(boxes=[[0, 0, 1, 1]] * 3), FINISHED, 3.0, 0.75),
    "one too many": (points(4), result(boxes=[[0, 0, 1, 1]] * 5), FINISHED, 3.0, 0.75),
    "far too many": (points(4), result(boxes=[[0, 0, 1, 1]] * 40), FINISHED, -3.0, 0.0),
    "boxes count, not masks": (points(4), result(corner(1, 1), boxes=[[0, 0, 1, 1]] * 3, count=9), {}, 3.0, 0.75),
    "one where none is": (points(0), result(boxes=[[0, 0, 1, 1]]), FINISHED, 3.0, 0.0),
    "an empty result where none is": (points(0), result(), FINISHED, 5.0, 1.0),
    "no count": (points(4), None, FINISHED, -3.0, 0.0),
    "no count where none is": (points(0), None, FINISHED, -3.0, 0.0),
}


@pytest.mark.parametrize("name", TASKS)
def test_task_reward_by_hand(name):
    truth, found, info, reward, metric = TASKS[name]
    for ground_truth in (truth, json.dumps(truth)):
        figures = score(ground_truth, found, turns=3, **info)
        assert figures["task_reward"] == figures["score"] == pytest.approx(reward)
        assert figures["task_metric"] == pytest.approx(metric)
        assert figures["trajectory_reward"] == pytest.approx(reward - 0.6)


def test_every_key_is_there_and_what_does_not_apply_is_nan():
    figures = score(gres(corner(4, 4)), result(corner(4, 2)), **FINISHED)
    assert set(figures) == KEYS
    assert figures["iou"] == 0.5
    assert math.isnan(figures["gt_count"])
    assert math.isnan(figures["pred_count"])
    assert figures["task_type"] == "gres_rle_mask"
    assert figures["ground_truth_empty"] is False
    assert all(
        math.isnan(figures[key]) for key in KEYS if key.startswith("eval_") and not isinstance(figures[key], bool)
    )
    assert figures["eval_has_visual_result"] is True
    assert figures["eval_explicit_empty_prediction"] is False

    figures = score(points(4), result(boxes=[[0, 0, 1, 1]] * 3))
    assert set(figures) == KEYS
    assert (figures["gt_count"], figures["pred_count"]) == (4, 3)
    assert math.isnan(figures["iou"])

    figures = score(NO_TARGET, **FINISHED)
    assert set(figures) == KEYS
    assert figures["ground_truth_empty"] is figures["eval_explicit_empty_prediction"] is True
    assert math.isnan(figures["iou"])

    figures = score(points(4))
    assert math.isnan(figures["gt_count"])
    assert math.isnan(figures["pred_count"])


def test_nothing_but_the_records_is_needed():
    assert compute_score("", "", NO_TARGET)["task_reward"] == -3.0
    assert compute_score("", "", NO_TARGET, None, reward_router_address=None)["num_assistant_turns"] == 0


def test_the_inputs_are_left_as_they_were():
    truth, found = gres(corner(4, 4)), result(corner(4, 2))
    before = json.dumps([truth, found])
    score(truth, found)
    assert json.dumps([truth, found]) == before


# --- compute_score: the cost of turns and their faults ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("enabled", "cost", "coefficient"),
    [(None, None, 0.2), (True, None, 0.2), (None, 0.5, 0.5), (None, -0.5, 0.5), (False, 0.5, 0.0), (False, None, 0.0)],
)
def test_step_cost_by_hand(enabled, cost, coefficient):
    info = {"turn_records": [turn()] * 4, **FINISHED}
    figures = compute_score("", "", NO_TARGET, info, trajectory_step_cost_enabled=enabled, trajectory_step_cost=cost)
    assert figures["trajectory_step_cost_enabled"] is (enabled is not False)
    assert figures["trajectory_step_cost_coef"] == coefficient
    assert figures["trajectory_step_cost"] == 4 * coefficient
    assert figures["trajectory_reward"] == 5.0 - 4 * coefficient
    assert figures["score"] == 5.0


def test_step_cost_must_be_finite():
    with pytest.raises(InvalidData, match="trajectory_step_cost"):
        compute_score("", "", NO_TARGET, trajectory_step_cost=math.nan)


def test_step_cost_does_not_look_at_the_environment(monkeypatch):
    monkeypatch.setenv("VISHARNESS_TRAJECTORY_STEP_COST", "3")
    monkeypatch.setenv("VISHARNESS_TRAJECTORY_STEP_COST_ENABLE", "0")
    assert score(NO_TARGET, **FINISHED)["trajectory_step_cost"] == 0.2


def test_each_faulty_turn_is_counted_once():
    turns = [
        turn(),
        turn(formed=False, argued=False),
        turn(argued=False),
        turn(argued=False),
        turn(cut=True),
        turn(formed=False, argued=False, cut=True),
        turn(argued=False, cut=True),
        {},
    ]
    figures = score(NO_TARGET, turns=turns)
    counted = {
        "truncated_turn": 3,
        "output_format_error": 2,
        "raw_output_format_failure": 3,
        "tool_args_error": 2,
        "raw_tool_args_failure": 3,
    }
    for name, number in counted.items():
        assert figures[f"{name}_count"] == number, name
        assert figures[f"{name}_rate"] == number / 8, name
    assert figures["output_format_success_rate"] == 5 / 8
    assert figures["tool_args_success_rate"] == 2 / 8
    assert figures["num_assistant_turns"] == 8


def test_what_a_record_leaves_out_is_a_bad_form_and_good_arguments():
    figures = score(NO_TARGET, turns=[{"output_format_success": True}, {"tool_args_success": True}])
    assert (
        figures["output_format_error_count"],
        figures["tool_args_error_count"],
        figures["truncated_turn_count"],
    ) == (1, 0, 0)
    assert figures["tool_args_success_rate"] == 0.5


def test_rates_of_no_turns_are_zero():
    figures = score(NO_TARGET, turns=0)
    assert all(value == 0.0 for key, value in figures.items() if key.endswith("_rate"))


def test_what_is_known_of_the_trajectory_is_passed_on():
    turns = [
        {**turn(), "turn_response_length": 10, "observation_token_length": 5},
        {**turn(), "turn_response_length": 7},
    ]
    figures = score(NO_TARGET, turns=turns, invalid_reason="rollout_prompt_overlong", max_agent_turns_reached=True)
    assert figures["invalid_reason"] == "rollout_prompt_overlong"
    assert figures["max_agent_turns_reached"] is True
    assert figures["assistant_response_token_count"] == 17
    assert figures["observation_token_count"] == 5
    assert figures["trajectory_response_token_count"] == 22
    totals = {"assistant_response_token_count": 1, "observation_token_count": 2, "trajectory_response_length": 3}
    figures = score(NO_TARGET, turns=turns, tool_call_count=4, tool_time_seconds=0.5, **totals)
    assert figures["assistant_response_token_count"] == 1
    assert figures["observation_token_count"] == 2
    assert figures["trajectory_response_token_count"] == 3
    assert (figures["tool_call_count"], figures["tool_time_seconds"]) == (4, 0.5)


# --- compute_score: other sizes ---------------------------------------------------------------------------------------


def test_prediction_of_another_size_is_stretched_by_nearest_neighbour():
    truth, found = corner(10, 14, (20, 30)), corner(4, 5, (7, 11))
    stretched = cv2.resize(found.astype(np.uint8), (30, 20), interpolation=cv2.INTER_NEAREST).astype(bool)
    expected = (stretched & truth).sum() / (stretched | truth).sum()
    assert score(gres(truth), result(found))["iou"] == pytest.approx(expected)


@pytest.mark.parametrize(("width", "fits"), [(20, True), (21, True), (22, False), (18, False)])
def test_task_reward_allows_ratios_to_differ_by_a_twentieth(width, fits):
    truth, found = gres(corner(4, 4, (20, 20))), result(corner(4, 4, (20, width)))
    if fits:
        assert score(truth, found)["iou"] > 0.8
    else:
        with pytest.raises(InvalidData, match="aspect ratio"):
            score(truth, found)


# --- both faces against a transcription -------------------------------------------------------------------------------


def transcribed(target, ignore, masks, finished):
    """The published reward on full frames: 8 * IoU - 3, and what is paid for nothing."""
    valid = ~ignore
    if not (target & valid).any():
        return 5.0 if masks is None and finished else -3.0
    if masks is None:
        return -3.0
    pred = masks.any(axis=0)
    return 8.0 * (pred & target & valid).sum() / ((pred | target) & valid).sum() - 3.0


SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
SAMPLES = SHAPES.flatmap(
    lambda shape: st.tuples(
        hnp.arrays(bool, shape),
        hnp.arrays(bool, shape),
        st.none() | st.integers(1, 3).flatmap(lambda n: hnp.arrays(bool, (n, *shape))),
        st.sampled_from(["answer", "max_turns", "token_budget"]),
        st.integers(1, 10),
    )
)


@given(SAMPLES)
def test_both_faces_agree_with_the_transcription(sample):
    target, ignore, masks, termination, turns = sample
    finished = termination == "answer"
    expected = transcribed(target, ignore, masks, finished)
    found = None if masks is None else result(*masks)
    figures = score(reasonseg(target, ignore), found, turns=turns, trajectory_finished=finished)
    assert figures["task_reward"] == pytest.approx(expected)

    detections = None if masks is None else Detections(np.zeros((len(masks), 4)), Masks.from_dense(masks))
    outcome = Outcome(detections, "done" if finished else None, termination, turns)
    truth = MaskTruth(Masks.from_dense(target), Masks.from_dense(ignore))
    reward = VisHarnessReward(step_cost=0.2)
    paid = [reward.turn(Turn(index, ToolCall("MergeBoxMask"), "")) for index in range(1, turns + 1)]
    paid.append(reward.final(outcome, truth))
    total = sum(sum(terms.values()) for terms in paid)
    assert total == pytest.approx(figures["trajectory_reward"])
    assert reward.bounds[0] <= total <= reward.bounds[1]


@given(st.none() | st.integers(0, 20), st.integers(0, 12))
def test_both_faces_count_alike(predicted, true):
    boxes = None if predicted is None else [[0, 0, 1, 1]] * predicted
    figures = score(points(true), None if boxes is None else result(boxes=boxes))
    outcome = Outcome(None if boxes is None else Detections(boxes), "done", "answer", 1)
    reward = VisHarnessReward()
    assert reward.final(outcome, PointsTruth(points(true)["data"])) == {"task": pytest.approx(figures["task_reward"])}
    assert -3.0 <= figures["task_reward"] <= 5.0


# --- the reward of the environments -----------------------------------------------------------------------------------


FOUND = Detections([[0, 0, 10, 10]])
SAID_NONE = Outcome(None, "nothing", "answer", 1)


def test_every_turn_costs_the_same_whatever_was_done_in_it():
    reward = VisHarnessReward(step_cost=0.2)
    bad = Malformed("bad_json", "The arguments are no JSON.")
    for action in (ToolCall("MergeBoxMask"), Answer("done"), bad):
        assert reward.turn(Turn(1, action, "", error=bad)) == {"step_cost": -0.2}
    assert VisHarnessReward().turn(Turn(1, bad, "")) == {"step_cost": 0.0}


def test_bounds_are_those_of_an_episode():
    assert VisHarnessReward().bounds == (-3.0, 5.0)
    assert VisHarnessReward(step_cost=0.5).bounds == (-math.inf, 4.5)


@pytest.mark.parametrize("cost", [-0.1, math.nan, math.inf])
def test_step_cost_of_an_environment_must_be_a_cost(cost):
    with pytest.raises(InvalidData, match="step_cost"):
        VisHarnessReward(step_cost=cost)


def test_nothing_there_is_paid_on_an_answer_alone():
    reward, nothing = VisHarnessReward(), MaskTruth(Masks.empty((8, 8)))
    assert reward.final(SAID_NONE, nothing) == {"task": 5.0}
    for termination in ("max_turns", "token_budget"):
        assert reward.final(replace(SAID_NONE, answer=None, termination=termination), nothing) == {"task": -3.0}
    masks = Masks.from_boxes([[0, 0, 2, 2]], (8, 8))
    assert reward.final(Outcome(Detections(masks.boxes, masks), "", "answer", 2), nothing) == {"task": -3.0}
    assert reward.final(SAID_NONE, BoxesTruth(np.zeros((0, 4)))) == {"task": 5.0}
    assert reward.final(SAID_NONE, PointsTruth(np.zeros((0, 2)))) == {"task": -3.0}


def test_an_invalid_episode_is_worth_nothing_either_way():
    invalid = Outcome(FOUND, None, "invalid", 3)
    for truth in (MaskTruth(Masks.empty((8, 8))), PointsTruth([[5, 5]]), BoxesTruth([[0, 0, 10, 10]])):
        assert VisHarnessReward().final(invalid, truth) == {"task": 0.0}


def test_detection_pays_the_mean_f1_over_thresholds():
    reward = VisHarnessReward()
    # IoU 100 / 140 = 0.714: right at .50 to .70, five of ten thresholds; with a second box missed, F1 is 2/3 there.
    truth = BoxesTruth([[0, 0, 10, 14]])
    assert reward.final(Outcome(FOUND, "", "answer", 2), truth) == {"task": pytest.approx(8 * 0.5 - 3)}
    truth = BoxesTruth([[0, 0, 10, 14], [50, 50, 60, 60]])
    assert reward.final(Outcome(FOUND, "", "max_turns", 9), truth) == {"task": pytest.approx(8 * (0.5 * 2 / 3) - 3)}
    assert reward.final(SAID_NONE, truth) == {"task": -3.0}
    assert reward.final(Outcome(FOUND, "", "answer", 2), BoxesTruth(np.zeros((0, 4)))) == {"task": -3.0}


def test_answers_pay_f1_or_with_choices_exact_match():
    reward = VisHarnessReward()
    said = Outcome(None, "red umbrella", "answer", 1)
    assert reward.final(said, AnswerTruth(("the umbrella",))) == {"task": pytest.approx(8 * 2 / 3 - 3)}
    assert reward.final(said, AnswerTruth(("the umbrella",), ("the umbrella", "the hat"))) == {"task": -3.0}
    assert reward.final(replace(said, answer="(A)"), AnswerTruth(("A",), ("A", "B"))) == {"task": 5.0}
    assert reward.final(Outcome(None, None, "max_turns", 9), AnswerTruth(("A",))) == {"task": -3.0}


def test_boxes_alone_are_no_segmentation():
    with pytest.raises(InvalidData, match="boxes alone"):
        VisHarnessReward().final(Outcome(FOUND, "", "answer", 2), MaskTruth(Masks.from_boxes([[0, 0, 9, 9]], (9, 9))))


def test_an_unknown_truth_is_refused():
    with pytest.raises(InvalidData, match="str"):
        VisHarnessReward().final(SAID_NONE, "the umbrella")
