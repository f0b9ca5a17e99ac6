"""Training sets on the disk: in shards, and there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from visenv.errors import InvalidData, MissingDependency
from visenv.evaluation.locks import sync_folder
from visenv.export.formats import Form, dataset_info
from visenv.export.pictures import FOLDER, PictureStore
from visenv.wrappers.recording import plain_json

MANIFEST = "manifest.json"
MARK = "visenv training set"
"""What the manifest says first: a folder without it is never replaced."""
INFO = "dataset_info.json"
SHARD_ROWS = 5_000
SHARD_BYTES = 256 * 2**20
"""Of the pictures that the rows of a Parquet shard show, before repetitions are taken out."""


class SetWriter:
    """Writes a training set beside its folder, and moves it there when it is complete.

    Args:
        folder: of the set; its parents are made if they are missing.
        form: which set.
        files: ``parquet`` or ``jsonl``.
        shard_rows: rows of a file.
        overwrite: whether a set that is there is replaced.

    Raises:
        InvalidData: if the folder holds something, and it is no set or is not to be replaced; or cannot be written.
        MissingDependency: if Parquet is asked for and pyarrow or datasets is not installed.
    """

    def __init__(
        self, folder: Path, form: Form, *, files: str, shard_rows: int = SHARD_ROWS, overwrite: bool = False
    ) -> None:
        self.folder, self._form, self._overwrite = folder.resolve(), form, overwrite
        check_free(self.folder, overwrite)
        self._staging = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.partial")
        self.pictures = PictureStore(self._staging)
        kinds: dict[str, Callable[..., _Shards]] = {"parquet": _Parquet, "jsonl": _JsonLines}
        self._shards = kinds[files](self._staging, form, self.pictures, shard_rows)
        try:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging.mkdir(parents=True)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        self.rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row.

        Args:
            row: its ``images`` are digests of pictures that ``pictures`` keeps.

        Raises:
            InvalidData: if it cannot be written, as on a full disk.
        """
        self.pictures.used.update(row.get("images", ()))
        try:
            self._shards.add(row)
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        self.rows += 1

    def close(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Complete the set and put it where it belongs.

        Args:
            manifest: what was kept, and what was dropped and why.

        Returns:
            The manifest as it was written, with ``files`` and ``pictures``.

        Raises:
            InvalidData: if it cannot be written.
        """
        try:
            names = self._shards.close()
            facts = {name: _described(self._staging / name, rows) for name, rows in names.items()}
            pictures = {"number": len(self.pictures.used), "bytes": self.pictures.bytes}
            self._shards.tidy()
            if self._form.name == "sharegpt":
                (self._staging / INFO).write_text(dataset_info(list(names)), encoding="utf-8")
            whole = {"what": MARK, "rows": self.rows, "files": facts, "pictures": pictures, **manifest}
            (self._staging / MANIFEST).write_text(plain_json(whole, indent=2) + "\n", encoding="utf-8")
            _sync(self._staging)
            self._move()
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        return whole

    def _move(self) -> None:
        check_free(self.folder, self._overwrite)
        old = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.old")
        shutil.rmtree(old, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(old)
        try:
            self._staging.rename(self.folder)
        except OSError:
            if old.exists():
                old.rename(self.folder)
            raise
        sync_folder(self.folder.parent)
        shutil.rmtree(old, ignore_errors=True)

    def __enter__(self) -> SetWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind of a set that was not completed."""
        self._shards.abandon()
        shutil.rmtree(self._staging, ignore_errors=True)


def check_free(folder: Path, overwrite: bool) -> None:
    """Make sure that a set may be written to a folder.

    Raises:
        InvalidData: if it holds a set that is not to be replaced, or anything else.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InvalidData(f"Expected a folder to write, but {str(folder)!r} is a file.")
    there = {path.name for path in folder.iterdir()}
    if not there:
        return
    if not is_set(folder):
        raise InvalidData(f"{str(folder)!r} holds something else than a training set: name another folder.")
    if not overwrite:
        raise InvalidData(
            f"There is a training set in {str(folder)!r} already: name another folder, or replace it "
            "(overwrite=True, --overwrite)."
        )
    others = [name for name in there if name not in (MANIFEST, INFO, FOLDER) and not name.startswith("train-")]
    if others:
        raise InvalidData(
            f"{str(folder)!r} holds more than a training set ({', '.join(sorted(others)[:5])}), which would be lost: "
            "move it, or name another folder."
        )


def is_set(folder: Path) -> bool:
    """Whether a folder holds a training set."""
    try:
        return bool(json.loads((folder / MANIFEST).read_text("utf-8"))["what"] == MARK)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


class _Shards(ABC):
    """The files of a set."""

    suffix: str

    def __init__(self, folder: Path, form: Form, pictures: PictureStore, shard_rows: int) -> None:
        if isinstance(shard_rows, bool) or not isinstance(shard_rows, int) or shard_rows < 1:
            raise InvalidData(f"Expected shard_rows to be a whole number of at least 1, but got {shard_rows!r}.")
        self._folder, self._form, self._pictures, self._most = folder, form, pictures, shard_rows
        self._done: list[tuple[Path, int]] = []

    @abstractmethod
    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row."""

    @abstractmethod
    def flush(self) -> None:
        """Complete the shard at hand."""

    def tidy(self) -> None:
        """Remove what is not part of the set."""
        self._pictures.forget_unused()

    @abstractmethod
    def abandon(self) -> None:
        """Let go of the shard at hand."""

    def close(self) -> dict[str, int]:
        """Complete the files; their names, and how many rows each has."""
        self.flush()
        names = {}
        for number, (path, rows) in enumerate(self._done):
            name = f"train-{number:05d}-of-{len(self._done):05d}.{self.suffix}"
            path.rename(self._folder / name)
            names[name] = rows
        return names

    def _next(self) -> Path:
        return self._folder / f"{len(self._done):05d}.{self.suffix}"


class _JsonLines(_Shards):
    """Lines of JSON, which name pictures by their paths."""

    suffix = "jsonl"

    def __init__(self, folder: Path, form: Form, pictures: PictureStore, shard_rows: int) -> None:
        super().__init__(folder, form, pictures, shard_rows)
        self._file: IO[str] | None = None
        self._rows = 0

    def add(self, row: Mapping[str, Any]) -> None:
        if self._file is None:
            self._file = self._next().open("w", encoding="utf-8", newline="\n")
        if "images" in row:
            row = {**row, "images": [self._pictures.path(digest) for digest in row["images"]]}
        self._file.write(plain_json(row) + "\n")
        self._rows += 1
        if self._rows == self._most:
            self.flush()

    def flush(self) -> None:
        if self._file is not None:
            path = self._next()
            self._file.close()
            self._file = None
            self._done.append((path, self._rows))
            self._rows = 0

    def abandon(self) -> None:
        if self._file is not None:
            self._file.close()


class _Parquet(_Shards):
    """Parquet files that hold the pictures, each once a file, as Hugging Face datasets decode them."""

    suffix = "parquet"

    def __init__(self, folder: Path, form: Form, pictures: PictureStore, shard_rows: int) -> None:
        super().__init__(folder, form, pictures, shard_rows)
        self._schema = _schema(form.columns)
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def add(self, row: Mapping[str, Any]) -> None:
        size = sum(self._pictures.size(digest) for digest in row.get("images", ()))
        if self._rows and self._size + size > SHARD_BYTES:
            self.flush()
        self._rows.append(dict(row))
        self._size += size
        if len(self._rows) == self._most:
            self.flush()

    def flush(self) -> None:
        if not self._rows:
            return
        import pyarrow
        from pyarrow import parquet

        read: dict[str, bytes] = {}
        for row in self._rows:
            if "images" in row:
                for digest in row["images"]:
                    if digest not in read:
                        read[digest] = self._pictures.read(digest)
                row["images"] = [{"bytes": read[digest], "path": f"{digest}.png"} for digest in row["images"]]
        path = self._next()
        table = pyarrow.Table.from_pylist(self._rows, self._schema)
        # The dictionary of a column of pictures holds each once, however many rows show it.
        parquet.write_table(
            table,
            path,
            row_group_size=len(self._rows),
            compression="zstd",
            use_dictionary=True,
            dictionary_pagesize_limit=2 * SHARD_BYTES,
        )
        self._done.append((path, len(self._rows)))
        self._rows, self._size = [], 0

    def abandon(self) -> None:
        self._rows = []

    def tidy(self) -> None:
        shutil.rmtree(self._folder / FOLDER, ignore_errors=True)


def _schema(columns: Mapping[str, Any]) -> Any:
    """The Arrow schema of columns, with what Hugging Face datasets need to know to decode pictures."""
    try:
        from datasets import Features, Image, List, Value
    except ImportError as error:
        raise MissingDependency(
            'Parquet files need pyarrow and datasets: pip install "visenv[datasets]", or write --files jsonl.'
        ) from error

    def feature(kind: Any) -> Any:
        if kind == "images":
            return List(Image())
        if isinstance(kind, str):
            return Value(kind)
        if isinstance(kind, list):
            return List(feature(kind[0]))
        return {name: feature(each) for name, each in kind.items()}

    return Features({name: feature(kind) for name, kind in columns.items()}).arrow_schema


def _described(path: Path, rows: int) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while part := content.read(2**20):
            digest.update(part)
    return {"rows": rows, "bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _sync(folder: Path) -> None:
    """Make sure that all files of a folder are on the disk, before it takes the place of another one."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as content:
                os.fsync(content.fileno())
    sync_folder(folder)


def _cannot_write(folder: Path, error: OSError) -> InvalidData:
    return InvalidData(f"Cannot write to {str(folder)!r}: {error.strerror or error}. Name another folder.")
