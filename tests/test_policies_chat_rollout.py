"""``visenv rollout`` with a chat endpoint: recorded as any other policy, however many episodes are under way."""

import base64
import io
import json
import signal
import threading
import time

import gymnasium as gym
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import visenv.policies.endpoint as endpoint
from tests.chat_server import failing, good, saying, serving, slow
from visenv.cli import app
from visenv.errors import InvalidData
from visenv.export.runs import RecordedRun
from visenv.policies import make_policy, rollout
from visenv.policies.chat import ChatPolicy
from visenv.policies.concurrent import rollout_awaiting
from visenv.wrappers import RecordTrajectories
from visenv.wrappers.recording import RunRecorder

KEY = "sk-very-secret-key"
QUESTIONS = ("MultiImage-v0", "Blink-v0", "MMVP-v0", "MATSearch-v0", "MATCoding-v0")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def told(server, folder, *words, env="RefSeg-v0"):
    """What the command says, with the address of a server."""
    words = ["rollout", env, "--policy", "openai:tiny", "--base-url", server.url, "--out", str(folder), *words]
    return CliRunner().invoke(app, words)


def records(folder):
    return [json.loads(line) for line in (folder / "trajectories.jsonl").read_text().splitlines()]


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sent_images(message):
    """The pictures of a message, decoded."""
    urls = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2])))) for url in urls]


@pytest.mark.parametrize("tools", ["native", "text"])
def test_a_model_is_recorded_turn_by_turn(tmp_path, tools):
    words = ["--tools", tools, "--experts", "oracle", "--temperature", "0.7", "-n", "5", "--parallel", "3", "--json"]
    with serving(otherwise=slow) as server:
        shown = told(server, tmp_path / "run", *words)
    assert shown.exit_code == 0, shown.stderr
    summary = json.loads(shown.stdout)
    assert summary["metrics"]["gIoU"] == 1.0
    assert summary["usage"] == {"requests": 15, "retries": 0, "prompt_tokens": 1500, "completion_tokens": 105}
    assert summary["settings"]["options"]["temperature"] == 0.7
    assert {body["temperature"] for _, _, body in server.requests} == {0.7}
    assert 1 < server.most_active <= 3
    played = records(tmp_path / "run")
    assert [record["episode"] for record in played] == [0, 1, 2, 3, 4]
    for record in played:
        assert [turn["name"] for turn in record["turns"]] == ["PhraseToBoxMask", "MergeBoxMask", "Answer"]
        assert all((tmp_path / "run" / name).is_file() for turn in record["turns"] for name in turn["pictures"])
        assert record["turns"][0]["pictures"]
        assert record["result_pictures"].keys() == {"truth", "final"}
    page = (tmp_path / "run" / "index.html").read_text()
    assert "openai:tiny" in page
    if tools == "text":
        assert played[0]["turns"][0]["text"].startswith("<think>Look.</think><tool_call>")
    assert RecordedRun(tmp_path / "run").native == (tools == "native")


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_input_is_sent_as_an_image_of_its_own(tmp_path, name):
    with serving(otherwise=saying(content="A")) as server:
        shown = told(server, tmp_path / "run", "-n", "3", "--no-pictures", "--parallel", "1", env=name)
    assert shown.exit_code == 0, shown.stderr
    env = gym.make(f"VisHarness/{name}", split="val").unwrapped
    played = records(tmp_path / "run")
    counts = []
    for (_, _, body), record in zip(server.requests, played, strict=True):
        _, task = body["messages"]
        images = sent_images(task)
        env.reset(options={"sample_id": record["sample_id"]})
        own = env.episode.workspace.images.values()
        assert len(images) == len(own) == len(record["images"])
        assert all(np.array_equal(image, mine.pixels) for image, mine in zip(images, own, strict=True))
        assert record["query"] in task["content"][0]["text"]
        counts.append(len(images))
    assert max(counts) > 1 or name in ("MMVP-v0", "MATSearch-v0", "MATCoding-v0")


@pytest.mark.parametrize("name", ["Mixed-v0", "MultiImage-v0"])
def test_the_same_bytes_as_one_episode_after_another(tmp_path, name):
    def env():
        return gym.make(f"VisHarness/{name}", split="val", obs="features")

    recorded = RecordTrajectories(env(), tmp_path / "one", page=None)
    assert len(list(rollout(recorded, make_policy("scripted"), episodes=4, seed=3))) == 4
    recorded.close()
    settings = recorded.recorder.settings
    with RunRecorder(tmp_path / "many", settings) as recorder:
        policy = make_policy("scripted")
        for parcel in rollout_awaiting(env().unwrapped, policy, episodes=4, seed=3, concurrency=3):
            recorder.add(parcel)
    assert files(tmp_path / "one") == files(tmp_path / "many")


