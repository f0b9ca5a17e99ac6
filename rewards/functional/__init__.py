"""Rewards and scores as plain functions: of masks, boxes, points, counts, text and turns.

All are pure. Masks may be given as ``visenv.masks.Masks``, as dense arrays or as COCO run-length encodings; boxes are
``xyxy`` pixels, half-open. Every function says what it returns where both sides are empty.
"""

from visenv.rewards.functional.boxes import box_coverage, box_iou
from visenv.rewards.functional.counting import count_error, count_reward
from visenv.rewards.functional.matching import (
    IOU_THRESHOLDS,
    f1_score,
    greedy_match,
    hungarian_match,
    match_radius,
    point_matches,
    precision_recall_f1,
)
from visenv.rewards.functional.pictures import colour_error, edge_error, likeness, mending
from visenv.rewards.functional.regions import dice, fit_to_frame, mask_intersection_union, mask_iou
from visenv.rewards.functional.text import exact_match, token_f1
from visenv.rewards.functional.turns import format_score
from visenv.wording import normalize_answer

__all__ = [
    "IOU_THRESHOLDS",
    "box_coverage",
    "box_iou",
    "colour_error",
    "count_error",
    "count_reward",
    "dice",
    "edge_error",
    "exact_match",
    "f1_score",
    "fit_to_frame",
    "format_score",
    "greedy_match",
    "hungarian_match",
    "likeness",
    "mask_intersection_union",
    "mask_iou",
    "match_radius",
    "mending",
    "normalize_answer",
    "point_matches",
    "precision_recall_f1",
    "token_f1",
]
