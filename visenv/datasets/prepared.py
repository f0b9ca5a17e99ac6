"""A prepared copy of a data set: shards of Parquet with pictures no larger than 1920x1080, for reading in sequence.

``visenv data convert`` writes it, ``dataset="prepared:PATH"`` reads it: the same samples, by number, by name, by chance
or shard by shard. A picture that several samples show is stored once a shard::

    PATH/FAMILY/SPLIT/
      prepared.json              what it is a copy of, how many samples each shard has; written last
      00000.pictures.parquet     bytes: PNG or JPEG
      00000.samples.parquet      sample_id, query, task, truth and metadata (JSON), pictures (rows of the other file)
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from visenv.datasets.files import (
    MAX_ANNOTATION_BYTES,
    FolderDataset,
    existing_folder,
    expect,
    read_json,
    resolve_inside,
)
from visenv.datasets.tables import ParquetRows
from visenv.datasets.truths import truth_of_record
from visenv.errors import DatasetError, InvalidData
from visenv.images import load_image
from visenv.types import Sample

MANIFEST = "prepared.json"
FORMAT = 1

_LAYOUT = f"FAMILY/SPLIT/{MANIFEST} as `visenv data convert` writes it"


class Prepared(FolderDataset):
    """The samples of one family and split of a prepared copy.

    Args:
        folder: that holds ``prepared.json``.

    Raises:
        DatasetError: if a file is missing or broken.
        MissingDependency: if pyarrow is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = existing_folder(folder, "prepared", _LAYOUT)
        file = resolve_inside(self._folder, MANIFEST)
        if not file.is_file():
            raise DatasetError(f"There is no {MANIFEST!r} in {str(self._folder)!r}. Layout: {_LAYOUT}.")
        manifest = expect(read_json(file, MAX_ANNOTATION_BYTES), dict, str(file))
        if manifest.get("format") != FORMAT:
            raise DatasetError(f"Expected format {FORMAT} in {str(file)!r}, but got {manifest.get('format')!r:.60}.")
        count = expect(manifest.get("shards"), int, f"'shards' of {str(file)!r}")
        names = [f"{number:05d}" for number in range(count)]
        self._samples = [ParquetRows([self._shard(name, "samples")]) for name in names]
        # Neighbours show neighbouring pictures, or the same: a few groups are enough.
        self._pictures = [ParquetRows([self._shard(name, "pictures")]) for name in names]
        keys: list[str] = []
        places: list[tuple[int, int]] = []
        for shard, rows in enumerate(self._samples):
            ids = rows.column("sample_id")
            keys += ids
            places += [(shard, row) for row in range(len(ids))]
        self._where = np.array(places, np.int32).reshape(-1, 2)
        self.source = str(manifest.get("source", ""))
        """What it is a copy of."""
        super().__init__(
            name=expect(manifest.get("name"), str, f"'name' of {str(file)!r}"),
            split=expect(manifest.get("split"), str, f"'split' of {str(file)!r}"),
            vocabulary=expect(manifest.get("vocabulary"), list, f"'vocabulary' of {str(file)!r}"),
            keys=keys,
        )

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self._samples)

    def read(self, part: int = 0, parts: int = 1) -> Iterator[Sample]:
        """Samples in the order of the files, for reading at the speed of the disk.

        Args:
            part: which of ``parts``, from 0: of several readers each gets shards of its own.
            parts: how many readers there are.

        Raises:
            InvalidData: if there is no such part.
            DatasetError: if a sample is broken.
        """
        if not 0 <= part < parts:
            raise InvalidData(f"Expected a part from 0 to {parts - 1}, but got {part}.")
        for index in np.flatnonzero(self._where[:, 0] % parts == part).tolist():
            yield self.get(index)

    def _shard(self, name: str, what: str) -> Path:
        path = resolve_inside(self._folder, f"{name}.{what}.parquet")
        if not path.is_file():
            raise DatasetError(f"There is no {path.name!r} in {str(self._folder)!r}: prepare it again.")
        return path

    def _sample_id(self, key: str) -> str:
        return key

    def _key_of(self, sample_id: str) -> str:
        return sample_id

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        shard, number = self._where[self._places[key]].tolist()
        row = self._samples[shard].row(number)
        where = f"sample {key!r} of {str(self._folder)!r}"
        try:
            pictures = [load_image(self._pictures[shard].row(place)["bytes"]) for place in row["pictures"]]
            truth, metadata = json.loads(row["truth"]), json.loads(row["metadata"])
        except (InvalidData, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"The {where} is broken: {error}") from error
        if not pictures:
            raise DatasetError(f"The {where} has no picture.")
        return Sample(
            sample_id=key,
            images=tuple(pictures),
            query=row["query"],
            truth=truth_of_record(truth, pictures[0].shape[:2], where),
            task=row["task"],
            metadata=metadata,
        )


def make(*, path: str | None, family: str, split: str, difficulty: int) -> Prepared:
    """The data set for ``dataset="prepared:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: if there is no copy of that family and split, or it is broken.
        MissingDependency: if pyarrow is not installed.
    """
    folder = existing_folder(path, "prepared", _LAYOUT)
    inner = resolve_inside(folder, f"{family}/{split}")
    if not (inner / MANIFEST).is_file():
        there = ", ".join("/".join(each) for each in copies(folder)) or "none"
        raise DatasetError(
            f"There is no prepared copy of {family}/{split} in {str(folder)!r}; there is {there}. "
            "`visenv data convert` makes one."
        )
    return Prepared(inner)


def copies(folder: Path) -> list[tuple[str, str]]:
    """The families and splits that a folder has copies of."""
    return sorted((file.parent.parent.name, file.parent.name) for file in folder.glob(f"*/*/{MANIFEST}"))
