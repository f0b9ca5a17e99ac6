"""What loaders of folders share: safe paths, tolerant JSON, sizes as published, and samples by name.

A folder comes from somewhere else. A name in an annotation never leads out of it, a file that is missing or broken
costs its own sample and no other, and every message names the file.
"""

from __future__ import annotations

import json
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from visenv.errors import DatasetError, InvalidData
from visenv.images import ImageSource, fit_within, load_image
from visenv.masks import Masks
from visenv.types import BoolArray, FloatArray, Pixels, Sample

logger = logging.getLogger(__name__)

MAX_LONG_SIDE, MAX_SHORT_SIDE = 1920, 1080
"""The largest input of the published runs, in pixels; larger pictures are shrunk and their annotations with them."""

MAX_ANNOTATION_BYTES = 64 * 2**20
"""The largest annotation of one picture that is read, and the largest single value of a file that is read in parts."""
MAX_FILE_BYTES = 2**30
"""The largest file of annotations that is read at once."""

_SUFFIXES = (".jpg", ".jpeg", ".png")
_NEAREST = cv2.INTER_NEAREST_EXACT
_MAX_COORDINATE = 1_000_000.0


def resolve_inside(root: Path, name: str) -> Path:
    """The path of a file that an annotation names, which must lie in the data set's folder.

    Args:
        root: the folder; it may itself be a link.
        name: a relative path as it stands in an annotation, with forward slashes.

    Raises:
        DatasetError: if the name is absolute, climbs (``..``), or a link leads out of the folder.
    """
    broken = not isinstance(name, str) or not name.strip() or any(ord(char) < 32 for char in name)
    if not broken:
        posix, windows = PurePosixPath(name), PureWindowsPath(name)
        broken = posix.is_absolute() or bool(windows.anchor) or ".." in (*posix.parts, *windows.parts)
    if broken:
        raise DatasetError(
            f"Expected a relative path inside {str(root)!r}, but the annotation names {name!r}: correct it."
        )
    path = root / name
    try:
        real, real_root = path.resolve(), root.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DatasetError(f"Cannot follow {str(path)!r}: {error}") from error
    if not real.is_relative_to(real_root):
        raise DatasetError(f"{str(path)!r} is a link that leads out of {str(root)!r}: copy the file into the folder.")
    return path


def existing_folder(path: str | Path | None, name: str, layout: str) -> Path:
    """The folder a user gave for a data set.

    Raises:
        DatasetError: if there is none; the message says which layout is expected.
    """
    if path is None or not str(path):
        raise DatasetError(
            f'The data set {name!r} needs a folder, as in dataset="{name}:/path/to/it". Layout: {layout}.'
        )
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise DatasetError(f"There is no folder {str(folder)!r} for the data set {name!r}. Layout: {layout}.")
    return folder


