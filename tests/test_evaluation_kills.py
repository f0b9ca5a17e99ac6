"""Evaluations that are killed, again and again, at any moment: no line lost, none twice, a torn one mended."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import cv2
import pytest

import visenv.evaluation.store as store
from visenv.evaluation import EvalConfig, Run, evaluate, work
from visenv.evaluation.running import begin

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")


def slowly(write):
    """Write in small pieces, so that a kill may fall between them: what a power cut leaves of a line."""

    def piece(descriptor, data):
        time.sleep(0.0005)
        return write(descriptor, data[:200])

    return piece


def start(folder):
    """A process that plays until it is killed, or nothing is left."""
    child = os.fork()
    if child:
        return child
    try:
        store.os.write = slowly(os.write)
        work(folder)
        os._exit(0)
    finally:
        os._exit(1)


def torn(run):
    """Whether the last line of some block is not whole."""
    contents = [run.path(block).read_bytes() for block in run.blocks if run.path(block).exists()]
    return any(content and not content.endswith(b"\n") for content in contents)


def whole_lines(run):
    """The lines that were whole, by episode: they must never change again."""
    found = {}
    for block in run.blocks:
        if run.path(block).exists():
            for line in run.path(block).read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    number = json.loads(line)["record"]["episode"]
                    assert number not in found, "an episode was written twice"
                    found[number] = line
    return found


def play_and_kill(folder, config, kills, processes, seed):
    """Kill processes at random moments, as often as is asked; returns how often a line was torn."""
    chance = random.Random(seed)
    run = begin(config, folder)
    before, tears, killed = {}, 0, 0
    while killed < kills:
        children = [start(folder) for _ in range(processes)]
        time.sleep(chance.uniform(0.03, 0.25))
        for child in children:
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            killed += os.WIFSIGNALED(status)
            assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        tears += torn(run)
        lines = whole_lines(run)
        assert before.items() <= lines.items(), "a line that was written has changed or is lost"
        before = lines
        if not run.missing() and killed < kills:
            # Take some back, as if the disk had lost the files, and go on.
            for block in chance.sample(list(run.blocks), len(run.blocks) // 2):
                run.path(block).unlink()
            before = whole_lines(run)
    return tears


@pytest.fixture(autouse=True)
def one_thread():
    """A forked process has none of the threads that OpenCV would wait for."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


def check(tmp_path, episodes, kills, processes, seed):
    config = EvalConfig("VisHarness/RefSeg-v0", "oracle", episodes, env={"difficulty": 0})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    evaluate(config, whole)
    tears = play_and_kill(broken, config, kills, processes, seed)
    evaluate(config, broken)
    for name in ("trajectories.jsonl", "report.json"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(whole_lines(Run(broken))) == list(range(episodes))
    return tears


def test_a_run_survives_kills(tmp_path):
    check(tmp_path, 20, 12, 1, seed=0)


@pytest.mark.slow
def test_workers_end_with_the_command_that_started_them(tmp_path):
    words = ["eval", "DenseDet-v0", "--policy", "oracle", "-n", "60", "--workers", "2", "--out", str(tmp_path)]
    command = subprocess.Popen([sys.executable, "-m", "visenv", *words], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (Run.is_one(tmp_path) and Run(tmp_path).missing() < 58):
        assert command.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    run = Run(tmp_path)
    command.kill()
    command.wait()
    # Whoever still played would hold the lock of a block.
    until = time.monotonic() + 20
    while not all(_free(run, block) for block in run.blocks):
        assert time.monotonic() < until, "a worker plays on"
        time.sleep(0.2)
    left = run.missing()
    assert left > 0
    time.sleep(1.0)
    assert run.missing() == left


def _free(run, block):
    writer = run.claim(block)
    if writer is not None:
        writer.close()
    return writer is not None


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "seed"), [(1, 1), (3, 2)])
def test_a_run_survives_sixty_kills_of_one_or_several_processes(tmp_path, processes, seed):
    tears = check(tmp_path, 60, 60, processes, seed)
    assert tears > 0, "no kill fell into a line: the test tests nothing"
