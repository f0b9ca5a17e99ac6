"""Tables of Hugging Face and the files of VisHarness's release."""

import io
import json
import pickle

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from visenv.datasets import hf, visharness
from visenv.datasets.hf import HfTable
from visenv.datasets.visharness import VisHarnessRows
from visenv.datasets.visharness_results import item_id, read_results
from visenv.errors import DatasetError
from visenv.images import to_png_bytes
from visenv.masks import Masks
from visenv.rewards.metrics import CountError, GIoU

SIZE = (20, 12)
TARGET = Masks.from_boxes([[2, 1, 8, 5]], SIZE[::-1])


def pixels(value=40):
    return np.full((SIZE[1], SIZE[0], 3), value, np.uint8)


def mask_png():
    return to_png_bytes(np.repeat(TARGET.to_dense()[0][:, :, None].astype(np.uint8) * 255, 3, axis=2))


# --- tables of Hugging Face -----------------------------------------------------------------------------------------


def table():
    rows = {
        "snap": [Image.fromarray(pixels(shade)) for shade in (10, 20, 30)],
        "caption": ["the box", "first", "nothing"],
        "mask": [Image.open(io.BytesIO(mask_png())), None, None],
    }
    kinds = {"snap": datasets.Image(), "caption": datasets.Value("string"), "mask": datasets.Image()}
    return datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))


def test_a_saved_table_is_read_row_by_row(tmp_path):
    datasets.DatasetDict({"train": table(), "validation": table()}).save_to_disk(tmp_path / "saved")
    path = f"{tmp_path}/saved?image=snap"
    data = hf.make(path=path, family="refseg", split="val", difficulty=0)
    assert data.sample_ids == ("val/0", "val/1", "val/2")
    sample = data.get(0)
    assert (sample.query, sample.task) == ("the box", "segmentation")
    np.testing.assert_array_equal(sample.image, pixels(10))
    assert sample.truth.target == TARGET
    assert data.get(2).truth.is_null
    twin = pickle.loads(pickle.dumps(data))
    assert twin.get(0).truth == sample.truth
    with pytest.raises(DatasetError, match="splits train, validation, not 'test'"):
        hf.make(path=path, family="refseg", split="test", difficulty=0)
    with pytest.raises(DatasetError, match="a column of image .*hf:PATH.image=NAME"):
        hf.make(path=f"{tmp_path}/saved", family="refseg", split="val", difficulty=0)
    with pytest.raises(DatasetError, match="a column of boxes"):
        hf.make(path=path, family="densedet", split="val", difficulty=0)


def test_one_table_and_a_table_in_memory(tmp_path):
    table().save_to_disk(tmp_path / "one")
    data = hf.make(path=f"{tmp_path}/one?image=snap", family="refseg", split="anything", difficulty=0)
    assert data.get(1).query == "first"
    memory = HfTable(table(), family="grefseg", split="train", columns={"image": "snap"})
    assert memory.get(0).truth.target == TARGET
    with pytest.raises(DatasetError, match="datasets.Dataset"):
        HfTable([1, 2], family="grefseg")


def test_a_saved_table_that_names_files_elsewhere_is_refused(tmp_path):
    table().save_to_disk(tmp_path / "one")
    state = json.loads((tmp_path / "one" / "state.json").read_text())
    state["_data_files"] = [{"filename": "../other.arrow"}]
    (tmp_path / "one" / "state.json").write_text(json.dumps(state))
    with pytest.raises(DatasetError, match="relative path inside"):
        hf.make(path=f"{tmp_path}/one?image=snap", family="refseg", split="train", difficulty=0)


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)
    return path


def picture_cell(value=40):
    return {"bytes": to_png_bytes(pixels(value)), "path": None}


RLE = TARGET.to_coco_rles()[0]
MASKS = {
    "png": mask_png(),
    "cell": {"bytes": mask_png(), "path": None},
    "rle": RLE,
    "two": [RLE, Masks.from_boxes([[0, 0, 1, 1]], SIZE[::-1]).to_coco_rles()[0]],
    "polygons": [[2.0, 1.0, 8.0, 1.0, 8.0, 5.0, 2.0, 5.0]],
}


@pytest.mark.parametrize("kind", MASKS)
def test_masks_may_be_written_in_several_ways(kind, tmp_path):
    file = write_rows(tmp_path / "a.parquet", [{"image": picture_cell(), "text": "it", "mask": MASKS[kind]}])
    truth = hf.make(path=str(file), family="refseg", split="train", difficulty=0).get(0).truth
    assert truth.target[0] == TARGET
    assert len(truth.target) == (2 if kind == "two" else 1)


