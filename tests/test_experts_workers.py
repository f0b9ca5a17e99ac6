import copy
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from process_stubs import DivisibleExpert, ForeseeingExpert, MeetingExpert, ObedientExpert
from stubs import BrightExpert, FewSamples, SquareDataset

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import ExpertFailure, GroundPhrase, PointPhrase, Points, Upscale, Upscaled, View
from visenv.driving import drive_all
from visenv.errors import ExpertError, InvalidData
from visenv.experts_making import make_experts
from visenv.experts_pool import ExpertPool
from visenv.experts_workers import WorkerExpert, in_workers
from visenv.types import Detections
from visenv.worker_asking import LOST_ALONE
from visenv.worker_pixels import Ledger, hold, made, unpack
from visenv.workspace import Workspace

ROOT = Path(__file__).resolve().parent.parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and forks are POSIX's")


@pytest.fixture(scope="module")
def views():
    """Of eight different pictures."""
    pictures = [np.full((32, 48, 3), 20 * number, np.uint8) for number in range(8)]
    return [Workspace((picture,)).view("img_0", "") for picture in pictures]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture
def obedient(log):
    """Makes obedient experts in processes, and ends these."""
    made = []

    def make(kind=ObedientExpert, **keywords):
        made.append(WorkerExpert(kind(log), **keywords))
        return made[-1]

    yield make
    for expert in made:
        expert.close()


@pytest.fixture(scope="module")
def steady():
    """Two processes without a timeout, for whatever costs no process."""
    expert = WorkerExpert(ObedientExpert(), workers=2)
    yield expert
    expert.close()


def processes(answers):
    """The process that gave each answer."""
    return [int(answer.points[0, 0]) for answer in answers]


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid, seconds=10):
    """Whether a process ends in time."""
    for _ in range(int(seconds / 0.05)):
        if not exists(pid):
            return True
        time.sleep(0.05)
    return False


# --- results ----------------------------------------------------------------------------------------------------------


def test_it_is_the_expert_that_it_runs(steady):
    assert (steady.name, steady.fingerprint, steady.capabilities) == ("obedient", "bright-1", BrightExpert.capabilities)
    assert not steady.per_sample
    assert steady.max_batch == 16, "a batch has a part for every process"


def test_results_are_those_of_the_expert_in_order(views):
    expert = BrightExpert()
    requests = [ask(view) for view in views for ask in (lambda v: GroundPhrase(v, "a"), lambda v: Upscale(v, 2))]
    elsewhere = WorkerExpert(expert, workers=2)
    try:
        answers = elsewhere.run(requests)
    finally:
        elsewhere.close()
    for answer, expected in zip(answers, expert.run(requests), strict=True):
        assert type(answer) is type(expected)
        if isinstance(expected, Upscaled):
            assert np.array_equal(answer.pixels, expected.pixels)
        else:
            assert np.array_equal(answer.boxes, expected.boxes)
            assert answer.masks.to_coco_rles() == expected.masks.to_coco_rles()


def test_parts_run_at_the_same_time(steady, views, tmp_path):
    answers = steady.run([PointPhrase(view, f"meet {tmp_path}") for view in views[:2]])
    assert len(set(processes(answers))) == 2


def test_an_image_stays_with_its_process_and_the_work_is_shared_evenly(steady, views):
    first = processes(steady.run([PointPhrase(view, "a") for view in views]))
    assert sorted(first.count(pid) for pid in set(first)) == [4, 4]
    order = [5, 2, 7, 0, 3, 6, 1, 4]
    again = processes(steady.run([PointPhrase(views[index], "b") for index in order]))
    assert again == [first[index] for index in order]


def test_a_large_image_counts_for_several_small_ones(steady):
    sizes = [160, 40, 40, 40, 40]
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (size, size, 3), np.uint8) for size in sizes]
    requests = [PointPhrase(Workspace((picture,)).view("img_0", ""), "a") for picture in pictures]
    large, *small = processes(steady.run(requests))
    assert large not in small


