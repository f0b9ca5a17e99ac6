"""What goes wrong between a client and a server: bounded in time, nothing lost, nothing counted twice, and invalid."""

import threading
import time

import gymnasium as gym
import numpy as np
import pytest
from faulty_server import FaultyServer
from stubs import BrightExpert, SquareDataset

from visenv.capabilities import ExpertFailure, GroundPhrase, PointPhrase, View
from visenv.errors import ExpertError, InvalidData
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels
from visenv.policies import make_policy, rollout
from visenv.serve.client import FAULTS, Patience, connect
from visenv.wrappers import RecordTrajectories

TEMPORARY = ["broken", "crashed", "busy", "late", "noise", "empty", "page", "bits", "too_few", "another_kind"]
TEMPORARY += ["impossible", "no_http", "cut", "hung_up", "huge", "slow"]
GARBAGE = ["broken", "noise", "empty", "page", "bits", "too_few", "another_kind", "impossible", "no_http", "huge"]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    """Waits that a test can wait for; the bounds are those of the addresses."""
    monkeypatch.setattr(Patience, "__init__", patience)


original = Patience.__init__


def patience(self, timeout=60.0, deadline=180.0, first_wait=0.02, longest_wait=0.1):
    original(self, timeout, deadline, first_wait, longest_wait)


