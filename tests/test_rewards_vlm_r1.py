"""VLM-R1 against pycocotools and by hand, on whatever text, and how it is gamed."""

import contextlib
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visenv.rewards.vlm_r1 import BOUNDS, parse_answer, score
from visenv.types import BoxesTruth, Detections

CUPS = BoxesTruth([[0, 0, 10, 10], [20, 20, 30, 30]], ("cup", "cup"))


def fenced(value):
    inside = value if isinstance(value, str) else json.dumps(value)
    return f"<think>…</think><answer>```json\n{inside}\n```</answer>"


def found(*boxes, label="cup"):
    return Detections(np.array(boxes, float).reshape(-1, 4), labels=(label,) * len(boxes))


def published(boxes, labels, truth):
    """The release in its own terms: COCOeval over one picture, all scores 1."""
    categories = {name: index for index, name in enumerate(sorted(set(truth.labels)), start=1)}
    xywh = lambda box: [box[0], box[1], box[2] - box[0], box[3] - box[1]]  # noqa: E731
    annotations = [
        {"id": index, "image_id": 1, "category_id": categories[label], "bbox": xywh(box), "iscrowd": 0}
        | {"area": (box[2] - box[0]) * (box[3] - box[1])}
        for index, (box, label) in enumerate(zip(truth.boxes.tolist(), truth.labels, strict=True), start=1)
    ]
    results = [
        {"image_id": 1, "category_id": categories[label], "bbox": xywh(box), "score": 1.0}
        for box, label in zip(boxes, labels, strict=True)
        if label in categories
    ]
    if not results:
        return 0.0
    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO()
        true.dataset = {
            "images": [{"id": 1}],
            "annotations": annotations,
            "categories": [{"id": number} for number in categories.values()],
        }
        true.createIndex()
        evaluation = COCOeval(true, true.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[0] * min(1.0, len(truth.boxes) / len(boxes))


@pytest.mark.parametrize("seed", range(12))
def test_it_agrees_with_pycocotools(seed):
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, 60, (6, 2)).astype(float)
    true = np.concatenate([corners, corners + generator.integers(10, 30, (6, 2))], axis=1)
    names = generator.choice(["cup", "plate"], 6).tolist()
    picked = generator.integers(0, 6, 8)
    boxes = true[picked] + generator.integers(-2, 3, (8, 4))
    labels = [names[index] for index in picked[:-1]] + ["spoon"]
    truth = BoxesTruth(true, tuple(names))
    mine = score(Detections(boxes, labels=tuple(labels)), truth)
    assert mine == pytest.approx(published(boxes.tolist(), labels, truth))
    assert 0 < mine < 1


def test_by_hand():
    assert score(found([0, 0, 10, 10], [20, 20, 30, 30]), CUPS) == 1.0
    # One of two: precision 1 up to a recall of 0.5, which is 51 of 101 points.
    assert score(found([0, 0, 10, 10]), CUPS) == pytest.approx(51 / 101)
    assert score(found([0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60], [70, 70, 80, 80]), CUPS) == 0.5
    assert score(found([0, 0, 10, 10], [20, 20, 30, 30], label="plate"), CUPS) == 0.0


def test_empty_sides():
    nothing = BoxesTruth(np.zeros((0, 4)), ())
    assert score(found(), nothing) == 1.0
    assert score(found([0, 0, 1, 1]), nothing) == 0.0
    assert score(found(), CUPS) == 0.0
    assert score(None, nothing) == 0.0, "Silence is no answer."


def test_without_names_all_boxes_are_of_one_category():
    unnamed = BoxesTruth(CUPS.boxes)
    assert score(Detections(CUPS.boxes), unnamed) == score(Detections(CUPS.boxes), CUPS) == 1.0
    assert score(found(*CUPS.boxes), unnamed) == 1.0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (fenced([{"bbox_2d": [0, 0, 10, 10], "label": "cup"}]), 1),
        (fenced("None"), 0),
        (fenced("[]"), 0),
        (fenced("{}"), None),
        (fenced("nothing"), None),
        ("<answer>[]</answer>", None),
        (fenced("[]") + fenced("[]"), None),
        ("```json\n[]\n```", None),
        ("<answer>```json```</answer>", None),
        ("", None),
    ],
)
def test_answers(text, count):
    read = parse_answer(text)
    assert (None if read is None else len(read)) == count


def test_what_is_malformed_counts_as_predicted_and_matches_nothing():
    good = {"bbox_2d": [0, 0, 10, 10], "label": "cup"}
    wrong = [7, {"label": "cup"}, {"bbox_2d": [9, 9, 1, 1], "label": "cup"}, {"bbox_2d": [0, 0, 10, 10]}]
    read = parse_answer(fenced([good, *wrong]))
    assert len(read) == 5
    assert score(read, CUPS) == pytest.approx(51 / 101 * 2 / 5)


@given(st.text(alphabet='<>/answer`json{}[]0123,":box_2dlabel None', max_size=200))
def test_no_text_breaks_it(text):
    for written in (text, fenced(text)):
        assert BOUNDS[0] <= score(parse_answer(written), CUPS) <= BOUNDS[1]


def test_how_it_is_gamed_guesses_after_the_sure_boxes_are_free():
    truth = BoxesTruth([[x, 0, x + 8, 8] for x in range(0, 100, 10)], ("cup",) * 10)
    sure, guesses = [[0, 0, 8, 8]], [[x, 200, x + 8, 208] for x in range(0, 90, 10)]
    assert score(found(*sure, *guesses), truth) == score(found(*sure), truth) > 0
    assert score(found(*sure, *guesses, *guesses), truth) < score(found(*sure), truth)
