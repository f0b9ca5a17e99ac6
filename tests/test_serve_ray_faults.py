"""A real Ray Serve whose processes are killed, hang or go away, and clients that are killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import gymnasium as gym
import numpy as np
import pytest
from serve_stubs import ServedStub
from stubs import SquareDataset

from visenv.capabilities import ExpertFailure, PointPhrase, View
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels
from visenv.policies import make_policy, rollout
from visenv.serve.client import connect
from visenv.serve.running import start
from visenv.wrappers import RecordTrajectories


@pytest.fixture(scope="module")
def fragile(local_ray, serve_address):
    """One process, whose batches may take three seconds."""
    with start(ServedStub(), serve_address, num_cpus=0.1, timeout=3.0, app="fragile") as serving:
        yield serving


def image(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


def wait_until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_replica_killed_in_mid_batch_is_replaced_and_nothing_is_lost(fragile, tmp_path):
    (expert,) = connect(f"{fragile.address}?timeout=20&deadline=120")
    asked = [PointPhrase(image(seed), f"wait {tmp_path / 'here'}" if seed == 2 else "a") for seed in range(4)]
    answers = []
    thread = threading.Thread(target=lambda: answers.extend(expert.run(asked)))
    thread.start()
    wait_until(lambda: (tmp_path / "here").exists() and (tmp_path / "here").read_text())
    pid = int((tmp_path / "here").read_text())
    (tmp_path / "here.go").touch()
    os.kill(pid, signal.SIGKILL)
    thread.join(130)
    assert len(answers) == 4
    assert {answer.points[0, 0] for answer in answers}.isdisjoint({pid})


@pytest.mark.slow
def test_a_request_that_kills_every_replica_harms_no_other(fragile):
    (expert,) = connect(f"{fragile.address}?timeout=20&deadline=120")
    answers = ExpertPool({"PointPhrase": expert}).answer(
        [PointPhrase(image(seed), "die" if seed == 1 else "a") for seed in range(3)]
    )
    assert [isinstance(answer, ExpertFailure) for answer in answers] == [False, True, False]


@pytest.mark.slow
def test_a_replica_that_hangs_is_replaced(fragile, tmp_path):
    (expert,) = connect(f"{fragile.address}?timeout=10&deadline=120")
    pid = expert.run([PointPhrase(image(), "before")])[0].points[0, 0]
    begun = time.monotonic()
    (answer,) = expert.run([PointPhrase(image(), f"once-hang {tmp_path / 'hung'}")])
    assert (tmp_path / "hung").exists()
    assert answer.points[0, 0] != pid
    assert time.monotonic() - begun < 110


@pytest.mark.slow
def test_a_request_that_always_hangs_ends(fragile):
    (expert,) = connect(f"{fragile.address}?timeout=2&deadline=6")
    begun = time.monotonic()
    (answer,) = expert.run([PointPhrase(image(), "hang")])
    assert isinstance(answer, ExpertFailure)
    assert time.monotonic() - begun < 9


def play(address, folder, episodes, during=None):
    env = gym.make("VisHarness/RefSeg-v0", dataset=SquareDataset(), experts=address)
    env.unwrapped.pool = ExpertPool(env.unwrapped.pool.experts, cache_bytes=0)
    recorded = RecordTrajectories(env, folder, page=None, pictures=False)
    for end in rollout(recorded, make_policy("single"), episodes=episodes, seed=0):
        if during is not None:
            during(end)
    recorded.close()
    return (folder / "trajectories.jsonl").read_bytes()


@pytest.mark.slow
def test_all_replicas_gone_for_twenty_seconds_lose_no_episode(local_ray, serve_address, tmp_path):
    def serve():
        return start(ServedStub(), serve_address, num_cpus=0.1, app="away")

    serving = serve()
    untroubled = play(serving.address, tmp_path / "untroubled", 12)
    back = []

    def go_away(end):
        if end.index == 3:
            serving.stop()
            threading.Timer(20, lambda: back.append(serve())).start()

    begun = time.monotonic()
    troubled = play(f"{serving.address}?timeout=10&deadline=150", tmp_path / "troubled", 12, go_away)
    assert time.monotonic() - begun > 20
    back[0].stop()
    assert troubled == untroubled


@pytest.mark.slow
def test_a_training_run_that_is_killed_goes_on_against_the_same_server(local_ray, serve_address, tmp_path):
    with start("classical", serve_address, num_cpus=0.5, app="training") as serving:
        command = [sys.executable, "-m", "visenv", "train", "RefSeg-v0", "--experts", serving.address, "--out", "run"]
        command += ["--steps", "512", "--n-envs", "4", "--set", "n_steps=32", "--eval-episodes", "4", "--json"]
        killed = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        log = tmp_path / "run" / "curve.jsonl"
        wait_until(lambda: log.exists() and len(log.read_text().splitlines()) >= 1, 200)
        killed.kill()
        killed.wait()
        assert not (tmp_path / "run" / "evaluation.json").exists()
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["policies"]
        assert connect(serving.address)
