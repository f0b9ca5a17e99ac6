"""gRefCOCO: segmentation of none, one or several objects a sentence refers to, from a folder in the published layout.

Source: Liu, Ding and Jiang, "GRES: Generalized Referring Expression Segmentation", CVPR 2023, arXiv 2306.00968::

    grefcoco/
      grefs(unc).json       [{"ref_id", "ann_id": [id, …] or [-1], "image_id", "split", "sentences": […], …}, …]
      instances.json        as COCO
    images/…/train2014/     pictures of COCO 2014, in the folder or the one above it, or wherever ``?images=`` says

Splits: train, val, testA, testB. ``[-1]`` means that nothing in the picture fits. Crowds are left out of the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from visenv.datasets.files import check_family, existing_folder
from visenv.datasets.paths import path_and_options
from visenv.datasets.referring import FAMILIES, References

SPLITS = ("train", "val", "testA", "testB")


class GRefCoco(References):
    """The samples of one split, one a sentence; its target is one mask an object.

    Args:
        folder: the folder that holds ``grefs(unc).json`` and ``instances.json``, or the one above it.
        split: ``train``, ``val``, ``testA`` or ``testB``.
        targets_only: whether to leave out sentences that mean nothing in the picture.
        split_by: as in the name of the file.
        pictures: a folder of pictures elsewhere.

    Raises:
        DatasetError: if a file is missing or broken, or the split is missing or empty.
    """

    layout: ClassVar[str] = "grefs(unc).json and instances.json, pictures in images/train2014"

    def __init__(
        self,
        folder: str | Path,
        *,
        split: str = "val",
        targets_only: bool = False,
        split_by: str = "unc",
        pictures: str | Path | None = None,
    ) -> None:
        super().__init__(
            folder,
            split=split,
            split_by=split_by,
            subfolder="grefcoco",
            stem="grefs",
            name="grefcoco",
            targets_only=targets_only,
            pictures=pictures,
        )

    def _kept(self, places: Sequence[int]) -> list[int]:
        return [place for place in places if not self._instances.crowd[place]]


def make(*, path: str | None, family: str, split: str, difficulty: int) -> GRefCoco:
    """The data set for ``dataset="grefcoco:PATH"``, ``?by=`` and ``?images=`` after it; ``difficulty`` does not apply.

    ``refseg`` has the sentences that mean something, ``reasonseg`` and ``grefseg`` have all.

    Raises:
        DatasetError: for a family without masks, a missing or broken file, or a missing split.
    """
    check_family("grefcoco", family, FAMILIES)
    folder, options = path_and_options(path, "grefcoco", ("by", "images"))
    return GRefCoco(
        existing_folder(folder, "grefcoco", GRefCoco.layout),
        split=split,
        targets_only=family == "refseg",
        split_by=options.get("by", "unc"),
        pictures=options.get("images"),
    )
