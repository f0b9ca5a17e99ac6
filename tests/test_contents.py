"""What drawn pictures show: exact, for each image, and known to ``oracle`` and ``noisy`` alone."""

import json
import pickle

import cv2
import gymnasium as gym
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from tests.test_datasets_vipact import SCHEMA, row
from visenv.builtin import ENVIRONMENTS
from visenv.capabilities import FindVisualPrompts, GroundPhrase
from visenv.contents import ImageContent, MarkedPlace, SeenThing
from visenv.datasets.making import make_dataset
from visenv.datasets.scenes.kinds import COLOURS, KINDS
from visenv.experts import noisy, oracle
from visenv.experts.sight.marks import find_marks
from visenv.policies import make_policy, rollout
from visenv.records import truth_record
from visenv.report import write_page
from visenv.types import AnswerTruth, Sample
from visenv.workspace import Workspace
from visenv.wrappers import RecordTrajectories

QUESTIONS = ("multiimage", "blink", "mmvp", "matsearch")
IDS = {"multiimage": "MultiImage-v0", "blink": "Blink-v0", "mmvp": "MMVP-v0", "matsearch": "MATSearch-v0"}
FORMS = {"multiimage": 5, "blink": 8, "mmvp": 4, "matsearch": 4}
"""How many samples in a row show all forms, or a few of each."""
SEEING = ("PhraseToBoxMask", "PhraseToPoint", "PointToBoxMask", "Verify", "VisualPromptDetector")
CERTAIN = {"miss_small": 0.0, "miss_large": 0.0, "box_jitter": 0.0, "mask_jitter": 0.0, "false_positives": 0.0}


def data(family, difficulty=0):
    return make_dataset("scenes", family=family, split="val", difficulty=difficulty)


def told(family, difficulty, index):
    """A sample as the experts that are given the truth get it."""
    dataset = data(family, difficulty)
    return dataset.find(dataset.get(index).sample_id)


def views(sample):
    workspace = Workspace(sample.images)
    return [workspace.view(f"img_{number}", sample.sample_id) for number in range(len(sample.images))]


def colour_of(pixels, mask):
    """The name of the colour that most pixels of a mask have, of those that are coloured at all."""
    lab = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[mask]
    names = np.array([COLOURS[name] for name in COLOURS], np.float32)[None] / 255
    inks = cv2.cvtColor(names, cv2.COLOR_RGB2LAB)[0]
    near = np.linalg.norm(lab[:, None] - inks[None], axis=2)
    counts = np.bincount(near.argmin(axis=1)[near.min(axis=1) < 40], minlength=len(COLOURS))
    return list(COLOURS)[int(counts.argmax())]


# --- every environment ----------------------------------------------------------------------------------------------


def calls(env, tool):
    """A call of a tool for each input image, or one for all of them."""
    names = [image.name for image in env.episode.workspace.images.values() if image.maker == "input"]
    given = {"phrase": "object", "claim": "it is there", "mode": "confidence"}
    wanted = {argument.name: argument.kind for argument in env.config.tools[tool].spec.arguments}
    fixed = {name: given[name] for name in wanted if name in given}
    if "images" in wanted:
        return [{"name": tool, "arguments": {**fixed, "images": names}}]
    return [{"name": tool, "arguments": {**fixed, "image": name}} for name in names]


@pytest.mark.parametrize("experts", ["oracle", "noisy"])
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_no_request_for_vision_ends_an_episode(name, experts):
    env = gym.make(name, split="val", difficulty=0, experts=experts, obs="features", max_turns=40).unwrapped
    for index in range(FORMS.get(env.family, 2)):
        env.reset(options={"index": index})
        for tool in (tool for tool in SEEING if tool in env.config.tools):
            for call in calls(env, tool):
                env.step(call)
                turn = env.episode.transcript[-1]
                # Of nothing pointed at, nothing can be outlined: that is the agent's to know.
                assert turn.error is None or turn.error.code == "no_points", turn.error
                assert env.episode.problem is None
        env.step({"name": "Answer", "arguments": {"text": "A"}})
        assert env.episode.outcome.termination == "answer"


