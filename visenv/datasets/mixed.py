"""Several data sets as one: samples of several kinds of task, drawn by weights."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any, TypeAlias

import numpy as np

from visenv.datasets.base import FAMILIES, Dataset
from visenv.datasets.making import find_entry, make_dataset
from visenv.errors import DatasetError, InvalidData, UnknownName
from visenv.types import Sample

Source: TypeAlias = "str | Dataset"
"""What ``make_dataset`` takes."""
Part: TypeAlias = "float | Source | tuple[Source, float]"
"""The weight of a task, where its samples come from, or both."""
Tasks: TypeAlias = "Iterable[str] | Mapping[str, Part]"


class MixedDataset:
    """Samples of several tasks, an identifier of which is ``TASK:IDENTIFIER``.

    A draw chooses a task by its weight, then lets that task's data set draw. Numbers go round the tasks: with three of
    them, 0, 1 and 2 are the first sample of each, 3 is the second sample of the first; a task that has run out is
    passed over. So all samples of finite data sets have a number, whatever the weights.

    Args:
        parts: the data set of each task; the tasks are some of ``FAMILIES``.
        weights: how often each task is drawn, to any scale. If left out, the square roots of the data sets' sizes, so
            that large sets do not drown small ones; the same for all where none of them ends.

    Attributes:
        parts: as given.
        weights: the share of each task, which sum to 1.

    Raises:
        InvalidData: if there is no task or no sample, if the weights are not one positive number a task, or if they are
            left out where some data sets end and others do not.
        UnknownName: if a task is none of ``FAMILIES``.

    Example:
        >>> from visenv.datasets.scenes import ScenesDataset
        >>> data = MixedDataset({task: ScenesDataset(task, "val", 1) for task in ("refseg", "refcount")})
        >>> data.size, data.weights
        (1000, {'refseg': 0.5, 'refcount': 0.5})
        >>> data.get(3).sample_id
        'refcount:scenes/refcount/d1/val/1'
    """

    name = "mixed"

    def __init__(self, parts: Mapping[str, Dataset], weights: Mapping[str, float] | None = None) -> None:
        if not parts:
            raise InvalidData(f"Expected at least one task out of {', '.join(FAMILIES)}, but got none.")
        for task in parts:
            _check_task(task)
        empty = [task for task, part in parts.items() if part.size == 0]
        if empty:
            raise InvalidData(f"Expected data sets with at least one sample, but that of {empty[0]!r} is empty.")
        self.parts = dict(parts)
        self.split = "+".join(dict.fromkeys(part.split for part in parts.values()))
        given = _default_weights(self.parts) if weights is None else _checked_weights(self.parts, weights)
        total = math.fsum(given.values())
        self.weights: dict[str, float] = {task: weight / total for task, weight in given.items()}
        # The first phrases are the ones that an agent can choose from: every task gets its turn among them.
        turns = zip_longest(*(part.vocabulary for part in parts.values()))
        phrases = (phrase for turn in turns for phrase in turn if phrase is not None)
        self.vocabulary: tuple[str, ...] = tuple(dict.fromkeys(phrases))

    def __repr__(self) -> str:
        return f"MixedDataset({self.parts!r}, {self.weights!r})"

    @property
    def size(self) -> int | None:
        """The samples of all tasks together; None where one of them does not end."""
        sizes = [part.size for part in self.parts.values()]
        finite = [size for size in sizes if size is not None]
        return sum(finite) if len(finite) == len(sizes) else None

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0.

        Raises:
            IndexError: if there is none.
            DatasetError: if its files are missing or broken.
        """
        task, number = self._place(index)
        return _named(task, self.parts[task].get(number))

    def find(self, sample_id: str) -> Sample:
        """The sample with that identifier, ``TASK:IDENTIFIER``.

        Raises:
            DatasetError: if there is none, or its files are missing or broken.
        """
        task, _, own = sample_id.partition(":")
        if task not in self.parts:
            raise DatasetError(
                f"Expected an identifier TASK:IDENTIFIER with a task out of {', '.join(self.parts)}, "
                f"but got {sample_id[:100]!r}."
            )
        return _named(task, self.parts[task].find(own))

    def draw(self, rng: np.random.Generator) -> Sample:
        """A sample by chance: of a task chosen by its weight, one that its data set draws."""
        task = list(self.parts)[int(rng.choice(len(self.parts), p=list(self.weights.values())))]
        return _named(task, self.parts[task].draw(rng))

    def _place(self, index: int) -> tuple[str, int]:
        """The task of a number, and the number in that task's own data set."""
        if index < 0 or (self.size is not None and index >= self.size):
            end = "or more" if self.size is None else f"to {self.size - 1}"
            raise IndexError(f"Expected a sample number of 0 {end}, but got {index}.")
        first, rounds = index, 0
        running = list(self.parts)
        while True:
            # As many whole rounds as all that still run have samples for; then those that have run out drop out.
            left = [size - rounds for task in running if (size := self.parts[task].size) is not None]
            shortest = min(left, default=None)
            if shortest is None or first < shortest * len(running):
                turn, task = divmod(first, len(running))
                return running[task], rounds + turn
            first -= shortest * len(running)
            rounds += shortest
            running = [task for task in running if self.parts[task].size != rounds]


