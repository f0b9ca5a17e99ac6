"""The generated data set: what is drawn, what is asked, and that the truth is what can be seen."""

import copy
import hashlib
import json
import pickle
import re
import subprocess
import sys
from itertools import combinations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visenv.datasets.base import FAMILIES, Dataset
from visenv.datasets.scenes import COLOURS, FIXED_SIZE, KINDS, PATTERNS, ScenesDataset, draw_object, make
from visenv.datasets.scenes.language import article
from visenv.datasets.scenes.profiles import DENSE_KINDS, profile
from visenv.datasets.scenes.render import draw_item, render_scene
from visenv.errors import DatasetError, UnknownName
from visenv.types import BoxesTruth, MaskTruth, PointsTruth, Sample

REFERRING = ("reasonseg", "grefseg", "refseg")


def digest(sample: Sample) -> str:
    truth = sample.truth
    arrays = {
        MaskTruth: lambda: truth.target.to_dense(),
        BoxesTruth: lambda: truth.boxes,
        PointsTruth: lambda: truth.points,
    }
    text = json.dumps([sample.sample_id, sample.query, sample.task, dict(sample.metadata)], sort_keys=True)
    content = arrays[type(truth)]()
    return hashlib.sha256(text.encode() + sample.image.tobytes() + content.tobytes()).hexdigest()


# --- drawing ------------------------------------------------------------------------------------------------------


