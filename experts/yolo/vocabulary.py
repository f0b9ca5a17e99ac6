"""From a phrase to the classes of a detector that knows only those."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from visenv.errors import InvalidData

_SYNONYMS: dict[str, str] = {
    "person": "man, woman, boy, girl, child, kid, baby, toddler, human, people, folk, lady, guy, gentleman, adult, "
    "pedestrian, player, rider, cyclist, skier, surfer, skateboarder, snowboarder, driver, worker, passenger, tourist, "
    "spectator, chef, waiter, waitress, policeman, officer, soldier, bride, groom, teenager, crowd, someone, somebody",
    "bicycle": "bike, cycle, pushbike",
    "car": "automobile, auto, motor car, sedan, hatchback, suv, taxi, cab, minivan, jeep, limousine, convertible",
    "motorcycle": "motorbike, moped, scooter, motor scooter",
    "airplane": "aeroplane, plane, aircraft, jet, airliner, jetliner, biplane",
    "bus": "coach, minibus, double decker",
    "train": "locomotive, railway train, tram, subway, carriage",
    "truck": "lorry, pickup, pickup truck, van, trailer, fire engine",
    "boat": "ship, sailboat, canoe, kayak, yacht, ferry, vessel, dinghy, rowboat, raft",
    "traffic light": "traffic signal, stoplight, stop light",
    "fire hydrant": "hydrant",
    "stop sign": "",
    "parking meter": "meter",
    "bench": "park bench, pew",
    "bird": "pigeon, seagull, gull, duck, goose, swan, parrot, sparrow, crow, owl, eagle, chicken, hen, flamingo",
    "cat": "kitten, kitty, tomcat",
    "dog": "puppy, pup, hound, poodle, terrier",
    "horse": "pony, foal, mare, stallion, colt",
    "sheep": "lamb, ram, ewe",
    "cow": "cattle, bull, calf, ox, bison, buffalo",
    "elephant": "",
    "bear": "polar bear, grizzly, cub",
    "zebra": "",
    "giraffe": "",
    "backpack": "rucksack, knapsack, back pack",
    "umbrella": "parasol, brolly",
    "handbag": "purse, bag, hand bag, tote",
    "tie": "necktie, bow tie",
    "suitcase": "luggage, baggage",
    "frisbee": "flying disc, disc",
    "skis": "",
    "snowboard": "",
    "sports ball": "ball, football, basketball, soccer ball, tennis ball, volleyball, baseball",
    "kite": "",
    "baseball bat": "bat",
    "baseball glove": "glove, mitt, baseball mitt",
    "skateboard": "",
    "surfboard": "surf board, boogie board",
    "tennis racket": "racket, racquet, tennis racquet",
    "bottle": "flask, wine bottle, water bottle",
    "wine glass": "glass, goblet, champagne glass",
    "cup": "mug, teacup, coffee cup, beaker, tumbler",
    "fork": "",
    "knife": "",
    "spoon": "ladle, teaspoon",
    "bowl": "basin, dish",
    "banana": "",
    "apple": "",
    "sandwich": "burger, hamburger, sub, panini, toastie",
    "orange": "tangerine, clementine, mandarin",
    "broccoli": "",
    "carrot": "",
    "hot dog": "hotdog, sausage, frankfurter",
    "pizza": "pizza slice",
    "donut": "doughnut",
    "cake": "cupcake, birthday cake, pie",
    "chair": "armchair, seat, stool, recliner",
    "couch": "sofa, settee, loveseat",
    "potted plant": "plant, houseplant, house plant, pot plant, flowerpot",
    "bed": "mattress, bunk",
    "dining table": "table, desk",
    "toilet": "loo, urinal",
    "tv": "television, television set, tv set, monitor, screen, tv monitor",
    "laptop": "notebook computer, computer, laptop computer",
    "mouse": "computer mouse",
    "remote": "remote control, controller",
    "keyboard": "computer keyboard",
    "cell phone": "phone, cellphone, mobile phone, mobile, smartphone, telephone, iphone",
    "microwave": "microwave oven",
    "oven": "stove, cooker",
    "toaster": "",
    "sink": "washbasin, wash basin",
    "refrigerator": "fridge, freezer",
    "book": "novel, magazine, paperback, textbook",
    "clock": "alarm clock, wall clock, watch",
    "vase": "flower vase, jar",
    "scissors": "shears",
    "teddy bear": "teddy, stuffed bear, stuffed animal, plush toy",
    "hair drier": "hair dryer, hairdryer, blow dryer",
    "toothbrush": "",
}
_BROADER: dict[str, str] = {
    "vehicle": "car, bus, truck, motorcycle, bicycle, train, boat, airplane",
    "animal": "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe",
    "furniture": "chair, couch, bed, dining table, bench",
    "fruit": "banana, apple, orange",
    "vegetable": "broccoli, carrot",
    "food": "banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake",
    "cutlery": "fork, knife, spoon",
    "utensil": "fork, knife, spoon",
    "appliance": "microwave, oven, toaster, refrigerator",
}


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


SYNONYMS: dict[str, tuple[str, ...]] = {
    name: _split(others) + tuple(word for word, names in _BROADER.items() if name in _split(names))
    for name, others in _SYNONYMS.items()
}
"""The 80 classes of COCO, and what else each is called; a word may stand for several."""

_IRREGULAR = {
    "men": "man",
    "women": "woman",
    "children": "child",
    "policemen": "policeman",
    "ladies": "lady",
    "people": "people",
    "geese": "goose",
    "mice": "mouse",
    "calves": "calf",
    "oxen": "ox",
    "knives": "knife",
    "leaves": "leaf",
    "loaves": "loaf",
    "wolves": "wolf",
    "shelves": "shelf",
    "feet": "foot",
    "teeth": "tooth",
    "buses": "bus",
    "vases": "vase",
    "sandwiches": "sandwich",
    "horses": "horse",
    "houses": "house",
}
_DETERMINERS = frozenset(
    "a an the this that these those all every each any some of my your his her its our their both no".split()
)
_GROUPS = frozenset(
    "group pair bunch number row line lot lots set couple herd flock pack swarm crowd pile stack heap slice piece kind "
    "type sort instance instances example image picture photo rest one ones each all any some most many".split()
)
"""Nouns that count the noun after "of"."""
_ENDS = frozenset(
    "on in at by with without to from near behind beside besides between under underneath below above over against "
    "inside outside around along across through next left right which who whose that where while and or but for "
    "is are was were be being has have had than as there here facing looking standing sitting lying riding holding "
    "wearing carrying walking running parked made closest nearest farthest furthest".split()
)
"""Words after which the noun that a phrase is about has been said."""


class ClassMatcher:
    """Finds the classes that a phrase names.

    What counts is the noun that a phrase is about: the last one before a preposition, a relative clause or the like.
    Words before it ("red", "large") are not understood, and are passed over.

    Args:
        names: of the classes.
        synonyms: further words for classes, by class name; added to those that are known of COCO's classes.

    Raises:
        InvalidData: if the synonyms are no mapping from names of classes to words.

    Example:
        >>> matcher = ClassMatcher(("person", "car", "truck", "hot dog", "dog"), {"truck": ("rig",)})
        >>> [matcher(phrase) for phrase in ("the red cars", "a woman next to a dog", "two rigs", "vehicles", "tree")]
        [(1,), (0,), (2,), (1, 2), ()]
        >>> matcher("hot dogs"), matcher("a pair of dogs")
        ((3,), (4,))
    """

    def __init__(self, names: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> None:
        self.names = tuple(names)
        given = dict(synonyms or {})
        for name, words in given.items():
            if name not in self.names:
                raise InvalidData(
                    f"Expected synonyms for classes of the model ({', '.join(self.names)[:200]}), but got {name!r}."
                )
            if isinstance(words, str) or not all(isinstance(word, str) for word in words):
                raise InvalidData(f"Expected a list of words as synonyms for {name!r}, but got {words!r:.80}.")
        own: dict[tuple[str, ...], set[int]] = {}
        others: dict[tuple[str, ...], set[int]] = {}
        for index, name in enumerate(self.names):
            own.setdefault(_noun(_words(name)), set()).add(index)
            for other in (*SYNONYMS.get(" ".join(_words(name)), ()), *given.get(name, ())):
                others.setdefault(_noun(_words(other)), set()).add(index)
        # A word that is the name of a class means that class alone.
        self._classes = {words: tuple(sorted(found)) for words, found in (others | own).items() if words}
        self._longest = max((len(words) for words in self._classes), default=0)

    def __call__(self, phrase: str) -> tuple[int, ...]:
        """The indices of the classes that a phrase names, in order; none if it names none."""
        words = _words(phrase)
        whole = self._classes.get(_noun(words))
        return whole if whole is not None else self._ending(_head(words))

    def _ending(self, words: Sequence[str]) -> tuple[int, ...]:
        """The classes that the longest run of words at the end names."""
        for length in range(min(self._longest, len(words)), 0, -1):
            found = self._classes.get(_noun(words[-length:]))
            if found is not None:
                return found
        return ()


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", text.lower().replace("'s", " ")))


def _head(words: Sequence[str]) -> tuple[str, ...]:
    """The words up to the noun that a phrase is about."""
    kept: list[str] = []
    for word in words:
        if word == "of" and (not kept or singular(kept[-1]) in _GROUPS or kept[-1] in _GROUPS):
            kept = []
        elif word in ("of", *_ENDS) and (kept or word == "of"):
            break
        elif word not in _DETERMINERS and word not in _ENDS:
            kept.append(word)
    return tuple(kept)


def _noun(words: Sequence[str]) -> tuple[str, ...]:
    """The same noun for singular and plural."""
    return (*words[:-1], singular(words[-1])) if words else ()


def singular(word: str) -> str:
    """The singular of a plural noun, or the word itself.

    Example:
        >>> [singular(word) for word in ("women", "buses", "cherries", "glasses", "horses", "bus", "couches")]
        ['woman', 'bus', 'cherry', 'glass', 'horse', 'bus', 'couch']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith(("ss", "us", "is")) or len(word) < 3:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "uses", "toes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word
