"""Photographs that other packages ship, with annotations of our own: real pictures without a download.

The pictures stay where they are, in the files of scikit-image, scikit-learn and ultralytics; none of these packages is
imported. The annotations were drawn by eye and lie in ``photos_data``, in the layouts of ReasonSeg and REC-8K, and the
loaders of those two sets read them. A photograph whose package is not installed is left out, which is logged once.

The splits are disjoint in photographs, not only in queries. ``docs/datasets.md`` lists every photograph with its source
and licence.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np

from visenv.datasets.base import Dataset
from visenv.datasets.files import check_family, check_split, expect, read_json, resolve_inside
from visenv.datasets.reasonseg import ReasonSeg
from visenv.datasets.rec8k import Rec8k
from visenv.errors import DatasetError, InvalidImage
from visenv.images import load_image

logger = logging.getLogger(__name__)

SPLITS = ("train", "val", "test")
FAMILIES = ("reasonseg", "grefseg", "refseg", "refcount")
VOCABULARY = ("person", "face", "hair", "coat", "cup", "wheel", "coin", "flower", "roof", "galaxy")
"""Simple phrases for the discrete action mode."""

_FOLDER = Path(__file__).parent / "photos_data"
_INSTALL = 'pip install "visenv[photos]"'
# The packages recompress their files from one release to the next, so pictures are recognised, not compared.
_TOLERANCE = 6


@dataclass(frozen=True)
class Photograph:
    """A photograph in the files of another package."""

    name: str
    package: str
    """The package's import name."""
    path: str
    """Relative to the package's folder."""
    size: tuple[int, int]
    """(width, height) in pixels, the frame of the annotations."""
    grey: tuple[int, ...]
    """Grey values of the picture shrunk to 4x4, row by row: what tells it from another of the same name."""

    def locate(self) -> Path | None:
        """The file, if the package is installed and has it."""
        try:
            spec = importlib.util.find_spec(self.package)
        except (ImportError, ValueError):
            return None
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            file = Path(folder) / self.path
            if file.is_file():
                return file
        return None

    def is_shown_by(self, file: Path) -> bool:
        """Whether a file holds this photograph."""
        try:
            pixels = load_image(file)
        except InvalidImage:
            return False
        small = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (4, 4), interpolation=cv2.INTER_AREA)
        near = np.abs(small.ravel().astype(int) - np.array(self.grey)).max() <= _TOLERANCE
        return bool(near) and (pixels.shape[1], pixels.shape[0]) == self.size


@lru_cache(maxsize=1)
def photographs() -> tuple[Photograph, ...]:
    """Every photograph that there are annotations for, installed or not, by name."""
    entries = expect(read_json(_FOLDER / "photographs.json"), dict, "photographs.json")
    return tuple(
        Photograph(
            name, entry["package"], entry["path"], (entry["size"][0], entry["size"][1]), tuple(entry["grey_4x4"])
        )
        for name, entry in sorted(entries.items())
    )


def installed(candidates: Iterable[Photograph] | None = None) -> dict[str, Path]:
    """The files of the photographs that are there, by name; those left out are logged, with the reason.

    Args:
        candidates: which photographs to look for; all if left out.

    Raises:
        DatasetError: if there is none at all.
    """
    found: dict[str, Path] = {}
    missing: dict[str, list[str]] = {}
    for photograph in photographs() if candidates is None else candidates:
        file = photograph.locate()
        if file is None:
            missing.setdefault(photograph.package, []).append(photograph.name)
        elif not photograph.is_shown_by(file):
            _note(f"photos: {str(file)!r} is not the photograph that was annotated; {photograph.name!r} is left out.")
        else:
            found[photograph.name] = file
    for package, names in missing.items():
        _note(f"photos: {package!r} does not bring {', '.join(names)}; left out. All of them: {_INSTALL}.")
    if not found:
        raise DatasetError(f"None of the photographs is installed. They come with other packages: {_INSTALL}.")
    return found


@cache
def _note(message: str) -> None:
    """Log a message the first time it comes up."""
    logger.warning(message)


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    return installed()


def _photograph_of(key: str) -> str:
    """The photograph of a name in the annotations, ``PHOTOGRAPH`` or ``PHOTOGRAPH-QUERY``."""
    return key.partition("-")[0]


@dataclass(frozen=True)
class _Resolver:
    """From a name in the annotations to the file of its photograph; a class, so that a data set can be pickled."""

    files: Mapping[str, Path]

    def __call__(self, key: str) -> Path:
        return self.files[_photograph_of(key)]


def make(*, path: str | None, family: str, split: str, difficulty: int) -> Dataset:
    """The data set for ``dataset="photos"``; ``difficulty`` does not apply.

    Counting (``refcount``) has the points, the families of segmentation have the masks: ``reasonseg`` and ``grefseg``
    all of them, ``refseg`` only queries with something to find.

    Raises:
        DatasetError: for a path, a family without annotations (``densedet``), or where no photograph is installed.
    """
    if path is not None:
        raise DatasetError(f"The data set 'photos' takes no folder, but got {path!r}: write dataset=\"photos\".")
    check_family("photos", family, FAMILIES)
    check_split("photos", split, SPLITS)
    files = _files()
    if family == "refcount":
        return Rec8k(
            _FOLDER / "rec8k",
            split=split,
            images=_Resolver(files),
            keep=files.__contains__,
            name="photos",
            vocabulary=VOCABULARY,
        )
    keys = sorted(file.stem for file in (_FOLDER / "reasonseg" / split).glob("*.json"))
    keys = [key for key in keys if _photograph_of(key) in files and (family != "refseg" or _has_target(split, key))]
    return ReasonSeg(
        _FOLDER / "reasonseg",
        split=split,
        images=_Resolver(files),
        names=tuple(keys),
        name="photos",
        vocabulary=VOCABULARY,
    )


def _has_target(split: str, key: str) -> bool:
    annotation = read_json(resolve_inside(_FOLDER / "reasonseg" / split, f"{key}.json"))
    return bool(annotation["shapes"])
