"""The checkpoints that VisHarness's runner writes (``*_ckpt.jsonl``) as outcomes, to be scored by the metrics here.

Source: VisHarness (arXiv 2605.29894), its trajectory runner and evaluators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from visenv.datasets.files import expect
from visenv.datasets.streams import json_lines
from visenv.errors import DatasetError, InvalidData
from visenv.masks import Masks
from visenv.types import Detections, Outcome, Sample, Termination

_LARGEST_LINE = 2**29
"""Bytes: a line may hold a whole conversation with its pictures."""
_SIDE = 10**6
"""Pixels that no picture's side exceeds: a line that says more says nothing."""


@dataclass(frozen=True)
class Result:
    """What one line of a checkpoint says."""

    item_id: str
    """As ``ReasonSeg-NAME``, ``GRES-12``, ``REC8K-IMAGE-PHRASE``."""
    outcome: Outcome
    """Its masks and boxes are over the picture that the run saw, no larger than 1920x1080."""
    place: str = ""
    """Where it stands, for messages: the file and the line."""
    truth: Any = None
    """What is right, as a run on the release's Parquet carries it along in ``meta_data``: JSON text or a dict with
    ``type`` and ``data``; None in other runs."""
    truth_size: tuple[int, int] | None = None
    """(width, height) in pixels of the picture that ``truth`` is over; None where the file does not say it."""
    cost: Mapping[str, float] = field(default_factory=dict)
    """What the runner measured of the trajectory, such as ``cumulative_visual_tokens``."""


def read_results(
    files: str | Path | Iterable[str | Path], progress: Callable[[int, int], None] = lambda done, size: None
) -> dict[str, Result]:
    """The results of one or several checkpoints, by item; a later line replaces an earlier one of the same item.

    Args:
        files: JSONL files, in the order in which they were written.
        progress: called after each line with the bytes that have been read, and how many there are.

    Raises:
        DatasetError: if a file is missing, or a line is broken or names no item.
    """
    paths = [Path(files)] if isinstance(files, (str, Path)) else [Path(file) for file in files]
    size, before = sum(path.stat().st_size for path in paths if path.is_file()), 0
    results: dict[str, Result] = {}
    for path in paths:
        end = before
        for line in json_lines(path, _LARGEST_LINE):
            result = _result(line.value, f"{str(path)!r}, line {line.key}")
            results[result.item_id] = result
            end = before + line.start + line.length
            progress(end, size)
        before = end
    return results


def item_id(sample: Sample) -> str | None:
    """The name that VisHarness's files have for a sample; None for a data set that they have no names for.

    Args:
        sample: of ``reasonseg``, ``grefcoco``, ``rec8k``, ``visdrone``, ``dense200`` or ``visharness``.

    Example:
        >>> from visenv.types import MaskTruth
        >>> sample = Sample("val/a_1", (), "the cup", MaskTruth(None), metadata={"dataset": "reasonseg"})
        >>> item_id(sample)
        'ReasonSeg-a_1'
    """
    return item_name(str(sample.metadata.get("dataset")), sample.sample_id)


def item_name(dataset: str, sample_id: str) -> str | None:
    """As ``item_id``, of a sample that was not loaded.

    Args:
        dataset: its name.
        sample_id: of the sample.

    Example:
        >>> item_name("rec8k", "test/photos/a.jpg|red cups"), item_name("refcoco", "val/7-0")
        ('REC8K-a-red_cups', None)
    """
    name, key = dataset, sample_id.partition("/")[2]
    if name == "reasonseg":
        stem, mark, number = key.rpartition("#")
        return f"ReasonSeg-{stem if mark and number.isdecimal() else key}"
    if name == "grefcoco":
        return f"GRES-{key.rpartition('-')[0]}"
    if name == "rec8k":
        image, _, phrase = key.partition("|")
        return f"REC8K-{PurePosixPath(image).stem}-{'_'.join(phrase.split())}"
    if name in ("visdrone", "dense200"):
        return f"{'VisDrone' if name == 'visdrone' else 'Dense200'}-{key}"
    return key if name == "visharness" else None


