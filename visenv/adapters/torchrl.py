"""TorchRL: environments of it, single or batched, in every action mode, and a masked actor and a critic for PPO.

Example:
    >>> from visenv.adapters.torchrl import make_env
    >>> env = make_env("VisHarness/RefSeg-v0", num_envs=3, experts="oracle", obs="features")
    >>> _ = env.set_seed(0)
    >>> rollout = env.rollout(4, break_when_any_done=False)
    >>> rollout.shape, rollout["action"].shape, rollout["next", "episode_reward"].shape
    (torch.Size([3, 4]), torch.Size([3, 4, 6]), torch.Size([3, 4, 1]))
    >>> env.close()
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np

from visenv.adapters.flat import MASK, FlatEnv, FlatVectorEnv
from visenv.adapters.padding import Padding
from visenv.errors import InvalidData, MissingDependency

try:
    import torch
    from tensordict import TensorDictBase
    from tensordict.nn import TensorDictModule
    from torch import nn
    from torchrl.data import Binary, Composite
    from torchrl.envs import GymWrapper, TransformedEnv
    from torchrl.envs.gym_like import BaseInfoDictReader
    from torchrl.envs.transforms import ActionMask, Compose, InitTracker, RewardSum
    from torchrl.modules import ProbabilisticActor, ValueOperator

    from visenv.adapters.networks import ObservationFeatures
except ImportError as error:
    raise MissingDependency('visenv.adapters.torchrl needs TorchRL: pip install "visenv[torchrl]".') from error

FLAGS = ("error", "invalid")


def make_env(
    env_id: str,
    num_envs: int | None = None,
    *,
    padding: Padding | Mapping[str, int] | None = None,
    device: Any = None,
    **keywords: Any,
) -> TransformedEnv:
    """An environment of TorchRL.

    Its data hold ``episode_reward``, the sum so far; ``error``, whether the turn was faulty; and ``invalid``, whether
    an expert's failure ended the episode, which may then be dropped. Random actions heed ``action_mask``.

    Args:
        env_id: as ``gym.make`` takes it.
        num_envs: so many episodes at once, whose expert calls are batched; None for one, without a batch dimension.
        padding: see ``visenv.adapters.flat.FlatEnv``.
        device: of the tensors.
        **keywords: of the environment; ``action_mode`` is ``"discrete"`` unless said otherwise.

    Raises:
        VisenvError: as ``gym.make``.
    """
    settings = {"action_mode": "discrete", **keywords}
    env: gym.Env[Any, Any] | gym.vector.VectorEnv[Any, Any, Any]
    if num_envs is None:
        env = gym.make(env_id, disable_env_checker=True, **settings)
    else:
        env = gym.make_vec(env_id, num_envs=num_envs, **{**settings, "autoreset_mode": "disabled"})
    made = TransformedEnv(VisionEnv(env, padding=padding, device=device), Compose(InitTracker(), RewardSum()))
    if settings["action_mode"] == "discrete":
        made.append_transform(ActionMask())
    return made


class VisionEnv(GymWrapper):
    """TorchRL's own ``GymWrapper`` over a flat environment.

    Actions are, in discrete mode, six whole numbers; in structured mode a ``Composite`` under ``action``, as
    ``visenv.adapters.flat`` has it; in text mode a string (a ``NonTensor``).

    Args:
        env: an environment of visenv or batched ones (with ``autoreset_mode="disabled"``), flat or not.
        padding: see ``visenv.adapters.flat.FlatEnv``.
        **keywords: of ``GymWrapper``.

    Raises:
        InvalidData: if it is another kind of environment.
    """

    def __init__(self, env: Any, padding: Padding | Mapping[str, int] | None = None, **keywords: Any) -> None:
        if isinstance(env, gym.vector.VectorEnv):
            flat: Any = env if isinstance(env, FlatVectorEnv) else FlatVectorEnv(env, padding)
            if flat.vision.autoreset_mode is not gym.vector.AutoresetMode.DISABLED:
                raise InvalidData("Expected autoreset_mode='disabled': TorchRL resets by itself.")
            self.single = flat.vision.envs[0]
        else:
            flat = env if isinstance(env, FlatEnv) else FlatEnv(env, padding)
            self.single = flat.vision
        super().__init__(flat, categorical_action_encoding=True, **keywords)
        self.set_info_dict_reader(_Flags(self.batch_size))

    def _make_specs(self, env: Any, batch_size: Any = None) -> None:
        vector = isinstance(env, gym.vector.VectorEnv)
        # TorchRL would take a batch of MultiDiscrete for numbers between bounds, and one of texts for a tuple.
        spaces = SimpleNamespace(
            observation_space=env.single_observation_space if vector else env.observation_space,
            action_space=env.single_action_space if vector else env.action_space,
            unwrapped=env.unwrapped,
        )
        if self.single.action_mode == "text":
            spaces.action_space = self.single.action_space
        super()._make_specs(spaces, batch_size=self.batch_size)
        if self.single.action_mode == "structured":
            self.full_action_spec: Any = Composite(action=self.full_action_spec, shape=self.batch_size)
        if MASK in spaces.observation_space.spaces:
            parts = spaces.observation_space[MASK].shape[0]
            self.observation_spec[MASK] = Binary(parts, shape=(*self.batch_size, parts), dtype=torch.bool)

    def read_action(self, action: Any) -> Any:
        """What a policy chose, as the flat environment takes it."""
        if self.single.action_mode == "structured":
            return _numpy(action["action"])
        if self.single.action_mode != "text":
            return action.cpu().numpy()
        if not self.batch_size:
            return action
        return [action] * self.batch_size[0] if isinstance(action, str) else list(action)


def _numpy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _numpy(part) for name, part in value.items()}
    return value.cpu().numpy()


class _Flags(BaseInfoDictReader):
    """Writes down whether a turn was faulty and whether its episode is invalid."""

    def __init__(self, batch_size: Sequence[int]) -> None:
        self._shape = (*batch_size, 1)
        flags = {name: Binary(1, shape=self._shape, dtype=torch.bool) for name in FLAGS}
        self._spec = Composite(flags, shape=torch.Size(batch_size))

    @property
    def info_spec(self) -> dict[str, Any]:
        return dict(self._spec.items())

    def __call__(self, info: dict[str, Any], tensordict: TensorDictBase) -> TensorDictBase:
        for name in FLAGS:
            values = info.get(name)
            flags = [bool(value) for value in values] if isinstance(values, np.ndarray) else bool(values)
            tensordict.set(name, torch.as_tensor(flags).expand(self._shape[:-1]).reshape(self._shape))
        return tensordict


class MaskedMultiCategorical(torch.distributions.Distribution):
    """Several choices at once, each among as many as its part of ``nvec`` says, none of them masked.

    Args:
        logits: (…, sum of nvec) float, part after part.
        mask: (…, sum of nvec), true where a choice makes sense; all are allowed if left out, or where a part has none.
        nvec: how many choices each part has.
    """

    arg_constraints: dict[str, Any] = {}

    def __init__(self, logits: torch.Tensor, mask: torch.Tensor | None = None, *, nvec: Sequence[int]) -> None:
        allowed = torch.ones_like(logits, dtype=torch.bool) if mask is None else mask.bool().expand_as(logits)
        self._parts = []
        for part, allows in zip(logits.split(list(nvec), -1), allowed.split(list(nvec), -1), strict=True):
            hidden = ~allows & allows.any(-1, keepdim=True)
            lowest = torch.finfo(part.dtype).min
            self._parts.append(torch.distributions.Categorical(logits=part.masked_fill(hidden, lowest)))
        super().__init__(logits.shape[:-1], torch.Size([len(self._parts)]), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> torch.Tensor:
        """(…, parts) int64."""
        return torch.stack([part.sample(torch.Size(sample_shape)) for part in self._parts], -1)

    def log_prob(self, value: torch.Tensor) -> torch.Tensor:
        """(…,) float: of all parts together."""
        chosen = zip(self._parts, value.unbind(-1), strict=True)
        return torch.stack([part.log_prob(choice) for part, choice in chosen]).sum(0)

    def entropy(self) -> torch.Tensor:
        """(…,) float: the sum over the parts."""
        return torch.stack([part.entropy() for part in self._parts]).sum(0)

    @property
    def mode(self) -> torch.Tensor:
        """(…, parts) int64: the likeliest choices."""
        return torch.stack([part.probs.argmax(-1) for part in self._parts], -1)

    @property
    def deterministic_sample(self) -> torch.Tensor:
        """The mode, under the name that TorchRL asks for."""
        return self.mode


class _Head(nn.Module):
    """Values from the members of an observation."""

    def __init__(self, space: gym.spaces.Dict, names: Sequence[str], count: int, features_dim: int) -> None:
        super().__init__()
        self._names = tuple(names)
        self._features = ObservationFeatures(space, features_dim)
        self._values = nn.Sequential(nn.Linear(features_dim, 64), nn.Tanh(), nn.Linear(64, count))

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        return self._values(self._features(dict(zip(self._names, values, strict=True))))


def make_actor_critic(env: TransformedEnv, features_dim: int = 128) -> tuple[ProbabilisticActor, ValueOperator]:
    """A policy that chooses among what its masks allow, and a critic, both small, for losses such as ``ClipPPOLoss``.

    Args:
        env: from ``make_env``, in discrete mode and without padding.
        features_dim: of the networks.

    Raises:
        InvalidData: if it is another kind of environment.
    """
    base = env.base_env if isinstance(env, TransformedEnv) else env
    if not isinstance(base, VisionEnv) or base.single.action_mode != "discrete":
        raise InvalidData(f"Expected what make_env makes, with action_mode='discrete', but got {env!r:.80}.")
    space, nvec = base.single.observation_space, base.single.action_space.nvec.tolist()
    names = list(space.spaces)
    if missing := set(names) - set(env.observation_spec.keys()):
        raise InvalidData(
            f"Expected an environment without padding, but {', '.join(sorted(missing))} are not observed."
        )
    head = TensorDictModule(_Head(space, names, sum(nvec), features_dim), in_keys=names, out_keys=["logits"])
    actor = ProbabilisticActor(
        head,
        in_keys={"logits": "logits", "mask": MASK},
        distribution_class=MaskedMultiCategorical,
        distribution_kwargs={"nvec": nvec},
        return_log_prob=True,
    )
    return actor, ValueOperator(_Head(space, names, 1, features_dim), in_keys=names)
