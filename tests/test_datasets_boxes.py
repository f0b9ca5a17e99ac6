"""COCO, VisDrone, Dense200 and FSC-147 from folders."""

import json

import numpy as np
import pytest
from PIL import Image

from visenv.datasets import coco, cocojson, dense200, visdrone
from visenv.datasets.fsc147 import Fsc147
from visenv.errors import DatasetError
from visenv.types import BoxesTruth


def picture(path, size=(40, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path, **options)


def annotation(id_, image_id, category_id, box, crowd=0):
    x, y, w, h = box
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if crowd:
        column = np.zeros((30, 40), bool)
        column[y : y + h, x : x + w] = True
        flat = column.ravel(order="F")
        counts = np.diff(np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1, [flat.size]])).tolist()
        outline = {"size": [30, 40], "counts": ([0] if flat[0] else []) + counts}
    return {
        "id": id_,
        "image_id": image_id,
        "category_id": category_id,
        "iscrowd": crowd,
        "bbox": list(box),
        "segmentation": outline,
    }


INSTANCES = {
    "images": [
        {"id": 8, "file_name": "b.jpg", "width": 40, "height": 30},
        {"id": 3, "file_name": "a.jpg", "width": 40, "height": 30},
        {"id": 5, "file_name": "empty.jpg", "width": 40, "height": 30},
    ],
    "annotations": [
        annotation(4, 8, 2, (1, 1, 4, 5)),
        annotation(1, 3, 7, (0, 0, 3, 3)),
        annotation(2, 8, 2, (10, 10, 2, 2)),
        annotation(3, 8, 2, (0, 20, 40, 10), crowd=1),
        annotation(9, 8, 7, (0, 0, 40, 3), crowd=1),
    ],
    "categories": [{"id": 2, "name": "cup"}, {"id": 7, "name": "dog"}],
}


# --- COCO -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def coco_root(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(INSTANCES))
    for name in ("a.jpg", "b.jpg", "empty.jpg"):
        picture(tmp_path / "val2017" / name)
    return tmp_path


def test_one_sample_a_category_in_a_picture(coco_root):
    data = coco.make(path=str(coco_root), family="grefseg", split="val", difficulty=0)
    assert data.sample_ids == ("val/3-7", "val/8-2")
    assert data.counts == {"samples": 2, "pictures": 3, "annotations": 5}
    sample = data.get(1)
    assert (sample.query, sample.task) == ("cup", "segmentation")
    assert sample.metadata == {"dataset": "coco", "original_size": [40, 30], "category": "cup"}
    assert sample.truth.target.boxes.tolist() == [[10, 10, 12, 12], [1, 1, 5, 6]]
    assert sample.truth.ignore.boxes.tolist() == [[0, 20, 40, 30]]
    assert data.get(0).truth.ignore is None


def test_boxes_of_a_category(coco_root):
    truth = coco.make(path=str(coco_root), family="densedet", split="val", difficulty=0).get(1).truth
    assert isinstance(truth, BoxesTruth)
    assert truth.boxes.tolist() == [[10, 10, 12, 12], [1, 1, 5, 6]]
    assert truth.labels == ("cup", "cup")
    assert truth.ignore.tolist() == [[0, 20, 40, 30]]


def test_years_and_folders(coco_root, tmp_path):
    with pytest.raises(DatasetError, match="instances_train2017"):
        coco.make(path=str(coco_root), family="refseg", split="train", difficulty=0)
    (coco_root / "annotations" / "instances_val2017.json").rename(coco_root / "annotations" / "instances_val2014.json")
    (coco_root / "val2017").rename(coco_root / "elsewhere")
    for path in (f"{coco_root}?images={coco_root}/elsewhere", f"{coco_root}?year=2014&images={coco_root}/elsewhere"):
        assert coco.make(path=path, family="refseg", split="val", difficulty=0).get(0).query == "dog"
    with pytest.raises(DatasetError, match="no picture 'a.jpg'"):
        coco.make(path=str(coco_root), family="refseg", split="val", difficulty=0).get(0)


def test_a_json_of_ones_own(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps(INSTANCES))
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / "images" / name)
    alone = cocojson.make(path=str(tmp_path / "mine.json"), family="refseg", split="anything", difficulty=0)
    assert alone.sample_ids == ("anything/3-7", "anything/8-2")
    assert alone.get(1).query == "cup"
    assert alone.vocabulary[:2] == ("cup", "dog")
    assert len(alone.vocabulary) >= 8
    with pytest.raises(DatasetError, match="no 'val.json'"):
        cocojson.make(path=str(tmp_path), family="refseg", split="val", difficulty=0)
    (tmp_path / "valid").mkdir()
    (tmp_path / "mine.json").rename(tmp_path / "valid" / "_annotations.coco.json")
    (tmp_path / "images" / "a.jpg").rename(tmp_path / "valid" / "a.jpg")
    inner = cocojson.make(path=str(tmp_path), family="densedet", split="val", difficulty=0)
    assert [inner.get(index).query for index in range(2)] == ["dog", "cup"]


