"""Annotated photographs: what ships is sound, and what is not installed is left out."""

import json
import logging
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from visenv.datasets import photos
from visenv.datasets.base import Dataset
from visenv.datasets.reasonseg import draw_shapes
from visenv.errors import DatasetError
from visenv.images import load_image

DATA = Path(photos.__file__).parent / "photos_data"
SIZES = {photograph.name: photograph.size for photograph in photos.photographs()}
MASK_FILES = sorted((DATA / "reasonseg").glob("*/*.json"))
POINTS = json.loads((DATA / "rec8k" / "anno" / "annotations.json").read_text(encoding="utf-8"))
SPLITS = json.loads((DATA / "rec8k" / "anno" / "splits.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def there():
    return photos.installed()


@pytest.fixture
def fresh():
    """Forget which photographs were found and which notes were logged, before and after."""
    for cached in (photos._files, photos._note):
        cached.cache_clear()
    yield
    for cached in (photos._files, photos._note):
        cached.cache_clear()


def make(family="reasonseg", split="val", **arguments):
    return photos.make(**({"path": None, "family": family, "split": split, "difficulty": 1} | arguments))


# --- what ships ---------------------------------------------------------------------------------------------------


def test_there_are_as_many_as_promised():
    texts = [json.loads(file.read_text(encoding="utf-8")) for file in MASK_FILES]
    nulls = sum(not annotation["shapes"] for annotation in texts)
    assert len(SIZES) >= 12
    assert len(MASK_FILES) + sum(map(len, POINTS.values())) >= 50
    assert 0 < nulls <= 0.1 * len(MASK_FILES)
    assert len(photos.VOCABULARY) >= 8


def test_every_photograph_is_used_and_splits_share_none():
    used = {split: {image for image, _ in pairs} for split, pairs in SPLITS.items()}
    for file in MASK_FILES:
        used[file.parent.name].add(file.stem.partition("-")[0])
    assert used["train"] | used["val"] | used["test"] == set(SIZES)
    assert sum(map(len, used.values())) == len(SIZES)
    assert all(len(names) >= 3 for names in used.values())


@pytest.mark.parametrize("file", MASK_FILES, ids=lambda file: file.stem)
def test_masks_lie_inside_their_picture_and_are_more_than_scraps(file):
    annotation = json.loads(file.read_text(encoding="utf-8"))
    width, height = SIZES[file.stem.partition("-")[0]]
    assert annotation["text"]
    assert all(text == text.strip() and len(text) > 5 for text in annotation["text"])
    for shape in annotation["shapes"]:
        points = np.array(shape["points"])
        assert len(points) >= 3
        assert (points >= 0).all()
        assert (points < [width, height]).all()
        assert shape["label"] in ("target", "ignore")
        assert cv2.contourArea(points.astype(np.int32)) > 10
    drawn = draw_shapes(annotation["shapes"], (width, height))
    if annotation["shapes"]:
        assert 100 <= np.count_nonzero(drawn == 1) < 0.6 * width * height


def test_points_lie_inside_their_picture_apart_from_each_other():
    listed = [tuple(pair) for pairs in SPLITS.values() for pair in pairs]
    assert sorted(listed) == sorted((image, phrase) for image, phrases in POINTS.items() for phrase in phrases)
    for image, phrases in POINTS.items():
        for phrase, entry in phrases.items():
            points = np.array(entry["points"], dtype=float)
            assert len(points) >= 1, phrase
            assert (points >= 0).all(), phrase
            assert (points < SIZES[image]).all(), phrase
            gaps = np.linalg.norm(points[:, None] - points[None], axis=2)[np.triu_indices(len(points), 1)]
            assert not len(gaps) or gaps.min() > 5, phrase


def test_counted_by_eye():
    counts = {phrase: len(entry["points"]) for phrases in POINTS.values() for phrase, entry in phrases.items()}
    assert counts["coins"] == 24
    assert counts["coins in the bottom row"] == 6
    assert counts["words in the paragraph"] == 41
    assert counts["pedestrians"] == 4
    assert counts["lights that glare"] == 7
    assert counts["buttons on the sleeve"] == 4


# --- what is installed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", photos.SPLITS)
@pytest.mark.parametrize("family", photos.FAMILIES)
def test_samples_of_every_family_and_split(there, family, split):
    data = make(family, split)
    assert isinstance(data, Dataset)
    assert data.name == "photos"
    assert data.size >= 3
    assert data.vocabulary == photos.VOCABULARY
    samples = [data.get(index) for index in range(data.size)]
    assert [sample.sample_id for sample in samples] == list(data.sample_ids)
    assert len(set(data.sample_ids)) == data.size
    for sample in samples[:4]:
        again = data.find(sample.sample_id)
        assert again.query == sample.query
        np.testing.assert_array_equal(again.image, sample.image)
    if family == "refcount":
        assert {sample.task for sample in samples} == {"counting"}
    else:
        assert {sample.task for sample in samples} == {"segmentation"}
        assert any(sample.truth.is_null for sample in samples) == (family != "refseg" and has_null(split, there))
        for sample in samples:
            assert sample.truth.target.shape == sample.image.shape[:2]


def has_null(split, names):
    files = (DATA / "reasonseg" / split).glob("*.json")
    return any(file.stem.partition("-")[0] in names and '"shapes": []' in file.read_text() for file in files)


@pytest.mark.parametrize("family", ["reasonseg", "refcount"])
def test_data_sets_pickle(there, family):
    data = make(family)
    copied = pickle.loads(pickle.dumps(data))
    assert copied.sample_ids == data.sample_ids
    np.testing.assert_array_equal(copied.get(0).image, data.get(0).image)


def test_identifiers_are_stable(there):
    assert make("reasonseg", "val").find("val/coffee-handle").query == "the part of the cup that you would hold"
    assert make("reasonseg", "train").find("train/camera-tripod#1").query == "the tripod"
    coins = make("refcount", "train").find("train/coins|coins")
    assert len(coins.truth.points) == 24


def test_masks_fit_what_the_pixels_show(there):
    """Annotation and picture belong together: coins are brighter than the cloth, right beside their outlines."""
    data = make("reasonseg", "train")
    sample = data.find("train/coins-largest#0")
    mask = sample.truth.target.to_dense()[0].astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    inside = cv2.erode(mask, kernel, iterations=3) > 0
    ring = (cv2.dilate(mask, kernel, iterations=6) > 0) & ~(cv2.dilate(mask, kernel, iterations=3) > 0)
    assert sample.image[inside].mean() > sample.image[ring].mean() + 40
    points = make("refcount", "train").find("train/coins|coins").truth.points.astype(int)
    assert (sample.image[points[:, 1], points[:, 0]].mean(axis=1) > 90).mean() > 0.9


def test_ignore_regions_reach_the_truth(there):
    sample = make("reasonseg", "val").find("val/retina-disc")
    assert sample.image.shape == (1080, 1080, 3)
    assert sample.truth.ignore.areas[0] > 1000
    assert not sample.truth.ignore.intersection_areas(sample.truth.target).any()


@pytest.mark.usefixtures("fresh")
def test_missing_packages_are_noted_once_and_left_out(there, monkeypatch, caplog):
    real = photos.importlib.util.find_spec
    monkeypatch.setattr(photos.importlib.util, "find_spec", lambda name: None if name == "sklearn" else real(name))
    with caplog.at_level(logging.WARNING):
        data, again = make("reasonseg", "test"), make("refcount", "test")
    assert not any("flower" in sample_id for sample_id in (*data.sample_ids, *again.sample_ids))
    assert any("rocket" in sample_id for sample_id in data.sample_ids)
    notes = [record.getMessage() for record in caplog.records if "sklearn" in record.getMessage()]
    assert len(notes) == 1
    assert "china, flower" in notes[0]
    assert 'pip install "visenv[photos]"' in notes[0]
    with pytest.raises(DatasetError, match="no sample"):
        data.find("test/flower-bloom")


@pytest.mark.usefixtures("fresh")
def test_no_photograph_at_all_names_the_extra(monkeypatch):
    monkeypatch.setattr(photos.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetError, match=r'pip install "visenv\[photos\]"'):
        make()


@pytest.mark.usefixtures("fresh")
def test_another_picture_under_the_name_is_left_out(tmp_path, monkeypatch, caplog):
    """Releases of a package replaced a photograph before: annotations must not land on a stranger."""
    (tmp_path / "fakelib" / "data").mkdir(parents=True)
    (tmp_path / "fakelib" / "__init__.py").write_text("raise RuntimeError('nobody may import this')")
    monkeypatch.syspath_prepend(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    pixels = np.sort(pixels, axis=1)
    halved = cv2.resize(pixels, (30, 20), interpolation=cv2.INTER_AREA)
    for name, shown in (("same", pixels), ("other", 255 - pixels // 4), ("halved", halved)):
        Image.fromarray(shown).save(tmp_path / "fakelib" / "data" / f"{name}.jpg", quality=80)
    (tmp_path / "fakelib" / "data" / "broken.jpg").write_bytes(b"no picture")
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (4, 4), interpolation=cv2.INTER_AREA)
    candidates = [
        photos.Photograph(name, "fakelib", f"data/{name}.jpg", (60, 40), tuple(grey.ravel().tolist()))
        for name in ("same", "other", "halved", "broken", "absent")
    ]
    with caplog.at_level(logging.WARNING):
        assert list(photos.installed(candidates)) == ["same"]
    text = caplog.text
    assert all(f"'{name}'" in text for name in ("other", "halved", "broken"))
    assert "does not bring absent" in text


def test_installed_photographs_have_the_size_of_their_annotations(there):
    for name, file in there.items():
        height, width = load_image(file).shape[:2]
        assert (width, height) == SIZES[name]


def test_what_photos_cannot_do_is_said():
    for arguments, message in (
        ({"family": "densedet"}, "reasonseg, grefseg, refseg, refcount"),
        ({"split": "testA"}, "train, val, test"),
        ({"path": "/somewhere"}, "no folder"),
    ):
        with pytest.raises(DatasetError, match=message):
            make(**arguments)
