"""Learning to play as another policy does, before PPO goes on from there."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from visenv.env import VisionToolEnv
from visenv.episode import Episode
from visenv.errors import InvalidData
from visenv.policies import Policy, make_policy, rollout_batch
from visenv.training.config import TrainConfig
from visenv.training.trained import LAST_RATE
from visenv.types import Answer, BoolArray, FloatArray, IntArray, ToolCall
from visenv.vector import VisionToolVectorEnv

if TYPE_CHECKING:
    from stable_baselines3 import PPO

EPOCHS = 20
"""Times that each demonstrated turn is learned from."""
VALUE_WEIGHT = 0.1
"""Of the error of the value in what is minimised, beside the likelihood of the actions."""

Progress = Callable[[int, int], None]
"""Told how many episodes or passes are done, and how many there will be."""


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """Turns of a policy, in the action space of the one that is to learn from them."""

    observations: Mapping[str, NDArray[np.generic]]
    """(N, …) by name, as before each turn."""
    actions: IntArray
    """(N, 6) int64."""
    used: BoolArray
    """(N, 6) which parts of the actions matter."""
    values: FloatArray
    """(N,) float32, what the episode paid, discounted by the turns that were still to come."""
    skipped: int
    """Turns that no discrete action means; nothing is learned from them."""


class _Recorded:
    """A policy, and what it has done in this episode: what was observed, what was done as a discrete action."""

    def __init__(self, policy: Policy) -> None:
        self._policy, self.name = policy, policy.name
        self.turns: list[tuple[dict[str, NDArray[np.generic]], IntArray, BoolArray, int]] = []
        self.asked = 0

    def reset(self, env: VisionToolEnv, seed: np.random.SeedSequence) -> None:
        self._env, self.turns, self.asked = env, [], 0
        self._policy.reset(env, seed)

    def act(self, episode: Episode) -> Any:
        action = self._policy.act(episode)
        known = self._env.encode(action) if isinstance(action, (ToolCall, Answer)) else None
        if known is not None:
            self.turns.append((self._env.observation(), *known, self.asked))
        self.asked += 1
        return action


def demonstrate(config: TrainConfig, progress: Progress = lambda done, total: None) -> Demonstrations:
    """Let the policy ``config.imitate`` play, and record its turns as discrete actions.

    Episodes that are invalid, since an expert failed, are left out.

    Args:
        config: with the policy, the number of episodes, the environment and the seed.
        progress: told how far it is.

    Raises:
        InvalidData: if no discrete action means any turn of the policy, or experts failed in every episode.
        UnknownName: if there is no such policy.
    """
    if config.imitate is None:
        raise InvalidData("Expected a policy to imitate, but the settings name none.")
    players = [_Recorded(copy.copy(make_policy(config.imitate))) for _ in range(config.n_envs)]
    turns: list[tuple[dict[str, NDArray[np.generic]], IntArray, BoolArray]] = []
    values: list[float] = []
    skipped, gamma = 0, config.ppo["gamma"]
    envs: Any = gym.make_vec(config.env_id, num_envs=config.n_envs, **config.env_keywords)
    with closing(envs):
        assert isinstance(envs, VisionToolVectorEnv)
        by_env = dict(zip(map(id, envs.envs), players, strict=True))
        games = rollout_batch(envs.envs, players, envs.pool, episodes=config.demonstrations, seed=config.seed)
        for count, (finished, env) in enumerate(games, start=1):
            progress(count, config.demonstrations)
            if finished.outcome.termination == "invalid":
                continue  # an expert failed: the policy is not to be blamed, and what it did says little
            player = by_env[id(env)]
            skipped += player.asked - len(player.turns)
            turns += [turn[:3] for turn in player.turns]
            values += [finished.reward * gamma ** (player.asked - 1 - asked) for *_, asked in player.turns]
    if not turns:
        raise InvalidData(
            f"Expected turns to learn from, but {config.imitate!r} took none that is a discrete action in an episode "
            f"without a failure of experts ({skipped} are none): choose another policy, tool set or experts."
        )
    observations, actions, used = zip(*turns, strict=True)
    stacked = {name: np.stack([each[name] for each in observations]) for name in observations[0]}
    return Demonstrations(stacked, np.stack(actions), np.stack(used), np.array(values, np.float32), skipped)


def imitate(
    model: PPO, shown: Demonstrations, config: TrainConfig, progress: Progress = lambda done, total: None
) -> None:
    """Raise the likelihood of demonstrated actions, and teach the value what they led to.

    Each part of an action counts by itself, and only if it matters to its tool. PPO's own optimizer is left alone.

    Args:
        model: whose policy learns.
        shown: the demonstrations.
        config: with the seed, the batch size and the learning rate, which falls linearly to a tenth.
        progress: told how far it is.
    """
    import torch
    from torch.nn.functional import cross_entropy, mse_loss

    assert isinstance(model.action_space, gym.spaces.MultiDiscrete)
    sizes = model.action_space.nvec.tolist()
    rng, policy = np.random.default_rng(config.seed), model.policy
    rate, size, count = config.ppo["learning_rate"], config.ppo["batch_size"], len(shown.actions)
    optimizer = torch.optim.Adam(policy.parameters(), lr=rate)
    batches = EPOCHS * math.ceil(count / size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_RATE, batches)
    policy.set_training_mode(True)
    for epoch in range(EPOCHS):
        order = rng.permutation(count)
        for chosen in np.split(order, range(size, count, size)):
            observed, _ = policy.obs_to_tensor({name: part[chosen] for name, part in shown.observations.items()})
            actions, used = torch.as_tensor(shown.actions[chosen]), torch.as_tensor(shown.used[chosen])
            acting, judging = policy.mlp_extractor(policy.extract_features(observed))
            parts = policy.action_net(acting).split(sizes, dim=1)
            missed = [cross_entropy(part, actions[:, i], reduction="none") for i, part in enumerate(parts)]
            wrong = mse_loss(policy.value_net(judging).squeeze(1), torch.as_tensor(shown.values[chosen]))
            loss = (torch.stack(missed, dim=1) * used).sum() / len(chosen) + VALUE_WEIGHT * wrong
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        progress(epoch + 1, EPOCHS)
