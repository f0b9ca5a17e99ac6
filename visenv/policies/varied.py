"""Tries that differ: a policy whose choices are changed by chance, for data that shows more than one way."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from visenv.env import VisionToolEnv
from visenv.episode import Episode
from visenv.errors import InvalidData
from visenv.policies.base import Policy, make_policy
from visenv.types import Answer, Argument, ToolCall, ToolSpec

EXTRA, FAULT, SKIP, FEWER = 0.5, 0.25, 0.125, 0.25
"""How often there is an extra call at the beginning, a faulty call before a good one, a merge that is forgotten, or an
image that is left out: as parts of the noise."""
JITTER = 0.02
"""By how much places are moved, in parts of the picture's longer side (standard deviation)."""
THOUGHTS = {
    "PhraseToBoxMask": "I look for {phrase!r} on {images}.",
    "PhraseToPoint": "It takes more than a noun to say what is meant: I ask for points of {phrase!r} on {images}.",
    "PointToBoxMask": "There are points on {images}: I turn them into masks.",
    "SplitImageIntoPatches": "Things may be too small to be seen in the whole picture: I cut it into patches.",
    "SuperResolution": "I enlarge {images} to see more in them.",
    "MergeBoxMask": "What was found on {images} belongs to the result: I merge it.",
}


Said = TypeVar("Said", ToolCall, Answer)


class VariedPolicy:
    """Plays what another policy plays, with choices changed by chance; the same seed gives the same actions.

    Each argument of a call is changed with the probability ``noise``: a phrase to another one (a word fewer, the whole
    query, another candidate), a choice to another choice, places by a few pixels. Less often there is an extra call at
    the beginning, a call that names an image that does not exist and is then made rightly, an image that is left out,
    or a merge that is forgotten. Some tries come to nothing, which is what screening is for. Calls and answers get a
    short thought that says what is done.

    Args:
        inner: the policy whose choices are changed, or its name; it must not be one that is awaited.
        noise: in [0, 1]; with 0, only thoughts are added.

    Raises:
        UnknownName: if no policy has that name.
        InvalidData: if the noise is out of range.

    Example:
        >>> from visenv.policies import make_policy
        >>> make_policy("varied:noise=0.5")
        VariedPolicy('scripted', noise=0.5)
    """

    name = "varied"

    def __init__(self, inner: str | Policy = "scripted", noise: float = 0.3) -> None:
        if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise <= 1:
            raise InvalidData(f"Expected noise to be a number in [0, 1], but got {noise!r}.")
        self._given, self._noise = make_policy(inner), float(noise)
        self._inner = self._given
        self._chance = np.random.default_rng(0)
        self._phrases: Sequence[str] = ()
        self._next: ToolCall | None = None

    def reset(self, env: VisionToolEnv, seed: np.random.SeedSequence) -> None:
        """See ``Policy.reset``."""
        own, theirs = seed.spawn(2)
        self._inner = copy.copy(self._given)
        self._inner.reset(env, theirs)
        self._chance, self._phrases, self._next = np.random.default_rng(own), tuple(env.phrases), None

    def act(self, episode: Episode) -> Any:
        """See ``Policy.act``."""
        if self._next is not None:
            action, self._next = self._next, None
            return action
        if not episode.turns and self._happens(EXTRA) and (extra := self._extra(episode)) is not None:
            return _with_thought(extra)
        action = self._inner.act(episode)
        if isinstance(action, ToolCall) and action.name.startswith("Merge") and self._happens(SKIP):
            action = self._inner.act(episode)
        if not isinstance(action, ToolCall) or action.name not in episode.config.tools:
            return _with_thought(action) if isinstance(action, Answer) else action
        varied = _with_thought(self._varied(action, episode))
        if self._happens(FAULT) and episode.config.max_turns - episode.turns > 2:
            faulty = _of_a_missing_image(varied, episode.config.tools[action.name].spec)
            if faulty is not None:
                self._next = varied
                return faulty
        return varied

    def __repr__(self) -> str:
        return f"VariedPolicy({self._given.name!r}, noise={self._noise:g})"

    def _happens(self, part: float = 1.0) -> bool:
        return bool(self._chance.random() < self._noise * part)

    def _extra(self, episode: Episode) -> ToolCall | None:
        """A first look for something by a tool that takes images and a phrase."""
        looking = [
            tool.spec
            for tool in episode.config.tools.values()
            if sorted(argument.kind for argument in tool.spec.arguments) == ["images", "phrase"]
        ]
        if not looking or not self._phrases:
            return None
        spec = looking[int(self._chance.integers(len(looking)))]
        values: dict[str, Any] = {"images": ["img_0"], "phrase": self._one_of(self._phrases)}
        return ToolCall(spec.name, {argument.name: values[argument.kind] for argument in spec.arguments})

    def _varied(self, call: ToolCall, episode: Episode) -> ToolCall:
        arguments = dict(call.arguments)
        for argument in episode.config.tools[call.name].spec.arguments:
            if argument.name in arguments:
                arguments[argument.name] = self._value(argument, arguments[argument.name], episode)
        return replace(call, arguments=arguments)

    def _value(self, argument: Argument, value: Any, episode: Episode) -> Any:
        if argument.kind == "images":
            if not isinstance(value, (list, tuple)) or len(value) < 2 or not self._happens(FEWER):
                return value
            left_out = self._place(value)
            return [name for place, name in enumerate(value) if place != left_out]
        known = argument.kind in ("phrase", "choice", "point", "box", "points") and value is not None
        if not known or not self._happens():
            return value
        if argument.kind == "phrase":
            return self._one_of(_rewordings(str(value), episode.query, self._phrases))
        if argument.kind == "choice":
            return self._one_of([choice for choice in argument.choices if choice != value] or [value])
        side = max(episode.workspace.root.size)
        if argument.kind == "points":
            return [[*self._moved(point[:2], side), *point[2:]] for point in value]
        return self._moved(value, side)

    def _moved(self, numbers: Sequence[float], side: int) -> list[float]:
        moved = np.asarray(numbers, np.float64) + self._chance.normal(0, JITTER * side, len(numbers))
        return [max(0.0, round(float(number), 1)) for number in moved]

    def _place(self, values: Sequence[Any]) -> int:
        return int(self._chance.integers(len(values)))

    def _one_of(self, values: Sequence[str]) -> str:
        return values[self._place(values)]


