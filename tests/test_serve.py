"""Experts on a real Ray Serve, asked over HTTP and inside the Ray."""

import http.client
import json
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import numpy as np
import pytest
from serve_stubs import OtherStub, ServedStub

import visenv
from visenv.capabilities import ExpertFailure, GroundPhrase, PointPhrase, Prompt, SegmentPrompts, Upscale, View
from visenv.errors import InvalidData
from visenv.experts.classical import make as make_classical
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels
from visenv.policies import make_policy, rollout
from visenv.serve.client import ServedExpert, connect
from visenv.serve.planning import ServeOptions, plan
from visenv.serve.running import start
from visenv.serve.transport import HttpTransport
from visenv.serve.wire import Limits

TOKEN = "let-me-in"
BODY = 2**20


@pytest.fixture(scope="module")
def served(local_ray, serve_address):
    """Two experts in a process each; batches wait a little, so that two clients can meet in one."""
    experts = [ServedStub(), OtherStub()]
    with start(experts, serve_address, num_cpus=0.1, batch_wait_s=0.2, app="stubs") as serving:
        yield serving


@pytest.fixture(scope="module")
def guarded(local_ray, serve_address):
    """One expert behind a token, that takes a megabyte at once and remembers next to nothing."""
    limits = Limits(body_bytes=BODY)
    with start(
        ServedStub(), serve_address, token=TOKEN, num_cpus=0.1, app="guarded", limits=limits, store_bytes=20_000
    ) as serving:
        yield serving


@pytest.fixture(scope="module")
def classical(local_ray, serve_address):
    with start("classical", serve_address, num_cpus=0.5, replicas=2, app="classical") as serving:
        yield serving


def image(seed=0, side=48):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


class Counting(HttpTransport):
    """Takes note of what is sent."""

    def answer(self, key, message, seconds):
        self.sizes.append(len(message))
        return super().answer(key, message, seconds)


@pytest.fixture
def sizes(monkeypatch):
    """The sizes of all messages that are sent."""
    Counting.sizes = []
    monkeypatch.setattr("visenv.serve.client.HttpTransport", Counting)
    return Counting.sizes


# --- connecting ---------------------------------------------------------------------------------------------------


def test_connecting_says_what_is_served(served):
    first, second = connect(served.address)
    assert (first.name, first.fingerprint, first.max_batch) == ("stub", "stub-1", 8)
    assert first.capabilities == ServedStub.capabilities
    assert second.capabilities == ("PointPhrase",)
    assert not first.per_sample
    assert first.concurrent_calls > 1


def test_what_runs_where_is_said(served):
    described = served.describe()
    assert described["address"] == served.address
    (replica,), (other,) = (expert["replicas"] for expert in described["experts"])
    assert replica["pid"] not in (os.getpid(), other["pid"])
    os.kill(replica["pid"], 0)
    assert json.loads(json.dumps(described)) == described


def test_nobody_there_is_an_error_at_once():
    with pytest.raises(InvalidData, match="visenv serve"):
        gym.make("VisHarness/RefSeg-v0", experts="http://127.0.0.1:9?deadline=2")


@pytest.mark.parametrize(
    "address",
    [
        "http://",
        "http://127.0.0.1:99999",
        "http://user:secret@127.0.0.1:8000",
        "http://127.0.0.1:8000?retries=2",
        "http://127.0.0.1:8000?timeout=soon",
        "http://127.0.0.1:8000?timeout=-1",
        "http://[::1",
        "ray://",
        "ray://127.0.0.1:10001",
    ],
)
def test_odd_addresses_are_errors(address):
    with pytest.raises(InvalidData, match="Expected") as caught:
        connect(address)
    assert "secret" not in str(caught.value)


def test_a_token_is_asked_for(guarded, monkeypatch):
    for token in (None, "", "let-me-in-too", "let-me-i"):
        with pytest.raises(InvalidData, match="401.*VISENV_TOKEN"):
            connect(guarded.address, token=token)
    assert connect(guarded.address, token=TOKEN)[0].run([PointPhrase(image(), "")])
    monkeypatch.setenv("VISENV_TOKEN", TOKEN)
    (expert,) = connect(guarded.address)
    monkeypatch.delenv("VISENV_TOKEN")
    assert expert.run([PointPhrase(image(), "")])[0].points[0, 1] == 1


