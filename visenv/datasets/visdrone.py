"""VisDrone-DET: detection of many small objects seen from a drone, as published or as VisHarness reads it.

Source: Zhu et al., "Detection and Tracking Meet Drones Challenge", TPAMI 2021, arXiv 2001.06303; files of
https://github.com/VisDrone/VisDrone-Dataset, task 1::

    VisDrone2019-DET-train/ VisDrone2019-DET-val/ VisDrone2019-DET-test-dev/
      images/NAME.jpg
      annotations/NAME.txt     left,top,width,height,score,category,truncation,occlusion

A row with score 0 or category 0 is a region to ignore; category 11 ("others") is neither asked for nor ignored. Or, as
VisHarness (arXiv 2605.29894) reads it, ``VisDrone.jsonl`` with boxes by category, which is the split ``test``. One task
a category either way.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visenv.datasets.dense import FAMILIES, Boxes, BoxLines, DenseBoxes, find_lines
from visenv.datasets.files import (
    MAX_ANNOTATION_BYTES,
    check_family,
    check_split,
    existing_folder,
    find_picture,
    read_bytes,
    resolve_inside,
)
from visenv.errors import DatasetError

SPLITS = ("train", "val", "test")
CATEGORIES = (
    "pedestrian",
    "people",
    "bicycle",
    "car",
    "van",
    "truck",
    "tricycle",
    "awning-tricycle",
    "bus",
    "motor",
)
"""The names of categories 1 to 10."""
FOLDERS = {
    "train": ("VisDrone2019-DET-train", "train"),
    "val": ("VisDrone2019-DET-val", "val"),
    "test": ("VisDrone2019-DET-test-dev", "test-dev", "test"),
}
"""What the folder of each split may be called."""

_LAYOUT = "VisDrone2019-DET-val/images and VisDrone2019-DET-val/annotations, or VisDrone.jsonl"
_COLUMNS = 8
_SCORE, _CATEGORY = 4, 5


class VisDrone(DenseBoxes):
    """The samples of one split in the published layout, one for each category in a picture.

    Args:
        folder: that holds the splits, or ``images`` and ``annotations`` of one.
        split: ``train``, ``val`` or ``test`` (published as test-dev).

    Raises:
        DatasetError: if the folder or the split is missing or empty.
    """

    def __init__(self, folder: str | Path, *, split: str = "val") -> None:
        check_split("visdrone", split, SPLITS)
        self._folder = _split_folder(existing_folder(folder, "visdrone", _LAYOUT), split)
        self._names = sorted(path.stem for path in (self._folder / "annotations").glob("*.txt"))
        tasks: list[tuple[int, str]] = []
        for number, name in enumerate(self._names):
            try:
                rows = self._rows(name)
            except DatasetError:
                # A broken file costs its own samples: it keeps one of each category, which say what is wrong.
                tasks += [(number, category) for category in CATEGORIES]
                continue
            present = np.unique(rows[_targets(rows), _CATEGORY]).astype(int).tolist()
            tasks += [(number, CATEGORIES[category - 1]) for category in present]
        pictures = [f"images/{name}.jpg" for name in self._names]
        super().__init__(
            tasks,
            pictures,
            self._folder,
            split=split,
            name="visdrone",
            vocabulary=CATEGORIES,
        )

    def _boxes(self, number: int, category: str, where: str) -> Boxes:
        rows = self._rows(self._names[number])
        wanted = _targets(rows) & (rows[:, _CATEGORY] == CATEGORIES.index(category) + 1)
        ignored = ((rows[:, _SCORE] == 0) | (rows[:, _CATEGORY] == 0)) & (rows[:, 2:4] > 0).all(axis=1)
        return Boxes(_xyxy(rows[wanted]), _xyxy(rows[ignored]) if ignored.any() else None)

    def _picture_path(self, number: int) -> Path:
        return find_picture(self._folder / "images", self._names[number])

    def _rows(self, name: str) -> NDArray[np.float64]:
        """(N, 8) numbers of one file; a comma at a line's end is no column."""
        path = resolve_inside(self._folder / "annotations", f"{name}.txt")
        text = read_bytes(path, MAX_ANNOTATION_BYTES).decode("ascii", errors="replace").lstrip("\ufeff")
        lines = [line.strip().rstrip(",").split(",") for line in text.splitlines() if line.strip()]
        try:
            rows = np.array([[float(cell) for cell in line] for line in lines], np.float64).reshape(-1, _COLUMNS)
        except ValueError as error:
            raise DatasetError(
                f"Expected rows of {_COLUMNS} numbers, left,top,width,height,score,category,truncation,occlusion, in "
                f"{str(path)!r}, but got others: {error}."
            ) from error
        if not np.isfinite(rows).all() or (len(lines) and {len(line) for line in lines} != {_COLUMNS}):
            raise DatasetError(f"Expected rows of {_COLUMNS} finite numbers in {str(path)!r}, but got others.")
        return rows


def _targets(rows: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows are objects of a category that is asked for; a box without an area is none."""
    known = (rows[:, _CATEGORY] >= 1) & (rows[:, _CATEGORY] <= len(CATEGORIES)) & (rows[:, _CATEGORY] % 1 == 0)
    return known & (rows[:, _SCORE] != 0) & (rows[:, 2:4] > 0).all(axis=1)


def _xyxy(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)


def _split_folder(folder: Path, split: str) -> Path:
    for name in FOLDERS[split]:
        inner = resolve_inside(folder, name)
        if (inner / "annotations").is_dir():
            return inner
    # One split alone is taken for the split that its folder is named after, or for any if it has another name.
    others = {name for key, names in FOLDERS.items() if key != split for name in names}
    if (folder / "annotations").is_dir() and folder.name not in others:
        return folder
    raise DatasetError(f"There is no {FOLDERS[split][0] + '/annotations'!r} in {str(folder)!r}. Layout: {_LAYOUT}.")


def make(*, path: str | None, family: str, split: str, difficulty: int) -> VisDrone | BoxLines:
    """The data set for ``dataset="visdrone:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: for a family other than dense detection, a missing or broken file, or a missing split.
    """
    check_family("visdrone", family, FAMILIES)
    check_split("visdrone", split, SPLITS)
    folder = existing_folder(path, "visdrone", _LAYOUT)
    file = find_lines(folder, split, "VisDrone")
    if file is None:
        return VisDrone(folder, split=split)
    return BoxLines(file, folder, split=split, name="visdrone", vocabulary=CATEGORIES)
