"""Experts in processes of their own: what fails there, and when the processes end."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from process_stubs import ObedientExpert
from stubs import BrightExpert
from worker_stubs import asked, eight_views, exists, failures, gone, processes, worker_experts

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import PointPhrase, Points
from visenv.experts_making import make_experts
from visenv.experts_pool import ExpertPool
from visenv.experts_workers import WorkerExpert
from visenv.worker_asking import LOST_ALONE

ROOT = Path(__file__).resolve().parent.parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and forks are POSIX's")


@pytest.fixture(scope="module")
def views():
    return eight_views()


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def obedient(log):
    """Makes obedient experts in processes, and ends these."""
    with worker_experts(log) as make:
        yield make


@pytest.fixture(scope="module")
def steady():
    """Two processes without a timeout, for whatever costs no process."""
    expert = WorkerExpert(ObedientExpert(), workers=2)
    yield expert
    expert.close()


# --- failures ---------------------------------------------------------------------------------------------------------


def test_only_the_part_that_raised_is_tried_again(obedient, views, log):
    pool = ExpertPool(make_experts(obedient(workers=2), None))
    phrases = ["a", "raise", "b", "c", "d", "e"]
    answers = pool.answer([PointPhrase(view, phrase) for view, phrase in zip(views, phrases, strict=False)])
    assert failures(answers) == [None, "RuntimeError: no", None, None, None, None]
    often = [phrase for batch in asked(log) for phrase in batch]
    assert [often.count(phrase) for phrase in phrases] == [1, 3, 1, 2, 1, 2]
    assert pool.counters.failures == 1
    assert pool.experts["PointPhrase"].processes.replaced == 0


def test_running_out_of_memory_makes_batches_smaller(obedient, views):
    pool = ExpertPool(make_experts(obedient(workers=1), None))
    requests = [PointPhrase(view, f"memory {index}") for index, view in enumerate(views[:4])]
    assert failures(pool.answer(requests)) == [None] * 4
    before = pool.counters.batches
    pool.answer([PointPhrase(view, "memory again") for view in views[:4]])
    assert pool.counters.batches - before == 4


@pytest.mark.parametrize(("end", "why"), [("die", "exit code 3"), pytest.param("crash", "exit code -11", marks=POSIX)])
def test_a_process_that_dies_fails_its_request_alone(obedient, views, end, why):
    expert = obedient(workers=1)
    pool = ExpertPool(make_experts(expert, None))
    answers = pool.answer([PointPhrase(view, phrase) for view, phrase in zip(views, ["a", end, "b"], strict=False)])
    assert failures(answers) == [None, f"its process died ({why})", None]
    assert expert.processes.replaced == 2
    assert pool.counters.retries == 0


def test_a_process_that_hangs_is_replaced_and_its_request_fails(obedient, views, log):
    expert = obedient(workers=2, timeout=1.0)
    pool = ExpertPool(make_experts(expert, None))
    healthy = processes(pool.answer([PointPhrase(view, "a") for view in views]))
    phrases = ["b", "hang", "c", "d", "e", "f"]
    answers = pool.answer([PointPhrase(view, phrase) for view, phrase in zip(views, phrases, strict=False)])
    assert [failure is not None for failure in failures(answers)] == [phrase == "hang" for phrase in phrases]
    assert "took more than 1 s to answer, and was killed" in answers[1].message
    assert expert.processes.replaced == 2
    assert all(gone(pid) for pid in set(healthy) - set(processes(answers[:1] + answers[2:])))
    assert sum("hang" in batch for batch in asked(log)) == 2, "with others, and alone"


def test_an_expert_that_always_hangs_costs_three_timeouts(obedient, views, log):
    expert = obedient(workers=1, timeout=0.5)
    answers = ExpertPool(make_experts(expert, None)).answer([PointPhrase(view, "hang") for view in views])
    assert sum(message.startswith("its process took more") for message in failures(answers)) == LOST_ALONE
    assert sum(message.startswith("not asked") for message in failures(answers)) == len(views) - LOST_ALONE
    assert len(asked(log)) == 1 + LOST_ALONE
    assert isinstance(expert.run([PointPhrase(views[0], "a")])[0], Points), "the next batch is tried afresh"


def test_an_expert_that_cannot_be_loaded_elsewhere_says_so(views):
    expert = WorkerExpert(Unloadable(), workers=1)
    answers = ExpertPool(make_experts(expert, None)).answer([PointPhrase(view, "a") for view in views[:2]])
    expert.close()
    assert failures(answers) == ["cannot be loaded in another process: OSError: no weights here"] * 2


class Unloadable(BrightExpert):
    def __reduce__(self):
        return (_refuse, (os.getpid(),))


def _refuse(pid):
    raise OSError("no weights here")


@POSIX
def test_what_is_interrupted_leaves_no_answer_behind(obedient, views):
    expert = obedient(workers=1)
    first = processes(expert.run([PointPhrase(views[0], "a")]))[0]
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        expert.run([PointPhrase(views[0], "hang")])
    assert gone(first)
    assert processes(expert.run([PointPhrase(views[0], "a")]))[0] != first


# --- processes --------------------------------------------------------------------------------------------------------


def test_closing_ends_the_processes_and_a_later_call_starts_others(obedient, views):
    expert = obedient(workers=2)
    first = set(processes(expert.run([PointPhrase(view, "a") for view in views])))
    expert.close()
    expert.close()
    assert not any(exists(pid) for pid in first)
    assert first.isdisjoint(processes(expert.run([PointPhrase(view, "a") for view in views])))


def test_a_process_that_died_while_nobody_asked_is_replaced(obedient, views):
    expert = obedient(workers=1)
    pid = processes(expert.run([PointPhrase(views[0], "a")]))[0]
    os.kill(pid, signal.SIGTERM)
    time.sleep(0.3)
    assert processes(expert.run([PointPhrase(views[0], "a")])) != [pid]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda expert: pickle.loads(pickle.dumps(expert))])
def test_copies_have_processes_of_their_own(steady, views, copied):
    twin = copied(steady)
    try:
        assert set(processes(twin.run([PointPhrase(views[0], "a")]))).isdisjoint(
            processes(steady.run([PointPhrase(view, "a") for view in views]))
        )
    finally:
        twin.close()


def test_what_is_thrown_away_ends_its_processes(views):
    expert = WorkerExpert(ObedientExpert(), workers=1)
    pid = processes(expert.run([PointPhrase(views[0], "a")]))[0]
    del expert
    assert gone(pid)


def test_several_threads_may_ask(steady, views):
    answers = {}

    def ask(number):
        answers[number] = steady.run([PointPhrase(views[number], "a")])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert all(isinstance(answer[0], Points) for answer in answers.values())


SCRIPT = """
import os, time
import numpy as np
import gymnasium as gym
import visenv
from visenv.capabilities import GroundPhrase, PointPhrase, Points, SegmentPrompts
from visenv.experts_workers import WorkerExpert
from visenv.types import Detections
from visenv.worker_pixels import Ledger, hold, made, unpack
from visenv.workspace import Workspace

