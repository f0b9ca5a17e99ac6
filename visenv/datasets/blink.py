"""BLINK (arXiv 2404.12390), 14 tasks of seeing rather than knowing: ``dataset="blink:PATH"``.

``PATH`` holds one folder a sub-task, as it is published: ``Counting/val-00000-of-00001.parquet``; or, in its place,
``Counting/val.json``, a list of rows whose pictures are files beside it. A row has ``idx``, ``question``, ``choices``,
``answer`` (such as ``(A)``), ``prompt`` and ``image_1`` to ``image_4``. ``blink:PATH?tasks=Counting,Jigsaw`` takes some
of the sub-tasks alone. The answers of ``test`` were not published, so that it cannot be scored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from visenv.datasets.files import (
    MAX_ANNOTATION_BYTES,
    FolderDataset,
    Picture,
    check_family,
    check_split,
    existing_folder,
    expect,
    is_query,
    read_json,
    resolve_inside,
)
from visenv.datasets.options import LETTERS, answers_with, asked_with
from visenv.datasets.paths import path_and_options
from visenv.datasets.tables import ParquetRows
from visenv.errors import DatasetError
from visenv.images import ImageSource
from visenv.types import AnswerTruth, Sample
from visenv.wording import normalize_answer

TASKS = (
    "Art_Style",
    "Counting",
    "Forensic_Detection",
    "Functional_Correspondence",
    "IQ_Test",
    "Jigsaw",
    "Multi-view_Reasoning",
    "Object_Localization",
    "Relative_Depth",
    "Relative_Reflectance",
    "Semantic_Correspondence",
    "Spatial_Relation",
    "Visual_Correspondence",
    "Visual_Similarity",
)
"""The sub-tasks, as their folders are called."""
IMAGES = ("image_1", "image_2", "image_3", "image_4")
"""The columns of pictures, which are img_0, img_1, … here."""
FAMILIES, SPLITS = ("blink", "multiimage"), ("val", "test")
VOCABULARY = ("circle", "box", "arrow", "point", "person", "animal", "vehicle", "food", "furniture", "building")
"""Simple phrases for the discrete action mode."""
_LAYOUT = "SUBTASK/SPLIT-*.parquet or SUBTASK/SPLIT.json, such as Counting/val-00000-of-00001.parquet"
_LETTER = re.compile(r"\(?([A-Z])\)?")


class Blink(FolderDataset):
    """The questions of BLINK.

    Args:
        folder: the folder of sub-tasks.
        split: ``val``, or ``test``, whose answers are not public: its samples cannot be loaded.
        tasks: which sub-tasks; all that are there if left out.
        several: take those alone that have at least two pictures.

    Raises:
        DatasetError: if a file is missing or broken, or a sub-task does not exist.
        MissingDependency: if a sub-task is Parquet and pyarrow is not installed.
    """

    def __init__(
        self, folder: str | Path, split: str = "val", tasks: Sequence[str] | None = None, several: bool = False
    ) -> None:
        check_split("blink", split, SPLITS)
        root = existing_folder(folder, "blink", _LAYOUT)
        self._tables: dict[str, _Table] = {}
        for task in TASKS if tasks is None else _known(tasks):
            table = _open(root, task, split)
            if table is not None:
                self._tables[task] = table
            elif tasks is not None:
                raise DatasetError(f"There is no table of split {split!r} of {task!r} in {str(root)!r}: {_LAYOUT}.")
        if not self._tables:
            raise DatasetError(f"There is no sub-task of BLINK with split {split!r} in {str(root)!r}: {_LAYOUT}.")
        self._rows: dict[str, tuple[str, int]] = {}
        for task, table in self._tables.items():
            for number in range(len(table)):
                if not several or table.shows_several(number):
                    self._rows[f"{task}/{number}"] = (task, number)
        super().__init__(name="blink", split=split, vocabulary=VOCABULARY, keys=tuple(self._rows))

    @property
    def counts(self) -> dict[str, int]:
        """``samples``, and how many of each sub-task."""
        tasks = [task for task, _ in self._rows.values()]
        return {"samples": len(self), **{task: tasks.count(task) for task in self._tables}}

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        task, number = self._rows[key]
        table = self._tables[task]
        row, where = table.row(number), f"sample {self._sample_id(key)!r}"
        question, options = row.get("question"), row.get("choices")
        if not is_query(question):
            raise DatasetError(f"Expected a question as a text in {where}, but got {question!r:.60}.")
        if not isinstance(options, list) or len(options) < 2 or not all(is_query(option) for option in options):
            raise DatasetError(f"Expected at least two choices as texts in {where}, but got {options!r:.60}.")
        if len(options) > len(LETTERS):
            raise DatasetError(f"Expected at most {len(LETTERS)} choices in {where}, but there are {len(options)}.")
        sources = [row[name] for name in IMAGES if row.get(name) is not None]
        if not sources:
            raise DatasetError(f"Expected a picture in {IMAGES[0]!r} of {where}, but there is none.")
        pictures = [Picture(table.source(value, where), where) for value in sources]
        return Sample(
            sample_id=self._sample_id(key),
            images=tuple(picture.pixels for picture in pictures),
            query=asked_with(str(question).strip(), options),
            truth=truth_of(row.get("answer"), options, task, where),
            task="question",
            metadata={
                "family": "blink",
                "sub_task": task,
                "idx": str(row.get("idx")),
                "question": str(question).strip(),
                "prompt": str(row.get("prompt") or ""),
            },
        )


def truth_of(answer: object, options: Sequence[str], group: str, where: str) -> AnswerTruth:
    """What is right, from the letter of an option as it is published, such as ``(A)``.

    Args:
        answer: as published.
        options: in their published order.
        group: what the question counts for.
        where: what messages call it.

    Raises:
        DatasetError: if it is no letter of an option.
    """
    found = _LETTER.fullmatch(answer.strip().upper()) if isinstance(answer, str) else None
    place = LETTERS.index(found.group(1)) if found else len(options)
    if place >= len(options):
        raise DatasetError(
            f"Expected the letter of one of {len(options)} options, such as (A), as the answer of {where}, but got "
            f"{answer!r:.40}. Answers that are hidden cannot be scored."
        )
    return grouped(LETTERS[place], options, group)


def grouped(letter: str, options: Sequence[str], group: str) -> AnswerTruth:
    """The truth of a question whose right option has a letter.

    Its text is accepted too, unless it might be taken for a letter or for no answer, or another option reads the same:
    as answers are compared, without articles and punctuation.
    """
    right = options[LETTERS.index(letter)]
    truth = answers_with(right, options)
    read = [normalize_answer(option) for option in options]
    own = read[LETTERS.index(letter)]
    plain = own.upper() not in ("", *LETTERS) and read.count(own) == 1
    return replace(truth, answers=(letter, right) if plain else (letter,), group=group)


def _known(tasks: Sequence[str]) -> list[str]:
    by_name = {task.lower().replace("-", "_"): task for task in TASKS}
    known = []
    for task in tasks:
        name = by_name.get(task.strip().lower().replace("-", "_"))
        if name is None:
            raise DatasetError(f"Expected sub-tasks out of {', '.join(TASKS)}, but got {task!r:.60}.")
        known.append(name)
    return list(dict.fromkeys(known))


class _Table:
    """The rows of one sub-task."""

    def __init__(self, rows: ParquetRows | Sequence[Mapping[str, Any]], folder: Path) -> None:
        self._rows, self._folder = rows, folder
        self._several: list[bool] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> Mapping[str, Any]:
        return self._rows.row(number) if isinstance(self._rows, ParquetRows) else self._rows[number]

    def shows_several(self, number: int) -> bool:
        """Whether a row has a second picture; no picture is read for it."""
        if self._several is None:
            if isinstance(self._rows, ParquetRows):
                self._several = [value is not None for value in self._seconds(self._rows)]
            else:
                self._several = [row.get("image_2") is not None for row in self._rows]
        return self._several[number]

    def _seconds(self, rows: ParquetRows) -> list[Any]:
        if "image_2" not in rows.columns:
            return [None] * len(rows)
        try:
            return rows.column("image_2.path")
        except DatasetError:
            return rows.column("image_2")

    def source(self, value: Any, where: str) -> ImageSource:
        """The picture that a cell holds: its bytes, or the name of a file in the sub-task's folder."""
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            data: bytes = value["bytes"]
            return data
        path = value.get("path") if isinstance(value, dict) else value
        if not isinstance(path, str):
            raise DatasetError(f"Expected a picture, or the name of its file, in {where}, but got {value!r:.60}.")
        return resolve_inside(self._folder, path.removeprefix("./"))


def _open(root: Path, task: str, split: str) -> _Table | None:
    """The table of a sub-task; None if there is none."""
    folder = root / task
    if not folder.is_dir():
        return None
    files = [f"{task}/{file.name}" for file in sorted(folder.glob(f"{split}-*.parquet"))]
    if files:
        return _Table(ParquetRows([resolve_inside(root, name) for name in files]), resolve_inside(root, task))
    file = resolve_inside(root, f"{task}/{split}.json")
    if not file.is_file():
        return None
    rows = expect(read_json(file, MAX_ANNOTATION_BYTES), list, str(file))
    return _Table([expect(row, dict, f"row {i} of {str(file)!r}") for i, row in enumerate(rows)], folder)


def make(*, path: str | None, family: str, split: str, difficulty: int) -> Blink:
    """The data set for ``dataset="blink:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: if the folder is missing or broken, or it has no such family, split or sub-task.
    """
    check_family("blink", family, FAMILIES)
    place, options = path_and_options(path, "blink", ("tasks",))
    tasks = options["tasks"].split(",") if "tasks" in options else None
    return Blink(place or existing_folder(None, "blink", _LAYOUT), split, tasks, several=family == "multiimage")
