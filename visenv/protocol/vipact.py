"""The dialect of VipAct: a requirement, a thought, and a block of Python calls, which is read and never run."""

from __future__ import annotations

import ast
import json
import keyword
import re
import warnings
from collections.abc import Iterable
from typing import Any

from visenv.errors import InvalidData
from visenv.protocol.base import Dialect, Fault, RawTurn, as_text, json_values
from visenv.protocol.coordinates import ABSOLUTE
from visenv.protocol.messages import Block, text_block
from visenv.protocol.strict_json import quote
from visenv.types import Action, Answer, ToolCall, ToolSpec

SEVERAL = "CallSeveral"
"""The tool that carries out several calls of one block, in order; its argument ``calls`` is a list of them, as JSON."""
MAX_CALLS = 8
"""The most calls in one block."""
MAX_BLOCK = 4096
"""The most characters of a block."""
MAX_NESTING = 6
"""Lists and dicts inside one another in an argument."""

_MARK = re.compile(r"^(Thought|Action Input|Final Answer|Observation):", re.MULTILINE)
_FENCE = re.compile(r"\s*```[ \t]*(?:python|py)?[ \t]*\n", re.IGNORECASE)
_SNAKE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
_EXAMPLE = 'Action Input:\n```python\nImageCaptioning(image="img_0", focus="the two cups")\n```'


class VipAct(Dialect):
    r"""ReAct as VipAct (arXiv 2410.16400) writes it: words, then one Python block of calls, or the final answer.

    ``Task Requirement:`` (if the model likes) and ``Thought:`` in words; then ``Action Input:`` and one fenced block of
    calls, or ``Final Answer:``. A block is read by Python's grammar and never run: it may hold nothing but calls of
    names, each on a line of its own or assigned to a name, with named arguments that are plain values. Names in snake
    case mean those in camel case: ``image_captioning`` is ``ImageCaptioning``.

    One call is that call. Several are one call of ``CallSeveral``, which carries them out in order within one turn,
    where the environment has that tool.

    Example:
        >>> call = 'image_captioning(image="img_0", focus="it")'
        >>> VipAct().parse(f"Thought: What is it?\nAction Input:\n```python\n{call}\n```")
        ToolCall(name='ImageCaptioning', arguments={'image': 'img_0', 'focus': 'it'}, thought='What is it?')
        >>> VipAct().parse("Thought: A cup.\nFinal Answer: (B)")
        Answer(text='(B)', thought='A cup.')
        >>> VipAct().parse("Thought: So.\nAction Input:\n```python\n__import__('os').remove('x')\n```").code
        'bad_arguments'
    """

    name = "vipact"
    frame = ABSOLUTE
    stop = ("\nObservation:",)
    several = SEVERAL

    def describe_tools(self, specs: Iterable[ToolSpec]) -> str:
        """The tools as functions, with their arguments, and how many may be called in one block."""
        lines, most = [], "one in a block"
        for spec in specs:
            if spec.name == SEVERAL:
                most = f"at most {MAX_CALLS} in a block, one a line"
            else:
                arguments = ", ".join(f"{each.name}=None" if each.optional else each.name for each in spec.arguments)
                about = "; ".join(f"{argument.name}: {argument.description}" for argument in spec.arguments)
                lines.append(f"{spec.name}({arguments}): {spec.description}" + (f" ({about})" if about else ""))
        return "\n".join((f"You may call these functions, {most}:", *lines)) if lines else ""

    def help(self) -> str:
        """The rules of this dialect, as a system prompt states them."""
        return (
            "Write every turn in this form. First, in words, what the task requires and what you think:\n"
            "Task Requirement: what has to be found out\nThought: what you know and what to do next\n"
            "Then either call functions, in one block of Python with named arguments that are plain values, and no "
            f"other code:\n{_EXAMPLE}\n"
            "or end the task:\nFinal Answer: your answer\n"
            "What comes of calls comes back after Observation:, which you never write yourself."
        )

    def wrap_reply(self, text: str) -> str:
        """A reply after ``Observation:``."""
        return f"Observation:\n{text}"

    def wrap_blocks(self, blocks: Iterable[Block]) -> list[Block]:
        """Blocks after ``Observation:``."""
        inner = [dict(block) for block in blocks]
        if inner and inner[0]["type"] == "text":
            return [text_block(f"Observation:\n{inner[0]['text']}"), *inner[1:]]
        return [text_block("Observation:\n"), *inner]

    def _read(self, turn: RawTurn) -> Action:
        text = as_text(turn)
        marks = list(_MARK.finditer(text))
        names = [mark.group(1) for mark in marks]
        ends = [mark for mark in marks if mark.group(1) in ("Action Input", "Final Answer")]
        if "Observation" in names:
            raise Fault("outside_text", "Observations are given to you: write none. End the turn after your calls.")
        if not ends:
            raise Fault(
                "neither", f"The turn has neither calls nor a final answer. Write:\n{_EXAMPLE}\nor Final Answer: …"
            )
        if len(ends) > 1:
            kinds = {mark.group(1) for mark in ends}
            code = "both" if len(kinds) > 1 else "two_calls" if "Action Input" in kinds else "two_answers"
            raise Fault(code, f"The turn has {' and '.join(sorted(mark.group(1) for mark in ends)):.200}: write one.")
        (end,) = ends
        if "Thought" not in names[: marks.index(end)]:
            raise Fault("missing_think", 'The turn must say what you think first: begin with "Thought:".')
        thought = _thought(text[: end.start()])
        rest = text[end.end() :]
        if end.group(1) == "Final Answer":
            return Answer(rest.strip(), thought)
        calls = read_block(_block(rest))
        if len(calls) == 1:
            name, arguments = calls[0]
            return ToolCall(name, arguments, thought)
        listed = [{"name": name, "arguments": arguments} for name, arguments in calls]
        return ToolCall(SEVERAL, {"calls": json.dumps(listed, ensure_ascii=False)}, thought)

    def _write(self, action: ToolCall | Answer) -> str:
        thought = f"Thought: {action.thought}\n"
        if isinstance(action, Answer):
            return f"{thought}Final Answer: {action.text}"
        calls = [(action.name, dict(action.arguments))]
        if action.name == SEVERAL:
            calls = [(each["name"], each["arguments"]) for each in listed_calls(action.arguments.get("calls"))]
        body = "\n".join(_call(name, json_values(arguments)) for name, arguments in calls)
        return f"{thought}Action Input:\n```python\n{body}\n```"


