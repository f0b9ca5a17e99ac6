"""Which recorded episodes are learned from: filters, the best of several tries, and a reason for each that is not."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from visenv.errors import InvalidData
from visenv.export.judging import MAX_COUNT_ERROR, MIN_IOU, Verdict, judge

FAULTY = ("drop", "keep", "episode")


@dataclass(frozen=True)
class Filters:
    """What is kept of a run.

    Raises:
        InvalidData: if a value is out of range.
    """

    min_iou: float = MIN_IOU
    """The least IoU of masks, F1 at an IoU of .50 of boxes, or token F1 of an answer."""
    max_count_error: float = MAX_COUNT_ERROR
    """The greatest relative error of a count."""
    answered: bool = False
    """Whether an episode has to end with an answer."""
    min_reward: float | None = None
    """The least sum of rewards; None for any. What has a truth that no record holds is judged by this alone."""
    faulty: str = "drop"
    """Turns that were errors: ``drop`` learns none of them, but leaves them in what later turns saw; ``keep`` learns
    them too; ``episode`` drops whole episodes with such a turn."""
    patch_budget: int | None = None
    """Visual tokens that the pictures of one row may have; None for no limit."""
    per_sample: int | None = None
    """How many episodes a sample, the best first; None for all."""
    mixed_only: bool = False
    """Whether samples are left out that every try, or no try, got right."""

    def __post_init__(self) -> None:
        for name, most in (("min_iou", 1.0), ("max_count_error", math.inf)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
                raise InvalidData(f"Expected {name} to be a number from 0 to {most:g}, but got {value!r}.")
        if self.min_reward is not None and not (
            isinstance(self.min_reward, (int, float)) and math.isfinite(self.min_reward)
        ):
            raise InvalidData(f"Expected min_reward to be a finite number, but got {self.min_reward!r}.")
        for name in ("patch_budget", "per_sample"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidData(f"Expected {name} to be a whole number of at least 1, but got {value!r}.")
        if self.faulty not in FAULTY:
            raise InvalidData(f"Expected faulty to be one of {', '.join(FAULTY)}, but got {self.faulty!r}.")


@dataclass(frozen=True)
class Try:
    """One episode, as far as it decides what is kept."""

    episode: int
    sample_id: str
    query: str
    verdict: Verdict
    digest: str
    """Of its sample and what was done in it."""
    turns: int
    faults: int
    reward: float


@dataclass
class Selection:
    """What is kept of a run, and why the rest is not."""

    kept: dict[int, Try] = field(default_factory=dict)
    """By the number of the episode."""
    dropped: list[dict[str, Any]] = field(default_factory=list)
    """``episode``, ``sample_id``, ``why`` and ``detail``, by number."""
    samples: dict[str, list[Try]] = field(default_factory=dict)
    """The tries of each sample that are not invalid, in the order of the run."""

    def success(self, sample_id: str) -> float:
        """The share of a sample's valid tries that are good."""
        tries = self.samples[sample_id]
        return sum(one.verdict.good for one in tries) / len(tries)

    @property
    def named(self) -> int:
        """How many samples there are, those without a valid try included."""
        return len(self.samples) + len(self.without_valid_try())

    def without_valid_try(self) -> list[dict[str, Any]]:
        """The samples whose every try is invalid, as ``dropped`` has episodes."""
        names = dict.fromkeys(each["sample_id"] for each in self.dropped if each["sample_id"] not in self.samples)
        return [{"sample_id": name, "why": "invalid", "detail": "it has no valid try"} for name in names]

    def is_mixed(self, sample_id: str) -> bool:
        """Whether some tries of a sample are good, and others are not."""
        return 0 < self.success(sample_id) < 1


def select(records: Iterable[Mapping[str, Any]], filters: Filters) -> Selection:
    """Choose the episodes of a run to learn from.

    In this order: what is no good, by its final result; samples that are not mixed, if only those are wanted; episodes
    with a faulty turn, if whole episodes go for one; what was done before on the same sample; and of the rest all but
    the best: the greatest score, then the fewest faults, the fewest turns, the earliest.

    Args:
        records: lines of ``trajectories.jsonl``; looked at one by one.
        filters: what is kept.

    Raises:
        InvalidData: if a record cannot be read.
    """
    selection = Selection()
    tries = [_read(record, filters) for record in records]
    numbers = Counter(one.episode for one in tries)
    if twice := [number for number, count in numbers.items() if count > 1]:
        raise InvalidData(f"Expected each episode once, but number {twice[0]} is there {numbers[twice[0]]} times.")
    for one in tries:
        if one.verdict.why not in ("invalid", "unfinished"):
            selection.samples.setdefault(one.sample_id, []).append(one)
    ranks: Counter[str] = Counter()
    seen: set[str] = set()
    why: dict[int, tuple[str, str]] = {}
    for one in sorted(tries, key=lambda one: (-one.verdict.score, one.faults, one.turns, one.episode)):
        reason = _reason(one, selection, filters, seen)
        if reason is None and filters.per_sample is not None and ranks[one.sample_id] >= filters.per_sample:
            reason = "surplus", f"there are {filters.per_sample} better ones of its sample"
        if reason is not None:
            why[one.episode] = reason
            continue
        seen.add(one.digest)
        ranks[one.sample_id] += 1
    for one in tries:
        if one.episode not in why:
            selection.kept[one.episode] = one
            continue
        code, detail = why[one.episode]
        selection.dropped.append({"episode": one.episode, "sample_id": one.sample_id, "why": code, "detail": detail})
    return selection


def _reason(one: Try, selection: Selection, filters: Filters, seen: set[str]) -> tuple[str, str] | None:
    if not one.verdict.good:
        return one.verdict.why, one.verdict.detail
    if filters.mixed_only and not selection.is_mixed(one.sample_id):
        return "always_right", f"all {len(selection.samples[one.sample_id])} tries of its sample are"
    if filters.faulty == "episode" and one.faults:
        return "faulty_episode", f"{one.faults} of its turns are faulty"
    if one.digest in seen:
        return "duplicate_episode", "the same was done on the same sample"
    return None


def _read(record: Mapping[str, Any], filters: Filters) -> Try:
    verdict = judge(
        record,
        min_iou=filters.min_iou,
        max_count_error=filters.max_count_error,
        answered=filters.answered,
        min_reward=filters.min_reward,
    )
    turns = record["turns"]
    done = [[turn.get("text"), turn["name"], turn["arguments"], turn.get("thought")] for turn in turns]
    written = json.dumps([record["sample_id"], done], sort_keys=True)
    return Try(
        episode=record["episode"],
        sample_id=record["sample_id"],
        query=record["query"],
        verdict=verdict,
        digest=hashlib.sha256(written.encode()).hexdigest(),
        turns=len(turns),
        faults=sum(turn["error"] is not None for turn in turns),
        reward=float(record["reward"]),
    )
