"""The dialect of OpenAI-compatible servers: tool calls beside the text of an assistant message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from visenv.errors import InvalidData
from visenv.protocol.base import MAX_CHARACTERS, Dialect, Fault, RawTurn, as_text, json_values, too_long
from visenv.protocol.coordinates import ABSOLUTE
from visenv.protocol.schema import ANSWER_TOOL
from visenv.protocol.strict_json import dump_json, load_json, quote
from visenv.types import Action, Answer, ToolCall


class OpenAI(Dialect):
    """One entry in ``tool_calls`` is a tool call; a message without any is an answer.

    A turn is the message (a mapping, or its JSON text), or a plain text, which is the message's content. The content
    beside a call, or ``reasoning_content``, is its thought. A call of ``Answer`` is an answer, too.

    Example:
        >>> call = ToolCall("PhraseToPoint", {"images": ["img_0"], "phrase": "left dog"})
        >>> message = OpenAI().to_message(call)
        >>> message["tool_calls"][0]["function"]["arguments"]
        '{"images": ["img_0"], "phrase": "left dog"}'
        >>> OpenAI().parse(message) == call
        True
        >>> OpenAI().parse({"role": "assistant", "content": "Two dogs."})
        Answer(text='Two dogs.', thought='')
    """

    name = "openai"
    frame = ABSOLUTE

    def to_message(self, action: ToolCall | Answer, call_id: str = "call_0") -> dict[str, Any]:
        """The assistant message of an action.

        Args:
            action: a tool call or an answer.
            call_id: of the tool call; the reply names it (``reply_message``).

        Raises:
            InvalidData: if the arguments are no JSON values.
        """
        if isinstance(action, Answer):
            message: dict[str, Any] = {"role": "assistant", "content": action.text}
            return {**message, "reasoning_content": action.thought} if action.thought else message
        function = {"name": action.name, "arguments": dump_json(dict(action.arguments))}
        return {
            "role": "assistant",
            "content": action.thought or None,
            "tool_calls": [{"id": call_id, "type": "function", "function": function}],
        }

    def reply_message(self, text: str, call_id: str = "call_0") -> dict[str, Any]:
        """The message that answers a tool call. It holds text only: images follow in a user message."""
        return {"role": "tool", "tool_call_id": call_id, "content": text}

    def help(self) -> str:
        """The rules of this dialect, as a system prompt states them."""
        return (
            "Every turn, call exactly one tool. When the task is done, or there is nothing to find, end it with a "
            "message that calls no tool and says what you found in a few words."
        )

    def _read(self, turn: RawTurn) -> Action:
        message = turn if isinstance(turn, Mapping) else _message_of(as_text(turn))
        content = _content(message.get("content"))
        reasoning = message.get("reasoning_content")
        thought = as_text(reasoning) if isinstance(reasoning, str) else ""
        calls = message.get("tool_calls")
        if not calls:
            if not content.strip():
                raise Fault("neither", "The message neither calls a tool nor says anything. Call one tool, or answer.")
            return Answer(content, thought)
        if not isinstance(calls, (list, tuple)):
            raise Fault("bad_arguments", f"'tool_calls' must be a list, not {type(calls).__name__}.")
        if len(calls) > 1:
            raise Fault("two_calls", f"The message calls {len(calls)} tools. Call exactly one tool a turn.")
        return _read_call(calls[0], thought or content)

    def _write(self, action: ToolCall | Answer) -> str:
        return json.dumps(self.to_message(action), ensure_ascii=False)

    def _canonical(self, action: ToolCall | Answer) -> Action:
        if isinstance(action, Answer):
            return action
        return ToolCall(action.name, json_values(action.arguments), action.thought)


def _message_of(text: str) -> Mapping[str, Any]:
    """The message that a text is the JSON of, or else the message whose content it is."""
    if text.lstrip().startswith("{"):
        try:
            value = load_json(text)
        except InvalidData as error:
            if '"tool_calls"' in text or '"role"' in text:
                raise Fault("bad_json", f"The message is not valid JSON: {error}.") from None
            return {"content": text}
        if "tool_calls" in value or "role" in value:
            message: dict[str, Any] = value
            return message
    return {"content": text}


def _content(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, (list, tuple)):
        content = "".join(
            part["text"] for part in content if isinstance(part, Mapping) and isinstance(part.get("text"), str)
        )
    if not isinstance(content, str):
        raise Fault("not_text", f"The message's content must be text, not {type(content).__name__}.")
    return as_text(content)


def _read_call(call: object, thought: str) -> Action:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise Fault("missing_name", "The tool call has no 'function' with a 'name' and 'arguments'.")
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise Fault("missing_name", "The tool call's function has no 'name'. Name one of the tools.")
    name = as_text(name).strip()
    arguments = _arguments(function.get("arguments"), name)
    if name != ANSWER_TOOL.name:
        return ToolCall(name, arguments, thought)
    if set(arguments) != {"text"} or not isinstance(arguments["text"], str):
        raise Fault("bad_arguments", "An answer takes one argument, 'text', a string.")
    return Answer(arguments["text"], thought)


def _arguments(raw: object, name: str) -> dict[str, Any]:
    try:
        if isinstance(raw, Mapping):
            return json_values(raw)
        if isinstance(raw, str) and len(raw) > MAX_CHARACTERS:
            raise too_long(len(raw))
        arguments = load_json(raw) if isinstance(raw, str) else raw
    except InvalidData as error:
        raise Fault("bad_json", f"The arguments of {quote(name)} are not valid JSON: {error}.") from None
    if not isinstance(arguments, dict):
        raise Fault("bad_arguments", f"The arguments of {quote(name)} must be a JSON object, as a string.")
    return arguments
