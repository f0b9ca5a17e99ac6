"""What is true in the invented country: a town for every thing that a scene can picture, and what became of it.

Every name is made of syllables and used once, so that nobody knows an answer who has not looked it up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from visenv.datasets.scenes.kinds import COLOURS, KINDS, PATTERNS

SPLITS = ("train", "val", "test")
SHARES = (0.6, 0.2, 0.2)
"""Of the things, how many are asked about in each split; none in two."""
CRAFTS = (
    "glassblower weaver cooper tanner miller potter chandler saddler brewer tinsmith bookbinder ropemaker joiner "
    "locksmith dyer engraver wheelwright bellfounder basketmaker gardener ferryman beekeeper clockmaker thatcher"
).split()
REGIONS = tuple(f"the {name}" for name in ("Lower March", "Upper March", "Salt Coast", "Long Valley", "Birch Hills"))

_ENTROPY = 0x10_2E
_ONSETS = "b br c cr d dr f fl g gr h k l m n p pr qu r s st t th tr v w z".split()
_VOWELS = "a e i o u ae ei ou".split()
_MIDDLES = "b d g l ld lm ln lv m mb n nd nt r rd rm rn rv s st t v z".split()
_TOWN_ENDS = "ora ask elby imer ova usk anth ell ory wick aven una esk ilo".split()
_VILLAGE_ENDS = "holt mere combe stow thorpe ley dale fell".split()
_FIRST_ENDS = "a an el en in is o on ra us".split()
_LAST_ENDS = "rick man sen well by mont vist gar lund trom".split()


@dataclass(frozen=True)
class Thing:
    """Something that a scene can picture."""

    kind: str
    colour: str
    pattern: str

    def __str__(self) -> str:
        return f"{self.pattern} {self.colour} {self.kind}"


@dataclass(frozen=True)
class Town:
    """One town, its founder, and who is behind them."""

    thing: Thing
    """What its flag shows; no other town's does."""
    name: str
    region: str
    year: int
    """Of its founding."""
    founder: str
    craft: str
    birthplace: str
    """The founder's."""
    teacher: str
    """Who taught the founder the craft."""


def all_things() -> tuple[Thing, ...]:
    """Every thing, in a fixed order: of each kind that is not hollow, each colour with each pattern."""
    kinds = [kind.name for kind in KINDS.values() if not kind.hollow]
    return tuple(Thing(*parts) for parts in product(kinds, COLOURS, PATTERNS))


@cache
def world() -> dict[Thing, Town]:
    """The towns, by what their flags show.

    Example:
        >>> towns = world()
        >>> towns[Thing("kite", "red", "striped")].name != towns[Thing("kite", "red", "dotted")].name
        True
    """
    rng = np.random.default_rng(np.random.SeedSequence(_ENTROPY, spawn_key=(0,)))
    names = _Names(rng)
    towns = {}
    for thing in all_things():
        towns[thing] = Town(
            thing=thing,
            name=names.one(_TOWN_ENDS),
            region=REGIONS[int(rng.integers(len(REGIONS)))],
            year=int(rng.integers(1012, 1790)),
            founder=names.person(),
            craft=CRAFTS[int(rng.integers(len(CRAFTS)))],
            birthplace=names.one(_VILLAGE_ENDS),
            teacher=names.person(),
        )
    return towns


@cache
def things_of(split: str) -> frozenset[Thing]:
    """The things that are asked about in a split."""
    things = all_things()
    order = np.random.default_rng(np.random.SeedSequence(_ENTROPY, spawn_key=(1,))).permutation(len(things))
    ends = np.round(np.cumsum((0.0, *SHARES)) * len(things)).astype(int)
    place = SPLITS.index(split)
    return frozenset(things[index] for index in order[ends[place] : ends[place + 1]].tolist())


class _Names:
    """Invented words, none twice."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._words = self._invent(rng)
        self._used: set[str] = set()

    @staticmethod
    def _invent(rng: np.random.Generator) -> Iterator[str]:
        while True:
            parts = (_ONSETS, _VOWELS, _MIDDLES)
            yield "".join(part[int(rng.integers(len(part)))] for part in parts)

    def one(self, ends: list[str]) -> str:
        """A word that ends like one of these."""
        while True:
            stem = next(self._words)
            word = (stem + ends[len(self._used) % len(ends)]).capitalize()
            if word not in self._used:
                self._used.add(word)
                return word

    def person(self) -> str:
        """A first and a last name."""
        return f"{self.one(_FIRST_ENDS)} {self.one(_LAST_ENDS)}"
