"""Text and full-size pictures as the observation."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces

from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.spaces import AnyText, PixelsSpace

TextView = dict[str, Any]


def vision_env(env: gym.Env[Any, Any]) -> VisionToolEnv:
    """The vision environment inside any wrappers.

    Raises:
        InvalidData: if it is another kind of environment.
    """
    inner = env.unwrapped
    if not isinstance(inner, VisionToolEnv):
        raise InvalidData(f"Expected an environment of visenv (a VisionToolEnv), but got {type(inner).__name__}.")
    return inner


class TextObservation(gym.ObservationWrapper[TextView, Any, Any], gym.utils.RecordConstructorArgs):
    """The query, the last reply, and every picture in view at full size.

    Nothing is shrunk or padded: ``{"query": str, "reply": str, "images": tuple of (H, W, 3) uint8}``, the images oldest
    first. ``reply`` is empty at the start. What was said before stands in ``episode.messages()``.

    Args:
        env: an environment of visenv, wrapped or not.

    Raises:
        InvalidData: if it is another kind of environment.

    Example:
        >>> env = TextObservation(gym.make("VisHarness/RefCount-v0", experts="oracle", split="val"))
        >>> observation, info = env.reset(options={"index": 0})
        >>> observation["query"] == info["query"], observation["reply"]
        (True, '')
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        gym.utils.RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._vision = vision_env(env)
        self.observation_space = spaces.Dict(
            {"query": AnyText(), "reply": AnyText(), "images": spaces.Sequence(PixelsSpace())}
        )

    def observation(self, observation: Any) -> TextView:
        """Replace an observation by what stands in the episode."""
        episode = self._vision.episode
        reply = episode.transcript[-1].reply if episode.transcript else ""
        images = tuple(picture.pixels.copy() for picture in episode.visible())
        return {"query": episode.query, "reply": reply, "images": images}
