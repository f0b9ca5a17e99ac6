"""Many episodes under asyncio: the same results whatever the timing, in batches, with failures kept apart."""

import asyncio
import contextlib
import dataclasses
import json
import threading
import time

import gymnasium as gym
import numpy as np
import pytest
from stubs import BrightExpert, BrokenExpert, CountingReward, FewSamples, SquareDataset

import visenv  # noqa: F401 - registers the ids
from visenv.async_batches import AsyncPool, drive_async
from visenv.async_runner import AsyncEpisodeRunner
from visenv.errors import InvalidData, UnknownName
from visenv.policies import make_policy, rollout
from visenv.policies.random import RandomPolicy
from visenv.types import Answer, ToolCall
from visenv.wrappers.recording import TRAJECTORIES, RecordTrajectories

ENV_ID = "VisHarness/ReasonSeg-v0"
STUBS = {"reward": CountingReward(), "max_turns": 6}


def make(expert=None, **keywords):
    rules = {"dataset": SquareDataset(), "experts": expert or BrightExpert()} | STUBS
    return AsyncEpisodeRunner(ENV_ID, **(rules | keywords))


def played(runner, policy, **keywords):
    with runner:
        return asyncio.run(asyncio.wait_for(runner.run(policy, **keywords), 60))


def ground(phrase="square"):
    return ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": phrase})


class Hesitant(RandomPolicy):
    """Plays at random, after waiting for a time that differs from run to run."""

    chance = np.random.default_rng()

    async def act(self, episode):
        await asyncio.sleep(float(self.chance.random()) * 0.01)
        return super().act(episode)


class Staged:
    """Grounds, merges and answers."""

    def reset(self, env, seed):
        self.env = env

    async def act(self, episode):
        return [ground(), ToolCall("MergeBoxMask", {"images": ["img_0"]}), Answer("done")][episode.turns]


class Gated(BrightExpert):
    """Takes its time, and notes how many calls run at the same time."""

    max_batch = 64

    def __init__(self, seconds=0.0, concurrent_calls=1):
        super().__init__()
        self.seconds, self.concurrent_calls = seconds, concurrent_calls
        self.running, self.most = [], 0

    def run(self, requests):
        self.running.append(len(requests))
        self.most = max(self.most, len(self.running))
        time.sleep(self.seconds)
        self.running.pop()
        return super().run(requests)


def as_json(results):
    return [json.dumps(result.trajectory) for result in results]


def test_results_do_not_depend_on_timing():
    runs = [
        played(make(concurrency=concurrency, window=window), Hesitant(), episodes=12, seed=4)
        for concurrency, window in ((12, 0.003), (5, 0.0), (1, 0.001))
    ]
    assert [result.index for result in runs[0]] == list(range(12))
    assert as_json(runs[0]) == as_json(runs[1]) == as_json(runs[2])
    assert as_json(runs[0]) != as_json(played(make(), Hesitant(), episodes=12, seed=5))


@pytest.mark.parametrize("policy", ["random", "scripted"])
def test_it_is_what_a_rollout_comes_to(policy, tmp_path):
    rules = {"dataset": SquareDataset(), "experts": BrightExpert(), **STUBS}
    env = RecordTrajectories(gym.make(ENV_ID, **rules), tmp_path, pictures=False, page=None)
    ends = list(rollout(env, make_policy(policy), episodes=7, seed=3))
    env.close()
    results = played(make(concurrency=3), policy, episodes=7, seed=3)
    assert [(end.index, end.sample_id, end.reward, end.metrics) for end in ends] == [
        (result.index, result.sample_id, result.reward, result.metrics) for result in results
    ]
    lines = [json.loads(line) for line in (tmp_path / TRAJECTORIES).read_text("utf-8").splitlines()]
    assert [line | {"failure": None} for line in lines] == [json.loads(text) for text in as_json(results)]


def test_endless_data_and_real_experts_give_what_a_rollout_gives():
    rules = {"difficulty": 0, "obs": "features"}
    ends = list(rollout(gym.make("VisHarness/RefSeg-v0", **rules), make_policy("scripted"), episodes=3, seed=1))
    results = played(AsyncEpisodeRunner("VisHarness/RefSeg-v0", **rules), "scripted", episodes=3, seed=1)
    assert [(end.sample_id, end.reward, end.metrics) for end in ends] == [
        (result.sample_id, result.reward, result.metrics) for result in results
    ]


