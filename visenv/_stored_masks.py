"""How a set of masks is held: as tight crops, as run lengths, or as the text of COCO RLEs.

One form is made from another when it is first asked for, and then kept; so are areas and boxes, which are taken from
whichever form is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visenv import rle as codec
from visenv._crops import Placed
from visenv.errors import InvalidData
from visenv.types import BoolArray

if TYPE_CHECKING:
    from typing_extensions import Self

Size: TypeAlias = tuple[int, int]
"""(height, width) in pixels."""
Rle: TypeAlias = dict[str, Any]
"""``{"size": [height, width], "counts": str}``."""


class StoredMasks:
    """What :class:`visenv.masks.Masks` holds, and how it is looked at, counted, compared and written."""

    __slots__ = ("_areas", "_boxes", "_counts", "_crops", "_length", "_offsets", "_shape", "_texts")

    _shape: Size
    _length: int
    _crops: tuple[BoolArray, ...] | None
    _offsets: NDArray[np.int64] | None
    _counts: tuple[codec.Counts, ...] | None
    _texts: tuple[bytes, ...] | None
    _areas: NDArray[np.int64] | None
    _boxes: NDArray[np.int64] | None

    def __init__(
        self,
        shape: Size,
        length: int,
        *,
        crops: tuple[BoolArray, ...] | None = None,
        offsets: NDArray[np.int64] | None = None,
        counts: tuple[codec.Counts, ...] | None = None,
        texts: tuple[bytes, ...] | None = None,
        areas: NDArray[np.int64] | None = None,
        boxes: NDArray[np.int64] | None = None,
    ) -> None:
        """Hold parts that are known to be right and to agree; users call a ``from_*`` constructor."""
        hold = super().__setattr__
        hold("_shape", shape)
        hold("_length", length)
        hold("_crops", crops)
        hold("_counts", counts)
        hold("_texts", texts)
        hold("_offsets", None if offsets is None else _frozen(offsets))
        hold("_areas", None if areas is None else _frozen(areas))
        hold("_boxes", None if boxes is None else _frozen(boxes))

    @classmethod
    def _of_crops(cls, shape: Size, crops: Sequence[BoolArray], offsets: Iterable[tuple[int, int]]) -> Self:
        """Trust that crops are bool, tight, inside the frame and nobody else's; an empty one is (0, 0) at (0, 0)."""
        held = tuple(_frozen(crop) for crop in crops)
        return cls(shape, len(held), crops=held, offsets=np.array(list(offsets), np.int64).reshape(-1, 2))

    @classmethod
    def _of_placed(cls, shape: Size, placed: Iterable[Placed]) -> Self:
        found = list(placed)
        return cls._of_crops(shape, [crop for crop, _ in found], [offset for _, offset in found])

    @property
    def shape(self) -> Size:
        """(H, W) of the frame."""
        return self._shape

    def __len__(self) -> int:
        return self._length

    @property
    def areas(self) -> NDArray[np.int64]:
        """(N,) int64 pixels set in each mask."""
        if self._areas is None:
            if self._crops is not None:
                sizes = [int(np.count_nonzero(crop)) for crop in self._crops]
            else:
                sizes = [int(runs[1::2].sum()) for runs in self._runs()]
            object.__setattr__(self, "_areas", _frozen(np.array(sizes, np.int64)))
            return self.areas
        return self._areas

    @property
    def boxes(self) -> NDArray[np.float64]:
        """(N, 4) float64 tight xyxy boxes, half-open; zeros where a mask is empty."""
        return self._int_boxes().astype(np.float64)

    @property
    def crops(self) -> tuple[BoolArray, ...]:
        """N read-only (h, w) bool arrays, each mask inside its box; (0, 0) where it is empty."""
        if self._crops is None:
            found = [codec.crop_of_counts(runs, self._shape[0]) for runs in self._runs()]
            places = np.array([offset for _, offset in found], np.int64).reshape(-1, 2)
            object.__setattr__(self, "_offsets", _frozen(places))
            object.__setattr__(self, "_crops", tuple(_frozen(crop) for crop, _ in found))
            return self.crops
        return self._crops

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(N, 2) int64 x and y of each crop's upper left pixel; zeros where a mask is empty."""
        return self._int_boxes()[:, :2] if self._offsets is None else self._offsets

    def __getitem__(self, index: int | slice | ArrayLike) -> Self:
        """Choose masks: an int gives a set of one."""
        if isinstance(index, (int, np.integer)) and not isinstance(index, (bool, np.bool_)):
            if not -self._length <= index < self._length:
                raise IndexError(f"Expected an index below {self._length}, but got {index}.")
            picked = np.array([int(index) % self._length])
        elif isinstance(index, slice):
            picked = np.arange(self._length)[index]
        else:
            picks = np.asarray(index)
            picks = picks.astype(np.int64) if picks.size == 0 and picks.dtype != np.bool_ else picks
            if picks.ndim != 1 or picks.dtype.kind not in "biu":
                raise InvalidData(f"Expected an index, a slice, or a 1-D array of either, but got {index!r:.80}.")
            picked = np.arange(self._length)[picks]
        chosen = picked.tolist()
        return type(self)(
            self._shape,
            len(chosen),
            crops=None if self._crops is None else tuple(self._crops[i] for i in chosen),
            counts=None if self._counts is None else tuple(self._counts[i] for i in chosen),
            texts=None if self._texts is None else tuple(self._texts[i] for i in chosen),
            offsets=None if self._offsets is None else self._offsets[picked],
            areas=None if self._areas is None else self._areas[picked],
            boxes=None if self._boxes is None else self._boxes[picked],
        )

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(self._length))

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self.areas[:8].tolist())) + (", …" if self._length > 8 else "")
        return f"Masks({self._length} of {self._shape[0]}x{self._shape[1]}, areas [{shown}])"

    def __eq__(self, other: object) -> bool:
        """Whether frames, number, order and every pixel agree."""
        if not isinstance(other, StoredMasks):
            return NotImplemented
        if self is other:
            return True
        if self._shape != other._shape or self._length != other._length:
            return False
        if not (np.array_equal(self.areas, other.areas) and np.array_equal(self._int_boxes(), other._int_boxes())):
            return False
        if self._crops is not None and other._crops is not None:
            return all(np.array_equal(a, b) for a, b in zip(self._crops, other._crops, strict=True))
        return all(np.array_equal(a, b) for a, b in zip(self._runs(), other._runs(), strict=True))

    def __hash__(self) -> int:
        return hash((self._shape, self._length, self.areas.tobytes(), self._int_boxes().tobytes()))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Masks cannot be changed: {name!r} is read-only.")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def to_dense(self) -> BoolArray:
        """Full frames, (N, H, W) bool."""
        frames = np.zeros((self._length, *self._shape), bool)
        for frame, (crop, (x, y)) in zip(frames, self._placed(), strict=True):
            frame[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
        return frames

    def to_coco_rles(self) -> list[Rle]:
        """COCO RLEs, one a mask, with compressed counts as ``str``: ready for JSON and for pycocotools.

        Example:
            >>> from visenv.masks import Masks
            >>> Masks.from_boxes([[1, 0, 2, 2]], (3, 4)).to_coco_rles()
            [{'size': [3, 4], 'counts': '327'}]
        """
        return [{"size": list(self._shape), "counts": text.decode("ascii")} for text in self._encoded()]

    def window(self, index: int, x0: int, y0: int, x1: int, y1: int) -> BoolArray:
        """The pixels of one mask in a window that lies inside its box: a read-only view, (y1 - y0, x1 - x0) bool."""
        x, y = self.offsets[index]
        return self.crops[index][y0 - y : y1 - y, x0 - x : x1 - x]

    def _placed(self) -> list[Placed]:
        return [(crop, (x, y)) for crop, (x, y) in zip(self.crops, self.offsets.tolist(), strict=True)]

    def _int_boxes(self) -> NDArray[np.int64]:
        if self._boxes is None:
            if self._crops is not None and self._offsets is not None:
                sides = np.array([crop.shape[::-1] for crop in self._crops], np.int64).reshape(-1, 2)
                boxes = np.concatenate((self._offsets, self._offsets + sides), axis=1)
            else:
                found = [codec.box_of_counts(runs, self._shape[0]) for runs in self._runs()]
                boxes = np.array(found, np.int64).reshape(-1, 4)
            object.__setattr__(self, "_boxes", _frozen(boxes))
            return self._int_boxes()
        return self._boxes

    def _runs(self) -> tuple[codec.Counts, ...]:
        if self._counts is None:
            if self._texts is not None:
                counts = tuple(codec.decompress(text) for text in self._texts)
            else:
                counts = tuple(codec.counts_of_crop(crop, offset, self._shape) for crop, offset in self._placed())
            object.__setattr__(self, "_counts", counts)
            return counts
        return self._counts

    def _encoded(self) -> tuple[bytes, ...]:
        if self._texts is None:
            object.__setattr__(self, "_texts", tuple(codec.compress(runs, self._shape) for runs in self._runs()))
            return self._encoded()
        return self._texts

    def _pycoco(self) -> list[Rle]:
        return [{"size": list(self._shape), "counts": text} for text in self._encoded()]


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array
