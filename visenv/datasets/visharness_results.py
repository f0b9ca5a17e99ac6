"""The checkpoints that VisHarness's runner writes (``*_ckpt.jsonl``) as outcomes, to be scored by the metrics here.

Source: VisHarness (arXiv 2605.29894), its trajectory runner and evaluators.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Result:
    """What one line of a checkpoint says."""

    item_id: str
    """As ``ReasonSeg-NAME``, ``GRES-12``, ``REC8K-IMAGE-PHRASE``."""
    outcome: Outcome
    """Its masks and boxes are over the picture that the run saw, no larger than 1920x1080."""


def read_results(files: str | Path | Iterable[str | Path]) -> dict[str, Result]:
    """The results of one or several checkpoints, by item; a later line replaces an earlier one of the same item.

    Args:
        files: JSONL files, in the order in which they were written.

    Raises:
        DatasetError: if a file is missing, or a line is broken or names no item.
    """
    paths = [files] if isinstance(files, (str, Path)) else list(files)
    results: dict[str, Result] = {}
    for path in paths:
        for line in json_lines(Path(path), _LARGEST_LINE):
            result = _result(line.value, f"{str(path)!r}, line {line.key}")
            results[result.item_id] = result
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
    key = sample.sample_id.partition("/")[2]
    name = sample.metadata.get("dataset")
    if name == "reasonseg":
        stem, mark, number = key.rpartition("#")
        return f"ReasonSeg-{stem if mark and number.isdecimal() else key}"
    if name == "grefcoco":
        return f"GRES-{key.rpartition('-')[0]}"
    if name == "rec8k":
        image, _, phrase = key.partition("|")
        return f"REC8K-{PurePosixPath(image).stem}-{phrase.replace(' ', '_')}"
    if name in ("visdrone", "dense200"):
        return f"{'VisDrone' if name == 'visdrone' else 'Dense200'}-{key}"
    return key if name == "visharness" else None


def _result(value: Any, where: str) -> Result:
    record = expect(value, dict, where)
    meta = record.get("meta_data")
    name = record.get("id", meta.get("id") if isinstance(meta, dict) else None)
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
    return Result(str(name), outcome)


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