def test_parquet_files_of_a_split_are_one_table(tmp_path):
    for part in range(3):
        rows = [
            {
                "image": {"bytes": None, "path": f"images/{part}-{row}.png"},
                "query": f"{part}-{row}",
                "boxes": [[1.0, 2.0, 5.0, 6.0]],
                "points": [[3.0, 4.0]] * row,
                "id": f"id-{part}-{row}",
            }
            for row in range(3)
        ]
        write_rows(tmp_path / "data" / f"train-{part:05d}-of-00003.parquet", rows)
        for row in range(3):
            (tmp_path / "images").mkdir(exist_ok=True)
            (tmp_path / "images" / f"{part}-{row}.png").write_bytes(to_png_bytes(pixels(10 * part + row)))
    dense = hf.make(path=str(tmp_path), family="densedet", split="train", difficulty=0)
    assert dense.size == 9
    assert [dense.get(index).query for index in (8, 0, 4)] == ["2-2", "0-0", "1-1"]
    assert dense.find("train/id-1-2").truth.boxes.tolist() == [[1, 2, 5, 6]]
    assert dense.get(5).image[0, 0, 0] == 12
    count = hf.make(path=str(tmp_path), family="refcount", split="train", difficulty=0)
    assert [len(count.get(index).truth.points) for index in range(3)] == [0, 1, 2]
    assert pickle.loads(pickle.dumps(count)).get(8).query == "2-2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": ""}, "Expected a text"),
        ({"image": None}, "Expected a picture"),
        ({"image": {"bytes": b"no picture", "path": None}}, "cannot be used"),
        ({"image": {"bytes": None, "path": "../up.png"}}, "relative path inside"),
        ({"image": {"bytes": None, "path": "/etc/passwd"}}, "lies outside"),
        ({"mask": {"bytes": to_png_bytes(pixels()[:5]), "path": None}}, "Expected a mask of 20x12"),
        ({"mask": {"bytes": b"", "path": None}}, "mask in 'mask' of sample"),
    ],
)
def test_what_is_broken_in_a_row_is_said(change, message, tmp_path):
    row = {"image": picture_cell(), "text": "it", "mask": {"bytes": mask_png(), "path": None}}
    file = write_rows(tmp_path / "a.parquet", [row | change, row])
    data = hf.make(path=str(file), family="refseg", split="train", difficulty=0)
    with pytest.raises(DatasetError, match=message):
        data.get(0)
    assert data.get(1).query == "it"


def test_a_parquet_file_that_is_cut_off_or_a_bomb_is_refused(tmp_path, monkeypatch):
    file = write_rows(tmp_path / "a.parquet", [{"image": picture_cell(), "text": "it", "mask": RLE}])
    whole = file.read_bytes()
    for end in (0, 10, len(whole) // 2, len(whole) - 3):
        file.write_bytes(whole[:end])
        with pytest.raises(DatasetError, match="Expected a Parquet file"):
            hf.make(path=str(file), family="refseg", split="train", difficulty=0)
    file.write_bytes(whole)
    monkeypatch.setattr("visenv.datasets.tables.MAX_GROUP_BYTES", 10)
    with pytest.raises(DatasetError, match="at most 10 bytes a row group"):
        hf.make(path=str(file), family="refseg", split="train", difficulty=0)


# --- VisHarness's Parquet -------------------------------------------------------------------------------------------


def parquet_row(item, truth, question="what is asked", image="/elsewhere/images/a.png"):
    source = {"ReasonSeg": "reasonseg", "GRES": "gres", "REC8K": "rec8k"}[item.partition("-")[0]]
    return {
        "data_source": f"visharness/{source}",
        "agent_name": "visharness_agent",
        "prompt": [{"role": "user", "content": f"<image>{question}"}],
        "images": [{"image": image}],
        "reward_model": {"style": "rule", "ground_truth": json.dumps(truth)},
        "extra_info": {
            "index": 0,
            "split": "train",
            "item_id": item,
            "question": question,
            "task_type": truth["type"],
            "image_path": image,
            "image_height": SIZE[1],
            "image_width": SIZE[0],
        },
    }


IGNORE = Masks.from_boxes([[0, 0, 2, 2]], SIZE[::-1]).to_coco_rles()[0]
EMPTY = Masks.from_dense(np.zeros(SIZE[::-1], bool)).to_coco_rles()[0]


@pytest.fixture
def release(tmp_path):
    rows = [
        parquet_row("GRES-12", {"type": "gres_rle_mask", "data": RLE}),
        parquet_row("GRES-13", {"type": "gres_rle_mask", "data": None}),
        parquet_row("REC8K-a-red_cups", {"type": "point", "data": [[3.5, 4], [9, 9]]}),
        parquet_row("ReasonSeg-x", {"type": "reasonseg_rle_mask", "data": {"target_rle": RLE, "ignore_rle": IGNORE}}),
        parquet_row("ReasonSeg-y", {"type": "reasonseg_rle_mask", "data": {"target_rle": RLE, "ignore_rle": EMPTY}}),
    ]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(to_png_bytes(pixels()))
    write_rows(tmp_path / "train.parquet", rows)
    return tmp_path


def opened(release, family):
    return visharness.make(path=str(release), family=family, split="train", difficulty=0)


def test_each_family_has_its_rows(release):
    assert opened(release, "grefseg").sample_ids == ("train/GRES-12", "train/GRES-13")
    assert opened(release, "refseg").sample_ids == ("train/GRES-12",)
    assert opened(release, "refcount").sample_ids == ("train/REC8K-a-red_cups",)
    assert opened(release, "reasonseg").sample_ids == ("train/ReasonSeg-x", "train/ReasonSeg-y")
    with pytest.raises(DatasetError, match="annotated for"):
        opened(release, "densedet")
    with pytest.raises(DatasetError, match=r"no 'val.parquet'"):
        VisHarnessRows(release, split="val")


def test_truths_are_those_of_the_rows(release):
    gres = opened(release, "grefseg")
    assert gres.get(0).query == "what is asked"
    assert gres.get(0).truth.target == TARGET
    assert gres.get(1).truth.is_null
    assert opened(release, "refcount").get(0).truth.points.tolist() == [[3.5, 4], [9, 9]]
    reason = opened(release, "reasonseg")
    assert reason.get(0).truth.ignore.areas.tolist() == [4]
    assert reason.get(1).truth.ignore is None


def test_a_picture_elsewhere_is_not_read(release):
    (release / "images" / "a.png").unlink()
    with pytest.raises(DatasetError, match="copy the pictures there"):
        opened(release, "grefseg").get(0)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"type": "text", "data": "x"}, "Expected gres_rle_mask"),
        ({"type": "gres_rle_mask", "data": {"size": [3, 3], "counts": [9]}}, "polygons or an RLE"),
        ({"type": "point", "data": [[1]]}, "Expected points"),
        ({"type": "point"}, "'type' and 'data'"),
    ],
)
def test_a_broken_truth_is_said(truth, message, release):
    write_rows(
        release / "train.parquet",
        [parquet_row("GRES-1", {"data": None, "type": "x"} | truth if "data" in truth else truth)],
    )
    with pytest.raises(DatasetError, match=message):
        opened(release, "grefseg").get(0)


