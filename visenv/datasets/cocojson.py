"""Data of one's own, annotated as COCO is: one JSON file a split, and pictures beside it.

A file stands for whatever split is asked for; a folder holds one file a split, in any of these places::

    SPLIT.json, instances_SPLIT.json, annotations/SPLIT.json, annotations/instances_SPLIT.json,
    SPLIT/_annotations.coco.json, SPLIT/annotations.json

Pictures lie beside the file, in ``images/``, ``SPLIT/`` or ``images/SPLIT/``, or wherever ``?images=`` says.
"""

from __future__ import annotations

from pathlib import Path

from visenv.datasets.coco import FAMILIES, CocoInstances, InFolder
from visenv.datasets.files import check_family, existing_folder, resolve_inside
from visenv.datasets.instances import Instances
from visenv.datasets.paths import path_and_options
from visenv.errors import DatasetError

SPLITS = ("train", "val", "test")

_LAYOUT = "a JSON file as COCO has it, or a folder with SPLIT.json, pictures beside it or in images"
_PLACES = (
    "{split}.json",
    "instances_{split}.json",
    "annotations/{split}.json",
    "annotations/instances_{split}.json",
    "{split}/_annotations.coco.json",
    "{split}/annotations.json",
)
_OTHER_NAMES = {"val": ("valid", "validation")}
_FEWEST_PHRASES = 8
_COMMON = ("person", "animal", "vehicle", "food", "plant", "clothes", "furniture", "tool")


def make(*, path: str | None, family: str, split: str, difficulty: int) -> CocoInstances:
    """The data set for ``dataset="cocojson:PATH"``, ``?images=`` after it; ``difficulty`` does not apply.

    Any name of a split will do that a file has. The vocabulary is the file's categories.

    Raises:
        DatasetError: for a family without annotations, a missing or broken file, or a missing split.
    """
    check_family("cocojson", family, FAMILIES)
    given, options = path_and_options(path, "cocojson", ("images",))
    file, root = _find(given, split)
    instances = Instances(file)
    pictures = existing_folder(options.get("images", str(root)), "cocojson", "a folder of pictures")
    beside = file.parent.relative_to(root).as_posix()
    names = (split, *_OTHER_NAMES.get(split, ()))
    inner = (beside, ".", "images", *names, *(f"images/{name}" for name in names))
    phrases = tuple(dict.fromkeys(instances.categories.values()))
    return CocoInstances(
        instances,
        InFolder(pictures, tuple(dict.fromkeys(inner))),
        split=split,
        family=family,
        name="cocojson",
        vocabulary=phrases if len(phrases) >= _FEWEST_PHRASES else (*phrases, *_COMMON),
    )


def _find(path: str | None, split: str) -> tuple[Path, Path]:
    """The file of a split, and the folder that nothing leads out of."""
    file = Path(path or "").expanduser()
    if path and file.is_file():
        return file, file.parent
    folder = existing_folder(path, "cocojson", _LAYOUT)
    for name in (split, *_OTHER_NAMES.get(split, ())):
        for place in _PLACES:
            found = resolve_inside(folder, place.format(split=name))
            if found.is_file():
                return found, folder
    raise DatasetError(f"There is no {split + '.json'!r} or its like in {str(folder)!r}. Layout: {_LAYOUT}.")