def _result(value: Any, where: str) -> Result:
    record = expect(value, dict, where)
    meta = record.get("meta_data")
    name = record.get("id", meta.get("id") if isinstance(meta, dict) else None)
    # Of the release's Parquet, the runner takes the number of the row for the name.
    name = _extra(meta).get("item_id", name)
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise DatasetError(f"Expected 'id', or 'id' in 'meta_data', in {where}, but got {name!r:.60}.")
    answer = record.get("answer")
    turns = record.get("current_round")
    termination = _termination(record)
    outcome = Outcome(
        detections=_detections(record.get("final_results"), where),
        answer=(answer if isinstance(answer, str) else "") if termination == "answer" else None,
        termination=termination,
        turns=turns if isinstance(turns, int) and not isinstance(turns, bool) else 0,
    )
    costs = record.get("efficiency_metrics")
    return Result(
        str(name),
        outcome,
        where,
        *_truth(meta if isinstance(meta, Mapping) else {}),
        cost={str(key): float(value) for key, value in costs.items() if _is_number(value)}
        if isinstance(costs, Mapping)
        else {},
    )


def _truth(meta: Mapping[str, Any]) -> tuple[Any, tuple[int, int] | None]:
    """The truth that a line brings along, that for evaluating before that for training, and its picture's size."""
    info, model = _extra(meta), meta.get("reward_model")
    for truth, sides in (
        (info.get("evaluation_ground_truth"), ("evaluation_original_width", "evaluation_original_height")),
        (meta.get("ground_truth"), ("image_width", "image_height")),
        (model.get("ground_truth") if isinstance(model, Mapping) else None, ("image_width", "image_height")),
    ):
        if truth is not None:
            width, height = (info.get(side) for side in sides)
            if (
                isinstance(width, int)
                and isinstance(height, int)
                and 0 < min(width, height) <= max(width, height) <= _SIDE
            ):
                return truth, (width, height)
            return truth, None
    return None, None


def _extra(meta: Any) -> Mapping[str, Any]:
    """``extra_info`` of a row of the release's Parquet; empty where there is none."""
    info = meta.get("extra_info") if isinstance(meta, Mapping) else None
    return info if isinstance(info, Mapping) else {}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53


def _detections(results: Any, where: str) -> Detections | None:
    """The final result; None where nothing is shown."""
    if not isinstance(results, Mapping):
        return None
    boxes, rles = (results.get(key) or [] for key in ("final_bboxes", "final_masks"))
    rles = [rles] if isinstance(rles, Mapping) else rles
    if not boxes and not rles:
        return None
    try:
        masks = Masks.from_coco_rles(rles) if rles else None
        found = np.asarray(boxes, np.float64).reshape(-1, 4) if boxes else np.zeros((0, 4))
        if not np.isfinite(found).all():
            raise InvalidData("a box is not finite")
        count = results.get("count")
        if isinstance(count, int) and count != len(found if boxes else rles):
            raise InvalidData(f"Expected as many results as 'count' says, {count}, but got {len(boxes or rles)}.")
        return Detections(found if boxes or masks is None else masks.boxes, masks)
    except (InvalidData, TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"The final results of {where} are broken: {error}") from error


def _termination(record: Mapping[str, Any]) -> Termination:
    """How a trajectory ended, said outright or, in older files, by its rounds."""
    reason = record.get("termination_reason")
    if record.get("status") == "failed" or record.get("trajectory_invalid") is True or reason == "failed":
        return "invalid"
    if reason == "answer":
        return "answer"
    if reason == "max_rounds_reached" or record.get("max_rounds_reached") is True:
        return "max_turns"
    if record.get("trajectory_finished") is True or record.get("answer") is not None:
        return "answer"
    turns, limit = record.get("current_round"), record.get("max_rounds")
    if isinstance(turns, int) and isinstance(limit, int):
        if turns >= limit:
            return "max_turns"
        return "answer" if record.get("status") in (None, "finished") else "invalid"
    return "answer" if record.get("status") == "finished" else "invalid"