def listed_calls(value: object) -> list[dict[str, Any]]:
    """The calls that the argument ``calls`` of ``CallSeveral`` lists.

    Raises:
        InvalidData: if it is no list of calls as JSON.

    Example:
        >>> listed_calls('[{"name": "RecallImage", "arguments": {"image": "img_0"}}]')
        [{'name': 'RecallImage', 'arguments': {'image': 'img_0'}}]
    """
    try:
        calls = json.loads(value) if isinstance(value, str) else None
    except (ValueError, RecursionError):
        calls = None
    good = isinstance(calls, list) and all(
        isinstance(call, dict) and isinstance(call.get("name"), str) and isinstance(call.get("arguments"), dict)
        for call in calls
    )
    if not good or not isinstance(calls, list) or not 0 < len(calls) <= MAX_CALLS:
        raise InvalidData(
            f'Expected 1 to {MAX_CALLS} calls as JSON, [{{"name": …, "arguments": {{…}}}}, …], but got {value!r:.80}.'
        )
    return calls


def read_block(code: str) -> list[tuple[str, dict[str, Any]]]:
    """The calls in a block of Python, which is never run.

    Args:
        code: nothing but calls.

    Returns:
        Names and arguments, in order.

    Raises:
        Fault: if it is too long, no Python, or holds anything else.
    """
    if len(code) > MAX_BLOCK:
        raise Fault(
            "too_long", f"The block has {len(code)} characters; at most {MAX_BLOCK} are read. Call less at once."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = getattr(error, "msg", None) or type(error).__name__
        raise Fault("bad_arguments", f"The block is no Python ({reason:.80}). Write:\n{_EXAMPLE}") from None
    if not 0 < len(tree.body) <= MAX_CALLS:
        raise Fault(
            "bad_arguments", f"The block must hold 1 to {MAX_CALLS} calls, but it holds {len(tree.body)} statements."
        )
    return [_read_call(statement) for statement in tree.body]


def _read_call(statement: ast.stmt) -> tuple[str, dict[str, Any]]:
    value = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
    if isinstance(statement, ast.Assign) and not all(isinstance(target, ast.Name) for target in statement.targets):
        value = None
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Name):
        raise Fault("bad_arguments", f"The block may hold calls of functions alone, one a line. Write:\n{_EXAMPLE}")
    name = value.func.id
    if value.args:
        raise Fault("bad_arguments", f"Name the arguments of {quote(name)}, as in {name:.40}(image=…).")
    arguments: dict[str, Any] = {}
    for given in value.keywords:
        if given.arg is None or given.arg in arguments:
            raise Fault("bad_arguments", f"Each argument of {quote(name)} must be named, once.")
        arguments[given.arg] = _plain(given.value, given.arg, 1)
    try:
        arguments = json_values(arguments)
    except InvalidData as error:
        raise Fault("bad_arguments", f"An argument of {quote(name)} is no plain value: {error}.") from None
    camel = "".join(part.capitalize() for part in name.split("_")) if _SNAKE.fullmatch(name) else name
    return camel, arguments


def _plain(node: ast.expr, name: str, depth: int) -> Any:
    """The value that a node spells out."""
    if depth <= MAX_NESTING:
        if isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, (str, int, float, bool))):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            number = node.operand.value
            if isinstance(number, (int, float)) and not isinstance(number, bool):
                return -number
        if isinstance(node, (ast.List, ast.Tuple)):
            return [_plain(item, name, depth + 1) for item in node.elts]
        if isinstance(node, ast.Dict):
            keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
            if all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys):
                return {str(key): _plain(value, name, depth + 1) for key, value in zip(keys, node.values, strict=True)}
    raise Fault(
        "bad_arguments",
        f"The argument {quote(name)} must be a plain value (a text, a number, a list), spelt out. Write:\n{_EXAMPLE}",
    )


def _thought(text: str) -> str:
    """What stands before the calls: the thought alone, or the requirement with it."""
    text = text.strip()
    return text[len("Thought:") :].strip() if text.startswith("Thought:") else text


def _block(text: str) -> str:
    opening = _FENCE.match(text)
    if opening is None:
        raise Fault(
            "bad_arguments", f"After Action Input: there must be one fenced block of Python. Write:\n{_EXAMPLE}"
        )
    body, closing, rest = text[opening.end() :].partition("\n```")
    if not closing:
        raise Fault("unclosed_tag", f"The block of Python is not closed. Write:\n{_EXAMPLE}")
    if rest.strip():
        raise Fault("outside_text", "The turn ends with its block of Python: write nothing after it.")
    return body


def _call(name: str, arguments: dict[str, Any]) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InvalidData(f"Expected a tool's name that Python takes, but got {name!r:.80}.")
    for argument in arguments:
        if not argument.isidentifier() or keyword.iskeyword(argument):
            raise InvalidData(f"Expected arguments with names that Python takes, but got {argument!r:.80}.")
    return f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})"