def task_of(sample_id: str) -> str:
    """The task that an identifier of a ``MixedDataset`` names.

    Raises:
        DatasetError: if it names none.

    Example:
        >>> task_of("refcount:scenes/refcount/d1/val/1")
        'refcount'
    """
    task, colon, _ = sample_id.partition(":")
    if not colon or task not in FAMILIES:
        raise DatasetError(
            f"Expected an identifier TASK:IDENTIFIER with a task out of {', '.join(FAMILIES)}, as samples of a "
            f"MixedDataset have it, but got {sample_id[:100]!r}."
        )
    return task


def mix(
    tasks: Tasks | None = None, *, dataset: str = "scenes", split: str = "train", difficulty: int = 1
) -> MixedDataset:
    """Make the data sets of several tasks, and mix them.

    Args:
        tasks: names of tasks; or from name to its weight, to its data set (an object, or a name as in ``dataset``), or
            to ``(data set, weight)``. All that ``dataset`` has samples for if left out.
        dataset: the data set of every task that names none of its own.
        split: ``train``, ``val`` or ``test``.
        difficulty: 0 to 3; only generated data has one.

    Raises:
        InvalidData: if ``tasks`` is none of these, or the weights are not as ``MixedDataset`` takes them; either every
            task has a weight or none.
        UnknownName: if there is no such task or data set.
        DatasetError: if a data set has no samples for its task, or cannot be read.

    Example:
        >>> mix({"reasonseg": 3, "refcount": 1}).weights
        {'reasonseg': 0.75, 'refcount': 0.25}
    """
    if tasks is None:
        tasks = find_entry(dataset)[0].options.get("families", FAMILIES)
    wanted = {task: _source_and_weight(task, part) for task, part in _by_task(tasks).items()}
    weights = {task: weight for task, (_, weight) in wanted.items() if weight is not None}
    if weights and len(weights) < len(wanted):
        missing = next(task for task in wanted if task not in weights)
        raise InvalidData(f"Expected a weight for every task or for none, but {missing!r} has none and others have.")
    parts = {
        task: make_dataset(dataset if source is None else source, family=task, split=split, difficulty=difficulty)
        for task, (source, _) in wanted.items()
    }
    return MixedDataset(parts, weights or None)


def _named(task: str, sample: Sample) -> Sample:
    """A sample of one task, under its name in the mix."""
    return replace(sample, sample_id=f"{task}:{sample.sample_id}")


def _check_task(task: object) -> None:
    if task in FAMILIES:
        return
    near = difflib.get_close_matches(str(task), FAMILIES, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownName(f"Unknown task {task!r:.80}.{hint} Known: {', '.join(FAMILIES)}.")


def _by_task(tasks: Any) -> dict[str, Any]:
    """Every task once, with what was said about it; None where nothing was."""
    expected = "Expected tasks to be names of tasks, or a mapping from their names"
    if isinstance(tasks, str) or not isinstance(tasks, Iterable):
        raise InvalidData(f"{expected}, but got {tasks!r:.80}.")
    listed = list(tasks)
    for task in listed:
        _check_task(task)
    if len(set(listed)) < len(listed):
        raise InvalidData(f"{expected}, each of them once, but got {listed!r:.200}.")
    return dict(tasks) if isinstance(tasks, Mapping) else dict.fromkeys(listed)


def _source_and_weight(task: str, part: Any) -> tuple[Source | None, float | None]:
    """What was said about a task, taken apart."""
    if part is None:
        return None, None
    if _is_number(part):
        return None, part
    if isinstance(part, tuple) and len(part) == 2 and _is_number(part[1]):
        return part
    if isinstance(part, tuple):
        raise InvalidData(f"Expected (data set, weight) for the task {task!r}, but got {part!r:.80}.")
    return part, None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _default_weights(parts: Mapping[str, Dataset]) -> dict[str, float]:
    sizes = {task: part.size for task, part in parts.items()}
    finite = {task: math.sqrt(size) for task, size in sizes.items() if size is not None}
    if not finite:
        return dict.fromkeys(parts, 1.0)
    if len(finite) < len(parts):
        ends, endless = next(iter(finite)), next(task for task, size in sizes.items() if size is None)
        raise InvalidData(
            f"Expected a weight for every task, since the samples of {ends!r} end and those of {endless!r} do not: "
            f"for instance tasks={{{ends!r}: (…, 1.0), {endless!r}: (…, 1.0)}}."
        )
    return finite


def _checked_weights(parts: Mapping[str, Dataset], weights: Mapping[str, float]) -> dict[str, float]:
    right = all(_is_number(weight) and 0 < weight < math.inf for weight in weights.values())
    if set(weights) != set(parts) or not right:
        raise InvalidData(f"Expected one positive weight for each of {', '.join(parts)}, but got {dict(weights)!r}.")
    return {task: float(weights[task]) for task in parts}
