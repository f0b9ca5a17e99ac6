"""FSC-147: counting all objects of the one class that a picture is about, from a folder in the published layout.

Source: Ranjan et al., "Learning To Count Everything", CVPR 2021, arXiv 2104.08391::

    FSC147/
      annotation_FSC147_384.json      {IMAGE: {"points": [[x, y], …], "box_examples_coordinates": [[[x, y] ×4] ×3], …}}
      Train_Test_Val_FSC_147.json     {"train": [IMAGE, …], "val": …, "test": …}
      ImageClasses_FSC147.txt         IMAGE, a tab, the class
      images_384_VarV2/IMAGE

The query is the class. Points are in pixels of the pictures of ``images_384_VarV2``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from visenv.datasets.files import (
    MAX_ANNOTATION_BYTES,
    FolderDataset,
    Picture,
    check_family,
    existing_folder,
    expect,
    is_query,
    points_array,
    read_bytes,
    read_json,
    resolve_inside,
)
from visenv.errors import DatasetError
from visenv.types import PointsTruth, Sample

SPLITS = ("train", "val", "test")
FAMILIES = ("refcount",)
VOCABULARY = ("apples", "birds", "cars", "people", "bottle caps", "eggs", "flowers", "grapes", "pills", "strawberries")
"""Simple phrases for the discrete action mode."""

_LAYOUT = "annotation_FSC147_384.json, Train_Test_Val_FSC_147.json, ImageClasses_FSC147.txt and images_384_VarV2"
_PICTURES = ("images_384_VarV2", "FSC147_384_V2/images_384_VarV2", "images")


class Fsc147(FolderDataset):
    """The samples of one split, one a picture; an identifier is ``SPLIT/IMAGE``.

    Args:
        folder: the folder that holds annotations and pictures.
        split: ``train``, ``val`` or ``test``, or another list of the file of splits (``val_coco``, ``test_coco``).

    Raises:
        DatasetError: if a file is missing or broken, or the split is missing or empty.
    """

    def __init__(self, folder: str | Path, *, split: str = "val") -> None:
        self._folder = existing_folder(folder, "fsc147", _LAYOUT)
        file = self._find("Train_Test_Val_FSC_147.json")
        splits = expect(read_json(file), dict, str(file))
        if split not in splits:
            raise DatasetError(f"The data set 'fsc147' has the splits {', '.join(splits)}, but got {split!r}.")
        names = expect(splits[split], list, f"{split!r} of {str(file)!r}")
        if not all(isinstance(name, str) for name in names):
            raise DatasetError(f"Expected names of pictures in {split!r} of {str(file)!r}.")
        self._file = self._find("annotation_FSC147_384.json")
        annotations = expect(read_json(self._file), dict, str(self._file))
        self._annotations: dict[str, Any] = {name: annotations.get(name) for name in names}
        self._classes = self._read_classes()
        super().__init__(name="fsc147", split=split, vocabulary=VOCABULARY, keys=names)

    def _find(self, name: str) -> Path:
        path = resolve_inside(self._folder, name)
        if not path.is_file():
            raise DatasetError(f"There is no {name!r} in {str(self._folder)!r}. Layout: {_LAYOUT}.")
        return path

    def _read_classes(self) -> dict[str, str]:
        path = self._find("ImageClasses_FSC147.txt")
        data = read_bytes(path, MAX_ANNOTATION_BYTES)
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252", errors="replace")
        pairs = (line.partition("\t") for line in text.splitlines() if line.strip())
        return {name.strip(): label.strip() for name, _, label in pairs}

    def _picture_path(self, name: str) -> Path:
        for folder in _PICTURES:
            path = resolve_inside(self._folder, f"{folder}/{name}")
            if path.is_file():
                return path
        raise DatasetError(f"There is no picture {name!r} in {str(self._folder / _PICTURES[0])!r}.")

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        where = f"{key!r} of {str(self._file)!r}"
        entry = expect(self._annotations[key], dict, where)
        points = points_array(entry.get("points"), f"'points' of {where}")
        query = self._classes.get(key)
        if not is_query(query):
            raise DatasetError(f"There is no class of {key!r} in 'ImageClasses_FSC147.txt' of {str(self._folder)!r}.")
        examples = entry.get("box_examples_coordinates") or []
        corners = [points_array(box, f"'box_examples_coordinates' of {where}") for box in expect(examples, list, where)]
        picture = Picture(self._picture_path(key), f"sample {self._sample_id(key)}")
        boxes = [[*box.min(axis=0), *box.max(axis=0)] for box in corners if len(box)]
        return Sample(
            sample_id=self._sample_id(key),
            images=(picture.pixels,),
            query=str(query),
            truth=PointsTruth(picture.scale_points(points)),
            task="counting",
            metadata={
                "dataset": self.name,
                "original_size": list(picture.original_size),
                "examples": picture.scale_boxes(np.array(boxes).reshape(-1, 4)).tolist(),
            },
        )


def make(*, path: str | None, family: str, split: str, difficulty: int) -> Fsc147:
    """The data set for ``dataset="fsc147:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: for a family other than counting, a missing or broken file, or a missing split.
    """
    check_family("fsc147", family, FAMILIES)
    return Fsc147(existing_folder(path, "fsc147", _LAYOUT), split=split)
