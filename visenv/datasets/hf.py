"""A table as Hugging Face ``datasets`` has it, with columns of pictures, texts, and what is right.

From a folder that ``save_to_disk`` wrote, or from Parquet files (``data/SPLIT-*.parquet``, ``SPLIT*.parquet``,
``SPLIT/*.parquet``, or one file). Options say which columns are meant, where their names are others than these::

    hf:/data/table?image=photo&mask=seg&text=caption

| option | looked for | holds |
|---|---|---|
| ``image`` | image, img, picture, photo | a picture: bytes, or a path inside the folder |
| ``text`` | text, query, caption, sentence, phrase, expression, question, prompt | the query; of a list the first |
| ``mask`` | mask, masks, segmentation, label, annotation | pictures (all but 0), RLEs of COCO, polygons; or nothing |
| ``boxes`` | boxes, bboxes, bbox | [x1, y1, x2, y2] each |
| ``points`` | points | [x, y] each |
| ``id`` | id, sample_id | a name each; the row's number if there is none |

Masks are for segmentation, boxes for ``densedet``, points for ``refcount``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from visenv.datasets.files import (
    MAX_ANNOTATION_BYTES,
    FolderDataset,
    Picture,
    existing_folder,
    expect,
    is_query,
    points_array,
    read_json,
    resolve_inside,
)
from visenv.datasets.instances import outline_mask
from visenv.datasets.paths import path_and_options
from visenv.datasets.tables import INSTALL, ParquetRows
from visenv.errors import DatasetError, InvalidData, MissingDependency
from visenv.images import ImageSource, load_image
from visenv.masks import Masks
from visenv.types import BoxesTruth, MaskTruth, PointsTruth, Sample, TaskKind, Truth

SPLITS = ("train", "val", "test")
VOCABULARY = ("person", "animal", "vehicle", "food", "plant", "clothes", "furniture", "tool", "building")
"""Simple phrases for the discrete action mode."""
COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("image", "img", "picture", "photo"),
    "text": ("text", "query", "caption", "sentence", "phrase", "expression", "question", "prompt"),
    "mask": ("mask", "masks", "segmentation", "label", "annotation"),
    "boxes": ("boxes", "bboxes", "bbox"),
    "points": ("points",),
    "id": ("id", "sample_id"),
}
"""What each kind of column may be called, the first that is there."""

_TRUTHS = {"densedet": "boxes", "refcount": "points"}
_TASKS: dict[str, TaskKind] = {"densedet": "detection", "refcount": "counting"}
_OTHER_NAMES = {"val": ("val", "validation", "valid")}
_LAYOUT = "what save_to_disk wrote, or data/SPLIT-*.parquet"


class Rows(Protocol):
    """A table by rows."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        ...

    def __len__(self) -> int: ...

    def row(self, index: int) -> dict[str, Any]:
        """A row, pictures as ``{"bytes", "path"}``."""
        ...

    def column(self, name: str) -> list[Any]:
        """A whole column."""
        ...


