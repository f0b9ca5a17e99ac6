"""The words that the classical experts know: nouns, colours, patterns, sizes, and what things are for.

The pointer reads all of it. The grounder reads nouns and colours alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS: dict[str, tuple[str, ...]] = {
    "mug": ("mug", "cup", "teacup", "coffee cup", "coffee mug", "tankard", "beaker"),
    "car": ("car", "automobile", "auto", "motor car", "sedan", "hatchback"),
    "house": ("house", "home", "cottage", "building", "hut", "cabin"),
    "umbrella": ("umbrella", "parasol", "brolly", "sunshade"),
    "fish": ("fish", "goldfish"),
    "tree": ("tree", "oak", "shrub"),
    "key": ("key", "door key", "latchkey"),
    "bottle": ("bottle", "wine bottle", "flask"),
    "lamp": ("lamp", "table lamp", "desk lamp", "reading lamp", "lampshade"),
    "boat": ("boat", "sailboat", "sailing boat", "ship", "yacht", "dinghy"),
    "hat": ("hat", "sun hat", "fedora", "cap"),
    "leaf": ("leaf", "foliage"),
    "star": ("star",),
    "clock": ("clock", "alarm clock", "timepiece"),
    "chair": ("chair", "seat", "stool"),
    "apple": ("apple",),
    "balloon": ("balloon",),
    "mushroom": ("mushroom", "toadstool", "fungus"),
    "anchor": ("anchor",),
    "rocket": ("rocket", "spaceship", "spacecraft", "missile"),
    "kite": ("kite",),
    "bell": ("bell", "hand bell", "church bell"),
    "hammer": ("hammer", "mallet"),
    "shirt": ("shirt", "t shirt", "tshirt", "tee shirt", "blouse", "jersey"),
    "butterfly": ("butterfly", "moth"),
    "flower": ("flower", "blossom", "bloom", "daisy"),
    "crown": ("crown", "coronet", "tiara"),
    "cactus": ("cactus",),
    "frame": ("frame", "picture frame", "photo frame"),
    "hoop": ("hoop", "hula hoop", "ring"),
}
"""Kinds of objects and the nouns for each, singular."""

HYPERNYMS: dict[str, tuple[str, ...]] = {
    "vehicle": ("car", "boat", "rocket"),
    "fruit": ("apple",),
    "plant": ("tree", "leaf", "flower", "cactus", "mushroom"),
    "animal": ("fish", "butterfly"),
    "insect": ("butterfly",),
    "furniture": ("chair", "lamp"),
    "tool": ("hammer", "key"),
    "toy": ("kite", "balloon", "hoop"),
    "clothing": ("shirt", "hat"),
    "garment": ("shirt", "hat"),
    "headgear": ("hat", "crown"),
    "container": ("mug", "bottle"),
}
"""Nouns that stand for several kinds."""

IRREGULAR_PLURALS: dict[str, str] = {
    "leaves": "leaf",
    "cacti": "cactus",
    "fungi": "fungus",
    "fishes": "fish",
    "daisies": "daisy",
    "boxes": "box",
}

USES: dict[str, str] = {
    "mug": "drink coffee tea cocoa sip hot beverage breakfast",
    "car": "drive road motorway petrol passengers steer commute driver traffic work",
    "house": "live lives family dwell residents shelter inhabit move mortgage",
    "umbrella": "rain rains open raining rainy dry wet shower showers weather downpour drizzle",
    "fish": "swim swims gill gills underwater aquarium scales breathes aquatic",
    "tree": "trunk branch branches birds nest nests climb timber squirrels bark",
    "key": "lock unlock locks unlocks opens door keyhole locked",
    "bottle": "wine cork corked pour liquid bar sommelier beer sold drink",
    "lamp": "light lights bulb read night dark lit bright illuminate illuminates shine room",
    "boat": "sail sails sailing sea lake river water float afloat cross harbour row fishermen",
    "hat": "worn wear head sun shade shades face brim",
    "leaf": "autumn falls fall caterpillar eats photosynthesis twig rake tree",
    "star": "christmas decorates night sky twinkle twinkles top wish constellation astronomer",
    "clock": "time tells hour hours wake wakes morning alarm ticks minutes o",
    "chair": "sit sits sitting rest legs table down backrest",
    "apple": "orchard grows cider eat fruit pie pressed bite newton pick snack juice",
    "balloon": "floats party helium inflate blow string air birthday let go pop pops burst bursts prick",
    "mushroom": "spores damp cap gills wood forest soup overnight grows pizza",
    "anchor": "sailor seabed drop drops harbour ship chain sea bed moor mooring port drift drifting holds",
    "rocket": "moon space astronauts astronaut launch launches orbit flies mars planets",
    "kite": "wind windy line fly flies child string breeze flown",
    "bell": "ring rings rung ringing lesson chime chimes sound toll church tower clapper strikes hangs school",
    "hammer": "nail nails drive drives knock pound hit carpenter wood bang hits",
    "shirt": "sleeves sleeve wear button buttoned ironed iron collar torso put dress",
    "butterfly": "wings wing flutters flutter caterpillar cocoon antennae insect turns nectar chrysalis",
    "flower": "bees bee nectar bunch bouquet vase petals mother smell smells pollinate scent pollen",
    "crown": "king queen royal reign wears wear coronation monarch head throne ruler",
    "cactus": "desert spines spikes grows hardly dry prickly water needles watering thorns",
    "frame": "painting picture photo hangs wall hang photograph portrait canvas art",
    "hoop": "spin waist circus lion jumps jump hips hula twirl through",
}
"""Words that go with what a thing is for, of which it is made, or where it is met."""

_COLOURS: dict[str, str] = {
    "red": "red crimson scarlet ruby maroon",
    "orange": "orange tangerine amber",
    "yellow": "yellow golden gold lemon",
    "green": "green emerald olive lime",
    "blue": "blue azure navy cobalt",
    "purple": "purple violet lilac lavender mauve magenta",
    "pink": "pink rose fuchsia",
    "brown": "brown tan chocolate beige",
    "white": "white ivory cream",
    "grey": "grey gray silver",
    "black": "black ebony",
    "teal": "teal turquoise cyan aqua",
}
COLOUR_WORDS: dict[str, str] = {word: name for name, each in _COLOURS.items() for word in each.split()}
"""From a colour word to the name that it counts as."""

_PATTERNS: dict[str, str] = {
    "plain": "plain solid unpatterned patternless uniform",
    "striped": "striped stripes stripy stripe streaked lined banded",
    "dotted": "dotted dots spotted spots polka spotty speckled dot",
    "checked": "checked checkered chequered checks checkerboard check plaid squares",
}
PATTERN_WORDS: dict[str, str] = {word: name for name, each in _PATTERNS.items() for word in each.split()}
"""From a pattern word to its name."""
PATTERNED = frozenset({"patterned", "pattern", "patterns", "decorated"})

_SIZES: dict[str, str] = {
    "large": "large big huge giant great",
    "small": "small little tiny mini miniature",
}
SIZE_WORDS: dict[str, str] = {word: name for name, each in _SIZES.items() for word in each.split()}
"""From a word of size to ``large`` or ``small``."""

GENERIC = frozenset(
    _words(
        "object objects thing things item items something anything one ones everything what whatever shape shapes "
        "figure figures all stuff any"
    )
)
"""Words that stand for an object of any kind."""

NUMBERS: dict[str, int] = {
    name: value
    for value, word in enumerate(_words("one two three four five six seven eight nine ten eleven twelve"), start=1)
    for name in (word, str(value))
} | {"both": 2, "pair": 2}
ORDINALS: dict[str, int] = {
    name: value
    for value, names in enumerate(
        zip(
            _words("first second third fourth fifth sixth seventh eighth ninth tenth"),
            _words("1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th"),
            strict=True,
        ),
        start=1,
    )
    for name in names
} | {"last": -1, "final": -1}

FUNCTION_WORDS = frozenset(
    _words(
        "a an the that which who is are was be been being to of for it its you your we they in on at with by from into "
        "and or used use uses using can could would will have has had do does did not very some so when where while "
        "there s their this these those i me my us our out up off over put"
    )
)


def singular(word: str) -> str:
    """The singular of a plural noun, or the word itself.

    Example:
        >>> [singular(word) for word in ("cherries", "boxes", "leaves", "cars", "glass", "cactus", "houses")]
        ['cherry', 'box', 'leaf', 'car', 'glass', 'cactus', 'house']
    """
    if word in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[word]
    if word.endswith(("ss", "us")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "tuses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and len(word) > 2 else word


@cache
def _noun_table() -> dict[tuple[str, ...], tuple[str, ...]]:
    table: dict[tuple[str, ...], tuple[str, ...]] = {
        tuple(noun.split()): (kind,) for kind, nouns in NOUNS.items() for noun in nouns
    }
    for noun, kinds in HYPERNYMS.items():
        table.setdefault((noun,), kinds)
    return table


def noun_at(words: Sequence[str], start: int) -> tuple[tuple[str, ...], int]:
    """The kinds that the noun at a place stands for, and how many words it takes; no kind and 0 if there is no noun.

    Args:
        words: lower-case words.
        start: where the noun would begin.

    Example:
        >>> noun_at(["two", "alarm", "clocks"], 1)
        (('clock',), 2)
        >>> noun_at(["red", "car"], 0)
        ((), 0)
    """
    table = _noun_table()
    for length in (3, 2, 1):
        chunk = tuple(words[start : start + length])
        if len(chunk) < length:
            continue
        for noun in (chunk, (*chunk[:-1], singular(chunk[-1]))):
            if noun in table:
                return table[noun], length
    return (), 0


@cache
def _stems(kind: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in USES[kind].split())


def _stem(word: str) -> str:
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def kinds_for_use(words: Sequence[str]) -> tuple[str, ...]:
    """The kinds that a description of a use fits best; none if no word of it is known.

    Each known word votes for the kinds it goes with, the fewer they are the more.

    Args:
        words: lower-case words, such as those of "keeps the rain off".

    Example:
        >>> kinds_for_use(["keeps", "the", "rain", "off"])
        ('umbrella',)
    """
    votes = dict.fromkeys(USES, 0.0)
    for stem in {_stem(word) for word in words if word not in FUNCTION_WORDS}:
        owners = [kind for kind in USES if stem in _stems(kind)]
        for kind in owners:
            votes[kind] += 1 / len(owners)
    best = max(votes.values())
    return tuple(kind for kind, value in votes.items() if best > 0 and value > best - 1e-9)
