"""Several environments at once: each as it is alone, experts asked in one batch, faults kept apart."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics, TransformObservation
from stubs import BrightExpert, BrokenExpert, CountingReward, FewSamples, SquareDataset
from vector_envs import FAIL, GROUND, MERGE, make, single

import visenv  # noqa: F401 - registers the ids
from visenv.builtin import ENVIRONMENTS
from visenv.errors import EpisodeOver, InvalidData
from visenv.policies.scripted import ScriptedPolicy
from visenv.tools.visharness import MergeBoxMask, PhraseToBoxMask
from visenv.types import Answer
from visenv.wrappers import StackableInfo


def unstacked(infos, index):
    """The info of one environment, as it was before it was stacked."""
    return {
        key: unstacked(value, index) if isinstance(value, dict) else value[index]
        for key, value in infos.items()
        if not key.startswith("_") and infos[f"_{key}"][index]
    }


def plain(value):
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return value.item() if isinstance(value, np.generic) else value


@pytest.mark.parametrize("mode", ["next_step", "same_step"])
@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_each_gives_what_a_single_one_gives(env_id, mode):
    few = FewSamples(gym.make(env_id, split="val").unwrapped.dataset, 3)
    rules = {"dataset": few, "action_mode": "discrete", "experts": BrightExpert(), "max_turns": 4}
    envs = gym.make_vec(env_id, num_envs=3, autoreset_mode=mode, **rules)
    assert type(envs).__name__.endswith("VectorEnv")
    obs, infos = envs.reset(seed=5)
    singles = [gym.make(env_id, disable_env_checker=True, **rules) for _ in range(3)]
    starts = [env.reset(seed=seed) for env, seed in zip(singles, envs.seeds, strict=True)]
    for index, (own, info) in enumerate(starts):
        same(obs, infos, own, info, index)
    envs.action_space.seed(2)
    over = [False] * 3
    for _ in range(14):
        actions = envs.action_space.sample()
        obs, rewards, terminations, truncations, infos = envs.step(actions)
        for index, env in enumerate(singles):
            if over[index] and mode == "next_step":
                (own, info), reward, ended = env.reset(), 0.0, False
            else:
                own, reward, ended, _, info = env.step(actions[index])
                if ended and mode == "same_step":
                    for key, value in own.items():
                        np.testing.assert_array_equal(infos["final_obs"][index][key], value)
                    assert plain(unstacked(infos["final_info"], index)) == info
                    own, info = env.reset()
            over[index] = ended
            assert (rewards[index], terminations[index], truncations[index]) == (reward, ended, False)
            same(obs, infos, own, info, index)
    envs.close()


def same(obs, infos, own, info, index):
    for key, value in own.items():
        np.testing.assert_array_equal(obs[key][index], value, err_msg=key)
    found = plain(unstacked({key: value for key, value in infos.items() if "final" not in key}, index))
    assert found == info


def test_a_step_of_all_is_one_batch():
    expert = BrightExpert()
    expert.max_batch = 64
    envs = make(8, experts=expert, dataset=SquareDataset())
    envs.reset(options={"index": [0, 1, 2, 0, 1, 2, 0, 1]})
    envs.step([GROUND] * 8)
    assert expert.batches == [3]
    assert envs.pool.counters.duplicates == 5
    envs.step([GROUND] * 8)
    assert expert.batches == [3]
    assert envs.pool.counters.cache_hits == 3
    envs.close()


def test_disabled_autoreset_leaves_resets_to_the_caller():
    envs = make(2, autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    _, _, terminations, _, _ = envs.step([Answer(), GROUND])
    assert terminations.tolist() == [True, False]
    with pytest.raises(EpisodeOver, match=r"\[0\]"):
        envs.step([GROUND, GROUND])
    before = envs.episodes[1]
    _, infos = envs.reset(options={"reset_mask": np.array([True, False]), "index": 2})
    assert infos["sample_id"][0] == "squares/2"
    assert infos["_sample_id"].tolist() == [True, False]
    assert envs.episodes[1] is before
    envs.step([GROUND, GROUND])
    assert [episode.turns for episode in envs.episodes] == [1, 2]
    for mask in (np.array([True]), np.array([False, False]), [True, False], np.array([1, 0])):
        with pytest.raises(InvalidData, match="reset_mask"):
            envs.reset(options={"reset_mask": mask})
    envs.close()


def test_a_step_limit_truncates():
    envs = make(2, max_episode_steps=2)
    envs.reset(seed=0)
    envs.step([GROUND, GROUND])
    _, rewards, terminations, truncations, _ = envs.step([GROUND, Answer()])
    assert (terminations.tolist(), truncations.tolist()) == ([False, True], [True, True])
    _, rewards, _, truncations, infos = envs.step([GROUND, GROUND])
    assert (rewards.tolist(), truncations.tolist(), infos["turn"].tolist()) == ([0, 0], [False, False], [0, 0])
    envs.close()


def test_a_failing_request_harms_no_other_environment():
    envs = make(4, experts=BrokenExpert())
    envs.reset(seed=0)
    _, rewards, terminations, truncations, infos = envs.step([GROUND, FAIL, GROUND, GROUND])
    assert truncations.tolist() == [False, True, False, False]
    assert rewards[1] == 0
    assert infos["invalid"][1].endswith("no more memory")
    assert [error for error in infos["error"] if error] == []
    envs.close()


def test_running_out_of_memory_shrinks_the_batches():
    class Small(BrightExpert):
        max_batch = 64

        def run(self, requests):
            if len(requests) > 2:
                self.batches.append(-len(requests))
                raise MemoryError
            return super().run(requests)

    expert = Small()
    envs = make(8, experts=expert, dataset=SquareDataset())
    envs.envs[0].pool._cache.limit = 0
    envs.reset(options={"index": [0, 1, 2] * 2 + [0, 1]})
    envs.step([{"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": str(i)}} for i in range(8)])
    assert expert.batches[:3] == [-8, -4, 2]
    envs.step([{"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": f"b{i}"}} for i in range(8)])
    assert expert.batches[-4:] == [2, 2, 2, 2]
    envs.close()


def test_bad_actions_and_arguments_are_named():
    envs = make(2)
    envs.reset(seed=0)
    with pytest.raises(InvalidData, match="2 actions"):
        envs.step([GROUND])
    _, _, _, _, infos = envs.step([GROUND, {"name": "Nope"}])
    assert infos["error"][0] is None
    assert infos["error"][1]["code"] == "unknown_tool"
    envs.close()
    for keywords in ({"num_envs": 0}, {"autoreset_mode": "never"}, {"max_episode_steps": 0}):
        with pytest.raises(InvalidData, match="Expected"):
            make(**keywords)


def test_masks_and_frames_come_stacked():
    envs = make(2, action_mode="discrete", render_mode="rgb_array")
    envs.reset(seed=0)
    assert envs.action_masks().shape == (2, envs.single_action_space.nvec.sum())
    assert [frame.shape for frame in envs.render()] == [(512, 512, 3)] * 2
    obs = envs.step(envs.action_space.sample())[0]
    assert obs in envs.observation_space
    kept = obs["progress"].copy()
    envs.step(envs.action_space.sample())
    assert obs["progress"].tolist() == kept.tolist()
    envs.close()


class Trap(PhraseToBoxMask):
    """Has a bug that shows only after its expert has answered."""

    def run(self, arguments, context):
        effect = yield from super().run(arguments, context)
        if arguments["phrase"] == "bug":
            raise ZeroDivisionError
        return effect


def test_a_bug_in_one_step_leaves_every_episode_where_it_was():
    envs = make(3, toolset=(tool for tool in [Trap(), MergeBoxMask()]))
    obs, _ = envs.reset(seed=0)
    bug = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "bug"}}
    with pytest.raises(ZeroDivisionError):
        envs.step([Answer(), GROUND, bug])
    assert [episode.turns for episode in envs.episodes] == [0, 0, 0]
    for name, values in envs.observations.items():
        np.testing.assert_array_equal(values, obs[name])
    _, rewards, terminations, _, _ = envs.step([Answer(), GROUND, GROUND])
    assert (rewards.tolist(), terminations.tolist()) == ([-0.25] * 3, [True, False, False])
    envs.close()


def test_steps_before_a_reset_and_one_action_for_all_are_refused():
    envs = make(2)
    with pytest.raises(EpisodeOver, match="reset"):
        envs.step([GROUND, GROUND])
    envs.reset(seed=0)
    for actions in (GROUND, "ab", 3):
        with pytest.raises(InvalidData, match="2 actions"):
            envs.step(actions)
    envs.close()
    envs.close()


@pytest.mark.parametrize("mode", ["next_step", "same_step"])
@pytest.mark.parametrize("action_mode", ["structured", "text"])
def test_sampled_actions_give_what_a_single_one_gives(action_mode, mode):
    rules = {"action_mode": action_mode, "max_turns": 4, "obs": "features"}
    envs = make(3, autoreset_mode=mode, max_episode_steps=3, copy=False, **rules)
    singles = [single(max_episode_steps=3, **rules) for _ in range(3)]
    envs.reset(seed=11)
    for env, seed in zip(singles, envs.seeds, strict=True):
        env.reset(seed=seed)
    envs.action_space.seed(0)
    over = np.zeros(3, bool)
    texts = ["<think>x</think><answer>done</answer>", {"text": "<think>", "finish_reason": "length"}, b"\xff"]
    for step in range(20):
        actions = texts if action_mode == "text" and step % 3 else envs.action_space.sample()
        obs, rewards, terminations, truncations, infos = envs.step(actions)
        for index, env in enumerate(singles):
            if over[index] and mode == "next_step":
                (own, info), outcome = env.reset(), (0.0, False, False)
            else:
                own, *outcome, info = env.step(actions[index])
                if any(outcome[1:]) and mode == "same_step":
                    assert plain(unstacked(infos["final_info"], index)) == info
                    own, info = env.reset()
            assert (rewards[index], terminations[index], truncations[index]) == tuple(outcome)
            same(obs, infos, own, info, index)
        over = terminations | truncations
    envs.close()


@pytest.mark.parametrize("experts", ["noisy", "oracle"])
def test_scripted_policies_play_as_they_do_alone(experts):
    dataset = FewSamples(gym.make("VisHarness/ReasonSeg-v0", split="val", difficulty=2).unwrapped.dataset, 3)
    rules = {"dataset": dataset, "experts": experts}
    envs = gym.make_vec("VisHarness/ReasonSeg-v0", num_envs=4, group_size=2, autoreset_mode="same_step", **rules)
    singles = [gym.make("VisHarness/ReasonSeg-v0", disable_env_checker=True, **rules) for _ in range(4)]
    envs.reset(seed=3)
    policies = [[ScriptedPolicy() for _ in range(4)] for _ in range(2)]
    for index, env in enumerate(singles):
        env.reset(seed=envs.seeds[index])
        policies[0][index].reset(envs.envs[index], np.random.SeedSequence(0))
        policies[1][index].reset(env.unwrapped, np.random.SeedSequence(0))
    for _ in range(12):
        actions = [policy.act(episode) for policy, episode in zip(policies[0], envs.episodes, strict=True)]
        obs, rewards, terminations, truncations, infos = envs.step(actions)
        for index, env in enumerate(singles):
            action = policies[1][index].act(env.unwrapped.episode)
            assert action == actions[index]
            own, *outcome, info = env.step(action)
            assert [rewards[index], terminations[index], truncations[index]] == outcome
            if any(outcome[1:]):
                assert plain(unstacked(infos["final_info"], index)) == info
                own, info = env.reset()
                policies[0][index].reset(envs.envs[index], np.random.SeedSequence(0))
                policies[1][index].reset(env.unwrapped, np.random.SeedSequence(0))
            same(obs, infos, own, info, index)
    assert envs.pool.counters.duplicates + envs.pool.counters.cache_hits > 0
    envs.close()


class Stingy(CountingReward):
    """Pays a whole number to some and a fraction to others."""

    def turn(self, turn):
        return {"cost": -1 if isinstance(turn.action, Answer) else -0.25}


def test_stacked_numbers_keep_their_fractions():
    envs = make(3, reward=Stingy())
    envs.reset(seed=0)
    infos = envs.step([Answer(), GROUND, GROUND])[-1]
    assert infos["reward_terms"]["cost"].tolist() == [-1, -0.25, -0.25]
    envs.close()


@pytest.mark.parametrize("mode", ["next_step", "same_step"])
def test_gymnasiums_vector_wrappers_work(mode):
    envs = make(3, autoreset_mode=mode, max_episode_steps=3)
    # Gymnasium's own refuse same_step, but for the last.
    if mode == "next_step":
        envs = RecordEpisodeStatistics(TransformObservation(envs, lambda obs: obs))
    envs = DictInfoToList(envs)
    envs.reset(seed=0)
    lengths = []
    for _ in range(8):
        _, _, _, _, infos = envs.step([GROUND, Answer(), {"name": "Nope"}])
        lengths += [info["episode"]["l"] for info in infos if "episode" in info]
        assert infos[2]["error"] is None or infos[2]["error"]["code"] == "unknown_tool"
        assert infos[0]["error"] is None
    assert set(lengths) == ({1, 3} if mode == "next_step" else set())
    envs.close()


def test_make_vec_has_every_way():
    rules = {"dataset": SquareDataset(), "experts": BrightExpert(), "num_envs": 2}
    envs = gym.make_vec("VisHarness/ReasonSeg-v0", vectorization_mode="vector_entry_point", **rules)
    plain_envs = gym.make_vec("VisHarness/ReasonSeg-v0", vectorization_mode="sync", wrappers=[StackableInfo], **rules)
    first = envs.reset(seed=[1, 2])[0]
    second = plain_envs.reset(seed=[1, 2])[0]
    for actions in ([GROUND, {"name": "Nope"}], [Answer(), MERGE], [GROUND, GROUND]):
        for key in first:
            np.testing.assert_array_equal(first[key], second[key])
        first = envs.step(actions)[0]
        second = plain_envs.step(actions)[0]
    envs.close()
    plain_envs.close()
    for mode in ("NextStep", AutoresetMode.NEXT_STEP, "next_step"):
        make(1, autoreset_mode=mode).close()
