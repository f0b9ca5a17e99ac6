"""COCO run-length encodings: checked on the way in, canonical on the way out, never decoded to a full frame.

A mask of H rows and W columns is read column by column; ``counts`` are the lengths of its alternating runs, the first
of zeros. In compressed form each count is written as a little-endian base-32 number in printable characters, from the
fourth on as the difference from the count two before (COCO API, ``maskApi.c``). The format comes from files and from
models, and pycocotools trusts what it is given, so that everything is checked here first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from visenv.errors import InvalidData
from visenv.types import BoolArray

MAX_PIXELS = 2**28
"""The most pixels a mask's frame may have (16,384 x 16,384)."""

_MAX_CHARACTERS = 7
"""Of one count: enough for 34 bits and a sign, more than a frame of ``MAX_PIXELS`` needs."""

Counts = NDArray[np.int64]
"""Run lengths, (R,) int64: zeros first, alternating, in column-major order."""


def check_frame(size: Any) -> tuple[int, int]:
    """Return (H, W) as two ints, or say what is wrong with it.

    Args:
        size: a pair (height, width) of whole numbers.

    Raises:
        InvalidData: if it is no pair of whole numbers of at least 1, or has more than ``MAX_PIXELS`` pixels.

    Example:
        >>> check_frame([480, 640])
        (480, 640)
    """
    expected = "Expected a frame's size to be (height, width), two whole numbers of at least 1"
    if isinstance(size, (str, bytes, Mapping)) or not hasattr(size, "__len__") or len(size) != 2:
        raise InvalidData(f"{expected}, but got {_brief(size)}.")
    sides = []
    for side in size:
        if isinstance(side, (bool, np.bool_)) or not isinstance(side, (int, float, np.integer, np.floating)):
            raise InvalidData(f"{expected}, but got {_brief(size)}.")
        if not 1 <= side < math.inf or side != int(side):
            raise InvalidData(f"{expected}, but got {_brief(size)}.")
        sides.append(int(side))
    height, width = sides
    if height * width > MAX_PIXELS:
        raise InvalidData(f"Expected a frame of at most {MAX_PIXELS} pixels, but got {_brief(size)}: resize it first.")
    return height, width


def check_rle(rle: Any) -> tuple[tuple[int, int], Counts]:
    """Return the frame and the canonical counts of one RLE dictionary.

    Args:
        rle: ``{"size": [H, W], "counts": …}`` with compressed (``str`` or ``bytes``) or plain (list of ints) counts.

    Returns:
        ``(H, W)`` and the counts, without runs of no length except perhaps the first.

    Raises:
        InvalidData: if a key is missing, the text is no RLE, a count is negative, or the counts do not add up to H x W.

    Example:
        >>> size, counts = check_rle({"size": [2, 3], "counts": [1, 2, 3]})
        >>> size, counts.tolist()
        ((2, 3), [1, 2, 3])
    """
    if not isinstance(rle, Mapping) or "size" not in rle or "counts" not in rle:
        raise InvalidData(f"Expected an RLE to be a dict with 'size' and 'counts', but got {_brief(rle)}.")
    height, width = check_frame(rle["size"])
    raw = rle["counts"]
    counts = decompress(raw) if isinstance(raw, (str, bytes, bytearray)) else _plain_counts(raw, height * width)
    if counts.size and counts.min() < 0:
        raise InvalidData(f"Expected the counts of an RLE to be 0 or more, but got {int(counts.min())}.")
    if counts.size and counts.max() > height * width:
        total: Any = f"one of {int(counts.max())}"
    else:
        total = int(counts.sum())
    if total != height * width:
        raise InvalidData(
            f"Expected the counts of an RLE of size [{height}, {width}] to add up to {height * width}, "
            f"but got {total}: "
            "was 'size' given as [width, height], or the text cut short?"
        )
    return (height, width), canonical(counts)


