"""Views of an environment: text and full-size pictures as the observation, infos that stack, and recording.

Example:
    >>> import gymnasium as gym
    >>> from visenv.wrappers import TextObservation
    >>> env = TextObservation(gym.make("VisHarness/ReasonSeg-v0", experts="oracle", split="val"))
    >>> observation, _ = env.reset(options={"index": 0})
    >>> sorted(observation), len(observation["images"])
    (['images', 'query', 'reply'], 1)
"""

from visenv.wrappers.recording import RecordTrajectories
from visenv.wrappers.stackable import StackableInfo
from visenv.wrappers.text import TextObservation

__all__ = ["RecordTrajectories", "StackableInfo", "TextObservation"]
