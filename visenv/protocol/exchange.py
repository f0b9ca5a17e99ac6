"""An episode's conversation as chat endpoints take it, and their answers as turns.

``native`` says how calls travel: beside the text of a message, as the endpoint's own tool calls (the dialect is
``openai``), or in the text, as the dialect of the episode writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from visenv.protocol.base import Dialect
from visenv.protocol.messages import to_openai_content
from visenv.protocol.openai import OpenAI
from visenv.types import Malformed, ToolCall, Turn

ONE_CALL = "Not carried out: call one tool a turn."
ImageFormat = Literal["png", "jpeg"]


def chat_messages(
    messages: Sequence[Mapping[str, Any]],
    transcript: Sequence[Turn],
    *,
    native: bool,
    said: Sequence[Mapping[str, Any]] | None = None,
    image_format: ImageFormat = "png",
) -> list[dict[str, Any]]:
    """The conversation as it is sent: pictures as data URLs, the replies to calls as messages of tools.

    Args:
        messages: ``episode.messages()``.
        transcript: ``episode.transcript``.
        native: how calls travel.
        said: the assistant messages as they came, one a turn, for endpoints that compare what they are sent with what
            they have said; written anew if left out.
        image_format: ``png`` keeps every pixel; ``jpeg`` is smaller.
    """
    system, task, *rest = messages
    sent = [{"role": "system", "content": plain(system)}, _shown(task, image_format)]
    for place, (turn, assistant, reply) in enumerate(zip(transcript, rest[::2], rest[1::2], strict=True)):
        if said is not None:
            message = dict(said[place])
        elif native and isinstance(turn.action, ToolCall):
            message = OpenAI().to_message(turn.action, f"call_{turn.index}")
        else:
            message = {"role": "assistant", "content": plain(assistant)}
        sent += [message, *_replies(message, reply, image_format)]
    return sent


def read_reply(message: Mapping[str, Any], finish_reason: str | None, *, native: bool, dialect: Dialect) -> Any:
    """An endpoint's answer as ``VisionToolEnv.step`` takes it.

    Args:
        message: the assistant message.
        finish_reason: why the model stopped.
        native: how calls travel.
        dialect: of the episode.

    Returns:
        The message, a text with its reason, or what was wrong with it.
    """
    if native:
        if finish_reason == "length":
            return OpenAI().parse(message, "length")
        return {"role": "assistant", "content": None, **message}
    content, reasoning = message.get("content") or "", message.get("reasoning_content", "")
    if not isinstance(content, str):
        return Malformed("not_text", f"The turn must be text, but it is of type {type(content).__name__}.")
    if message.get("tool_calls"):
        return _put_back(message, finish_reason, dialect)
    if isinstance(reasoning, str) and reasoning and "<think>" not in content:
        # Servers take the thought out of the text, in which the dialect wants it.
        content = f"<think>{reasoning}</think>\n{content}"
    return {"text": content, "finish_reason": finish_reason}


def plain(message: Mapping[str, Any]) -> str:
    """A message's text."""
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def _put_back(message: Mapping[str, Any], finish_reason: str | None, dialect: Dialect) -> Any:
    """The text of a turn whose call the server took out of it, as some do unasked."""
    call = OpenAI().parse({**message, "reasoning_content": None}, finish_reason)
    if not isinstance(call, ToolCall):
        return call
    thought = message.get("reasoning_content") or call.thought
    thought = thought if isinstance(thought, str) else ""
    call = replace(call, thought=thought.replace("<think>", "").replace("</think>", "").strip())
    return {"text": dialect.render(call), "finish_reason": finish_reason}


def _replies(message: Mapping[str, Any], reply: Mapping[str, Any], image_format: ImageFormat) -> list[dict[str, Any]]:
    """What follows a message: every call is answered, in text alone, so that pictures follow as the user's."""
    calls = [call["id"] for call in message.get("tool_calls") or ()]
    if not calls:
        return [_shown(reply, image_format)]
    messages = [OpenAI().reply_message(plain(reply), calls[0])]
    messages += [OpenAI().reply_message(ONE_CALL, call_id) for call_id in calls[1:]]
    images = [block for block in reply["content"] if block["type"] == "image"]
    if images:
        names = ", ".join(block["name"] for block in images)
        blocks: Sequence[dict[str, Any]] = [{"type": "text", "text": f"The reply shows {names}:"}, *images]
        messages.append({"role": "user", "content": to_openai_content(blocks, image_format)})
    return messages


def _shown(message: Mapping[str, Any], image_format: ImageFormat) -> dict[str, Any]:
    return {"role": message["role"], "content": to_openai_content(message["content"], image_format)}
