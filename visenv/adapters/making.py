"""From an id to the environment that an adapter is a view of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym

import visenv
from visenv.env import VisionToolEnv
from visenv.errors import InvalidData


def make_env(env_id: str, keywords: Mapping[str, Any]) -> VisionToolEnv:
    """An environment without Gymnasium's wrappers.

    Args:
        env_id: as ``gym.make`` takes it.
        keywords: of the environment.

    Raises:
        InvalidData: if the id is of another package.
        VisenvError: as ``gym.make``.

    Example:
        >>> make_env("VisHarness/RefSeg-v0", {"split": "val"}).family
        'refseg'
    """
    env = gym.make(env_id, disable_env_checker=True, **keywords).unwrapped
    if not isinstance(env, VisionToolEnv):
        raise InvalidData(f"Expected an environment of visenv {visenv.__version__}, but {env_id!r} is none.")
    return env
