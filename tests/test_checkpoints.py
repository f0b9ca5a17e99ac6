"""Checkpoints of VisHarness's runner, in the layout that it writes, scored as its evaluators score them."""

import json
import re

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from typer.testing import CliRunner

from visenv.cli import app
from visenv.errors import DatasetError, InvalidData
from visenv.evaluation.checkpoints import score_checkpoints

LARGE, SHOWN = (2000, 1200), (1800, 1080)
"""(width, height) of a picture's file, and as the runner shows it: no larger than 1920x1080."""


def rle(mask):
    """As the runner writes a mask."""
    found = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def box_mask(box, size):
    mask = np.zeros(size[::-1], bool)
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = True
    return mask


def line(item, boxes=(), size=SHOWN, *, answer="done", reason="answer", **fields):
    """A line with every member of the runner's ``result_dict``; unless said otherwise, masks are the boxes."""
    masks = [rle(box_mask(box, size)) for box in boxes]
    found = {"final_bboxes": [list(map(float, box)) for box in boxes], "final_masks": masks, "count": len(boxes)}
    return {
        "max_rounds": 12,
        "current_round": 3,
        "status": "failed" if reason == "failed" else "finished",
        "trajectory_finished": reason == "answer",
        "max_rounds_reached": reason == "max_rounds_reached",
        "termination_reason": reason,
        "answer": answer if reason == "answer" else None,
        "error": None,
        "trajectory_invalid": reason == "failed",
        "invalid_reason": None,
        "invalid_stage": None,
        "invalid_turn_index": None,
        "invalid_error": None,
        "trajectory_uid": "0" * 32,
        "efficiency_metrics": {
            "trajectory_elapsed_seconds": 2.0,
            "cumulative_visual_tokens": 100 * max(1, len(boxes)),
            "archive_previous_images": True,
        },
        "turn_records": [{"turn_index": 1, "completion": "<think>x</think>"}],
        "meta_data": {"id": item, "question": "what", "image_path": "/elsewhere/a.jpg", "image": "aGk="},
        "conversation": [{"role": "system", "content": "…"}],
        "tool_response": [],
        "images": {"img_0": {"path": "aGk="}},
        "final_results": {**found, "final_visual_image": "aGk="} if boxes else None,
        **fields,
    }


def write(path, lines):
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    return path


