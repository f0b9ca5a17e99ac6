"""REC-8K: counting what a phrase refers to, from a folder in the published layout.

Source: Dai, Liu and Cheung, "Referring Expression Counting", CVPR 2024::

    REC-8K/
      anno/annotations.json   {IMAGE: {PHRASE: {"points": [[x, y], …], "class": …, "attribute": …, "type": …}}}
      anno/splits.json        {"train": [[IMAGE, PHRASE], …], "val": …, "test": …}
      rec-8k/IMAGE

The two files may also lie in the folder itself, and the pictures in ``images`` or in the folder itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from visenv.datasets.files import (
    FolderDataset,
    ImageResolver,
    Picture,
    check_family,
    check_split,
    existing_folder,
    expect,
    is_query,
    points_array,
    read_json,
    resolve_inside,
)
from visenv.errors import DatasetError
from visenv.types import PointsTruth, Sample

SPLITS = ("train", "val", "test")
FAMILIES = ("refcount",)
VOCABULARY = ("person", "vehicle", "animal", "bird", "fruit", "food", "plant", "boat", "bottle", "building")
"""Simple phrases for the discrete action mode."""

_LAYOUT = "anno/annotations.json, anno/splits.json and rec-8k/IMAGE"
_PICTURES = ("rec-8k", "images/rec-8k", "images", ".")


class Rec8k(FolderDataset):
    """The samples of one split, one for each pair of a picture and a phrase.

    The two annotation files are read at once, pictures when they are asked for; they are turned upright by their EXIF
    orientation, and one larger than 1920x1080 (the long side, the short side) is shrunk to fit, its points with it. An
    identifier is ``SPLIT/IMAGE|PHRASE``.

    Args:
        folder: the folder that holds annotations and pictures.
        split: ``train``, ``val`` or ``test``.
        images: from IMAGE to its picture; the file in the folder if left out.
        keep: which images to take; all if left out.
        name: the data set's name in messages.
        vocabulary: simple phrases, the same for every sample.

    Raises:
        DatasetError: if a file is missing or broken, or the split is missing or empty.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        split: str = "val",
        images: ImageResolver | None = None,
        keep: Callable[[str], bool] | None = None,
        name: str = "rec8k",
        vocabulary: tuple[str, ...] = VOCABULARY,
    ) -> None:
        check_split(name, split, SPLITS)
        self._folder = existing_folder(folder, name, _LAYOUT)
        self._images = images
        self._file = self._find_file("annotations.json")
        self._annotations: dict[str, Any] = expect(read_json(self._file), dict, str(self._file))
        splits = self._find_file("splits.json")
        pairs = expect(expect(read_json(splits), dict, str(splits)).get(split), list, f"{split!r} of {str(splits)!r}")
        self._pairs: dict[str, tuple[str, str]] = {}
        for number, pair in enumerate(pairs):
            if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
                raise DatasetError(
                    f"Expected [image, phrase] in {split!r}[{number}] of {str(splits)!r}, but got {pair!r}."
                )
            if keep is None or keep(pair[0]):
                self._pairs["|".join(pair)] = (pair[0], pair[1])
        super().__init__(name=name, split=split, vocabulary=vocabulary, keys=tuple(self._pairs))

    def _find_file(self, name: str) -> Path:
        for path in (self._folder / "anno" / name, self._folder / name):
            if path.is_file():
                return path
        raise DatasetError(f"There is no {name!r} in {str(self._folder)!r} or its folder 'anno'. Layout: {_LAYOUT}.")

    def _picture_path(self, image: str) -> Path:
        for folder in _PICTURES:
            path = resolve_inside(self._folder / folder, image)
            if path.is_file():
                return path
        raise DatasetError(f"There is no picture {image!r} in {str(self._folder)!r}. Layout: {_LAYOUT}.")

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        image, phrase = self._pairs[key]
        where = f"{image!r} of {str(self._file)!r}"
        phrases = expect(self._annotations.get(image), dict, where)
        entry = expect(phrases.get(phrase), dict, f"{phrase!r} of {where}")
        points = points_array(entry.get("points"), f"'points' of {phrase!r} of {where}")
        if not is_query(phrase):
            raise DatasetError(f"Expected a phrase in {where}, but it is empty or broken.")
        picture = Picture(self._picture_path(image) if self._images is None else self._images(image), f"sample {key!r}")
        kept = {field: entry[field] for field in ("class", "attribute", "type") if field in entry}
        return Sample(
            sample_id=self._sample_id(key),
            images=(picture.pixels,),
            query=phrase.strip(),
            truth=PointsTruth(picture.scale_points(points)),
            task="counting",
            metadata={"dataset": self.name, "original_size": list(picture.original_size), **kept},
        )


def make(*, path: str | None, family: str, split: str, difficulty: int) -> Rec8k:
    """The data set for ``dataset="rec8k:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: for a family other than counting, or a missing or broken file.
    """
    check_family("rec8k", family, FAMILIES)
    return Rec8k(existing_folder(path, "rec8k", _LAYOUT), split=split)
