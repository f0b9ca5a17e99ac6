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
from visenv.types import Detections, FloatArray, IntArray
from visenv.workspace import NamedImage

Observation: TypeAlias = "dict[str, NDArray[np.generic]]"

_MOST = 16.0
"""Of a value in ``memory_state``."""


def empty_observation(pictures: bool) -> Observation:
    """Zeros in the shapes of ``observation_space``."""
    shape = (SIDE, SIDE, 3)
    zeros: Observation = {name: np.zeros(shape, np.uint8) for name in ("image", "memory_images") if pictures}
    return zeros | {
        "memory_state": np.zeros((SLOTS, FEATURES), np.float32),
        "detections": np.zeros((DETECTIONS, 6), np.float32),
        "query": np.zeros(QUERY_TOKENS, np.int32),
        "phrases": np.zeros((PHRASES, PHRASE_TOKENS), np.int32),
        "progress": np.zeros(1, np.float32),
    }


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
    out["progress"][0] = episode.turns / episode.config.max_turns
    return out


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
                *(min(max(value, 0.0), _MOST) for value in image.place),
                points is not None,
                found is not None,
                math.log1p(count),
                (turns - image.group) / limit,
            )
        )
    out[: len(rows)] = rows
    out[len(rows) :] = 0


def _detections(episode: Episode, out: NDArray[np.generic]) -> None:
    """The final result, or else what stands on the images, newest first."""
    workspace, final = episode.workspace, episode.workspace.final
    if final is not None:
        filled = _rows([final], [workspace.root], out)
    else:
        names = list(reversed(workspace.detections))
        filled = _rows([workspace.detections[name] for name in names], [workspace.images[name] for name in names], out)
    out[:filled, 5] = final is not None
    out[filled:] = 0


def _rows(found: Sequence[Detections], images: Sequence[NamedImage], out: NDArray[np.generic]) -> int:
    """Boxes in parts of the root, and their scores, as far as there is room; returns how many rows were written."""
    filled = 0
    for detections, image in zip(found, images, strict=True):
        if filled == len(out):
            break
        count = min(len(detections), len(out) - filled)
        rows = out[filled : filled + count]
        scale, shift = image.to_parts
        _write_parts(detections.boxes[:count] * scale + shift, rows[:, :4])
        _write_parts(detections.scores[:count], rows[:, 4])
        filled += count
    return filled


def _write_parts(values: FloatArray, out: NDArray[np.generic]) -> None:
    # Two comparisons take a quarter of the time of np.clip, which looks at its bounds first.
    np.minimum(np.maximum(values, 0.0), 1.0, out=out, casting="same_kind")