def test_an_episode_that_ends_late_is_still_written_in_its_place(tmp_path):
    def late(handler, body):
        time.sleep(0.4)
        good(handler, body)

    with serving(late, otherwise=good) as server:
        shown = told(server, tmp_path / "run", "--experts", "oracle", "-n", "4", "--parallel", "4", "--no-pictures")
    assert shown.exit_code == 0, shown.stderr
    assert [record["episode"] for record in records(tmp_path / "run")] == [0, 1, 2, 3]


def test_an_endpoint_that_refuses_makes_invalid_episodes_that_say_why(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(good, failing(401, "no such key"), otherwise=good) as server:
        shown = told(server, tmp_path / "run", "--experts", "oracle", "-n", "2", "--parallel", "1")
    assert shown.exit_code == 0, shown.stderr
    assert "1 invalid: policy: EndpointError" in shown.stdout
    assert {headers["Authorization"] for _, headers, _ in server.requests} == {f"Bearer {KEY}"}
    assert not any(KEY.encode() in data for data in files(tmp_path / "run").values())
    failed, fine = records(tmp_path / "run")
    assert (failed["termination"], failed["outcome"]["termination"], failed["reward"]) == ("invalid", "invalid", 0.0)
    assert "HTTP 401" in failed["invalid"]
    assert [turn["name"] for turn in failed["turns"]] == ["PhraseToBoxMask"], "What it did before is kept."
    assert (fine["termination"], fine["metrics"]["gIoU"]) == ("answer", 1.0)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["terminations"], sum(summary["problems"].values())) == ({"answer": 1, "invalid": 1}, 1)
    assert summary["metrics"]["gIoU_failed"] == 1.0
    assert "Invalid: policy: EndpointError" in (tmp_path / "run" / "index.html").read_text()


def test_ctrl_c_keeps_what_has_ended(tmp_path):
    def interrupting(handler, body):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.5)

    with serving(*[good] * 7, otherwise=interrupting) as server:
        shown = told(server, tmp_path / "run", "--experts", "oracle", "-n", "5", "--parallel", "1", "--no-pictures")
    assert shown.exit_code == 130, shown.output
    assert len(records(tmp_path / "run")) == 2
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["interrupted"] is True
    assert (tmp_path / "run" / "index.html").is_file()


def test_breaking_off_leaves_no_thread_and_no_request_behind(tmp_path):
    before = set(threading.enumerate())  # of sandboxes that other tests have used
    with serving() as server:
        policy = ChatPolicy("tiny", base_url=server.url)
        env = gym.make("VisHarness/RefSeg-v0", split="val", experts="oracle", dialect="openai").unwrapped
        parcels = rollout_awaiting(env, policy, episodes=50, seed=0, concurrency=2)
        assert next(parcels).index == 0
        parcels.close()
        asked = len(server.requests)
        time.sleep(0.1)
        assert len(server.requests) == asked < 150
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("visenv")]


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--ray", "local"], "no --ray with a chat endpoint"),
        (["--tools", "both"], "'native' or 'text'"),
        (["--action-mode", "discrete", "--tools", "text"], "action_mode"),
        (["--dialect", "arft"], "dialect"),
        (["--base-url", "ftp://host/v1"], "address"),
        (["--policy", "openai:"], "MODEL"),
    ],
)
def test_mistakes_are_said_before_anything_is_asked(tmp_path, words, match):
    with serving() as server:
        shown = told(server, tmp_path / "run", *words, "-n", "2")
    assert shown.exit_code == 2, shown.output
    assert match in " ".join(shown.stderr.split())
    assert server.requests == []
    assert not (tmp_path / "run").exists()


def test_numbers_out_of_range_are_refused():
    env = gym.make("VisHarness/RefSeg-v0", split="val", experts="oracle").unwrapped
    for given in ({"episodes": 0}, {"seed": -1}, {"concurrency": 0}):
        counts = {"episodes": 1, "seed": 0, "concurrency": 1, **given}
        with pytest.raises(InvalidData):
            next(rollout_awaiting(env, make_policy("scripted"), **counts))
