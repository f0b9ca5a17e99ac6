"""MAT-Search, the questions of Visual-ARFT (arXiv 2505.14246) that need a search: ``dataset="matsearch:PATH"``.

``PATH`` is the JSON file, or a folder in which it is ``MAT-Search.json`` or the only one:
``[{"id", "question", "answer", "image_path"}]``. Pictures lie where ``image_path`` says, from the folder of the file
on, or from another: ``matsearch:PATH?images=FOLDER``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from visenv.datasets.files import (
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
from visenv.datasets.paths import path_and_options
from visenv.errors import DatasetError
from visenv.types import AnswerTruth, Sample

FAMILIES, SPLITS = ("matsearch",), ("test",)
FILE = "MAT-Search.json"
_LAYOUT = f'{FILE}, [{{"id", "question", "answer", "image_path"}}], and the pictures that it names'
_VOCABULARY = ("person", "building", "animal", "plant", "vehicle", "logo", "text", "food", "painting", "object")


class MATSearch(FolderDataset):
    """The questions of MAT-Search.

    Args:
        file: the JSON file, or the folder that it lies in.
        images: the folder that pictures are named from; the file's if left out.

    Raises:
        DatasetError: if a file is missing or broken.
    """

    def __init__(self, file: str | Path, images: str | Path | None = None) -> None:
        path = _json_file(Path(file).expanduser())
        self._images = path.parent if images is None else existing_folder(images, "matsearch", _LAYOUT)
        self._rows: dict[str, dict[str, Any]] = {}
        keys = []
        for number, row in enumerate(expect(read_json(path), list, str(path))):
            where = f"row {number} of {str(path)!r}"
            key = expect(expect(row, dict, where).get("id"), (str, int), f"'id' of {where}")
            keys.append(str(key))
            self._rows[str(key)] = row
        super().__init__(name="matsearch", split="test", vocabulary=_VOCABULARY, keys=keys)

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        row, where = self._rows[key], f"sample {key!r}"
        question, given = row.get("question"), row.get("answer")
        answers: list[Any] = given if isinstance(given, list) else [given]
        if not is_query(question):
            raise DatasetError(f"Expected a question as a text in {where}, but got {question!r:.60}.")
        if not answers or not all(is_query(answer) for answer in answers):
            raise DatasetError(f"Expected an answer, or a list of them, as texts in {where}, but got {given!r:.60}.")
        name = expect(row.get("image_path"), str, f"'image_path' of {where}")
        picture = Picture(resolve_inside(self._images, name.removeprefix("./")), where)
        return Sample(
            sample_id=self._sample_id(key),
            images=(picture.pixels,),
            query=str(question),
            truth=AnswerTruth(tuple(answers)),
            task="question",
            metadata={"family": "matsearch", "image": name},
        )


def _json_file(path: Path) -> Path:
    if path.is_file():
        return path
    folder = existing_folder(path, "matsearch", _LAYOUT)
    file = resolve_inside(folder, FILE)
    if file.is_file():
        return file
    found = sorted(each for each in folder.glob("*.json") if each.is_file())
    if len(found) != 1:
        raise DatasetError(f"Expected {FILE!r} in {str(folder)!r}, but there are {len(found)} JSON files and not it.")
    return resolve_inside(folder, found[0].name)


def make(*, path: str | None, family: str, split: str, difficulty: int) -> MATSearch:
    """The data set for ``dataset="matsearch:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: if the path is missing or broken, or it has no such family or split.
    """
    check_family("matsearch", family, FAMILIES)
    check_split("matsearch", split, SPLITS)
    place, options = path_and_options(path, "matsearch", ("images",))
    if not place:
        existing_folder(None, "matsearch", _LAYOUT)
    return MATSearch(str(place), options.get("images"))
