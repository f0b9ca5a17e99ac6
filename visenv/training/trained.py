"""A trained policy, as the loop that runs policies wants it, and the files that hold it."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visenv.env import VisionToolEnv
from visenv.episode import Episode
from visenv.errors import InvalidData, MissingDependency
from visenv.training.config import CONFIG, TrainConfig

if TYPE_CHECKING:
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import VecEnv

WEIGHTS = "policy.pt"
LAST_RATE = 0.1
"""What the learning rate falls to, in parts of what it begins with."""


def algorithm(config: TrainConfig, envs: VecEnv) -> PPO:
    """An untrained algorithm.

    Args:
        config: which one.
        envs: of ``visenv.adapters.sb3``.

    Raises:
        MissingDependency: if Stable-Baselines3 is not installed.
    """
    from visenv.adapters.sb3 import POLICY_KEYWORDS

    kind: Any
    if config.algo == "ppo":
        from stable_baselines3 import PPO as kind
    else:
        try:
            from sb3_contrib import MaskablePPO as kind
        except ImportError as error:
            raise MissingDependency('maskable_ppo needs sb3-contrib: pip install "visenv[train]"') from error
    settings = config.ppo
    rate = settings["learning_rate"]
    settings["learning_rate"] = lambda remaining: rate * max(LAST_RATE, remaining)
    settings["batch_size"] = min(settings["batch_size"], settings["n_steps"] * envs.num_envs)
    return kind("MultiInputPolicy", envs, seed=config.seed, device="cpu", policy_kwargs=POLICY_KEYWORDS, **settings)


def save_weights(model: PPO, path: Path) -> None:
    """Write the weights, the optimizer's state and the steps taken; the file is complete or not there."""
    import torch

    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "steps": model.num_timesteps,
    }
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_weights(model: PPO, path: Path, policy_only: bool = False) -> int:
    """Read what ``save_weights`` wrote; nothing in the file is executed.

    Args:
        model: whose state is replaced.
        path: of the file.
        policy_only: whether to leave the optimizer's state and the steps taken as they are.

    Returns:
        The steps taken.

    Raises:
        InvalidData: if the file cannot be read, or belongs to another environment.
    """
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.policy.load_state_dict(state["policy"])
        if not policy_only:
            model.policy.optimizer.load_state_dict(state["optimizer"])
            model.num_timesteps = int(state["steps"])
    except Exception as error:  # torch has no common type for files that are broken, foreign or of other shapes
        problem = " ".join(str(error).split())
        raise InvalidData(
            f"Expected weights of this run's policy in {str(path)!r}, but they cannot be used: {problem:.200}"
        ) from error
    return model.num_timesteps


class TrainedPolicy:
    """Plays a policy that ``visenv train`` trained; it needs environments with ``action_mode="discrete"``.

    One object plays one episode at a time; a shallow copy shares the weights.

    Args:
        folder: that the training run wrote.
        greedy: whether the likeliest action is taken, or one drawn by its probability.

    Raises:
        InvalidData: if there is no trained policy in the folder.
        MissingDependency: if Stable-Baselines3 is not installed.
    """

    name = "trained"

    def __init__(self, folder: str | os.PathLike[str], greedy: bool = True) -> None:
        path = Path(folder) / WEIGHTS
        self.config = TrainConfig.load(folder)
        if not path.is_file():
            raise InvalidData(f"Expected a trained policy in {str(folder)!r}, but it holds no {WEIGHTS}.")
        from visenv.adapters.sb3 import make_vec_env

        # Only for its spaces.
        with closing(make_vec_env(self.config.env_id, 1, **{**self.config.env_keywords, "expert_workers": 0})) as envs:
            self._model = algorithm(self.config, envs)
            load_weights(self._model, path)
        self._greedy = greedy
        self._chance: torch.Tensor | None = None
        self._env: VisionToolEnv | None = None

    @staticmethod
    def is_one(folder: str | os.PathLike[str]) -> bool:
        """Whether a folder holds a training run."""
        return (Path(folder) / CONFIG).is_file()

    def reset(self, env: VisionToolEnv, seed: np.random.SeedSequence) -> None:
        """See ``visenv.policies.Policy.reset``.

        Raises:
            InvalidData: if the environment's actions are not those that it was trained on.
        """
        if env.action_space != self._model.action_space:
            raise InvalidData(
                f"Expected the action space {self._model.action_space} that the policy was trained on, but got "
                f"{env.action_space}: use action_mode='discrete' and the tool set of the training run."
            )
        self._env = env
        if not self._greedy:
            import torch

            self._chance = torch.Generator().manual_seed(int(seed.generate_state(1)[0])).get_state()

    def act(self, episode: Episode) -> Any:
        """See ``visenv.policies.Policy.act``."""
        if self._env is None:
            raise InvalidData("Expected reset() before act(): the policy does not know the environment yet.")
        known = self._model.observation_space.spaces  # type: ignore[attr-defined]
        observation = {name: value for name, value in self._env.observation().items() if name in known}
        masks = {"action_masks": self._env.action_masks()} if self.config.algo == "maskable_ppo" else {}
        if self._chance is None:
            return self._predict(observation, **masks)
        import torch

        # SB3 draws from torch's global stream: for as long as it does, that is this episode's own.
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._chance)
            action = self._predict(observation, **masks)
            self._chance = torch.get_rng_state()
        return action

    def _predict(self, observation: dict[str, Any], **masks: Any) -> Any:
        return self._model.predict(observation, deterministic=self._greedy, **masks)[0]
