"""The loop that runs a policy through episodes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import gymnasium as gym
from gymnasium.utils.seeding import np_random

from visenv.driving import drive_all
from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.experts_pool import ExpertPool
from visenv.policies.base import Policy
from visenv.records import tool_of
from visenv.seeding import EpisodePlan, episode_plans
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
    calls: tuple[str, ...] = ()
    """The tool of each turn; ``"Answer"`` or ``"malformed"`` where it was none."""


def rollout(env: gym.Env[Any, Any], policy: Policy, *, episodes: int, seed: int) -> Generator[Finished, None, None]:
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
    check_counts(episodes, seed)
    for plan in islice(episode_plans(vision_env(env).dataset.size, seed), episodes):
        yield play(env, policy, plan)


def play(env: gym.Env[Any, Any], policy: Policy, plan: EpisodePlan) -> Finished:
    """Run a policy through one episode; what comes of it depends on the plan and on no other episode.

    Args:
        env: an environment of visenv, wrapped or not; it is not closed.
        policy: who acts.
        plan: of ``episode_plans``.
    """
    vision = vision_env(env)
    env.reset(seed=plan.env_seed, options=None if plan.sample is None else {"index": plan.sample})
    policy.reset(vision, plan.policy_seed)
    reward, ended = 0.0, False
    while not ended:
        _, paid, terminated, truncated, _ = env.step(policy.act(vision.episode))
        reward += float(paid)
        ended = terminated or truncated
    return _finished(plan.index, vision, reward)


def rollout_batch(
    envs: Sequence[VisionToolEnv], players: Sequence[Policy], pool: ExpertPool, *, episodes: int, seed: int
) -> Iterator[tuple[Finished, VisionToolEnv]]:
    """Run a policy through the episodes that ``rollout`` runs, several at a time, with one call of the experts a turn.

    Args:
        envs: which play side by side; ``VisionToolVectorEnv.envs`` are such. They are not closed.
        players: as many copies of the policy.
        pool: who answers, such as ``VisionToolVectorEnv.pool``.
        episodes: how many to run, at least 1.
        seed: of everything that is drawn.

    Yields:
        What each episode came to when it has ended, the shorter ones first, and the environment that still holds it.

    Raises:
        InvalidData: if there are not as many policies as environments, no episode to run, or the seed is negative.
    """
    if len(envs) != len(players) or not envs:
        raise InvalidData(f"Expected a policy for each of {len(envs)} environments, but got {len(players)}.")
    check_counts(episodes, seed)
    plans = islice(episode_plans(envs[0].dataset.size, seed), episodes)
    playing: dict[int, EpisodePlan] = {}
    rewards = [0.0] * len(envs)
    while True:
        for place, (env, player) in enumerate(zip(envs, players, strict=True)):
            if place not in playing and (plan := next(plans, None)) is not None:
                dataset, number = env.dataset, plan.sample
                env.begin(dataset.draw(np_random(plan.env_seed)[0]) if number is None else dataset.get(number))
                player.reset(env, plan.policy_seed)
                playing[place], rewards[place] = plan, 0.0
        if not playing:
            return
        steps = [envs[place].stepping(players[place].act(envs[place].episode)) for place in playing]
        for place, result in zip(list(playing), drive_all(steps, pool), strict=True):
            rewards[place] += envs[place].finish(result).reward
            if envs[place].episode.done:
                yield _finished(playing.pop(place).index, envs[place], rewards[place]), envs[place]


def check_counts(episodes: int, seed: int) -> None:
    """Make sure that there is an episode to run, and a seed.

    Raises:
        InvalidData: if not.
    """
    if episodes < 1:
        raise InvalidData(f"Expected at least 1 episode, but got {episodes}.")
    if seed < 0:
        raise InvalidData(f"Expected a seed of at least 0, but got {seed}.")


def _finished(index: int, env: VisionToolEnv, reward: float) -> Finished:
    episode = env.episode
    calls = tuple(tool_of(turn.action) or "malformed" for turn in episode.transcript)
    return Finished(index, episode.sample_id, episode.query, reward, episode.outcome, env.metrics(), calls)