def test_a_category_without_a_name_and_a_box_without_an_area_are_said(tmp_path):
    flat = annotation(4, 8, 2, (1, 1, 4, 5)) | {"bbox": [1, 1, 4, 0]}
    document = INSTANCES | {
        "categories": [{"id": 2, "name": "cup"}],
        "annotations": [flat, INSTANCES["annotations"][1]],
    }
    (tmp_path / "mine.json").write_text(json.dumps(document))
    for name in ("a.jpg", "b.jpg"):
        picture(tmp_path / name)
    data = cocojson.make(path=str(tmp_path / "mine.json"), family="densedet", split="val", difficulty=0)
    with pytest.raises(DatasetError, match="Category 7"):
        data.get(0)
    with pytest.raises(DatasetError, match="with an area"):
        data.get(1)


# --- VisDrone and Dense200 ------------------------------------------------------------------------------------------


def write_rows(root, name, rows, folder="VisDrone2019-DET-val", **options):
    path = root / folder / "annotations" / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(rows)
    picture(root / folder / "images" / f"{name}.jpg", **options)


def drone(path, split="val"):
    return visdrone.make(path=str(path), family="densedet", split=split, difficulty=0)


def test_rows_of_the_published_files(tmp_path):
    rows = "1,2,3,4,1,4,0,0\r\n10,2,3,4,1,4,1,2,\n5,5,2,2,1,1,0,0\n0,20,9,9,0,0,0,0\n20,20,4,4,0,4,0,0\n"
    rows += "30,20,4,4,1,11,0,0\n7,7,4,0,1,9,0,0\n"
    write_rows(tmp_path, "0001", rows)
    write_rows(tmp_path, "0002", "")
    data = drone(tmp_path)
    assert data.sample_ids == ("val/0001-pedestrian", "val/0001-car")
    assert data.counts == {"samples": 2, "pictures": 2}
    sample = data.find("val/0001-car")
    assert (sample.query, sample.task) == ("car", "detection")
    assert sample.truth.boxes.tolist() == [[1, 2, 4, 6], [10, 2, 13, 6]]
    assert sample.truth.labels == ("car", "car")
    assert sample.truth.ignore.tolist() == [[0, 20, 9, 29], [20, 20, 24, 24]]


def test_large_pictures_are_shrunk_with_their_boxes(tmp_path):
    write_rows(tmp_path, "0001", "1000,500,200,100,1,9,0,0\n", size=(3840, 2160))
    sample = drone(tmp_path).get(0)
    assert sample.image.shape == (1080, 1920, 3)
    assert sample.truth.boxes.tolist() == [[500, 250, 600, 300]]
    assert sample.metadata["original_size"] == [3840, 2160]


def test_one_split_alone_is_taken_for_what_it_is(tmp_path):
    write_rows(tmp_path, "0001", "1,2,3,4,1,4,0,0\n")
    assert drone(tmp_path / "VisDrone2019-DET-val").size == 1
    for split in ("train", "test"):
        with pytest.raises(DatasetError, match="There is no 'VisDrone2019-DET"):
            drone(tmp_path / "VisDrone2019-DET-val", split)
        with pytest.raises(DatasetError, match="There is no 'VisDrone2019-DET"):
            drone(tmp_path, split)


@pytest.mark.parametrize(
    "rows", ["1,2,3\n", "a,b,c,d,1,4,0,0\n", "1,2,nan,4,1,4,0,0\n", "1,2,3,4,1,4,0,0,7,8\n", "\x80"]
)
def test_a_broken_file_of_rows_costs_its_own_samples(rows, tmp_path):
    write_rows(tmp_path, "0001", "1,2,3,4,1,4,0,0\n")
    write_rows(tmp_path, "0002", rows)
    data = drone(tmp_path)
    assert data.get(0).query == "car"
    assert data.size == 1 + len(visdrone.CATEGORIES)
    with pytest.raises(DatasetError, match="0002.txt"):
        data.get(1)


@pytest.fixture
def lines(tmp_path):
    def write(*values):
        picture(tmp_path / "images" / "a.jpg")
        (tmp_path / "Dense200.jsonl").write_text("\n".join(json.dumps(value) for value in values))
        return tmp_path

    return write


def dense(path, split="test"):
    return dense200.make(path=str(path), family="densedet", split=split, difficulty=0)


