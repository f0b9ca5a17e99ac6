"""Dense200: detection of many small objects, from a folder as VisHarness (arXiv 2605.29894) reads it.

::

    Dense200/
      Dense200.jsonl     {"image_path": "images/a.jpg", "gt": {"CATEGORY": [[x1, y1, x2, y2], …], …}} a line
      images/            or wherever ``image_path`` says, inside the folder

The one file is the split ``test``; others may lie beside it, as ``Dense200_train.jsonl``. One task a category.
"""

from __future__ import annotations

from visenv.datasets.dense import FAMILIES, BoxLines, find_lines
from visenv.datasets.files import check_family, check_split, existing_folder
from visenv.errors import DatasetError

SPLITS = ("train", "val", "test")
VOCABULARY = ("person", "car", "bird", "fruit", "bottle", "box", "boat", "chair", "flower", "pill", "tree", "egg")
"""Simple phrases for the discrete action mode."""

_LAYOUT = "Dense200.jsonl and the pictures that its lines name"


def make(*, path: str | None, family: str, split: str, difficulty: int) -> BoxLines:
    """The data set for ``dataset="dense200:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: for a family other than dense detection, a missing or broken file, or a missing split.
    """
    check_family("dense200", family, FAMILIES)
    check_split("dense200", split, SPLITS)
    folder = existing_folder(path, "dense200", _LAYOUT)
    file = find_lines(folder, split, "Dense200")
    if file is None:
        name = "Dense200.jsonl" if split == "test" else f"Dense200_{split}.jsonl"
        raise DatasetError(f"There is no {name!r} in {str(folder)!r}. Layout: {_LAYOUT}.")
    return BoxLines(file, folder, split=split, name="dense200", vocabulary=VOCABULARY)