def test_enough_kinds_colours_and_patterns():
    assert len(KINDS) >= 20
    assert len(COLOURS) == 8
    assert len(PATTERNS) >= 4
    assert all(len(kind.parts) >= 2 for kind in KINDS.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_is_as_large_as_asked_and_made_of_its_parts(kind):
    for size, rotation in ((96, 0), (40, 25), (13, -40)):
        drawing = draw_object(kind, size, rotation, "blue", "striped")
        assert max(drawing.mask.shape) == size
        assert drawing.rgba.shape == (*drawing.mask.shape, 4)
        assert np.array_equal(drawing.mask, drawing.rgba[:, :, 3] >= 128)
        assert np.array_equal(sum(part.astype(int) for part in drawing.parts.values()), drawing.mask.astype(int))
    drawing = draw_object(kind, 96)
    assert sum(part.sum() >= 10 for part in drawing.parts.values()) >= 2
    assert all(part.sum() < drawing.mask.sum() for part in drawing.parts.values())


def test_no_two_kinds_have_the_same_silhouette():
    silhouettes = {}
    for kind in KINDS:
        mask = draw_object(kind, 64, with_parts=False).mask
        frame = np.zeros((64, 64), dtype=bool)
        top, left = (64 - mask.shape[0]) // 2, (64 - mask.shape[1]) // 2
        frame[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
        silhouettes[kind] = frame
    for a, b in combinations(silhouettes, 2):
        both, either = silhouettes[a] & silhouettes[b], silhouettes[a] | silhouettes[b]
        assert both.sum() / either.sum() < 0.87, (a, b)


def test_colours_are_well_apart_in_lab():
    rgb = np.array([list(COLOURS.values())], dtype=np.float32) / 255
    lab = dict(zip(COLOURS, cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0], strict=True))
    assert min(np.linalg.norm(lab[a] - lab[b]) for a, b in combinations(lab, 2)) >= 35


@pytest.mark.parametrize("kind", KINDS)
def test_the_named_colour_is_the_commonest_hue_of_an_object(kind):
    drawing = draw_object(kind, 80, colour="red")
    hue, saturation, _ = cv2.split(cv2.cvtColor(drawing.rgba[:, :, :3], cv2.COLOR_RGB2HSV))
    vivid = drawing.mask & (saturation > 140)
    red = vivid & ((hue < 8) | (hue > 172))
    assert red.sum() > 0.7 * vivid.sum()
    assert red.sum() > 0.25 * drawing.mask.sum()


def test_patterns_change_pixels_and_not_the_silhouette():
    drawings = {pattern: draw_object("shirt", 60, 10, "blue", pattern) for pattern in PATTERNS}
    for a, b in combinations(PATTERNS, 2):
        assert np.array_equal(drawings[a].mask, drawings[b].mask)
        assert not np.array_equal(drawings[a].rgba, drawings[b].rgba)


def test_a_positive_rotation_turns_clockwise():
    """A quarter turn brings the top of an umbrella to the right."""
    upright, turned = draw_object("umbrella", 80), draw_object("umbrella", 80, 90)
    assert np.nonzero(upright.parts["canopy"])[0].mean() < 25
    assert np.nonzero(turned.parts["canopy"])[1].mean() > turned.mask.shape[1] - 25


def test_drawing_needs_no_chance_and_follows_the_one_it_gets():
    assert np.array_equal(draw_object("car", 50).rgba, draw_object("car", 50).rgba)
    one, same, other = (draw_object("car", 50, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(one.rgba, same.rgba)
    assert one.rgba.shape != other.rgba.shape or not np.array_equal(one.rgba, other.rgba)


@pytest.mark.parametrize("wrong", [{"kind": "dragon"}, {"colour": "mauve"}, {"pattern": "tartan"}])
def test_drawing_something_unknown_says_what_there_is(wrong):
    with pytest.raises(UnknownName, match=next(iter(wrong.values()))):
        draw_object(**({"kind": "car", "size_px": 30} | wrong))


# --- scenes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "difficulty"), [(f, d) for f in ("reasonseg", "refcount") for d in range(4)])
def test_truth_is_what_full_frame_painting_leaves_visible(family, difficulty):
    data = make(family=family, split="train", difficulty=difficulty)
    for index in range(4):
        rendered, question = data.explain(index)
        width, height = rendered.scene.size
        owners = np.zeros((height, width), dtype=int)
        full = []
        for number, placement in enumerate(rendered.placements, start=1):
            mask = draw_item(placement.item, placement.aspect, placement.phase).mask
            frame = np.zeros((height, width), dtype=bool)
            x, y = placement.corner
            frame[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
            owners[frame] = number
            full.append(int(frame.sum()))
        for number, thing in enumerate(rendered.scene.objects, start=1):
            rows, columns = np.nonzero(owners == number)
            assert thing.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert thing.area == len(rows)
            assert thing.visible == len(rows) / full[number - 1]
            assert thing.visible >= profile(family, difficulty).least_visible
        truth = data.get(index).truth
        if family == "reasonseg":
            dense = truth.target.to_dense()
            assert len(dense) == len(question.targets)
            for mask, target in zip(dense, question.targets, strict=True):
                assert np.array_equal(mask, owners == target + 1)
        else:
            assert [owners[int(y), int(x)] - 1 for x, y in truth.points] == list(question.targets)


def test_some_objects_hide_parts_of_others_from_difficulty_one_on():
    shares = []
    for difficulty in range(4):
        look = profile("grefseg", difficulty)
        scenes = [render_scene(np.random.default_rng(seed), look).scene for seed in range(12)]
        shares.append(np.mean([thing.visible < 1 for scene in scenes for thing in scene.objects]))
    assert shares[0] == 0
    assert all(share > 0.02 for share in shares[1:])


def test_every_kind_colour_and_pattern_is_drawn():
    data = make(family="grefseg", split="val", difficulty=1)
    things = [thing for index in range(80) for thing in data.explain(index)[0].scene.objects]
    assert {thing.kind for thing in things} == set(KINDS)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.pattern for thing in things} == set(PATTERNS)


def test_objects_get_smaller_and_more_with_difficulty():
    relative, numbers = [], []
    for difficulty in range(4):
        look = profile("reasonseg", difficulty)
        scenes = [render_scene(np.random.default_rng(seed), look).scene for seed in range(8)]
        relative.append(np.median([t.length * 256 / scene.size[0] for scene in scenes for t in scene.objects]))
        numbers.append(np.mean([len(scene.objects) for scene in scenes]))
    assert relative == sorted(relative, reverse=True)
    assert numbers == sorted(numbers)
    assert relative[1] > 30
    assert relative[2] < 25


@pytest.mark.parametrize("difficulty", range(4))
def test_dense_scenes_hold_100_to_400_objects_of_6_to_20_pixels(difficulty):
    data = make(family="densedet", split="val", difficulty=difficulty)
    rendered, question = data.explain(3)
    sample = data.get(3)
    assert sample.image.shape == (960, 1280, 3)
    assert 100 <= len(rendered.scene.objects) <= 400
    assert {thing.kind for thing in rendered.scene.objects} <= set(DENSE_KINDS)
    lengths = [thing.length for thing in rendered.scene.objects]
    assert min(lengths) >= 6
    assert max(lengths) <= 20
    wanted = {(rendered.scene.objects[i].kind, rendered.scene.objects[i].colour) for i in question.targets}
    matching = [
        thing.box
        for thing in rendered.scene.objects
        if thing.kind == question.program.kind and question.program.colour in (None, thing.colour)
    ]
    assert {kind for kind, _ in wanted} == {question.program.kind}
    assert sample.truth.boxes.tolist() == [list(box) for box in matching]
    assert len(matching) >= 5
    assert sample.task == "detection"
    assert sample.metadata["category"].split()[-1] == question.program.kind


# --- the data set -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_protocol(family):
    data = make(family=family, split="val", difficulty=1)
    assert isinstance(data, Dataset)
    assert data.size == FIXED_SIZE == 500
    assert make(family=family, split="train", difficulty=1).size is None
    assert len(set(data.vocabulary)) == len(data.vocabulary) >= 9
    nouns, colours = set(KINDS), set(COLOURS)
    for phrase in data.vocabulary:
        *colour, noun = phrase.split()
        assert noun in nouns
        assert len(colour) <= 1
        assert colours.issuperset(colour)


@pytest.mark.parametrize("family", REFERRING)
@pytest.mark.parametrize("difficulty", range(4))
def test_samples_are_what_their_family_promises(family, difficulty):
    data = make(family=family, split="test", difficulty=difficulty)
    for index in range(15):
        sample = data.get(index)
        height, width = sample.image.shape[:2]
        assert (width, height) == profile(family, difficulty).canvas
        assert sample.image.dtype == np.uint8
        assert sample.sample_id == f"scenes/{family}/d{difficulty}/test/{index}"
        assert sample.truth.target.shape == (height, width)
        assert sample.truth.is_null == (sample.metadata["targets"] == 0)
        if family == "refseg":
            assert len(sample.truth.target) == 1
        if family == "reasonseg":
            assert len(sample.truth.target) <= 1
        json.dumps(dict(sample.metadata))


def test_null_queries_have_the_stated_share():
    def share(family, difficulty, split, number):
        data = make(family=family, split=split, difficulty=difficulty)
        return sum(data.get(index).truth.is_null for index in range(number)) / number

    assert share("reasonseg", 1, "val", 100) == 0.05
    assert share("reasonseg", 0, "test", 60) == 0.05
    assert share("grefseg", 1, "val", 50) == 0.2
    assert share("refseg", 0, "val", 40) == 0
    assert share("refcount", 0, "val", 40) == 0


def test_grefseg_has_no_one_and_many_targets():
    data = make(family="grefseg", split="val", difficulty=1)
    numbers = [data.get(index).metadata["targets"] for index in range(60)]
    assert min(sum(n == 0 for n in numbers), sum(n == 1 for n in numbers), sum(n > 1 for n in numbers)) >= 8


def test_counts_are_spread():
    data = make(family="refcount", split="val", difficulty=2)
    counts = [len(data.get(index).truth.points) for index in range(40)]
    assert min(counts) >= 1
    assert max(counts) >= 15
    assert len(set(counts)) >= 8


def test_identifiers_find_the_same_bytes():
    for family in FAMILIES:
        data = make(family=family, split="train", difficulty=1)
        for index in (0, 7, 2**40 + 3):
            sample = data.get(index)
            assert digest(data.find(sample.sample_id)) == digest(sample)


def test_drawn_samples_differ_follow_the_generator_and_can_be_found():
    data = make(family="refseg", split="train", difficulty=0)
    rng = np.random.default_rng(5)
    first, second = data.draw(rng), data.draw(rng)
    assert first.sample_id != second.sample_id
    assert digest(data.draw(np.random.default_rng(5))) == digest(first)
    assert digest(data.find(first.sample_id)) == digest(first)
    fixed = make(family="refseg", split="test", difficulty=0)
    drawn = fixed.draw(rng)
    assert digest(fixed.get(int(drawn.sample_id.rsplit("/", 1)[1]))) == digest(drawn)


def test_splits_families_and_difficulties_share_no_picture():
    seen = {}
    for family in REFERRING:
        for split in ("train", "val", "test"):
            for difficulty in range(2):
                for index in range(3):
                    sample = make(family=family, split=split, difficulty=difficulty).get(index)
                    seen[sample.image.tobytes()] = sample.sample_id
    assert len(seen) == 3 * 3 * 2 * 3


def test_other_processes_draw_the_same():
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from test_scenes import digest, make\n"
        "for f, i in (('densedet', 1), ('refcount', 2), ('reasonseg', 3), ('grefseg', 4)):\n"
        "    print(digest(make(family=f, split='val', difficulty=3).get(i)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=None)
    here = [
        digest(make(family=family, split="val", difficulty=3).get(index))
        for family, index in (("grefseg", 4), ("reasonseg", 3), ("refcount", 2), ("densedet", 1))
    ]
    assert done.stdout.split() == here[::-1]


def test_val_is_the_same_for_everyone():
    """The queries of val are fixed: a change here makes results incomparable and needs a line in the CHANGELOG."""
    lines = []
    for family in FAMILIES:
        for difficulty in (0, 1):
            data = make(family=family, split="val", difficulty=difficulty)
            samples = [data.get(index) for index in range(3)]
            lines += [f"{s.sample_id} {s.query} {s.metadata['program']} {s.metadata['targets']}" for s in samples]
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16] == "4650813be4d83834"


def test_data_sets_copy_and_pickle():
    data = make(family="refseg", split="val", difficulty=0)
    for other in (copy.deepcopy(data), pickle.loads(pickle.dumps(data))):
        assert digest(other.get(3)) == digest(data.get(3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"family": "depth"},
        {"split": "testA"},
        {"difficulty": 4},
        {"difficulty": -1},
        {"difficulty": True},
        {"difficulty": "1"},
        {"path": "/data"},
    ],
)
def test_what_there_is_not_is_refused(wrong):
    with pytest.raises(DatasetError, match="Expected"):
        make(**({"path": None, "family": "refseg", "split": "val", "difficulty": 1} | wrong))


@pytest.mark.parametrize(
    "sample_id",
    [
        "",
        "scenes/refseg/d1/val/500",
        "scenes/refseg/d1/val/-1",
        "scenes/refseg/d1/val/01",
        "scenes/refseg/d1/val/1/2",
        "scenes/refseg/d1/val/１",
        "scenes/refseg/d1/val/1\n",
        "scenes/refseg/d2/val/1",
        "scenes/refseg/d1/test/1",
        "scenes/../etc/passwd",
        "x" * 1_000_000,
    ],
)
def test_identifiers_of_nothing_are_refused(sample_id):
    with pytest.raises(DatasetError, match=r"scenes/refseg/d1/val/N"):
        make(family="refseg", split="val", difficulty=1).find(sample_id)


@pytest.mark.parametrize("index", [-1, 500, 2**70])
def test_numbers_out_of_range_are_refused(index):
    with pytest.raises(IndexError, match="0 to 499"):
        make(family="refseg", split="val", difficulty=1).get(index)


@given(index=st.integers(0, 2**63 - 1), difficulty=st.integers(0, 3), family=st.sampled_from((*REFERRING, "refcount")))
@settings(max_examples=80, deadline=None)
def test_any_sample_is_clear_truthful_and_in_english(index, difficulty, family):
    data = ScenesDataset(family, "train", difficulty)
    rendered, question = data.explain(index)
    assert question.program.is_clear(rendered.scene)
    assert question.program.evaluate(rendered.scene) == question.targets
    text = question.text
    assert text == " ".join(text.split())
    assert text[-1] not in ",;: "
    assert not re.search(r"\b(\w+) \1\b", text), text
    for word, following in re.findall(r"\b([Aa]n?) (\w+)", text):
        assert word.lower() == article(following), text
    assert (text[0].isupper()) == (text[-1] in ".?"), text
