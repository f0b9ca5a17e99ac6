"""Experts in processes of their own: results, and environments that ask them."""

import threading
import time

import gymnasium as gym
import numpy as np
import pytest
from process_stubs import DivisibleExpert, ObedientExpert
from stubs import BrightExpert, FewSamples, SquareDataset
from worker_stubs import eight_views, exists, processes, worker_experts

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import GroundPhrase, PointPhrase, Points, Upscale, Upscaled
from visenv.driving import drive_all
from visenv.errors import ExpertError, InvalidData
from visenv.experts_making import make_experts
from visenv.experts_pool import ExpertPool
from visenv.experts_workers import WorkerExpert, in_workers
from visenv.types import Detections
from visenv.workspace import Workspace


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