def check_rles(
    rles: Sequence[Any], size: tuple[int, int] | None = None
) -> tuple[tuple[int, int] | None, tuple[Counts, ...]]:
    """Return the frame and the canonical counts of RLE dictionaries over one frame.

    Args:
        rles: as :func:`check_rle` takes them.
        size: the (H, W) that all must have; that of the first if left out.

    Returns:
        (H, W), None where there is neither an RLE nor a size, and the counts of each.

    Raises:
        InvalidData: if an RLE is broken, or has another frame; the message says which.

    Example:
        >>> check_rles([{"size": [2, 3], "counts": [6]}])
        ((2, 3), (array([6]),))
    """
    counts = []
    for index, rle in enumerate(rles):
        try:
            found, runs = check_rle(rle)
        except InvalidData as error:
            raise InvalidData(f"RLE {index} of {len(rles)}: {error}") from error
        size = found if size is None else size
        if found != size:
            raise InvalidData(f"Expected RLE {index} to have the size {list(size)}, but got {list(found)}.")
        counts.append(runs)
    return size, tuple(counts)


def decompress(text: str | bytes | bytearray) -> Counts:
    """Read compressed counts.

    Raises:
        InvalidData: if a character lies outside of the format's 64, or a number is unfinished or too long.

    Example:
        >>> decompress("327").tolist()
        [3, 2, 7]
    """
    try:
        data = text.encode("ascii") if isinstance(text, str) else bytes(text)
    except UnicodeEncodeError as error:
        raise InvalidData("Expected compressed RLE counts to be ASCII text, but got other characters.") from error
    digits = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if not digits.size:
        return digits
    if digits.min() < 0 or digits.max() > 63:
        bad = data[int(np.argmax((digits < 0) | (digits > 63)))]
        raise InvalidData(f"Expected compressed RLE counts in the characters '0' to 'o', but got byte {bad}.")
    last = (digits & 32) == 0
    if not last[-1]:
        raise InvalidData("Expected compressed RLE counts to end with a finished number, but the text is cut short.")
    ends = np.flatnonzero(last)
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _MAX_CHARACTERS:
        raise InvalidData(f"Expected at most {_MAX_CHARACTERS} characters a count, but got {int(lengths.max())}.")
    places = np.arange(digits.size) - np.repeat(starts, lengths)
    values = np.add.reduceat((digits & 31) << (5 * places), starts)
    values -= ((digits[ends] & 16) > 0).astype(np.int64) << (5 * lengths)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def compress(counts: Counts, size: tuple[int, int]) -> bytes:
    """Write counts in compressed form.

    Example:
        >>> compress(np.array([3, 2, 7]), (3, 4))
        b'327'
    """
    height, width = size
    return bytes(coco.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)["counts"])


def canonical(counts: Counts) -> Counts:
    """Join runs that a run of no length keeps apart, so that equal masks have equal counts.

    Example:
        >>> canonical(np.array([2, 0, 3, 1])).tolist()
        [5, 1]
    """
    if not counts.size or counts[1:].all():
        return counts
    ones = np.arange(counts.size) % 2 == 1
    kept = counts > 0
    return counts_of_runs(*_joined(np.cumsum(counts)[kept & ones], counts[kept & ones]), int(counts.sum()))


def counts_of_runs(starts: Counts, ends: Counts, total: int) -> Counts:
    """Return the counts of ``total`` pixels whose runs of ones are ``[starts, ends)``, in order and apart."""
    marks = np.empty(2 * starts.size + 2, np.int64)
    marks[0], marks[-1] = 0, total
    marks[1:-1:2], marks[2:-1:2] = starts, ends
    counts = np.diff(marks)
    return counts[:-1] if counts[-1] == 0 and counts.size > 1 else counts


def box_of_counts(counts: Counts, height: int) -> tuple[int, int, int, int]:
    """Return the tight box (x0, y0, x1, y1) of a mask, half-open; four zeros if it is empty.

    Example:
        >>> box_of_counts(np.array([3, 2, 7]), 3)
        (1, 0, 2, 2)
    """
    return _ones(counts, height)[2]


