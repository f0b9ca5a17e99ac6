"""The dialect of Visual-ARFT: a search, a diagnosis, a program or an answer, each between tags of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from visenv.errors import InvalidData
from visenv.protocol.base import Dialect, Fault, RawTurn, as_text, wrap_in_tag
from visenv.protocol.coordinates import ABSOLUTE
from visenv.protocol.envelope import END_THINK, THINK, between, split_thought
from visenv.protocol.messages import Block
from visenv.protocol.strict_json import quote
from visenv.types import Action, Answer, ToolCall, ToolSpec

MAX_PROBLEMS = 16
"""The most names in one ``<problem>``."""
IMAGE = "img_0"
"""The image that a program reads: its grammar names none."""


@dataclass(frozen=True)
class _Form:
    """What a tag stands for."""

    tool: str
    example: str

    @property
    def tag(self) -> str:
        """Its name."""
        return self.example[1 : self.example.index(">")]


_FORMS = (
    _Form("Search", "<search>what to look up</search>"),
    _Form("NameProblems", "<problem>['rotation90', 'dark']</problem>"),
    _Form("RunCode", "<code>\n```python\nprint('a program')\n```\n</code>"),
    _Form("Answer", "<answer>the answer, in a few words</answer>"),
)
_BY_TAG, _BY_TOOL = {form.tag: form for form in _FORMS}, {form.tool: form for form in _FORMS}
_TAGS = {tag: re.compile(rf"<(/?){tag}\b(\s*>)?", re.IGNORECASE) for tag in _BY_TAG}
_WHOLE_TAG = re.compile(rf"</?({'|'.join(_BY_TAG)})\s*>", re.IGNORECASE)
_CUT_TAG = re.compile(rf"</?({'|'.join(_BY_TAG)})\b", re.IGNORECASE)
_NAME = re.compile(r"\s*('[^'\\\r\n]*'|\"[^\"\\\r\n]*\")\s*(,|$)")
_FENCE, _END_FENCE = re.compile(r"```(?:python3?|py)?[ \t]*\r?\n", re.IGNORECASE), "```"


class Arft(Dialect):
    """``<search>``, ``<problem>``, ``<code>`` and ``<answer>`` after a thought (Visual-ARFT, arXiv 2505.14246).

    ``<search>`` calls ``Search(query)``, ``<problem>`` ``NameProblems(problems)``, and ``<code>``, in which one fenced
    block of Python stands, ``RunCode(code, image)`` on ``img_0``. No other tool can be called in this dialect. A
    program in which one of the dialect's own tags stands is refused, since nobody could say where it ends.

    Example:
        >>> Arft().parse("<think>Whose flag is it?</think><search>town red kite flag</search>")
        ToolCall(name='Search', arguments={'query': 'town red kite flag'}, thought='Whose flag is it?')
        >>> Arft().parse("<think>It lies on its side.</think><problem>['rotation90']</problem>").arguments
        {'problems': ['rotation90']}
        >>> Arft().parse("<think>So.</think><answer>Velmora</answer><search>Velmora</search>").code
        'both'
    """

    name = "arft"
    frame = ABSOLUTE
    stop = tuple(f"</{tag}>" for tag in _BY_TAG)

    def describe_tools(self, specs: Iterable[ToolSpec]) -> str:
        """The tools that this dialect can call, each with the form of its call; the others are left out."""
        lines = [
            f"{spec.name}: {spec.description}\n{_BY_TOOL[spec.name].example}" for spec in specs if spec.name in _BY_TOOL
        ]
        return "\n\n".join(("You may do these things, one a turn:", *lines)) if lines else ""

    def help(self) -> str:
        """The rules of this dialect, as a system prompt states them."""
        return (
            f"Every turn has two parts. First think inside {THINK}...{END_THINK}. Then do exactly one thing, between "
            f"its tags. When you know the answer, or have no turn left, end the task:\n{_BY_TOOL['Answer'].example}\n"
            "Write nothing outside of these tags. What comes of it comes back in <information>...</information>."
        )

    def wrap_reply(self, text: str) -> str:
        """A reply in ``<information>`` tags."""
        (block,) = wrap_in_tag([{"type": "text", "text": text}], "information")
        wrapped: str = block["text"]
        return wrapped

    def wrap_blocks(self, blocks: Iterable[Block]) -> list[Block]:
        """Blocks in ``<information>`` tags."""
        return wrap_in_tag(blocks, "information")

    def _read(self, turn: RawTurn) -> Action:
        thought, action = split_thought(as_text(turn))
        tag = _only_tag(action)
        twice = "two_answers" if tag == "answer" else "two_calls"
        body = between(action, tag, _TAGS[tag], twice)
        if tag == "answer":
            return Answer(body, thought)
        return ToolCall(_BY_TAG[tag].tool, _READERS[tag](body.strip()), thought)

    def _write(self, action: ToolCall | Answer) -> str:
        thought = f"{THINK}{action.thought}{END_THINK}\n"
        if isinstance(action, Answer):
            return f"{thought}<answer>{action.text}</answer>"
        form = _BY_TOOL.get(action.name)
        if form is None or form.tag == "answer":
            raise InvalidData(f"Expected a tool out of Search, NameProblems and RunCode, but got {action.name!r:.80}.")
        return f"{thought}<{form.tag}>{_WRITERS[form.tag](dict(action.arguments))}</{form.tag}>"


def _only_tag(action: str) -> str:
    """The one tag whose block a turn holds.

    Raises:
        Fault: ``both`` or ``neither``.
    """
    found = dict.fromkeys(match.group(1).lower() for match in _WHOLE_TAG.finditer(action))
    if not found:
        # What lacks its closing bracket counts only where nothing else does: in a program it may be a comparison.
        cut = _CUT_TAG.search(action)
        if cut is not None:
            return cut.group(1).lower()
        raise Fault(
            "neither",
            "After </think>, the turn must do one thing between its tags (<search>, <problem> or <code>) or end the "
            "task with <answer>...</answer>; it does neither.",
        )
    if len(found) > 1:
        raise Fault(
            "both",
            f"The turn holds the tags of {' and of '.join(f'<{tag}>' for tag in found)}. Do exactly one thing a turn.",
        )
    return next(iter(found))


def _read_search(body: str) -> dict[str, Any]:
    if not body:
        raise Fault("bad_arguments", f"There is nothing to search for. Write {_BY_TAG['search'].example}.")
    return {"query": body}


def _read_problem(body: str) -> dict[str, Any]:
    form = f"Write {_BY_TAG['problem'].example}."
    if not (body.startswith("[") and body.endswith("]") and len(body) > 1):
        raise Fault("bad_arguments", f"A diagnosis is a list of names between square brackets. {form}")
    inner = body[1:-1].strip()
    names: list[str] = []
    position = 0
    while position < len(inner):
        match = _NAME.match(inner, position)
        if match is None:
            part = quote(inner[position : position + 40])
            raise Fault("bad_arguments", f"Expected names in quotes with commas between them, but got {part}. {form}")
        names.append(match.group(1)[1:-1])
        position = match.end()
        if len(names) > MAX_PROBLEMS:
            raise Fault("bad_arguments", f"The diagnosis names more than {MAX_PROBLEMS} problems. {form}")
    return {"problems": names}


def _read_code(body: str) -> dict[str, Any]:
    form = "Write <code>, a line ```python, the program, a line ```, and </code>."
    opening = _FENCE.match(body)
    if opening is None:
        raise Fault("bad_arguments", f"The program must stand in one fenced block of Python. {form}")
    code, closing, rest = body[opening.end() :].partition(f"\n{_END_FENCE}")
    if body[opening.end() :].startswith(_END_FENCE):
        code, closing, rest = "", _END_FENCE, body[opening.end() + len(_END_FENCE) :]
    if not closing:
        raise Fault("unclosed_tag", f"The fenced block of Python is not closed. {form}")
    if f"\n{_END_FENCE}" in rest:
        raise Fault("two_calls", f"There must be exactly one fenced block of Python. {form}")
    if rest.strip():
        raise Fault("outside_text", f"Inside <code>, text may stand only in the fenced block. {form}")
    if not code.strip():
        raise Fault("bad_arguments", f"The program is empty. {form}")
    return {"code": code, "image": IMAGE}


_READERS = {"search": _read_search, "problem": _read_problem, "code": _read_code}


def _write_search(arguments: Mapping[str, Any]) -> str:
    return _text(arguments, "query")


def _write_problem(arguments: Mapping[str, Any]) -> str:
    names = arguments.get("problems")
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise InvalidData(f"Expected problems to be a list of names, but got {names!r:.80}.")
    return "[" + ", ".join(f'"{name}"' if "'" in name else f"'{name}'" for name in names) + "]"


def _write_code(arguments: Mapping[str, Any]) -> str:
    return f"\n```python\n{_text(arguments, 'code')}\n```\n"


_WRITERS = {"search": _write_search, "problem": _write_problem, "code": _write_code}


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str):
        raise InvalidData(f"Expected {name} to be a text, but got {value!r:.80}.")
    return value