def _rewordings(phrase: str, query: str, candidates: Sequence[str]) -> list[str]:
    """Other ways to ask, of which some mean something else."""
    words = phrase.split()
    shorter = [" ".join(words[1:]), " ".join(words[:-1])] if len(words) > 1 else []
    return [each for each in dict.fromkeys([*shorter, query[:512], *candidates]) if each != phrase] or [phrase]


def _of_a_missing_image(call: ToolCall, spec: ToolSpec) -> ToolCall | None:
    """The call with the name of an image that does not exist; None where it names none."""
    for argument in spec.arguments:
        if argument.kind == "images":
            return replace(call, arguments={**call.arguments, argument.name: ["img_9"]})
        if argument.kind == "image":
            return replace(call, arguments={**call.arguments, argument.name: "img_9"})
    return None


def _with_thought(action: Said) -> Said:
    if action.thought:
        return action
    if isinstance(action, Answer):
        return replace(action, thought="That is all that can be done.")
    known = {name: value for name, value in action.arguments.items() if isinstance(value, str)}
    images = action.arguments.get("images", [])
    named = [name for name in images if isinstance(name, str)] if isinstance(images, (list, tuple)) else []
    known["images"] = ", ".join(named) if len(named) <= 3 else f"{len(named)} images"
    try:
        thought = THOUGHTS.get(action.name, f"I call {action.name}.").format(**known)
    except KeyError:
        thought = f"I call {action.name}."
    return replace(action, thought=thought.replace("<", "").replace(">", ""))
