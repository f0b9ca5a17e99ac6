"""RLlib, its new API stack: environments that it knows by name, batched ones too, and a module with masks for PPO.

Example:
    >>> from ray.rllib.algorithms.ppo import PPOConfig
    >>> from visenv.adapters.rllib import BATCHED, module_spec, register
    >>> config = (
    ...     PPOConfig()
    ...     .environment(register("VisHarness/RefSeg-v0", experts="oracle", obs="features"))
    ...     .env_runners(num_env_runners=0, num_envs_per_env_runner=4, **BATCHED)
    ...     .rl_module(rl_module_spec=module_spec(features=64))
    ... )
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

from visenv.adapters.flat import MASK, FlatEnv, FlatVectorEnv
from visenv.adapters.padding import Padding
from visenv.errors import InvalidData, MissingDependency
from visenv.wrappers.stackable import StackableInfo

try:
    import torch
    from ray.rllib.core.columns import Columns
    from ray.rllib.core.distribution.torch.torch_distribution import TorchMultiCategorical
    from ray.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
    from ray.rllib.core.rl_module.rl_module import RLModuleSpec
    from ray.rllib.core.rl_module.torch import TorchRLModule
    from ray.tune import register_env
    from torch import nn

    from visenv.adapters.networks import ObservationFeatures
except ImportError as error:
    raise MissingDependency('visenv.adapters.rllib needs RLlib and torch: pip install "visenv[rllib]".') from error

BATCHED: dict[str, Any] = {"gym_env_vectorize_mode": "vector_entry_point"}
"""Of ``AlgorithmConfig.env_runners``: the environments of one runner ask the experts together."""


def register(
    env_id: str, *, name: str | None = None, padding: Padding | Mapping[str, int] | None = None, **keywords: Any
) -> str:
    """Make an environment known to RLlib, single and batched.

    Args:
        env_id: as ``gym.make`` takes it.
        name: under which it is known; the id itself if left out. A name that is used again gets the new meaning.
        padding: see ``visenv.adapters.flat.FlatEnv``.
        **keywords: of the environment, on which those of ``env_config`` have precedence; ``action_mode`` is
            ``"discrete"`` unless said otherwise.

    Returns:
        The name, for ``AlgorithmConfig.environment``.

    Raises:
        VisenvError: as ``gym.make``: an environment is made now, and closed.
    """
    settings = {"action_mode": "discrete", **keywords}
    make = functools.partial(make_env, env_id, padding, settings)
    make({}).close()
    register_env(name or env_id, make)
    return name or env_id


def make_env(
    env_id: str, padding: Padding | Mapping[str, int] | None, settings: Mapping[str, Any], config: Mapping[str, Any]
) -> FlatEnv | FlatVectorEnv:
    """What RLlib makes under a name.

    Args:
        env_id: as ``gym.make`` takes it.
        padding: see ``visenv.adapters.flat.FlatEnv``.
        settings: of the environment.
        config: RLlib's; its ``num_envs`` says how many are batched, other members are settings, too.
    """
    config = dict(config)
    count = config.pop("num_envs", None)
    merged: dict[str, Any] = {**settings, **config}
    if count is None:
        return FlatEnv(StackableInfo(gym.make(env_id, disable_env_checker=True, **merged)), padding)
    return FlatVectorEnv(gym.make_vec(env_id, num_envs=count, **merged), padding)


class MaskedModule(TorchRLModule, ValueFunctionAPI):
    """A small policy that chooses among what the action masks allow, and a critic.

    ``model_config`` may hold ``features`` (128), how wide the networks are.

    Raises:
        InvalidData: if the actions are not discrete or the observation is padded.
    """

    def setup(self) -> None:
        """Make the layers."""
        space, actions = self.observation_space, self.action_space
        fits = isinstance(space, gym.spaces.Dict) and "memory_state" in space.spaces and MASK in space.spaces
        if not fits or not isinstance(actions, gym.spaces.MultiDiscrete):
            raise InvalidData(f"Expected action_mode='discrete' and no padding, but actions are {actions!r:.80}.")
        assert isinstance(space, gym.spaces.Dict)
        config: Any = self.model_config or {}
        width, parts = int(config.get("features", 128)), actions.nvec.tolist()
        distribution: Any = TorchMultiCategorical
        self.action_dist_cls = distribution.get_partial_dist_cls(space=actions, input_lens=parts)
        self.features = ObservationFeatures(space, width)
        self.policy = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, sum(parts)))
        self.value = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, 1))

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        seen = batch[Columns.OBS]
        logits = self.policy(self.features(seen))
        lowest = torch.finfo(logits.dtype).min
        return {Columns.ACTION_DIST_INPUTS: logits.masked_fill(~seen[MASK].bool(), lowest)}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> torch.Tensor:
        """(batch,) float32."""
        return self.value(self.features(batch[Columns.OBS])).squeeze(-1)


def module_spec(**model_config: Any) -> RLModuleSpec:
    """``MaskedModule`` for ``AlgorithmConfig.rl_module(rl_module_spec=…)``.

    Args:
        **model_config: see ``MaskedModule``.
    """
    return RLModuleSpec(module_class=MaskedModule, model_config=model_config)


def log_metrics(*, episode: Any, metrics_logger: Any, **_: Any) -> None:
    """A callback, ``on_episode_end``: the figures of each episode, and how many were invalid, in the results.

    They stand under ``["env_runners"]["metrics"]``, as means over the last hundred episodes.
    """
    info = episode.get_infos(-1)
    figures = {**info.get("metrics", {}), "invalid": float("invalid" in info)}
    for name, value in figures.items():
        metrics_logger.log_value(("metrics", name), float(value), window=100)


def drop_invalid(*, samples: list[Any], **_: Any) -> None:
    """A callback, ``on_sample_end``: leaves out episodes that an expert's failure has ended.

    Where nothing else would be left they stay, as RLlib would sample for ever; an invalid end pays nothing.
    """
    valid = [episode for episode in samples if not episode.is_done or "invalid" not in episode.get_infos(-1)]
    samples[:] = valid or samples
