"""What VisDrone and Dense200 share: boxes by category, one task a category, and the JSONL that VisHarness reads.

A line of that file is ``{"image_path": "images/a.jpg", "gt": {"car": [[x1, y1, x2, y2], …], …}}``, boxes in pixels of
the upright picture.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from visenv.datasets.files import FolderDataset, Picture, expect, is_query, resolve_inside
from visenv.datasets.streams import json_lines, read_element
from visenv.errors import DatasetError
from visenv.types import BoxesTruth, FloatArray, Sample

FAMILIES = ("densedet",)


class Boxes(NamedTuple):
    """What is known of one category in one picture."""

    targets: FloatArray
    """(N, 4) xyxy pixels of the upright file."""
    ignore: FloatArray | None = None
    """(K, 4) xyxy."""


class DenseBoxes(FolderDataset):
    """One sample for each category in a picture: box every object of it.

    An identifier is ``SPLIT/PICTURE-CATEGORY``, the category with underscores for spaces.

    Args:
        tasks: for each sample the number of its picture, and its category.
        pictures: the path of each picture, relative to ``root``.
        root: the folder that no picture leads out of.
        split: which part this is.
        name: the data set's name in messages.
        vocabulary: simple phrases, the same for every sample.

    Raises:
        DatasetError: if there is no sample, or two have one name.
    """

    def __init__(
        self,
        tasks: Sequence[tuple[int, str]],
        pictures: Sequence[str],
        root: Path,
        *,
        split: str,
        name: str,
        vocabulary: Sequence[str],
    ) -> None:
        self._tasks, self._pictures, self._root = list(tasks), list(pictures), root
        stems = [Path(path).stem for path in self._pictures]
        keys = [f"{stems[number]}-{category.replace(' ', '_')}" for number, category in self._tasks]
        super().__init__(name=name, split=split, vocabulary=vocabulary, keys=keys)

    @property
    def counts(self) -> dict[str, int]:
        """Pairs of a picture and a category as ``samples``, and ``pictures``, those without any box included."""
        return {"samples": len(self), "pictures": len(self._pictures)}

    @abstractmethod
    def _boxes(self, number: int, category: str, where: str) -> Boxes:
        """The boxes of a category in a picture, as the file has them."""

    def _picture_path(self, number: int) -> Path:
        path = resolve_inside(self._root, self._pictures[number])
        if not path.is_file():
            raise DatasetError(f"There is no picture {self._pictures[number]!r} in {str(self._root)!r}.")
        return path

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        number, category = self._tasks[self._places[key]]
        where = f"sample {self._sample_id(key)}"
        found = self._boxes(number, category, where)
        picture = Picture(self._picture_path(number), where)
        targets = picture.scale_boxes(found.targets)
        return Sample(
            sample_id=self._sample_id(key),
            images=(picture.pixels,),
            query=category,
            truth=BoxesTruth(
                targets,
                labels=(category,) * len(targets),
                ignore=None if found.ignore is None else picture.scale_boxes(found.ignore),
            ),
            task="detection",
            metadata={
                "dataset": self.name,
                "original_size": list(picture.original_size),
                "category": category,
            },
        )


class BoxLines(DenseBoxes):
    """Boxes from a JSONL file; of each line its place is remembered, and it is read again for its sample.

    Args:
        file: one picture a line.
        root: the folder that pictures' paths are relative to.
        split: which part this is.
        name: the data set's name in messages.
        vocabulary: simple phrases, the same for every sample.

    Raises:
        DatasetError: if the file is missing or broken, or there is no sample.
    """

    def __init__(self, file: Path, root: Path, *, split: str, name: str, vocabulary: Sequence[str]) -> None:
        self._file = file
        self._lines: list[tuple[int, int]] = []
        pictures: list[str] = []
        tasks: list[tuple[int, str]] = []
        for line in json_lines(file):
            where = f"{str(file)!r}, line {line.key}"
            value = expect(line.value, dict, where)
            categories = expect(value.get("gt"), dict, f"'gt' of {where}")
            for category, boxes in categories.items():
                if not is_query(category):
                    raise DatasetError(f"Expected names of categories in 'gt' of {where}, but one is empty or broken.")
                if expect(boxes, list, f"{category!r} of {where}"):
                    tasks.append((len(pictures), category))
            pictures.append(expect(value.get("image_path"), str, f"'image_path' of {where}"))
            self._lines.append((line.start, line.length))
        super().__init__(tasks, pictures, root, split=split, name=name, vocabulary=vocabulary)

    def _boxes(self, number: int, category: str, where: str) -> Boxes:
        value: Any = read_element(self._file, *self._lines[number])
        rows = value["gt"][category]
        try:
            boxes = np.asarray(rows, np.float64).reshape(len(rows), 4)
        except (TypeError, ValueError, OverflowError):
            boxes = np.full((1, 4), np.nan)
        if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
            raise DatasetError(f"Expected boxes [x1, y1, x2, y2] with an area in {where}, but got {str(rows)[:80]}.")
        return Boxes(boxes)


def find_lines(folder: Path, split: str, stem: str) -> Path | None:
    """The JSONL file of a split in a folder.

    Args:
        folder: the data set's.
        split: which part.
        stem: of the one file of an evaluation set, which stands for ``test``.
    """
    names = [f"{stem}_{split}.jsonl", f"{split}.jsonl"] + ([f"{stem}.jsonl"] if split == "test" else [])
    for name in names:
        path = resolve_inside(folder, name)
        if path.is_file():
            return path
    return None
