"""The outer form of a Qwen turn: a think block, then one tool call or one answer, and nothing else.

The rules are those of VisHarness (arXiv 2605.29894 and its released code).
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from visenv.protocol.base import Dialect, Fault, RawTurn, as_text, wrap_in_tag
from visenv.protocol.messages import Block
from visenv.protocol.schema import openai_tools
from visenv.protocol.strict_json import dump_json
from visenv.types import Action, Answer, ToolCall, ToolSpec

THINK, END_THINK = "<think>", "</think>"
_TOOL_CALL = re.compile(r"<(/?)tool_call\b(\s*>)?", re.IGNORECASE)
_ANSWER = re.compile(r"<(/?)answer\b(\s*>)?", re.IGNORECASE)


@dataclass(frozen=True)
class Envelope:
    """A turn, taken apart."""

    kind: Literal["tool_call", "answer"]
    body: str
    """What stands between the tags, unchanged."""
    thought: str
    """What stands in the think block, unchanged."""


def open_envelope(text: str) -> Envelope:
    """Take a turn apart.

    Args:
        text: a whole turn.

    Raises:
        Fault: ``missing_think``, ``both``, ``neither``, ``two_calls``, ``two_answers``, ``tag_case``,
            ``unclosed_tag`` or ``outside_text``.
    """
    thought, action = split_thought(text)
    is_call, is_answer = _TOOL_CALL.search(action) is not None, _ANSWER.search(action) is not None
    if is_call and is_answer:
        raise Fault(
            "both",
            "The turn holds tags of a tool call and of an answer. Give one <tool_call>...</tool_call> or one "
            "<answer>...</answer>, not both.",
        )
    if is_call:
        return Envelope("tool_call", between(action, "tool_call", _TOOL_CALL, "two_calls"), thought)
    if is_answer:
        return Envelope("answer", between(action, "answer", _ANSWER, "two_answers"), thought)
    raise Fault(
        "neither",
        "After </think>, the turn must call one tool with <tool_call>...</tool_call> or end the task with "
        "<answer>...</answer>; it does neither.",
    )


def split_thought(text: str) -> tuple[str, str]:
    """The thought of a turn, unchanged, and what follows it, stripped.

    Args:
        text: a whole turn.

    Raises:
        Fault: ``missing_think``.
    """
    text = text.strip()
    end = text.find(END_THINK)
    if not text.startswith(THINK) or end < 0:
        raise Fault(
            "missing_think",
            "The turn must begin with a closed <think>...</think> block; then give one tool call or one answer.",
        )
    return text[len(THINK) : end], text[end + len(END_THINK) :].strip()


def between(action: str, tag: str, pattern: re.Pattern[str], twice: str) -> str:
    """What stands between a tag and its end, unchanged.

    Args:
        action: all of a turn but its thought, in which the tag stands in some form.
        tag: its name.
        pattern: finds the tag in any case, with the slash of an end as group 1 and the closing bracket as group 2.
        twice: the code of a turn that has it twice.

    Raises:
        Fault: ``twice``, ``tag_case``, ``unclosed_tag`` or ``outside_text``.
    """
    opening, closing = f"<{tag}>", f"</{tag}>"
    tags = [match for match in pattern.finditer(action) if match.group(2)]
    opened = sum(not match.group(1) for match in tags)
    closed = len(tags) - opened
    if opened > 1 or closed > 1:
        raise Fault(twice, f"The turn must hold exactly one {opening}...{closing}, but it has more than one.")
    if any(match.group() not in (opening, closing) for match in tags):
        raise Fault("tag_case", f"The tags must be written exactly {opening} and {closing}: lower case, no spaces.")
    if opened != 1 or closed != 1:
        raise Fault("unclosed_tag", f"The turn must hold exactly one {opening}...{closing} pair; a tag is missing.")
    if action.find(closing) < action.find(opening):
        raise Fault("unclosed_tag", f"{closing} stands before {opening}; write {opening}...{closing}.")
    if not (action.startswith(opening) and action.endswith(closing)):
        raise Fault("outside_text", f"Apart from the think block, no text may stand outside of {opening}...{closing}.")
    return action[len(opening) : -len(closing)]


class QwenDialect(Dialect):
    """What the Qwen dialects share; they differ in what stands inside ``tool_call``."""

    stop = ("</tool_call>", "</answer>")

    def describe_tools(self, specs: Iterable[ToolSpec]) -> str:
        """The tools between ``<tools>`` tags, one JSON object a line, as the chat templates of Qwen put them."""
        lines = "\n".join(dump_json(tool) for tool in openai_tools(specs))
        return f"You may call these tools, one a turn:\n<tools>\n{lines}\n</tools>"

    def help(self) -> str:
        """The rules of this dialect, as a system prompt states them."""
        return (
            "Every turn has two parts. First think inside <think>...</think>. Then do exactly one of two things: call "
            "one tool, or end the task.\n"
            f"A tool call:\n{self._call_example()}\n"
            "The end of the task:\n<answer>what you found, in a few words</answer>\n"
            "Write nothing outside of these tags. The tool's reply comes back in <tool_response>...</tool_response>."
        )

    def wrap_reply(self, text: str) -> str:
        """A reply in ``<tool_response>`` tags; it ends with the closing tag, which Qwen's template looks for."""
        (block,) = wrap_in_tag([{"type": "text", "text": text}], "tool_response")
        wrapped: str = block["text"]
        return wrapped

    def wrap_blocks(self, blocks: Iterable[Block]) -> list[Block]:
        """Blocks in ``<tool_response>`` tags; the last one ends with the closing tag."""
        return wrap_in_tag(blocks, "tool_response")

    def _read(self, turn: RawTurn) -> Action:
        envelope = open_envelope(as_text(turn))
        if envelope.kind == "answer":
            return Answer(envelope.body, envelope.thought)
        return self._read_call(envelope.body.strip(), envelope.thought)

    def _write(self, action: ToolCall | Answer) -> str:
        thought = f"{THINK}{action.thought}{END_THINK}\n"
        if isinstance(action, Answer):
            return f"{thought}<answer>{action.text}</answer>"
        return f"{thought}<tool_call>\n{self._write_call(action)}\n</tool_call>"

    @abstractmethod
    def _read_call(self, body: str, thought: str) -> ToolCall:
        """Read what stands between the tags of a tool call; raises ``Fault``."""

    @abstractmethod
    def _write_call(self, call: ToolCall) -> str:
        """Write what stands between the tags of a tool call."""

    @abstractmethod
    def _call_example(self) -> str:
        """A whole tool call, as the rules show it."""