@pytest.fixture(scope="module")
def reasonseg(tmp_path_factory):
    """Two samples with a target, one of them with an ignored part, and one without."""
    root = tmp_path_factory.mktemp("reasonseg")
    (root / "val").mkdir()
    shapes = {
        "a": [("target", (100, 100, 900, 700)), ("ignore", (800, 100, 900, 700))],
        "b": [("target", (0, 0, 500, 500))],
        "c": [],
    }
    for name, parts in shapes.items():
        Image.fromarray(np.full((LARGE[1], LARGE[0], 3), 90, np.uint8)).save(root / "val" / f"{name}.jpg")
        drawn = [
            {"label": label, "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]} for label, (x0, y0, x1, y1) in parts
        ]
        (root / "val" / f"{name}.json").write_text(json.dumps({"text": ["it"], "is_sentence": True, "shapes": drawn}))
    return root


def published(root, predictions):
    """The evaluator's figures, by its description: at the size of the file, nearest neighbour."""
    total = np.zeros(2)
    ious = []
    for name in ("a", "b", "c"):
        truth = np.zeros(LARGE[::-1], np.uint8)
        for shape in json.loads((root / "val" / f"{name}.json").read_text())["shapes"]:
            points, value = np.array(shape["points"], np.int32), 255 if shape["label"] == "ignore" else 1
            cv2.polylines(truth, [points], True, value, 1)
            cv2.fillPoly(truth, [points], value)
        found = np.zeros(LARGE[::-1], bool)
        for box in predictions.get(name, ()):
            mask = box_mask(box, SHOWN).astype(np.uint8)
            found |= cv2.resize(mask, LARGE, interpolation=cv2.INTER_NEAREST) > 0
        found &= truth != 255
        parts = np.array([(found & (truth == 1)).sum(), (found | (truth == 1)).sum()])
        total += parts
        ious.append(parts[0] / parts[1] if (truth == 1).any() else float(name in predictions and not found.any()))
    return {"gIoU": np.mean(ious), "cIoU": total[0] / total[1]}


def test_masks_are_measured_at_the_size_of_the_file(reasonseg, tmp_path):
    predictions = {"a": [(91, 95, 500, 611), (400, 300, 777, 629)], "b": [(3, 3, 451, 400)], "c": []}
    lines = [line(f"ReasonSeg-{name}", boxes) for name, boxes in predictions.items()]
    report = score_checkpoints(write(tmp_path / "run_ckpt.jsonl", lines), dataset=f"reasonseg:{reasonseg}")
    part = report["tasks"]["reasonseg"]
    expected = published(reasonseg, predictions)
    assert 0.5 < expected["gIoU"] < 0.99
    assert {name: part["metrics"][name] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert part["metrics"]["N_acc"] == 1.0
    assert part["ends"] == {"answer": 3}
    assert part["cost"] == {"cumulative_visual_tokens": pytest.approx(400 / 3), "trajectory_elapsed_seconds": 2.0}
    assert part["intervals"]["gIoU"][0] <= part["metrics"]["gIoU"] <= part["intervals"]["gIoU"][1]
    assert report["results"] == 3
    assert (report["replaced"], report["unexpected"]) == (0, 0)


def test_what_is_missing_failed_or_ran_out_is_a_miss(reasonseg, tmp_path):
    lines = [line("ReasonSeg-c", reason="max_rounds_reached"), line("ReasonSeg-elsewhere"), line("ReasonSeg-b")]
    last = line("ReasonSeg-b", [(3, 3, 451, 400)], reason="failed")
    files = [write(tmp_path / "1_ckpt.jsonl", lines), write(tmp_path / "2_ckpt.jsonl", [last])]
    report = score_checkpoints(files, dataset=f"reasonseg:{reasonseg}")
    part = report["tasks"]["reasonseg"]
    assert part["ends"] == {"invalid": 1, "max_turns": 1, "missing": 1}
    assert (part["samples"], part["missing"], report["replaced"], report["unexpected"]) == (3, 1, 1, 1)
    # A result counts whatever became of its trajectory, as in the evaluators; "nothing there" only if it was answered.
    assert part["metrics"]["gIoU"] == pytest.approx(published(reasonseg, {"b": [(3, 3, 451, 400)]})["gIoU"], abs=1e-12)
    assert part["metrics"]["N_acc"] == 0.0


def test_a_manifest_says_what_counts(reasonseg, tmp_path):
    file = write(tmp_path / "run_ckpt.jsonl", [line("ReasonSeg-c")])
    (tmp_path / "qa.json").write_text(json.dumps([{"id": "ReasonSeg-c", "image_path": "val/c.jpg", "question": "x"}]))
    report = score_checkpoints(file, dataset=f"reasonseg:{reasonseg}", manifest=tmp_path / "qa.json")
    assert (report["tasks"]["reasonseg"]["samples"], report["tasks"]["reasonseg"]["metrics"]["gIoU"]) == (1, 1.0)
    write(tmp_path / "qa.jsonl", [{"id": "ReasonSeg-c"}, {"id": "ReasonSeg-z"}])
    with pytest.raises(InvalidData, match="1 have none, such as 'ReasonSeg-z'"):
        score_checkpoints(file, dataset=f"reasonseg:{reasonseg}", manifest=tmp_path / "qa.jsonl")
    write(tmp_path / "bad.jsonl", [{"id": "ReasonSeg-c"}, {"name": 3}])
    with pytest.raises(DatasetError, match=r"'id' of '.*bad.jsonl', line 2"):
        score_checkpoints(file, dataset=f"reasonseg:{reasonseg}", manifest=tmp_path / "bad.jsonl")


def test_counts_are_hand_computed(tmp_path):
    points = {"red  cups": [[10, 10], [50, 50], [90, 90]], "dogs": [[5, 5]]}
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(tmp_path / "images" / "a.jpg")
    entry = {phrase: {"points": each, "class": "x", "attribute": [], "type": []} for phrase, each in points.items()}
    (tmp_path / "annotations.json").write_text(json.dumps({"a.jpg": entry}))
    (tmp_path / "splits.json").write_text(json.dumps({"val": [["a.jpg", phrase] for phrase in points]}))
    # The runner's picture is half as large; one box is where nothing is. Half a box's diagonal is what "near" means.
    small = (100, 50)
    lines = [
        line("REC8K-a-red_cups", [(3, 3, 7, 7), (23, 23, 27, 27), (70, 5, 74, 9), (90, 40, 94, 44)], small),
        line("REC8K-a-dogs", reason="max_rounds_reached"),
    ]
    report = score_checkpoints(write(tmp_path / "run_ckpt.jsonl", lines), dataset=f"rec8k:{tmp_path}")
    figures = report["tasks"]["refcount"]["metrics"]
    assert (figures["MAE"], figures["RMSE"]) == (1.0, 1.0)
    assert (figures["precision"], figures["recall"]) == (2 / 4, 2 / 4)
    assert figures["point_F1"] == 0.5


def test_boxes_are_hand_computed(tmp_path):
    Image.fromarray(np.zeros((100, 200, 3), np.uint8)).save(tmp_path / "a.jpg")
    gt = {"car": [[0, 0, 40, 40], [100, 0, 140, 40]], "open sign": [[50, 50, 60, 60]]}
    write(tmp_path / "VisDrone.jsonl", [{"image_path": "a.jpg", "gt": gt}])
    lines = [
        line("VisDrone-a-car", [(0, 0, 20, 20), (50, 0, 70, 12)], (100, 50)),
        line("VisDrone-a-open_sign"),
    ]
    file = write(tmp_path / "run_ckpt.jsonl", lines)
    report = score_checkpoints(file, dataset=f"visdrone:{tmp_path}", split="test")
    figures = report["tasks"]["densedet"]["metrics"]
    # At .50 and .55 both cars are found (IoU 1 and .6, which the evaluator's epsilon takes below .60), then one, of 2
    # predicted and 3 true.
    assert figures["F1@0.50"] == pytest.approx(0.8)
    assert figures["F1@0.95"] == pytest.approx(0.4)
    assert figures["F1@0.50:0.95"] == pytest.approx((2 * 0.8 + 8 * 0.4) / 10)
    assert figures["macro_precision@0.50"] == 0.5


def row(item, kind, data, size=(20, 12), **info):
    """What a run on the release's Parquet has for ``meta_data``."""
    truth = json.dumps({"type": kind, "data": data})
    sides = {"image_width": size[0], "image_height": size[1]}
    return {
        "id": "7",
        "data_source": "visharness/x",
        "reward_model": {"style": "rule", "ground_truth": truth},
        "ground_truth": truth,
        "extra_info": {"item_id": item, "question": "what", **sides, **info},
    }


def test_a_run_on_the_release_brings_its_truth_along(tmp_path):
    size = (20, 12)
    half = rle(box_mask((0, 0, 10, 12), size))
    ignored = rle(box_mask((0, 0, 5, 12), size))
    large = json.dumps({"type": "point", "data": [[4, 4]]})
    lines = [
        line("7", [(0, 0, 10, 6)], size, meta_data=row("GRES-1", "gres_rle_mask", half)),
        line("7", meta_data=row("GRES-2", "gres_rle_mask", None)),
        line("7", [(5, 0, 10, 12)], size, meta_data=row("ReasonSeg-x", "reasonseg_rle_mask", {
            "target_rle": half, "ignore_rle": ignored})),
        line("7", [(0, 0, 2, 2)], (10, 6), meta_data=row("REC8K-a-cups", "point", [[2, 2], [19, 11]])),
        line("7", [(0, 0, 4, 4)], size, meta_data=row(
            "REC8K-b-cups", "point", [[1, 1]] * 9, evaluation_ground_truth=large,
            evaluation_original_width=40, evaluation_original_height=24)),
    ]  # fmt: skip
    tasks = score_checkpoints(write(tmp_path / "run_ckpt.jsonl", lines))["tasks"]
    assert tasks["grefseg"]["metrics"]["gIoU"] == pytest.approx((0.5 + 1.0) / 2)
    assert tasks["grefseg"]["metrics"]["N_acc"] == 1.0
    assert tasks["reasonseg"]["metrics"]["gIoU"] == 1.0
    count = tasks["refcount"]["metrics"]
    assert count["MAE"] == 0.5, "1 of 2, and by the evaluation's own truth 1 of 1."
    assert (count["precision"], count["recall"]) == (1.0, pytest.approx(2 / 3))


def test_absurd_numbers_are_as_if_they_were_not_there(tmp_path):
    meta = row("REC8K-a-cups", "point", [[2, 2]], size=(10**400, 10**400))
    costs = {"cumulative_visual_tokens": 10**400, "tool_seconds": 1.5, "archive_previous_images": True}
    absurd = line("7", [(0, 0, 4, 4)], (20, 12), meta_data=meta, efficiency_metrics=costs, current_round=10**400)
    part = score_checkpoints(write(tmp_path / "run_ckpt.jsonl", [absurd]))["tasks"]["refcount"]
    assert (part["metrics"]["MAE"], part["metrics"]["recall"], part["cost"]) == (0.0, 1.0, {"tool_seconds": 1.5})


@pytest.mark.parametrize(
    ("bad", "match"),
    [
        ("{", r"line 2.*broken"),
        ("[]", r"line 2"),
        (json.dumps({"answer": "x"}), r"'id'.*line 2"),
        (json.dumps(line("b", final_results={"final_bboxes": [[1, 2]], "final_masks": []})), "line 2"),
        (
            json.dumps(
                line("b", final_results={"final_bboxes": [[0, 0, 1, 1]], "final_masks": [{"size": [2]}], "count": 1})
            ),
            "line 2",
        ),
        (json.dumps(line("b", [(0, 0, 9, 9)]) | {"final_results": {
            **line("b", [(0, 0, 9, 9)])["final_results"], "count": 2}}), r"'count' says, 2, but got 1"),
    ],
)  # fmt: skip
def test_a_broken_line_is_one_line_with_its_number(reasonseg, tmp_path, bad, match):
    file = tmp_path / "run_ckpt.jsonl"
    file.write_text(json.dumps(line("ReasonSeg-a")) + "\n" + bad + "\n")
    told = CliRunner().invoke(app, ["score", str(file), "--dataset", f"reasonseg:{reasonseg}"])
    assert told.exit_code == 2, told.output
    message = " ".join(told.stderr.split())
    assert "Traceback" not in message
    assert re.search(match, message), message


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"size": (100, 100)}, r"line 1, 'ReasonSeg-a'.*shape of 2000x1200.*100x100"),
        (
            {"final_results": {"final_bboxes": [[0, 0, 5, 5]], "final_masks": [], "count": 1}},
            "line 1.*a mask with each",
        ),
    ],
)
def test_a_result_over_another_picture_is_refused(reasonseg, tmp_path, changed, match):
    file = write(tmp_path / "run_ckpt.jsonl", [line("ReasonSeg-a", [(0, 0, 50, 50)], **changed)])
    with pytest.raises(DatasetError, match=match):
        score_checkpoints(file, dataset=f"reasonseg:{reasonseg}")


