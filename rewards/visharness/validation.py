"""The figures that ``compute_score`` adds on validation samples: those of the evaluators, at the original size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.rewards.functional.boxes import check_boxes
from visenv.rewards.functional.counting import count_reward
from visenv.rewards.functional.matching import point_matches
from visenv.rewards.functional.regions import RATIO_TOLERANCE, fit_to_frame, mask_intersection_union
from visenv.rewards.visharness.records import FinalResult, GroundTruth, parse_number
from visenv.rewards.visharness.task import NAN, scale_to_reward
from visenv.types import FloatArray

EDGE_TOLERANCE = 1e-4
"""How far a box may stick out of the prediction's frame, in pixels."""


def evaluate(truth: GroundTruth, result: FinalResult | None, extra_info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ``eval_*`` figures of one trajectory.

    Args:
        truth: at the original size of the image.
        result: at the size that the agent saw; scaled to the original size first.
        extra_info: of ``compute_score``.

    Returns:
        NaN and False for what does not apply, which is nearly everything on a training sample.

    Raises:
        InvalidData: on a validation sample, if boxes, masks and count do not agree in number, the aspect ratios are
            more than 1 % apart, or the original size is needed and not given.
    """
    visual = result if result is not None and result.is_visual else None
    finished = bool(extra_info.get("trajectory_finished")) and not extra_info.get("trajectory_invalid")
    explicit_empty = finished and visual is None
    figures: dict[str, Any] = {
        "eval_intersection": NAN,
        "eval_union": NAN,
        "eval_iou": NAN,
        "eval_reward": NAN,
        "eval_ground_truth_empty": False,
        "eval_empty_correct": False,
        "eval_gt_count": NAN,
        "eval_pred_count": NAN,
        "eval_absolute_error": NAN,
        "eval_squared_error": NAN,
        "eval_exact_count": NAN,
        "eval_tp": NAN,
        "eval_fp": NAN,
        "eval_fn": NAN,
        "eval_explicit_empty_prediction": explicit_empty,
        "eval_has_visual_result": visual is not None,
    }
    if not extra_info.get("validation_sample"):
        return figures
    if visual is not None:
        check_consistency(visual)
    size = _original_size(extra_info)
    if truth.points is not None:
        return figures | _count_and_localize(truth.points, visual, size)
    return figures | _segment(truth, visual, size, explicit_empty)


def check_consistency(result: FinalResult) -> None:
    """Check that boxes, masks and count agree in number.

    Raises:
        InvalidData: if they do not.
    """
    numbers = {"final_bboxes": len(result.boxes), "final_masks": len(result.rles)}
    numbers |= {} if result.count is None else {"count": int(result.count)}
    if len(set(numbers.values())) > 1 or not len(result.boxes):
        raise InvalidData(f"Expected as many boxes as masks and as the count of a result says, but got {numbers}.")


def _segment(
    truth: GroundTruth, result: FinalResult | None, size: tuple[int, int] | None, explicit_empty: bool
) -> dict[str, Any]:
    frame = size if truth.target is None else truth.target.shape
    if frame is None:
        raise InvalidData(
            "Expected `evaluation_original_width` and `evaluation_original_height` for a validation sample "
            "without any target, but got none."
        )
    if size is not None and frame != size:
        raise InvalidData(f"Expected a ground truth of the original size {size} (height, width), but got {frame}.")
    empty = Masks.empty(frame)
    target = empty if truth.target is None else truth.target
    valid_target = target if truth.ignore is None else target.minus(truth.ignore)
    null = not valid_target.areas.any()
    found = empty
    if result is not None:
        found = fit_to_frame(result.masks(frame), frame, relative=RATIO_TOLERANCE)
    intersection, union = mask_intersection_union(found, valid_target, truth.ignore)
    iou = float(explicit_empty) if null else intersection / union
    return {
        "eval_intersection": intersection,
        "eval_union": union,
        "eval_iou": iou,
        "eval_reward": scale_to_reward(iou),
        "eval_ground_truth_empty": null,
        "eval_empty_correct": null and explicit_empty,
    }


def _count_and_localize(points: FloatArray, result: FinalResult | None, size: tuple[int, int] | None) -> dict[str, Any]:
    boxes = check_boxes([])
    if result is not None:
        if size is None:
            raise InvalidData(
                "Expected `evaluation_original_width` and `evaluation_original_height` for a validation sample "
                "with a count, but got none."
            )
        boxes = _boxes_at(result, size)
    true, predicted = len(points), len(boxes)
    matched = len(point_matches(boxes, points))
    return {
        "eval_gt_count": true,
        "eval_pred_count": predicted,
        "eval_absolute_error": abs(predicted - true),
        "eval_squared_error": (predicted - true) ** 2,
        "eval_exact_count": float(predicted == true),
        "eval_reward": count_reward(predicted, true),
        "eval_tp": matched,
        "eval_fp": predicted - matched,
        "eval_fn": true - matched,
    }


def _boxes_at(result: FinalResult, size: tuple[int, int]) -> FloatArray:
    """The boxes of a result, scaled from the frame of its masks to (height, width)."""
    masks = result.masks(size)
    fit_to_frame(masks, size, relative=RATIO_TOLERANCE)
    height, width = masks.shape
    boxes = check_boxes(result.boxes, "final_bboxes")
    limits = np.array([width, height, width, height], dtype=np.float64)
    inside = (boxes >= -EDGE_TOLERANCE) & (boxes <= limits + EDGE_TOLERANCE)
    wrong = (boxes[:, 2:] <= boxes[:, :2]).any(axis=1) | ~inside.all(axis=1)
    if wrong.any():
        raise InvalidData(
            f"Expected boxes with an area inside of a frame {width} wide and {height} high, "
            f"but got {boxes[np.argmax(wrong)].tolist()}."
        )
    scale = [size[1] / width, size[0] / height] * 2
    return boxes.clip(0.0, limits) * scale


def _original_size(extra_info: Mapping[str, Any]) -> tuple[int, int] | None:
    sides = []
    for side in ("height", "width"):
        value = extra_info.get(f"evaluation_original_{side}") or extra_info.get(f"image_{side}") or 0
        sides.append(int(parse_number(value, f"'evaluation_original_{side}'")))
    return (sides[0], sides[1]) if min(sides) > 0 else None
