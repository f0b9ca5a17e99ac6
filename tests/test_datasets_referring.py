"""RefCOCO and gRefCOCO: what their files say, and what is made of it."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from scripts.fixture_coco import write_pickle
from visenv.datasets.grefcoco import GRefCoco
from visenv.datasets.refcoco import RefCoco
from visenv.errors import DatasetError

SQUARE = [[2, 1, 6, 1, 6, 4, 2, 4]]
ANNOTATIONS = [
    {"id": 7, "image_id": 1, "category_id": 2, "iscrowd": 0, "segmentation": SQUARE, "bbox": [2, 1, 4, 3]},
    {
        "id": 5,
        "image_id": 1,
        "category_id": 2,
        "iscrowd": 0,
        "segmentation": [[0, 6, 3, 6, 3, 9, 0, 9], [10, 6, 12, 6, 12, 8, 10, 8], [1, 1, 2, 2]],
        "bbox": [0, 6, 12, 3],
    },
    {
        "id": 9,
        "image_id": 1,
        "category_id": 2,
        "iscrowd": 1,
        "segmentation": {"size": [10, 20], "counts": [0, 20, 180]},
        "bbox": [0, 0, 2, 10],
    },
    {"id": 11, "image_id": 2, "category_id": 2, "iscrowd": 0, "segmentation": SQUARE, "bbox": [2, 1, 4, 3]},
]


def reference(ref_id, ann_id, *sentences, split="val", image_id=1):
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "split": split,
        "file_name": "COCO_train2014_000000000001_7.jpg",
        "sentences": [{"sent": text, "sent_id": 10 * ref_id + place} for place, text in enumerate(sentences)],
    }


def folder_with(tmp_path, references, annotations=ANNOTATIONS, size=(20, 10), file="refs(unc).p", **image):
    (tmp_path / "images" / "train2014").mkdir(parents=True, exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(tmp_path / "images" / "train2014" / name)
    instances = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 10} | image]
        + [{"id": 2, "file_name": "b.jpg", "width": 20, "height": 10}],
        "annotations": annotations,
        "categories": [{"id": 2, "name": "dog"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    if file.endswith(".p"):
        write_pickle(references, tmp_path / file)
    else:
        (tmp_path / file).write_text(json.dumps(references))
    return tmp_path


def test_one_sample_a_sentence_its_parts_united(tmp_path):
    data = RefCoco(folder_with(tmp_path, [reference(3, 5, "the dog", "left dog"), reference(4, 7, "x", split="testA")]))
    assert data.sample_ids == ("val/3-0", "val/3-1")
    assert data.counts == {"samples": 2, "refs": 1, "pictures": 1}
    assert data.vocabulary[0] == "person"
    sample = data.get(1)
    assert (sample.query, sample.task) == ("left dog", "segmentation")
    assert sample.metadata == {
        "dataset": "refcoco",
        "original_size": [20, 10],
        "categories": ["dog"],
        "ref_id": 3,
    }
    assert sample.truth.target.areas.tolist() == [9 + 4]
    assert sample.truth.target.boxes.tolist() == [[0, 6, 12, 9]]
    assert RefCoco(tmp_path, split="testA").get(0).query == "x"


def test_masks_are_those_of_the_coco_api(tmp_path):
    rng = np.random.default_rng(0)
    outlines = [[rng.uniform(-2, 22, 12).round(2).tolist() for _ in range(3)] for _ in range(20)]
    annotations = [
        {"id": 100 + i, "image_id": 1, "category_id": 2, "iscrowd": 0, "segmentation": outline, "bbox": [0, 0, 1, 1]}
        for i, outline in enumerate(outlines)
    ]
    data = RefCoco(folder_with(tmp_path, [reference(i, 100 + i, "it") for i in range(20)], annotations))
    for index, outline in enumerate(outlines):
        expected = coco.decode(coco.merge(coco.frPyObjects(outline, 10, 20)))
        np.testing.assert_array_equal(data.get(index).truth.target.to_dense()[0], expected.astype(bool))


def test_texts_of_python_2_are_read_as_they_were_written(tmp_path):
    data = RefCoco(folder_with(tmp_path, [reference(1, 7, "à côté – là")]))
    assert data.get(0).query == "à côté – là"
    # The same file from Python 3, whose texts are no bytes; and a byte that is no UTF-8.
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps([reference(1, 7, "cafés là")]))
    assert RefCoco(tmp_path).get(0).query == "cafés là"
    raw = b"(lp0\n(dp1\nS'ref_id'\nI1\nsS'ann_id'\nI7\nsS'image_id'\nI1\nsS'split'\nS'val'\nsS'sentences'\n(lp2\n"
    raw += b"(dp3\nS'sent'\nS'caf\\xe9'\nsasa."
    (tmp_path / "refs(unc).p").write_bytes(raw)
    assert RefCoco(tmp_path).get(0).query == "café"


def test_both_ways_of_parting(tmp_path):
    folder_with(tmp_path, [reference(1, 7, "by unc", split="testB")])
    write_pickle([reference(1, 7, "by google", split="test")], tmp_path / "refs(google).p")
    assert RefCoco(tmp_path, split="testB").get(0).query == "by unc"
    assert RefCoco(tmp_path, split="test", split_by="google").get(0).query == "by google"
    with pytest.raises(DatasetError, match=r"has the splits test in .*'testA' was asked for"):
        RefCoco(tmp_path, split="testA", split_by="google")
    with pytest.raises(DatasetError, match="by=NAME"):
        RefCoco(tmp_path, variant="refcocog")


def test_none_one_or_several(tmp_path):
    references = [
        reference(1, [-1], "no such thing"),
        reference(2, [7], "one"),
        reference(3, [7, 5, 7], "two, one of them twice"),
        reference(4, [9, 5], "and a crowd"),
        reference(5, [9], "nothing but a crowd"),
        reference(6, [-1, 7], "one after all"),
    ]
    data = GRefCoco(folder_with(tmp_path, references, file="grefs(unc).json"))
    assert data.get(0).truth.is_null
    assert data.get(0).truth.target.shape == (10, 20)
    assert [data.get(index).truth.target.areas.tolist() for index in (1, 2, 3, 5)] == [[12], [12, 13], [13], [12]]
    with pytest.raises(DatasetError, match="crowds"):
        data.get(4)
    assert GRefCoco(tmp_path, targets_only=True).sample_ids == ("val/2-0", "val/3-0", "val/4-0", "val/5-0", "val/6-0")


def test_a_larger_picture_than_the_file_says_is_the_same_picture(tmp_path):
    data = RefCoco(folder_with(tmp_path, [reference(1, 7, "it")], size=(60, 30)))
    assert data.get(0).image.shape == (30, 60, 3)
    assert data.get(0).truth.target.boxes.tolist() == [[6, 3, 18, 12]]


def test_a_picture_of_another_shape_is_refused(tmp_path):
    data = RefCoco(folder_with(tmp_path, [reference(1, 7, "it")], size=(10, 20)))
    with pytest.raises(DatasetError, match="to be 20x10, .* but it is 10x20, turned as its EXIF"):
        data.get(0)


BROKEN = {
    "no dict": ([3], "reference 0"),
    "no split": ([{"ref_id": 1}], "'split'"),
    "no ref_id": ([{"split": "val", "ann_id": 7, "image_id": 1, "sentences": []}], "'ref_id'"),
    "no ann_id": ([{"split": "val", "ref_id": 1, "image_id": 1, "sentences": []}], "'ann_id'"),
    "ann_id a text": ([reference(1, "7", "x")], "'ann_id'"),
    "ann_id too small": ([reference(1, -2, "x")], "'ann_id'"),
    "no sentences": ([reference(1, 7, "x") | {"sentences": None}], "'sentences'"),
    "a sentence no dict": ([reference(1, 7, "x") | {"sentences": ["x"]}], "sentence 0"),
    "a sentence no text": ([reference(1, 7, "x") | {"sentences": [{"sent": 3}]}], "'sent'"),
    "a reference twice": ([reference(1, 7, "x"), reference(1, 5, "y")], "twice"),
    "no references": ([], "has the splits"),
    "no list": ({"a": 1}, "list"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_references_are_said_at_once(case, tmp_path):
    references, message = BROKEN[case]
    with pytest.raises(DatasetError, match=message):
        RefCoco(folder_with(tmp_path, references))


def test_what_is_broken_in_a_sample_costs_that_sample(tmp_path):
    annotations = [
        *ANNOTATIONS,
        {"id": 20, "image_id": 1, "category_id": 2, "segmentation": [["a"]]},
        {"id": 21, "image_id": 1, "category_id": 2, "segmentation": None},
        {"id": 22, "image_id": 1, "category_id": 2, "segmentation": {"size": [9, 9], "counts": [81]}},
        {"id": 23, "image_id": 1, "category_id": 2, "segmentation": [[1e300, 0, 3, 0, 3, 3]]},
    ]
    references = [
        reference(1, 7, "fine"),
        reference(2, 999, "no such annotation"),
        reference(3, 7, "no such picture", image_id=77),
        reference(4, 11, "of another picture"),
        reference(5, 7, "  "),
        *(reference(ann, ann, "broken outline") for ann in (20, 21, 22, 23)),
    ]
    data = RefCoco(folder_with(tmp_path, references, annotations))
    assert data.get(0).query == "fine"
    messages = ["no annotation with the id 999", "no picture with the id 77", "lies in picture 2", "empty or broken"]
    for index, message in enumerate([*messages, *["'segmentation' of annotation 2"] * 4], 1):
        with pytest.raises(DatasetError, match=message):
            data.get(index)
    assert {data.draw(np.random.default_rng(seed)).query for seed in range(30)} == {"fine"}


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "none.jpg"])
def test_pictures_are_looked_for_inside_the_folder_only(name, tmp_path):
    data = RefCoco(folder_with(tmp_path, [reference(1, 7, "it")], file_name=name))
    with pytest.raises(DatasetError, match="relative path inside|no picture"):
        data.get(0)


def test_pictures_may_lie_elsewhere_where_that_is_said(tmp_path):
    folder_with(tmp_path / "refer", [reference(1, 7, "it")])
    (tmp_path / "refer" / "images" / "train2014").rename(tmp_path / "pictures")
    with pytest.raises(DatasetError, match="images=FOLDER"):
        RefCoco(tmp_path / "refer").get(0)
    assert RefCoco(tmp_path / "refer", pictures=tmp_path / "pictures").get(0).image.shape == (10, 20, 3)
