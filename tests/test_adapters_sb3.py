"""Stable-Baselines3 on batched environments."""

import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from visenv.adapters.sb3 import POLICY_KEYWORDS, BatchedVecEnv, Features, make_vec_env
from visenv.errors import InvalidData

ID = "VisHarness/RefSeg-v0"
ANSWER = 6


def batched(n_envs=3, **keywords):
    settings = {"experts": "oracle", "obs": "features", "action_mode": "discrete", "autoreset_mode": "same_step"}
    return BatchedVecEnv(gym.make_vec(ID, num_envs=n_envs, **{**settings, **keywords}))


def actions(*tools):
    return np.array([[tool, 0, 0, 0, 0, 0] for tool in tools])


def test_the_wrapped_environment_passes_the_checker_and_learns():
    check_env(gym.make(ID, experts="oracle", action_mode="discrete").unwrapped)
    envs = make_vec_env(ID, 2, experts="oracle", obs="features")
    model = PPO("MultiInputPolicy", envs, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs=POLICY_KEYWORDS, seed=0)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    assert model.learn(64).num_timesteps == 64
    assert any(not value.equal(before[name]) for name, value in model.policy.state_dict().items())
    assert len(model.ep_info_buffer) > 0
    envs.close()


def test_maskable_ppo_asks_for_masks_and_takes_no_masked_tool():
    envs = make_vec_env(ID, 2, experts="oracle", obs="features")
    assert is_masking_supported(envs)
    model = MaskablePPO("MultiInputPolicy", envs, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs=POLICY_KEYWORDS)
    model.learn(32)
    observation = envs.reset()
    masks = get_action_masks(envs)
    assert masks.shape == (2, sum(envs.action_space.nvec))
    # Nothing has points or boxes yet.
    assert not masks[:, [2, 5]].any()
    chosen = [model.predict(observation, action_masks=get_action_masks(envs))[0] for _ in range(40)]
    assert not np.isin(np.stack(chosen)[..., 0], [2, 5]).any()
    envs.close()


def test_steps_are_those_of_single_environments():
    envs = batched()
    seeds = envs.seed(7)
    singles = [gym.make(ID, experts="oracle", obs="features", action_mode="discrete").unwrapped for _ in seeds]
    observations = envs.reset()
    for index, (single, seed) in enumerate(zip(singles, seeds, strict=True)):
        expected, info = single.reset(seed=seed)
        assert envs.reset_infos[index] == info
        for name, value in expected.items():
            np.testing.assert_array_equal(observations[name][index], value)
    for tool in (0, 5):
        observations, rewards, dones, infos = envs.step(actions(tool, tool, tool))
        for index, single in enumerate(singles):
            expected, reward, terminated, _, info = single.step(actions(tool)[0])
            assert (rewards[index], dones[index]) == (pytest.approx(reward), terminated)
            assert infos[index] == info | {"TimeLimit.truncated": False}
            for name, value in expected.items():
                np.testing.assert_array_equal(observations[name][index], value)
    envs.close()


def test_the_last_observation_of_an_episode_is_in_its_info_and_the_next_episode_has_begun():
    envs = batched()
    envs.seed(0)
    envs.reset()
    sample = envs.reset_infos[1]["sample_id"]
    envs.step(actions(0, 0, 0))
    observations, rewards, dones, infos = envs.step(actions(0, ANSWER, 0))
    assert dones.tolist() == [False, True, False]
    assert infos[1]["sample_id"] == sample
    assert infos[1]["termination"] == "answer"
    assert infos[1]["terminal_observation"]["progress"] == pytest.approx(0.2)
    assert observations["progress"][:, 0].tolist() == pytest.approx([0.2, 0, 0.2])
    assert envs.reset_infos[1]["turn"] == 0
    assert envs.reset_infos[1]["sample_id"] != sample
    assert "terminal_observation" not in infos[0]
    envs.close()


def test_only_what_was_truncated_is_called_truncated():
    envs = batched(2, max_turns=2)
    envs.reset()
    envs.step(actions(0, 0))
    *_, dones, infos = envs.step(actions(0, 0))
    assert dones.all()
    assert [info["termination"] for info in infos] == ["max_turns"] * 2
    assert not any(info["TimeLimit.truncated"] for info in infos)
    envs.close()
    envs = batched(2, max_episode_steps=2)
    envs.reset()
    envs.step(actions(0, 0))
    *_, dones, infos = envs.step(actions(0, ANSWER))
    assert dones.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [True, False]
    envs.close()


