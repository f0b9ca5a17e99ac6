"""TorchRL drives the environments."""

import math
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from stubs import BrokenExpert
from torchrl.collectors import Collector
from torchrl.envs import GymEnv, ParallelEnv, SerialEnv, check_env_specs
from torchrl.objectives import ClipPPOLoss
from torchrl.objectives.value import GAE

from visenv.adapters.torchrl import MaskedMultiCategorical, VisionEnv, make_actor_critic, make_env
from visenv.builtin import ENVIRONMENTS
from visenv.errors import InvalidData
from visenv.types import Answer

ID = "VisHarness/RefSeg-v0"
MODES = ("discrete", "structured", "text")
ANSWER = torch.tensor([6, 0, 0, 0, 0, 0])


class NeverWorks(BrokenExpert):
    name = "never"

    def run(self, requests):
        raise RuntimeError("no more memory")


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def made(num_envs=None, **keywords):
    return make_env(ID, num_envs, **{"experts": "oracle", "split": "val", "obs": "features", **keywords})


@pytest.mark.parametrize("padding", [None, {"pictures": 2, "side": 32, "text": 64}], ids=["numbers", "padded"])
@pytest.mark.parametrize("num_envs", [None, 3], ids=["single", "batched"])
@pytest.mark.parametrize("mode", MODES)
def test_the_specifications_hold(mode, num_envs, padding):
    env = made(num_envs, action_mode=mode, padding=padding)
    check_env_specs(env)
    rollout = env.rollout(12, break_when_any_done=False)
    assert rollout.shape == ((12,) if num_envs is None else (num_envs, 12))
    assert rollout["next", "reward"].dtype == torch.float32
    env.close()


def test_torchrl_makes_the_environment_by_its_id_too():
    check_env_specs(GymEnv(ID, action_mode="discrete", experts="oracle", obs="features"))


@pytest.mark.parametrize("mode", MODES)
def test_serial_environments_hold_their_specifications(mode):
    env = SerialEnv(2, partial(made, action_mode=mode))
    check_env_specs(env)
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["discrete", "structured"])
def test_parallel_environments_hold_their_specifications(mode):
    env = ParallelEnv(2, partial(made, action_mode=mode))
    check_env_specs(env)
    env.close()


@pytest.mark.parametrize("mode", ["discrete", "structured"])
def test_the_same_seed_gives_the_same_rollout(mode):
    rollouts = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        env = made(2, action_mode=mode)
        env.set_seed(seed)
        rollouts.append(env.rollout(10, break_when_any_done=False))
        env.close()
    first, second, third = rollouts
    assert (first == second).all()
    assert not (first["query"] == third["query"]).all()


def test_a_batch_is_what_gymnasium_gives():
    env = made(2)
    env.set_seed(5)
    envs = gym.make_vec(
        ID, num_envs=2, experts="oracle", split="val", obs="features", action_mode="discrete", autoreset_mode="disabled"
    )
    expected, _ = envs.reset(seed=5)
    step = env.reset(seed=5)
    for action in ([[0] * 6] * 2, [[5, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0]]):
        for name, values in expected.items():
            np.testing.assert_array_equal(step[name].numpy(), values)
        step["action"] = torch.tensor(action)
        step = env.step(step)["next"]
        expected, rewards, terminated, _, infos = envs.step(np.array(action))
        assert step["reward"].flatten().tolist() == pytest.approx(rewards)
        assert step["terminated"].flatten().tolist() == terminated.tolist()
    assert step["done"].flatten().tolist() == [False, True]
    assert step["episode_reward"].flatten().tolist() == pytest.approx(rewards)


def test_only_an_ended_episode_begins_anew():
    env = made(2)
    before = env.reset(seed=0)
    before["action"] = torch.stack([torch.zeros(6, dtype=torch.long), ANSWER])
    step, after = env.step_and_maybe_reset(before)
    assert step["next", "done"].flatten().tolist() == [False, True]
    assert after["progress"].flatten().tolist() == pytest.approx([0.1, 0])
    assert after["is_init"].flatten().tolist() == [False, True]


def test_random_actions_heed_the_masks():
    rollout = made(2).rollout(20, break_when_any_done=False)
    masks, tools = rollout["action_mask"][..., :7], rollout["action"][..., :1]
    assert masks.gather(-1, tools).all()
    assert not masks.all()


