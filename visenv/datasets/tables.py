"""Rows of Parquet files by number: a row group at a time is in memory, however many files there are."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visenv.errors import DatasetError, MissingDependency

INSTALL = 'pip install "visenv[datasets]"'
MAX_GROUP_BYTES = 2**30
"""The largest row group that is read, unpacked."""


def need_pyarrow() -> Any:
    """The module ``pyarrow.parquet``.

    Raises:
        MissingDependency: if pyarrow is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingDependency(f"Parquet files need pyarrow: {INSTALL}.") from error
    return pyarrow.parquet


class ParquetRows:
    """The rows of one or several Parquet files, one after the other. May be read by several threads, and pickles.

    Args:
        files: in order.
        kept: how many row groups stay in memory.

    Raises:
        DatasetError: if a file is missing, broken or cut off.
        MissingDependency: if pyarrow is not installed.
    """

    def __init__(self, files: Sequence[Path], kept: int = 3) -> None:
        self.files = tuple(files)
        self._kept = kept
        self._groups: list[tuple[int, int]] = []
        sizes = []
        for number, file in enumerate(self.files):
            metadata = self._open(number).metadata
            for group in range(metadata.num_row_groups):
                found = metadata.row_group(group)
                if found.total_byte_size > MAX_GROUP_BYTES:
                    raise DatasetError(
                        f"Expected at most {MAX_GROUP_BYTES} bytes a row group in {str(file)!r}, "
                        f"but group {group} unpacks to {found.total_byte_size}."
                    )
                self._groups.append((number, group))
                sizes.append(found.num_rows)
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._reset()

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns of the first file."""
        return tuple(self._open(0).schema_arrow.names) if self.files else ()

    def row(self, index: int) -> dict[str, Any]:
        """A row, its values as plain Python has them.

        Raises:
            DatasetError: if it cannot be read.
        """
        place = int(np.searchsorted(self._starts, index, side="right")) - 1
        table = self._group(place)
        row: dict[str, Any] = table.slice(index - int(self._starts[place]), 1).to_pylist()[0]
        return row

    def column(self, name: str) -> list[Any]:
        """A whole column; of a nested one, a field of it by ``column.field``.

        Raises:
            DatasetError: if it is missing or cannot be read.
        """
        values: list[Any] = []
        for number, file in enumerate(self.files):
            try:
                table = self._open(number).read(columns=[name])
                if not table.num_columns:
                    raise KeyError(name)
                values += table.column(0).to_pylist()
            except (OSError, ValueError, KeyError) as error:
                raise DatasetError(f"Expected a column {name!r} in {str(file)!r}: {error}.") from error
        return values

    def __getstate__(self) -> dict[str, Any]:
        left_out = ("_lock", "_cache", "_opened")
        return {name: value for name, value in self.__dict__.items() if name not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self._opened: tuple[int, Any] | None = None

    def _group(self, place: int) -> Any:
        with self._lock:
            if place in self._cache:
                self._cache.move_to_end(place)
                return self._cache[place]
            number, group = self._groups[place]
            if self._opened is None or self._opened[0] != number:
                self._opened = (number, self._open(number))
            try:
                table = self._opened[1].read_row_group(group)
            except (OSError, ValueError) as error:
                raise DatasetError(f"Cannot read {str(self.files[number])!r}, row group {group}: {error}") from error
            self._cache[place] = table
            while len(self._cache) > self._kept:
                self._cache.popitem(last=False)
            return table

    def _open(self, number: int) -> Any:
        file = self.files[number]
        try:
            return need_pyarrow().ParquetFile(str(file))
        except (OSError, ValueError) as error:
            raise DatasetError(f"Expected a Parquet file at {str(file)!r}, but it cannot be read: {error}") from error
