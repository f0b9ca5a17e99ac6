"""The dialect of Qwen3-VL: a tool call is a JSON object."""

from __future__ import annotations

from visenv.errors import InvalidData
from visenv.protocol.base import Fault
from visenv.protocol.coordinates import THOUSAND
from visenv.protocol.envelope import QwenDialect
from visenv.protocol.strict_json import dump_json, load_json, quote
from visenv.types import ToolCall

_FORM = 'Write <tool_call>{"name": "...", "arguments": {...}}</tool_call>.'


class Qwen3VL(QwenDialect):
    """``<tool_call>{"name": str, "arguments": {…}}</tool_call>`` (VisHarness, arXiv 2605.29894).

    Example:
        >>> Qwen3VL().parse('<think>a dog</think><tool_call>{"name": "Zoom", "arguments": {"by": 2}}</tool_call>')
        ToolCall(name='Zoom', arguments={'by': 2}, thought='a dog')
        >>> Qwen3VL().parse('<think>done</think><answer>one dog</answer>')
        Answer(text='one dog', thought='done')
        >>> Qwen3VL().parse("<think>done</think>one dog").code
        'neither'
    """

    name = "qwen3_vl"
    frame = THOUSAND

    def _read_call(self, body: str, thought: str) -> ToolCall:
        try:
            call = load_json(body)
        except InvalidData as error:
            raise Fault("bad_json", f"What stands in the tool call is not valid JSON: {error}. {_FORM}") from None
        if not isinstance(call, dict):
            raise Fault("bad_json", f"What stands in the tool call must be a JSON object, not {_kind(call)}. {_FORM}")
        if "name" not in call:
            raise Fault("missing_name", f"The tool call has no 'name'. {_FORM}")
        name = call["name"]
        if not isinstance(name, str) or not name.strip():
            got = "an empty string" if isinstance(name, str) else _kind(name)
            raise Fault("missing_name", f"The tool call's 'name' must be the name of a tool, not {got}. {_FORM}")
        name = name.strip()
        if "arguments" not in call:
            raise Fault("bad_arguments", f"The call of {quote(name)} has no 'arguments'. {_FORM}")
        arguments = call["arguments"]
        if not isinstance(arguments, dict):
            got = _kind(arguments)
            raise Fault("bad_arguments", f"The 'arguments' of {quote(name)} must be a JSON object, not {got}. {_FORM}")
        return ToolCall(name, arguments, thought)

    def _write_call(self, call: ToolCall) -> str:
        return dump_json({"name": call.name, "arguments": dict(call.arguments)})

    def _call_example(self) -> str:
        return '<tool_call>\n{"name": "TOOL", "arguments": {"ARGUMENT": "value"}}\n</tool_call>'


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
