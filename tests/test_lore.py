"""The invented country: what its documents say, and questions that nothing else answers."""

import hashlib
import itertools
import subprocess
import sys

import numpy as np
import pytest

from visenv.capabilities import Search
from visenv.datasets.lore import LoreDataset, Thing, all_things, documents, world
from visenv.datasets.lore.questions import ASKED, FORMS, PLACES, answer_of, as_thing, outermost
from visenv.datasets.lore.world import SPLITS, things_of
from visenv.errors import DatasetError
from visenv.experts.search import LocalSearch, make

ENTRY = "visenv.datasets.lore:documents"


def found(query, limit=3):
    return make(ENTRY)[0].run([Search(query, limit)])[0]


def test_every_thing_has_a_town_and_every_name_is_used_once():
    towns = list(world().values())
    assert len(towns) == len(all_things()) == 28 * 8 * 4
    words = [
        word
        for town in towns
        for name in (town.name, town.founder, town.birthplace, town.teacher)
        for word in name.split()
    ]
    assert len(set(words)) == len(words) == 6 * len(towns)


def test_the_documents_are_the_same_in_every_process_and_make_one_index():
    code = f"from {ENTRY.split(':')[0]} import documents; import hashlib\n"
    code += "print(hashlib.sha256(repr(documents()).encode()).hexdigest())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(repr(documents()).encode()).hexdigest()
    assert make(ENTRY)[0] is make(ENTRY)[0]
    assert make(ENTRY)[0].fingerprint == LocalSearch(documents()).fingerprint


def test_each_fact_stands_in_one_document_and_no_question_skips_one():
    """The flag names no founder, the founding neither birthplace nor teacher, and only the founder's own does."""
    texts = [f"{title}. {text}" for title, text in documents()]
    for town in list(world().values())[::60]:
        flags = [text for text in texts if str(town.thing) in text and "flag" in text]
        assert len(flags) == 1
        assert town.name in flags[0]
        founded = [text for text in texts if town.founder in text and town.name in text]
        assert len(founded) == 1
        assert str(town.year) in founded[0]
        for fact in (town.birthplace, town.teacher):
            told = [text for text in texts if fact in text]
            assert any("born in" in text.lower() or "taught" in text for text in told)
            assert not any(town.name in text or str(town.thing) in text for text in told)


def test_things_share_words_with_documents_that_are_of_no_use():
    thing = str(all_things()[100])
    useless = [text for _, text in documents() if thing in text and "flag" not in text]
    everywhere = [text for _, text in documents() if "market" in text or "can be bought" in text]
    assert len(everywhere) > 300
    assert all("bought" in text or "carried" in text for text in useless)


def test_a_good_search_finds_each_document():
    for town in list(world().values())[::7]:
        assert town.name in found(f"flag {town.thing}").titles
        assert f"The founding of {town.name}" in found(f"Who founded {town.name}?").titles
        assert town.founder in found(f"{town.founder} born").titles


@pytest.mark.parametrize("difficulty", range(4))
def test_a_question_is_about_one_thing_in_the_picture(difficulty):
    data = LoreDataset("val", difficulty)
    for index in range(12):
        sample = data.get(index)
        rendered, question = data.explain(index)
        target = rendered.scene.objects[question.target]
        alike = [thing for thing in rendered.scene.objects if thing.kind == target.kind]
        town = world()[as_thing(target)]
        assert sample.truth.answers == (answer_of(town, question.asked),)
        assert question.asked in ASKED[difficulty]
        assert sample.metadata["documents"] == FORMS[question.asked][1] == (1, 2, 3, 3)[difficulty]
        assert target.kind in sample.query
        for word in (target.colour, target.pattern, town.name, sample.truth.answers[0]):
            assert word not in sample.query
        if difficulty < 3:
            assert len(alike) == 1
        else:
            axis, sign = PLACES[question.place]
            assert question.place in sample.query
            assert max(alike, key=lambda thing: sign * thing.centre[axis]) is target
            assert len({as_thing(thing) for thing in alike}) > 1
        assert data.find(sample.sample_id).query == sample.query


def test_no_two_splits_ask_about_the_same_thing():
    parts = [things_of(split) for split in SPLITS]
    assert [len(part) for part in parts] == [538, 179, 179]
    assert set().union(*parts) == set(all_things())
    for one, two in itertools.combinations(parts, 2):
        assert not one & two
    for split, part in zip(SPLITS, parts, strict=True):
        data = LoreDataset(split, 1)
        assert all(data.explain(index)[1].town.thing in part for index in range(8))


def test_a_sample_depends_on_its_number_alone():
    one, two = LoreDataset("train", 2), LoreDataset("train", 2)
    one.get(5)
    first, second = one.get(2**40), two.get(2**40)
    assert (first.image == second.image).all()
    assert (first.query, first.truth) == (second.query, second.truth)
    drawn = LoreDataset("test", 0).draw(np.random.default_rng(3))
    assert drawn.sample_id == LoreDataset("test", 0).draw(np.random.default_rng(3)).sample_id


@pytest.mark.parametrize(("split", "difficulty"), [("dev", 0), ("train", 4), ("train", True), ("train", -1)])
def test_other_splits_and_difficulties_are_refused(split, difficulty):
    with pytest.raises(DatasetError, match="Expected a"):
        LoreDataset(split, difficulty)


@pytest.mark.parametrize(
    "sample_id",
    ["", "scenes/matsearch/d1/val/500", "scenes/matsearch/d1/val/01", "scenes/matsearch/d2/val/1", "x" * 500],
)
def test_identifiers_of_others_are_refused(sample_id):
    data = LoreDataset("val", 1)
    with pytest.raises(DatasetError, match="scenes/matsearch/d1/val/N"):
        data.find(sample_id)
    for number in (-1, 500):
        with pytest.raises(IndexError):
            data.get(number)


def test_outermost_needs_a_margin():
    centres = [(10.0, 50.0), (40.0, 45.0), (90.0, 0.0)]
    assert [outermost(centres, place) for place in PLACES] == [0, 2, 2, None]
    assert outermost(centres, "lowest", margin=5) == 0
    assert outermost(centres[:1], "lowest") == 0


def test_things_read_as_flags_show_them():
    assert str(Thing("kite", "red", "striped")) == "striped red kite"
