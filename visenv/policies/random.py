"""The floor: actions by chance."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np

from visenv.env import VisionToolEnv
from visenv.episode import Episode
from visenv.errors import InvalidData


class RandomPolicy:
    """Samples the environment's action space, whatever its action mode."""

    name = "random"

    def __init__(self) -> None:
        self._space: gym.Space[Any] | None = None

    def reset(self, env: VisionToolEnv, seed: np.random.SeedSequence) -> None:
        """See ``Policy.reset``; the environment's own space is left as it is."""
        self._space = copy.deepcopy(env.action_space)
        self._space.seed(int(seed.generate_state(1)[0]))

    def act(self, episode: Episode) -> Any:
        """See ``Policy.act``.

        Raises:
            InvalidData: before the first ``reset``.
        """
        if self._space is None:
            raise InvalidData("Expected reset() before act(): the policy does not know the action space yet.")
        return self._space.sample()
