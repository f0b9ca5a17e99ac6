"""What chat endpoints are sent and what they say, against conversations written by hand."""

import json

import pytest

from visenv.adapters.making import make_env
from visenv.protocol import get_dialect
from visenv.protocol.exchange import ONE_CALL, chat_messages, read_reply
from visenv.types import Answer, Malformed


def call(name, call_id, **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"id": call_id, "type": "function", "function": function}


SPLIT = {
    "role": "assistant",
    "content": None,
    "tool_calls": [call("SplitImageIntoPatches", "s", patch_configs={"img_0": 160})],
}
TWO = {"role": "assistant", "content": "Both.", "tool_calls": [call("A", "one"), call("B", "two")]}
EMPTY = {"role": "assistant", "content": ""}


@pytest.fixture
def played():
    """An episode in which a model did this and that, and what it said."""
    env = make_env("VisHarness/RefSeg-v0", {"split": "val", "experts": "oracle", "dialect": "openai"})
    env.reset(options={"index": 0})
    for message in (TWO, EMPTY, SPLIT):
        env.step(read_reply(message, "stop", native=True, dialect=env.episode.dialect))
    return env.episode


def test_what_was_said_comes_back_word_for_word_and_every_call_is_answered(played):
    said = [TWO, EMPTY, SPLIT]
    messages = chat_messages(played.messages(), played.transcript, native=True, said=said)
    roles = "system user assistant tool tool assistant user assistant tool user"
    assert [message["role"] for message in messages] == roles.split()
    assert [message for message in messages if message["role"] == "assistant"] == said
    tools = [message for message in messages if message["role"] == "tool"]
    assert [message["tool_call_id"] for message in tools] == ["one", "two", "s"]
    assert "two_calls" in tools[0]["content"]
    assert tools[1]["content"] == ONE_CALL
    assert "neither" in messages[6]["content"][0]["text"]
    # What a tool shows follows as the user's; what was shown before is archived.
    shown = [part["type"] for part in messages[-1]["content"]]
    assert shown == ["text"] + ["image_url"] * len(played.visible())
    assert sum("image_url" in str(message["content"]) for message in messages) == 1


def test_without_it_turns_are_written_anew(played):
    messages = chat_messages(played.messages(), played.transcript, native=True)
    roles = "system user assistant user assistant user assistant tool user"
    assert [message["role"] for message in messages] == roles.split()
    (written,) = messages[6]["tool_calls"]
    assert (written["id"], written["function"]["name"]) == ("call_3", "SplitImageIntoPatches")


@pytest.mark.parametrize(
    ("message", "reason", "code"),
    [
        ({"content": "I think and"}, "length", "cut"),
        ({"content": 7}, "stop", "not_text"),
        ({"content": None}, "stop", ""),
    ],
)
def test_text_turns_say_what_is_wrong(message, reason, code):
    action = read_reply(message, reason, native=False, dialect=get_dialect("qwen3_vl"))
    if isinstance(action, dict):
        action = get_dialect("qwen3_vl").parse(action["text"], action["finish_reason"])
    assert isinstance(action, Malformed)
    assert code in action.code


def test_a_thought_that_the_server_took_out_is_put_back():
    message = {"content": "<answer>none</answer>", "reasoning_content": "Nothing."}
    turn = read_reply(message, "stop", native=False, dialect=get_dialect("qwen3_vl"))
    assert get_dialect("qwen3_vl").parse(turn["text"]) == Answer("none", "Nothing.")
