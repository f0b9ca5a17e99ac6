"""Chat endpoints as policies, against a server that keeps to the protocol and one that does not."""

import asyncio
import base64
import email.utils
import io
import json
import time

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import visenv.policies.endpoint as endpoint
from tests import chat_server as server_of
from tests.chat_server import cut, endless, failing, good, saying, sending, serving, silent, slow
from visenv.async_runner import AsyncEpisodeRunner
from visenv.cli import app
from visenv.errors import InvalidData
from visenv.evaluation import EvalConfig, evaluate
from visenv.policies.chat import ChatPolicy

MODES = [(tools, stream) for tools in ("native", "text") for stream in (True, False)]
KEY = "sk-very-secret-key"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def config(server, episodes=1, max_turns=5, **options):
    options = {"base_url": server.url, "retries": 3, "timeout": 10.0, **options}
    env = {"experts": "oracle", "difficulty": 0, "max_turns": max_turns}
    return EvalConfig("VisHarness/RefSeg-v0", "openai:tiny", episodes, env=env, options=options)


def records(folder):
    return [json.loads(line) for line in (folder / "trajectories.jsonl").read_text().splitlines()]


def played(folder, *script, otherwise=good, episodes=1, concurrency=1, max_turns=5, **options):
    """The report, the records, and what the server was asked."""
    with serving(*script, otherwise=otherwise) as server:
        settings = config(server, episodes, max_turns, **options)
        report = evaluate(settings, folder, concurrency=concurrency)
    return report, records(folder), server


@pytest.mark.parametrize(("tools", "stream"), MODES)
def test_a_model_that_calls_the_right_tools_scores_the_maximum(tmp_path, tools, stream):
    report, (record, *_), server = played(tmp_path, episodes=3, concurrency=2, tools=tools, stream=stream)
    assert report["reward"]["mean"] == 5.0
    assert report["ends"] == {"answer": 3}
    assert [turn["name"] for turn in record["turns"]] == ["PhraseToBoxMask", "MergeBoxMask", "Answer"]
    usage = report["timing"]["usage"]
    assert usage == {"requests": 9, "retries": 0, "prompt_tokens": 900, "completion_tokens": 63}
    assert {path for path, _, _ in server.requests} == {"/v1/chat/completions"}


