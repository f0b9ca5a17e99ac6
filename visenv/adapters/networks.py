"""Small networks over observations, for trainers that bring none for them; they need torch.

Example:
    >>> import gymnasium as gym, torch, visenv
    >>> space = gym.make("VisHarness/RefSeg-v0", experts="oracle", obs="features").observation_space
    >>> features = ObservationFeatures(space, features_dim=64)
    >>> features({name: torch.as_tensor(value) for name, value in space.sample().items()}).shape
    torch.Size([64])
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from visenv.errors import MissingDependency
from visenv.spaces import VOCABULARY

try:
    import torch
    from torch import nn
except ImportError as error:
    raise MissingDependency('visenv.adapters.networks needs torch: pip install "visenv[torchrl]".') from error

PICTURES = ("image", "memory_images")


class FeatureLayers:
    """Layers that turn a flat observation into features, as a part of a torch module.

    There is no language model in them, and pictures are read only if they are asked for. The words of the query and of
    the phrase candidates are embedded together with their places; what is found on the memory's images and the
    detections are read one by one and pooled; the input's own slot, the newest slot, the last calls and the progress
    also stand for themselves, as most decisions need only them.
    """

    def build(self, observation_space: spaces.Dict, features_dim: int, width: int, pictures: bool) -> None:
        """Make the layers.

        Args:
            observation_space: of an environment.
            features_dim: how many features.
            width: of the parts before they are joined.
            pictures: whether pictures, channels first and from 0 to 1, are read, if they are observed.
        """
        members = observation_space.spaces
        self._words = nn.Embedding(VOCABULARY, width // 2, padding_idx=0)
        self._places = nn.Embedding(_size(members["query"], 0), width // 2)
        self._reads = nn.Sequential(nn.Linear(width // 2, width), nn.Tanh())
        slot, found = _size(members["memory_state"], 1), _size(members["detections"], 1)
        self._slots = nn.Sequential(nn.Linear(slot, width), nn.Tanh())
        self._found = nn.Sequential(nn.Linear(found, width), nn.Tanh())
        joined = width + _size(members["phrases"], 0) * 4 + 3 * width + 2 * slot + 2 * width + found + 1
        joined += _size(members["calls"], 0)
        self._phrase = nn.Linear(width, 4)
        self._task = _size(members["task"], 0) if "task" in members else 0
        self._pictures = [name for name in PICTURES if pictures and name in members]
        self._sees = nn.ModuleDict({name: _convolutions(members[name], width) for name in self._pictures})
        joined += self._task + width * len(self._pictures)
        self._joins = nn.Sequential(nn.Linear(joined, features_dim), nn.Tanh())

    def forward(self, observations: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(batch, features_dim) float32."""
        state, found = observations["memory_state"], observations["detections"]
        valid = state[..., :1]
        slots = self._slots(state) * valid
        newest = (valid.sum(dim=1).long() - 1).clamp(0, state.shape[1] - 1)
        newest_state = state.gather(1, newest.unsqueeze(-1).expand(-1, 1, state.shape[-1])).squeeze(1)
        there = (found[..., 4:5] > 0).float()
        rows = self._found(found) * there
        parts = [
            self._read(observations["query"]),
            self._phrase(self._read(observations["phrases"])).flatten(1),
            slots[:, 0],
            slots.amax(dim=1),
            slots.sum(dim=1) / valid.sum(dim=1).clamp(min=1),
            state[:, 0],
            newest_state,
            rows.amax(dim=1),
            rows.sum(dim=1) / there.sum(dim=1).clamp(min=1),
            found[:, 0],
            observations["calls"],
            observations["progress"],
        ]
        if self._task:
            parts.append(observations["task"].float())
        parts += [self._sees[name](observations[name]) for name in self._pictures]
        return self._joins(torch.cat(parts, dim=1))

    def _read(self, ids: torch.Tensor) -> torch.Tensor:
        """Features of texts (…, length) of token ids."""
        ids = ids.long()
        words = self._words(ids) + self._places.weight[: ids.shape[-1]]
        there = (ids > 0).unsqueeze(-1).float()
        return (self._reads(words) * there).sum(dim=-2) / there.sum(dim=-2).clamp(min=1)


def _size(space: spaces.Space[Any], axis: int) -> int:
    return int((space.shape or ())[axis])


def _convolutions(space: spaces.Space[Any], width: int) -> nn.Module:
    channels, side = min(space.shape or ()), max(space.shape or ())
    seen = nn.Sequential(nn.Conv2d(channels, 16, 8, 4), nn.ReLU(), nn.Conv2d(16, 32, 4, 4), nn.ReLU(), nn.Flatten())
    size = seen(torch.zeros(1, channels, side, side)).shape[1]
    return nn.Sequential(seen, nn.Linear(size, width), nn.Tanh())


class ObservationFeatures(FeatureLayers, nn.Module):
    """Features of observations as environments return them, of any number of leading dimensions.

    Args:
        observation_space: of one environment; further members, such as ``action_mask``, are left out.
        features_dim: how many features.
        width: of the parts before they are joined.
        pictures: whether the pictures, (…, S, S, 3) uint8, are read, if they are observed.
    """

    def __init__(
        self, observation_space: spaces.Dict, features_dim: int = 128, width: int = 32, pictures: bool = False
    ) -> None:
        super().__init__()
        self.build(observation_space, features_dim, width, pictures)

    def forward(self, observations: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """(…, features_dim) float32."""
        lead = observations["progress"].shape[:-1]
        flat = {
            name: value.reshape(-1, *value.shape[len(lead) :])
            for name, value in observations.items()
            if value.shape[: len(lead)] == lead
        }
        flat |= {name: flat[name].movedim(-1, 1).float() / 255 for name in self._pictures}
        return super().forward(flat).reshape(*lead, -1)
