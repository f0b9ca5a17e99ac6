"""MMVP (arXiv 2401.06209), pairs of pictures that look alike to a vision encoder: ``dataset="mmvp:PATH"``.

``PATH`` holds ``Questions.csv`` (Index, Question, Options, Correct Answer) and ``MMVP Images/1.jpg`` to ``300.jpg``.
Questions 1 and 2 are a pair, 3 and 4, and so on; a pair is right if both of its answers are.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np

from visenv.datasets.blink import truth_of
from visenv.datasets.files import (
    MAX_ANNOTATION_BYTES,
    FolderDataset,
    Picture,
    check_family,
    check_split,
    existing_folder,
    find_picture,
    is_query,
    read_bytes,
    resolve_inside,
)
from visenv.datasets.options import LETTERS, asked_with
from visenv.errors import DatasetError
from visenv.types import Sample

FAMILIES, SPLITS = ("mmvp",), ("test",)
FILE, PICTURES = "Questions.csv", "MMVP Images"
COLUMNS = ("Index", "Question", "Options", "Correct Answer")
VOCABULARY = ("person", "dog", "cat", "bird", "flower", "car", "cup", "door", "hand", "eye")
"""Simple phrases for the discrete action mode."""
_LAYOUT = f"{FILE} ({', '.join(COLUMNS)}) and {PICTURES}/1.jpg, 2.jpg, …"
_MARK = re.compile(r"\(([a-zA-Z])\)")


class MMVP(FolderDataset):
    """The questions of MMVP.

    Args:
        folder: the folder that ``Questions.csv`` lies in.

    Raises:
        DatasetError: if it is missing or broken.
    """

    def __init__(self, folder: str | Path) -> None:
        root = existing_folder(folder, "mmvp", _LAYOUT)
        self._pictures = resolve_inside(root, PICTURES)
        self._rows = {row["Index"].strip(): row for row in _read(resolve_inside(root, FILE))}
        super().__init__(name="mmvp", split="test", vocabulary=VOCABULARY, keys=tuple(self._rows))

    @property
    def counts(self) -> dict[str, int]:
        """``samples`` and ``pairs``."""
        return {"samples": len(self), "pairs": len({pair_of(int(key)) for key in self._rows})}

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        row, where = self._rows[key], f"sample {self._sample_id(key)!r}"
        question = row["Question"]
        if not is_query(question):
            raise DatasetError(f"Expected a question in {where}, but got {question!r:.60}.")
        options = options_of(row["Options"])
        if len(options) < 2:
            raise DatasetError(f"Expected options as (a) … (b) … in {where}, but got {row['Options']!r:.60}.")
        number = int(key)
        return Sample(
            sample_id=self._sample_id(key),
            images=(Picture(find_picture(self._pictures, str(number)), where).pixels,),
            query=asked_with(question.strip(), options),
            truth=truth_of(row["Correct Answer"], options, str(pair_of(number)), where),
            task="question",
            metadata={"family": "mmvp", "pair": pair_of(number), "paired": True, "question": question.strip()},
        )


def pair_of(number: int) -> int:
    """The pair, from 1, that a question of a number from 1 belongs to.

    Example:
        >>> [pair_of(number) for number in (1, 2, 3, 4)]
        [1, 1, 2, 2]
    """
    return (number + 1) // 2


def options_of(text: str) -> list[str]:
    """Options as they stand in one cell, ``(a) … (b) …``; empty if they do not stand there in order.

    What is in brackets and not the next letter belongs to an option.

    Example:
        >>> options_of("(a) Open (b) Closed"), options_of("(a) One apple (b) Two apple(s)")
        (['Open', 'Closed'], ['One apple', 'Two apple(s)'])
    """
    text = text.strip()
    marks: list[re.Match[str]] = []
    for mark in _MARK.finditer(text):
        if mark.group(1).upper() == LETTERS[len(marks) : len(marks) + 1]:
            marks.append(mark)
    if not marks or marks[0].start() != 0:
        return []
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    options = [text[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
    return options if all(options) else []


def _read(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        raise DatasetError(f"There is no file {str(file)!r}. Layout: {_LAYOUT}.")
    data = read_bytes(file, MAX_ANNOTATION_BYTES)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(reader)
    except csv.Error as error:
        raise DatasetError(f"Expected a table of comma-separated values in {str(file)!r}, but {error}.") from error
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise DatasetError(
            f"Expected the columns {', '.join(COLUMNS)} in {str(file)!r}, but {missing[0]!r} is missing."
        )
    known = []
    for line, row in enumerate(rows, start=2):
        cells = {name: row[name] for name in COLUMNS}
        index = cells["Index"]
        if not all(isinstance(value, str) for value in cells.values()) or not re.fullmatch(
            r"[1-9][0-9]{0,8}", index.strip()
        ):
            raise DatasetError(f"Expected a number from 1 and a cell for each column in row {line} of {str(file)!r}.")
        known.append(cells)
    if len({row["Index"].strip() for row in known}) != len(known):
        raise DatasetError(f"Expected each Index once in {str(file)!r}, but one is there twice.")
    return known


def make(*, path: str | None, family: str, split: str, difficulty: int) -> MMVP:
    """The data set for ``dataset="mmvp:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: if the folder is missing or broken, or it has no such family or split.
    """
    check_family("mmvp", family, FAMILIES)
    check_split("mmvp", split, SPLITS)
    return MMVP(existing_folder(path, "mmvp", _LAYOUT))
