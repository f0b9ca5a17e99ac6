"""What a training run is made of."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from visenv.errors import InvalidData

CONFIG = "config.json"
EVALUATION = "evaluation.json"
ALGORITHMS = ("ppo", "maskable_ppo")
HYPERPARAMETERS: Mapping[str, float | int] = MappingProxyType(
    {
        "n_steps": 32,
        "batch_size": 128,
        "n_epochs": 6,
        "learning_rate": 1e-3,
        "ent_coef": 0.01,
        "gamma": 0.99,
        "gae_lambda": 0.95,
        "clip_range": 0.2,
    }
)
"""Of PPO, as Stable-Baselines3 names them; found by trying on generated scenes of difficulty 1.

The learning rate falls linearly to a tenth of it. Rollouts are short, as many small updates learn from fewer steps here
than few large ones.
"""
_RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "n_steps": (1, math.inf),
        "batch_size": (2, math.inf),
        "n_epochs": (1, math.inf),
        "learning_rate": (0, math.inf),
        "ent_coef": (0, math.inf),
        "gamma": (0, 1),
        "gae_lambda": (0, 1),
        "clip_range": (0, math.inf),
    }
)
"""Least and most of each."""


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
    steps: int = 49_152
    """Of all environments together; rounded up to whole rollouts."""
    seed: int = 0
    n_envs: int = 16
    eval_episodes: int | None = None
    """Episodes of the evaluation; None for 500, or steps / 32 if that is less."""
    start: str | None = None
    """Folder of a training run whose policy this one begins with, such as one of easier samples; None for chance."""
    imitate: str | None = None
    """A policy whose play is imitated before the first step of PPO, such as ``"scripted"``."""
    demonstrations: int = 1000
    """Episodes that it plays."""
    env: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of the environment, as JSON values."""
    hyperparameters: Mapping[str, float | int] = field(default_factory=dict)
    """That differ from ``HYPERPARAMETERS``."""

    def __post_init__(self) -> None:
        if self.algo not in ALGORITHMS:
            raise InvalidData(f"Expected the algorithm to be one of {', '.join(ALGORITHMS)}, but got {self.algo!r}.")
        for name, least, most in (
            ("steps", 1, math.inf),
            ("seed", 0, 2**32 - 1),
            ("n_envs", 1, math.inf),
            ("eval_episodes", 1, math.inf),
            ("demonstrations", 1, math.inf),
        ):
            value = getattr(self, name)
            if name == "eval_episodes" and value is None:
                continue
            _check_number(name, value, least, most, whole=True)
        for name, kind in (("env_id", str), ("env", Mapping), ("hyperparameters", Mapping)):
            if not isinstance(getattr(self, name), kind):
                raise InvalidData(
                    f"Expected {name} to be a {kind.__name__.lower()}, but got {getattr(self, name)!r:.80}."
                )
        if self.imitate is not None and not isinstance(self.imitate, str):
            raise InvalidData(f"Expected imitate to be the name of a policy, but got {self.imitate!r:.80}.")
        try:
            json.dumps(dict(self.env))
        except (TypeError, ValueError) as error:
            raise InvalidData(f"Expected keywords of the environment that JSON can hold, but {error}.") from error
        unknown = sorted(set(self.hyperparameters) - set(HYPERPARAMETERS))
        if unknown:
            raise InvalidData(f"Expected hyperparameters among {', '.join(HYPERPARAMETERS)}, but got {unknown}.")
        for name, number in self.hyperparameters.items():
            _check_number(f"the hyperparameter {name}", number, *_RANGES[name], whole=_is_whole(name))
        if self.n_envs * self.ppo["n_steps"] < 2:
            raise InvalidData("Expected rollouts of at least 2 steps, but n_envs and n_steps are 1.")

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
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        # Through JSON, so that a tuple is what it will be read as.
        return {**values, "env": json.loads(json.dumps(dict(self.env))), "hyperparameters": self.ppo}

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


def _is_whole(name: str) -> bool:
    return isinstance(HYPERPARAMETERS[name], int)


def _check_number(name: str, value: float, least: float, most: float, *, whole: bool) -> None:
    real = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not real or not least <= value <= most or (whole and not isinstance(value, int)):
        kind = "whole number" if whole else "finite number"
        limits = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise InvalidData(f"Expected {name} to be a {kind} {limits}, but got {value!r}.")