def test_native_requests_are_what_the_protocol_asks_for(tmp_path):
    _, _, server = played(tmp_path, tools="native", max_tokens=77, extra={"top_p": 0.5})
    _, _, body = server.requests[-1]
    assert (body["model"], body["max_tokens"], body["temperature"], body["top_p"]) == ("tiny", 77, 0.0, 0.5)
    assert {"PhraseToBoxMask", "MergeBoxMask"} <= {tool["function"]["name"] for tool in body["tools"]}
    roles = [message["role"] for message in body["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool"]
    for call, reply in ((2, 3), (4, 5)):
        (made,) = body["messages"][call]["tool_calls"]
        assert made["id"] == body["messages"][reply]["tool_call_id"]
        assert isinstance(body["messages"][reply]["content"], str)
        assert isinstance(json.loads(made["function"]["arguments"]), dict)
    assert "Merged" in body["messages"][5]["content"]
    # What the first call showed followed its reply as the user's, until the second one archived it.
    _, _, before = server.requests[1]
    assert [message["role"] for message in before["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert "image_url" in json.dumps(before["messages"][4])
    assert "image_url" not in json.dumps(body)
    assert json.dumps(body).count("has been archived") == 2


@pytest.mark.parametrize(("image_format", "exact"), [("png", True), ("jpeg", False)])
@pytest.mark.parametrize("tools", ["native", "text"])
def test_pictures_are_sent_as_data_urls(tmp_path, tools, image_format, exact):
    _, (record,), server = played(tmp_path, tools=tools, image_format=image_format)
    for place, message in ((0, 1), (1, -1)):
        _, _, body = server.requests[place]
        parts = [part for part in body["messages"][message]["content"] if part["type"] == "image_url"]
        head, _, data = parts[0]["image_url"]["url"].partition(",")
        assert head == f"data:image/{image_format};base64"
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        if place == 0:
            env = EvalConfig("VisHarness/RefSeg-v0", "scripted", env={"difficulty": 0}).make_env()
            expected = env.dataset.find(record["sample_id"]).image
            assert pixels.shape == expected.shape
            assert np.array_equal(pixels, expected) is exact


def test_text_turns_are_kept_as_they_were_written(tmp_path):
    _, (record,), server = played(tmp_path, tools="text")
    assert record["turns"][0]["text"].startswith("<think>Look.</think><tool_call>")
    _, _, body = server.requests[1]
    assert "tools" not in body
    assert body["messages"][2] == {"role": "assistant", "content": record["turns"][0]["text"]}
    assert "PhraseToBoxMask" in body["messages"][0]["content"]


def test_a_thought_that_the_server_took_out_is_put_back_into_text(tmp_path):
    thinking = saying(reasoning_content="Nothing is there.", content="<answer>none</answer>")
    _, (record,), _ = played(tmp_path, thinking, tools="text")
    assert record["turns"][0]["error"] is None
    assert record["turns"][0]["thought"] == "Nothing is there."


@pytest.mark.parametrize("stream", [True, False])
def test_a_call_that_the_server_took_out_is_put_back_into_text(tmp_path, stream):
    function = {"name": "PhraseToBoxMask", "arguments": '{"images": ["img_0"], "phrase": "thing"}'}
    taken_out = saying(content="<think>Look.</think>\n", tool_calls=[{"type": "function", "function": function}])
    broken = saying(tool_calls=[{"type": "function", "function": {"name": "X", "arguments": "{"}}])
    _, (record,), _ = played(tmp_path, taken_out, broken, tools="text", stream=stream)
    assert record["turns"][0]["name"] == "PhraseToBoxMask"
    assert record["turns"][0]["thought"] == "Look."
    assert record["turns"][0]["error"] is None
    assert record["turns"][1]["error"]["code"] == "bad_json"


@pytest.mark.parametrize(("tools", "stream"), MODES)
@pytest.mark.parametrize(
    "faults",
    [
        [failing(429, Retry_After="0"), failing(500), failing(503)],
        [cut, cut, cut],
        [sending(b"<html>no</html>"), sending(b"[1]"), sending(b'{"choices": []}')],
        [sending(b"data: {broken\n\n", "text/event-stream"), sending(b'data: {"error": "x"}\n\n', "text/event-stream")],
    ],
    ids=["refused", "cut", "nonsense", "broken streams"],
)
def test_what_passes_is_tried_again_and_costs_nothing(tmp_path, faults, tools, stream):
    report, _, _ = played(tmp_path, *faults, tools=tools, stream=stream)
    assert report["reward"]["mean"] == 5.0
    assert report["timing"]["usage"]["retries"] == len(faults)
    assert report["timing"]["usage"]["prompt_tokens"] == 300


@pytest.mark.parametrize(
    ("fault", "requests", "said"),
    [
        (failing(500, "out of order"), 4, "out of order"),
        (failing(429), 4, "429"),
        (cut, 4, "cut"),
        (failing(401, "who are you"), 1, "environment variable"),
        (failing(404, "no such model"), 1, "no such model"),
        (silent, 4, "no whole answer within 0.2 s"),
    ],
    ids=["500", "429", "cut", "401", "404", "silent"],
)
def test_an_endpoint_that_fails_for_good_makes_the_episode_invalid(tmp_path, fault, requests, said):
    timeout = 0.2 if fault is silent else 10.0
    report, (record,), server = played(tmp_path, otherwise=fault, timeout=timeout)
    assert len(server.requests) == requests
    assert record["termination"] == record["outcome"]["termination"] == "invalid"
    assert record["reward"] == 0.0
    assert said in record["invalid"]
    assert report["reward"] == {"mean": None, "std": None, "interval": None, "episodes": 0}
    assert report["ends"] == {"invalid": 1}
    assert report["metrics"]["gIoU_failed"] == 1


def test_one_bad_episode_leaves_the_others_alone(tmp_path):
    report, _, _ = played(tmp_path, failing(400, "too long"), episodes=4)
    assert report["ends"] == {"answer": 3, "invalid": 1}
    assert report["reward"] | {"interval": None} == {"mean": 5.0, "std": 0.0, "interval": None, "episodes": 3}


def test_nobody_at_the_address(tmp_path):
    with serving() as server:
        settings = config(server, retries=1)
    report = evaluate(settings, tmp_path)
    assert report["ends"] == {"invalid": 1}
    assert "ConnectError" in records(tmp_path)[0]["invalid"]


BROKEN_CALLS = {
    "bad json": {"name": "PhraseToBoxMask", "arguments": '{"images": ['},
    "no object": {"name": "PhraseToBoxMask", "arguments": "[1, 2]"},
    "no name": {"name": "", "arguments": "{}"},
    "unknown": {"name": "Teleport", "arguments": "{}"},
    "wrong arguments": {"name": "PhraseToBoxMask", "arguments": '{"images": "img_9"}'},
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("call", BROKEN_CALLS.values(), ids=BROKEN_CALLS)
def test_malformed_calls_are_the_models_fault(tmp_path, call, stream):
    broken = saying(tool_calls=[{"id": "x", "type": "function", "function": call}])
    report, (record,), _ = played(tmp_path, otherwise=broken, max_turns=2, stream=stream)
    assert report["ends"] == {"max_turns": 1}
    assert report["reward"]["mean"] == -3.0
    assert all(turn["error"] for turn in record["turns"])
    assert report["timing"]["usage"]["retries"] == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "message",
    [
        {"content": None},
        {"tool_calls": "PhraseToBoxMask"},
        {"tool_calls": [{"function": "x"}]},
        {"tool_calls": [None, None]},
        {"content": "x", "tool_calls": [{"function": {"name": {"a": 1}, "arguments": {"b": [1]}}}]},
    ],
)
def test_messages_of_any_shape_are_turns(tmp_path, message, stream):
    def odd(handler, body):
        if stream:
            handler.begin_stream()
            handler.event({"choices": [{"delta": message, "finish_reason": "stop"}]})
        else:
            good(handler, body, message)

    report, (record,), _ = played(tmp_path, otherwise=odd, max_turns=2, stream=stream)
    assert record["termination"] in ("max_turns", "answer")
    assert report["reward"]["mean"] == -3.0


@pytest.mark.parametrize(("tools", "stream"), MODES)
def test_endless_answers_are_cut(tmp_path, tools, stream):
    start = time.monotonic()
    report, (record,), _ = played(
        tmp_path, otherwise=endless, max_turns=2, tools=tools, stream=stream, max_bytes=100_000
    )
    assert time.monotonic() - start < 10
    assert [turn["error"]["code"] for turn in record["turns"]] == ["cut", "cut"]
    assert report["ends"] == {"max_turns": 1}


@pytest.mark.parametrize(("tools", "stream"), MODES)
def test_an_answer_cut_by_its_length_limit_is_said_to_be(tmp_path, tools, stream):
    _, (record,), _ = played(tmp_path, saying("length", content="<think>On and on"), tools=tools, stream=stream)
    assert record["turns"][0]["error"]["code"] == "cut"
    assert record["turns"][-1]["name"] == "Answer"


def test_requests_under_way_are_bounded(tmp_path):
    report, _, server = played(tmp_path, otherwise=slow, episodes=8, concurrency=8, parallel=2)
    assert report["ends"] == {"answer": 8}
    assert server.most_active == 2


def test_the_key_is_read_from_the_environment_and_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    _, _, server = played(tmp_path / "run", failing(500), otherwise=failing(401, "bad key"), key_variable="MY_KEY")
    assert {headers["Authorization"] for _, headers, _ in server.requests} == {f"Bearer {KEY}"}
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or KEY not in path.read_text(encoding="utf-8", errors="replace")
    _, _, server = played(tmp_path / "other")
    assert all("Authorization" not in headers for _, headers, _ in server.requests)


@pytest.mark.parametrize("as_date", [False, True])
def test_a_server_that_names_a_wait_is_given_it(tmp_path, as_date):
    wait = email.utils.formatdate(time.time() + 2, usegmt=True) if as_date else "0.5"
    start = time.monotonic()
    report, _, _ = played(tmp_path, failing(429, Retry_After=wait))
    assert time.monotonic() - start > 0.4
    assert report["reward"]["mean"] == 5.0


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("3", 3.0), ("-1", None), ("inf", None), ("soon", None), ("nan", None)]
)
def test_waits_are_read_without_trust(header, seconds):
    assert endpoint._seconds(header) == seconds


def test_waits_grow_and_are_scattered(monkeypatch):
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.5)
    with serving(otherwise=failing(500)) as server:

        async def ask():
            made = endpoint.Endpoint(server.url, None, parallel=1, retries=9, timeout=5, max_bytes=10**6)
            monkeypatch.setattr(endpoint.asyncio, "sleep", sleep)
            try:
                await made.complete({}, endpoint.Counter(), np.random.default_rng(0))
            finally:
                monkeypatch.undo()
                await made.aclose()

        with pytest.raises(endpoint.EndpointError, match="10 times"):
            asyncio.run(ask())
    assert len(waits) == 9
    for number, wait in enumerate(waits):
        middle = min(60.0, 0.5 * 2**number)
        assert 0.5 * middle <= wait <= 1.5 * middle


