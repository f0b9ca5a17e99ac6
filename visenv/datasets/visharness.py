"""The files of VisHarness's release (arXiv 2605.29894): its training Parquet as a data set.

::

    verl_visharness/
      train.parquet, val.parquet     data_source, images, reward_model.ground_truth, extra_info
      images/                        pictures no larger than 1920x1080

Rows of ``visharness/reasonseg`` are for ``reasonseg``, of ``visharness/gres`` for ``grefseg`` and, where there is a
target, ``refseg``; of ``visharness/rec8k`` for ``refcount``. The Parquet holds absolute paths: a picture that is not
where it says is looked for in ``images``. Results are read by ``visenv.datasets.visharness_results``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from visenv.datasets.files import (
    FolderDataset,
    Picture,
    check_family,
    existing_folder,
    expect,
    is_query,
    points_array,
    resolve_inside,
)
from visenv.datasets.hf import inside
from visenv.datasets.instances import outline_mask
from visenv.datasets.tables import ParquetRows
from visenv.errors import DatasetError
from visenv.masks import Masks
from visenv.types import MaskTruth, PointsTruth, Sample, Truth

SPLITS = ("train", "val")
SOURCES = {
    "reasonseg": "visharness/reasonseg",
    "grefseg": "visharness/gres",
    "refseg": "visharness/gres",
    "refcount": "visharness/rec8k",
}
"""Which rows each family of tasks takes."""
VOCABULARY = ("person", "animal", "vehicle", "food", "plant", "clothes", "furniture", "tool", "building")
"""Simple phrases for the discrete action mode."""

_LAYOUT = "train.parquet or val.parquet, and images"


class VisHarnessRows(FolderDataset):
    """The rows of one Parquet file for one family of tasks; an identifier is ``SPLIT/ITEM``, as ``GRES-12``.

    Args:
        folder: that holds the files.
        split: ``train`` or ``val``.
        family: ``reasonseg``, ``grefseg``, ``refseg`` or ``refcount``.

    Raises:
        DatasetError: if the file is missing or broken, or has no such row.
        MissingDependency: if pyarrow is not installed.
    """

    def __init__(self, folder: str | Path, *, split: str = "train", family: str = "grefseg") -> None:
        check_family("visharness", family, tuple(SOURCES))
        self._folder = existing_folder(folder, "visharness", _LAYOUT)
        file = resolve_inside(self._folder, f"{split}.parquet")
        if not file.is_file():
            raise DatasetError(f"There is no {file.name!r} in {str(self._folder)!r}. Layout: {_LAYOUT}.")
        self._rows = ParquetRows([file])
        self._numbers: list[int] = []
        keys: list[str] = []
        sources, infos = self._rows.column("data_source"), self._rows.column("extra_info")
        truths = self._rows.column("reward_model") if family == "refseg" else [None] * len(sources)
        for number, (source, info, truth) in enumerate(zip(sources, infos, truths, strict=True)):
            where = f"row {number} of {str(file)!r}"
            if source != SOURCES[family] or (truth is not None and _ground_truth(truth, where)["data"] is None):
                continue
            keys.append(expect(expect(info, dict, where).get("item_id"), str, f"'item_id' of {where}"))
            self._numbers.append(number)
        super().__init__(name="visharness", split=split, vocabulary=VOCABULARY, keys=keys)

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        number = self._numbers[self._places[key]]
        row = self._rows.row(number)
        where = f"row {number} of {str(self._rows.files[0])!r}"
        info = expect(row.get("extra_info"), dict, where)
        question = info.get("question")
        if not isinstance(question, str) or not is_query(question):
            raise DatasetError(f"Expected a question in 'extra_info' of {where}, but got {question!r:.60}.")
        images = expect(row.get("images"), list, f"'images' of {where}")
        image = images[0] if images else None
        image = image.get("image", image.get("path")) if isinstance(image, dict) else image
        picture = Picture(inside(self._folder, expect(image, str, f"'images' of {where}")), where)
        frame = tuple(expect(info.get(side), int, f"{side!r} of {where}") for side in ("image_height", "image_width"))
        truth = _truth(_ground_truth(row.get("reward_model"), where), picture, (frame[0], frame[1]), where)
        return Sample(
            sample_id=self._sample_id(key),
            images=(picture.pixels,),
            query=question.strip(),
            truth=truth,
            task="counting" if isinstance(truth, PointsTruth) else "segmentation",
            metadata={"dataset": self.name, "original_size": list(picture.original_size), "item_id": key},
        )


def _ground_truth(model: Any, where: str) -> Mapping[str, Any]:
    text = expect(
        expect(model, dict, f"'reward_model' of {where}").get("ground_truth"), str, f"ground truth of {where}"
    )
    try:
        found: dict[str, Any] = expect(json.loads(text), dict, f"ground truth of {where}")
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"Expected JSON in 'ground_truth' of {where}, but it is broken: {error}.") from error
    if "type" not in found or "data" not in found:
        raise DatasetError(f"Expected 'type' and 'data' in 'ground_truth' of {where}.")
    return found


def _truth(found: Mapping[str, Any], picture: Picture, frame: tuple[int, int], where: str) -> Truth:
    """A ground truth over the picture; it was written for a picture of ``frame``, (H, W)."""
    kind, data = found["type"], found["data"]
    if kind == "point":
        points = points_array(data, f"points of {where}")
        return PointsTruth(points * (np.array(picture.size) / np.array(frame[::-1])))
    if kind == "gres_rle_mask":
        masks = Masks.empty(frame) if data is None else outline_mask(data, frame, where)
        return MaskTruth(picture.scale_masks(masks))
    if kind == "reasonseg_rle_mask":
        parts = expect(data, dict, f"'data' of {where}")
        target, ignore = (
            picture.scale_masks(outline_mask(parts.get(name), frame, f"{name!r} of {where}"))
            for name in ("target_rle", "ignore_rle")
        )
        return MaskTruth(target, ignore if ignore.areas.any() else None)
    raise DatasetError(f"Expected gres_rle_mask, reasonseg_rle_mask or point in {where}, but got {kind!r:.60}.")


def make(*, path: str | None, family: str, split: str, difficulty: int) -> VisHarnessRows:
    """The data set for ``dataset="visharness:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: for dense detection, a missing or broken file, or a missing split.
        MissingDependency: if pyarrow is not installed.
    """
    return VisHarnessRows(existing_folder(path, "visharness", _LAYOUT), split=split, family=family)