def read_bytes(path: Path, limit: int = MAX_FILE_BYTES) -> bytes:
    """The bytes of a file, whose size is looked at before anything is read.

    Raises:
        DatasetError: if it cannot be read, or is larger than ``limit`` bytes.
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            # What has no size of its own (a pipe, a device) is read up to the limit and no further.
            data = b"" if size > limit else file.read(limit + 1)
    except OSError as error:
        raise DatasetError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    if max(size, len(data)) > limit:
        raise DatasetError(f"Expected at most {limit} bytes in {str(path)!r}, but it has {max(size, len(data))}.")
    return data


def read_json(path: Path, limit: int = MAX_FILE_BYTES) -> Any:
    """A JSON file, UTF-8 (with or without a byte order mark) or, where it is not, Windows-1252.

    Args:
        path: the file.
        limit: the largest size that is read, in bytes.

    Raises:
        DatasetError: if it cannot be read, is too large, or is not JSON in either encoding.
    """
    data = read_bytes(path, limit)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"Expected UTF-8 or Windows-1252 in {str(path)!r}, but it is neither: {error}."
            ) from error
    try:
        return json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"Expected JSON in {str(path)!r}, but it is broken: {error or type(error).__name__}."
        ) from error


def no_constant(name: str) -> NoReturn:
    """Refuse NaN and the infinities, which Python's JSON would let pass.

    Raises:
        ValueError: always.
    """
    raise ValueError(f"{name} is no number in JSON")


def points_array(value: object, where: str) -> FloatArray:
    """A list of [x, y] as (N, 2) float64 pixels.

    Raises:
        DatasetError: if it is anything else, or a coordinate is not finite or absurd.
    """
    try:
        points = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.full((1, 1), np.nan)
    if isinstance(value, (list, tuple)) and not value:
        return np.zeros((0, 2))
    if points.ndim != 2 or points.shape[1] != 2 or not (np.abs(points) <= _MAX_COORDINATE).all():
        raise DatasetError(f"Expected points [[x, y], …] in pixels in {where}, but got {_short(value)}.")
    return points


def expect(value: Any, kind: type | tuple[type, ...], where: str) -> Any:
    """The value, if it is of that kind.

    Raises:
        DatasetError: if it is not.
    """
    if not isinstance(value, kind):
        kinds = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise DatasetError(f"Expected a {kinds} in {where}, but got {_short(value)}.")
    return value


def is_query(value: object) -> bool:
    """Whether it is a text that can be asked: not blank, and no halves of surrogate pairs, which JSON lets pass."""
    return isinstance(value, str) and bool(value.strip()) and not any("\ud800" <= char <= "\udfff" for char in value)


def _short(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


_FULL_SIZE: ContextVar[bool] = ContextVar("full_size", default=False)


@contextmanager
def full_size() -> Iterator[None]:
    """Samples that this thread loads meanwhile keep the size of their files, at which published evaluators measure."""
    token = _FULL_SIZE.set(True)
    try:
        yield
    finally:
        _FULL_SIZE.reset(token)


class Picture:
    """A picture as a sample shows it, and how it got there from the file."""

    def __init__(self, source: ImageSource, where: str) -> None:
        """Load it upright, and shrink it to the published limits.

        Raises:
            DatasetError: if it cannot be loaded; the cause says why.
        """
        try:
            original = load_image(source)
        except InvalidData as error:
            raise DatasetError(f"The picture of {where} cannot be used: {error}") from error
        self.original_size = (original.shape[1], original.shape[0])
        """(width, height) of the file, upright, in pixels: the frame of its annotation."""
        limits = (MAX_LONG_SIDE, MAX_SHORT_SIDE)
        self.pixels: Pixels = (
            original
            if _FULL_SIZE.get()
            else fit_within(original, *(limits if original.shape[1] >= original.shape[0] else limits[::-1]))
        )
        """(H, W, 3) uint8 RGB."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as shown."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def scale_points(self, points: ArrayLike) -> FloatArray:
        """Points of the file, (N, 2) xy, as points of the picture shown."""
        return np.asarray(points, dtype=np.float64) * (np.array(self.size) / np.array(self.original_size))

    def scale_boxes(self, boxes: FloatArray, frame: tuple[int, int] | None = None) -> FloatArray:
        """Boxes, (N, 4) xyxy, as boxes of the picture shown.

        Args:
            boxes: in pixels of ``frame``.
            frame: (width, height) that they refer to; the file's if left out.
        """
        scale = np.array(self.size) / np.array(frame or self.original_size)
        return np.asarray(boxes, dtype=np.float64) * np.tile(scale, 2)

    def scale_masks(self, masks: Masks) -> Masks:
        """Masks over the file, or over the same picture in another size, as masks over the picture shown."""
        shown = self.pixels.shape[:2]
        if masks.shape == shown:
            return masks
        frames = [cv2.resize(mask.to_dense()[0].view(np.uint8), self.size, interpolation=_NEAREST) for mask in masks]
        return Masks.concatenate([Masks.from_dense(frame) for frame in frames], shown)

    def scale_mask(self, mask: NDArray[np.uint8]) -> BoolArray:
        """A mask over the file, (H, W), as one over the picture shown: nearest neighbour."""
        if self.size == self.original_size:
            return mask > 0
        return np.asarray(cv2.resize(mask, self.size, interpolation=_NEAREST)) > 0


def find_picture(folder: Path, stem: str) -> Path:
    """The picture beside an annotation: ``STEM.jpg``, or ``.jpeg`` or ``.png`` where there is none.

    Raises:
        DatasetError: if there is none, or the name leads out of the folder.
    """
    for suffix in _SUFFIXES:
        path = resolve_inside(folder, stem + suffix)
        if path.is_file():
            return path
    raise DatasetError(
        f"There is no picture {stem + _SUFFIXES[0]!r} in {str(folder)!r}: add it, or remove its annotation."
    )