# --- what is known is what is there -------------------------------------------------------------------------------


@pytest.mark.parametrize("difficulty", [0, 2])
@pytest.mark.parametrize("family", QUESTIONS)
def test_each_picture_has_its_things_where_they_are(family, difficulty):
    right = wrong = 0
    for index in range(10):
        sample = told(family, difficulty, index)
        contents = sample.truth.contents
        assert [content.size for content in contents] == [image.shape[1::-1] for image in sample.images]
        # Things that stand far off on the plain are hazy.
        if sample.metadata.get("sub_task") in ("Relative_Depth", "Multi-view_Reasoning"):
            continue
        for image, content in zip(sample.images, contents, strict=True):
            masks = content.masks
            assert masks.areas.all()
            assert masks.to_dense().sum(axis=0).max(initial=0) <= 1, "Nothing is seen through something else."
            for thing, mask in zip(content.things, masks.to_dense(), strict=True):
                if mask.sum() > 150:
                    found = colour_of(image, mask) == thing.colour
                    right, wrong = right + found, wrong + (not found)
    assert right > 25
    assert wrong <= 0.03 * right


def test_counts_follow_from_what_is_known():
    for index in range(2, 40, 5):
        sample = data("multiimage", 1).get(index)
        assert sample.metadata["form"] == "count"
        found = oracle.Oracle(data("multiimage", 1).find).run(
            [GroundPhrase(view, sample.metadata["thing"]) for view in views(sample)]
        )
        assert [len(each) for each in found] == sample.metadata["counts"]
        assert sum(map(len, found)) == int(sample.truth.answers[0])
    for index in range(0, 80, 8):
        sample = data("blink", 2).get(index)
        assert sample.metadata["sub_task"] == "Counting"
        (found,) = oracle.Oracle(data("blink", 2).find).run([GroundPhrase(views(sample)[0], sample.metadata["thing"])])
        assert str(len(found)) == sample.truth.answers[1]