def test_one_task_a_category_of_a_line(lines):
    root = lines(
        {"image_path": "images/a.jpg", "gt": {"red cup": [[0, 0, 4.5, 5]], "none": [], "dog": [[1, 1, 2, 2]] * 3}},
        {"image_path": "images/missing.jpg", "gt": {"cat": [[0, 0, 1, 1]]}},
    )
    data = dense(root)
    assert data.sample_ids == ("test/a-red_cup", "test/a-dog", "test/missing-cat")
    assert data.get(0).query == "red cup"
    assert data.get(0).truth.boxes.tolist() == [[0, 0, 4.5, 5]]
    assert data.get(1).truth.labels == ("dog",) * 3
    with pytest.raises(DatasetError, match="no picture 'images/missing.jpg'"):
        data.get(2)
    (root / "Dense200.jsonl").rename(root / "Dense200_val.jsonl")
    assert dense(root, "val").sample_ids[0] == "val/a-red_cup"
    with pytest.raises(DatasetError, match="no 'Dense200.jsonl'"):
        dense(root)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "Expected a dict"),
        ({"image_path": "images/a.jpg"}, "'gt'"),
        ({"gt": {"cup": [[0, 0, 1, 1]]}}, "'image_path'"),
        ({"image_path": "images/a.jpg", "gt": {" ": [[0, 0, 1, 1]]}}, "names of categories"),
        ({"image_path": "images/a.jpg", "gt": {"cup": 3}}, "'cup'"),
        ({"image_path": "images/a.jpg", "gt": {}}, "no samples"),
    ],
)
def test_broken_lines_are_said_at_once(value, message, lines):
    with pytest.raises(DatasetError, match=message):
        dense(lines(value))


@pytest.mark.parametrize(
    ("path", "boxes", "message"),
    [
        ("images/a.jpg", [[0, 0, 1]], "with an area"),
        ("images/a.jpg", [[5, 0, 1, 1]], "with an area"),
        ("images/a.jpg", [["a", 0, 1, 1]], "with an area"),
        ("../a.jpg", [[0, 0, 1, 1]], "relative path inside"),
        ("/a.jpg", [[0, 0, 1, 1]], "relative path inside"),
    ],
)
def test_broken_boxes_and_paths_cost_their_own_sample(path, boxes, message, lines):
    data = dense(lines({"image_path": path, "gt": {"cup": boxes, "dog": [[0, 0, 1, 1]]}}))
    with pytest.raises(DatasetError, match=message):
        data.get(0)


# --- FSC-147 --------------------------------------------------------------------------------------------------------


@pytest.fixture
def fsc(tmp_path):
    corners = [[[1, 2], [1, 6], [5, 6], [5, 2]]]
    annotations = {
        "2.jpg": {"H": 30, "W": 40, "points": [[3, 4], [20, 9]], "box_examples_coordinates": corners},
        "3.jpg": {"points": [[1, 1]]},
        "4.jpg": {"points": [[1]]},
        "5.jpg": {"points": [[1, 1]]},
    }
    splits = {"train": ["5.jpg"], "val": ["3.jpg", "2.jpg", "4.jpg", "6.jpg"], "test": [], "val_coco": ["2.jpg"]}
    (tmp_path / "annotation_FSC147_384.json").write_text(json.dumps(annotations))
    (tmp_path / "Train_Test_Val_FSC_147.json").write_text(json.dumps(splits))
    classes = "2.jpg\tsea shells\n3.jpg\tcrème\n4.jpg\teggs\n6.jpg\teggs\n"
    (tmp_path / "ImageClasses_FSC147.txt").write_bytes(classes.encode("cp1252"))
    for name in annotations:
        picture(tmp_path / "images_384_VarV2" / name)
    return tmp_path


def test_the_query_is_the_class(fsc):
    data = Fsc147(fsc)
    assert data.sample_ids == ("val/3.jpg", "val/2.jpg", "val/4.jpg", "val/6.jpg")
    sample = data.get(1)
    assert (sample.query, sample.task) == ("sea shells", "counting")
    assert sample.truth.points.tolist() == [[3, 4], [20, 9]]
    assert sample.metadata == {"dataset": "fsc147", "original_size": [40, 30], "examples": [[1, 2, 5, 6]]}
    assert data.get(0).query == "crème"
    assert Fsc147(fsc, split="val_coco").sample_ids == ("val_coco/2.jpg",)
    for index, message in ((2, "'points'"), (3, "6.jpg")):
        with pytest.raises(DatasetError, match=message):
            data.get(index)
    with pytest.raises(DatasetError, match="no class"):
        Fsc147(fsc, split="train").get(0)
    with pytest.raises(DatasetError, match="no samples"):
        Fsc147(fsc, split="test")
    with pytest.raises(DatasetError, match="train, val, test, val_coco"):
        Fsc147(fsc, split="testA")