class Watching(RandomPolicy):
    """Notes every observation and info that it could see."""

    seen: dict = {}

    def reset(self, env, seed):
        super().reset(env, seed)
        self.env, self.notes = env, []
        self.seen[env.info()["sample_id"], tuple(seed.spawn_key)] = self.notes

    async def act(self, episode):
        await asyncio.sleep(0.001 * (len(self.seen) % 3))
        action = super().act(episode)
        self.notes.append((self.env.observation(), self.env.info(), action))
        return action


def test_observations_and_infos_are_those_of_a_single_environment():
    policy = Watching()
    policy.seen = seen = {}
    played(make(concurrency=4, action_mode="discrete"), policy, samples=[0, 1, 2, 1, 0], seed=8)
    assert len(seen) == 5
    env = gym.make(ENV_ID, dataset=SquareDataset(), experts=BrightExpert(), action_mode="discrete", **STUBS)
    for (sample_id, _), notes in seen.items():
        obs, info = env.reset(options={"sample_id": sample_id})
        for own, own_info, action in notes:
            assert own_info == info
            for name, value in obs.items():
                np.testing.assert_array_equal(own[name], value)
            obs, _, terminated, truncated, info = env.step(action)
        assert terminated or truncated


def test_requests_of_all_episodes_are_one_batch():
    expert = Gated()
    dataset = FewSamples(gym.make("VisHarness/RefSeg-v0", split="val").unwrapped.dataset, 8)
    staged, begun = Staged(), []

    async def policy(episode):
        # Who is under way does not wait for those that have not begun: all have to.
        begun.append(episode.sample_id)
        while len(begun) < 8:
            await asyncio.sleep(0.001)
        return await staged.act(episode)

    runner = make(expert, dataset=dataset, concurrency=8, window=30.0)
    started = time.perf_counter()
    results = played(runner, policy, episodes=8)
    assert time.perf_counter() - started < 10, "the window is not waited for when everybody waits"
    assert expert.batches == [8]
    counters = runner.pool.counters
    assert (counters.requests, counters.mean_batch) == (8, 8)
    assert {result.outcome.termination for result in results} == {"answer"}


def test_a_full_batch_and_a_window_that_is_over_are_sent():
    async def ask(window, asked, members):
        expert = BrightExpert()
        env = gym.make(ENV_ID, dataset=SquareDataset(), experts=expert, **STUBS).unwrapped
        pool = AsyncPool(env.pool, window=window)
        with contextlib.ExitStack() as stack:
            for _ in range(members):
                stack.enter_context(pool.member())
            env.reset(options={"index": 0})
            steps = [env.stepping(ground(f"{index} squares")) for index in range(asked)]
            done, late = await asyncio.wait([asyncio.ensure_future(drive_async(s, pool)) for s in steps[:1]], timeout=0)
            rest = [asyncio.ensure_future(pool.answer(next(s))) for s in steps[1:]]
            await asyncio.wait([*late, *rest], timeout=10)
            assert all(task.done() for task in (*late, *rest))
        return expert.batches

    assert asyncio.run(ask(60.0, asked=4, members=9)) == [4]
    assert asyncio.run(ask(0.3, asked=3, members=9)) == [3]
    assert asyncio.run(ask(60.0, asked=3, members=3)) == [3]


@pytest.mark.parametrize(("mixes", "batches"), [(False, [1, 1]), (True, [2])])
def test_a_batch_is_of_one_capability_unless_the_expert_mixes_them(mixes, batches):
    begun = []

    async def policy(episode):
        if episode.turns:
            return Answer("done")
        # Who is alone under way waits for nobody: both have to have begun.
        begun.append(episode.sample_id)
        while len(begun) < 2:
            await asyncio.sleep(0.001)
        return ToolCall(episode.sample_id, {"images": ["img_0"], "phrase": "x"})

    class Named(SquareDataset):
        def get(self, index):
            return dataclasses.replace(super().get(index), sample_id=["PhraseToPoint", "PhraseToBoxMask"][index])

    expert = BrightExpert()
    expert.mixes_capabilities = mixes
    played(make(expert, dataset=Named(), window=10.0), policy, samples=[0, 1])
    assert expert.batches == batches


@pytest.mark.parametrize("allowed", [1, 3])
def test_an_expert_runs_as_often_as_it_says_it_can(allowed):
    expert = Gated(seconds=0.03, concurrent_calls=allowed)
    dataset = FewSamples(gym.make("VisHarness/RefSeg-v0", split="val").unwrapped.dataset, 6)

    async def policy(episode):
        await asyncio.sleep(0.01 * int(episode.sample_id[-1]))
        return ground() if episode.turns == 0 else Answer("done")

    played(make(expert, dataset=dataset, window=0.0), policy, episodes=6)
    assert 1 <= expert.most <= allowed
    assert allowed == 1 or expert.most > 1


