"""What an agent is to the loop that runs it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from visenv.env import VisionToolEnv
from visenv.episode import Episode
from visenv.errors import InvalidData
from visenv.registration import Entry, policies
from visenv.types import Answer, ToolCall


@runtime_checkable
class Policy(Protocol):
    """Chooses one action a turn from what an agent gets to see.

    That is the query, the conversation, and the names, sizes and results of images; never the episode's truth.
    """

    name: str
    """As registered."""

    def reset(self, env: VisionToolEnv, seed: np.random.SeedSequence) -> None:
        """Get ready for the episode that an environment has just begun.

        Args:
            env: the environment, for its spaces.
            seed: of this episode's choices; the same seed and episode give the same actions.
        """
        ...

    def act(self, episode: Episode) -> Any:
        """The next action: anything that ``VisionToolEnv.step`` takes.

        Args:
            episode: which has not ended.
        """
        ...


def make_policy(value: str | Policy) -> Policy:
    """A policy from its name, and values for its arguments.

    Args:
        value: a registered name, also with arguments (``"varied:noise=0.5"``); or a policy, which is taken as it is.

    Raises:
        UnknownName: if no policy has that name.
        InvalidData: if it is neither, or the arguments are not its own.

    Example:
        >>> make_policy("scripted").name
        'scripted'
    """
    made = _named(value) if isinstance(value, str) else value
    if not isinstance(made, Policy):
        raise InvalidData(f"Expected a policy's name, or a policy, but got {type(made).__name__}.")
    return made


def _named(text: str) -> Any:
    name, _, written = text.partition(":")
    kind = policies.load(name)
    pairs = [part.partition("=") for part in written.split(",") if part.strip()]
    try:
        return kind(**{key.strip(): _value(value.strip()) for key, _, value in pairs})
    except TypeError as error:
        raise InvalidData(f"Expected policy {text!r} as {name}:argument=value,…, but {error}.") from error


def _value(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


Plan: TypeAlias = Iterator["ToolCall | Answer"]
"""A strategy: yields one action after another, and looks at the episode in between."""


class PlannedPolicy:
    """A policy that follows a plan, which a subclass writes as a generator; deterministic.

    An environment may have plans of its own, under the policy's name in ``VisionToolEnv.plans``: these are followed.
    """

    name = "planned"

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._plan_of: Callable[[Episode], Plan] = self.plan

    def reset(self, env: VisionToolEnv, seed: np.random.SeedSequence) -> None:
        """See ``Policy.reset``."""
        self._plan = None
        own = env.plans.get(self.name)
        self._plan_of = Entry(self.name, own).load() if own else self.plan

    def act(self, episode: Episode) -> ToolCall | Answer:
        """See ``Policy.act``; a plan that has run out answers."""
        if self._plan is None:
            self._plan = self._plan_of(episode)
        return next(self._plan, Answer("done"))

    def plan(self, episode: Episode) -> Plan:
        """Yield the actions of one episode.

        Args:
            episode: whose state has moved on each time the generator is resumed.
        """
        raise NotImplementedError(f"{type(self).__name__} has to say what its plan is.")
