"""What an agent that speaks arrays gets to see of an episode."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from visenv.episode import Episode
from visenv.spaces import (
    DETECTIONS,
    FEATURES,
    PHRASE_TOKENS,
    PHRASES,
    QUERY_TOKENS,
    SIDE,
    SLOTS,
    TILE,
    token_ids,
)
from visenv.types import IntArray, ToolCall
from visenv.workspace import NamedImage

Observation: TypeAlias = "dict[str, NDArray[np.generic]]"

_PICTURES: dict[str, tuple[tuple[int, ...], type]] = dict.fromkeys(
    ("image", "memory_images"), ((SIDE, SIDE, 3), np.uint8)
)
_FEATURES: dict[str, tuple[tuple[int, ...], type]] = {
    "memory_state": ((SLOTS, FEATURES), np.float32),
    "detections": ((DETECTIONS, 6), np.float32),
    "query": ((QUERY_TOKENS,), np.int32),
    "phrases": ((PHRASES, PHRASE_TOKENS), np.int32),
    "progress": ((1,), np.float32),
}


def empty_observation(pictures: bool, tools: int) -> Observation:
    """Zeros in the shapes of ``observation_space``."""
    members = _PICTURES | _FEATURES if pictures else _FEATURES
    zeros: Observation = {name: np.zeros(shape, kind) for name, (shape, kind) in members.items()}
    return zeros | {"calls": np.zeros(tools + 1, np.float32)}


def phrase_tokens(phrases: Sequence[str]) -> IntArray:
    """(PHRASES, PHRASE_TOKENS) int32: the candidates of discrete mode."""
    return np.stack([token_ids(phrase, PHRASE_TOKENS) for phrase in phrases])


def observe(episode: Episode, phrases: IntArray, out: Observation) -> Observation:
    """Write an observation.

    Args:
        episode: what is observed.
        phrases: from ``phrase_tokens``.
        out: where to; arrays of the shapes of ``empty_observation``, all of whose values are overwritten.

    Returns:
        ``out``.
    """
    slots = episode.workspace.slots(SLOTS)
    if "image" in out:
        visible = episode.visible()
        out["image"][:] = visible[-1].thumbnail if visible else 0
        _contact_sheet(slots, out["memory_images"])
    _memory_state(episode, slots, out["memory_state"])
    _detections(episode, out["detections"])
    out["query"][:] = token_ids(episode.query, QUERY_TOKENS)
    out["phrases"][:] = phrases
    _calls(episode, out["calls"])
    out["progress"][0] = episode.turns / episode.config.max_turns
    return out


def _calls(episode: Episode, out: NDArray[np.generic]) -> None:
    """How recently each tool was last called with success: 1 for the last turn, 1/2 for the one before, 0 for never."""
    out[:] = 0
    tools = list(episode.config.tools)
    for turn in episode.transcript:
        if turn.error is None and isinstance(turn.action, ToolCall):
            out[tools.index(turn.action.name)] = 1 / (1 + episode.turns - turn.index)
    if episode.transcript and episode.transcript[-1].error is not None:
        out[-1] = 1


def _contact_sheet(slots: Sequence[NamedImage], sheet: NDArray[np.generic]) -> None:
    sheet[:] = 0
    across = SIDE // TILE
    for index, image in enumerate(slots):
        row, column = divmod(index, across)
        sheet[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = image.tile


def _memory_state(episode: Episode, slots: Sequence[NamedImage], out: NDArray[np.generic]) -> None:
    workspace, turns, limit = episode.workspace, episode.turns, episode.config.max_turns
    visible = {seen.name for seen in episode.memory.visible if not seen.visualisation}
    rows = []
    for image in slots:
        found = workspace.detections.get(image.name)
        points = workspace.points.get(image.name)
        count = len(found) if found is not None else len(points.points) if points is not None else 0
        rows.append(
            (
                1.0,
                image.name in visible,
                *image.place,
                points is not None,
                found is not None,
                math.log1p(count),
                (turns - image.group) / limit,
            )
        )
    out[: len(rows)] = rows
    out[len(rows) :] = 0


def _detections(episode: Episode, out: NDArray[np.generic]) -> None:
    """The final result, or else the candidates and what stands on the images, newest first."""
    workspace, final = episode.workspace, episode.workspace.final
    found = [("img_0", final)] if final is not None else list(workspace.detections.items())
    if final is None and workspace.candidates:
        found += [(candidate.image, candidate.detections) for candidate in workspace.candidates.values()]
    filled = 0
    for name, detections in reversed(found):
        count = min(len(detections), len(out) - filled)
        rows = out[filled : filled + count]
        scale, shift = workspace.images[name].to_parts
        rows[:, :4] = detections.boxes[:count] * scale + shift
        rows[:, 4] = detections.scores[:count]
        filled += count
        if filled == len(out):
            break
    out[:filled, 5] = final is not None
    out[filled:] = 0
    # Two comparisons take a quarter of the time of np.clip, which looks at its bounds first.
    np.minimum(np.maximum(out, 0, out=out), 1, out=out)
