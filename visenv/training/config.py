"""What a training run is made of."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from visenv.errors import InvalidData

CONFIG = "config.json"
ALGORITHMS = ("ppo", "maskable_ppo")
HYPERPARAMETERS: Mapping[str, float | int] = MappingProxyType(
    {
        "n_steps": 64,
        "batch_size": 256,
        "n_epochs": 6,
        "learning_rate": 1e-3,
        "ent_coef": 0.01,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "clip_range": 0.2,
    }
)
"""Of PPO, as Stable-Baselines3 names them; found by trying on generated scenes of difficulty 1."""


@dataclass(frozen=True)
class TrainConfig:
    """What is trained, on what, for how long.

    Raises:
        InvalidData: if a value is out of range.

    Example:
        >>> config = TrainConfig("VisHarness/ReasonSeg-v0", steps=50_000, env={"difficulty": 1})
        >>> config.evaluated, TrainConfig("VisHarness/ReasonSeg-v0", steps=3_200).evaluated
        (500, 100)
    """

    env_id: str
    algo: str = "ppo"
    """``"ppo"``, or ``"maskable_ppo"``, which is told which actions make sense."""
    steps: int = 65_536
    """Of all environments together; rounded up to whole rollouts."""
    seed: int = 0
    n_envs: int = 32
    eval_episodes: int | None = None
    """Episodes of the evaluation; None for 500, or steps / 32 if that is less."""
    env: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of the environment, as JSON values."""
    hyperparameters: Mapping[str, float | int] = field(default_factory=dict)
    """That differ from ``HYPERPARAMETERS``."""

    def __post_init__(self) -> None:
        if self.algo not in ALGORITHMS:
            raise InvalidData(f"Expected the algorithm to be one of {', '.join(ALGORITHMS)}, but got {self.algo!r}.")
        for name, least in (("steps", 1), ("seed", 0), ("n_envs", 1), ("eval_episodes", 1)):
            value = getattr(self, name)
            if name == "eval_episodes" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidData(f"Expected {name} to be a whole number of at least {least}, but got {value!r}.")
        unknown = sorted(set(self.hyperparameters) - set(HYPERPARAMETERS))
        if unknown:
            raise InvalidData(f"Expected hyperparameters among {', '.join(HYPERPARAMETERS)}, but got {unknown}.")
        for name, number in self.hyperparameters.items():
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
                raise InvalidData(f"Expected the hyperparameter {name} to be a finite number, but got {number!r}.")

    @property
    def evaluated(self) -> int:
        """Episodes of the evaluation."""
        return min(500, max(1, self.steps // 32)) if self.eval_episodes is None else self.eval_episodes

    @property
    def ppo(self) -> dict[str, Any]:
        """All hyperparameters, with those left out as found."""
        return {**HYPERPARAMETERS, **self.hyperparameters}

    @property
    def env_keywords(self) -> dict[str, Any]:
        """Of the environment; without pictures and in discrete mode where they say nothing else."""
        return {"obs": "features", "action_mode": "discrete", **self.env}

    @property
    def same_run(self) -> dict[str, Any]:
        """What has to agree for a stopped run to go on; how long it runs and how it is judged may change."""
        return {name: value for name, value in self.to_json().items() if name not in ("steps", "eval_episodes")}

    def to_json(self) -> dict[str, Any]:
        """The configuration as JSON values, with all hyperparameters."""
        return {**asdict(self), "env": dict(self.env), "hyperparameters": self.ppo}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write it into a run's folder."""
        path = Path(folder) / CONFIG
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> TrainConfig:
        """Read the configuration of a run.

        Raises:
            InvalidData: if there is none in the folder, or it cannot be understood.
        """
        path = Path(folder) / CONFIG
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidData(f"Expected the folder of a training run, but {str(path)!r} cannot be read.") from error
        names = {each.name for each in fields(cls)}
        if not isinstance(values, dict) or not {"env_id", "algo"} <= set(values) <= names:
            raise InvalidData(f"Expected a training run's settings in {str(path)!r}, but they are something else.")
        return cls(**values)
