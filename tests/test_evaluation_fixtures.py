"""``visenv eval`` on a small data set in each published layout: the published figures, computed independently."""

import json

import gymnasium as gym
import numpy as np
import pytest
from pycocotools import mask as coco
from test_datasets_loaders import CASES, ENVIRONMENTS, families

import visenv  # noqa: F401 - registers the ids
from scripts.make_fixtures import write
from visenv.evaluation import EvalConfig, evaluate

PUBLISHED = {
    "reasonseg": {"gIoU", "cIoU", "N_acc"},
    "grefseg": {"gIoU", "cIoU", "N_acc", "T_acc", "Pr@0.5", "Pr@0.7", "Pr@0.9"},
    "refseg": {"cIoU", "mIoU", "Pr@0.5"},
    "densedet": {"F1@0.50", "F1@0.95", "F1@0.50:0.95", "AP"},
    "refcount": {"MAE", "RMSE", "NAE", "precision", "recall", "point_F1"},
}


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fixtures")
    write(folder)
    return folder


def covered(rles, shape):
    """(H, W) bool: the union of masks, decoded to full frames."""
    frame = np.zeros(shape, bool)
    for rle in rles or ():
        frame |= coco.decode({"size": rle["size"], "counts": rle["counts"].encode()}).astype(bool)
    return frame


def of_regions(samples):
    ious, common, united = [], 0, 0
    for outcome, truth, shape in samples:
        kept = ~(np.zeros(shape, bool) if truth.ignore is None else truth.ignore.to_dense().any(axis=0))
        true = truth.target.to_dense().any(axis=0) & kept if truth.target is not None else np.zeros(shape, bool)
        found = covered(outcome["masks"], shape) & kept
        common, united = common + (true & found).sum(), united + (true | found).sum()
        if true.any():
            ious.append((true & found).sum() / (true | found).sum())
        else:
            ious.append(float(outcome["masks"] is None and outcome["termination"] == "answer"))
    return {"gIoU": np.mean(ious), "cIoU": common / united}


def of_counts(samples):
    errors = np.array([(outcome["count"] or 0) - len(truth.points) for outcome, truth, _ in samples])
    return {"MAE": np.abs(errors).mean(), "RMSE": np.sqrt((errors**2).mean())}


def of_boxes(samples):
    """F1@0.50: pairs of an IoU of at least 0.5 are matched, the highest first."""
    matched = found_in_all = true_in_all = 0
    for outcome, truth, _ in samples:
        found = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in outcome["boxes"] or ()]
        true = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in np.asarray(truth.boxes).tolist()]
        found_in_all, true_in_all = found_in_all + len(found), true_in_all + len(true)
        ious = np.array(coco.iou(found, true, [0] * len(true))).reshape(len(found), len(true))
        while ious.size and ious.max() >= 0.5:
            row, column = np.unravel_index(ious.argmax(), ious.shape)
            matched += 1
            ious[row], ious[:, column] = -1, -1
    return {"F1@0.50": 2 * matched / (found_in_all + true_in_all)}


INDEPENDENT = dict.fromkeys(("reasonseg", "grefseg", "refseg"), of_regions) | {
    "densedet": of_boxes,
    "refcount": of_counts,
}


@pytest.mark.parametrize(("value", "splits"), CASES)
def test_the_published_figures_are_those_of_the_definition(value, splits, fixtures, tmp_path):
    value, family = value.format(fixtures), families(value)[-1]
    env_id = f"VisHarness/{ENVIRONMENTS[family]}-v0"
    data = {"dataset": value, "split": splits[-1]}
    report = evaluate(EvalConfig(env_id, "oracle", env={**data, "experts": "noisy"}), tmp_path)
    found = report["metrics"].keys()
    if family not in ("reasonseg", "grefseg"):
        assert PUBLISHED[family] <= found
    else:
        # Whether there are samples without a target is the fixture's to say.
        assert PUBLISHED[family] - {"N_acc", "T_acc"} <= found
    lines = [json.loads(line) for line in (tmp_path / "trajectories.jsonl").read_text("utf-8").splitlines()]
    truths = gym.make(env_id, **data, experts="oracle").unwrapped.dataset
    samples = []
    for line in lines:
        sample = truths.find(line["sample_id"])
        samples.append((line["outcome"], sample.truth, sample.image.shape[:2]))
    assert len(samples) == report["episodes"] == truths.size
    if family == "densedet" and any(truth.ignore is not None and len(truth.ignore) for _, truth, _ in samples):
        return
    for name, expected in INDEPENDENT[family](samples).items():
        assert report["metrics"][name] == pytest.approx(expected, abs=1e-9), name