def crop_of_counts(counts: Counts, height: int) -> tuple[BoolArray, tuple[int, int]]:
    """Decode a mask to its tight crop.

    Returns:
        The crop, (h, w) bool, and its (x, y) offset in the frame.

    Example:
        >>> crop_of_counts(np.array([3, 2, 7]), 3)
        (array([[ True],
               [ True]]), (1, 0))
    """
    starts, lengths, (x0, y0, x1, y1) = _ones(counts, height)
    crop_height, crop_width = y1 - y0, x1 - x0
    # A run crosses a column only where the crop is as tall as the frame, so that runs stay runs inside the crop.
    columns, rows = np.divmod(starts, height)
    inside = (columns - x0) * crop_height + rows - y0
    runs = counts_of_runs(inside, inside + lengths, crop_height * crop_width)
    flat = (np.arange(runs.size) & 1).astype(bool).repeat(runs)
    return np.ascontiguousarray(flat.reshape(crop_width, crop_height).T), (x0, y0)


def counts_of_crop(crop: BoolArray, offset: tuple[int, int], size: tuple[int, int]) -> Counts:
    """Encode a crop as counts of its frame.

    Args:
        crop: (h, w) bool, inside the frame.
        offset: (x, y) of its upper left pixel.
        size: (H, W) of the frame.

    Example:
        >>> counts_of_crop(np.ones((2, 1), bool), (1, 0), (3, 4)).tolist()
        [3, 2, 7]
    """
    height, width = size
    rows, columns = crop.shape
    padded = np.zeros((columns, rows + 2), np.int8)
    padded[:, 1:-1] = crop.T
    steps = np.diff(padded, axis=1).ravel()
    starts, ends = np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)
    x, y = offset
    starts = (starts // (rows + 1) + x) * height + starts % (rows + 1) + y
    ends = (ends // (rows + 1) + x) * height + ends % (rows + 1) + y
    return counts_of_runs(*_joined(ends, ends - starts), height * width)


def _ones(counts: Counts, height: int) -> tuple[Counts, Counts, tuple[int, int, int, int]]:
    """Starts and lengths of the runs of ones, and the tight box around them."""
    lengths = counts[1::2]
    ends = counts.cumsum()[1::2]
    starts = ends - lengths
    if not ends.size:
        return starts, lengths, (0, 0, 0, 0)
    left, right = int(starts[0]) // height, int(ends[-1] - 1) // height + 1
    rows = starts % height
    bottoms = rows + lengths
    bottom = int(bottoms.max())
    if bottom > height:
        return starts, lengths, (left, 0, right, height)
    return starts, lengths, (left, int(rows.min()), right, bottom)


def _joined(ends: Counts, lengths: Counts) -> tuple[Counts, Counts]:
    """Starts and ends of runs, those that touch made one."""
    starts = ends - lengths
    is_first, is_last = np.ones(ends.size, bool), np.ones(ends.size, bool)
    is_first[1:] = is_last[:-1] = starts[1:] != ends[:-1]
    return starts[is_first], ends[is_last]


def _plain_counts(raw: Any, total: int) -> Counts:
    if not isinstance(raw, (Sequence, np.ndarray)) or len(raw) > 2 * total + 1:
        raise InvalidData(
            f"Expected the counts of an RLE to be text or a list of at most {2 * total + 1} ints, "
            f"but got {_brief(raw)}."
        )
    try:
        values = np.asarray(raw)
    except ValueError:
        values = np.empty(0, object)
    if not len(raw):
        return np.zeros(0, np.int64)
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise InvalidData(f"Expected the counts of an RLE to be text or a flat list of ints, but got {_brief(raw)}.")
    if values.max() > total:
        return np.array([total + 1], np.int64)
    return values.astype(np.int64)


def _brief(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict with the keys {sorted(str(key)[:20] for key in list(value)[:6])}"
    is_short = isinstance(value, (str, bytes, list, tuple)) and len(value) <= 8
    shown = is_short or isinstance(value, (int, float, type(None)))
    try:
        text = f"{repr(value)[:80]} " if shown else ""
    except ValueError:  # Python refuses to write out an int of thousands of digits.
        text = ""
    return f"{text}({type(value).__name__})" if text else f"a {type(value).__name__}"