# --- VisHarness's checkpoints ---------------------------------------------------------------------------------------


def line(item, boxes=(), masks=(), **fields):
    results = {"final_bboxes": list(boxes), "final_masks": list(masks), "count": len(boxes)} if boxes or masks else None
    return {"id": item, "final_results": results, "termination_reason": "answer", "answer": "done", **fields}


def test_checkpoints_are_outcomes_for_the_metrics(release, tmp_path):
    lines = [
        line("GRES-12", status="failed"),
        line("REC8K-a-red_cups", [[0, 0, 3, 3]], [RLE], current_round=4),
        line("GRES-13"),
        line("GRES-12", [[2, 1, 8, 5]], [RLE], answer="there"),
    ]
    file = tmp_path / "run_ckpt.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in lines) + "\n")
    results = read_results(file)
    assert list(results) == ["GRES-12", "REC8K-a-red_cups", "GRES-13"]
    metric = GIoU()
    data = opened(release, "grefseg")
    for index in range(data.size):
        sample = data.get(index)
        metric.update(results[item_id(sample)].outcome, sample.truth)
    assert metric.compute()["gIoU"] == 1.0
    assert results["GRES-12"].outcome.answer == "there"
    assert results["REC8K-a-red_cups"].outcome.turns == 4
    count = CountError()
    sample = opened(release, "refcount").get(0)
    count.update(results[item_id(sample)].outcome, sample.truth)
    assert count.compute()["MAE"] == 1.0


@pytest.mark.parametrize(
    ("fields", "termination"),
    [
        ({"termination_reason": "answer"}, "answer"),
        ({"termination_reason": "max_rounds_reached"}, "max_turns"),
        ({"termination_reason": "failed"}, "invalid"),
        ({"status": "failed", "answer": "x"}, "invalid"),
        ({"trajectory_invalid": True, "termination_reason": "answer"}, "invalid"),
        ({"max_rounds_reached": True}, "max_turns"),
        ({"trajectory_finished": True}, "answer"),
        ({"answer": "x"}, "answer"),
        ({"current_round": 10, "max_rounds": 10}, "max_turns"),
        ({"current_round": 3, "max_rounds": 10}, "answer"),
        ({"current_round": 3, "max_rounds": 10, "status": "running"}, "invalid"),
        ({"status": "finished"}, "answer"),
        ({}, "invalid"),
    ],
)
def test_how_a_trajectory_ended(fields, termination, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"meta_data": {"id": 7}, **fields}))
    outcome = read_results([tmp_path / "a.jsonl"])["7"].outcome
    assert outcome.termination == termination
    assert outcome.detections is None
    assert (outcome.answer is not None) == (termination == "answer")


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"answer": "x"},
        {"id": 1, "final_results": {"final_bboxes": [[1, 2]], "final_masks": []}},
        {"id": 1, "final_results": {"final_bboxes": [[0, 0, 1, 1]], "final_masks": [{"size": [2, 2]}]}},
        {"id": 1, "final_results": {"final_bboxes": [[0, 0, 1, 1]] * 2, "final_masks": [RLE]}},
    ],
)
def test_a_broken_line_is_said(value, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps(value))
    with pytest.raises(DatasetError, match="line 1"):
        read_results(tmp_path / "a.jsonl")
