"""RefCOCO, RefCOCO+ and RefCOCOg: segmentation of the one object a sentence refers to, from a folder as published.

Source: Kazemzadeh et al., "ReferItGame", EMNLP 2014; Yu et al., "Modeling Context in Referring Expressions", ECCV 2016;
Mao et al., "Generation and Comprehension of Unambiguous Object Descriptions", CVPR 2016; files of
https://github.com/lichengunc/refer::

    refcoco/                or refcoco+/, refcocog/
      refs(unc).p           [{"ref_id", "ann_id", "image_id", "split", "sentences": [{"sent", "sent_id", …}, …], …}, …]
      instances.json        as COCO
    images/…/train2014/     pictures of COCO 2014, in the folder or the one above it, or wherever ``?images=`` says

Who parted the data stands in the name of the first file: ``unc`` (RefCOCO and RefCOCO+: train, val, testA, testB),
``umd`` (RefCOCOg: train, val, test) or ``google``; ``?by=`` chooses another than the usual one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from visenv.datasets.files import check_family, existing_folder
from visenv.datasets.paths import path_and_options
from visenv.datasets.referring import FAMILIES, References
from visenv.errors import DatasetError

SPLITS = ("train", "val", "testA", "testB", "test")
SPLIT_BY = {"refcoco": "unc", "refcoco+": "unc", "refcocog": "umd"}
"""The usual parting of each of the three."""


class RefCoco(References):
    """The samples of one split of RefCOCO, RefCOCO+ or RefCOCOg, one a sentence.

    Args:
        folder: the folder that holds ``refs(unc).p`` and ``instances.json``, or the one above it.
        split: ``train``, ``val``, ``testA`` and ``testB``, or ``test``.
        variant: ``refcoco``, ``refcoco+`` or ``refcocog``.
        split_by: ``unc``, ``umd`` or ``google``; the usual one if left out.
        pictures: a folder of pictures elsewhere.

    Raises:
        DatasetError: if a file is missing or broken, or the split is missing or empty.
    """

    layout: ClassVar[str] = "refs(unc).p and instances.json, pictures in images/train2014"

    def __init__(
        self,
        folder: str | Path,
        *,
        split: str = "val",
        variant: str = "refcoco",
        split_by: str | None = None,
        pictures: str | Path | None = None,
    ) -> None:
        if variant not in SPLIT_BY:
            raise DatasetError(f"Expected a variant out of {', '.join(SPLIT_BY)}, but got {variant!r}.")
        super().__init__(
            folder,
            split=split,
            split_by=split_by or SPLIT_BY[variant],
            subfolder=variant,
            stem="refs",
            name=variant,
            targets_only=True,
            pictures=pictures,
        )

    def _kept(self, places: Sequence[int]) -> list[int]:
        return list(places)


def make(*, path: str | None, family: str, split: str, difficulty: int) -> RefCoco:
    """The data set for ``dataset="refcoco:PATH"``, ``?by=`` and ``?images=`` after it; ``difficulty`` does not apply.

    Raises:
        DatasetError: for a family without masks, a missing or broken file, or a missing split.
    """
    return _make("refcoco", path, family, split)


def make_plus(*, path: str | None, family: str, split: str, difficulty: int) -> RefCoco:
    """The data set for ``dataset="refcoco+:PATH"``; as ``make``.

    Raises:
        DatasetError: as ``make``.
    """
    return _make("refcoco+", path, family, split)


def make_g(*, path: str | None, family: str, split: str, difficulty: int) -> RefCoco:
    """The data set for ``dataset="refcocog:PATH"``; as ``make``.

    Raises:
        DatasetError: as ``make``.
    """
    return _make("refcocog", path, family, split)


def _make(variant: str, path: str | None, family: str, split: str) -> RefCoco:
    check_family(variant, family, FAMILIES)
    folder, options = path_and_options(path, variant, ("by", "images"))
    return RefCoco(
        existing_folder(folder, variant, RefCoco.layout),
        split=split,
        variant=variant,
        split_by=options.get("by"),
        pictures=options.get("images"),
    )