def test_enlarging_an_image_does_not_move_it(steady, views):
    first = processes(steady.run([PointPhrase(view, "a") for view in views]))
    for view in views:
        steady.run([Upscale(view, 2)])
    assert processes(steady.run([PointPhrase(view, "b") for view in views])) == first


def test_many_requests_about_one_image_are_one_process_work(steady, views):
    assert len(set(processes(steady.run([PointPhrase(views[0], str(number)) for number in range(4)])))) == 1


def test_each_process_gets_no_more_than_the_expert_takes(steady, views):
    answers = steady.run([PointPhrase(view, str(number)) for number in range(3) for view in views])
    assert max(answer.points[0, 1] for answer in answers) == ObedientExpert.max_batch


def test_capabilities_are_batches_of_their_own(steady, views):
    answers = steady.run([ask(views[0], "a") for ask in (PointPhrase, GroundPhrase, PointPhrase)])
    assert [answer.points[0, 1] for answer in answers[::2]] == [2, 2]
    assert isinstance(answers[1], Detections)


def test_a_pool_asks_it_for_several_capabilities_at_once(steady, views):
    pool = ExpertPool(make_experts(steady, None))
    answers = pool.answer([ask(view, "a") for view in views[:2] for ask in (PointPhrase, GroundPhrase)])
    assert pool.counters.batches == 1
    assert len(set(processes(answers[::2]))) == 2


def test_what_an_expert_prints_is_no_answer(steady, views):
    assert isinstance(steady.run([PointPhrase(views[0], "print")])[0], Points)


def test_a_step_goes_on_while_another_waits(steady, tmp_path):
    # Of pictures that no process has seen, so that they are shared out.
    views = [Workspace((np.full((32, 48, 3), shade, np.uint8),)).view("img_0", "") for shade in (201, 202)]

    def asking(view, *phrases):
        answers = []
        for phrase in phrases:
            answers += yield [PointPhrase(view, phrase)]
        return answers

    meeting = f"meet {tmp_path}"
    ended = []
    steps = [asking(views[0], meeting), asking(views[1], "a", meeting), asking(views[1], "a")]
    pool = ExpertPool(make_experts(steady, None))
    (one,), (first, second), (third,) = drive_all(steps, pool, lambda index, came: ended.append(index))
    assert isinstance(one, Points), "in rounds, nobody would come"
    assert len(set(processes([one, second]))) == 2
    assert first is third
    assert ended[0] == 2
    assert sorted(ended) == [0, 1, 2]


def test_a_bug_in_one_step_leaves_no_answers_of_others_behind(steady, views):
    def asking(phrase, bug=False):
        if bug:
            raise ZeroDivisionError
        answers = yield [PointPhrase(view, phrase) for view in views]
        return processes(answers)

    pool, lost = ExpertPool(make_experts(steady, None)), steady.processes.replaced

    def too_late(index, came):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drive_all([asking("nap 0.2"), asking("", bug=True)], pool)
    with pytest.raises(ZeroDivisionError):
        drive_all([asking("nap 0.1"), empty()], pool, too_late)
    assert drive_all([asking("b")], pool) == [processes(steady.run([PointPhrase(view, "b") for view in views]))]
    assert steady.processes.replaced == lost


def empty():
    return
    yield


def test_experts_here_get_whole_batches_while_others_work(steady, views):
    def asking(view):
        yield [PointPhrase(view, "a")]
        yield [GroundPhrase(view, "a")]

    here = BrightExpert()
    here.max_batch = 64
    pool = ExpertPool(make_experts({"*": here, "PointPhrase": steady}, None))
    drive_all([asking(view) for view in views], pool)
    assert here.batches == [8]