def http_answer(address, method, path, body=None, **headers):
    host, _, prefix = address.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    connection.request(method, f"/{prefix}{path}", body, headers)
    response = connection.getresponse()
    return response.status, response.read()


def test_without_the_token_nothing_is_told_but_health(guarded):
    assert http_answer(guarded.address, "GET", "/health") == (200, b'{"status": "ok"}')
    for method, path in (("GET", "/describe"), ("POST", "/experts/stub"), ("GET", "/"), ("PUT", "/experts/stub")):
        status, text = http_answer(guarded.address, method, path, b"x" if method == "POST" else None)
        assert status == 401
        assert b"stub" not in text


def test_what_is_no_request_is_refused(guarded):
    shown = {"Authorization": f"Bearer {TOKEN}"}
    assert http_answer(guarded.address, "POST", "/experts/stub", b"", **shown)[0] == 400
    assert http_answer(guarded.address, "POST", "/experts/stub", b"VSNV" + b"x" * 50, **shown)[0] == 400
    assert http_answer(guarded.address, "POST", "/experts/stub", b"x" * (BODY + 1), **shown)[0] == 413
    assert http_answer(guarded.address, "POST", "/experts/none", b"x", **shown)[0] == 404
    assert http_answer(guarded.address, "GET", "/experts/stub", **shown)[0] == 404
    assert http_answer(guarded.address, "GET", "/health")[0] == 200


# --- answers ------------------------------------------------------------------------------------------------------


def plain(result):
    return pickle.dumps(result)


def all_kinds(view):
    prompt = Prompt(points=np.array([[5.0, 6.0]]))
    return [GroundPhrase(view, "red mug"), PointPhrase(view, "mug"), SegmentPrompts(view, (prompt,)), Upscale(view, 2)]


@pytest.fixture(scope="module")
def scene():
    env = gym.make("VisHarness/ReasonSeg-v0", split="val").unwrapped
    pixels = env.dataset.get(0).image
    return View(pixels, Provenance(RootPixels(pixels)))


@pytest.mark.parametrize("way", ["http", "ray"])
def test_results_are_those_of_the_expert_itself(classical, scene, way):
    (expert,) = connect(classical.address if way == "http" else f"ray://{classical.app}")
    here = make_classical()[0].run(all_kinds(scene))
    there = expert.run(all_kinds(scene))
    assert here[0].masks == there[0].masks
    assert here[2].masks == there[2].masks
    for one, other in (
        (here[0].boxes, there[0].boxes),
        (here[0].scores, there[0].scores),
        (here[1].points, there[1].points),
        (here[2].scores[0], there[2].scores[0]),
        (here[3].pixels, there[3].pixels),
    ):
        np.testing.assert_array_equal(one, other)
    assert here[3].fingerprint == there[3].fingerprint


def test_episodes_are_those_of_the_expert_itself(classical):
    def play(experts):
        env = gym.make("VisHarness/GRefSeg-v0", experts=experts, split="val")
        return [(end.sample_id, end.reward, end.metrics, end.calls) for end in rollout(env, policy, episodes=4, seed=1)]

    policy = make_policy("scripted")
    assert play(classical.address) == play("classical")


def test_a_batch_is_split_among_replicas_and_an_image_is_not(classical):
    (expert,) = connect(classical.address)
    assert expert.max_batch == 2 * make_classical()[0].max_batch
    views = [image(seed) for seed in range(5)]
    asked = [GroundPhrase(view, phrase) for phrase in ("car", "mug") for view in views]
    digests, pixels = expert._shared.digests(asked)
    parts = expert._parts(asked, digests, pixels)
    assert sorted(place for part in parts for place in part) == list(range(10))
    assert [len(part) for part in parts] == [6, 4]
    assert all(place % 5 in {other % 5 for other in part} for part in parts for place in part)
    in_one = [{place % 5 for place in part} for part in parts]
    assert not in_one[0] & in_one[1]


def test_the_first_of_several_experts_answers(served):
    env = gym.make("VisHarness/RefSeg-v0", experts=served.address).unwrapped
    assert {expert.name for expert in env.pool.experts.values()} == {"stub"}
    mixed = {"*": "classical", "Upscale": served.address}
    env = gym.make("VisHarness/RefSeg-v0", experts=mixed, expert_workers=1).unwrapped
    assert isinstance(env.pool.experts["Upscale"], ServedExpert), "a server's expert needs no process of ours"
    env.close()


