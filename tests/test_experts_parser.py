"""Understanding English: hand-written phrases, and how many of the generated queries are understood."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visenv.datasets.scenes.catalogue import KINDS
from visenv.datasets.scenes.dataset import ScenesDataset
from visenv.experts.classical.grounder import understand
from visenv.experts.classical.lexicon import NOUNS, kinds_for_use, noun_at
from visenv.experts.classical.parser import Description, Order, parse
from visenv.experts.classical.pointer import resolve


@dataclass(frozen=True)
class Thing:
    """What the pointer needs to know of an object."""

    box: tuple[float, float, float, float]
    kinds: dict[str, float]
    colours: dict[str, float]
    patterns: dict[str, float]
    area: float = 100.0


def thing(kind, colour, x, y, side=20.0, pattern="plain"):
    return Thing((x, y, x + side, y + side), {kind: 1.0}, {colour: 1.0}, {pattern: 1.0})


ROOM = (
    thing("car", "red", 10, 80),  # 0
    thing("car", "blue", 60, 80, pattern="striped"),  # 1
    thing("car", "red", 120, 80, side=40),  # 2
    thing("house", "yellow", 60, 10),  # 3
    thing("hoop", "green", 120, 10, side=60),  # 4
    thing("apple", "red", 140, 30, side=10),  # 5
    thing("umbrella", "purple", 5, 10),  # 6
    thing("key", "teal", 86, 12, pattern="dotted"),  # 7
)


def meant(text):
    return list(resolve(parse(text), ROOM, (150, 200)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("car", [0, 1, 2]),
        ("the red cars", [0, 2]),
        ("Could you please segment every automobile?", [0, 1, 2]),
        ("something that keeps the rain off", [6]),
        ("I need something purple to stay dry in a shower", [6]),
        ("the object you would unlock a door with", [7]),
        ("the leftmost car", [0]),
        ("the second car from the right", [1]),
        ("the 3rd car from the left", [2]),
        ("the last car from the left", [2]),
        ("the two leftmost cars", [0, 1]),
        ("the three largest things", [0, 2, 4]),
        ("the largest red thing", [2]),
        ("the smallest of all the cars", [0]),
        ("big cars", [2]),
        ("the car directly below the house", [0, 1, 2]),
        ("cars to the left of the house", [0]),
        ("what is inside the hoop?", [5]),
        ("the thing around the apple", [4]),
        ("the key next to the house", [7]),
        ("the car closest to the umbrella", [0]),
        ("cars that aren't red", [1]),
        ("all cars except the blue ones", [0, 2]),
        ("cars without stripes", [0, 2]),
        ("non-red cars", [1]),
        ("cars that are neither blue nor purple", [0, 2]),
        ("anything but cars", [3, 4, 5, 6, 7]),
        ("the house and the umbrella", [3, 6]),
        ("the red car and every apple", [0, 2, 5]),
        ("red or blue cars", [0, 1, 2]),
        ("cars not to the left of the house", [1, 2]),
        ("the turquoise key with dots", [7]),
        ("vehicles", [0, 1, 2]),
        ("red things in the left half of the picture", [0]),
        ("the apple on the right side of the image", [5]),
        ("objects bigger than the house", [2, 4]),
        ("the boat", []),
        ("the green car", []),
        ("the car to the left of the boat", []),
        ("", []),
        ("zażółć gęślą jaźń", []),
        ("quel est le chat sur la table", []),
    ],
)
def test_phrases_mean_what_a_reader_expects(text, expected):
    assert meant(text) == expected


def test_an_ordinal_belongs_to_the_anchor_that_it_stands_in():
    phrase = parse("the key beside the second car from the right")
    assert phrase.orders == ()
    assert phrase.relations[0].anchor.orders == (Order("right", 2),)


def test_a_nest_of_relations_is_read_from_the_inside():
    assert meant("the umbrella left of the house below the apple") == []
    assert parse("the red mug").description == Description(("mug",), ("red",))


@pytest.mark.parametrize("family", ["reasonseg", "grefseg", "refseg", "refcount"])
@pytest.mark.parametrize(("difficulty", "least"), [(1, 0.95), (3, 0.9)])
def test_generated_queries_are_understood(family, difficulty, least):
    data = ScenesDataset(family, "val", difficulty)
    right = 0
    for index in range(30):
        rendered, question = data.explain(index)
        things = [
            Thing(o.box, dict.fromkeys(kinds_of(o.kind), 1.0), {named(o.colour): 1.0}, {o.pattern: 1.0}, o.area)
            for o in rendered.scene.objects
        ]
        found = resolve(parse(question.text), things, rendered.scene.size[::-1])
        right += tuple(found) == tuple(sorted(question.targets))
    assert right / 30 >= least


def kinds_of(noun):
    return noun_at(noun.split(), 0)[0]


def named(colour):
    return {"cyan": "teal"}.get(colour, colour)


def test_every_kind_of_the_scenes_has_its_words():
    for kind in KINDS.values():
        (name,) = kinds_of(kind.name)
        assert kinds_of(kind.plural) == (name,)
        assert name in NOUNS
        for purpose in kind.purposes:
            assert parse(f"something {purpose}").description.kinds == (name,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red car", (("car",), "red")),
        ("cars", (("car",), None)),
        ("the second red car from the left", (("car",), "red")),
        ("the striped red car that isn't blue", (("car",), "red")),
        ("the house left of the red car", (("house",), None)),
        ("something that keeps the rain off", ((), None)),
        ("blue things", ((), "blue")),
        ("xyzzy", ((), None)),
    ],
)
def test_the_grounder_reads_a_colour_and_a_noun_and_no_more(text, expected):
    assert understand(text) == expected


def test_uses_are_told_by_their_words():
    assert kinds_for_use("to hammer in a nail".split()) == ("hammer",)
    assert kinds_for_use(["qwertz"]) == ()


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=120))
def test_any_text_is_read_without_an_error(text):
    assert set(resolve(parse(text), ROOM, (150, 200))) <= set(range(len(ROOM)))


WORDS = (
    "the red blue car cars house left right of to from second largest not without stripes and or inside next nearest "
    "something that keeps rain off thing objects , in half picture every 3rd two top"
).split()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=14))
def test_any_jumble_of_known_words_is_read_without_an_error(parts):
    assert set(resolve(parse(" ".join(parts)), ROOM, (150, 200))) <= set(range(len(ROOM)))