def test_a_process_with_nothing_to_do_takes_over_what_waits_for_another(obedient):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (240, 240, 3), np.uint8) for _ in range(8)]
    asked_about = [Workspace((picture,)).view("img_0", "") for picture in pictures]
    expert = obedient(DivisibleExpert, workers=2)
    expert.run([PointPhrase(view, "start") for view in asked_about[:2]])
    phrases = ["nap 1", *"abcde"]
    answers = expert.run([PointPhrase(view, word) for view, word in zip(asked_about[2:], phrases, strict=True)])
    slow, *quick = processes(answers)
    assert quick.count(slow) == 1, "all but what the other had been given already"
    moved = [view for view, pid in zip(asked_about[3:], quick, strict=True) if pid != slow]
    assert slow not in processes(expert.run([PointPhrase(view, "again") for view in moved]))


# --- looking ahead ----------------------------------------------------------------------------------------------------


def ahead(log, count):
    """What was looked at ahead, once it is so much."""
    for _ in range(100):
        lines = [line.split() for line in log.read_text().splitlines() if " ahead " in line]
        if len(lines) >= count:
            break
        time.sleep(0.05)
    return [(int(line[0]), *map(float, line[2:])) for line in lines]


def test_processes_look_at_images_before_they_are_asked_about(obedient, views, log):
    expert = obedient(MeetingExpert, workers=2)
    pool = ExpertPool(make_experts(expert, None))
    pool.answer([PointPhrase(view, "a") for view in views[:2]])
    pool.foresee(views[:6])
    pool.answer([PointPhrase(views[0], "b")])
    looked = ahead(log, 4)
    assert sorted(line[2] for line in looked) == [40, 60, 80, 100], "not those that are known already"
    assert len({line[0] for line in looked}) == 2
    owners = {line[2]: line[0] for line in looked}
    asked_later = processes(pool.answer([PointPhrase(view, "c") for view in views[2:6]]))
    assert asked_later == [owners[brightness] for brightness in (40, 60, 80, 100)]


def test_images_that_nobody_holds_any_more_are_not_looked_at(obedient, views, log):
    expert = obedient(ForeseeingExpert, workers=1)
    pool = ExpertPool(make_experts(expert, None))
    pool.foresee([Workspace((np.full((32, 48, 3), 7, np.uint8),)).view("img_0", "")])
    pool.foresee(views[1:2])
    pool.answer([PointPhrase(views[0], "a")])
    assert [line[2] for line in ahead(log, 1)] == [20]


def test_a_process_looks_at_what_it_has_enlarged(obedient, views, log):
    expert = obedient(ForeseeingExpert, workers=2)
    enlarged = expert.run([Upscale(views[3], 2)])[0]
    ((pid, width, brightness, to_root),) = ahead(log, 1)
    assert (width, brightness, to_root) == (96, 60, 0.5)
    image = Workspace((views[3].pixels,)).root.upscaled("big", enlarged.pixels, 2, enlarged.fingerprint, 1)
    again = expert.run([PointPhrase(View(image.pixels, image.provenance), "a")])
    assert processes(again) == [pid]


def test_an_expert_that_fails_at_looking_ahead_still_answers(views):
    expert = WorkerExpert(Blind(), workers=1)
    pool = ExpertPool(make_experts(expert, None))
    pool.foresee(views)
    try:
        for view in views[:4]:
            assert not isinstance(pool.answer([GroundPhrase(view, "a")])[0], ExpertFailure)
        assert expert.processes.replaced == 0
    finally:
        expert.close()


class Blind(BrightExpert):
    def foresee(self, views):
        raise RuntimeError("cannot look ahead")


def test_a_request_is_not_blamed_for_what_may_have_been_a_look_ahead(obedient, views, log):
    expert = obedient(ForeseeingExpert, workers=1)
    pool = ExpertPool(make_experts(expert, None))
    answers = pool.answer([PointPhrase(views[0], "die")])
    assert failures(answers) == ["its process died (exit code 3)"]
    assert sum("die" in batch for batch in asked(log)) == 2


