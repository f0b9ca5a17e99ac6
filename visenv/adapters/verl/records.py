"""What is told of an episode beside its tokens: plain values, under the names that the published reward reads."""

from __future__ import annotations

from typing import Any

from visenv.episode import Episode
from visenv.types import Malformed


def trajectory_flags(episode: Episode, problem: str | None) -> dict[str, Any]:
    """How a trajectory ended.

    Args:
        episode: at its end, or where it was broken off.
        problem: why the trajectory is invalid; None if it is not.
    """
    return {
        "sample_id": episode.sample_id,
        "termination": episode.outcome.termination,
        "trajectory_finished": episode.outcome.termination == "answer",
        "trajectory_invalid": problem is not None,
        "invalid_reason": problem,
        "max_agent_turns_reached": episode.outcome.termination == "max_turns",
    }


def trajectory_records(episode: Episode) -> dict[str, Any]:
    """All that ``compute_score`` reads of a trajectory: its flags, its turns and its final result."""
    found = episode.workspace.final
    final = None
    if found is not None:
        final = {
            "final_bboxes": found.boxes.tolist(),
            "final_masks": [] if found.masks is None else found.masks.to_coco_rles(),
            "count": len(found),
        }
    turns = [
        {
            "output_format_success": not isinstance(turn.action, Malformed),
            "tool_args_success": turn.error is None,
            "turn_truncated_by_length": turn.cut,
        }
        for turn in episode.transcript
    ]
    return {**trajectory_flags(episode, episode.problem), "turn_records": turns, "final_results": final}


def standing_score(episode: Episode, paid: float) -> float:
    """What an episode pays in all if nothing more is done in it: as if at the turn limit, if it has not ended.

    Args:
        episode: left as it is.
        paid: what its turns have paid.
    """
    if episode.problem is not None:
        return 0.0
    if episode.done:
        return paid
    state = episode.get_state()
    try:
        return paid + sum(episode.stop().values())
    finally:
        episode.set_state(state)
