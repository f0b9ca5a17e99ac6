"""MAT-Coding: damaged pictures with questions, from a folder in the published layout.

Source: Visual-ARFT, arXiv 2505.14246::

    MAT/
      MAT-Coding.json   [{"id", "question", "answers", "ori_image_path", "processed_image_path", "type", "split"}, …]
      the pictures, where the two paths say, relative to the folder

The JSON file may have another name if it is the only one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from visenv.datasets.files import (
    FolderDataset,
    Picture,
    check_family,
    existing_folder,
    expect,
    is_query,
    read_json,
    resolve_inside,
)
from visenv.errors import DatasetError
from visenv.tools.coding import PROBLEMS
from visenv.types import ImageTruth, Sample

FAMILIES = ("matcoding",)
VOCABULARY = ("person", "vehicle", "animal", "bird", "fruit", "food", "plant", "boat", "bottle", "building")
"""Simple phrases, for what asks a data set for some."""

_FILE = "MAT-Coding.json"
_LAYOUT = f"{_FILE} and the pictures that it names"
_PROBLEM = re.compile("|".join(PROBLEMS))
_MOST_ANSWERS = 100


class MatCoding(FolderDataset):
    """The samples of one split, as their records name it; an identifier is ``SPLIT/ID``.

    Pictures are read when they are asked for, turned upright by their EXIF orientation, and shrunk to 1920x1080 (the
    long side, the short side) where they are larger.

    Args:
        folder: the folder that holds the JSON file and the pictures.
        split: as in the records' ``split``.
        name: the data set's name in messages.

    Raises:
        DatasetError: if a file is missing or broken, or no record is of that split.
    """

    def __init__(self, folder: str | Path, *, split: str = "test", name: str = "matcoding") -> None:
        self._folder = existing_folder(folder, name, _LAYOUT)
        self._file = _find_file(self._folder)
        self._records: dict[str, dict[str, Any]] = {}
        splits: dict[str, int] = {}
        for number, record in enumerate(expect(read_json(self._file), list, str(self._file))):
            where = f"record {number} of {str(self._file)!r}"
            expect(record, dict, where)
            of = expect(record.get("split"), str, f"'split' of {where}")
            splits[of] = splits.get(of, 0) + 1
            if of == split:
                key = str(expect(record.get("id"), (str, int), f"'id' of {where}"))
                if key in self._records:
                    raise DatasetError(
                        f"Expected every 'id' once in {str(self._file)!r}, but {key!r:.60} is there twice."
                    )
                self._records[key] = record
        if not self._records:
            known = ", ".join(repr(each) for each in sorted(splits)[:10]) or "none at all"
            raise DatasetError(f"The data set {name!r} has no split {split!r}: there are {known}.")
        super().__init__(name=name, split=split, vocabulary=VOCABULARY, keys=tuple(self._records))

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        record, where = self._records[key], f"sample {key!r:.60} of {str(self._file)!r}"
        question = record.get("question")
        if not is_query(question):
            raise DatasetError(f"Expected a question in {where}, but it is empty or broken.")
        clean = self._picture(record, "ori_image_path", where)
        damaged = self._picture(record, "processed_image_path", where)
        damage = problems_of(record.get("type"), where)
        return Sample(
            sample_id=self._sample_id(key),
            images=(damaged.pixels,),
            query=str(question).strip(),
            truth=ImageTruth(clean.pixels, damage, _answers(record.get("answers"), where)),
            task="restoration",
            metadata={"dataset": self.name, "original_size": list(damaged.original_size)},
        )

    def _picture(self, record: dict[str, Any], field: str, where: str) -> Picture:
        name = expect(record.get(field), str, f"{field!r} of {where}")
        path = resolve_inside(self._folder, name)
        if not path.is_file():
            raise DatasetError(f"There is no picture {name!r:.100} in {str(self._folder)!r}, which {where} names.")
        return Picture(path, where)


def problems_of(value: Any, where: str) -> tuple[str, ...]:
    """What is wrong with a picture, from a record's ``type``: a name, several in one text, or a list of them.

    Args:
        value: the field.
        where: for messages.

    Raises:
        DatasetError: if it names nothing that is known.

    Example:
        >>> problems_of("rotation90+dark", "a record"), problems_of(["blur"], "a record"), problems_of("none", "it")
        (('rotation90', 'dark'), ('blur',), ())
    """
    parts = value if isinstance(value, list) else [value]
    found = [name for part in parts if isinstance(part, str) and len(part) < 200 for name in _PROBLEM.findall(part)]
    if not found:
        raise DatasetError(f"Expected 'type' of {where} to name some of {', '.join(PROBLEMS)}, but got {value!r:.60}.")
    return tuple(dict.fromkeys(name for name in found if name != "none"))


def _answers(value: Any, where: str) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    answers = tuple(str(each).strip() for each in given if isinstance(each, (str, int, float)) and str(each).strip())
    if not answers or len(answers) != len(given) or len(answers) > _MOST_ANSWERS:
        raise DatasetError(f"Expected 'answers' of {where} to be a text or texts, but got {value!r:.60}.")
    return answers


def _find_file(folder: Path) -> Path:
    named = resolve_inside(folder, _FILE)
    if named.is_file():
        return named
    found = sorted(path.name for path in folder.glob("*.json"))
    if len(found) != 1:
        got = f"there are {', '.join(found[:5])}" if found else "there is none"
        raise DatasetError(
            f"Expected {_FILE} in {str(folder)!r}, or one other JSON file, but {got}. Layout: {_LAYOUT}."
        )
    return resolve_inside(folder, found[0])


def make(*, path: str | None, family: str, split: str, difficulty: int) -> MatCoding:
    """The data set for ``dataset="matcoding:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: for another family, or a missing or broken file.
    """
    check_family("matcoding", family, FAMILIES)
    return MatCoding(existing_folder(path, "matcoding", _LAYOUT), split=split)
