"""Which episodes one seed stands for: their samples, and random streams of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from visenv.errors import InvalidData


@dataclass(frozen=True)
class EpisodePlan:
    """What is settled about an episode before it begins; it depends on the seed and its place, and on no other one."""

    index: int
    """From 0."""
    sample: int | None
    """The number of its sample; None where samples never end: there, ``env_seed`` draws one."""
    env_seed: int
    """For ``reset``."""
    policy_seed: np.random.SeedSequence
    """Of the policy's choices."""


def episode_plans(size: int | None, seed: int, group_size: int = 1) -> Iterator[EpisodePlan]:
    """The episodes of a seed, without end.

    A split that has an end is gone through without repetition, in an order drawn from the seed; after its last sample
    it starts over, in another order.

    Args:
        size: samples in the data set; None where they never end.
        seed: of everything that is drawn, at least 0.
        group_size: so many episodes in a row are about the same sample; their policies' choices differ.

    Raises:
        InvalidData: if the data set is empty.

    Example:
        >>> from itertools import islice
        >>> [plan.sample for plan in islice(episode_plans(3, seed=0), 6)]
        [0, 1, 2, 1, 0, 2]
        >>> [plan.sample for plan in islice(episode_plans(3, seed=0, group_size=2), 6)]
        [0, 0, 1, 1, 2, 2]
    """
    if size is not None and size < 1:
        raise InvalidData("Expected a data set with at least one sample, but this one is empty.")
    root = np.random.SeedSequence(seed)
    chance = np.random.default_rng(root.spawn(1)[0])
    order: Iterator[int] = iter(())
    sample, env_seed, index = None, 0, 0
    while True:
        env_stream, policy_seed = root.spawn(1)[0].spawn(2)
        if index % group_size == 0:
            env_seed = int(env_stream.generate_state(1)[0])
            if size is not None and (sample := next(order, None)) is None:
                order = iter(chance.permutation(size).tolist())
                sample = next(order)
        yield EpisodePlan(index, sample, env_seed, policy_seed)
        index += 1
