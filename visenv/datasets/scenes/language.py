"""English for queries: noun phrases that are put together from the inside out, and the sentences around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


def article(word: str) -> str:
    """``a`` or ``an``, for a word or phrase of this package's vocabulary.

    Example:
        >>> article("apple"), article("house"), article("umbrella")
        ('an', 'a', 'an')
    """
    return "an" if word[:1].lower() in "aeiou" else "a"


def ordinal(n: int) -> str:
    """The ordinal of a number from 1 to 10, in words."""
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    return words[n - 1]


def pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    """One of several wordings."""
    return choices[int(rng.integers(len(choices)))]


@dataclass(frozen=True)
class NounPhrase:
    """A noun with what stands before and after it, without a determiner.

    Example:
        >>> cars = NounPhrase("car", "cars").preceded("red").followed("that is striped", "that are striped")
        >>> cars.singular, cars.plural
        ('red car that is striped', 'red cars that are striped')
    """

    noun: str
    nouns: str | None
    """The plural; None where the phrase is better said of one thing at a time."""
    before: tuple[str, ...] = ()
    after: tuple[tuple[str, str], ...] = ()

    def preceded(self, *words: str) -> NounPhrase:
        """The phrase with words before all it has so far."""
        return replace(self, before=(*words, *self.before))

    def followed(self, one: str, many: str | None = None) -> NounPhrase:
        """The phrase with something after all it has so far, for one thing and for several."""
        return replace(self, after=(*self.after, (one, one if many is None else many)))

    @property
    def singular(self) -> str:
        """The phrase for one thing."""
        return " ".join((*self.before, self.noun, *(one for one, _ in self.after)))

    @property
    def plural(self) -> str | None:
        """The phrase for several things, if there is one."""
        return None if self.nouns is None else " ".join((*self.before, self.nouns, *(many for _, many in self.after)))


ONE = (
    "the {one}",
    "the {one}",
    "Segment the {one}.",
    "Find the {one}.",
    "Mark the {one}.",
    "Where is the {one}?",
    "Show me the {one}.",
    "Please point out the {one}.",
)
ANY = ("{a} {one}", "Is there {a} {one}? Mark it.", "Segment {a} {one}, if there is one.")
MANY = (
    "the {many}",
    "all {many}",
    "all the {many}",
    "Segment all the {many}.",
    "Find all {many}.",
    "Mark the {many}.",
    "Where are the {many}?",
    "Show me all {many}.",
)
EACH = ("every {one}", "each {one}", "Segment every {one}.", "Find every {one}.", "Mark each {one}.")
COUNT_MANY = (
    "{many}",
    "the {many}",
    "all {many}",
    "How many {many} are there?",
    "Count the {many}.",
    "Count all {many}.",
)
COUNT_EACH = ("every {one}", "Count every {one}.")
CATEGORY = ("{one}", "{one}", "{many}", "find every {one}", "Detect all {many}.", "Find all the {many}.")
SOMETHING = (
    "something {what}",
    "Find something {what}.",
    "Show me something {what}.",
    "I need something {what}.",
    "Segment something {what}.",
)


def fill(rng: np.random.Generator, templates: Sequence[str], phrase: NounPhrase) -> str:
    """One of the templates with a phrase in it; those that need a plural are passed over where there is none."""
    usable = [text for text in templates if phrase.plural is not None or "{many}" not in text]
    return pick(rng, usable).format(one=phrase.singular, many=phrase.plural, a=article(phrase.singular))
