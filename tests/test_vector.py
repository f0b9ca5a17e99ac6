import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stubs import BrightExpert, BrokenExpert, CountingReward, FewSamples, SquareDataset

import visenv  # noqa: F401 - registers the ids
from visenv.builtin import ENVIRONMENTS
from visenv.errors import EpisodeOver, InvalidData
from visenv.types import Answer

GROUND = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "square"}}
MERGE = {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}
FAIL = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "fail"}}


def make(num_envs=3, **keywords):
    defaults = {"dataset": SquareDataset(), "experts": BrightExpert(), "reward": CountingReward()}
    return gym.make_vec("VisHarness/ReasonSeg-v0", num_envs=num_envs, **(defaults | keywords))


def single(**keywords):
    defaults = {"dataset": SquareDataset(), "experts": BrightExpert(), "reward": CountingReward()}
    return gym.make("VisHarness/ReasonSeg-v0", disable_env_checker=True, **(defaults | keywords))


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


def test_a_group_shares_its_samples():
    envs = make(4, group_size=2)
    _, infos = envs.reset(seed=1)
    assert envs.seeds[0] == envs.seeds[1] != envs.seeds[2] == envs.seeds[3]
    seen = [[name] for name in infos["sample_id"]]
    plans = [[Answer()] * 9, [GROUND, Answer()] * 9, [Answer()] * 9, [GROUND, MERGE, Answer()] * 9]
    for turn in range(12):
        _, _, _, _, infos = envs.step([plan[turn % len(plan)] for plan in plans])
        for index in range(4):
            if infos["turn"][index] == 0:
                seen[index].append(infos["sample_id"][index])
    assert len(seen[0]) > len(seen[1]) > 2
    assert seen[0][: len(seen[1])] == seen[1]
    assert seen[2][: len(seen[3])] == seen[3]
    with pytest.raises(InvalidData, match="multiple of group_size"):
        make(4, group_size=3)
    envs.close()


def test_seeds_are_spawned_or_used_as_given():
    envs = make(3)
    envs.reset(seed=7)
    first = envs.seeds
    assert len(set(first)) == 3
    envs.reset(seed=8)
    assert not set(first) & set(envs.seeds)
    envs.reset(seed=[4, 5, 4])
    assert envs.seeds == (4, 5, 4)
    _, infos = envs.reset(seed=[None, 9, None])
    assert envs.seeds == (4, 9, 4)
    env = single()
    env.reset(seed=4)
    assert infos["sample_id"][0] == infos["sample_id"][2] == env.reset()[1]["sample_id"]
    with pytest.raises(InvalidData, match="3 of them"):
        envs.reset(seed=[1, 2])
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