def test_what_cannot_be_scored_says_what_to_do(reasonseg, tmp_path):
    file = write(tmp_path / "run_ckpt.jsonl", [line("VisDrone-a-car")])
    with pytest.raises(DatasetError, match=r"'meta_data' of .*line 1.*--dataset NAME:PATH"):
        score_checkpoints(file)
    with pytest.raises(InvalidData, match=r"such as 'ReasonSeg-a'.*such as 'VisDrone-a-car'.*another split"):
        score_checkpoints(file, dataset=f"reasonseg:{reasonseg}")
    with pytest.raises(InvalidData, match="no end|names for"):
        score_checkpoints(file, dataset="photos", family="refseg", split="val")
    with pytest.raises(InvalidData, match="that VisHarness reports"):
        score_checkpoints(file, dataset=f"reasonseg:{reasonseg}", family="interactive")
    with pytest.raises(DatasetError, match=r"none_ckpt.jsonl"):
        score_checkpoints(tmp_path / "none_ckpt.jsonl", dataset=f"reasonseg:{reasonseg}")


def test_the_command_prints_a_table_or_one_document(reasonseg, tmp_path):
    file = write(tmp_path / "run_ckpt.jsonl", [line("ReasonSeg-c"), line("ReasonSeg-b", [(0, 0, 450, 450)])])
    words = ["score", str(file), "--dataset", f"reasonseg:{reasonseg}", "--split", "val"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.stderr
    text = " ".join(shown.stdout.split())
    assert "gIoU" in text
    assert "3 samples: 2 answer, 1 missing. 1 have no result, and count as misses." in text
    assert "cumulative visual tokens: 100.00 a trajectory." in text
    assert "scoring" in shown.stderr
    document = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert document["tasks"]["reasonseg"]["missing"] == 1


def test_reading_and_scoring_report_how_far_they_are(reasonseg, tmp_path):
    file = write(tmp_path / "run_ckpt.jsonl", [line("ReasonSeg-c"), line("ReasonSeg-b")])
    told = []
    score_checkpoints(file, dataset=f"reasonseg:{reasonseg}", progress=lambda *each: told.append(each))
    size = file.stat().st_size
    assert [each for each in told if each[0] == "reading"][-1] == ("reading", size, size)
    assert [each for each in told if each[0] == "scoring"] == [("scoring", done, 3) for done in range(4)]
