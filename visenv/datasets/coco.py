"""COCO instances: everything of one category in a picture, from a folder in the published layout.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, arXiv 1405.0312::

    coco/
      annotations/instances_train2017.json, instances_val2017.json     also of 2014
      train2017/ val2017/                                              pictures
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from visenv.datasets.files import (
    FolderDataset,
    Picture,
    check_family,
    check_split,
    existing_folder,
    is_query,
    resolve_inside,
)
from visenv.datasets.instances import Instances
from visenv.datasets.paths import path_and_options
from visenv.errors import DatasetError
from visenv.types import BoxesTruth, MaskTruth, Sample, Truth

SPLITS = ("train", "val")
FAMILIES = ("reasonseg", "grefseg", "refseg", "densedet")
VOCABULARY = ("person", "car", "chair", "dog", "cat", "bottle", "cup", "bird", "boat", "book", "bowl", "bicycle")
"""Simple phrases for the discrete action mode."""
YEARS = ("2017", "2014")

_LAYOUT = "annotations/instances_val2017.json and pictures in val2017"


class CocoInstances(FolderDataset):
    """One sample for each category that is seen in a picture: the query is its name.

    The target is every instance of it, one mask or box each. Crowds are regions to ignore; a category of which there
    are only crowds in a picture makes no sample. An identifier is ``SPLIT/IMAGE-CATEGORY``, both by their ids.

    Args:
        instances: the index of the annotations.
        picture_path: from the ``file_name`` of a picture to the file.
        split: which part this is.
        family: ``densedet`` for boxes, else masks.
        name: the data set's name in messages.
        vocabulary: simple phrases, the same for every sample.

    Raises:
        DatasetError: if there is no sample.
    """

    def __init__(
        self,
        instances: Instances,
        picture_path: Callable[[str], Path],
        *,
        split: str,
        family: str,
        name: str = "coco",
        vocabulary: Sequence[str] = VOCABULARY,
    ) -> None:
        self._instances = instances
        self._picture_path = picture_path
        self._boxes = family == "densedet"
        order = np.lexsort((instances.category_ids, instances.image_ids))
        pairs = np.stack([instances.image_ids[order], instances.category_ids[order]], axis=1)
        firsts = np.flatnonzero(np.r_[True, (pairs[1:] != pairs[:-1]).any(axis=1)]) if len(order) else order
        ends = np.append(firsts[1:], len(order))
        whole = [first for first, end in zip(firsts, ends, strict=True) if not instances.crowd[order[first:end]].all()]
        self._order = order.astype(np.int32)
        self._pairs = pairs[whole]
        self._firsts = np.array(whole, np.int64)
        self._ends = ends[np.searchsorted(firsts, self._firsts)] if whole else self._firsts
        keys = [f"{image}-{category}" for image, category in self._pairs.tolist()]
        super().__init__(name=name, split=split, vocabulary=vocabulary, keys=keys)

    @property
    def counts(self) -> dict[str, int]:
        """Pairs of a picture and a category as ``samples``, ``pictures``, and ``annotations``."""
        instances = self._instances
        return {"samples": len(self), "pictures": len(instances.frames), "annotations": len(instances.ids)}

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        place = self._places[key]
        image_id, category_id = self._pairs[place].tolist()
        name = self._instances.categories.get(category_id)
        where = f"sample {self._sample_id(key)}"
        if name is None or not is_query(name):
            raise DatasetError(f"Category {category_id} of {where} has no name in {str(self._instances.path)!r}.")
        picture = Picture(self._picture_path(self._instances.frame(image_id).file_name), where)
        places = self._order[self._firsts[place] : self._ends[place]]
        crowd = self._instances.crowd[places]
        return Sample(
            sample_id=self._sample_id(key),
            images=(picture.pixels,),
            query=name,
            truth=self._truth(places[~crowd].tolist(), places[crowd].tolist(), name, image_id, picture),
            task="detection" if self._boxes else "segmentation",
            metadata={"dataset": self.name, "original_size": list(picture.original_size), "category": name},
        )

    def _truth(self, targets: list[int], crowds: list[int], name: str, image_id: int, picture: Picture) -> Truth:
        if self._boxes:
            boxes = self._instances.boxes(targets, image_id, picture)
            ignore = self._instances.boxes(crowds, image_id, picture) if crowds else None
            return BoxesTruth(boxes, labels=(name,) * len(boxes), ignore=ignore)
        ignored = self._instances.masks(crowds, image_id, picture) if crowds else None
        return MaskTruth(self._instances.masks(targets, image_id, picture), ignore=ignored)


class InFolder:
    """From the name of a picture to its file in a folder; a class, so that a data set can be pickled.

    Args:
        folder: that pictures lie in, or in one of ``inner``.
        inner: folders in it.
    """

    def __init__(self, folder: Path, inner: Sequence[str] = (".",)) -> None:
        self.folder, self.inner = folder, tuple(inner)

    def __call__(self, name: str) -> Path:
        """The file.

        Raises:
            DatasetError: if there is none, or the name leads out of the folder.
        """
        for inner in self.inner:
            path = resolve_inside(self.folder, f"{inner}/{name}" if name else name)
            if path.is_file():
                return path
        places = f" ({', '.join(self.inner)})" if self.inner != (".",) else ""
        raise DatasetError(f"There is no picture {name!r} in {str(self.folder)!r}{places}.")


def make(*, path: str | None, family: str, split: str, difficulty: int) -> CocoInstances:
    """The data set for ``dataset="coco:PATH"``, ``?year=`` and ``?images=`` after it; ``difficulty`` does not apply.

    Raises:
        DatasetError: for a family without annotations, a missing or broken file, or a missing split.
    """
    check_family("coco", family, FAMILIES)
    check_split("coco", split, SPLITS)
    given, options = path_and_options(path, "coco", ("year", "images"))
    folder = existing_folder(given, "coco", _LAYOUT)
    years = (options["year"],) if "year" in options else YEARS
    for year in years:
        for inner in ("annotations", "."):
            file = resolve_inside(folder, f"{inner}/instances_{split}{year}.json")
            if file.is_file():
                part = f"{split}{year}"
                pictures = existing_folder(options.get("images", str(folder)), "coco", "a folder of pictures")
                resolver = InFolder(pictures, (part, f"images/{part}", "."))
                return CocoInstances(Instances(file), resolver, split=split, family=family)
    raise DatasetError(
        f"There is no 'annotations/instances_{split}{years[0]}.json' in {str(folder)!r}. Layout: {_LAYOUT}."
    )
