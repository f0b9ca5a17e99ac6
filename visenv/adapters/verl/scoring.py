"""The reward function for verl's reward managers: ``custom_reward_function.path=pkg://visenv.adapters.verl.scoring``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from visenv.errors import InvalidData
from visenv.rewards.visharness.compute import compute_score as published_score
from visenv.rewards.visharness.records import TYPES

NO_TASK = {"type": "point", "data": []}
"""Stands for a truth of which the published reward knows nothing."""
OF_THE_TASK = ("task_reward", "trajectory_reward", "task_metric", "iou", "gt_count", "pred_count")
"""Figures that follow from the truth."""


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | Mapping[str, Any] | None = None,
    extra_info: Mapping[str, Any] | None = None,
    **settings: Any,
) -> dict[str, float]:
    """Score a trajectory from its records, as verl's reward managers ask.

    Trajectories of ``VisenvAgentLoop`` bring their score along: verl does not ask about them. Those of ``VisenvTool``
    bring their records, and what their environment has paid: that is the score; so is what it pays for doing nothing
    (``silent_score`` of the row) if no tool was called. Any other is scored by the published reward, from its records.

    Args:
        data_source: not used.
        solution_str: not used: texts are never scored.
        ground_truth: as ``to_parquet`` writes it, or as ``visenv.rewards.visharness.compute_score`` takes it.
        extra_info: of the row, with what the trajectory brings along.
        **settings: of ``visenv.rewards.visharness.compute_score``; others say nothing.

    Returns:
        ``score`` and the figures of the published reward, numbers alone, the same for every trajectory of a data set:
        verl averages over them. NaN where one does not apply.

    Raises:
        InvalidData: if a record is not as it should be, or there is nothing to score by.

    Example:
        >>> truth = '{"type": "point", "data": [[1, 1], [2, 2]]}'
        >>> found = {"final_bboxes": [[0, 0, 3, 3]], "final_masks": [], "count": 1}
        >>> compute_score("scenes", "", truth, {"final_results": found})["score"]
        1.0
        >>> compute_score("scenes", "", truth, {"episode_score": 3.5})["score"]
        3.5
    """
    info = dict(extra_info or {})
    known = _known(ground_truth)
    turns = info.get("turn_records")
    if "silent_score" in info and (turns is None or not len(turns)):
        info.setdefault("episode_score", info["silent_score"])
    if known is None and "episode_score" not in info:
        raise InvalidData(
            f"Expected a ground truth of the type {', '.join(TYPES)}, or a row of to_parquet and a trajectory of "
            f"VisenvTool, but got {ground_truth!r:.80}."
        )
    figures = published_score(data_source, solution_str, known or NO_TASK, info, **settings)
    if known is None:
        figures |= dict.fromkeys(OF_THE_TASK, math.nan)
    if "episode_score" in info:
        figures["score"] = info["episode_score"]
    return {name: float(value) for name, value in figures.items() if isinstance(value, (int, float))}


def _known(ground_truth: object) -> Mapping[str, Any] | None:
    """A truth that the published reward can read; None for any other."""
    if isinstance(ground_truth, str):
        try:
            ground_truth = json.loads(ground_truth)
        except (ValueError, RecursionError):
            return None
    return ground_truth if isinstance(ground_truth, Mapping) and ground_truth.get("type") in TYPES else None
