"""From an English phrase to what it asks for: descriptions, relations, orders, negation, use.

The grammar is small and tolerant. Wordings of relations, sides, orders and negation become marks; a phrase is then cut
at its marks; what is left between them is read by the lexicon, and what nobody understands is left out. What follows a
relation is its anchor, up to the next mark; a noun's first reading wins; a use ("something that keeps the rain off") is
looked for after a word that can mean anything.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from visenv.experts.classical.lexicon import (
    COLOUR_WORDS,
    GENERIC,
    NUMBERS,
    ORDINALS,
    PATTERN_WORDS,
    PATTERNED,
    SIZE_WORDS,
    kinds_for_use,
    noun_at,
)
from visenv.experts.classical.wordings import MARKS, SUPERLATIVES, TAILS

LONGEST = 600
"""Characters of a phrase that are read."""


@dataclass(frozen=True)
class Description:
    """What one object must be; an empty field asks for nothing, several values mean any of them."""

    kinds: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()
    patterns: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing at all."""
        return not (self.kinds or self.colours or self.patterns)


@dataclass(frozen=True)
class Order:
    """A place in a row: ``count`` objects from the ``rank``-th on (from 1; -1 is the last), by ``key``."""

    key: str
    """``left``, ``right``, ``top`` or ``bottom`` (counted from that side), ``largest`` or ``smallest``."""
    rank: int = 1
    count: int = 1


@dataclass(frozen=True)
class Relation:
    """How an object must lie to another one."""

    name: str
    """``left``, ``above``, ``inside``, ``around``, ``near``, ``nearest``…: as in ``wordings``."""
    anchor: Phrase
    negated: bool = False


@dataclass(frozen=True)
class Phrase:
    """What a phrase refers to."""

    description: Description = field(default_factory=Description)
    size: str = ""
    """``large`` or ``small``, among those described; or empty."""
    relations: tuple[Relation, ...] = ()
    sides: tuple[str, ...] = ()
    """Halves of the picture: ``left``, ``right``, ``top``, ``bottom``, ``centre``."""
    excluded: tuple[Description, ...] = ()
    orders: tuple[Order, ...] = ()
    """Applied one after the other, after everything else."""
    one: bool = False
    """Whether it speaks of one certain object."""
    understood: bool = True
    """Whether anything in it was understood."""
    union: tuple[Phrase, ...] = ()
    """Further phrases whose objects are meant as well."""


def words(text: str) -> list[str]:
    """A phrase's words: lower case, without accents and punctuation but commas, ``n't`` and ``non-`` as ``not``.

    Example:
        >>> words("The cup that ISN'T red, non-striped!")
        ['the', 'cup', 'that', 'is', 'not', 'red', ',', 'not', 'striped']
    """
    plain = (
        unicodedata.normalize("NFKD", text[:LONGEST].replace("\u2019", "'")).encode("ascii", "ignore").decode().lower()
    )
    plain = re.sub(r"\bcan't|\bcannot", "can not", plain)
    plain = re.sub(r"n't\b", " not", plain)
    plain = re.sub(r"\bnon[- ]?(?=[a-z])", "not ", plain)
    plain = re.sub(r"'s\b|'", " ", plain)
    return re.findall(r"[a-z]+|\d+(?:st|nd|rd|th)?|,", plain)


def parse(text: str) -> Phrase:
    """What a phrase asks for.

    Args:
        text: a phrase or a request in English; of anything else, what can be read.

    Returns:
        A phrase; ``understood`` is false where nothing in it was.

    Example:
        >>> phrase = parse("Find the second red car from the left that isn't striped.")
        >>> phrase.description
        Description(kinds=('car',), colours=('red',), patterns=())
        >>> phrase.excluded
        (Description(kinds=(), colours=(), patterns=('striped',)),)
        >>> phrase.orders
        (Order(key='left', rank=2, count=1),)
        >>> parse("the mug to the left of the blue house").relations[0].name
        'left'
    """
    tokens = _mark(" ".join(words(text)))
    parts = [_phrase(part) for part in _alternatives(tokens)]
    known = [part for part in parts if part.understood]
    if not known:
        return Phrase(understood=False)
    first = known[0]
    if len(known) == 1:
        return first
    return Phrase(**{**first.__dict__, "union": tuple(known[1:])})


def _mark(text: str) -> list[str]:
    """Words and marks, such as ``<relation:left>``, ``<side:top>``, ``<from:left>`` and ``<not>``."""
    for pattern, replacement in (*TAILS, *MARKS):
        text = pattern.sub(replacement, text)
    return text.split()


def _alternatives(tokens: list[str]) -> list[list[str]]:
    """Cut at ``and``, ``or`` and commas where a whole noun phrase stands on the right."""
    parts: list[list[str]] = [[]]
    for index, token in enumerate(tokens):
        joins = token in ("and", "or", ",", "plus")
        if joins and _names_something(parts[-1]) and _starts_noun_phrase(tokens, index + 1):
            parts.append([])
        elif token != ",":
            parts[-1].append(token)
    return [part for part in parts if part]


_BEFORE_NOUNS = frozenset(
    {"and", "or", "the", "a", "an", "every", "each", "all", "any", "both", "those", "these", "of"}
)
_ADJECTIVES = (
    frozenset(COLOUR_WORDS)
    | frozenset(PATTERN_WORDS)
    | frozenset(SIZE_WORDS)
    | frozenset(NUMBERS)
    | frozenset(ORDINALS)
)


