"""Environments that share data and experts, stepped on many threads; and rows that name samples."""

import copy
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import gymnasium as gym
import numpy as np
import pytest
from stubs import BrightExpert, BrokenExpert, SquareDataset

from visenv.adapters.making import make_env
from visenv.adapters.rows import first_samples, row_options, row_seed
from visenv.adapters.threads import OnThreads
from visenv.errors import EpisodeOver, InvalidData

ENV_ID = "VisHarness/RefSeg-v0"
FIND = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "square"}}
MERGE = {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}
ANSWER = {"name": "Answer", "arguments": {"text": "There it is."}}


class SlowExpert(BrightExpert):
    def run(self, requests):
        time.sleep(0.02)
        return super().run(requests)


def played(kind, index, actions=(FIND, MERGE, ANSWER)):
    env = kind.make()
    kind.begin(env, options={"index": index % 3})
    results = [kind.step(env, action) for action in actions]
    return [(result.reward, result.terminated, result.turn.reply) for result in results], env.info()


def test_what_threads_ask_at_the_same_time_is_answered_together_and_as_alone():
    expert = SlowExpert()
    kind = OnThreads(ENV_ID, {"dataset": SquareDataset(), "experts": expert})
    start = threading.Barrier(8)

    def one(index):
        start.wait()
        return played(kind, index)

    with ThreadPoolExecutor(8) as threads:
        came = list(threads.map(one, range(8)))
    assert sum(expert.batches) < 8, "Equal requests are asked once."
    assert kind.first.pool.counters.requests == 8
    alone = gym.make(ENV_ID, dataset=SquareDataset(), experts=BrightExpert()).unwrapped
    for index, (turns, info) in enumerate(came):
        alone.reset(options={"index": index % 3})
        for action, turn in zip((FIND, MERGE, ANSWER), turns, strict=True):
            _, reward, terminated, _, expected = alone.step(action)
            assert turn == (reward, terminated, expected["reply"])
        assert info == expected


def test_batches_are_of_many_threads():
    expert = SlowExpert()
    kind = OnThreads(ENV_ID, {"dataset": SquareDataset(), "experts": expert})
    start = threading.Barrier(8)

    def one(number):
        env = kind.make()
        kind.begin(env, options={"index": 0})
        start.wait()
        call = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": f"square {number}"}}
        return kind.step(env, call).turn.error

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(one, range(8))) == [None] * 8
    assert sum(expert.batches) == 8
    assert max(expert.batches) > 1


def test_failures_stay_with_their_own_episode_and_misuse_with_its_caller():
    kind = OnThreads(ENV_ID, {"dataset": SquareDataset(), "experts": BrokenExpert()})
    env, other = kind.make(), kind.make()
    with pytest.raises(EpisodeOver):
        kind.step(env, FIND)
    kind.begin(env, options={"index": 0})
    kind.begin(other, options={"index": 0})
    fail = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "fail"}}
    result = kind.step(env, fail)
    assert (result.truncated, result.reward) == (True, 0.0)
    assert env.episode.problem is not None
    assert kind.step(other, FIND).turn.error is None
    with pytest.raises(EpisodeOver):
        kind.step(env, ANSWER)
    with pytest.raises(InvalidData, match="from 0 to 2"):
        kind.begin(env, options={"index": 9})


def test_one_environment_may_differ_but_not_in_data_and_experts():
    kind = OnThreads(ENV_ID, {"dataset": SquareDataset(), "experts": BrightExpert(), "max_turns": 4})
    assert kind.make(max_turns=2).config.max_turns == 2
    assert kind.make().config.max_turns == 4
    with pytest.raises(InvalidData, match="Expected no dataset, experts here"):
        kind.make(experts="oracle", dataset="scenes")
    assert copy.deepcopy({"kind": kind})["kind"] is kind


def test_the_thread_ends_with_the_last_environment():
    kind = OnThreads(ENV_ID, {"dataset": SquareDataset(), "experts": BrightExpert()})
    played(kind, 0)
    loops = [thread for thread in threading.enumerate() if thread.name == "visenv-steps"]
    del kind
    gc.collect()
    deadline = time.monotonic() + 10
    while any(thread.is_alive() for thread in loops[-1:]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not loops[-1].is_alive()


def test_rows_name_samples():
    assert row_options({"prompt": [], "sample_id": "a/1", "index": 4}) == {"sample_id": "a/1"}
    assert row_options({"sample_id": None, "index": None}) == {}
    assert row_seed({"seed": np.int64(4)}) == 4
    assert row_seed({"seed": None}) is None
    for seed in (-1, True, "3", 1.5):
        with pytest.raises(InvalidData, match="Expected a seed"):
            row_seed({"seed": seed})
    env = make_env(ENV_ID, {"dataset": SquareDataset(), "experts": BrightExpert()})
    assert [sample.sample_id for sample in first_samples(env, 2)] == ["squares/0", "squares/1"]
    assert len(list(first_samples(env, None))) == 3
    for size in (0, 4):
        with pytest.raises(InvalidData, match="at most 3"):
            first_samples(env, size)
    with pytest.raises(InvalidData, match="never ends"):
        first_samples(make_env(ENV_ID, {"split": "train"}), None)
