"""Queries over scenes: what each program means and when it is clear, on scenes made by hand; and their English."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from visenv.datasets.scenes import KINDS, Scene, SceneObject, make
from visenv.datasets.scenes.comparisons import Extreme, Nearest, Nth, Relation, Side, Sized, contains, gap
from visenv.datasets.scenes.language import NounPhrase, article, ordinal
from visenv.datasets.scenes.programs import Either, Purpose, Select, Without
from visenv.datasets.scenes.questions import ask


def thing(kind="car", colour="red", pattern="plain", at=(50, 50), size=20, visible=1.0):
    x, y = at
    box = (x - size / 2, y - size / 2, x + size / 2, y + size / 2)
    return SceneObject(kind, colour, pattern, box, area=int(size * size * visible), visible=visible)


def scene(*things, size=(200, 200)):
    return Scene(size, things)


def said(program, many=False, number=400):
    """Every wording that many draws bring."""
    rng = np.random.default_rng(0)
    return {program.render(rng, many) for _ in range(number)}


# Three cars and a house:
#
#     0 red car (30, 40)      1 blue car (100, 40)        2 red striped car (170, 40)
#                             3 green house (100, 150)
STREET = scene(
    thing(at=(30, 40)),
    thing(colour="blue", at=(100, 40)),
    thing(pattern="striped", at=(170, 40)),
    thing("house", "green", at=(100, 150), size=40),
)
CAR, HOUSE = Select(kind="car"), Select(kind="house")


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (Select(), (0, 1, 2, 3)),
        (CAR, (0, 1, 2)),
        (Select(colour="red"), (0, 2)),
        (Select(kind="car", colour="red", pattern="striped"), (2,)),
        (Select(kind="car", colour="green"), ()),
        (Purpose("house"), (3,)),
        (Purpose("car", "blue"), (1,)),
        (Purpose("umbrella"), ()),
        (Without(CAR, Select(colour="red")), (1,)),
        (Without(CAR, Select(pattern="striped")), (0, 1)),
        (Without(Select(colour="red"), CAR), ()),
        (Either(Select(colour="blue"), HOUSE), (1, 3)),
        (Either(CAR, Select(colour="red")), (0, 1, 2)),
    ],
)
def test_attributes_and_sets(program, expected):
    assert program.evaluate(STREET) == expected
    assert program.is_clear(STREET)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (Nth(CAR, 1, "left"), (0,)),
        (Nth(CAR, 2, "left"), (1,)),
        (Nth(CAR, 1, "right"), (2,)),
        (Nth(CAR, 3, "right"), (0,)),
        (Nth(CAR, 4, "left"), ()),
        (Nth(Select(), 1, "bottom"), (3,)),
        (Extreme(Select(), "largest"), (3,)),
        (Side(Select(), "top"), (0, 1, 2)),
        (Side(Select(), "bottom"), (3,)),
        (Relation(CAR, "left of", HOUSE), (0,)),
        (Relation(CAR, "right of", HOUSE), (2,)),
        (Relation(CAR, "above", HOUSE), (0, 1, 2)),
        (Relation(CAR, "below", HOUSE), ()),
        (Relation(HOUSE, "below", Select(colour="blue")), (3,)),
        (Relation(CAR, "next to", HOUSE), ()),
        (Relation(CAR, "inside", HOUSE), ()),
        (Nearest(CAR, HOUSE), (1,)),
        (Sized(Select(), "large"), (3,)),
        (Sized(Select(), "small"), (0, 1, 2)),
    ],
)
def test_comparisons(program, expected):
    assert program.evaluate(STREET) == expected


def test_the_nth_needs_a_margin_to_its_neighbours_only():
    row = scene(thing(at=(20, 50)), thing(at=(60, 50)), thing(at=(64, 50)), thing(at=(150, 50)))
    assert Nth(CAR, 1, "left").is_clear(row)
    assert not Nth(CAR, 2, "left").is_clear(row)
    assert not Nth(CAR, 3, "left").is_clear(row)
    assert Nth(CAR, 4, "left").is_clear(row)
    assert not Nth(CAR, 1, "top").is_clear(row)


@pytest.mark.parametrize(("second", "clear"), [(10, True), (18, False), (20, False)])
def test_the_largest_needs_a_margin(second, clear):
    pair = scene(thing(size=20), thing(at=(120, 50), size=second))
    assert Extreme(CAR, "largest").evaluate(pair) == (0,)
    assert Extreme(CAR, "largest").is_clear(pair) is clear
    assert Extreme(CAR, "smallest").is_clear(pair) is clear


def test_covered_things_are_not_compared_by_size():
    for visible, clear in ((0.8, True), (0.7, False)):
        pair = scene(thing(size=40), thing(at=(120, 50), size=12, visible=visible))
        assert Extreme(CAR, "smallest").is_clear(pair) is clear
        assert Sized(CAR, "small").is_clear(pair) is clear


@pytest.mark.parametrize(("sizes", "clear"), [((10, 10, 20), True), ((10, 14, 20), False), ((10, 12, 15), False)])
def test_small_and_large_need_two_sizes(sizes, clear):
    row = scene(*(thing(at=(20 + 60 * i, 50), size=size) for i, size in enumerate(sizes)))
    assert Sized(CAR, "small").is_clear(row) is clear


def test_a_lone_thing_is_neither_the_largest_nor_small():
    alone = scene(thing())
    assert not Extreme(CAR, "largest").is_clear(alone)
    assert not Sized(CAR, "small").is_clear(alone)
    assert Sized(HOUSE, "small").evaluate(alone) == ()


@pytest.mark.parametrize(("x", "clear"), [(60, True), (87, True), (89, False), (111, False), (113, True)])
def test_halves_need_a_margin_to_the_middle(x, clear):
    assert Side(CAR, "left").is_clear(scene(thing(at=(x, 50)))) is clear


@pytest.mark.parametrize(
    ("x", "holds", "clear"), [(70, True, True), (79, True, True), (90, False, False), (101, False, True)]
)
def test_left_of_is_beyond_the_edge_and_unclear_up_to_the_centre(x, holds, clear):
    pair = scene(thing(at=(x, 20)), thing("house", at=(100, 100), size=40))
    program = Relation(CAR, "left of", HOUSE)
    assert program.evaluate(pair) == ((0,) if holds else ())
    assert program.is_clear(pair) is clear
    mirrored = scene(thing(at=(200 - x, 20)), thing("house", at=(100, 100), size=40))
    assert Relation(CAR, "right of", HOUSE).evaluate(mirrored) == program.evaluate(pair)
    turned = scene(thing(at=(20, x)), thing("house", at=(100, 100), size=40))
    assert Relation(CAR, "above", HOUSE).evaluate(turned) == program.evaluate(pair)
    assert Relation(CAR, "above", HOUSE).is_clear(turned) is clear


@pytest.mark.parametrize(
    ("between", "holds", "clear"), [(2, True, True), (6, True, True), (10, False, False), (19, False, True)]
)
def test_next_to_is_a_gap_of_at_most_a_third(between, holds, clear):
    pair = scene(thing(at=(50, 50)), thing("house", at=(70 + between, 50)))
    program = Relation(CAR, "next to", HOUSE)
    assert program.evaluate(pair) == ((0,) if holds else ())
    assert program.is_clear(pair) is clear


@pytest.mark.parametrize(
    ("x", "holds", "clear"), [(100, True, True), (110, True, True), (135, False, False), (180, False, True)]
)
def test_inside_is_wholly_inside(x, holds, clear):
    pair = scene(thing("hoop", at=(100, 100), size=80), thing(at=(x, 100)))
    program = Relation(CAR, "inside", Select(kind="hoop"))
    assert program.evaluate(pair) == ((1,) if holds else ())
    assert program.is_clear(pair) is clear


@pytest.mark.parametrize(
    "program", [Relation(HOUSE, "above", CAR), Nearest(HOUSE, CAR), Relation(CAR, "above", Select(kind="fish"))]
)
def test_an_anchor_is_one_thing(program):
    assert program.evaluate(STREET) == ()
    assert not program.is_clear(STREET)


def test_an_anchor_is_not_among_those_compared_with_it():
    blue = Select(colour="blue")
    assert Relation(CAR, "left of", blue).evaluate(STREET) == (0,)
    assert Nearest(CAR, blue).evaluate(STREET) == (0,)
    assert not Nearest(CAR, blue).is_clear(STREET)


def test_the_nearest_needs_a_margin():
    far = scene(thing(at=(100, 50)), thing("house", at=(50, 50)), thing(at=(180, 50)))
    close = scene(thing(at=(100, 50)), thing("house", at=(50, 50)), thing(at=(50, 110)))
    assert Nearest(CAR, HOUSE).evaluate(far) == Nearest(CAR, HOUSE).evaluate(close) == (0,)
    assert Nearest(CAR, HOUSE).is_clear(far)
    assert not Nearest(CAR, HOUSE).is_clear(close)


def test_programs_nest_and_an_unclear_part_makes_them_unclear():
    third = Nth(CAR, 3, "left")
    assert Relation(HOUSE, "left of", third).evaluate(STREET) == (3,)
    assert Relation(HOUSE, "left of", third).is_clear(STREET)
    assert not Relation(HOUSE, "below", Nth(CAR, 1, "top")).is_clear(STREET)
    assert not Extreme(Side(Select(), "left"), "largest").is_clear(STREET)


def test_programs_are_values():
    assert Relation(CAR, "left of", HOUSE) == Relation(Select(kind="car"), "left of", Select(kind="house"))
    with pytest.raises(FrozenInstanceError):
        CAR.kind = "house"


def test_gaps_and_containment_of_boxes():
    assert gap((0, 0, 10, 10), (13, 14, 20, 20)) == 5
    assert gap((0, 0, 10, 10), (5, 20, 6, 30)) == 10
    assert gap((0, 0, 10, 10), (9, 9, 20, 20)) == 0
    assert contains((0, 0, 10, 10), (0, 2, 10, 8))
    assert not contains((0, 0, 10, 10), (5, 5, 11, 8))


# --- English ------------------------------------------------------------------------------------------------------


def test_phrases_are_built_from_the_inside_out():
    phrase = NounPhrase("leaf", "leaves").preceded("red").preceded("second").followed("from the left")
    assert phrase.singular == "second red leaf from the left"
    assert phrase.plural == "second red leaves from the left"
    assert NounPhrase("thing", None).plural is None


def test_articles_and_ordinals():
    assert [article(word) for word in ("apple", "orange car", "umbrella", "house", "Anchor")] == [
        "an",
        "an",
        "an",
        "a",
        "an",
    ]
    assert [ordinal(n) for n in (1, 2, 3, 10)] == ["first", "second", "third", "tenth"]


@pytest.mark.parametrize(
    ("program", "many", "one_of_them"),
    [
        (Select(kind="car", colour="red"), False, "the red car"),
        (Select(kind="apple"), False, "Is there an apple? Mark it."),
        (Select(kind="leaf", colour="red"), True, "Find all red leaves."),
        (Select(kind="fish", pattern="striped"), False, "Where is the fish with stripes?"),
        (Select(colour="red"), True, "every red object"),
        (Purpose("umbrella"), False, "something that keeps the rain off"),
        (Purpose("chair", "blue"), False, "Find something blue to sit on."),
        (Purpose("clock"), True, "every object that tells the time"),
        (Sized(CAR, "small"), True, "the little cars"),
        (Extreme(Select(kind="car", colour="red"), "largest"), False, "Mark the biggest red car."),
        (Side(CAR, "top"), True, "all cars in the upper half of the picture"),
        (Side(CAR, "left"), False, "the car on the left side of the image"),
        (Nth(CAR, 1, "left"), False, "the leftmost car"),
        (Nth(CAR, 2, "bottom"), False, "Find the second car from the bottom."),
        (Relation(CAR, "left of", HOUSE), False, "the car to the left of the house"),
        (Relation(CAR, "inside", Select(kind="hoop")), True, "the cars in the middle of the hoop"),
        (Nearest(CAR, Purpose("house")), False, "the car closest to the thing to live in"),
        (Without(CAR, Select(colour="red")), True, "Segment all the cars that are not red."),
        (Without(Select(colour="red"), Select(kind="apple")), False, "the red thing that isn't an apple"),
        (Either(Select(kind="car", colour="red"), HOUSE), True, "all houses and red cars"),
        (Either(CAR, HOUSE), True, "every car and every house"),
    ],
)
def test_wordings(program, many, one_of_them):
    assert one_of_them in said(program, many)


def test_queries_come_in_many_wordings():
    assert len(said(Select(kind="car", colour="red", pattern="striped"))) > 20
    assert len(said(Relation(CAR, "left of", HOUSE))) >= 10


def test_purposes_belong_to_one_kind_and_do_not_name_it():
    purposes = [purpose for kind in KINDS.values() for purpose in kind.purposes]
    assert len(set(purposes)) == len(purposes)
    assert all(len(kind.purposes) >= 2 for kind in KINDS.values())
    for kind in KINDS.values():
        assert not any(kind.name in purpose.split() or kind.plural in purpose.split() for purpose in kind.purposes)
        assert all(purpose.startswith(("to ", "that ", "with ", "for ")) for purpose in kind.purposes)


# --- asking -------------------------------------------------------------------------------------------------------


def test_no_question_is_asked_about_an_empty_scene():
    assert ask(np.random.default_rng(0), scene(), "reasonseg", 1, null=False) is None


def test_a_scene_without_an_answer_gets_no_question():
    twins = scene(thing(at=(100, 100)), thing(at=(101, 101)))
    assert ask(np.random.default_rng(0), twins, "refseg", 0, null=False) is None


def test_a_null_question_means_nothing_in_the_scene():
    for seed in range(20):
        question = ask(np.random.default_rng(seed), STREET, "grefseg", 2, null=True)
        assert question.targets == ()
        assert question.program.evaluate(STREET) == ()
        assert question.program.is_clear(STREET)


def test_every_form_of_query_occurs():
    forms = set()
    for family in ("reasonseg", "grefseg"):
        data = make(family=family, split="train", difficulty=1)
        forms |= {type(data.explain(index)[1].program).__name__ for index in range(150)}
    assert forms == {
        "Select", "Purpose", "Sized", "Side", "Extreme", "Nth", "Relation", "Nearest", "Without", "Either",
    }  # fmt: skip


def test_every_relation_occurs():
    data = make(family="reasonseg", split="train", difficulty=1)
    programs = [data.explain(index)[1].program for index in range(200)]
    found = {program.relation for program in programs if isinstance(program, Relation)}
    assert found == {"left of", "right of", "above", "below", "next to", "inside"}


def test_what_a_query_adds_always_leaves_something_out():
    data = make(family="reasonseg", split="train", difficulty=1)
    for index in range(80):
        rendered, question = data.explain(index)
        program = question.program
        while hasattr(program, "of"):
            assert len(program.of.evaluate(rendered.scene)) > len(program.evaluate(rendered.scene))
            program = program.of