class Here:
    name, fingerprint, capabilities, max_batch, per_sample = "here", "1", ("PointPhrase",), 4, False

    def run(self, requests):
        return [Points(np.array([[os.getpid(), 0.0]]), np.ones(1)) for _ in requests]

expert = WorkerExpert(Here(), workers=1)
view = Workspace((np.zeros((8, 8, 3), np.uint8),)).view("img_0", "")
ask = lambda: int(expert.run([PointPhrase(view, "a")])[0].points[0, 0])
"""


def script(end, *, wait=True):
    """Run an unguarded script from standard input, where ``__main__`` cannot be imported; what it prints."""
    command = [sys.executable, "-"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    out, errors = process.communicate(SCRIPT + end, timeout=60)
    return out.split(), errors, process.returncode


def test_an_expert_of_an_unguarded_script_works_and_ends_with_it():
    (pid, own), errors, code = script("print(ask(), os.getpid())")
    assert pid != own
    assert (errors, code) == ("", 0)
    assert gone(int(pid))


@POSIX
def test_no_process_outlives_a_program_that_was_killed():
    (pid,), _, code = script("print(ask(), flush=True); os.kill(os.getpid(), 9)")
    assert code == -signal.SIGKILL
    assert gone(int(pid))


@POSIX
def test_a_fork_has_processes_of_its_own():
    end = """
first = ask()
if os.fork():
    os.wait()
    print(first == ask())
else:
    print(first == ask(), flush=True)
"""
    assert script(end)[0] == ["False", "True"]
