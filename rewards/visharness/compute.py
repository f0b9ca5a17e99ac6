"""``compute_score`` with the signature and the keys of VisHarness's release, which verl and its kin call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visenv.errors import InvalidData
from visenv.rewards.visharness.records import (
    FinalResult,
    GroundTruth,
    parse_final_result,
    parse_ground_truth,
    parse_number,
    parse_turns,
)
from visenv.rewards.visharness.task import TaskScore, score_counting, score_null, score_segmentation
from visenv.rewards.visharness.validation import evaluate

STEP_COST = 0.2
"""What a turn costs unless it is said otherwise."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | Mapping[str, Any],
    extra_info: Mapping[str, Any] | None = None,
    trajectory_step_cost_enabled: bool | None = None,
    trajectory_step_cost: float | None = None,
    **_: Any,
) -> dict[str, Any]:
    """Score one trajectory from its records, with the inputs and outputs of the published reward.

    Only the structured records are read, never the text of the solution. A pure function: no environment variable
    changes it.

    Args:
        data_source: not used.
        solution_str: not used.
        ground_truth: JSON text or a dict ``{"type", "data"}``: ``gres_rle_mask`` (one COCO RLE, or null for no target),
            ``reasonseg_rle_mask`` (``target_rle`` and ``ignore_rle``) or ``point`` (a list of [x, y]). A mask without
            any pixel outside of the ignored ones is no target either.
        extra_info: ``turn_records``, each with ``output_format_success``, ``tool_args_success`` and
            ``turn_truncated_by_length``; ``final_results`` with ``final_bboxes``, ``final_masks`` (COCO RLEs) and
            ``count``, or null; ``trajectory_finished`` (true only if it ended with an answer), ``trajectory_invalid``,
            ``max_agent_turns_reached``, ``invalid_reason``; with ``validation_sample`` also
            ``evaluation_ground_truth``, ``evaluation_original_width`` and ``evaluation_original_height``.
        trajectory_step_cost_enabled: whether turns cost anything; they do unless it is said otherwise.
        trajectory_step_cost: what a turn costs, 0.2 unless it is said otherwise; its sign does not matter.
        **_: whatever else a trainer passes on.

    Returns:
        A flat dict. ``score`` and ``task_reward``, in [-3, 5]; ``trajectory_reward``, which is that minus
        ``trajectory_step_cost``; ``task_metric`` in [0, 1]; ``iou``, ``gt_count`` and ``pred_count``; counts and rates
        of faulty turns, each turn counted once (cut, then format, then arguments; ``raw_…`` without that order);
        what ``extra_info`` says of the trajectory; and the ``eval_…`` figures of validation samples. NaN where a
        figure does not apply.

    Raises:
        InvalidData: if the ground truth or a record is not as above, the aspect ratio of the prediction is too far from
            the truth's (height / width by more than 0.05; on validation samples, by more than 1 %), or on a
            validation sample boxes, masks and count do not agree in number.

    Source:
        VisHarness, arXiv 2605.29894, and the reward of its released code.

    Example:
        >>> truth = {"type": "point", "data": [[1, 1], [2, 2], [3, 3], [4, 4]]}
        >>> found = {"final_bboxes": [[0, 0, 3, 3]] * 3, "final_masks": [], "count": 3}
        >>> turns = [{"output_format_success": True, "tool_args_success": True}] * 2
        >>> figures = compute_score("", "", truth, {"turn_records": turns, "final_results": found})
        >>> figures["task_reward"], figures["trajectory_reward"], figures["task_metric"]
        (3.0, 2.6, 0.75)
    """
    info = {} if extra_info is None else extra_info
    if not isinstance(info, Mapping):
        raise InvalidData(f"Expected argument `extra_info` to be a dict, but got {info!r:.80}.")
    truth = parse_ground_truth(ground_truth)
    result = parse_final_result(info.get("final_results"))
    finished = bool(info.get("trajectory_finished")) and not info.get("trajectory_invalid")
    task = _score_task(truth, result, finished)
    turns = parse_turns(info.get("turn_records"))
    enabled = True if trajectory_step_cost_enabled is None else bool(trajectory_step_cost_enabled)
    step_cost = STEP_COST if trajectory_step_cost is None else trajectory_step_cost
    coefficient = abs(parse_number(step_cost, "argument `trajectory_step_cost`")) if enabled else 0.0
    total_cost = coefficient * len(turns)
    original = info.get("evaluation_ground_truth") if info.get("validation_sample") else None
    evaluated = truth if original is None else parse_ground_truth(original, "evaluation_ground_truth")
    return {
        "score": task.reward,
        "task_reward": task.reward,
        "task_metric": task.metric,
        "trajectory_reward": task.reward - total_cost,
        "trajectory_step_cost": total_cost,
        "trajectory_step_cost_enabled": enabled,
        "trajectory_step_cost_coef": coefficient,
        "iou": task.iou,
        "gt_count": task.true_count,
        "pred_count": task.predicted_count,
        "ground_truth_empty": task.null,
        **_count_faults(turns),
        "task_type": truth.type,
        **_describe_trajectory(turns, info),
        **evaluate(evaluated, result, info),
    }