def test_masks_are_the_visible_pixels():
    dataset = data("matsearch", 2)
    for index in range(6):
        rendered, question = dataset.explain(index)
        sample = dataset.get(index)
        asked = rendered.scene.objects[question.target]
        (found,) = oracle.Oracle(dataset.find).run(
            [GroundPhrase(views(sample)[0], f"the {asked.pattern} {asked.colour} {asked.kind}")]
        )
        crop, (x, y) = rendered.visible(question.target)
        expected = np.zeros(sample.image.shape[:2], bool)
        expected[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        assert any(np.array_equal(mask, expected) for mask in found.masks.to_dense())


def test_phrases_mean_what_they_describe():
    sample = told("multiimage", 1, 1)
    content = sample.truth.contents[1]
    ask = oracle.Oracle(data("multiimage", 1).find)
    view = views(sample)[1]
    thing = content.things[0]

    def found(phrase):
        (result,) = ask.run([GroundPhrase(view, phrase)])
        return len(result)

    assert found("object") == len(content.things)
    assert found(f"{thing.colour} {thing.kind}") == sum(each.words[:2] == thing.words[:2] for each in content.things)
    assert found(f"everything that isn't {thing.colour}") == sum(each.colour != thing.colour for each in content.things)
    assert found("the leftmost thing") == 1
    assert found("qwertz") == 0, "Nothing of it is understood."


def inked(image, kind, box):
    """The share of a mark's outline that is drawn in one of the inks."""
    x0, y0, x1, y1 = box
    if kind == "circle":
        angles = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        middle = np.rint([(x0 + x1) / 2, (y0 + y1) / 2])
        points = middle + 9 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    else:
        along = np.linspace(0, 1, 40)
        sides = [(x0 + along * (x1 - x0 - 1), np.full(40, y)) for y in (y0, y1 - 1)]
        sides += [(np.full(40, x), y0 + along * (y1 - y0 - 1)) for x in (x0, x1 - 1)]
        points = np.concatenate([np.stack(side, axis=1) for side in sides])
    columns, rows = np.clip(np.rint(points).astype(int), 0, [image.shape[1] - 1, image.shape[0] - 1]).T
    around = [image[np.clip(rows + dy, 0, image.shape[0] - 1), columns] for dy in (-1, 0, 1)]
    pure = [((pixels == 0).sum(axis=1) == 2) & ((pixels == 255).sum(axis=1) == 1) for pixels in around]
    return np.logical_or.reduce(pure).mean()


def test_marks_are_those_that_can_be_seen():
    compared = 0
    for difficulty in (0, 3):
        dataset = data("blink", difficulty)
        for index in range(24):
            sample = dataset.get(index)
            known = oracle.Oracle(dataset.find).run([FindVisualPrompts(view) for view in views(sample)])
            for image, marks in zip(sample.images, known, strict=True):
                seen = {f"{mark.kind} {mark.letter}": mark.point for mark in find_marks(image) if mark.letter}
                for label, box in zip(marks.labels, marks.boxes, strict=True):
                    if label in seen:
                        assert np.hypot(*((box[:2] + box[2:]) / 2 - seen[label])) < 2.0
                        compared += 1
                        kind = label.partition(" ")[0]
                        assert inked(image, kind, box) > (0.9 if kind == "circle" else 0.75)
    assert compared > 40


def test_a_part_of_a_picture_shows_a_part_of_its_things():
    env = gym.make("VisHarness/MultiImage-v0", split="val", experts="oracle", difficulty=0).unwrapped
    env.reset(options={"index": 2})
    content = told("multiimage", 0, 2).truth.contents[1]
    x0, y0, x1, y1 = content.things[0].box
    box = [max(0, x0 - 3), max(0, y0 - 3), min(256, x1 + 3), min(256, y1 + 3)]
    env.step({"name": "ZoomRegion", "arguments": {"image": "img_1", "box": box}})
    (made,) = env.episode.transcript[-1].created
    env.step({"name": "PhraseToBoxMask", "arguments": {"images": [made], "phrase": content.things[0].kind}})
    found = env.episode.workspace.detections[made]
    assert found.boxes[0].tolist() == [x0 - box[0], y0 - box[1], x1 - box[0], y1 - box[1]]
    assert found.masks.areas[0] == content.things[0].mask.sum()


def test_joined_pictures_show_what_each_of_them_does():
    env = gym.make("VisHarness/Blink-v0", split="val", experts="oracle", joined=True, difficulty=1).unwrapped
    apart = data("blink", 1)
    for index in (3, 4, 5):
        env.reset(options={"index": index})
        env.step({"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "object"}})
        found = env.episode.workspace.detections["img_0"]
        contents = told("blink", 1, index).truth.contents
        assert len(contents) > 1
        assert len(found) == sum(len(content.things) for content in contents)
        things = [thing for content in contents for thing in content.things]
        pixels = env.episode.workspace.root.pixels
        large = [(mask, thing) for mask, thing in zip(found.masks.to_dense(), things, strict=True) if mask.sum() > 300]
        seen = [colour_of(pixels, mask) for mask, _ in large]
        apart_seen = [
            colour_of(image, mask)
            for image, content in zip(apart.get(index).images, contents, strict=True)
            for mask in content.masks.to_dense()
            if mask.sum() > 300
        ]
        # Of pictures of one height, none is scaled.
        assert seen == apart_seen or len({content.size[1] for content in contents}) > 1
        assert np.mean([colour == thing.colour for colour, (_, thing) in zip(seen, large, strict=True)]) >= 0.9
        env.step({"name": "VisualPromptDetector", "arguments": {"image": "img_0"}})
        labels = [mark.label for content in contents for mark in content.marks]
        assert all(label in env.episode.transcript[-1].reply for label in labels)
        assert len(labels) == (5 if index == 3 else 0)


def test_who_knows_the_things_answers_better_than_who_looks_for_them():
    def right(experts):
        env = gym.make("VisHarness/MultiImage-v0", split="val", experts=experts, difficulty=3, obs="features")
        return np.mean([end.metrics["EM"] for end in rollout(env, make_policy("scripted"), episodes=10, seed=1)])

    known, spoiled = right("oracle"), right("noisy")
    assert known >= 0.9
    assert known > spoiled > 0.2


# --- errors of ``noisy`` --------------------------------------------------------------------------------------------


def test_without_errors_noisy_is_the_oracle():
    dataset = data("blink", 1)
    sample = dataset.get(3)
    requests = [
        request for view in views(sample) for request in (GroundPhrase(view, "object"), FindVisualPrompts(view))
    ]
    (spoiler,) = noisy.make(dataset.find, **CERTAIN)
    for one, other in zip(spoiler.run(requests), oracle.Oracle(dataset.find).run(requests), strict=True):
        assert np.array_equal(one.boxes, other.boxes)
        assert one.masks == other.masks
        assert one.labels == other.labels


def test_noisy_marks_are_the_same_every_time_and_near_where_they_are():
    dataset = data("blink", 1)
    sample = dataset.get(3)
    request = FindVisualPrompts(views(sample)[1])
    (spoiler,) = noisy.make(dataset.find, miss_small=0.0, miss_large=0.0, box_jitter=0.1)
    first, again = spoiler.run([request, request])
    (true,) = oracle.Oracle(dataset.find).run([request])
    assert np.array_equal(first.boxes, again.boxes)
    assert first.labels == true.labels == ("circle A", "circle B", "circle C", "circle D")
    assert 0 < np.abs(first.boxes - true.boxes).max() < 15
    (blind,) = noisy.make(dataset.find, miss_small=1.0, miss_large=1.0)
    assert len(blind.run([request])[0]) == 0


# --- data that do not say it ----------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    """BLINK and MMVP in their published layouts."""
    (tmp_path / "blink" / "Jigsaw").mkdir(parents=True)
    table = pa.Table.from_pylist([row("Jigsaw", 0, 3, "(A)")], SCHEMA)
    pq.write_table(table, tmp_path / "blink" / "Jigsaw" / "val-00000-of-00001.parquet")
    pictures = tmp_path / "mmvp" / "MMVP Images"
    pictures.mkdir(parents=True)
    rows = ["Index,Question,Options,Correct Answer"]
    for number in (1, 2):
        Image.new("RGB", (30, 20), (number, 0, 0)).save(pictures / f"{number}.jpg")
        rows.append(f'{number},Is it so?,"(a) yes (b) no",({"ab"[number - 1]})')
    (tmp_path / "mmvp" / "Questions.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


@pytest.mark.parametrize("experts", ["oracle", "noisy"])
@pytest.mark.parametrize(
    ("name", "dataset", "split", "image"),
    [
        ("Blink-v0", "blink", "val", "img_0"),
        ("MultiImage-v0", "blink", "val", "img_2"),
        ("MMVP-v0", "mmvp", "test", "img_0"),
    ],
)
def test_real_files_say_why_they_cannot_be_asked_about(files, name, dataset, split, image, experts):
    where = f"{dataset}:{files / dataset}"
    env = gym.make(f"VisHarness/{name}", dataset=where, split=split, experts=experts, obs="features").unwrapped
    env.reset(options={"index": 0})
    _, reward, terminated, truncated, info = env.step(
        {"name": "PhraseToBoxMask", "arguments": {"images": [image], "phrase": "car"}}
    )
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert f"Expert {experts!r} failed" in info["invalid"]
    assert repr(env.episode.sample_id) in info["invalid"]
    assert "without what its images show" in info["invalid"]
    assert "'classical'" in info["invalid"]
    # Who asks nobody is not concerned.
    ends = list(rollout(env, make_policy("oracle"), episodes=1, seed=0))
    assert ends[0].metrics["EM"] == 1.0


# --- nobody else ----------------------------------------------------------------------------------------------------


class Poison:
    """Cannot be touched."""

    def __getattribute__(self, name):
        raise AssertionError(f"Somebody has looked: {name}.")

    def __len__(self):
        raise AssertionError("Somebody has counted.")

    def __iter__(self):
        raise AssertionError("Somebody has gone through it.")


class Poisoned:
    """A data set whose contents must not be touched."""

    def __init__(self, inner):
        self._inner = inner

        self.name, self.split, self.size, self.vocabulary = inner.name, inner.split, inner.size, inner.vocabulary

    def get(self, index):
        sample = self._inner.get(index)
        object.__setattr__(sample.truth, "contents", Poison())
        return sample

    def find(self, sample_id):
        sample = self._inner.find(sample_id)
        object.__setattr__(sample.truth, "contents", Poison())
        return sample

    def draw(self, rng):
        raise NotImplementedError


@pytest.mark.parametrize("family", QUESTIONS)
def test_neither_agents_nor_other_experts_nor_pages_touch_it(family, tmp_path):
    env = gym.make(f"VisHarness/{IDS[family]}", dataset=Poisoned(data(family)), obs="features")
    recorded = RecordTrajectories(env, tmp_path / "run", page=None)
    for policy in ("scripted", "random", "oracle"):
        assert len(list(rollout(recorded, make_policy(policy), episodes=4, seed=0))) == 4
    recorded.close()
    write_page(tmp_path / "run")
    for line in (tmp_path / "run" / "trajectories.jsonl").read_text().splitlines():
        record = json.loads(line)
        assert record["invalid"] is None
        assert "contents" not in record["truth"]


def test_it_is_no_part_of_what_is_compared_printed_or_recorded():
    truth = told("blink", 0, 0).truth
    bare = AnswerTruth(truth.answers, truth.choices, truth.group)
    assert truth == bare
    assert (hash(truth), repr(truth), truth_record(truth)) == (hash(bare), repr(bare), truth_record(bare))
    again = pickle.loads(pickle.dumps(truth))
    assert again.contents == truth.contents


@pytest.mark.parametrize("family", QUESTIONS)
def test_only_who_asks_by_name_is_told(family):
    dataset = data(family, 2)
    drawn = dataset.draw(np.random.default_rng(0))
    assert dataset.get(3).truth.contents is None
    assert drawn.truth.contents is None
    again = dataset.find(drawn.sample_id)
    assert again.truth == drawn.truth
    assert all(np.array_equal(one, other) for one, other in zip(again.images, drawn.images, strict=True))
    assert len(again.truth.contents) == len(drawn.images)
    assert len(pickle.dumps(again.truth)) < 0.03 * sum(image.nbytes for image in again.images)


# --- the record itself ----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)), st.integers(0, 9), st.integers(0, 9)
)
def test_pixels_come_back_as_they_were(mask, x, y):
    thing = SeenThing.of(("car", "red", "plain"), mask, (x, y))
    assert np.array_equal(thing.mask, mask)
    dense = ImageContent((30, 31), (thing,)).masks.to_dense()[0]
    height, width = mask.shape
    assert np.array_equal(dense[y : y + height, x : x + width], mask)
    assert dense.sum() == mask.sum()


def test_nothing_in_a_picture_is_no_mask():
    content = ImageContent((5, 4), (), (MarkedPlace("circle A", (1, 1, 3, 3)),))
    assert (len(content.masks), content.masks.shape) == (0, (4, 5))


def test_every_thing_is_found_by_its_own_words():
    sizes = {"size": (20, 20), "marks": ()}
    for kind in KINDS.values():
        for colour in COLOURS:
            things = tuple(
                SeenThing.of((kind.name, ink, pattern), np.ones((2, 2), bool), (4 * at, 0))
                for at, (ink, pattern) in enumerate(
                    [(colour, "plain"), (colour, "dotted"), (other_than(colour), "plain")]
                )
            )
            sample = Sample("s/1", (np.zeros((20, 20, 3), np.uint8),), "?", AnswerTruth(("A",), contents=(
                ImageContent(things=things, **sizes),)))  # fmt: skip
            ask, (view,) = oracle.Oracle(lambda _, sample=sample: sample), views(sample)
            phrases = [f"{colour} {kind.name}", f"{colour} {kind.plural}", f"dotted {colour} {kind.name}", kind.plural]
            assert [len(each) for each in ask.run([GroundPhrase(view, phrase) for phrase in phrases])] == [2, 2, 1, 3]


def other_than(colour):
    names = list(COLOURS)
    return names[(names.index(colour) + 1) % len(names)]