def test_observations_do_not_change_once_they_are_returned():
    envs = batched()
    first = envs.reset()
    kept = {name: value.copy() for name, value in first.items()}
    envs.step(actions(0, 3, 4))
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)
    envs.close()


def test_experts_are_asked_in_one_batch():
    envs = batched(4)
    envs.reset()
    envs.step(actions(0, 0, 0, 0))
    counters = envs.envs.pool.counters
    assert (counters.requests, counters.batches) == (4, 1)
    envs.close()


def test_seeds_and_options_reach_the_environments():
    envs = batched(2, split="val")
    assert envs.seed(3) == envs.seed(3)
    assert len(set(envs.seed(3))) == 2
    assert len(envs.seed()) == 2
    envs.set_options({"index": 5})
    envs.reset()
    assert [info["sample_id"] for info in envs.reset_infos] == ["scenes/refseg/d1/val/5"] * 2
    envs.set_options([{"index": 1}, {"index": 2}])
    envs.reset()
    assert [info["sample_id"][-1] for info in envs.reset_infos] == ["1", "2"]
    envs.set_options([{"index": 1}, {}])
    with pytest.raises(InvalidData, match="same options"):
        envs.reset()
    envs.close()


def test_attributes_methods_and_wrappers_of_the_environments():
    envs = batched(3, render_mode="rgb_array")
    envs.reset()
    assert envs.get_attr("render_mode", indices=[0, 2]) == ["rgb_array"] * 2
    assert envs.has_attr("action_masks")
    assert not envs.has_attr("no_such_thing")
    envs.set_attr("note", 7, indices=1)
    assert [hasattr(env, "note") for env in envs.envs.envs] == [False, True, False]
    assert len(envs.env_method("action_masks")) == 3
    assert envs.env_is_wrapped(VecMonitor) == [False] * 3
    assert envs.render().shape[-1] == 3
    normalised = VecNormalize(envs, norm_obs=False)
    assert normalised.reset()["progress"].shape == (3, 1)
    envs.close()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"autoreset_mode": "next_step"}, "same_step"), ({"action_mode": "text"}, "discrete")],
)
def test_other_modes_are_refused(keywords, message):
    with pytest.raises(InvalidData, match=message):
        batched(**keywords)


def test_only_environments_of_visenv_are_taken():
    envs = gym.make_vec("CartPole-v1", num_envs=2)
    with pytest.raises(InvalidData, match="VisionToolVectorEnv"):
        BatchedVecEnv(envs)
    envs.close()


@pytest.mark.parametrize("pictures", [False, True])
def test_features_are_finite_and_tell_observations_apart(pictures):
    envs = make_vec_env(ID, 2, experts="oracle", obs="full" if pictures else "features")
    model = PPO(
        "MultiInputPolicy",
        envs,
        policy_kwargs={**POLICY_KEYWORDS, "features_extractor_kwargs": {"pictures": pictures, "features_dim": 24}},
    )
    extractor = model.policy.features_extractor
    assert isinstance(extractor, Features)
    first = envs.reset()
    second, *_ = envs.step(actions(0, 0))
    features = [extractor_of(model, observation) for observation in (first, second)]
    assert features[0].shape == (2, 24)
    assert all(np.isfinite(values).all() for values in features)
    assert not np.allclose(features[0], features[1])
    assert not np.allclose(features[0][0], features[0][1])
    envs.close()


def extractor_of(model, observation):
    tensors, _ = model.policy.obs_to_tensor(observation)
    return model.policy.extract_features(tensors).detach().numpy()


def test_the_order_of_words_matters():
    envs = make_vec_env(ID, 1, experts="oracle", obs="features")
    model = PPO("MultiInputPolicy", envs, policy_kwargs=POLICY_KEYWORDS, seed=0)
    observation = envs.reset()
    swapped = {name: value.copy() for name, value in observation.items()}
    swapped["query"][0, :2] = swapped["query"][0, 1::-1]
    assert not np.allclose(extractor_of(model, observation), extractor_of(model, swapped))
    envs.close()


def test_without_the_trainer_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['stable_baselines3'] = None\n"
        "try:\n    import visenv.adapters.sb3\nexcept ImportError as error:\n    print(type(error).__name__, error)"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert "MissingDependency" in done.stdout, done.stderr
    assert "visenv[sb3]" in done.stdout