def test_different_experts_work_at_the_same_time():
    boxes, points = Gated(seconds=0.1), Gated(seconds=0.1)
    points.name, points.running = "points", boxes.running

    async def policy(episode):
        tool = "PhraseToPoint" if episode.sample_id.endswith("1") else "PhraseToBoxMask"
        return Answer("done") if episode.turns else ToolCall(tool, {"images": ["img_0"], "phrase": "x"})

    runner = make({"GroundPhrase": boxes, "PointPhrase": points, "*": BrightExpert()})
    played(runner, policy, samples=[0, 1])
    assert max(boxes.most, points.most) == 2
    assert runner.pool.counters.batches == 2


def test_the_loop_goes_on_while_experts_work():
    expert = Gated(seconds=0.3)
    ticks = 0

    async def main():
        async def tick():
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += len(expert.running)

        ticking = asyncio.ensure_future(tick())
        results = await runner.run(Staged(), episodes=1)
        ticking.cancel()
        return results

    with make(expert) as runner:
        asyncio.run(main())
    assert ticks > 10


def test_a_policy_that_fails_or_hangs_ends_its_own_episode_alone():
    async def policy(episode):
        number = int(episode.sample_id[-1])
        if episode.turns == 1 and number == 1:
            raise KeyError("lost")
        if episode.turns == 1 and number == 2:
            await asyncio.Event().wait()
        return await Staged().act(episode)

    results = played(make(policy_timeout=0.2), policy, samples=[0, 1, 2, 0])
    assert [result.failure for result in results] == [
        None,
        "KeyError: 'lost'",
        "TimeoutError: no answer within 0.2 s",
        None,
    ]
    assert [len(result.trajectory["turns"]) for result in results] == [3, 1, 1, 3]
    assert [result.outcome.termination for result in results] == ["answer", None, None, "answer"]
    assert results[1].trajectory["turns"][0]["name"] == "PhraseToBoxMask"
    assert [result.reward for result in results] == [0.25, -0.25, -0.25, 0.25]
    assert results[1].trajectory["failure"] == results[1].failure


@pytest.mark.parametrize("kind", ["reset", "act", "cancelled", "stubborn"])
def test_every_way_to_fail_is_a_result(kind):
    class Failing(Staged):
        def reset(self, env, seed):
            if kind == "reset":
                raise ValueError("no reset")

        def act(self, episode):
            if kind == "cancelled":
                raise asyncio.CancelledError
            if kind == "stubborn":
                return self.stubborn()
            raise ValueError("no act")

        async def stubborn(self):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(0.05)
            raise ValueError("too late to matter")

    (result,) = played(make(policy_timeout=0.05), Failing, episodes=1)
    expected = {"reset": "ValueError: no reset", "act": "ValueError: no act", "cancelled": "CancelledError: "}
    assert result.failure == expected.get(kind, "TimeoutError: no answer within 0.05 s")
    assert result.trajectory["turns"] == []


def test_an_expert_that_fails_costs_its_own_episode():
    async def policy(episode):
        return ground("fail" if episode.sample_id.endswith("1") else "square") if not episode.turns else Answer("done")

    expert = BrokenExpert()
    results = played(make(expert, dataset=SquareDataset()), policy, samples=[0, 1, 2])
    assert [result.outcome.termination for result in results] == ["answer", "invalid", "answer"]
    assert [result.failure for result in results] == [None] * 3
    assert "no more memory" in results[1].trajectory["invalid"]


class Buggy(CountingReward):
    def turn(self, turn):
        raise ZeroDivisionError


def test_bugs_and_broken_samples_are_raised():
    with pytest.raises(ZeroDivisionError):
        played(make(reward=Buggy()), Staged(), episodes=5)
    with pytest.raises(InvalidData, match="index"):
        played(make(), Staged(), samples=[0, 99])


def test_cancelling_a_run_closes_it_and_leaves_the_runner_usable():
    expert = Gated(seconds=0.2)
    cleaned = []

    async def policy(episode):
        if episode.sample_id.endswith("0"):
            return ground()
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(episode.turns)

    async def main():
        running = asyncio.ensure_future(runner.run(policy, samples=[0, 1, 0, 2]))
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(asyncio.all_tasks()) == 1
        return await runner.run(Staged(), samples=[0])

    with make(expert, window=0.01) as runner:
        results = asyncio.run(main())
    assert cleaned == [0, 0]
    assert results[0].reward == 0.25
    assert expert.most == 1