def image(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


def right(request):
    return BrightExpert().answer(request)


def test_waits_grow_and_are_bounded():
    import random

    waits = Patience(first_wait=0.2, longest_wait=5.0)
    drawn = [[waits.wait(attempt, random.Random(seed)) for seed in range(50)] for attempt in (1, 2, 3, 40)]
    for values, middle in zip(drawn, (0.2, 0.4, 0.8, 5.0), strict=True):
        assert 0.5 * middle <= min(values) < 0.7 * middle
        assert 1.3 * middle < max(values) <= 1.5 * middle


@pytest.mark.parametrize("fault", TEMPORARY)
def test_what_goes_wrong_once_is_asked_again(fault):
    with FaultyServer(fault) as server:
        (expert,) = connect(f"{server.address}?timeout=5&deadline=10")
        asked = [GroundPhrase(image(seed), "a") for seed in range(3)]
        answers = expert.run(asked)
    assert [answer.masks for answer in answers] == [right(request).masks for request in asked]
    assert len(server.asked) == (1 if fault == "slow" else 2)


@pytest.mark.parametrize("fault", GARBAGE)
def test_what_always_goes_wrong_is_given_up_after_a_few_times(fault):
    with FaultyServer(f"{fault}*") as server:
        (expert,) = connect(f"{server.address}?timeout=5&deadline=30")
        begun = time.monotonic()
        (alone,) = expert.run([GroundPhrase(image(), "a")])
        assert len(server.asked) == FAULTS
        several = expert.run([GroundPhrase(image(), "a"), GroundPhrase(image(), "b")])
        assert time.monotonic() - begun < 10
    assert isinstance(alone, ExpertFailure)
    assert server.address in alone.message
    assert [type(answer) for answer in several] == [ExpertError] * 2


def test_a_request_that_breaks_the_server_harms_no_other():
    with FaultyServer() as server:
        pool = ExpertPool({"PointPhrase": connect(server.address)[0]})
        asked = [PointPhrase(image(seed), "poison" if seed == 5 else "a") for seed in range(8)]
        answers = pool.answer(asked)
    assert [isinstance(answer, ExpertFailure) for answer in answers] == [seed == 5 for seed in range(8)]
    np.testing.assert_array_equal(answers[0].points, right(asked[0]).points)


@pytest.mark.parametrize("fault", ["busy", "late", "silent", "dripping", "cut", "hung_up"])
def test_no_call_takes_longer_than_its_bound(fault):
    with FaultyServer(f"{fault}*") as server:
        (expert,) = connect(f"{server.address}?timeout=0.5&deadline=1.5")
        begun = time.monotonic()
        answers = expert.run([GroundPhrase(image(), "a"), GroundPhrase(image(1), "b")])
        assert 1.4 < time.monotonic() - begun < 4
    assert [type(answer) for answer in answers] == [ExpertFailure] * 2
    assert "within 1.5 s" in answers[0].message


def test_an_endless_answer_is_not_read_to_its_end():
    with FaultyServer("endless*") as server:
        (expert,) = connect(f"{server.address}?timeout=20&deadline=60")
        expert._shared.transport.most = 5 * 2**20
        (answer,) = expert.run([GroundPhrase(image(), "a")])
    assert "more than 5242880 bytes" in answer.message


def test_other_weights_are_never_asked():
    with FaultyServer("other_weights") as server:
        (expert,) = connect(server.address)
        (answer,) = expert.run([GroundPhrase(image(), "a")])
        assert len(server.asked) == 1
    assert isinstance(answer, ExpertFailure)
    assert "bright-2" in answer.message


def test_a_server_that_asks_for_what_it_was_not_asked_about_is_given_up():
    with FaultyServer("always_needs*") as server:
        (expert,) = connect(f"{server.address}?deadline=20")
        (answer,) = expert.run([GroundPhrase(image(), "a")])
    assert isinstance(answer, ExpertFailure)
    assert "was not asked about" in answer.message


def test_a_server_that_goes_and_comes_back_is_waited_for():
    with FaultyServer() as server:
        (expert,) = connect(f"{server.address}?timeout=5&deadline=30")
        before = expert.run([GroundPhrase(image(), "a")])
        server.end()
        threading.Timer(1.5, server.begin).start()
        begun = time.monotonic()
        after = expert.run([GroundPhrase(image(), "a")])
        assert 1 < time.monotonic() - begun < 15
    assert before[0].masks == after[0].masks


@pytest.mark.parametrize(
    ("described", "words"),
    [
        ({"protocol": 2}, "same version"),
        ({"visenv": "999.0.0"}, "999.0.0.*same version"),
        ({"visenv": None}, "same version"),
        ({"experts": []}, "none is served"),
        ({"experts": [{}]}, "broken"),
        ({"experts": None}, "something else"),
        ({"body_bytes": "many"}, "broken"),
    ],
)
def test_versions_and_descriptions_are_checked_when_connecting(described, words):
    with FaultyServer(described=described) as server, pytest.raises(InvalidData, match=words):
        gym.make("VisHarness/RefSeg-v0", experts=server.address)


# --- episodes -----------------------------------------------------------------------------------------------------


def play(address, folder, episodes=6):
    env = gym.make("VisHarness/RefSeg-v0", dataset=SquareDataset(), experts=address)
    recorded = RecordTrajectories(env, folder, page=None, pictures=False)
    ends = list(rollout(recorded, make_policy("single"), episodes=episodes, seed=0))
    summary = recorded.recorder.close()
    recorded.close()
    return ends, summary


def test_episodes_go_on_as_if_nothing_had_happened(tmp_path):
    with FaultyServer() as server:
        untroubled = play(server.address, tmp_path / "untroubled")
    with FaultyServer("broken", "hung_up", "noise", "right", "crashed", "busy", "right", "cut") as server:
        troubled = play(f"{server.address}?timeout=5&deadline=20", tmp_path / "troubled")
    assert (tmp_path / "troubled/trajectories.jsonl").read_bytes() == (
        tmp_path / "untroubled/trajectories.jsonl"
    ).read_bytes()
    assert troubled[1]["terminations"] == untroubled[1]["terminations"] == {"answer": 6}


def test_what_could_not_be_served_is_invalid_and_not_a_low_reward(tmp_path):
    with FaultyServer("right", "right", "broken", "broken", "broken", "broken", "broken", "broken") as server:
        env = gym.make("VisHarness/RefSeg-v0", dataset=SquareDataset(), experts=server.address)
        env.unwrapped.pool = ExpertPool(env.unwrapped.pool.experts, cache_bytes=0)
        ends = list(rollout(env, make_policy("single"), episodes=6, seed=0))
    terminations = [end.outcome.termination for end in ends]
    assert terminations.count("invalid") == 2
    assert terminations.count("answer") == 4
    for end in ends:
        if end.outcome.termination == "invalid":
            assert end.reward == 0
    assert len({end.index for end in ends}) == 6
