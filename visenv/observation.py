"""What an agent that speaks arrays gets to see of an episode."""

from __future__ import annotations

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
from visenv.types import FloatArray, IntArray
from visenv.workspace import NamedImage

Observation: TypeAlias = "dict[str, NDArray[np.generic]]"


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
    workspace = episode.workspace
    visible = {seen.name for seen in episode.memory.visible if not seen.visualisation}
    limit = episode.config.max_turns
    rows = []
    for image in slots:
        width, height = image.root.size
        x0, y0, x1, y1 = image.window
        found = workspace.detections.get(image.name)
        points = workspace.points.get(image.name)
        count = len(found) if found is not None else len(points.points) if points is not None else 0
        rows.append(
            (
                1.0,
                float(image.name in visible),
                -np.log2(image.to_root[0, 0]),
                x0 / width,
                y0 / height,
                x1 / width,
                y1 / height,
                float(points is not None),
                float(found is not None),
                np.log1p(count),
                (episode.turns - image.group) / limit,
            )
        )
    out[: len(rows)] = np.clip(rows, 0, 16)
    out[len(rows) :] = 0


def _detections(episode: Episode, out: NDArray[np.generic]) -> None:
    """The final result, or else what stands on the images, newest first."""
    workspace = episode.workspace
    out[:] = 0
    filled = 0
    if workspace.final is not None:
        _rows(workspace.final.boxes, workspace.final.scores, workspace.root, 1.0, out)
        return
    for name in reversed(workspace.detections):
        found = workspace.detections[name]
        filled += _rows(found.boxes, found.scores, workspace.images[name], 0.0, out[filled:])
        if filled == len(out):
            return


def _rows(boxes: FloatArray, scores: FloatArray, image: NamedImage, final: float, out: NDArray[np.generic]) -> int:
    count = min(len(boxes), len(out))
    if count:
        (a, _, x), (_, b, y) = image.to_root[:2]
        width, height = image.root.size
        scale = np.array([a / width, b / height, a / width, b / height])
        shift = np.array([x / width, y / height, x / width, y / height])
        out[:count, :4] = np.clip(boxes[:count] * scale + shift, 0, 1)
        out[:count, 4] = np.clip(scores[:count], 0, 1)
        out[:count, 5] = final
    return count