def test_a_text_is_an_action():
    env = made(2, action_mode="text")
    state = env.reset(seed=0)
    answer = env.base_env.single.episode.dialect.render(Answer("It is marked."))
    state.set("action", [answer, "nonsense <tool_call>"])
    step = env.step(state)["next"]
    assert step["error"].flatten().tolist() == [False, True]
    assert step["terminated"].flatten().tolist() == [True, False]


def test_a_broken_expert_is_told_from_an_end():
    env = made(2, experts={"*": "oracle", "GroundPhrase": NeverWorks()})
    state = env.reset(seed=0)
    state["action"] = torch.stack([torch.zeros(6, dtype=torch.long), ANSWER])
    step = env.step(state)["next"]
    assert step["invalid"].flatten().tolist() == [True, False]
    assert step["truncated"].flatten().tolist() == [True, False]
    assert step["terminated"].flatten().tolist() == [False, True]


def test_probabilities_are_those_of_the_unmasked_choices():
    logits = torch.log(torch.tensor([[1.0, 3.0, 4.0, 2.0, 2.0]]))
    mask = torch.tensor([[True, True, False, False, False]])
    chosen = MaskedMultiCategorical(logits, mask, nvec=(3, 2))
    # The second part allows nothing, and so all.
    assert chosen.log_prob(torch.tensor([[1, 0]])).exp().item() == pytest.approx(0.75 * 0.5)
    assert chosen.entropy().item() == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) + math.log(2))
    assert chosen.mode.tolist() == [[1, 0]]
    drawn = chosen.sample((200,))
    assert drawn.shape == (200, 1, 2)
    assert drawn[..., 0].max() == 1
    free = MaskedMultiCategorical(logits, nvec=(3, 2))
    assert free.log_prob(torch.tensor([[2, 1]])).exp().item() == pytest.approx(0.25)


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_the_actor_plays_every_environment(env_id):
    env = make_env(env_id, 2, obs="features")
    actor, critic = make_actor_critic(env, 16)
    rollout = critic(env.rollout(3, actor, break_when_any_done=False))
    assert rollout["action"].shape == (2, 3, 6)
    assert rollout["state_value"].isfinite().all()
    assert rollout["action_log_prob"].le(0).all()
    env.close()


def train(env, batches, frames):
    """Mean rewards of the episodes that ended in each batch of a PPO of TorchRL."""
    actor, critic = make_actor_critic(env, 32)
    collector = Collector(env, actor, frames_per_batch=frames, total_frames=frames * batches)
    collector.set_seed(0)
    advantage = GAE(gamma=0.99, lmbda=0.95, value_network=critic)
    losses = ClipPPOLoss(actor, critic, entropy_coeff=0.01)
    before = {name: value.clone() for name, value in losses.state_dict().items()}
    optimizer = torch.optim.Adam(losses.parameters(), 3e-3)
    rewards = []
    for batch in collector:
        with torch.no_grad():
            advantage(batch)
        for _ in range(4):
            values = losses(batch.reshape(-1))
            loss = values["loss_objective"] + values["loss_critic"] + values["loss_entropy"]
            assert loss.isfinite()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        rewards.append(batch["next", "episode_reward"][batch["next", "done"]].mean().item())
        assert batch["action_mask"][..., :7].gather(-1, batch["action"][..., :1]).all()
    collector.shutdown()
    assert any(not value.equal(before[name]) for name, value in losses.state_dict().items())
    return rewards


def test_ppo_takes_steps_with_finite_losses():
    rewards = train(made(4, split="train", max_turns=3), batches=3, frames=32)
    assert np.isfinite(rewards).all()
    assert min(rewards) >= -3
    assert max(rewards) <= 5


@pytest.mark.slow
def test_ppo_learns_to_mark_what_is_asked_for():
    rewards = train(made(8, split="train"), batches=8, frames=128)
    assert np.mean(rewards[-2:]) > np.mean(rewards[:2]) + 1


def test_others_are_refused():
    with pytest.raises(InvalidData, match="disabled"):
        VisionEnv(gym.make_vec(ID, num_envs=2, experts="oracle"))
    with pytest.raises(InvalidData, match="VisionToolEnv"):
        VisionEnv(gym.make("CartPole-v1"))
    with pytest.raises(InvalidData, match="discrete"):
        make_actor_critic(made(action_mode="structured"))
    with pytest.raises(InvalidData, match="padding"):
        make_actor_critic(made(padding={}))
