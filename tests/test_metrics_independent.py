"""Figures on random inputs against torchmetrics, pycocotools, and transcriptions of the definitions in NumPy."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from visenv.masks import Masks
from visenv.rewards.metrics import (
    AnswerAccuracy,
    CIoU,
    CountError,
    DenseF1,
    GIoU,
    MacroDenseF1,
    MIoU,
    NullAccuracy,
    PointLocalisation,
    PrecisionAt,
    update_all,
)
from visenv.types import AnswerTruth, BoxesTruth, Detections, MaskTruth, Outcome, PointsTruth

SIZE = (40, 50)
SEEDS = range(5)


def random_masks(rng, most):
    frames = np.zeros((int(rng.integers(0, most + 1)), *SIZE), bool)
    for frame in frames:
        x, y = rng.integers(0, 35), rng.integers(0, 25)
        frame[y : y + rng.integers(1, 15), x : x + rng.integers(1, 15)] = True
        frame &= rng.random(SIZE) < 0.9
    return frames


def region_samples(rng, count):
    for _ in range(count):
        target, ignore = random_masks(rng, 2), random_masks(rng, 1)
        termination = str(rng.choice(["answer", "answer", "answer", "max_turns", "invalid"]))
        copied = np.concatenate([target & (rng.random(SIZE) < 0.9), random_masks(rng, 1)])
        frames = None if rng.random() < 0.25 else copied
        yield target, ignore, frames, termination


@pytest.mark.parametrize("seed", SEEDS)
def test_segmentation_is_the_definition_on_full_frames(seed):
    samples = list(region_samples(np.random.default_rng(seed), 40))
    metrics = GIoU(), CIoU(), MIoU(), NullAccuracy(), PrecisionAt()
    ious, intersections, unions, nulls, targeted = [], [], [], [], []
    for target, ignore, frames, termination in samples:
        detections = None
        if frames is not None and len(frames):
            masks = Masks.from_coco_rles(Masks.from_dense(frames).to_coco_rles())
            detections = Detections(masks.boxes, masks)
        truth = MaskTruth(Masks.from_dense(target), Masks.from_dense(ignore))
        update_all(metrics, Outcome(detections, None, termination, 3), truth)

        kept = ~ignore.any(axis=0)
        true = target.any(axis=0) & kept
        predicted = (np.zeros(SIZE, bool) if detections is None else frames.any(axis=0)) & kept
        intersections.append((true & predicted).sum())
        unions.append((true | predicted).sum())
        if true.any():
            ious.append(intersections[-1] / unions[-1])
            targeted.append((ious[-1], detections is not None))
        else:
            ious.append(float(termination == "answer" and detections is None))
            nulls.append(ious[-1])
    figures = {key: value for metric in metrics for key, value in metric.compute().items()}
    alone = np.array([iou for iou, _ in targeted])
    assert figures["gIoU"] == pytest.approx(np.mean(ious), rel=1e-15)
    assert figures["cIoU"] == sum(intersections) / sum(unions)
    assert figures["mIoU"] == pytest.approx(alone.mean(), rel=1e-15)
    assert figures["N_acc"] == np.mean(nulls)
    assert figures["T_acc"] == np.mean([found for _, found in targeted])
    for threshold in (0.5, 0.6, 0.7, 0.8, 0.9):
        assert figures[f"Pr@{threshold}"] == np.mean(alone >= threshold)


@pytest.mark.parametrize("seed", SEEDS)
def test_ciou_and_miou_are_jaccard_indices_of_torchmetrics(seed):
    import torch
    from torchmetrics.classification import BinaryJaccardIndex as jaccard

    rng = np.random.default_rng(seed)
    whole, alone, metrics = jaccard(), [], (CIoU(), MIoU())
    for _ in range(15):
        target = random_masks(rng, 2)
        if not target.any():
            continue
        frames = np.concatenate([target & (rng.random(SIZE) < 0.8), random_masks(rng, 1)])
        masks = Masks.from_dense(frames)
        outcome = Outcome(Detections(masks.boxes, masks), "", "answer", 1)
        update_all(metrics, outcome, MaskTruth(Masks.from_dense(target)))
        pair = torch.tensor(frames.any(axis=0)), torch.tensor(target.any(axis=0))
        whole.update(*pair)
        alone.append(float(jaccard()(*pair)))
    assert metrics[0].compute()["cIoU"] == pytest.approx(float(whole.compute()), rel=1e-6)
    assert metrics[1].compute()["mIoU"] == pytest.approx(np.mean(alone), rel=1e-6)


@pytest.mark.parametrize("seed", SEEDS)
def test_count_errors_are_those_of_torchmetrics(seed):
    import torch
    import torchmetrics

    rng = np.random.default_rng(seed)
    predicted, true = rng.integers(0, 40, 60), rng.integers(0, 40, 60)
    metric = CountError()
    for boxes, points in zip(predicted, true, strict=True):
        found = Detections(np.tile([0.0, 0.0, 1.0, 1.0], (boxes, 1)))
        metric.update(Outcome(found, "", "answer", 1), PointsTruth(np.zeros((points, 2))))
    pair = torch.tensor(predicted, dtype=torch.float64), torch.tensor(true, dtype=torch.float64)
    figures, some = metric.compute(), true > 0
    assert figures["MAE"] == pytest.approx(float(torchmetrics.MeanAbsoluteError()(*pair)), rel=1e-6)
    assert figures["RMSE"] == pytest.approx(float(torchmetrics.MeanSquaredError(squared=False)(*pair)), rel=1e-6)
    relative = torchmetrics.MeanAbsolutePercentageError()(pair[0][some], pair[1][some])
    assert figures["NAE"] == pytest.approx(float(relative), rel=1e-6)
    error = predicted - true
    assert figures["RMSE"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-15)
    assert figures["NAE"] == pytest.approx(np.mean(np.abs(error[some]) / true[some]), rel=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_point_localisation_is_its_definition(seed):
    rng = np.random.default_rng(seed)
    metric, totals = PointLocalisation(), np.zeros(3)
    for _ in range(25):
        points = rng.uniform(0, 200, (rng.integers(0, 12), 2))
        centres = np.concatenate([points[: rng.integers(0, 10)] + rng.normal(0, 6, 2), rng.uniform(0, 200, (2, 2))])
        half = rng.uniform(2, 12, centres.shape)
        boxes = np.concatenate([centres - half, centres + half], axis=1)
        metric.update(Outcome(Detections(boxes), "", "answer", 1), PointsTruth(points))

        distances = np.linalg.norm(centres[:, None] - points[None], axis=2)
        rows, columns = linear_sum_assignment(distances)
        by_area = half[np.argsort(half.prod(axis=1))]
        middle = by_area[[(len(half) - 1) // 2, len(half) // 2]]
        radius = np.mean(np.linalg.norm(middle, axis=1))
        totals += (distances[rows, columns] <= radius).sum(), len(boxes), len(points)
    figures = metric.compute()
    matched, predicted, true = totals
    assert (figures["TP"], figures["FP"], figures["FN"]) == (matched, predicted - matched, true - matched)
    assert (figures["precision"], figures["recall"]) == (matched / predicted, matched / true)
    assert figures["point_F1"] == pytest.approx(2 * matched / (predicted + true), rel=1e-15)


@pytest.mark.parametrize("seed", SEEDS)
def test_dense_f1_is_its_definition_micro_and_macro(seed):
    rng = np.random.default_rng(seed)
    names, thresholds = ("car", "bus"), np.arange(50, 100, 5) / 100
    metrics = DenseF1(), MacroDenseF1()
    totals = {name: np.zeros((10, 3)) for name in names}
    for _ in range(20):
        name = str(rng.choice(names))
        corners = rng.uniform(0, 200, (rng.integers(1, 15), 2))
        true = np.concatenate([corners, corners + rng.uniform(5, 40, corners.shape)], axis=1)
        found = true[rng.integers(0, len(true), 12)] + rng.normal(0, 1.5, (12, 4))
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 0.5)
        update_all(metrics, Outcome(Detections(found), "", "answer", 1), BoxesTruth(true, (name,) * len(true)))

        low, high = np.maximum(found[:, None, :2], true[None, :, :2]), np.minimum(found[:, None, 2:], true[None, :, 2:])
        common = np.clip(high - low, 0, None).prod(axis=2)
        areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (found, true)]
        iou = common / (areas[0][:, None] + areas[1][None] - common)
        for place, threshold in enumerate(thresholds):
            left = iou.copy()
            matched = 0
            while left.size and left.max() >= threshold:
                row, column = np.unravel_index(left.argmax(), left.shape)
                left[row], left[:, column] = -1, -1
                matched += 1
            totals[name][place] += matched, len(found), len(true)
    tp, predicted, there = sum(totals.values()).T
    micro = 2 * tp / (predicted + there)
    figures = metrics[0].compute() | metrics[1].compute()
    assert figures["F1@0.50"] == pytest.approx(micro[0], rel=1e-14)
    assert figures["F1@0.95"] == pytest.approx(micro[-1], rel=1e-14)
    assert figures["F1@0.50:0.95"] == pytest.approx(micro.mean(), rel=1e-14)
    precision = np.mean([part[:, 0] / part[:, 1] for part in totals.values()], axis=0)
    recall = np.mean([part[:, 0] / part[:, 2] for part in totals.values()], axis=0)
    assert figures["macro_F1@0.50"] == pytest.approx(2 * precision[0] * recall[0] / (precision[0] + recall[0]))
    means = precision.mean(), recall.mean()
    assert figures["macro_F1@0.50:0.95"] == pytest.approx(2 * means[0] * means[1] / sum(means), rel=1e-14)


def test_macro_takes_a_sample_of_several_categories_as_one_of_their_mixture():
    boxes = [[0, 0, 10, 10], [20, 0, 30, 10]]
    metric = MacroDenseF1()
    metric.update(Outcome(Detections(boxes), "", "answer", 1), BoxesTruth(boxes, ("car", "bus")))
    assert metric.compute()["macro_F1@0.50"] == 1.0


def test_answers_are_scored_as_squads_are():
    from torchmetrics.text import SQuAD as squad

    theirs, metric = squad(), AnswerAccuracy()
    pairs = [
        ("The red car.", ["red car", "a car"]),
        ("two  dogs", ["three dogs"]),
        ("nothing", ["a hat", "the nothing"]),
    ]
    for number, (said, answers) in enumerate(pairs):
        metric.update(Outcome(None, said, "answer", 1), AnswerTruth(tuple(answers)))
        accepted = {"answer_start": [0] * len(answers), "text": answers}
        theirs.update([{"prediction_text": said, "id": str(number)}], [{"answers": accepted, "id": str(number)}])
    expected, figures = theirs.compute(), metric.compute()
    assert figures["EM"] == pytest.approx(float(expected["exact_match"]) / 100, rel=1e-6)
    assert figures["token_F1"] == pytest.approx(float(expected["f1"]) / 100, rel=1e-6)
