"""The loop that runs a policy through episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import gymnasium as gym

from visenv.errors import InvalidData
from visenv.policies.base import Policy
from visenv.seeding import episode_plans
from visenv.types import Outcome
from visenv.wrappers.text import vision_env


@dataclass(frozen=True)
class Finished:
    """One episode that has ended."""

    index: int
    """From 0."""
    sample_id: str
    query: str
    reward: float
    """The sum over its turns."""
    outcome: Outcome
    metrics: dict[str, float]


def rollout(env: gym.Env[Any, Any], policy: Policy, *, episodes: int, seed: int) -> Iterator[Finished]:
    """Run a policy, one episode after another.

    A split that has an end is gone through without repetition, in an order drawn from the seed; after its last sample
    it starts over. Of a split without an end, new samples are drawn. Each episode has random streams of its own.

    Args:
        env: an environment of visenv, wrapped or not; it is not closed.
        policy: who acts.
        episodes: how many to run, at least 1.
        seed: of everything that is drawn.

    Yields:
        What each episode came to, when it has ended.

    Raises:
        InvalidData: if there is not at least one episode to run, or the seed is negative.
    """
    if episodes < 1:
        raise InvalidData(f"Expected at least 1 episode, but got {episodes}.")
    if seed < 0:
        raise InvalidData(f"Expected a seed of at least 0, but got {seed}.")
    vision = vision_env(env)
    for plan in islice(episode_plans(vision.dataset.size, seed), episodes):
        env.reset(seed=plan.env_seed, options=None if plan.sample is None else {"index": plan.sample})
        policy.reset(vision, plan.policy_seed)
        reward, ended = 0.0, False
        while not ended:
            _, paid, terminated, truncated, _ = env.step(policy.act(vision.episode))
            reward += float(paid)
            ended = terminated or truncated
        episode = vision.episode
        yield Finished(plan.index, episode.sample_id, episode.query, reward, episode.outcome, vision.metrics())