def test_a_server_is_asked_in_the_way_that_it_knows(tmp_path):
    def picky(handler, body):
        for name, told in (("max_tokens", "Use 'max_completion_tokens'"), ("stream_options", "no stream_options")):
            if name in body:
                return failing(400, told)(handler, body)
        return good(handler, body)

    report, _, server = played(tmp_path, otherwise=picky, episodes=2)
    assert report["reward"]["mean"] == 5.0
    assert len(server.requests) == 2 + 6
    assert server.requests[-1][2]["max_completion_tokens"] == 2048
    assert server.requests[-1][2]["temperature"] == 0.0
    assert report["timing"]["usage"]["retries"] == 0


def test_a_member_that_is_refused_in_any_form_is_refused_for_good(tmp_path):
    report, (record,), server = played(tmp_path, otherwise=failing(400, "bad temperature, max_completion_tokens"))
    assert len(server.requests) == 2
    assert "max_completion_tokens" in record["invalid"]


def test_usage_that_is_not_told_is_counted(tmp_path):
    def quiet(handler, body):
        message = server_of.solving(body)
        handler.send(200, {"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"prompt_tokens": "x"}})

    def mute(handler, body):
        handler.send(200, {"choices": [{"message": server_of.solving(body)}]})

    report, _, _ = played(tmp_path, quiet, otherwise=mute, stream=False)
    assert report["timing"]["usage"] == {"requests": 3, "retries": 0, "unreported": 2}


def test_it_plays_in_loops_of_ones_own():
    with serving() as server:
        policy = ChatPolicy("tiny", base_url=server.url, tools="text")
        keywords = {"experts": "oracle", "split": "val", **policy.env_keywords({"tools": "text"})}
        with AsyncEpisodeRunner("VisHarness/RefSeg-v0", concurrency=4, **keywords) as runner:
            results = asyncio.run(runner.run(policy, episodes=6))
    assert [result.metrics["gIoU"] for result in results] == [1.0] * 6


def test_another_environment_is_refused():
    with serving() as server:
        policy = ChatPolicy("tiny", base_url=server.url)
        with AsyncEpisodeRunner("VisHarness/RefSeg-v0", split="val", experts="oracle") as runner:
            (result,) = asyncio.run(runner.run(policy, episodes=1))
    assert "dialect" in result.failure


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"base_url": "ftp://host/v1"}, "address"),
        ({"base_url": "nowhere"}, "address"),
        ({"base_url": "http://me:secret@host/v1"}, "password"),
        ({"tools": "both"}, "native"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"parallel": 0}, "parallel"),
        ({"retries": -1}, "retries"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"max_bytes": True}, "max_bytes"),
    ],
)
def test_impossible_settings_are_refused(options, match):
    with pytest.raises(InvalidData, match=match):
        ChatPolicy("tiny", **options)
    with pytest.raises(InvalidData, match="MODEL"):
        ChatPolicy("")


def test_httpx_is_asked_for_by_its_extra(monkeypatch):
    import builtins

    real = builtins.__import__

    def missing(name, *args, **kwargs):
        if name == "httpx":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ImportError, match=r"visenv\[chat\]"):
        ChatPolicy("tiny")


def test_the_command_line_evaluates_an_endpoint(tmp_path):
    with serving() as server:
        words = ["eval", "RefSeg-v0", "--policy", "openai:tiny", "--base-url", server.url, "--experts", "oracle"]
        words += ["--tools", "text", "-n", "3", "--parallel", "3", "--out", str(tmp_path / "run")]
        shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.stderr
    text = " ".join(shown.stdout.split())
    assert "3 of 3 episodes ended: 3 answer" in text
    assert "The endpoint: 9 requests" in text