def _score_task(truth: GroundTruth, result: FinalResult | None, finished: bool) -> TaskScore:
    if truth.points is not None:
        return score_counting(None if result is None else len(result.boxes), len(truth.points))
    if truth.target is None:
        return score_null(result is None and finished)
    found = None if result is None else result.masks(truth.target.shape)
    return score_segmentation(found, truth.target, truth.ignore, finished=finished)


def _count_faults(turns: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Count faulty turns; the rates of an empty trajectory are 0."""
    cut = [bool(turn.get("turn_truncated_by_length", False)) for turn in turns]
    formed = [bool(turn.get("output_format_success", False)) for turn in turns]
    argued = [bool(turn.get("tool_args_success", True)) for turn in turns]
    counts = {
        "output_format_error": sum(not c and not f for c, f in zip(cut, formed, strict=True)),
        "raw_output_format_failure": sum(not f for f in formed),
        "tool_args_error": sum(not c and f and not a for c, f, a in zip(cut, formed, argued, strict=True)),
        "raw_tool_args_failure": sum(f and not a for f, a in zip(formed, argued, strict=True)),
        "truncated_turn": sum(cut),
    }
    total = len(turns)
    good = {
        "output_format_success": sum(formed),
        "tool_args_success": sum(f and a for f, a in zip(formed, argued, strict=True)),
    }
    return {
        **{f"{name}_count": number for name, number in counts.items()},
        **{f"{name}_rate": number / total if total else 0.0 for name, number in (counts | good).items()},
        "num_assistant_turns": total,
    }


def _describe_trajectory(turns: list[Mapping[str, Any]], info: Mapping[str, Any]) -> dict[str, Any]:
    """Pass on what is known of a trajectory; lengths in tokens are summed over its turns where no total is given."""
    responses = sum(_figure(turn, "turn_response_length") for turn in turns)
    observations = sum(_figure(turn, "observation_token_length") for turn in turns)
    flags = (
        "validation_sample",
        "trajectory_finished",
        "trajectory_invalid",
        "trajectory_aborted",
        "max_agent_turns_reached",
    )
    times = ("generate_time_seconds", "tool_time_seconds", "trajectory_elapsed_seconds")
    return {
        **{name: bool(info.get(name, False)) for name in flags},
        "invalid_reason": info.get("invalid_reason"),
        "tool_call_count": int(_figure(info, "tool_call_count")),
        "assistant_response_token_count": int(_figure(info, "assistant_response_token_count") or responses),
        "observation_token_count": int(_figure(info, "observation_token_count") or observations),
        "trajectory_response_token_count": int(_figure(info, "trajectory_response_length") or responses + observations),
        **{name: _figure(info, name) for name in times},
    }


def _figure(record: Mapping[str, Any], name: str) -> float:
    """A number of a record; 0 where it is missing or None."""
    value = record.get(name)
    return 0.0 if value is None else parse_number(value, repr(name))
