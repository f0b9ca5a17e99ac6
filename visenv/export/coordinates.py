"""Coordinates in calls: in pixels where a program called, in a frame of its own where a model wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from visenv.episode import Episode
from visenv.errors import InvalidData
from visenv.protocol.coordinates import CoordinateFrame
from visenv.types import ToolCall

KINDS = ("point", "points", "box")
"""Arguments that hold coordinates."""


def has_coordinates(episode: Episode, call: ToolCall) -> bool:
    """Whether a call of a tool names places in a picture."""
    tool = episode.config.tools.get(call.name)
    return tool is not None and any(argument.kind in KINDS for argument in tool.spec.arguments)


def to_pixels(episode: Episode, call: ToolCall, frame: CoordinateFrame) -> ToolCall:
    """A call as a program makes it.

    Args:
        episode: before the call.
        call: as a model wrote it.
        frame: of the model's coordinates.

    Returns:
        The call in pixels; as it is, where its coordinates are none.
    """
    return _moved(
        episode,
        call,
        lambda values, size, shown: frame.to_pixels(values, size, shown).tolist(),
    )


def as_written(episode: Episode, call: ToolCall) -> ToolCall:
    """A call as a model of the episode's dialect writes it; the other way round.

    Args:
        episode: before the call.
        call: in pixels.
    """
    return _moved(episode, call, episode.dialect.frame.write)


Move = Callable[[Sequence[Sequence[float]], tuple[int, int], tuple[int, int]], list[list[float]]]


def _moved(episode: Episode, call: ToolCall, move: Move) -> ToolCall:
    tool, images = episode.config.tools[call.name], episode.workspace.images
    named = [call.arguments.get(argument.name) for argument in tool.spec.arguments if argument.kind == "image"]
    name = named[0] if named and isinstance(named[0], str) else "img_0"
    size = images.get(name, images["img_0"]).size
    shown = episode.config.tokens.resized(*size)
    arguments: dict[str, Any] = dict(call.arguments)
    try:
        for argument in tool.spec.arguments:
            value = arguments.get(argument.name)
            if argument.kind in ("point", "box") and value is not None:
                arguments[argument.name] = move([value], size, shown)[0]
            elif argument.kind == "points" and value:
                places = move([point[:2] for point in value], size, shown)
                arguments[argument.name] = [[*xy, *point[2:]] for xy, point in zip(places, value, strict=True)]
    except (InvalidData, TypeError, ValueError, IndexError, KeyError, OverflowError):
        return call
    return replace(call, arguments=arguments)
