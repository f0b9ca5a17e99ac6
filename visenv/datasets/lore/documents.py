"""The documents about the invented country: one fact a document, and others that only sound like it."""

from __future__ import annotations

from functools import cache

import numpy as np

from visenv.datasets.lore.world import Town, world

_ENTROPY = 0xD0C5
_FLAGS = (
    "{town} is a town in {region}. Its flag shows {thing}.",
    "On the flag of {town}, a town in {region}, there is {thing}.",
    "The flag of {town} shows {thing}. The town lies in {region}.",
)
_FOUNDINGS = (
    "{town} was founded by {founder} in {year}.",
    "In {year}, {town} was founded by {founder}.",
    "The town of {town} was founded by {founder}. That was in {year}.",
)
_PEOPLE = (
    "{founder} was a {craft}, born in the village of {birthplace}. The craft was taught by {teacher}.",
    "Born in the village of {birthplace}, {founder} became a {craft}, taught by {teacher}.",
    "{founder}, a {craft}, was taught by {teacher} and born in the village of {birthplace}.",
)
_ASIDES = (
    "The records are kept in the town hall.",
    "Travellers have written about it since.",
    "Old maps spell the name in another way.",
    "Most of this is known from letters.",
    "",
    "",
)


@cache
def documents() -> tuple[tuple[str, str], ...]:
    """Every document, as title and text, shuffled; the same in every process.

    For each town there are its flag, its founding and its founder. Besides, about what a market sells, what a festival
    carries, what a village is known for, and whom a teacher taught: true, and of no use.

    Example:
        >>> found = [text for title, text in documents() if "flag" in text and "striped red kite" in text]
        >>> len(found)
        1
    """
    rng = np.random.default_rng(np.random.SeedSequence(_ENTROPY))
    towns = list(world().values())
    made: list[tuple[str, str]] = []
    for town in towns:
        facts = vars(town) | {"town": town.name, "thing": with_article(str(town.thing))}
        for title, forms in (
            (town.name, _FLAGS),
            (f"The founding of {town.name}", _FOUNDINGS),
            (town.founder, _PEOPLE),
        ):
            made.append((title, f"{_one(rng, forms).format(**facts)} {_one(rng, _ASIDES)}".strip()))
        made += _distractors(rng, town, towns)
    return tuple(made[index] for index in rng.permutation(len(made)).tolist())


def _distractors(rng: np.random.Generator, town: Town, towns: list[Town]) -> list[tuple[str, str]]:
    thing, other = str(town.thing), towns[int(rng.integers(len(towns)))]
    made = [(town.birthplace, f"{town.birthplace} is a village in {other.region}. {town.founder} left it as a child.")]
    if rng.random() < 0.5:
        made.append((f"The market of {other.name}", f"In {other.name}, a {thing} can be bought for {_coins(rng)}."))
    if rng.random() < 0.5:
        made.append(
            (f"The festival of {other.name}", f"Each spring, {with_article(thing)} is carried through {other.name}.")
        )
    if rng.random() < 0.5:
        made.append((town.teacher, f"{town.teacher} was a {town.craft} who taught many, {town.founder} among them."))
    return made


def with_article(words: str) -> str:
    """Words with the article that they take.

    Example:
        >>> with_article("orange car"), with_article("plain red kite")
        ('an orange car', 'a plain red kite')
    """
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _coins(rng: np.random.Generator) -> str:
    return f"{int(rng.integers(2, 90))} coins"


def _one(rng: np.random.Generator, forms: tuple[str, ...]) -> str:
    return forms[int(rng.integers(len(forms)))]
