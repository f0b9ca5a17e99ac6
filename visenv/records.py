"""Episodes as plain JSON values: what goes into ``info``, into trajectory files, and to whoever scores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visenv.episode import Episode
from visenv.types import (
    Action,
    Answer,
    AnswerTruth,
    BoxesTruth,
    ImageTruth,
    Malformed,
    MaskTruth,
    Outcome,
    ToolCall,
    Truth,
    Turn,
)


def action_record(action: Action) -> dict[str, Any]:
    """An action: ``{"name", "arguments"}``, with ``"thought"`` if there is one; None as name of a malformed turn."""
    if isinstance(action, Malformed):
        return {"name": None, "arguments": {}}
    record: dict[str, Any] = (
        {"name": "Answer", "arguments": {"text": action.text}}
        if isinstance(action, Answer)
        else {"name": action.name, "arguments": dict(action.arguments)}
    )
    return record | ({"thought": action.thought} if action.thought else {})


def error_record(error: Malformed | None) -> dict[str, str] | None:
    """What was wrong with a turn: ``{"code", "message"}``, or None."""
    return None if error is None else {"code": error.code, "message": error.message}


def tool_of(action: Action) -> str | None:
    """The name of the tool that was called; ``Answer`` for an answer, None for a malformed turn."""
    if isinstance(action, ToolCall):
        return action.name
    return "Answer" if isinstance(action, Answer) else None


def turn_record(turn: Turn, reward_terms: Mapping[str, float]) -> dict[str, Any]:
    """One turn of a trajectory; with ``tools`` where it called others than the one that it names."""
    called = {"tools": list(turn.tools)} if turn.tools not in ((), (tool_of(turn.action),)) else {}
    return {
        "turn": turn.index,
        **action_record(turn.action),
        **called,
        "text": turn.text,
        "reply": turn.reply,
        "error": error_record(turn.error),
        "shown": list(turn.shown),
        "archived": list(turn.archived),
        "created": list(turn.created),
        "visual_tokens": turn.visual_tokens,
        "reward_terms": dict(reward_terms),
    }


def trajectory_record(
    index: int,
    episode: Episode,
    turns: Sequence[Mapping[str, Any]],
    reward: float,
    metrics: Mapping[str, float],
    *,
    pictures: Sequence[str] = (),
    result_pictures: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A whole episode: one line of ``trajectories.jsonl``.

    Args:
        index: its number in its run, from 0.
        episode: after its last turn.
        turns: from ``turn_record``, each with its ``"pictures"``.
        reward: the sum over the turns.
        metrics: its own figures.
        pictures: files of its inputs.
        result_pictures: files of the truth and the final result.
    """
    return {
        "episode": index,
        "sample_id": episode.sample_id,
        "query": episode.query,
        "images": [
            {"name": image.name, "width": image.size[0], "height": image.size[1]}
            for image in episode.workspace.images.values()
            if image.maker == "input"
        ],
        "pictures": list(pictures),
        "turns": list(turns),
        "termination": episode.outcome.termination,
        "invalid": episode.problem,
        "reward": round(reward, 10),
        "metrics": dict(metrics),
        "outcome": outcome_record(episode.outcome),
        "truth": truth_record(episode.truth),
        "result_pictures": dict(result_pictures or {}),
    }


def outcome_record(outcome: Outcome) -> dict[str, Any]:
    """How an episode ended: ``boxes``, ``scores`` and ``masks`` (COCO RLE) are None where there is no final result."""
    found = outcome.detections
    return {
        "termination": outcome.termination,
        "turns": outcome.turns,
        "answer": outcome.answer,
        "count": None if found is None else len(found),
        "boxes": None if found is None else found.boxes.round(2).tolist(),
        "scores": None if found is None else found.scores.round(4).tolist(),
        "masks": None if found is None or found.masks is None else found.masks.to_coco_rles(),
    }


def truth_record(truth: Truth) -> dict[str, Any]:
    """What an episode was scored against."""
    if isinstance(truth, MaskTruth):
        ignore = None if truth.ignore is None else truth.ignore.to_coco_rles()
        target = [] if truth.target is None else truth.target.to_coco_rles()
        return {"type": "masks", "target": target, "ignore": ignore}
    if isinstance(truth, BoxesTruth):
        labels = None if truth.labels is None else list(truth.labels)
        ignore = None if truth.ignore is None else np.asarray(truth.ignore).tolist()
        return {"type": "boxes", "boxes": np.asarray(truth.boxes).tolist(), "labels": labels, "ignore": ignore}
    if isinstance(truth, AnswerTruth):
        group = {} if truth.group is None else {"group": truth.group}
        choices = truth.choices and list(truth.choices)
        return {"type": "answers", "answers": list(truth.answers), "choices": choices, **group}
    if isinstance(truth, ImageTruth):
        height, width = truth.clean.shape[:2]
        facts = {"damage": list(truth.damage), "answers": list(truth.answers)}
        return {"type": "image", "width": width, "height": height, **facts}
    return {"type": "points", "points": np.asarray(truth.points).tolist()}


def costs(episode: Episode) -> dict[str, float]:
    """What an episode cost: turns, calls, faults, and visual tokens with and without archiving."""
    transcript, memory = episode.transcript, episode.memory
    called = [turn for turn in transcript if isinstance(turn.action, ToolCall)]
    return {
        "turns": float(len(transcript)),
        "tool_calls": float(len(called)),
        "errors": float(sum(turn.error is not None for turn in transcript)),
        "visual_tokens_shown": float(memory.spent),
        "visual_tokens_read": float(memory.read),
        "visual_tokens_saved": float(memory.unarchived - memory.read),
    }
