"""RLlib drives the environments: its checker, its runners, its PPO."""

import math
import runpy
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import ray
import torch
from pages import failures_of
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.env.multi_agent_env import make_multi_agent
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner
from ray.rllib.utils.pre_checks.env import check_multiagent_environments
from stubs import BrightExpert

from visenv.adapters.flat import FlatVectorEnv
from visenv.adapters.rllib import BATCHED, MaskedModule, drop_invalid, log_metrics, make_env, module_spec, register
from visenv.errors import InvalidData, UnknownName
from visenv.vector import VisionToolVectorEnv

ID = "VisHarness/RefSeg-v0"
MODES = ("discrete", "structured", "text")
SETTINGS = {"experts": "oracle", "split": "val", "obs": "features"}


class NeverWorks(BrightExpert):
    name = "never"

    def run(self, requests):
        raise RuntimeError("no more memory")


@pytest.fixture(scope="module", autouse=True)
def _ray():
    torch.set_num_threads(1)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


def ppo(batched=True, **keywords):
    name = register(ID, **{**SETTINGS, **keywords})
    return (
        PPOConfig()
        .environment(name)
        .env_runners(
            num_env_runners=0, num_envs_per_env_runner=3, rollout_fragment_length=12, **(BATCHED if batched else {})
        )
        .rl_module(rl_module_spec=module_spec(features=32))
        .training(train_batch_size_per_learner=36, minibatch_size=18, num_epochs=2)
        .callbacks(on_episode_end=log_metrics, on_sample_end=drop_invalid)
        .debugging(seed=0)
    )


@pytest.mark.parametrize("mode", MODES)
def test_environments_pass_the_checker(mode):
    made = make_multi_agent(lambda config: make_env(ID, None, {**SETTINGS, "action_mode": mode}, config))
    check_multiagent_environments(made({"num_agents": 1}))


@pytest.mark.parametrize("batched", [True, False], ids=["batched", "single"])
def test_ppo_takes_steps_with_finite_losses(batched):
    algorithm = ppo(batched, max_turns=4).build_algo()
    inner = algorithm.env_runner.env.unwrapped
    assert isinstance(inner, VisionToolVectorEnv if batched else gym.vector.SyncVectorEnv)
    before = {name: value.clone() for name, value in algorithm.get_module().state_dict().items()}
    for _ in range(2):
        results = algorithm.train()
        losses = results["learners"]["default_policy"]
        assert all(math.isfinite(losses[name]) for name in ("total_loss", "policy_loss", "vf_loss", "entropy"))
    runners = results["env_runners"]
    assert runners["num_episodes_lifetime"] > 3
    assert -3 <= runners["episode_return_mean"] <= 5
    assert 0 <= runners["metrics"]["gIoU"] <= 1
    assert runners["metrics"]["invalid"] == 0
    after = algorithm.get_module().state_dict()
    assert any(not value.equal(before[name]) for name, value in after.items())
    algorithm.stop()


def test_the_policy_chooses_what_its_masks_allow():
    runner = SingleAgentEnvRunner(config=ppo())
    episodes = runner.sample(num_timesteps=60)
    rows = list(chosen(episodes))
    assert len(rows) >= 50
    assert all(mask[tool] for mask, tool in rows)
    assert not all(mask.all() for mask, _ in rows)
    runner.stop()


def chosen(episodes):
    for episode in episodes:
        masks, actions = episode.get_observations()["action_mask"], episode.get_actions()
        for index in range(len(episode)):
            yield np.asarray(masks[index][:7]), int(np.asarray(actions[index])[0])


def test_the_same_seed_gives_the_same_episodes():
    kept = []
    for _ in range(2):
        runner = SingleAgentEnvRunner(config=ppo())
        kept.append([e.to_numpy() if not e.is_numpy else e for e in runner.sample(num_timesteps=30)])
        runner.stop()
    for one, other in zip(*kept, strict=True):
        np.testing.assert_array_equal(one.get_actions(), other.get_actions())
        np.testing.assert_array_equal(one.get_rewards(), other.get_rewards())
        np.testing.assert_array_equal(one.get_observations()["query"], other.get_observations()["query"])


@pytest.mark.parametrize("mode", ["structured", "text"])
def test_runners_step_every_action_mode(mode):
    envs = make_env(ID, {"pictures": 1, "side": 32, "text": 64}, {**SETTINGS, "action_mode": mode}, {"num_envs": 2})
    assert isinstance(envs, FlatVectorEnv)
    config = ppo(action_mode=mode).rl_module(rl_module_spec=module_spec())
    with pytest.raises(InvalidData, match="discrete"):
        SingleAgentEnvRunner(config=config)
    observation, _ = envs.reset(seed=0)
    assert observation["pictures"].shape == (2, 1, 32, 32, 3)
    assert envs.step(envs.action_space.sample())[1].shape == (2,)
    envs.close()


def test_what_an_expert_has_broken_is_left_out():
    runner = SingleAgentEnvRunner(config=ppo(experts={"*": "oracle", "GroundPhrase": NeverWorks()}))
    # Only calls of the broken tool, and answers.
    runner.module.policy[2].bias.data[:7] = torch.tensor([5.0, -9, -9, -9, -9, -9, 5.0])
    episodes = [episode for episode in runner.sample(num_timesteps=60) if episode.is_done]
    assert episodes
    assert all("invalid" not in episode.get_infos(-1) for episode in episodes)
    assert runner.get_metrics()["metrics"]["invalid"].peek() > 0
    runner.stop()


def test_training_does_not_wait_for_an_expert_that_is_gone():
    algorithm = ppo(experts={"*": "oracle", "GroundPhrase": NeverWorks()}).build_algo()
    # Only calls of the broken tool.
    algorithm.get_module().policy[2].bias.data[:7] = torch.tensor([50.0, -50, -50, -50, -50, -50, -50])
    results = algorithm.train()
    assert results["env_runners"]["metrics"]["invalid"] == 1
    assert results["env_runners"]["episode_return_mean"] == 0
    algorithm.stop()


def test_what_is_wrong_is_said_at_once():
    with pytest.raises(UnknownName):
        register(ID, experts="nobody")
    space = gym.spaces.Dict({"memory_state": gym.spaces.Box(0, 1, (2, 2))})
    with pytest.raises(InvalidData, match="discrete"):
        MaskedModule(observation_space=space, action_space=gym.spaces.MultiDiscrete([2]))


def test_the_page_prints_what_it_says():
    assert failures_of("rllib") == ""


def test_the_example_runs(capsys, monkeypatch):
    path = Path(__file__).resolve().parent.parent / "examples" / "rllib_ppo.py"
    monkeypatch.setattr(sys, "argv", [str(path), *"--iterations 1 --envs 2 --batch 32 --experts oracle".split()])
    runpy.run_path(str(path), run_name="__main__")
    assert "1 iteration" in capsys.readouterr().out