class HfTable(FolderDataset):
    """The rows of a table as samples.

    Args:
        table: a ``datasets.Dataset``, or rows as ``ParquetRows`` has them.
        family: of tasks; says which columns are needed.
        split: which part the table is.
        columns: names of columns by kind (the keys of ``COLUMNS``), where they are others than those looked for.
        root: the folder that paths in the table are relative to, and must lie in; None where it has none.
        name: the data set's name in messages.
        vocabulary: simple phrases, the same for every sample.

    Raises:
        DatasetError: if a column is missing, or there is no row.
        MissingDependency: if the package for it is not installed.
    """

    def __init__(
        self,
        table: Any,
        *,
        family: str,
        split: str = "train",
        columns: Mapping[str, str] | None = None,
        root: str | Path | None = None,
        name: str = "hf",
        vocabulary: Sequence[str] = VOCABULARY,
    ) -> None:
        self._rows: Rows = table if isinstance(table, ParquetRows) else _LibraryRows(table)
        self._root = None if root is None else Path(root)
        self._family = family
        self._truth_column = _TRUTHS.get(family, "mask")
        given = columns or {}
        needed = ("image", "text", self._truth_column)
        self._columns = {kind: self._column(kind, given.get(kind), kind in needed) for kind in COLUMNS}
        ids = self._columns["id"]
        keys = [str(key) for key in (range(len(self._rows)) if ids is None else self._rows.column(ids))]
        super().__init__(name=name, split=split, vocabulary=vocabulary, keys=keys)

    def _column(self, kind: str, given: str | None, needed: bool) -> str | None:
        there = self._rows.columns
        for name in COLUMNS[kind] if given is None else (given,):
            if name in there:
                return name
        if needed or given is not None:
            wanted = f"a column {given!r}" if given else f"a column of {kind} ({', '.join(COLUMNS[kind])})"
            raise DatasetError(
                f"Expected {wanted} for {self._family!r}, but the table has {', '.join(there) or 'none'}: "
                f"say which with hf:PATH?{kind}=NAME."
            )
        return None

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        index = self._places[key]
        row = {kind: value for kind, value in self._cells(index).items() if value is not None}
        where = f"sample {self._sample_id(key)}"
        text = row.get("text")
        text = text[0] if isinstance(text, (list, tuple)) and text else text
        if not isinstance(text, str) or not is_query(text):
            raise DatasetError(f"Expected a text in {self._columns['text']!r} of {where}, but got {text!r:.60}.")
        picture = Picture(self._source(row.get("image"), where), where)
        return Sample(
            sample_id=self._sample_id(key),
            images=(picture.pixels,),
            query=text.strip(),
            truth=self._truth(row, picture, where),
            task=_TASKS.get(self._family, "segmentation"),
            metadata={"dataset": self.name, "original_size": list(picture.original_size), "row": index},
        )

    def _cells(self, index: int) -> dict[str, Any]:
        row = self._rows.row(index)
        return {kind: row.get(column) for kind, column in self._columns.items() if column is not None}

    def _truth(self, row: Mapping[str, Any], picture: Picture, where: str) -> Truth:
        where = f"{self._columns[self._truth_column]!r} of {where}"
        value = row.get(self._truth_column)
        if self._truth_column == "points":
            return PointsTruth(picture.scale_points(points_array(value or [], where)))
        if self._truth_column == "boxes":
            try:
                boxes = np.asarray(value or [], np.float64).reshape(-1, 4)
            except (TypeError, ValueError, OverflowError):
                boxes = np.full((1, 4), np.nan)
            if not (np.isfinite(boxes).all() and (boxes[:, 2:] > boxes[:, :2]).all()):
                raise DatasetError(f"Expected boxes [x1, y1, x2, y2] with an area in {where}, but got {value!r:.60}.")
            return BoxesTruth(picture.scale_boxes(boxes))
        frame = picture.original_size[::-1]
        masks = [self._mask(each, frame, where) for each in _objects(value)]
        return MaskTruth(picture.scale_masks(Masks.concatenate(masks, frame)))

    def _mask(self, value: Any, frame: tuple[int, int], where: str) -> Masks:
        """One object's mask over the picture's own frame."""
        if isinstance(value, dict) and "counts" in value:
            return outline_mask(value, frame, where)
        if isinstance(value, list):
            return outline_mask([value] if value and not isinstance(value[0], list) else value, frame, where)
        try:
            dense = load_image(self._source(value, where)).any(axis=2)
        except InvalidData as error:
            raise DatasetError(f"The mask in {where} cannot be used: {error}") from error
        if dense.shape != frame:
            raise DatasetError(
                f"Expected a mask of {frame[1]}x{frame[0]} in {where}, but it is {dense.shape[1]}x{dense.shape[0]}."
            )
        return Masks.from_dense(dense)

    def _source(self, value: Any, where: str) -> ImageSource:
        """The picture that a cell holds."""
        if isinstance(value, bytes):
            return value
        path = value.get("path") if isinstance(value, dict) else value
        if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
            data: bytes = value["bytes"]
            return data
        if isinstance(path, str) and self._root is not None:
            return inside(self._root, path)
        raise DatasetError(f"Expected a picture in {where}, but got {value!r:.60}.")


def inside(root: Path, path: str, beside: str = "images") -> Path:
    """The file of a path that a table holds; an absolute one is taken only where it lies in the folder.

    Args:
        root: the folder.
        path: as in the table.
        beside: a folder in ``root`` in which a file of that name is looked for, where the path leads elsewhere: tables
            that were moved hold the paths of where they were made.

    Raises:
        DatasetError: if there is no such file in the folder.
    """
    given = Path(path)
    if given.is_absolute():
        try:
            return resolve_inside(root, given.resolve().relative_to(root.resolve()).as_posix())
        except (ValueError, OSError):
            moved = resolve_inside(root, f"{beside}/{given.name}")
            if moved.is_file():
                return moved
            raise DatasetError(
                f"{path!r} lies outside of {str(root)!r}, and there is no {beside + '/' + given.name!r} in it: "
                "copy the pictures there."
            ) from None
    return resolve_inside(root, path)


