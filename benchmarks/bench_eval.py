"""Evaluating: two processes against one, and metrics from run lengths against full frames.

``python -m benchmarks.bench_eval``.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from benchmarks._timing import Row, print_rows, row, timed
from visenv.evaluation import EvalConfig, Run
from visenv.evaluation.following import Follower
from visenv.evaluation.records import exact_outcome, read_outcome, read_truth
from visenv.evaluation.running import Team, begin
from visenv.masks import Masks
from visenv.records import truth_record
from visenv.rewards.metrics import CIoU, GIoU, MIoU, NullAccuracy, PrecisionAt, update_all
from visenv.types import BoolArray, Detections, MaskTruth, Outcome

SIZE = (960, 1280)
THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Time evaluations by one and by two processes, and the metrics of segmentation over stored outcomes.

    Args:
        repeats: runs of which the shortest counts.
        quick: whether to take few scenes.

    Raises:
        RuntimeError: if two results differ.
    """
    return [_processes(60 if quick else 1000), *_metrics(repeats, 20 if quick else 200)]


def _processes(scenes: int) -> Row:
    """Evaluate ``oracle`` from the first episode to the last, as one process and as two do it."""
    config = EvalConfig("VisHarness/DenseDet-v0", "oracle", scenes, env={"split": "train", "difficulty": 1})
    seconds, played = [], []
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as folder:
            spent, run = timed(_played, config, Path(folder), workers)
            seconds.append(spent)
            played.append([line["record"] for line in run.lines()])
    if played[0] != played[1]:
        raise RuntimeError("One process and two have played different episodes.")
    detail = f"oracle on {scenes} scenes of 1280x960, started, played and written"
    return row("evaluating with two processes", seconds[1], "one process", seconds[0], detail)


def _played(config: EvalConfig, folder: Path, workers: int) -> Run:
    """Play an evaluation in processes of one thread each, as many as are asked for."""
    run = begin(config, folder)
    Team(run, Follower(run), lambda follower: None, workers, 1).play()
    return run


def _metrics(repeats: int, samples: int) -> list[Row]:
    rows = []
    for objects in (1, 20):
        lines = [_stored(seed, objects) for seed in range(samples)]
        ours_s, ours = min((timed(_from_runs, lines) for _ in range(repeats)), key=lambda pair: pair[0])
        frames_s, frames = timed(_from_frames, lines)
        if ours.keys() != frames.keys() or any(abs(ours[name] - frames[name]) > 1e-12 for name in frames):
            raise RuntimeError("Metrics from run lengths and from full frames differ.")
        detail = f"gIoU, cIoU, mIoU, N-acc, T-acc, Pr@ of {samples} samples of 1280x960, {objects} masks each"
        rows.append(row(f"metrics of stored outcomes, {objects} masks", ours_s, "decoded frames", frames_s, detail))
    return rows


def _stored(seed: int, objects: int) -> str:
    """A sample as it stands in a file: a target of some ellipses, and a result that is a little off."""
    rng = np.random.default_rng(seed)
    target = _ellipses(rng, objects)
    found = target.translate(*rng.integers(-3, 4, 2).tolist())
    outcome = Outcome(Detections(found.boxes, found), "done", "answer", 3)
    if seed % 10 == 0:
        target = Masks.empty(SIZE)
    return json.dumps({"outcome": exact_outcome(outcome), "truth": truth_record(MaskTruth(target))})


def _ellipses(rng: np.random.Generator, count: int) -> Masks:
    crops, offsets = [], []
    for _ in range(count):
        rx, ry = rng.integers(10, 80, 2).tolist()
        v, u = np.mgrid[-ry : ry + 1, -rx : rx + 1]
        crops.append((u / rx) ** 2 + (v / ry) ** 2 <= 1)
        offsets.append([int(rng.integers(0, SIZE[1] - 2 * rx)), int(rng.integers(0, SIZE[0] - 2 * ry))])
    return Masks.from_crops(crops, offsets, SIZE)


def _from_runs(lines: list[str]) -> dict[str, float]:
    metrics = GIoU(), CIoU(), MIoU(), NullAccuracy(), PrecisionAt(THRESHOLDS)
    for line in lines:
        value = json.loads(line)
        update_all(metrics, read_outcome(value["outcome"]), read_truth(value["truth"]))
    figures: dict[str, float] = {}
    for metric in metrics:
        figures |= metric.compute()
    return {name: value for name, value in figures.items() if not name.endswith(("_n", "_failed", "_null"))}


def _from_frames(lines: list[str]) -> dict[str, float]:
    """The same figures in the way of most evaluation scripts: every mask decoded to a full frame."""
    ious: list[float] = []
    alone: list[float] = []
    nulls: list[float] = []
    intersections = unions = 0
    for line in lines:
        value: dict[str, Any] = json.loads(line)
        predicted, target = _frame(value["outcome"]["masks"]), _frame(value["truth"]["target"])
        intersection, union = int((predicted & target).sum()), int((predicted | target).sum())
        intersections, unions = intersections + intersection, unions + union
        if target.any():
            alone.append(intersection / union)
            ious.append(alone[-1])
        else:
            nulls.append(float(not predicted.any()))
            ious.append(nulls[-1])
    shares = {f"Pr@{threshold:g}": float(np.mean(np.array(alone) >= threshold)) for threshold in THRESHOLDS}
    figures = {"gIoU": np.mean(ious), "cIoU": intersections / unions, "mIoU": np.mean(alone), "N_acc": np.mean(nulls)}
    return {**{name: float(figure) for name, figure in figures.items()}, "T_acc": 1.0, **shares}


def _frame(rles: list[dict[str, Any]]) -> BoolArray:
    frames = [coco.decode({"size": rle["size"], "counts": rle["counts"].encode()}) for rle in rles]
    return np.any(frames, axis=0) if frames else np.zeros(SIZE, bool)


if __name__ == "__main__":
    print_rows(run())
