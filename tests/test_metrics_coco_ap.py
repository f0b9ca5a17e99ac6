"""AP against pycocotools, faster-coco-eval and torchmetrics, to the last digit that they share."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from visenv.errors import InvalidData
from visenv.rewards.metrics import CocoAP
from visenv.rewards.metrics.coco_ap import AREA_BANDS
from visenv.types import BoxesTruth, Detections, Outcome

BANDS = [(0.0, 1e10), *AREA_BANDS.values()]
NAMES = ("car", "bus", "van")


def random_scene(rng, *, ignore=True, most=25):
    """Boxes and their truth: jittered copies, misses, spam, several categories, crowds."""
    count = rng.integers(0, most)
    corners = rng.uniform(0, 300, (count, 2))
    true = np.concatenate([corners, corners + rng.uniform(2, 60, (count, 2))], axis=1).round(1)
    labels = rng.choice(NAMES, count)
    copies = rng.integers(0, count, rng.integers(0, 2 * count)) if count else np.zeros(0, int)
    found = true[copies] + rng.normal(0, 2, (len(copies), 4)).round(1)
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    guessed = np.where(rng.random(len(copies)) < 0.8, labels[copies], rng.choice(NAMES, len(copies)))
    scores = rng.random(len(copies)).round(1)  # many ties
    regions = rng.uniform(0, 200, (rng.integers(0, 3), 2))
    crowds = np.concatenate([regions, regions + 80], axis=1) if ignore else None
    truth = BoxesTruth(true, tuple(labels.tolist()), crowds)
    return Outcome(Detections(found, scores=scores, labels=tuple(guessed.tolist())), "", "answer", 1), truth


def coco_files(scenes):
    """The same scenes as COCO has them."""
    images, annotations, results = [], [], []
    for image, (outcome, truth) in enumerate(scenes, start=1):
        images.append({"id": image, "width": 400, "height": 400})
        crowds = [] if truth.ignore is None else [(box, name, 1) for box in truth.ignore for name in NAMES]
        plain = [(box, name, 0) for box, name in zip(truth.boxes, truth.labels, strict=True)]
        for (x0, y0, x1, y1), name, crowd in [*plain, *crowds]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": NAMES.index(name) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": (x1 - x0) * (y1 - y0),
                    "iscrowd": crowd,
                }
            )
        found = outcome.detections
        for (x0, y0, x1, y1), score, name in zip(found.boxes, found.scores, found.labels, strict=True):
            results.append(
                {
                    "image_id": image,
                    "category_id": NAMES.index(name) + 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "score": score,
                }
            )
    categories = [{"id": index, "name": name} for index, name in enumerate(NAMES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories, "info": {}}, results


def official(scenes, coco, evaluator, max_dets):
    content, results = coco_files(scenes)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco()
        truth.dataset = content
        truth.createIndex()
        evaluation = evaluator(truth, truth.loadRes(results), "bbox")
        evaluation.params.areaRng = [list(band) for band in BANDS]
        evaluation.params.areaRngLbl = ["all", *AREA_BANDS]
        evaluation.params.maxDets = [max_dets]
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]  # (T, R, K, A, M), (T, K, A, M)

    def mean(part):
        part = part[part > -1]
        return part.mean() if part.size else np.nan

    figures = {"AP": mean(precision[..., 0, 0]), "AR": mean(recall[..., 0, 0])}
    figures |= {"AP@0.50": mean(precision[0, ..., 0, 0]), "AP@0.75": mean(precision[5, ..., 0, 0])}
    return figures | {f"AP_{name}": mean(precision[..., band, 0]) for band, name in enumerate(AREA_BANDS, start=1)}


def ours(scenes, max_dets):
    metric = CocoAP(max_dets)
    for scene in scenes:
        metric.update(*scene)
    return metric


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("max_dets", [500, 4])
def test_it_agrees_with_pycocotools(seed, max_dets):
    rng = np.random.default_rng(seed)
    scenes = [random_scene(rng) for _ in range(6)]
    figures = ours(scenes, max_dets).compute()
    expected = official(scenes, COCO, COCOeval, max_dets)
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


@pytest.mark.parametrize("seed", range(4))
def test_it_agrees_with_faster_coco_eval(seed):
    import faster_coco_eval as faster

    rng = np.random.default_rng(100 + seed)
    scenes = [random_scene(rng, most=60) for _ in range(8)]
    figures = ours(scenes, 500).compute()
    for name, value in official(scenes, faster.COCO, faster.COCOeval_faster, 500).items():
        assert figures[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name


def test_it_agrees_with_torchmetrics():
    import torch
    from torchmetrics import detection

    rng = np.random.default_rng(7)
    scenes = [random_scene(rng, ignore=False) for _ in range(10)]
    # With another limit than 100 its AP is -1: pycocotools looks for that very one.
    theirs = detection.MeanAveragePrecision(backend="pycocotools", max_detection_thresholds=[1, 10, 100])
    for outcome, truth in scenes:
        found = outcome.detections
        labels = [
            torch.tensor([NAMES.index(name) for name in names], dtype=torch.int64)
            for names in (found.labels, truth.labels)
        ]
        predicted = {"boxes": torch.tensor(found.boxes), "scores": torch.tensor(found.scores), "labels": labels[0]}
        theirs.update([predicted], [{"boxes": torch.tensor(truth.boxes).reshape(-1, 4), "labels": labels[1]}])
    with contextlib.redirect_stdout(io.StringIO()):
        expected = theirs.compute()
    figures = ours(scenes, 100).compute()
    for name, key in (("AP", "map"), ("AP@0.50", "map_50"), ("AP@0.75", "map_75"), ("AR", "mar_100")):
        assert figures[name] == pytest.approx(float(expected[key]), abs=1e-6), name


def test_what_is_beyond_the_limit_is_counted():
    boxes = [[index * 20, 0, index * 20 + 10, 10] for index in range(6)]
    metric = CocoAP(4)
    metric.update(Outcome(Detections(boxes), "", "answer", 1), BoxesTruth(boxes))
    figures = metric.compute()
    assert figures["AP_cut"] == 2
    assert figures["AR"] == pytest.approx(4 / 6)
    assert CocoAP().max_dets >= 500


def test_the_bands_are_sodas():
    assert AREA_BANDS == {"eS": (0, 144), "rS": (144, 400), "gS": (400, 1024), "N": (1024, 2000)}
    metric = CocoAP()
    boxes = [[0, 0, 10, 10], [100, 0, 115, 15], [200, 0, 225, 25], [300, 0, 340, 40], [500, 0, 600, 100]]
    metric.update(Outcome(Detections(boxes[1:]), "", "answer", 1), BoxesTruth(boxes))
    figures = metric.compute()
    assert [figures[f"AP_{name}"] for name in AREA_BANDS] == [0.0, 1.0, 1.0, 1.0]
    assert figures["AR"] == 0.8


def test_spam_on_a_null_sample_counts_against_the_only_category():
    box = [[0, 0, 10, 10]]
    metric = CocoAP()
    metric.update(Outcome(Detections(box, scores=[0.5]), "", "answer", 1), BoxesTruth(box, ("car",)))
    assert metric.compute()["AP"] == 1.0
    metric.update(Outcome(Detections(box, scores=[0.9]), "", "answer", 1), BoxesTruth(np.zeros((0, 4)), ()))
    assert metric.compute()["AP"] == pytest.approx(0.5)
    assert np.isnan(metric.values).tolist() == [False, True]


@pytest.mark.parametrize("max_dets", [0, True, 2.5])
def test_the_limit_is_a_whole_number(max_dets):
    with pytest.raises(InvalidData, match="max_dets"):
        CocoAP(max_dets)
