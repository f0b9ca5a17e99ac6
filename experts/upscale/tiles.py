"""Large pictures in tiles that overlap, and the tiles' results in one picture without seams."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from visenv.types import Pixels


def cuts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along one side, as few and as evenly spread as can be.

    Args:
        length: of the side, in pixels.
        tile: length of a tile.
        overlap: by how much two neighbours overlap at least, at most half a tile.

    Example:
        >>> cuts(100, 100, 10), cuts(101, 100, 10), cuts(250, 100, 10)
        ([0], [0, 1], [0, 75, 150])
    """
    if length <= tile:
        return [0]
    count = math.ceil((length - overlap) / (tile - overlap))
    return [round(index * (length - tile) / (count - 1)) for index in range(count)]


def shares(length: int, tile: int, overlap: int, scale: int) -> NDArray[np.float32]:
    """How much each tile counts at each of its enlarged pixels along one side; 1 in sum at every pixel.

    The outer quarter of an overlap counts for nothing, since what lies beyond the tile is missing there; from one tile
    to the next the shares change linearly. At the picture's own sides a tile counts in full.

    Args:
        length: of the side, in pixels.
        tile: length of a tile.
        overlap: by how much two neighbours overlap at least.
        scale: how many times larger the tiles' results are.

    Returns:
        (tiles, scale * min(tile, length)).
    """
    starts = np.array(cuts(length, tile, overlap))
    tile = min(tile, length)
    inside = (np.arange(tile * scale) + 0.5) / scale
    before = np.where(starts[:, None] > 0, inside, np.inf)
    after = np.where(starts[:, None] + tile < length, tile - inside, np.inf)
    nearest = np.minimum(before, after)
    raw = np.clip((nearest - overlap / 4) / (overlap / 2), 0, 1) if overlap else np.ones_like(nearest)
    total = np.zeros(length * scale)
    for start, row in zip(starts, raw, strict=True):
        total[start * scale : (start + tile) * scale] += row
    parts = [row / total[start * scale : (start + tile) * scale] for start, row in zip(starts, raw, strict=True)]
    return np.stack(parts).astype(np.float32)


class Canvas:
    """One picture that is being enlarged: gives its tiles, and takes their results in the same order.

    Only one row of tiles is kept in floating point.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        tile: side of a tile, in pixels.
        overlap: by how much two neighbours overlap at least, in pixels.
        scale: how many times larger the results are.
    """

    def __init__(self, pixels: Pixels, tile: int, overlap: int, scale: int) -> None:
        height, width = pixels.shape[:2]
        self.pixels, self.scale = pixels, scale
        self.tile = (min(tile, height), min(tile, width))
        """(height, width) of every tile."""
        self._tops, self._lefts = cuts(height, tile, overlap), cuts(width, tile, overlap)
        self._down = shares(height, tile, overlap, scale)
        self._across = shares(width, tile, overlap, scale)
        self._next, self._written = 0, 0
        self._row = np.zeros((self.tile[0] * scale, width * scale, 3), np.float32)
        self.result: Pixels = np.empty((height * scale, width * scale, 3), np.uint8)
        """(scale * H, scale * W, 3), complete when all tiles were added."""

    def __len__(self) -> int:
        return len(self._tops) * len(self._lefts)

    def part(self, index: int) -> Pixels:
        """The pixels of a tile."""
        row, column = divmod(index, len(self._lefts))
        top, left = self._tops[row], self._lefts[column]
        return self.pixels[top : top + self.tile[0], left : left + self.tile[1]]

    def add(self, enlarged: NDArray[np.float32]) -> None:
        """Take the result of the next tile.

        Args:
            enlarged: (scale * h, scale * w, 3) float32 from 0 to 1.
        """
        row, column = divmod(self._next, len(self._lefts))
        if column == 0 and row:
            self._write((self._tops[row] - self._tops[row - 1]) * self.scale)
        left = self._lefts[column] * self.scale
        share = self._down[row][:, None, None] * self._across[column][None, :, None]
        self._row[:, left : left + enlarged.shape[1]] += enlarged * share
        self._next += 1
        if self._next == len(self):
            self._write(len(self._row))

    def _write(self, count: int) -> None:
        """Finish so many lines, and let the next row of tiles begin below them."""
        lines = self._row[:count]
        np.multiply(lines, 255, out=lines)
        np.rint(lines, out=lines)
        self.result[self._written : self._written + count] = np.clip(lines, 0, 255, out=lines)
        self._written += count
        kept = len(self._row) - count
        self._row[:kept] = self._row[count:].copy()
        self._row[kept:] = 0
