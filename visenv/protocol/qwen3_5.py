"""The dialect of Qwen3.5: a tool call is a function tag around parameter tags."""

from __future__ import annotations

import re
from typing import Any

from visenv.errors import InvalidData
from visenv.protocol.base import Fault, json_values
from visenv.protocol.coordinates import THOUSAND
from visenv.protocol.envelope import QwenDialect
from visenv.protocol.strict_json import dump_json, load_json, quote
from visenv.types import Action, Answer, ToolCall

_FUNCTION = re.compile(r"<function=([^<>]*)>")
_PARAMETER = re.compile(r"\s*<parameter=([^<>]*)>")
_END_FUNCTION, _END_PARAMETER = "</function>", "</parameter>"
_FORM = "Write <tool_call><function=NAME><parameter=ARGUMENT>value</parameter></function></tool_call>."


class Qwen35(QwenDialect):
    """``<function=NAME>`` with ``<parameter=NAME>value</parameter>`` inside ``tool_call``.

    Values are stripped; one that starts and ends like a JSON list or object is read as JSON, any other is a string: a
    number that is rendered comes back as its digits.

    Example:
        >>> text = (
        ...     "<think>two dogs</think><tool_call><function=PhraseToPoint><parameter=images>['img_0']</parameter>"
        ...     "<parameter=phrase>left dog</parameter></function></tool_call>"
        ... )
        >>> Qwen35().parse(text).code
        'bad_json'
        >>> Qwen35().parse(text.replace("'", '"')).arguments
        {'images': ['img_0'], 'phrase': 'left dog'}
    """

    name = "qwen3_5"
    frame = THOUSAND

    def _read_call(self, body: str, thought: str) -> ToolCall:
        function = _FUNCTION.match(body)
        if function is None:
            raise Fault("missing_name", f"The tool call must begin with <function=NAME>. {_FORM}")
        name = function.group(1).strip()
        if not name:
            raise Fault("missing_name", f"The function's name is empty. {_FORM}")
        if len(_FUNCTION.findall(body)) > 1 and body.count(_END_FUNCTION) > 1:
            raise Fault("two_calls", f"The tool call must hold exactly one function. {_FORM}")
        if not body.endswith(_END_FUNCTION):
            raise Fault("unclosed_tag", f"The tool call must end with {_END_FUNCTION}. {_FORM}")
        return ToolCall(name, _read_parameters(body[function.end() : -len(_END_FUNCTION)], name), thought)

    def _write_call(self, call: ToolCall) -> str:
        parameters = "".join(
            f"<parameter={key}>\n{value if isinstance(value, str) else dump_json(value)}\n{_END_PARAMETER}\n"
            for key, value in call.arguments.items()
        )
        return f"<function={call.name}>\n{parameters}{_END_FUNCTION}"

    def _canonical(self, action: ToolCall | Answer) -> Action:
        if isinstance(action, Answer):
            return action
        arguments = {
            key: value if isinstance(value, (str, list, dict)) else dump_json(value)
            for key, value in json_values(action.arguments).items()
        }
        return ToolCall(action.name, arguments, action.thought)

    def _call_example(self) -> str:
        return (
            "<tool_call>\n<function=TOOL>\n<parameter=ARGUMENT>\nvalue\n</parameter>\n</function>\n</tool_call>\n"
            "A value that is a list or an object is written as JSON."
        )


def _read_parameters(text: str, function: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    position = 0
    while match := _PARAMETER.match(text, position):
        key = match.group(1).strip()
        if not key:
            raise Fault("bad_arguments", f"A parameter of {quote(function)} has no name. {_FORM}")
        if key in arguments:
            raise Fault("bad_arguments", f"The parameter {quote(key)} of {quote(function)} is given twice. {_FORM}")
        end = text.find(_END_PARAMETER, match.end())
        if end < 0:
            raise Fault("unclosed_tag", f"The parameter {quote(key)} has no {_END_PARAMETER}. {_FORM}")
        arguments[key] = _read_value(text[match.end() : end].strip(), key)
        position = end + len(_END_PARAMETER)
    if text[position:].strip():
        raise Fault("outside_text", f"Inside the function, text may stand only in its parameters. {_FORM}")
    if not arguments:
        raise Fault("bad_arguments", f"The call of {quote(function)} has no parameter. {_FORM}")
    return arguments


def _read_value(value: str, key: str) -> Any:
    if "<parameter=" in value:
        raise Fault("unclosed_tag", f"The parameter {quote(key)} is not closed before the next one begins. {_FORM}")
    if value[:1] + value[-1:] not in ("[]", "{}"):
        return value
    try:
        return load_json(value)
    except InvalidData as error:
        raise Fault(
            "bad_json",
            f"The parameter {quote(key)} looks like a JSON list or object but is not valid JSON: {error}.",
        ) from None
