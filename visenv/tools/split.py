"""Where an image is cut into overlapping patches: the geometry of ``SplitImageIntoPatches``."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Any

from visenv.errors import InvalidData


@dataclass(frozen=True)
class PatchWindow:
    """One patch of an image: its place in the grid, and the crop with its overlap."""

    row: int
    """From 1, top to bottom."""
    column: int
    """From 1, left to right."""
    x0: int
    """Pixels, like the three after it; the crop is half-open."""
    y0: int
    x1: int
    y1: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1)."""
        return self.x0, self.y0, self.x1, self.y1


def split_windows(
    width: int, height: int, patch_size: int, overlap: float = 0.2, min_remainder: float = 0.3
) -> list[PatchWindow]:
    """Say which patches an image is split into.

    Along each axis the image is cut at multiples of the patch size; where less than ``min_remainder`` of a patch is
    left over, the last cell takes it in. Each cell then grows by ``int(overlap * its own side)`` on every side,
    clipped to the image. A patch size of at least the side gives one cell along that axis.

    Args:
        width: of the image, pixels.
        height: of the image, pixels.
        patch_size: side of a cell before overlap, pixels.
        overlap: how far a cell grows on each side, as a share of its side, 0 to 1.
        min_remainder: the least share of a patch that is worth a cell of its own, 0 to 1.

    Returns:
        The windows in row-major order. Their number is not limited here: ask ``count_windows`` first.

    Raises:
        InvalidData: if a size is no whole number of at least 1, or a share lies outside of 0 to 1.

    Example:
        >>> [window.box for window in split_windows(400, 200, 200)]
        [(0, 0, 240, 200), (160, 0, 400, 200)]

    Source:
        VisHarness (arXiv 2605.29894), tool ``SplitImageIntoPatches``.
    """
    columns = _spans(_whole("width", width), _whole("patch_size", patch_size), overlap, min_remainder)
    rows = _spans(_whole("height", height), _whole("patch_size", patch_size), overlap, min_remainder)
    return [
        PatchWindow(row, column, x0, y0, x1, y1)
        for row, (y0, y1) in enumerate(rows, start=1)
        for column, (x0, x1) in enumerate(columns, start=1)
    ]


def count_windows(width: int, height: int, patch_size: int, min_remainder: float = 0.3) -> int:
    """Say how many patches a split would give, without making them.

    Args:
        width: of the image, pixels.
        height: of the image, pixels.
        patch_size: side of a cell before overlap, pixels.
        min_remainder: as for ``split_windows``.

    Raises:
        InvalidData: as for ``split_windows``.

    Example:
        >>> count_windows(1920, 1080, 480), count_windows(4000, 3000, 1)
        (8, 12000000)
    """
    size = _whole("patch_size", patch_size)
    return _cells(_whole("width", width), size, min_remainder) * _cells(_whole("height", height), size, min_remainder)


def _spans(side: int, patch_size: int, overlap: float, min_remainder: float) -> list[tuple[int, int]]:
    share = _share("overlap", overlap)
    count = _cells(side, patch_size, min_remainder)
    cuts = [index * patch_size for index in range(count)] + [side]
    spans = []
    for index in range(count):
        start, end = cuts[index], cuts[index + 1]
        margin = int((end - start) * share)
        spans.append((max(0, start - margin), min(side, end + margin)))
    return spans


def _cells(side: int, patch_size: int, min_remainder: float) -> int:
    share = _share("min_remainder", min_remainder)
    whole, rest = divmod(side, patch_size)
    if whole == 0:
        return 1
    return whole + 1 if rest and rest >= patch_size * share else whole


def _whole(name: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InvalidData(f"Expected `{name}` to be a whole number of pixels, but got {value!r:.60}.") from error
    if isinstance(value, bool) or number < 1:
        raise InvalidData(f"Expected `{name}` to be a whole number of at least 1 pixel, but got {value!r:.60}.")
    return number


def _share(name: str, value: float) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or not math.isfinite(value)
        or not 0 <= value <= 1
    ):
        raise InvalidData(f"Expected `{name}` to be a share from 0 to 1, but got {value!r:.60}.")
    return float(value)
