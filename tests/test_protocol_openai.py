"""The dialect of OpenAI-compatible servers: messages to actions and back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.protocol import get_dialect, parse_turn
from visenv.protocol.openai import OpenAI
from visenv.types import Answer, Malformed, ToolCall


def message(*calls, content=None, **fields):
    return {"role": "assistant", "content": content, "tool_calls": list(calls), **fields}


def call(name="Zoom", arguments='{"by": 2}'):
    return {"id": "call_7", "type": "function", "function": {"name": name, "arguments": arguments}}


def parse(turn):
    return parse_turn(turn, "openai")


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        (message(call()), ToolCall("Zoom", {"by": 2})),
        (message(call(), content="closer"), ToolCall("Zoom", {"by": 2}, "closer")),
        (message(call(), reasoning_content="closer"), ToolCall("Zoom", {"by": 2}, "closer")),
        (message(call(arguments={"by": 2})), ToolCall("Zoom", {"by": 2})),
        (message(call(arguments="{}")), ToolCall("Zoom", {})),
        (message(content="two"), Answer("two")),
        ({"content": [{"type": "text", "text": "two "}, {"type": "text", "text": "dogs"}]}, Answer("two dogs")),
        (message(content="two", reasoning_content="I count"), Answer("two", "I count")),
        (message(call("Answer", '{"text": "two"}'), content="I count"), Answer("two", "I count")),
        ("two dogs", Answer("two dogs")),
        ("{two} dogs", Answer("{two} dogs")),
        ('{"dogs": 2}', Answer('{"dogs": 2}')),
        (json.dumps(message(call())), ToolCall("Zoom", {"by": 2})),
        (json.dumps(message(call())).encode(), ToolCall("Zoom", {"by": 2})),
    ],
)
def test_a_message_is_read(turn, expected):
    assert parse(turn) == expected


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ("", "neither"),
        (message(), "neither"),
        ({}, "neither"),
        (message(content=" \n"), "neither"),
        (message(call(), call()), "two_calls"),
        (message(None), "missing_name"),
        (message({"id": "x"}), "missing_name"),
        (message(call(name="")), "missing_name"),
        (message(call(name=None)), "missing_name"),
        (message(call(arguments="")), "bad_json"),
        (message(call(arguments="{'by': 2}")), "bad_json"),
        (message(call(arguments='{"by": NaN}')), "bad_json"),
        (message(call(arguments="[" * 100_000)), "bad_json"),
        (message(call(arguments={"by": float("nan")})), "bad_json"),
        (message(call(arguments="[]")), "bad_arguments"),
        (message(call(arguments=None)), "bad_arguments"),
        (message(call("Answer", "{}")), "bad_arguments"),
        ({"content": "x", "tool_calls": "Zoom"}, "bad_arguments"),
        ({"content": 3}, "not_text"),
        ({"content": "a\0"}, "not_text"),
        (message(call(name="\ud800")), "not_text"),
        (message(call(arguments="x" * 2_000_000)), "too_long"),
        ("x" * 2_000_000, "too_long"),
        ('{"role": "assistant", "tool_calls": [', "bad_json"),
        (7, "not_text"),
    ],
)
def test_a_wrong_message_is_named(turn, expected):
    parsed = parse(turn)
    assert isinstance(parsed, Malformed)
    assert parsed.code == expected
    assert len(parsed.message) < 500


def test_a_call_becomes_a_message_that_names_its_id():
    made = OpenAI().to_message(ToolCall("Zoom", {"by": 2}, "closer"), call_id="call_3")
    assert made == {
        "role": "assistant",
        "content": "closer",
        "tool_calls": [{"id": "call_3", "type": "function", "function": {"name": "Zoom", "arguments": '{"by": 2}'}}],
    }
    assert OpenAI().reply_message("done", "call_3") == {"role": "tool", "tool_call_id": "call_3", "content": "done"}


text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
values = st.none() | st.integers(-(2**53), 2**53) | text | st.lists(text, max_size=3)


@given(text.filter(str.strip).map(str.strip), st.dictionaries(text, values, max_size=3), text)
def test_calls_read_back(name, arguments, thought):
    action = ToolCall(name if name != "Answer" else "answer", arguments, thought)
    assert parse(OpenAI().to_message(action)) == action
    assert parse(get_dialect("openai").render(action, strict=True)) == action


def test_the_rules_and_replies_need_no_tags():
    assert "<" not in OpenAI().help()
    assert OpenAI().wrap_reply("two dogs") == "two dogs"


def test_arguments_nested_without_end_are_malformed():
    nested: dict[str, object] = {}
    for _ in range(100_000):
        nested = {"a": nested}
    parsed = parse(message(call(arguments=nested)))
    assert isinstance(parsed, Malformed)
    assert parsed.code == "bad_json"
