"""Infos that Gymnasium's own vector environments can stack."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from visenv.observation import Observation


class StackableInfo(gym.Wrapper[Observation, Any, Observation, Any], gym.utils.RecordConstructorArgs):
    """Writes nothing where an info would hold None in one episode and a number or a dict in another.

    Gymnasium's ``SyncVectorEnv`` and ``AsyncVectorEnv`` stack the infos of their environments into arrays by key, and
    fail where the kinds of a key's values differ. Under this wrapper ``info["error"]`` is ``{}`` where nothing was
    wrong, and ``info["outcome"]`` leaves out what it has no value for.

    Args:
        env: an environment of visenv.

    Example:
        >>> envs = gym.make_vec("VisHarness/RefSeg-v0", 2, "sync", wrappers=[StackableInfo])
        >>> envs.reset(seed=0)[1]["error"]
        {}
    """

    def __init__(self, env: gym.Env[Observation, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """See ``gymnasium.Env.reset``."""
        obs, info = self.env.reset(seed=seed, options=options)
        return obs, _stackable(info)

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:
        """See ``gymnasium.Env.step``."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        return obs, reward, terminated, truncated, _stackable(info)


def _stackable(info: dict[str, Any]) -> dict[str, Any]:
    info = info | {"error": info["error"] or {}}
    if "outcome" in info:
        info["outcome"] = {name: value for name, value in info["outcome"].items() if value is not None}
    return info
