"""Stable-Baselines3: batched environments as its ``VecEnv``, and a features extractor for their observations.

Example:
    >>> from stable_baselines3 import PPO
    >>> from visenv.adapters.sb3 import POLICY_KEYWORDS, make_vec_env
    >>> envs = make_vec_env("VisHarness/ReasonSeg-v0", n_envs=2, experts="oracle", obs="features")
    >>> model = PPO("MultiInputPolicy", envs, n_steps=8, batch_size=16, n_epochs=1, policy_kwargs=POLICY_KEYWORDS)
    >>> model.learn(16).num_timesteps
    16
    >>> envs.close()
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

import visenv
from visenv.errors import InvalidData, MissingDependency
from visenv.observation import Observation
from visenv.vector import VisionToolVectorEnv

try:
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env import VecEnv, VecMonitor

    from visenv.adapters.networks import FeatureLayers
except ImportError as error:
    raise MissingDependency(
        'visenv.adapters.sb3 needs Stable-Baselines3 and torch: pip install "visenv[sb3]"'
    ) from error


def make_vec_env(env_id: str, n_envs: int = 16, **keywords: Any) -> VecMonitor:
    """Batched environments of one id, ready for an algorithm of SB3.

    Args:
        env_id: as ``gym.make_vec`` takes it.
        n_envs: how many.
        **keywords: of the environment; ``action_mode`` is ``"discrete"`` unless said otherwise.

    Returns:
        The environments under a ``VecMonitor``, which records each episode's reward and length.
    """
    settings: dict[str, Any] = {"action_mode": "discrete", **keywords, "autoreset_mode": AutoresetMode.SAME_STEP}
    envs: Any = gym.make_vec(env_id, num_envs=n_envs, **settings)
    return VecMonitor(BatchedVecEnv(envs))


class BatchedVecEnv(VecEnv):
    """A ``VisionToolVectorEnv`` as SB3's ``VecEnv``: what all environments ask of the experts stays one batch.

    An info is the one of its environment's own step, the last one of an episode also at its end, where
    ``terminal_observation`` is what was observed then. ``TimeLimit.truncated`` is true where the episode was truncated,
    not where it ended by its own rules (an answer, the turn limit, the budget of visual tokens).

    Args:
        envs: with ``action_mode="discrete"`` and ``autoreset_mode="same_step"``.

    Raises:
        InvalidData: for other modes.
    """

    def __init__(self, envs: VisionToolVectorEnv) -> None:
        if not isinstance(envs.unwrapped, VisionToolVectorEnv):
            raise InvalidData(f"Expected a VisionToolVectorEnv (gym.make_vec makes one), but got {envs!r:.80}.")
        if envs.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise InvalidData(f"Expected autoreset_mode='same_step', but got {envs.autoreset_mode.name.lower()!r}.")
        if envs.envs[0].action_mode != "discrete":
            raise InvalidData(f"Expected action_mode='discrete', but got {envs.envs[0].action_mode!r}.")
        self.envs = envs
        self._actions: NDArray[np.generic] | None = None
        self._next_seed: int | None = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Choose the seed of the next reset.

        Args:
            seed: spawned into one an environment, as ``VisionToolVectorEnv.reset`` does it; drawn if None.

        Returns:
            The seed of each environment.
        """
        self._next_seed = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
        return self.envs.spawn_seeds(self._next_seed)

    def reset(self) -> Observation:
        """Begin an episode everywhere; the infos are in ``reset_infos``."""
        given = [options or {} for options in self._options]
        names = {name for options in given for name in options}
        if any(set(options) != names for options in given):
            raise InvalidData(f"Expected the same options for every environment, but got {given!r:.200}.")
        self.envs.reset(seed=self._next_seed, options={name: [each[name] for each in given] for name in names})
        self.reset_infos = [env.info() for env in self.envs.envs]
        self._next_seed = None
        self._reset_options()
        return self._observations()

    def step_async(self, actions: NDArray[np.generic]) -> None:
        """Take note of the actions, (n_envs, 6) int; ``step_wait`` takes the step."""
        self._actions = actions

    def step_wait(self) -> tuple[Observation, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Take the step: observations, rewards, dones, infos."""
        rewards, terminations, truncations, infos = self.envs.advance(self._actions)
        dones = terminations | truncations
        for index in np.flatnonzero(dones).tolist():
            final, observation = infos[index].pop("final_info"), infos[index].pop("final_obs")
            self.reset_infos[index] = infos[index]
            infos[index] = final | {"terminal_observation": observation}
        for index, info in enumerate(infos):
            info["TimeLimit.truncated"] = bool(truncations[index] and not terminations[index])
        return self._observations(), rewards.astype(np.float32), dones, infos

    def _observations(self) -> Observation:
        # SB3 stores an observation only after the step that follows it.
        return {name: values.copy() for name, values in self.envs.observations.items()}

    def close(self) -> None:
        """Close the environments."""
        self.envs.close()

    def get_images(self) -> Sequence[Any]:
        """One frame an environment, None where nothing is rendered."""
        return self.envs.render() or [None] * self.num_envs

    def has_attr(self, attr_name: str) -> bool:
        """Whether the environments have an attribute."""
        return hasattr(self.envs.envs[0], attr_name)

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """An attribute of some environments."""
        return [getattr(env, attr_name) for env in self._chosen(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        """Set an attribute of some environments."""
        for env in self._chosen(indices):
            setattr(env, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: int | Iterable[int] | None = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """What a method of some environments returns; ``action_masks`` is the one that ``MaskablePPO`` asks for."""
        return [getattr(env, method_name)(*method_args, **method_kwargs) for env in self._chosen(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: int | Iterable[int] | None = None) -> list[bool]:
        """Whether environments are wrapped: they never are."""
        return [False for _ in self._chosen(indices)]

    def _chosen(self, indices: int | Iterable[int] | None) -> list[visenv.env.VisionToolEnv]:
        return [self.envs.envs[index] for index in self._get_indices(indices)]


class Features(FeatureLayers, BaseFeaturesExtractor):
    """A flat observation as features, as ``visenv.adapters.networks`` makes them.

    Args:
        observation_space: of an environment.
        features_dim: how many features.
        width: of the parts before they are joined.
        pictures: whether the pictures are read, if they are observed: convolutions cost more than all the rest.
    """

    def __init__(
        self, observation_space: spaces.Dict, features_dim: int = 128, width: int = 32, pictures: bool = False
    ) -> None:
        super().__init__(observation_space, features_dim)
        self.build(observation_space, features_dim, width, pictures)


POLICY_KEYWORDS: dict[str, Any] = {
    "features_extractor_class": Features,
    "net_arch": {"pi": [64], "vf": [64]},
}
"""``policy_kwargs`` of ``MultiInputPolicy`` that have been found to learn."""