# --- pixels -----------------------------------------------------------------------------------------------------------


def test_only_the_crop_is_sent_and_only_once():
    whole = Workspace((np.zeros((1080, 1920, 3), np.uint8),)).view("img_0", "")
    crop = replace(whole, pixels=whole.pixels[:100, :100], provenance=whole.provenance.then("crop"))
    ledger, held = Ledger(), {}
    first = ledger.parcel([PointPhrase(crop, "a"), PointPhrase(crop, "b")])
    assert 30_000 <= len(pickle.dumps(first)) < 40_000, "100 x 100 pixels"
    again = ledger.parcel([PointPhrase(crop, "c")])
    assert len(pickle.dumps(again)) < 2_000
    for parcel in (first, again):
        for request in unpack(parcel, held):
            assert request.view.provenance.key == crop.provenance.key
            assert np.array_equal(request.view.pixels, crop.pixels)
            assert not request.view.pixels.flags.writeable


def test_what_a_process_made_is_not_sent_back_to_it(views):
    ledger, held = Ledger(), {}
    enlarge = [Upscale(views[1], 2)]
    answers = BrightExpert().run(unpack(ledger.parcel(enlarge), held))
    ledger.note(enlarge, answers)
    hold(made(enlarge, answers), held)
    image = Workspace((views[1].pixels,)).root.upscaled("big", answers[0].pixels, 2, answers[0].fingerprint, 1)
    parcel = ledger.parcel([PointPhrase(View(image.pixels, image.provenance), "a")])
    assert parcel.pixels == {}
    assert np.array_equal(unpack(parcel, held)[0].view.pixels, answers[0].pixels)


def test_a_process_holds_so_much_and_the_ledger_knows_what(views):
    size = views[0].pixels.nbytes
    ledger, held = Ledger(limit=3 * size), {}
    rng = np.random.default_rng(0)
    for _ in range(100):
        some = [PointPhrase(views[index], "a") for index in rng.choice(8, rng.integers(1, 5), replace=False)]
        for request, asked in zip(unpack(ledger.parcel(some), held), some, strict=True):
            assert np.array_equal(request.view.pixels, asked.view.pixels)
        assert set(held) == {key for key in held if key in ledger} | set(ledger._forgotten)
        assert sum(pixels.nbytes for pixels in held.values()) <= 7 * size


# --- failures ---------------------------------------------------------------------------------------------------------


def asked(log):
    """The phrases of each batch, in the order of the log."""
    return [line.split(" ", 1)[1].split(",") for line in log.read_text().splitlines()]


def failures(answers):
    return [answer.message if isinstance(answer, ExpertFailure) else None for answer in answers]


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


# --- environments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"workers": 0}, "workers to be a whole number"),
        ({"workers": True}, "workers to be a whole number"),
        ({"timeout": 0}, "seconds above 0"),
        ({"timeout": float("inf")}, "seconds above 0"),
        ({"timeout": "1"}, "seconds above 0"),
    ],
)
def test_bad_numbers_are_named(keywords, message):
    with pytest.raises(InvalidData, match=message):
        WorkerExpert(BrightExpert(), **keywords)


def test_an_expert_that_cannot_be_copied_is_refused():
    expert = BrightExpert()
    expert.lock = threading.Lock()
    with pytest.raises(InvalidData, match=r"bright cannot be pickled .*expert_workers=0"):
        WorkerExpert(expert)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"expert_workers": -1}, "expert_workers to be a whole number"),
        ({"expert_workers": 1.5}, "expert_workers to be a whole number"),
        ({"expert_timeout": 1.0}, "cannot be interrupted"),
        ({"expert_workers": 1, "expert_timeout": -1}, "expert_timeout to be seconds"),
    ],
)
def test_bad_keywords_of_an_environment_are_named(keywords, message):
    with pytest.raises(InvalidData, match=message):
        gym.make("VisHarness/ReasonSeg-v0", **keywords)