def _starts_noun_phrase(tokens: Sequence[str], start: int) -> bool:
    index = start
    while index < len(tokens) and (
        tokens[index] in _BEFORE_NOUNS or tokens[index] in _ADJECTIVES | SUPERLATIVES.keys()
    ):
        if tokens[index] in GENERIC and tokens[index] not in _BEFORE_NOUNS:
            return True
        index += 1
    return index < len(tokens) and (bool(noun_at(tokens, index)[0]) or tokens[index] in GENERIC)


def _names_something(tokens: Sequence[str]) -> bool:
    return any(noun_at(tokens, index)[0] or token in GENERIC for index, token in enumerate(tokens))


def _phrase(tokens: list[str]) -> Phrase:
    """One noun phrase with all that belongs to it."""
    head: list[str] = []
    relations: list[Relation] = []
    excluded: list[Description] = []
    sides: list[str] = []
    counted_from = ""
    index, negated = 0, False
    while index < len(tokens):
        token = tokens[index]
        name, _, value = token.strip("<>").partition(":")
        index += 1
        if not token.startswith("<"):
            head.append(token)
        elif name == "side":
            sides.append(_OPPOSITE[value] if negated else value)
        elif name == "from":
            counted_from = value
        elif name == "not":
            chunk, index = _until_mark(tokens, index)
            if not _names_something(head):
                chunk, noun = _adjectives(chunk)
                head += noun
            if chunk:
                excluded.append(_describe(chunk)[0])
            negated = not chunk
            continue
        elif name == "relation" and _starts_noun_phrase(tokens, index):
            chunk, index = _until_mark(tokens, index)
            if any(word in ORDINALS for word in chunk) and index < len(tokens) and tokens[index].startswith("<from:"):
                chunk, index = [*chunk, tokens[index]], index + 1
            relations.append(Relation(value, _phrase(chunk), negated))
        negated = False
    description, used = _describe(head)
    orders = _orders(head, counted_from)
    size = next((SIZE_WORDS[word] for word in head if word in SIZE_WORDS), "")
    excluded = [each for each in excluded if not each.is_empty]
    return Phrase(
        description=description,
        size=size,
        relations=tuple(relations),
        sides=tuple(sides),
        excluded=tuple(excluded),
        orders=orders,
        one=bool(orders) or _is_singular(head),
        understood=used or not description.is_empty or bool(relations or sides or excluded or orders or size),
    )


_OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top", "centre": "edge"}


def _until_mark(tokens: list[str], start: int) -> tuple[list[str], int]:
    """The words up to the next mark, and where that stands."""
    index = start
    while index < len(tokens) and not tokens[index].startswith("<"):
        index += 1
    return tokens[start:index], index


def _adjectives(tokens: list[str]) -> tuple[list[str], list[str]]:
    """The words before a noun and the rest ("not red | cars"); all and nothing, if no adjective stands before it."""
    for index in range(len(tokens)):
        if noun_at(tokens, index)[0]:
            before, _ = _describe(tokens[:index])
            return (tokens, []) if before.is_empty else (tokens[:index], tokens[index:])
    return tokens, []


def _describe(tokens: Sequence[str]) -> tuple[Description, bool]:
    """What words say an object is, and whether one of them stands for any object."""
    colours: list[str] = []
    patterns: list[str] = []
    kinds: tuple[str, ...] = ()
    generic = -1
    index = 0
    while index < len(tokens):
        token = tokens[index]
        found, length = noun_at(tokens, index)
        if token in COLOUR_WORDS and not (found and length > 1):
            colours.append(COLOUR_WORDS[token])
        elif token in PATTERN_WORDS:
            patterns.append(PATTERN_WORDS[token])
        elif token in PATTERNED:
            patterns.extend(("striped", "dotted", "checked"))
        elif generic >= 0 and token in _USE_STARTS and (used := kinds_for_use(tokens[index + 1 :])):
            return Description(used, tuple(colours), tuple(patterns)), True
        elif found:
            kinds = kinds or found
            index += length - 1
        elif token in GENERIC and generic < 0 and not kinds:
            generic = index
        index += 1
    return Description(kinds, tuple(dict.fromkeys(colours)), tuple(dict.fromkeys(patterns))), generic >= 0


_USE_STARTS = frozenset(
    {"that", "which", "to", "for", "with", "you", "used", "where", "who", "people", "one", "made", "can"}
)


def _orders(tokens: Sequence[str], counted_from: str) -> tuple[Order, ...]:
    """The orders that words speak of, those nearest to the noun first."""
    orders: list[Order] = []
    rank = 0
    for index, token in enumerate(tokens):
        if token in ORDINALS:
            rank = ORDINALS[token]
        elif token in SUPERLATIVES:
            beside = [*tokens[max(index - 1, 0) : index], *tokens[index + 1 : index + 2]]
            count = next((NUMBERS[word] for word in beside if word in NUMBERS), 1)
            orders.append(Order(SUPERLATIVES[token], rank or 1, count))
            rank = 0
    if counted_from:
        orders.append(Order(counted_from, rank or 1))
    elif rank and not orders:
        orders.append(Order("left", rank))
    return tuple(reversed(orders))


_PLURAL_WORDS = frozenset({"all", "every", "each", "both", "any", "everything", "many"}) | {
    word for word, value in NUMBERS.items() if value > 1
}


def _is_singular(tokens: Sequence[str]) -> bool:
    """Whether a phrase speaks of one object: no word of number, and its noun is no plural."""
    if any(token in _PLURAL_WORDS for token in tokens):
        return False
    for index, token in enumerate(tokens):
        kinds, length = noun_at(tokens, index)
        if kinds or token in GENERIC:
            last = tokens[index + max(length, 1) - 1]
            return not last.endswith("s") or last.endswith(("us", "ss"))
    return False