def test_an_abandoned_step_leaves_the_episode_as_it_was():
    env = gym.make(ENV_ID, dataset=SquareDataset(), experts=Gated(seconds=0.1), **STUBS).unwrapped
    env.reset(options={"index": 0})
    before = env.episode.get_state()

    async def main():
        pool = AsyncPool(env.pool)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(drive_async(env.stepping(ground()), pool), 0.03)
        assert env.episode.get_state() is before
        await drive_async(env.stepping(ground()), pool)
        assert env.episode.turns == 1

    asyncio.run(main())


def test_results_come_as_they_end_and_a_loop_may_be_left():
    async def policy(episode):
        await asyncio.sleep({"0": 0.3, "1": 0.05, "2": 30}[episode.sample_id[-1]])
        return Answer("done")

    async def main():
        seen = []
        async with contextlib.aclosing(runner.episodes(policy, samples=[0, 1, 2])) as results:
            async for result in results:
                seen.append(result.index)
                if len(seen) == 2:
                    break
        return seen

    with make() as runner:
        assert asyncio.run(main()) == [1, 0]


def test_few_episodes_are_under_way_and_samples_are_drawn_as_they_are_needed():
    drawn, under_way, most = [], 0, 0

    def samples():
        for index in range(12):
            drawn.append((index, threading.current_thread()))
            yield index % 3

    async def policy(episode):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.002)
        under_way -= 1
        return Answer("done")

    async def main():
        async with contextlib.aclosing(runner.episodes(policy, samples=samples())) as results:
            async for _ in results:
                await asyncio.sleep(0.1)
                # Those played, those that wait to be taken, and one to come for each place.
                assert len(drawn) <= 1 + 3 * 3
                break
        return [result.index for result in await runner.run(policy, samples=range(3), group_size=2)]

    with make(concurrency=3) as runner:
        assert asyncio.run(main()) == list(range(6))
    assert most <= 3
    assert {thread for _, thread in drawn}.isdisjoint({threading.main_thread()})


def test_groups_share_samples_and_differ_in_what_policies_do():
    results = played(make(), RandomPolicy, episodes=6, group_size=3, seed=2)
    ids = [result.sample_id for result in results]
    assert ids[0] == ids[1] == ids[2] != ids[3] == ids[4] == ids[5]
    assert len(set(as_json(results))) > 2
    alone = played(make(), RandomPolicy, episodes=2, seed=2)
    assert [result.sample_id for result in alone] == [ids[0], ids[3]]


def test_without_a_number_every_sample_is_played_once():
    results = played(make(), Staged())
    assert sorted(result.sample_id for result in results) == ["squares/0", "squares/1", "squares/2"]


def test_an_environment_of_the_users_own_keeps_its_limit_of_steps_and_stays_open():
    env = gym.make(ENV_ID, dataset=SquareDataset(), experts=BrightExpert(), max_episode_steps=2, **STUBS)
    results = played(AsyncEpisodeRunner(env, keep_episodes=True), lambda episode: ground(), episodes=2)
    assert [len(result.trajectory["turns"]) for result in results] == [2, 2]
    assert [message["role"] for message in results[0].episode.messages()][:3] == ["system", "user", "assistant"]
    assert env.reset(seed=0)[1]["turn"] == 0


def test_nonsense_is_refused():
    for keywords in ({"concurrency": 0}, {"concurrency": 1.5}, {"window": -1}, {"policy_timeout": 0}):
        with pytest.raises(InvalidData, match=next(iter(keywords))):
            make(**keywords)
    env = gym.make(ENV_ID, dataset=SquareDataset(), experts=BrightExpert())
    with pytest.raises(InvalidData, match="made already"):
        AsyncEpisodeRunner(env, max_turns=3)
    with make() as runner:
        for policy in (3, dict, None):
            with pytest.raises(InvalidData, match="policy"):
                runner.episodes(policy, episodes=1)
        with pytest.raises(UnknownName, match="Did you mean 'scripted'"):
            runner.episodes("script", episodes=1)
        for keywords in (
            {"episodes": 0},
            {"episodes": 1, "seed": -1},
            {"group_size": 0},
            {"episodes": 1, "samples": [0]},
        ):
            with pytest.raises(InvalidData, match="Expected"):
                runner.episodes("single", **keywords)
    endless = AsyncEpisodeRunner("VisHarness/RefSeg-v0", experts="oracle")
    with endless, pytest.raises(InvalidData, match="no end"):
        endless.episodes("single")
