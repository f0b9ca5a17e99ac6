"""REC-8K from a folder."""

import json

import numpy as np
import pytest
from PIL import Image

from visenv.datasets import rec8k
from visenv.datasets.base import Dataset
from visenv.datasets.rec8k import Rec8k
from visenv.errors import DatasetError

ANNOTATIONS = {
    "birds.jpg": {
        "birds that fly": {"points": [[1, 2], [3.5, 4]], "class": "bird", "attribute": "that fly", "type": "action"},
        "birds on a wire": {"points": []},
    },
    "sub/cars.jpg": {"red cars": {"points": [[5, 5]]}},
}
SPLITS = {
    "train": [["sub/cars.jpg", "red cars"]],
    "val": [["birds.jpg", "birds that fly"], ["birds.jpg", "birds on a wire"]],
    "test": [],
}


def write(root, annotations=ANNOTATIONS, splits=SPLITS, pictures="rec-8k", anno="anno", size=(20, 10)):
    """A data set in the published layout."""
    (root / anno).mkdir(parents=True, exist_ok=True)
    (root / anno / "annotations.json").write_text(json.dumps(annotations), encoding="utf-8")
    (root / anno / "splits.json").write_text(json.dumps(splits), encoding="utf-8")
    for name in ("birds.jpg", "sub/cars.jpg"):
        file = root / pictures / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(file)
    return root


@pytest.mark.parametrize("pictures", ["rec-8k", "images/rec-8k", "images", "."])
@pytest.mark.parametrize("anno", ["anno", "."])
def test_the_published_layout_and_its_variants(tmp_path, pictures, anno):
    data = Rec8k(write(tmp_path, pictures=pictures, anno=anno), split="val")
    assert isinstance(data, Dataset)
    assert data.sample_ids == ("val/birds.jpg|birds that fly", "val/birds.jpg|birds on a wire")
    assert len(data.vocabulary) >= 8
    sample = data.get(0)
    assert (sample.query, sample.task) == ("birds that fly", "counting")
    assert sample.truth.points.tolist() == [[1, 2], [3.5, 4]]
    assert sample.image.shape == (10, 20, 3)
    assert sample.metadata == {
        "dataset": "rec8k",
        "original_size": [20, 10],
        "class": "bird",
        "attribute": "that fly",
        "type": "action",
    }
    assert data.get(1).truth.is_null
    assert data.find(sample.sample_id).query == sample.query
    assert Rec8k(tmp_path, split="train").get(0).query == "red cars"


def test_points_shrink_with_their_picture(tmp_path):
    data = Rec8k(write(tmp_path, size=(3840, 2160)), split="val")
    assert data.get(0).image.shape == (1080, 1920, 3)
    assert data.get(0).truth.points.tolist() == [[0.5, 1], [1.75, 2]]


def test_a_draw_is_decided_by_its_generator(tmp_path):
    data = Rec8k(write(tmp_path), split="val")
    first, again = (
        [data.draw(rng).sample_id for _ in range(20)] for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert first == again
    assert set(first) == set(data.sample_ids)


@pytest.mark.parametrize("name", ["../secret.jpg", "/etc/secret.jpg", "none.jpg", "..\\secret.jpg"])
def test_a_picture_outside_or_missing_costs_its_own_sample_only(tmp_path, name):
    root = write(
        tmp_path / "data",
        ANNOTATIONS | {name: {"a thing": {"points": [[0, 0]]}}},
        SPLITS | {"val": [[name, "a thing"], *SPLITS["val"]]},
    )
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.jpg")
    data = Rec8k(root, split="val")
    with pytest.raises(DatasetError, match="secret|none"):
        data.get(0)
    assert data.get(1).query == "birds that fly"


@pytest.mark.parametrize(
    "entry",
    [None, [], {}, {"points": None}, {"points": [[1]]}, {"points": [[1, "x"]]}, {"points": [[1, 1e12]]}, {"points": 3}],
)
def test_a_broken_entry_costs_its_own_sample_only(tmp_path, entry):
    annotations = ANNOTATIONS | {"birds.jpg": ANNOTATIONS["birds.jpg"] | {"birds on a wire": entry}}
    data = Rec8k(write(tmp_path, annotations), split="val")
    with pytest.raises(DatasetError, match="birds on a wire"):
        data.get(1)
    assert data.get(0).query == "birds that fly"


def test_a_split_may_name_what_is_not_annotated(tmp_path):
    data = Rec8k(write(tmp_path, splits=SPLITS | {"val": [["nowhere.jpg", "x"], *SPLITS["val"]]}), split="val")
    with pytest.raises(DatasetError, match="nowhere.jpg"):
        data.get(0)
    assert data.get(1).query == "birds that fly"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"splits": SPLITS | {"val": [["one"]]}}, r"\[image, phrase\]"),
        ({"splits": SPLITS | {"val": [[1, 2]]}}, r"\[image, phrase\]"),
        ({"splits": SPLITS | {"val": {}}}, "list"),
        ({"splits": []}, "dict"),
        ({"splits": {"train": []}}, "'val'"),
        ({"splits": SPLITS | {"val": []}}, "no samples"),
        ({"annotations": []}, "dict"),
    ],
)
def test_broken_indices_are_refused_at_once(tmp_path, arguments, message):
    with pytest.raises(DatasetError, match=message):
        Rec8k(write(tmp_path, **arguments), split="val")


def test_the_factory_says_what_is_missing(tmp_path):
    root = write(tmp_path / "data")
    assert rec8k.make(path=str(root), family="refcount", split="val", difficulty=0).size == 2
    for arguments, message in (
        ({"path": None}, 'dataset="rec8k:/path'),
        ({"path": str(tmp_path / "none")}, "no folder"),
        ({"path": str(tmp_path)}, "annotations.json"),
        ({"split": "dev"}, "train, val, test"),
        ({"family": "reasonseg"}, "refcount"),
    ):
        with pytest.raises(DatasetError, match=message):
            rec8k.make(**({"path": str(root), "family": "refcount", "split": "val", "difficulty": 1} | arguments))
    (root / "anno" / "splits.json").write_bytes(b"{")
    with pytest.raises(DatasetError, match="broken"):
        Rec8k(root, split="val")