def _objects(value: Any) -> list[Any]:
    """The cells of masks one by one: one an object."""
    if value is None:
        return []
    if isinstance(value, list) and value and isinstance(value[0], (int, float)):
        return [value]
    return list(value) if isinstance(value, list) else [value]


class _LibraryRows:
    """The rows of a ``datasets.Dataset``, pictures left encoded."""

    def __init__(self, table: Any) -> None:
        library = _library()
        if not isinstance(table, library.Dataset):
            raise DatasetError(f"Expected a datasets.Dataset or rows of Parquet files, but got {type(table).__name__}.")
        for name, feature in table.features.items():
            if isinstance(feature, library.Image):
                table = table.cast_column(name, library.Image(decode=False))
            elif isinstance(getattr(feature, "feature", None), library.Image):
                table = table.cast_column(name, library.Sequence(library.Image(decode=False)))
        self._table = table.with_format(None)
        self.columns = tuple(table.column_names)

    def __len__(self) -> int:
        return len(self._table)

    def row(self, index: int) -> dict[str, Any]:
        try:
            return dict(self._table[index])
        except (OSError, ValueError) as error:
            raise DatasetError(f"Cannot read row {index} of a table of datasets: {error}") from error

    def column(self, name: str) -> list[Any]:
        return list(self._table[name])


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency(f"Tables of Hugging Face need the package datasets: {INSTALL}.") from error
    return datasets


def open_table(path: str | None, split: str) -> tuple[Any, Path]:
    """A table from a folder or a Parquet file, and the folder that nothing in it leads out of.

    Raises:
        DatasetError: if there is none of that split.
        MissingDependency: if the package for it is not installed.
    """
    file = Path(path or "").expanduser()
    if path and file.is_file():
        return ParquetRows([file]), file.parent
    folder = existing_folder(path, "hf", _LAYOUT)
    names = _OTHER_NAMES.get(split, (split,))
    if (folder / "dataset_dict.json").is_file():
        listed = expect(read_json(folder / "dataset_dict.json", MAX_ANNOTATION_BYTES), dict, "dataset_dict.json")
        there = [name for name in expect(listed.get("splits"), list, "'splits' of dataset_dict.json")]
        for name in names:
            if name in there:
                return _saved(resolve_inside(folder, name), folder)
        raise DatasetError(f"The table in {str(folder)!r} has the splits {', '.join(map(str, there))}, not {split!r}.")
    if (folder / "state.json").is_file():
        return _saved(folder, folder)
    for name in names:
        for pattern in (f"data/{name}-*.parquet", f"{name}-*.parquet", f"{name}.parquet", f"{name}/*.parquet"):
            files = sorted(folder.glob(pattern))
            if files:
                return ParquetRows(
                    [resolve_inside(folder, each.relative_to(folder).as_posix()) for each in files]
                ), folder
    raise DatasetError(f"There is no table of split {split!r} in {str(folder)!r}. Layout: {_LAYOUT}.")


def _saved(folder: Path, root: Path) -> tuple[Any, Path]:
    """What ``save_to_disk`` wrote, its files looked at first: none may lie elsewhere."""
    state = expect(read_json(resolve_inside(folder, "state.json"), MAX_ANNOTATION_BYTES), dict, "state.json")
    for entry in expect(state.get("_data_files"), list, "'_data_files' of state.json"):
        resolve_inside(folder, expect(entry, dict, "'_data_files' of state.json").get("filename", ""))
    library = _library()
    try:
        return library.load_from_disk(str(folder)), root
    except (OSError, ValueError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise DatasetError(f"Expected a table of datasets in {str(folder)!r}, but it is broken: {error}") from error


def make(*, path: str | None, family: str, split: str, difficulty: int) -> HfTable:
    """The data set for ``dataset="hf:PATH"``, names of columns after it; ``difficulty`` does not apply.

    Raises:
        DatasetError: if there is no such table, split or column.
        MissingDependency: if the package for it is not installed.
    """
    given, options = path_and_options(path, "hf", tuple(COLUMNS))
    table, root = open_table(given, split)
    return HfTable(table, family=family, split=split, columns=options, root=root)