ImageResolver = Callable[[str], ImageSource]
"""From the name of a picture in an annotation to the picture."""


class FolderDataset(ABC):
    """A finite data set whose samples have names and are read when they are asked for.

    ``get`` and ``find`` raise for a sample that is broken. ``draw`` logs it once and draws another, so that one bad
    file does not end a training run: what is evaluated is never dropped in silence, what is trained on may be.
    """

    def __init__(self, *, name: str, split: str, vocabulary: Sequence[str], keys: Sequence[str]) -> None:
        """Take the samples' names in their order.

        Args:
            name: as registered.
            split: which part this is.
            vocabulary: simple phrases, the same for every sample.
            keys: one name a sample, unique.

        Raises:
            DatasetError: if there are none, or a name occurs twice.
        """
        self.name = name
        self.split = split
        self.vocabulary = tuple(vocabulary)
        self._keys = tuple(keys)
        self._places = {key: place for place, key in enumerate(self._keys)}
        self._broken: set[str] = set()
        if not self._keys:
            raise DatasetError(f"The data set {name!r} has no samples in split {split!r}.")
        if len(self._places) != len(self._keys):
            raise DatasetError(f"The data set {name!r} names a sample twice in split {split!r}: remove one.")

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def size(self) -> int:
        """How many samples there are."""
        return len(self._keys)

    @property
    def counts(self) -> dict[str, int]:
        """How many there are of what publications count: ``samples``, and where they differ ``pictures`` and such."""
        return {"samples": len(self._keys)}

    @property
    def sample_ids(self) -> tuple[str, ...]:
        """The identifier of every sample, in order, as ``get`` gives them."""
        return tuple(self._sample_id(key) for key in self._keys)

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0.

        Raises:
            IndexError: if there is none.
            DatasetError: if its files are missing or broken.
        """
        if not 0 <= index < len(self._keys):
            raise IndexError(f"Expected a sample number from 0 to {len(self._keys) - 1}, but got {index}.")
        return self._load(self._keys[index])

    def find(self, sample_id: str) -> Sample:
        """The sample with that identifier.

        Raises:
            DatasetError: if there is none, or its files are missing or broken.
        """
        key = self._key_of(sample_id)
        if key not in self._places:
            raise self._unknown(sample_id)
        return self._load(key)

    def draw(self, rng: np.random.Generator) -> Sample:
        """A sample by chance; one that is broken is logged once and another is drawn.

        Raises:
            DatasetError: if every sample is broken.
        """
        while len(self._broken) < len(self._keys):
            key = self._keys[int(rng.integers(len(self._keys)))]
            try:
                return self._load(key, rng)
            except DatasetError as error:
                if key not in self._broken:
                    self._broken.add(key)
                    logger.warning("%s: left out sample %s: %s", self.name, key, error)
        raise DatasetError(f"Every sample of the data set {self.name!r}, split {self.split!r}, is broken: see the log.")

    def _sample_id(self, key: str) -> str:
        """A sample's identifier, from its name within the split."""
        return f"{self.split}/{key}"

    def _key_of(self, sample_id: str) -> str:
        """A sample's name within the split, from its identifier."""
        return sample_id.removeprefix(f"{self.split}/")

    def _unknown(self, sample_id: str) -> DatasetError:
        return DatasetError(
            f"The data set {self.name!r} has no sample {sample_id!r} in split {self.split!r}; the first is "
            f"{self._sample_id(self._keys[0])!r}."
        )

    @abstractmethod
    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        """Read one sample; with ``rng``, choose by chance where it leaves a choice."""


def check_family(name: str, family: str, families: Sequence[str]) -> None:
    """Refuse a family of tasks that a data set has no annotations for.

    Raises:
        DatasetError: if it is none of them.
    """
    if family not in families:
        raise DatasetError(
            f"The data set {name!r} is annotated for {', '.join(families)}, but {family!r} was asked for."
        )


def check_split(name: str, split: str, splits: Sequence[str]) -> None:
    """Refuse a split that a data set does not have.

    Raises:
        DatasetError: if it is none of them.
    """
    if split not in splits:
        raise DatasetError(f"The data set {name!r} has the splits {', '.join(splits)}, but {split!r} was asked for.")
