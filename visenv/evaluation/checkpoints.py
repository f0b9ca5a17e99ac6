"""The published figures of what VisHarness's own runner has predicted, from its checkpoints (``*_ckpt.jsonl``).

Source: the evaluators of VisHarness (arXiv 2605.29894). Samples without a line count as misses; a result is brought to
the size of the picture's file first, masks by nearest neighbour; nothing there is right only if it was answered.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from visenv.datasets.base import Dataset
from visenv.datasets.checking import own_family
from visenv.datasets.files import MAX_ANNOTATION_BYTES, expect, full_size, read_json
from visenv.datasets.making import find_entry, make_dataset
from visenv.datasets.streams import json_lines
from visenv.datasets.visharness_results import Result, item_name, read_results
from visenv.errors import DatasetError, InvalidData
from visenv.evaluation.scoring import summary
from visenv.rewards.functional.regions import RATIO_TOLERANCE
from visenv.rewards.metrics import (
    CIoU,
    CountError,
    DenseF1,
    GIoU,
    MacroDenseF1,
    Metric,
    NullAccuracy,
    PointLocalisation,
    update_all,
)
from visenv.rewards.visharness.records import parse_ground_truth
from visenv.rewards.visharness.validation import EDGE_TOLERANCE
from visenv.types import Detections, MaskTruth, Outcome, PointsTruth, Truth

EPSILON = 1e-6
"""Square pixels that the evaluators of boxes add to every union."""
PUBLISHED: dict[str, tuple[Callable[[], Metric[Any]], ...]] = {
    "reasonseg": (GIoU, CIoU, NullAccuracy),
    "grefseg": (GIoU, CIoU, NullAccuracy),
    "refseg": (GIoU, CIoU),
    "refcount": (CountError, PointLocalisation),
    "densedet": (partial(DenseF1, epsilon=EPSILON), partial(MacroDenseF1, epsilon=EPSILON)),
}
"""What each task is measured by. Of ``densedet``, VisDrone is reported by the first, Dense200 by the second."""
TASKS = {"gres_rle_mask": "grefseg", "reasonseg_rle_mask": "reasonseg", "point": "refcount"}
"""Which task a truth in a checkpoint is of, by its type."""
PREFIXES = {"ReasonSeg": "reasonseg", "GRES": "grefseg", "REC8K": "refcount"}
"""Which task an item of the release's Parquet is of, by the first part of its name."""
MISSING = Outcome(None, None, "invalid", 0)
Told = Callable[[str, int, int], None]


@dataclass(frozen=True)
class _Item:
    """What is to be found."""

    name: str
    task: str
    truth: Truth
    size: tuple[int, int] | None
    """(width, height) in pixels of what the truth is over; None where only the result says it."""


