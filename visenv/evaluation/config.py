"""What an evaluation is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium as gym

from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.policies import make_policy
from visenv.policies.chat import CHAT, ChatPolicy
from visenv.training import TrainedPolicy
from visenv.wrappers.text import vision_env


@dataclass(frozen=True)
class EvalConfig:
    """Who is evaluated, on what: all that decides what is written, as JSON values.

    Raises:
        InvalidData: if a value is out of range, or is no JSON value.

    Example:
        >>> config = EvalConfig("VisHarness/RefSeg-v0", policy="oracle", episodes=20)
        >>> config.keywords["experts"], config.keywords["split"]
        ('oracle', 'val')
    """

    env_id: str
    """As ``gym.make`` takes it; ``module:ID`` imports the module first, in every process."""
    policy: str = "scripted"
    """A registered name, the folder of a training run, or ``openai:MODEL``."""
    episodes: int | None = None
    """How many; None for one of each sample of the split."""
    seed: int = 0
    """Of the order of samples and of all choices."""
    env: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of ``gym.make``."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of ``visenv.policies.chat.ChatPolicy``, for ``openai:MODEL``."""
    tries: int = 1
    """Episodes about each sample, in a row; ``episodes`` counts samples then."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 1), ("seed", 0), ("tries", 1)):
            value = getattr(self, name)
            if value is None and name == "episodes":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidData(f"Expected {name} to be a whole number of at least {least}, but got {value!r}.")
        if self.options and not self.policy.startswith(CHAT):
            names = ", ".join(self.options)
            raise InvalidData(f"Expected {names} with a policy {CHAT}MODEL alone, but the policy is {self.policy!r}.")
        try:
            plain = json.loads(json.dumps(asdict(self), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise InvalidData(f"Expected settings that can be written as JSON, but {error}.") from error
        object.__setattr__(self, "env", plain["env"])
        object.__setattr__(self, "options", plain["options"])

    @property
    def keywords(self) -> dict[str, Any]:
        """Keywords of ``gym.make``, with what the policy asks of an environment."""
        keywords: dict[str, Any] = {"split": "val"}
        if self.policy == "oracle":
            keywords["experts"] = "oracle"
        if self.policy.startswith(CHAT):
            keywords |= ChatPolicy.env_keywords(self.options)
        elif TrainedPolicy.is_one(self.policy):
            keywords["action_mode"] = "discrete"
        return {**keywords, **self.env, "obs": "features"}

    def make_env(self) -> VisionToolEnv:
        """The environment; whoever makes it closes it.

        Raises:
            VisenvError: if a name is not known, a value out of range, or data cannot be read.
        """
        return vision_env(gym.make(self.env_id, disable_env_checker=True, **self.keywords))

    def make_policy(self) -> Any:
        """The policy, of which every episode plays a shallow copy.

        Raises:
            UnknownName: if there is none of that name.
            InvalidData: if it cannot be made.
        """
        if self.policy.startswith(CHAT):
            return ChatPolicy(self.policy.removeprefix(CHAT), **self.options)
        return TrainedPolicy(self.policy) if TrainedPolicy.is_one(self.policy) else make_policy(self.policy)

    def settings(self) -> dict[str, Any]:
        """All of it as JSON values, as ``from_settings`` takes it; without ``tries`` where there is one a sample."""
        settings = asdict(self)
        if self.tries == 1:
            del settings["tries"]
        return settings

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> EvalConfig:
        """The evaluation that ``settings`` returned.

        Raises:
            InvalidData: if it is none.
        """
        try:
            return cls(**settings)
        except TypeError as error:
            raise InvalidData(f"Expected the settings of an evaluation, but {error}.") from error
