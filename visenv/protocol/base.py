"""What every dialect offers: reading a turn, writing one, and explaining itself to a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeAlias

from visenv.errors import InvalidData
from visenv.protocol.coordinates import CoordinateFrame
from visenv.protocol.messages import Block, text_block
from visenv.protocol.strict_json import dump_json, load_json, text_problem
from visenv.types import Action, Answer, Malformed, ToolCall, ToolSpec

MAX_CHARACTERS = 2**20
"""The longest turn that is read: far beyond any length limit of a model."""

RawTurn: TypeAlias = str | bytes | Mapping[str, Any]


class Fault(Exception):
    """Raised while a turn is read; never leaves ``Dialect.parse``."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Dialect(ABC):
    """One way in which models write turns.

    Instances hold no state. ``parse`` reads back what ``render`` writes, for all that a dialect can express.
    """

    name: ClassVar[str]
    frame: ClassVar[CoordinateFrame]
    """How models of this dialect write coordinates."""
    stop: ClassVar[tuple[str, ...]] = ()
    """Texts after which a turn is complete."""
    several: ClassVar[str | None] = None
    """The tool that a turn of several calls is read as a call of; None where a turn holds one call."""

    def parse(self, turn: RawTurn, finish_reason: str | None = None) -> Action:
        """Read one turn of a model; whatever it holds, this returns, in time linear in its length.

        Args:
            turn: the model's text, or what a server returned for it; bytes are read as UTF-8.
            finish_reason: why the model stopped, as its server says; ``length`` means that the turn was cut.

        Returns:
            A ``ToolCall``, an ``Answer``, or a ``Malformed`` with a stable code and a message for the model.
        """
        if finish_reason == "length":
            return Malformed(
                "cut",
                "The turn was cut off at the length limit. Think in fewer words, then give one complete tool call or "
                "one complete answer.",
            )
        try:
            return self._read(turn)
        except Fault as fault:
            return Malformed(fault.code, fault.message)

    def render(self, action: Action, *, strict: bool = False) -> str:
        """Write an action as a model would, for a conversation.

        Args:
            action: a tool call or an answer; its thought is written too.
            strict: refuse what would not read back. Otherwise a malformed turn becomes a note of its code, and an
                action that the dialect cannot express is written as nearly as it can be.

        Returns:
            A text from which ``parse`` makes an equal action, if the dialect can express it: its arguments are JSON
            values, and its texts hold none of the dialect's own tags.

        Raises:
            InvalidData: if ``strict`` and the dialect cannot express it.
        """
        if isinstance(action, Malformed):
            if strict:
                raise InvalidData(f"Expected a tool call or an answer, but got a malformed turn: {action.message}")
            return f"[malformed turn: {action.code}]"
        try:
            text = self._write(action)
            if strict:
                self._check_reads_back(text, action)
        except InvalidData:
            if strict:
                raise
            return f"[malformed turn: {action!r:.200}]"
        return text

    def _check_reads_back(self, text: str, action: ToolCall | Answer) -> None:
        back = self.parse(text)
        if back != self._canonical(action):
            reason = back.message if isinstance(back, Malformed) else "it would be read as another action."
            raise InvalidData(f"Expected an action that {self.name!r} can express, but got {action!r:.200}: {reason}")

    @abstractmethod
    def help(self) -> str:
        """The rules of this dialect, as a system prompt states them."""

    def describe_tools(self, specs: Iterable[ToolSpec]) -> str:
        """The tools as a system prompt states them; empty where a server is told of them otherwise."""
        return ""

    def system_prompt(self, specs: Iterable[ToolSpec]) -> str:
        """Tools and rules together."""
        return "\n\n".join(part for part in (self.describe_tools(specs), self.help()) if part)

    def wrap_reply(self, text: str) -> str:
        """A tool's reply, as text, in the wrapper that models of this dialect expect."""
        return text

    def wrap_blocks(self, blocks: Iterable[Block]) -> list[Block]:
        """A tool's reply, as content blocks, in the wrapper that models of this dialect expect."""
        return list(blocks)

    @abstractmethod
    def _read(self, turn: RawTurn) -> Action:
        """Read a turn that was not cut; raises ``Fault``."""

    @abstractmethod
    def _write(self, action: ToolCall | Answer) -> str:
        """Write an action without asking whether it reads back."""

    def _canonical(self, action: ToolCall | Answer) -> Action:
        """The action as it is once its arguments have been through JSON."""
        if isinstance(action, Answer):
            return action
        return replace(action, arguments=json_values(action.arguments))


def json_values(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as plain JSON values: tuples become lists."""
    text = dump_json(dict(arguments))
    try:
        values: dict[str, Any] = load_json(text)
    except InvalidData as error:
        raise InvalidData(f"Expected arguments that any JSON reader takes, but {error}.") from None
    return values


def as_text(turn: RawTurn) -> str:
    """The text of a turn.

    Raises:
        Fault: if it is too long or no text at all.
    """
    if isinstance(turn, (bytes, bytearray)):
        if len(turn) > MAX_CHARACTERS:
            raise too_long(len(turn))
        try:
            turn = bytes(turn).decode("utf-8")
        except UnicodeDecodeError as error:
            raise Fault("not_text", f"The turn is no UTF-8 text (byte {error.start}). Write plain text.") from None
    if not isinstance(turn, str):
        raise Fault("not_text", f"The turn must be text, but it is of type {type(turn).__name__}.")
    if len(turn) > MAX_CHARACTERS:
        raise too_long(len(turn))
    problem = text_problem(turn)
    if problem:
        raise Fault("not_text", f"The turn holds {problem}. Write plain text.")
    return turn


def too_long(length: int) -> Fault:
    """The fault of a turn beyond ``MAX_CHARACTERS``."""
    return Fault("too_long", f"The turn has {length} characters; at most {MAX_CHARACTERS} are read. Write less.")


def wrap_in_tag(blocks: Iterable[Block], tag: str) -> list[Block]:
    """Blocks between ``<tag>`` and ``</tag>``, each on a line of its own; the last block ends with the closing tag.

    A closing tag inside the blocks' text is broken up, so that the reply ends where it ends.
    """
    closing = f"</{tag}>"
    inner = [
        text_block(block["text"].replace(closing, f"< /{tag}>")) if block.get("type") == "text" else dict(block)
        for block in blocks
    ]
    if inner and inner[0]["type"] == "text":
        inner[0] = {"type": "text", "text": f"<{tag}>\n{inner[0]['text']}"}
    else:
        inner.insert(0, {"type": "text", "text": f"<{tag}>\n"})
    if inner[-1]["type"] == "text":
        body = inner[-1]["text"].rstrip("\r\n")
        inner[-1] = {"type": "text", "text": f"{body}\n{closing}"}
    else:
        inner.append({"type": "text", "text": f"\n{closing}"})
    return inner