def score_checkpoints(
    files: str | Path | Sequence[str | Path],
    *,
    dataset: str | None = None,
    split: str = "val",
    family: str | None = None,
    manifest: str | Path | None = None,
    progress: Told = lambda what, done, total: None,
) -> dict[str, Any]:
    """Score the checkpoints of VisHarness's runner by its published metrics.

    Args:
        files: ``*_ckpt.jsonl``, in the order in which they were written; of two lines about one item the later counts.
        dataset: where the truth comes from, as ``make_dataset`` takes it; left out, from the lines themselves, which
            hold it if the run was on the release's Parquet.
        split: of the data set.
        family: of tasks; the one that the data set was made for if left out.
        manifest: JSON or JSONL of the items that count, each with its ``id``, as the runner was given; all if left out.
        progress: called with what is being done, how much of it is done, and how much there is.

    Returns:
        ``results``, how many items the files have; ``replaced``, how many lines a later one stood for;
        ``unexpected``, how many results are about nothing that counts; and ``tasks``. Of each of these: ``samples``;
        ``missing``, how many of them have no result; ``ends``, how trajectories ended; ``metrics``, ``intervals`` as in
        the report of an evaluation; ``cost``, the means of what the runner measured of a trajectory.

    Raises:
        DatasetError: if a file is missing, a line or the data set is broken, or there is no truth.
        InvalidData: if nothing that counts has a result.
    """
    lines = 0

    def read(done: int, size: int) -> None:
        nonlocal lines
        lines += 1
        progress("reading", done, size)

    results = read_results(files, read)
    wanted = None if manifest is None else _manifest(Path(manifest))
    if dataset is None:
        items, total = _from_lines(results, wanted), len(results)
    else:
        opened = _opened(dataset, split, family, results)
        items, total = _from_data(opened, wanted), sum(data.size or 0 for _, data in opened)
    metrics: dict[str, list[Metric[Any]]] = {}
    ends: dict[str, Counter[str]] = {}
    costs: dict[str, list[Mapping[str, float]]] = {}
    seen: set[str] = set()
    progress("scoring", 0, total)
    for done, item in items:
        if item is not None:
            seen.add(item.name)
            result = results.get(item.name)
            if item.task not in metrics:
                metrics[item.task] = [make() for make in PUBLISHED[item.task]]
            _measure(metrics[item.task], item, result)
            how = "missing" if result is None else str(result.outcome.termination)
            ends.setdefault(item.task, Counter())[how] += 1
            costs.setdefault(item.task, []).append({} if result is None else result.cost)
        progress("scoring", done, total)
    _check_found(seen, results, wanted)
    tasks = {}
    for task, measured in sorted(metrics.items()):
        figures, intervals = summary(measured)
        tasks[task] = {
            "samples": ends[task].total(),
            "missing": ends[task]["missing"],
            "ends": {how: count for how, count in sorted(ends[task].items()) if count},
            "metrics": figures,
            "intervals": intervals,
            "cost": _means(costs[task]),
        }
    return {
        "results": len(results),
        "replaced": lines - len(results),
        "unexpected": len(results.keys() - seen),
        "tasks": tasks,
    }


def _opened(dataset: str, split: str, family: str | None, results: Mapping[str, Result]) -> list[tuple[str, Dataset]]:
    """The data sets that results are about: of the release, one for each task that they name."""
    entry, path = find_entry(dataset)
    families = [family or own_family(entry, path)]
    if family is None and entry.name == "visharness":
        named = {PREFIXES[prefix] for name in results if (prefix := name.partition("-")[0]) in PREFIXES}
        families = sorted(named) or families
    for each in families:
        if each not in PUBLISHED:
            raise InvalidData(f"Expected a task that VisHarness reports, {', '.join(PUBLISHED)}, but got {each!r}.")
    return [(each, make_dataset(dataset, family=each, split=split, difficulty=0)) for each in families]


def _from_data(opened: Sequence[tuple[str, Dataset]], wanted: set[str] | None) -> Iterator[tuple[int, _Item | None]]:
    """How many samples are done, and what each asks for; None for one that does not count."""
    done, seen = 0, set()
    for task, data in opened:
        if data.size is None:
            raise InvalidData(f"Expected a data set of VisHarness's benchmarks, but {data.name!r} has no end.")
        names: Any = getattr(data, "sample_ids", ())
        for index in range(data.size):
            done += 1
            known = item_name(data.name, names[index]) if names else None
            if known is not None and (known in seen or not (wanted is None or known in wanted)):
                yield done, None  # Several sentences about one thing are one item, whose first sentence is asked.
                continue
            with full_size():
                sample = data.get(index)
            name = item_name(str(sample.metadata.get("dataset")), sample.sample_id)
            if name is None:
                raise InvalidData(
                    f"Expected a data set that VisHarness's files have names for (reasonseg, grefcoco, rec8k, "
                    f"visdrone, dense200, visharness), but got {data.name!r}."
                )
            if name in seen or not (wanted is None or name in wanted):
                yield done, None
                continue
            seen.add(name)
            height, width = sample.image.shape[:2]
            yield done, _Item(name, task, sample.truth, (width, height))


