"""Actions on their way in: whatever a caller passes becomes an action of plain, bounded values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np

from visenv.types import Action, Answer, Malformed, ToolCall

MAX_ANSWER = 10_000
"""Characters in an answer."""
MAX_ARGUMENTS = 100_000
"""Characters of a call's arguments, as JSON."""
MAX_NAME = 200
"""Characters in a tool's name."""
MAX_MALFORMED = 20_000
"""Characters of a malformed turn that are kept."""
MAX_MESSAGE = 2_000
"""Characters of what is said about it that are kept."""


def raw_text(action: object) -> str | None:
    """A model's text as it came, without what cannot be written as UTF-8; None if it is none."""
    if isinstance(action, bytes):
        return action.decode("utf-8", errors="replace")
    return _utf8(action) if isinstance(action, str) else None


def is_message(action: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether it is an assistant message, as OpenAI-compatible servers return one."""
    return isinstance(action, Mapping) and "name" not in action and ("role" in action or "tool_calls" in action)


def _utf8(text: str) -> str:
    """Replace what cannot be written as UTF-8 (lone surrogates)."""
    return text if text.isascii() else text.encode("utf-8", errors="replace").decode("utf-8")


def plain_action(action: object) -> Action:
    """An action from whatever else a caller may pass: an action, or ``{"name": …, "arguments": {…}}``."""
    if isinstance(action, (ToolCall, Answer, Malformed)):
        return action
    if not isinstance(action, Mapping):
        expected = "a ToolCall, an Answer, or an object with 'name' and 'arguments'"
        return Malformed("bad_action", f"Expected {expected}, but got {type(action).__name__}.")
    name, arguments = action.get("name"), action.get("arguments", {})
    if not isinstance(name, str) or not name:
        return Malformed("missing_name", "Expected 'name' to be the name of a tool, or 'Answer'.")
    if not isinstance(arguments, Mapping):
        return Malformed("bad_arguments", f"Expected 'arguments' to be an object, but got {type(arguments).__name__}.")
    if name == "Answer":
        text = arguments.get("text", "")
        return Answer(text) if isinstance(text, str) else Malformed("bad_arguments", "Expected 'text' to be a string.")
    return ToolCall(name, arguments)


def checked(action: Action) -> Action:
    """Bring an action into plain, bounded values: it is recorded, so it must be."""
    if isinstance(action, Answer):
        if not isinstance(action.text, str) or len(action.text) > MAX_ANSWER:
            return Malformed("long_answer", f"Expected an answer of at most {MAX_ANSWER} characters.")
        return Answer(_utf8(action.text), _utf8(str(action.thought)))
    if isinstance(action, Malformed):
        return Malformed(_utf8(str(action.code))[:MAX_NAME], _utf8(str(action.message))[:MAX_MESSAGE])
    if not isinstance(action.name, str) or not isinstance(action.arguments, Mapping):
        return Malformed("bad_arguments", "Expected a tool's name and an object of arguments.")
    if len(action.name) > MAX_NAME:
        return Malformed("too_large", f"Expected a tool's name of at most {MAX_NAME} characters.")
    try:
        written = _utf8(_JSON.encode(dict(action.arguments)))
        arguments = json.loads(written)
    except (RecursionError, TypeError, ValueError):
        expected = "Expected the arguments to be plain JSON values, with finite numbers, and not nested too deeply."
        return Malformed("bad_arguments", expected)
    if len(written) > MAX_ARGUMENTS:
        expected = f"Expected arguments of at most {MAX_ARGUMENTS} characters as JSON"
        return Malformed("too_large", f"{expected}, but got {len(written)}.")
    return ToolCall(_utf8(action.name), arguments, _utf8(str(action.thought)))


def _json_value(value: object) -> object:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(type(value).__name__)


_JSON = json.JSONEncoder(default=_json_value, ensure_ascii=False, allow_nan=False)


def kept_text(text: str | None, action: Action) -> str | None:
    """A turn's text as the record keeps it: all of it, unless it is malformed and very long."""
    if text is None or len(text) <= MAX_MALFORMED or not isinstance(action, Malformed):
        return text
    return f"{text[:MAX_MALFORMED]} [… {len(text)} characters in all]"