def test_clients_meet_in_one_batch(served):
    clients = [connect(served.address)[0] for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        same = list(threads.map(lambda client: client.run([PointPhrase(image(), "same")]), clients))
    assert [answer[0].points[0, 1] for answer in same] == [1, 1, 1], "what is the same is asked once"
    with ThreadPoolExecutor(3) as threads:
        asked = [[PointPhrase(image(seed), "other")] for seed in range(3)]
        answers = list(threads.map(lambda pair: pair[0].run(pair[1]), zip(clients, asked, strict=True)))
    assert max(answer[0].points[0, 1] for answer in answers) >= 2


def test_a_request_that_fails_harms_no_other(served):
    (expert, _) = connect(served.address)
    asked = [PointPhrase(image(seed), phrase) for seed, phrase in enumerate(["a", "raise", "b", "c"])]
    answers = ExpertPool({"PointPhrase": expert}).answer(asked)
    assert [isinstance(answer, ExpertFailure) for answer in answers] == [False, True, False, False]
    assert "RuntimeError: no" in answers[1].message


def test_more_requests_than_fit_one_batch_are_answered(served):
    (expert, _) = connect(served.address)
    asked = [PointPhrase(image(seed), "many") for seed in range(3 * expert.max_batch)]
    answers = expert.run(asked)
    assert len(answers) == 24
    assert max(answer.points[0, 1] for answer in answers) <= 8


# --- pixels -------------------------------------------------------------------------------------------------------


def test_an_image_is_sent_once(served, sizes):
    (expert, _) = connect(served.address)
    view = image(100, side=100)
    expert.run([GroundPhrase(view, "a"), PointPhrase(view, "a")])
    expert.run([GroundPhrase(view, "b")])
    assert 30_000 < sizes[0] < 31_500
    assert sizes[1] < 800
    assert len(sizes) == 2


def test_an_enlarged_image_is_not_sent_back(served, sizes):
    (expert, _) = connect(served.address)
    view = image(101, side=50)
    (enlarged,) = expert.run([Upscale(view, 4)])
    made = View(enlarged.pixels, view.provenance.then(f"x4:{enlarged.fingerprint}"), to_root=np.diag([0.25, 0.25, 1]))
    assert expert.run([GroundPhrase(made, "a")])[0].masks.shape == (200, 200)
    assert sizes[1] < 800
    assert len(sizes) == 2


def test_what_the_server_has_forgotten_is_sent_again(guarded, sizes):
    (expert,) = connect(guarded.address, token=TOKEN)
    view, other = image(102, side=60), image(103, side=70)
    first = expert.run([GroundPhrase(view, "a")])
    expert.run([GroundPhrase(other, "a")])
    again = expert.run([GroundPhrase(view, "b")])
    assert again[0].masks == first[0].masks
    assert [size > 10_000 for size in sizes] == [True, True, False, True]


def test_a_batch_larger_than_a_request_may_be_is_sent_in_parts(guarded, sizes):
    (expert,) = connect(guarded.address, token=TOKEN)
    views = [image(seed, side=400) for seed in range(3)]
    answers = expert.run([GroundPhrase(view, "a") for view in views])
    assert [answer.masks.shape for answer in answers] == [(400, 400)] * 3
    assert len(sizes) == 3
    assert max(sizes) < BODY


def test_an_image_larger_than_a_request_may_be_has_failed(guarded):
    (expert,) = connect(guarded.address, token=TOKEN)
    large, small = image(0, side=700), image(1)
    refused, served = expert.run([GroundPhrase(large, "a"), GroundPhrase(small, "a")])
    assert isinstance(refused, ExpertFailure)
    assert "1048576 bytes" in refused.message
    assert not isinstance(served, ExpertFailure)


# --- copies and threads -------------------------------------------------------------------------------------------


def test_a_copy_asks_the_same_server(served):
    (expert, _) = connect(served.address)
    expert.run([PointPhrase(image(), "a")])
    copy = pickle.loads(pickle.dumps(expert))
    assert copy.run([PointPhrase(image(), "copied")])[0].points[0, 1] == 1
    assert copy.fingerprint == expert.fingerprint


def test_many_threads_may_ask_one_expert(served):
    (expert, _) = connect(served.address)
    wanted = [(seed, expert.run([GroundPhrase(image(seed), "x")])[0]) for seed in range(4)]
    errors = []

    def ask(seed, right):
        for turn in range(3):
            (found,) = expert.run([GroundPhrase(image(seed), f"x{turn}")])
            if found.masks != right.masks:
                errors.append(seed)

    threads = [threading.Thread(target=ask, args=pair) for pair in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


# --- starting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["oracle", "noisy"])
def test_experts_that_read_the_truth_are_not_served(local_ray, serve_address, name):
    with pytest.raises(InvalidData, match="truth"):
        start(name, serve_address)


def test_more_than_there_is_is_an_error_and_not_a_wait(local_ray, serve_address):
    with pytest.raises(InvalidData, match="Expected 3 CPUs"):
        start("classical", serve_address, replicas=3)
    with pytest.raises(InvalidData, match="Expected 1 GPUs"):
        start("classical", serve_address, num_cpus=0, num_gpus=1)


def test_a_ray_serve_that_listens_elsewhere_is_left_as_it_is(served, serve_address):
    with pytest.raises(InvalidData, match=f"listens at {serve_address}"):
        start(ServedStub(), "127.0.0.1:1", num_cpus=0, app="elsewhere")


PRESET = """
experts:
  - expert: serve_stubs:ServedStub
    capabilities: [GroundPhrase]
    serve: {num_cpus: 0.1, max_batch: 3, autoscaling: {min_replicas: 1, max_replicas: 2}}
  - expert: serve_stubs:OtherStub
    serve: {num_cpus: 0.05, replicas: 2, batch_wait_s: 0}
rest: classical
"""


def test_a_preset_says_how_each_of_its_experts_is_served(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(PRESET)
    first, second, rest = plan(path)
    assert [planned.key for planned in (first, second, rest)] == ["ServedStub", "OtherStub", "classical"]
    assert (first.options.num_cpus, first.options.max_batch, first.options.most_replicas) == (0.1, 3, 2)
    assert (second.options.first_replicas, second.options.batch_wait_s) == (2, 0)
    assert rest.options == ServeOptions()
    assert [planned.options.num_cpus for planned in plan(path, num_cpus=0.5)] == [0.5] * 3
    assert plan(path, replicas=3)[0].options.autoscaling is None
    made = first.make()
    assert (made.name, made.capabilities) == ("stub", ("GroundPhrase",))
    assert second.make().name == "other"


def test_presets_that_come_with_visenv_say_how_they_are_served():
    sam3, molmo, upscaler = plan("visharness")
    assert sum(planned.options.num_gpus for planned in (sam3, molmo, upscaler)) == pytest.approx(1)
    outlined = plan("yolo-world")
    assert [planned.key for planned in outlined] == ["sam2", "yolo", "classical"]
    assert outlined[-1].options.num_gpus == 0
    assert [planned.options.num_gpus for planned in plan("yolo-world", num_gpus=1)] == [1, 1, 0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"replicas": 0}, "replicas"),
        ({"replicas": 1.5}, "whole"),
        ({"num_gpus": -1}, "num_gpus"),
        ({"max_batch": True}, "max_batch"),
        ({"autoscaling": {"most": 2}}, "autoscaling by"),
        ({"autoscaling": {"min_replicas": 3, "max_replicas": 2}}, "at most"),
    ],
)
def test_options_out_of_range_are_errors(wrong, words):
    with pytest.raises(InvalidData, match=words):
        ServeOptions(**wrong)


@pytest.mark.slow
def test_a_preset_is_served(local_ray, serve_address, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(PRESET)
    with start(path, serve_address, app="preset", num_cpus=0.05) as serving:
        first, second, rest = connect(serving.address)
        assert (first.capabilities, first.max_batch) == (("GroundPhrase",), 6)
        assert second.run([PointPhrase(image(), "a")])[0].points[0, 1] == 1
        assert rest.name == "classical"
        assert [len(expert["replicas"]) for expert in serving.describe()["experts"]] == [1, 2, 1]


@pytest.mark.slow
def test_an_expert_that_cannot_be_made_says_why(local_ray, serve_address):
    class Broken(ServedStub):
        def __setstate__(self, state):
            raise OSError("no weights in /nowhere")

    with pytest.raises(InvalidData, match="no weights in /nowhere"):
        start(Broken(), serve_address, num_cpus=0, app="broken")


def test_the_version_of_the_server_is_this_one(served):
    described = json.loads(http_answer(served.address, "GET", "/describe")[1])
    assert described["visenv"] == visenv.__version__