def test_each_expert_is_wrapped_once_and_all_share_processes():
    one, other = BrightExpert(), ObedientExpert()
    routed = make_experts({"*": one, "Upscale": other}, None)
    wrapped = in_workers(routed, 2)
    assert wrapped["GroundPhrase"] is wrapped["PointPhrase"]
    assert (wrapped["PointPhrase"].expert, wrapped["Upscale"].expert) == (one, other)
    assert wrapped["Upscale"].processes is wrapped["PointPhrase"].processes
    assert in_workers(wrapped, 3) == wrapped
    assert in_workers(routed, 0) == routed


def play(experts, **keywords):
    """Some random steps of a few episodes: what was observed and said, and the environments."""
    few = FewSamples(gym.make("VisHarness/ReasonSeg-v0", split="val").unwrapped.dataset, 4)
    rules = {"action_mode": "discrete", "dataset": few, "experts": experts, "max_turns": 4}
    envs = gym.make_vec("VisHarness/ReasonSeg-v0", num_envs=3, **rules, **keywords)
    obs, infos = envs.reset(seed=4)
    envs.action_space.seed(4)
    seen = [(obs, infos)]
    for _ in range(8):
        obs, *paid, infos = envs.step(envs.action_space.sample())
        seen.append((obs, paid, infos))
    return seen, envs


def same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        for part, counterpart in zip(one, other, strict=True):
            same(part, counterpart)
    elif isinstance(one, np.ndarray) and one.dtype != object:
        assert one.tobytes() == other.tobytes()
    else:
        assert np.array_equal(one, other) if isinstance(one, np.ndarray) else one == other


@pytest.mark.parametrize("experts", ["classical", {"*": "noisy", "GroundPhrase": "classical"}])
def test_environments_give_the_same_bytes_with_workers(experts):
    here, envs = play(experts)
    there, others = play(experts, expert_workers=2, expert_timeout=60)
    used = {expert.processes for expert in others.pool.experts.values()}
    assert len(used) == 1
    assert all(set(env.pool.experts.values()) == set(others.pool.experts.values()) for env in others.envs)
    running = [process for process in next(iter(used))._processes if process is not None]
    others.close()
    assert running
    assert not any(process.alive for process in running)
    same(here, there)
    one, other = envs.pool.counters, others.pool.counters
    assert (one.requests, one.duplicates, one.cache_hits) == (other.requests, other.duplicates, other.cache_hits)
    assert (other.retries, other.failures) == (0, 0)


def test_an_environment_closes_what_it_started_and_no_more(steady, views):
    pid = processes(steady.run([PointPhrase(views[0], "a")]))[0]
    env = gym.make("VisHarness/ReasonSeg-v0", dataset=SquareDataset(), experts=steady)
    env.reset(seed=0)
    env.close()
    assert exists(pid)


def test_a_hanging_expert_ends_its_own_episode_alone():
    experts = ObedientGrounds()
    envs = gym.make_vec(
        "VisHarness/ReasonSeg-v0",
        num_envs=2,
        dataset=SquareDataset(),
        experts=experts,
        expert_workers=1,
        expert_timeout=1.0,
    )
    envs.reset(seed=0)
    calls = [{"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": word}} for word in ("a", "hang")]
    _, rewards, _, truncations, infos = envs.step(calls)
    envs.close()
    assert truncations.tolist() == [False, True]
    assert rewards[1] == 0
    assert "took more than 1 s" in infos["invalid"][1]


class ObedientGrounds(BrightExpert):
    """Hangs if it is told so."""

    def run(self, requests):
        if any(getattr(request, "phrase", "") == "hang" for request in requests):
            time.sleep(3600)
        return super().run(requests)


def test_an_error_names_the_expert(steady, views):
    answer = steady.run([PointPhrase(views[0], "raise")])[0]
    assert isinstance(answer, ExpertError)
    assert answer.expert == "obedient"
