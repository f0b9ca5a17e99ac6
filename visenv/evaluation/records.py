"""Episodes as lines of an evaluation, exact enough to be scored again."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.images import load_image, to_data_url
from visenv.masks import Masks
from visenv.records import costs, outcome_record, trajectory_record
from visenv.registration import Entry
from visenv.rewards.metrics import Metric, update_all
from visenv.types import (
    AnswerTruth,
    BoxesTruth,
    Detections,
    ImageTruth,
    MaskTruth,
    Outcome,
    Pixels,
    PointsTruth,
    Truth,
)


@dataclass(frozen=True)
class Ended:
    """An episode that has ended, read back from its line."""

    record: Mapping[str, Any]
    """As a line of ``trajectories.jsonl``."""
    spent: Mapping[str, Any]
    """What differs from run to run: ``seconds`` by part, ``begun`` and ``ended``, ``usage`` of an endpoint."""
    outcome: Outcome
    truth: Truth

    @classmethod
    def read(cls, line: Mapping[str, Any]) -> Ended:
        """An episode from its line.

        Raises:
            InvalidData: if the line is not what ``evaluation_record`` wrote.
        """
        record = line["record"]
        try:
            return cls(record, line.get("spent", {}), read_outcome(record["outcome"]), read_truth(record["truth"]))
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidData(f"Expected the record of an episode, but {type(error).__name__}: {error}.") from error

    @property
    def number(self) -> int:
        """Of the episode, from 0."""
        return int(self.record["episode"])

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Entry points of the metrics that it is measured by."""
        return tuple(self.record["measured_by"])

    @property
    def task(self) -> str:
        """What kind of task it was."""
        return str(self.record["task"])


def evaluation_record(
    number: int, env: VisionToolEnv, turns: Sequence[Mapping[str, Any]], reward: float, failure: str | None
) -> dict[str, Any]:
    """An episode as a line of ``trajectories.jsonl``, with exact coordinates, its task and its metrics.

    Args:
        number: of the episode, from 0.
        env: in which it has ended.
        turns: from ``visenv.records.turn_record``.
        reward: the sum over the turns.
        failure: why the policy brought it to no end, which makes it invalid and pays nothing; None where it did.
    """
    episode, names = env.episode, env.episode_metrics
    outcome = episode.outcome if failure is None else replace(episode.outcome, termination="invalid")
    metrics = [Entry(name, name).load()() for name in names]
    update_all(metrics, outcome, episode.truth)
    figures = {name: value for metric in metrics for name, value in own_figures(metric).items()}
    record = trajectory_record(
        number, episode, turns, 0.0 if outcome.termination == "invalid" else reward, figures | costs(episode)
    )
    record |= {
        "termination": outcome.termination,
        "invalid": episode.problem if failure is None else f"policy: {failure}",
        "outcome": exact_outcome(outcome),
        "task": env.task,
        "measured_by": list(names),
    }
    if isinstance(episode.truth, ImageTruth):
        # What is measured is a picture: without it, nobody could score the episode again.
        record["truth"] = record["truth"] | {"clean": to_data_url(episode.truth.clean)}
        made = None if outcome.image is None else to_data_url(outcome.image)
        record["outcome"] = record["outcome"] | {"image": made}
    return record


def own_figures(metric: Metric[Any]) -> dict[str, float]:
    """The figures of a metric over one sample, without those that do not apply or only count samples."""
    return {
        name: value
        for name, value in metric.compute().items()
        if not name.endswith(("_n", "_failed")) and not np.isnan(value)
    }


def exact_outcome(outcome: Outcome) -> dict[str, Any]:
    """As ``visenv.records.outcome_record``, but with every digit, and labels."""
    found = outcome.detections
    exact = {} if found is None else {"boxes": found.boxes.tolist(), "scores": found.scores.tolist()}
    labels = None if found is None or found.labels is None else list(found.labels)
    return {**outcome_record(outcome), **exact, "labels": labels}


def read_outcome(record: Mapping[str, Any]) -> Outcome:
    """An outcome from what ``exact_outcome`` or ``outcome_record`` made of it."""
    detections = None
    if record["boxes"] is not None:
        masks, labels = record["masks"], record.get("labels")
        detections = Detections(
            np.array(record["boxes"], dtype=np.float64).reshape(-1, 4),
            # An empty set has no frame to be compared in, nor anything that would be compared.
            Masks.from_coco_rles(masks) if masks else None,
            np.array(record["scores"], dtype=np.float64),
            None if labels is None else tuple(labels),
        )
    made = record.get("image")
    image = None if made is None else _picture(made)
    return Outcome(detections, record["answer"], record["termination"], int(record["turns"]), image)


def read_truth(record: Mapping[str, Any]) -> Truth:
    """A truth from what ``visenv.records.truth_record`` made of it."""
    kind = record["type"]
    if kind == "masks":
        target, ignore = record["target"], record["ignore"]
        return MaskTruth(
            Masks.from_coco_rles(target) if target else None, Masks.from_coco_rles(ignore) if ignore else None
        )
    if kind == "boxes":
        labels, ignore = record["labels"], record["ignore"]
        return BoxesTruth(
            np.array(record["boxes"], dtype=np.float64).reshape(-1, 4),
            None if labels is None else tuple(labels),
            None if ignore is None else np.array(ignore, dtype=np.float64).reshape(-1, 4),
        )
    if kind == "points":
        return PointsTruth(np.array(record["points"], dtype=np.float64).reshape(-1, 2))
    if kind == "answers":
        choices = record["choices"] and tuple(record["choices"])
        return AnswerTruth(tuple(record["answers"]), choices, record.get("group"))
    if kind == "image":
        return ImageTruth(_picture(record["clean"]), tuple(record["damage"]), tuple(record["answers"]))
    raise InvalidData(f"Expected a truth of masks, boxes, points, answers or an image, but got {kind!r:.80}.")


def _picture(url: str) -> Pixels:
    """The picture of a data URL, as ``to_data_url`` wrote it."""
    head, _, data = url.partition(",")
    if head != "data:image/png;base64":
        raise InvalidData(f"Expected a PNG as a data URL, but got {url[:40]!r}.")
    return load_image(base64.b64decode(data, validate=True))
