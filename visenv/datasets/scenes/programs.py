"""Queries as programs over a scene: what they mean, when they are clear, and how they are said.

A program is data. ``evaluate`` says which objects it is about; ``is_clear`` whether every comparison that decides so
has a margin that a viewer can see, so that any sensible reading gives the same objects; ``render`` puts it into
words. Here are those that look at what a thing is; ``comparisons`` has those that compare things with each other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from visenv.datasets.scenes.kinds import KINDS
from visenv.datasets.scenes.language import ANY, EACH, MANY, ONE, SOMETHING, NounPhrase, article, fill, pick
from visenv.datasets.scenes.scene import Scene

Indices = tuple[int, ...]


class Program(ABC):
    """A query. Indices are those of ``scene.objects``, ascending."""

    @abstractmethod
    def evaluate(self, scene: Scene) -> Indices:
        """The objects meant."""

    @abstractmethod
    def is_clear(self, scene: Scene) -> bool:
        """Whether the margins are wide enough for everyone to agree on them."""

    @abstractmethod
    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it, in one of its wordings."""

    def render(self, rng: np.random.Generator, many: bool = False) -> str:
        """An English query, of one thing or of any number of things."""
        phrase = self.phrase(rng)
        if not many:
            return fill(rng, ONE, phrase)
        return fill(rng, EACH if phrase.plural is None or rng.random() < 0.35 else MANY, phrase)


_PATTERN_WORDS = {
    "plain": (("plain",), ("without a pattern",)),
    "striped": (("striped", "stripy"), ("with stripes",)),
    "dotted": (("dotted", "spotted"), ("with dots",)),
    "checked": (("checked", "chequered"), ("with checks",)),
}


@dataclass(frozen=True)
class Select(Program):
    """Everything of a kind, a colour, a pattern, or any of them together.

    Example:
        >>> Select(kind="car", colour="red").phrase(np.random.default_rng(0)).plural
        'red cars'
    """

    kind: str | None = None
    colour: str | None = None
    pattern: str | None = None

    def evaluate(self, scene: Scene) -> Indices:
        """The objects meant."""
        kind, colour, pattern = self.kind, self.colour, self.pattern
        return tuple(
            i
            for i, thing in enumerate(scene.objects)
            if (kind is None or thing.kind == kind)
            and (colour is None or thing.colour == colour)
            and (pattern is None or thing.pattern == pattern)
        )

    def is_clear(self, scene: Scene) -> bool:
        """Always: what a thing is can be seen."""
        return True

    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it."""
        if self.kind is None:
            word = pick(rng, ("object", "object", "thing"))
            phrase = NounPhrase(word, word + "s")
        else:
            phrase = NounPhrase(self.kind, KINDS[self.kind].plural)
        if self.colour is not None:
            phrase = phrase.preceded(self.colour)
        if self.pattern is not None:
            adjectives, complements = _PATTERN_WORDS[self.pattern]
            if rng.random() < 0.7:
                return phrase.preceded(pick(rng, adjectives))
            return phrase.followed(pick(rng, complements))
        return phrase

    def render(self, rng: np.random.Generator, many: bool = False) -> str:
        """An English query; of one thing also in forms that leave open whether it exists."""
        if not many and self.kind is not None and rng.random() < 0.2:
            return fill(rng, ANY, self.phrase(rng))
        return super().render(rng, many)


@dataclass(frozen=True)
class Purpose(Program):
    """What serves the purpose of a kind, without naming the kind.

    Example:
        >>> Purpose("umbrella").render(np.random.default_rng(1))
        'Segment something that you open when it rains.'
    """

    kind: str
    colour: str | None = None

    def evaluate(self, scene: Scene) -> Indices:
        """The objects meant."""
        return Select(self.kind, self.colour).evaluate(scene)

    def is_clear(self, scene: Scene) -> bool:
        """Always: no two kinds serve the same purpose."""
        return True

    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it; it is said of one thing at a time."""
        phrase = NounPhrase(pick(rng, ("object", "thing", "item")), None).followed(pick(rng, KINDS[self.kind].purposes))
        return phrase if self.colour is None else phrase.preceded(self.colour)

    def render(self, rng: np.random.Generator, many: bool = False) -> str:
        """An English query, often of "something"."""
        if many or rng.random() < 0.5:
            return super().render(rng, many)
        purpose = pick(rng, KINDS[self.kind].purposes)
        what = purpose if self.colour is None else f"{self.colour} {purpose}"
        return pick(rng, SOMETHING).format(what=what)


@dataclass(frozen=True)
class Without(Program):
    """Those that are not of a kind, a colour or a pattern: exactly one of the three is given."""

    of: Program
    excluded: Select

    def evaluate(self, scene: Scene) -> Indices:
        """The objects meant."""
        out = set(self.excluded.evaluate(scene))
        return tuple(i for i in self.of.evaluate(scene) if i not in out)

    def is_clear(self, scene: Scene) -> bool:
        """Whether what it chooses among is clear."""
        return self.of.is_clear(scene)

    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it."""
        kind, word = self.excluded.kind, self.excluded.colour
        if self.excluded.pattern is not None:
            word = pick(rng, _PATTERN_WORDS[self.excluded.pattern][0])
        one, many = (f"{article(kind)} {kind}", KINDS[kind].plural) if kind is not None else (word, word)
        is_not, are_not = (("that is not", "that are not"), ("that isn't", "that aren't"))[int(rng.integers(2))]
        return self.of.phrase(rng).followed(f"{is_not} {one}", f"{are_not} {many}")


@dataclass(frozen=True)
class Either(Program):
    """The things of two descriptions together."""

    first: Program
    second: Program

    def evaluate(self, scene: Scene) -> Indices:
        """The objects meant by one or the other."""
        return tuple(sorted({*self.first.evaluate(scene), *self.second.evaluate(scene)}))

    def is_clear(self, scene: Scene) -> bool:
        """Whether both are."""
        return self.first.is_clear(scene) and self.second.is_clear(scene)

    def phrase(self, rng: np.random.Generator) -> NounPhrase:
        """The noun phrase that says it: of one each, or of several each."""
        first, second = self.first.phrase(rng), self.second.phrase(rng)
        if len(second.before) < len(first.before):
            # "The red mugs and keys" may mean red keys; "the keys and red mugs" does not.
            first, second = second, first
        both = None if first.plural is None or second.plural is None else f"{first.plural} and {second.plural}"
        return NounPhrase(f"{first.singular} and every {second.singular}", both)
