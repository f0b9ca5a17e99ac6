"""Text and messages to actions and back, one module a dialect.

``parse_turn`` reads what a model wrote; a ``Dialect`` also writes turns, states its rules, wraps replies and says how
its models write coordinates. Nothing here knows a tool: whether a call can be carried out is for the tools to say.
"""

from __future__ import annotations

from visenv.errors import UnknownName
from visenv.protocol.arft import Arft
from visenv.protocol.base import Dialect, RawTurn
from visenv.protocol.coordinates import CoordinateFrame, frame_of
from visenv.protocol.messages import (
    check_messages,
    count_images,
    image_block,
    placeholder,
    text_block,
    to_openai_content,
)
from visenv.protocol.openai import OpenAI
from visenv.protocol.prompt import system_prompt
from visenv.protocol.qwen3_5 import Qwen35
from visenv.protocol.qwen3_vl import Qwen3VL
from visenv.protocol.schema import json_schema, openai_tools
from visenv.protocol.vipact import VipAct
from visenv.types import Action

__all__ = [
    "DIALECTS",
    "CoordinateFrame",
    "Dialect",
    "RawTurn",
    "check_messages",
    "count_images",
    "frame_of",
    "get_dialect",
    "image_block",
    "json_schema",
    "openai_tools",
    "parse_turn",
    "placeholder",
    "system_prompt",
    "text_block",
    "to_openai_content",
]

DIALECTS: dict[str, Dialect] = {dialect.name: dialect for dialect in (Qwen3VL(), Qwen35(), OpenAI(), Arft(), VipAct())}


def get_dialect(name: str) -> Dialect:
    """The dialect of that name.

    Raises:
        UnknownName: if there is none.
    """
    if name not in DIALECTS:
        raise UnknownName(f"Unknown dialect {name!r}. Known: {', '.join(DIALECTS)}.")
    return DIALECTS[name]


def parse_turn(text: RawTurn, dialect: str = "qwen3_vl", finish_reason: str | None = None) -> Action:
    """Read one turn of a model (grammar of VisHarness, arXiv 2605.29894).

    Args:
        text: the model's whole turn; of ``openai``, also the assistant message as a mapping.
        dialect: ``qwen3_vl``, ``qwen3_5``, ``openai``, ``arft`` or ``vipact``.
        finish_reason: why the model stopped, as its server says; ``length`` means that the turn was cut.

    Returns:
        A ``ToolCall``, an ``Answer``, or a ``Malformed`` whose code is one of ``cut``, ``missing_think``, ``both``,
        ``neither``, ``two_calls``, ``two_answers``, ``tag_case``, ``unclosed_tag``, ``outside_text``, ``bad_json``,
        ``missing_name``, ``bad_arguments``, ``not_text``, ``too_long``. Nothing that a model writes raises.

    Raises:
        UnknownName: if there is no such dialect.

    Example:
        >>> parse_turn("<think>Nothing is there.</think><answer>none</answer>")
        Answer(text='none', thought='Nothing is there.')
        >>> parse_turn("<answer>none</answer>")
        Malformed(code='missing_think', message='The turn must begin with ...')
    """
    return get_dialect(dialect).parse(text, finish_reason)
