"""The conversation of an episode: what was said and shown, and how a model sees it now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from visenv.errors import InvalidData
from visenv.memory import VisualMemory
from visenv.protocol import Dialect
from visenv.protocol.messages import image_block, placeholder, text_block
from visenv.types import Turn
from visenv.workspace import Picture


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture at its place in the conversation."""

    key: int
    """As in ``visenv.memory.Seen``."""
    picture: Picture


@dataclass(frozen=True)
class Message:
    """One message of the environment."""

    blocks: tuple[str | Shown, ...]
    """Text, and pictures at their places."""
    answers: Turn | None = None
    """The turn to which it is the reply; None for the task itself."""


def in_view(shown: Sequence[Shown], memory: VisualMemory) -> tuple[Shown, ...]:
    """Those of some pictures that the memory keeps in view."""
    keys = {seen.key for seen in memory.visible}
    return tuple(block for block in shown if block.key in keys)


def plain_text(blocks: Sequence[str | Shown]) -> str:
    """A message as text alone, ``[image NAME]`` at the place of each picture."""
    return "".join(block if isinstance(block, str) else f"[image {block.picture.name}]" for block in blocks)


def as_messages(
    system: str, messages: Sequence[Message], memory: VisualMemory, dialect: Dialect
) -> list[dict[str, Any]]:
    """The conversation as a model sees it now: a placeholder stands in the place of each archived picture.

    Args:
        system: the system prompt.
        messages: what the environment said, in order; each reply knows the turn that it answers.
        memory: says which pictures are in view.
        dialect: how turns and replies are written.

    Returns:
        One ``{"role", "content"}`` a message; see ``Episode.messages``.
    """
    keys = {seen.key for seen in memory.visible}
    out: list[dict[str, Any]] = [{"role": "system", "content": [text_block(system)]}]
    for message in messages:
        content = [_block(block, keys) for block in message.blocks]
        if message.answers is not None:
            out.append({"role": "assistant", "content": [text_block(_said(message.answers, dialect))]})
            content = dialect.wrap_blocks(content)
        out.append({"role": "user", "content": content})
    return out


def as_blocks(message: Message, memory: VisualMemory) -> list[dict[str, Any]]:
    """One message as content blocks, without what a dialect puts around a reply.

    Args:
        message: of the environment.
        memory: says which of its pictures are in view.
    """
    keys = {seen.key for seen in memory.visible}
    return [_block(block, keys) for block in message.blocks]


def _block(block: str | Shown, keys: set[int]) -> dict[str, Any]:
    if isinstance(block, str):
        return text_block(block)
    picture = block.picture
    if block.key in keys:
        return image_block(picture.name, picture.pixels)
    return text_block(placeholder(picture.name, picture.is_visualisation))


def _said(turn: Turn, dialect: Dialect) -> str:
    """A turn as the agent wrote it, or as the dialect would write it."""
    if turn.text is not None:
        return turn.text
    try:
        return dialect.render(turn.action)
    except InvalidData:
        return repr(turn.action)