def _from_lines(results: Mapping[str, Result], wanted: set[str] | None) -> Iterator[tuple[int, _Item | None]]:
    """What the lines themselves say is right."""
    for done, (name, result) in enumerate(results.items(), 1):
        if wanted is not None and name not in wanted:
            yield done, None
            continue
        if result.truth is None:
            raise DatasetError(
                f"Expected a ground truth in 'meta_data' of {result.place}, but there is none for {name!r}: only runs "
                "on VisHarness's Parquet carry it along. Say which data set has it (--dataset NAME:PATH)."
            )
        try:
            found = parse_ground_truth(result.truth)
        except InvalidData as error:
            raise DatasetError(f"The ground truth of {result.place} is broken: {error}") from error
        truth: Truth = MaskTruth(found.target, found.ignore) if found.points is None else PointsTruth(found.points)
        frame = None if found.target is None else (found.target.shape[1], found.target.shape[0])
        yield done, _Item(name, TASKS[found.type], truth, frame or result.truth_size)


def _measure(metrics: Iterable[Metric[Any]], item: _Item, result: Result | None) -> None:
    try:
        update_all(metrics, MISSING if result is None else _at_size(result.outcome, item), item.truth)
    except InvalidData as error:
        place = item.name if result is None else f"{result.place}, {item.name!r}"
        raise DatasetError(f"The result in {place} cannot be scored: {error}") from error


def _at_size(outcome: Outcome, item: _Item) -> Outcome:
    """An outcome over the picture that the truth is over.

    Raises:
        InvalidData: if it has boxes without masks, the pictures differ in shape, or a box lies outside of its own.
    """
    found = outcome.detections
    if found is None:
        return outcome
    if found.masks is None or len(found.masks) != len(found.boxes):
        raise InvalidData("Expected a mask with each box: its size says which picture the boxes are over.")
    height, width = found.masks.shape
    size = item.size or (width, height)
    apart = abs((width / height) / (size[0] / size[1]) - 1.0)
    if apart > RATIO_TOLERANCE:
        raise InvalidData(
            f"Expected a picture of the shape of {size[0]}x{size[1]} (width x height), but its masks are over "
            f"{width}x{height}: the data set is another one."
        )
    if isinstance(item.truth, MaskTruth):
        masks = found.masks if (width, height) == size else found.masks.resize_nearest(size[::-1])
        return replace(outcome, detections=Detections(masks.boxes, masks))
    limits = np.array([width, height, width, height], dtype=np.float64)
    inside = (found.boxes >= -EDGE_TOLERANCE) & (found.boxes <= limits + EDGE_TOLERANCE)
    if not inside.all() or (found.boxes[:, 2:] <= found.boxes[:, :2]).any():
        raise InvalidData(f"Expected boxes [x1, y1, x2, y2] with an area inside of {width}x{height}.")
    boxes = found.boxes.clip(0.0, limits) * (np.tile(size, 2) / limits)
    return replace(outcome, detections=Detections(boxes))


def _manifest(path: Path) -> set[str]:
    """The items that count.

    Raises:
        DatasetError: if it is no manifest.
    """
    if path.suffix.lower() == ".jsonl":
        rows = [(line.value, f"{str(path)!r}, line {line.key}") for line in json_lines(path)]
    else:
        values = expect(read_json(path, MAX_ANNOTATION_BYTES), list, str(path))
        rows = [(value, f"item {number} of {str(path)!r}") for number, value in enumerate(values)]
    names = set()
    for value, where in rows:
        names.add(str(expect(expect(value, dict, where).get("id"), (str, int), f"'id' of {where}")))
    return names


def _check_found(seen: set[str], results: Mapping[str, Result], wanted: set[str] | None) -> None:
    """Make sure that something that counts has a result, and that all that is to count is there.

    Raises:
        InvalidData: if not.
    """
    if wanted is not None and (absent := sorted(wanted - seen)):
        raise InvalidData(
            f"Expected everything in the manifest to have a truth, but {len(absent)} have none, such as {absent[0]!r}."
        )
    if not seen & results.keys():
        asked, got = (next(iter(sorted(names)), "nothing") for names in (seen, results.keys()))
        raise InvalidData(
            f"Expected results about the samples, such as {asked!r}, but there are none: the files are about others, "
            f"such as {got!r}. Is it another data set, or another split?"
        )


def _means(costs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each cost, over the trajectories that have it."""
    values: dict[str, list[float]] = {}
    for cost in costs:
        for name, value in cost.items():
            values.setdefault(name, []).append(value)
    return {name: math.fsum(each) / len(each) for name, each in sorted(values.items())}
