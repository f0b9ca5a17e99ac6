"""A call that a trainer has taken apart, as what an episode reads."""

from __future__ import annotations

from typing import Any

from visenv.episode import Episode
from visenv.errors import InvalidData
from visenv.protocol.schema import ANSWER_TOOL
from visenv.types import ToolCall


def written_call(episode: Episode, name: object, arguments: object) -> Any:
    """The call as a model of the episode's dialect writes it, so that coordinates are read as replies write them.

    Args:
        episode: whose dialect it is.
        name: of a tool, or ``Answer``; whatever the model gave.
        arguments: of the call; whatever the model gave.

    Returns:
        The text of a turn, or ``{"name", "arguments"}`` where it cannot be written; ``env.step`` takes both.

    Example:
        >>> from visenv.adapters.making import make_env
        >>> env = make_env("VisHarness/RefSeg-v0", {"split": "val"})
        >>> _ = env.reset(seed=0)
        >>> print(written_call(env.episode, "MergeBoxMask", {"images": ["img_0"]}))
        <think></think>
        <tool_call>
        {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}
        </tool_call>
        >>> written_call(env.episode, "MergeBoxMask", "img_0")
        {'name': 'MergeBoxMask', 'arguments': 'img_0'}
    """
    plain = {"name": name, "arguments": arguments}
    if not isinstance(name, str) or not isinstance(arguments, dict) or name == ANSWER_TOOL.name:
        return plain
    try:
        return episode.dialect.render(ToolCall(name, arguments), strict=True)
    except InvalidData:
        return plain
