"""Training sets as Hugging Face datasets, with their pictures."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visenv.datasets.files import resolve_inside
from visenv.errors import InvalidData, MissingDependency
from visenv.export.writing import MANIFEST, is_set

if TYPE_CHECKING:
    from datasets import Dataset


def load_set(folder: str | os.PathLike[str]) -> Dataset:
    """A training set as a trainer takes it; pictures are decoded when a row is looked at.

    Of Parquet files, ``datasets.load_dataset(folder)`` does the same; of lines of JSON, which name their pictures by
    paths, this finds them wherever the folder has been moved.

    Args:
        folder: that ``export_run`` or ``visenv export`` wrote.

    Raises:
        InvalidData: if there is no training set in the folder.
        DatasetError: if it names files outside of it.
        MissingDependency: if datasets is not installed.
    """
    try:
        from datasets import Dataset, Image, List, concatenate_datasets
    except ImportError as error:
        raise MissingDependency('load_set needs datasets: pip install "visenv[datasets]".') from error
    path = Path(folder)
    if not is_set(path):
        raise InvalidData(f"Expected a folder that visenv export wrote, but {str(path)!r} holds no {MANIFEST} of one.")
    files = [str(resolve_inside(path, name)) for name in json.loads((path / MANIFEST).read_text("utf-8"))["files"]]
    if all(name.endswith(".parquet") for name in files):
        return concatenate_datasets([Dataset.from_parquet(name) for name in files])
    rows: list[dict[str, Any]] = []
    for name in files:
        with open(name, encoding="utf-8") as lines:
            rows += [json.loads(line) for line in lines]
    for row in rows:
        if "images" in row:
            row["images"] = [str(resolve_inside(path, name).resolve()) for name in row["images"]]
    made = Dataset.from_list(rows)
    return made.cast_column("images", List(Image())) if "images" in made.column_names else made
