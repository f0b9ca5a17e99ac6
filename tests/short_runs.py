"""Training runs that are as short as can be, and the environments that they are of."""

import gymnasium as gym

from visenv.training import TrainConfig

ID = "VisHarness/RefSeg-v0"
ENV = {"experts": "oracle", "max_turns": 4}
SHORT = {"n_steps": 16, "batch_size": 32, "n_epochs": 1}
ROLLOUT = 32
"""Steps between two lines of the curve, with two environments."""


def settings(steps=2 * ROLLOUT, **changes):
    values = {"n_envs": 2, "eval_episodes": 3, "env": ENV, "hyperparameters": SHORT}
    return TrainConfig(ID, **{"steps": steps, **values, **changes})


def make(**keywords):
    return gym.make(ID, **{"split": "val", "obs": "features", "action_mode": "discrete", **ENV, **keywords}).unwrapped


def make_vec(n_envs, **keywords):
    given = {"split": "val", "obs": "features", "action_mode": "discrete", **ENV, **keywords}
    return gym.make_vec(ID, num_envs=n_envs, **given)
