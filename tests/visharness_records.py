"""Records of a trajectory and its truth, as ``compute_score`` of VisHarness takes them."""

import numpy as np
from pycocotools import mask as coco

from visenv.rewards.visharness import compute_score

KEYS = {
    *("score", "task_reward", "task_metric", "trajectory_reward", "trajectory_step_cost", "trajectory_step_cost_coef"),
    *("trajectory_step_cost_enabled", "iou", "gt_count", "pred_count", "ground_truth_empty", "task_type"),
    *("output_format_error_count", "raw_output_format_failure_count", "tool_args_error_count"),
    *("raw_tool_args_failure_count", "truncated_turn_count", "output_format_error_rate"),
    *("raw_output_format_failure_rate", "tool_args_error_rate", "raw_tool_args_failure_rate", "truncated_turn_rate"),
    *("output_format_success_rate", "tool_args_success_rate", "num_assistant_turns", "validation_sample"),
    *("trajectory_finished", "trajectory_invalid", "trajectory_aborted", "max_agent_turns_reached", "invalid_reason"),
    *("tool_call_count", "assistant_response_token_count", "observation_token_count"),
    *("trajectory_response_token_count", "generate_time_seconds", "tool_time_seconds", "trajectory_elapsed_seconds"),
    *("eval_intersection", "eval_union", "eval_iou", "eval_reward", "eval_ground_truth_empty", "eval_empty_correct"),
    *("eval_gt_count", "eval_pred_count", "eval_absolute_error", "eval_squared_error", "eval_exact_count"),
    *("eval_tp", "eval_fp", "eval_fn", "eval_explicit_empty_prediction", "eval_has_visual_result"),
}
NO_TARGET = {"type": "gres_rle_mask", "data": None}
FINISHED = {"trajectory_finished": True, "trajectory_invalid": False}


def rle(mask):
    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode()}


def corner(height, width, size=(8, 8)):
    mask = np.zeros(size, bool)
    mask[:height, :width] = True
    return mask


def gres(mask):
    return {"type": "gres_rle_mask", "data": rle(mask)}


def reasonseg(target, ignore):
    return {"type": "reasonseg_rle_mask", "data": {"target_rle": rle(target), "ignore_rle": rle(ignore)}}


def points(number):
    return {"type": "point", "data": [[10 * i + 2, 2] for i in range(number)]}


def result(*masks, boxes=None, count=None):
    boxes = [[0, 0, 3, 3]] * len(masks) if boxes is None else boxes
    return {"final_bboxes": boxes, "final_masks": [rle(mask) for mask in masks], "count": count}


def turn(formed=True, argued=True, cut=False):
    return {"output_format_success": formed, "tool_args_success": argued, "turn_truncated_by_length": cut}


def score(truth, found=None, turns=1, **info):
    records = [turn()] * turns if isinstance(turns, int) else turns
    return compute_score("any", "", truth, {"turn_records": records, "final_results": found, **info})
