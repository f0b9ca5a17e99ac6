"""From foreground pixels to one region an object: connected components, parted by hue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from visenv.experts.classical.colour import NAMES, name_probabilities, to_lab
from visenv.experts.classical.foreground import SATURATED, STANDS_OUT, Surface
from visenv.types import BoolArray, FloatArray, IntArray, Pixels

LEAST_AREA = 20
"""Working pixels below which a speck is noise."""
LEAST_HUE_SHARE = 0.06
"""Share of a component that a hue must cover to be an object of its own."""


@dataclass(frozen=True, eq=False)
class Region:
    """One object's pixels at the working resolution."""

    mask: BoolArray
    """(h, w) of the crop."""
    x: int
    y: int
    hue: int
    """Index of its colour name in ``colour.NAMES``; -1 if it has no hue of its own."""
    hued: BoolArray
    """(h, w): the pixels of that hue."""
    touches: bool
    """Whether it shares its component with another region."""


@cache
def _name_table() -> IntArray:
    """The likeliest colour name of every RGB colour of 5 bits a channel: (32, 32, 32)."""
    steps = (np.arange(32, dtype=np.uint8) << 3) + 4
    red, green, blue = np.meshgrid(steps, steps, steps, indexing="ij")
    lab = to_lab(np.stack([red, green, blue], axis=-1).reshape(32, 1024, 3))
    return name_probabilities(lab).argmax(axis=-1).reshape(32, 32, 32).astype(np.uint8)


def colour_names(pixels: Pixels) -> IntArray:
    """Index in ``colour.NAMES`` of each pixel's likeliest colour name: (H, W) uint8."""
    coarse = pixels >> 3
    return np.asarray(_name_table()[coarse[..., 0], coarse[..., 1], coarse[..., 2]])


def find_regions(pixels: Pixels, lab: FloatArray, surface: Surface) -> list[Region]:
    """Part an image's foreground into objects.

    Args:
        pixels: (H, W, 3) at the working resolution.
        lab: (H, W, 3) its Lab colours.
        surface: the background.

    Returns:
        Regions in reading order of their first pixels.
    """
    foreground = (surface.deviation(surface.residual(lab)) > STANDS_OUT).astype(np.uint8)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    names = colour_names(pixels)
    hued = (foreground > 0) & (chroma > SATURATED) & _CHROMATIC[names]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=4)
    regions: list[Region] = []
    for index in range(1, count):
        x, y, w, h, area = stats[index].tolist()
        if area < LEAST_AREA:
            continue
        window = (slice(y, y + h), slice(x, x + w))
        mask = labels[window] == index
        regions.extend(_part(mask, names[window], hued[window] & mask, x, y))
    return regions


_CHROMATIC = np.array([name not in ("white", "grey", "black") for name in NAMES])


def _part(mask: BoolArray, names: IntArray, hued: BoolArray, x: int, y: int) -> list[Region]:
    """The regions of one connected component."""
    area = int(mask.sum())
    counts = np.bincount(names[hued], minlength=len(NAMES))
    strong = np.flatnonzero(counts >= max(LEAST_AREA // 2, LEAST_HUE_SHARE * area))
    if len(strong) <= 1:
        hue = int(strong[0]) if len(strong) else -1
        return [Region(mask, x, y, hue, hued & (names == hue), False)]
    markers = np.zeros(mask.shape, dtype=np.uint8)
    for hue in strong:
        seed = (hued & (names == hue)).astype(np.uint8)
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(seed, connectivity=8)
        kept = stats[:, cv2.CC_STAT_AREA] >= 6
        kept[0] = False
        markers[kept[pieces]] = hue + 1
    present = np.unique(markers[markers > 0])
    if len(present) == 0:
        return [Region(mask, x, y, -1, np.zeros_like(mask), False)]
    owner = _nearest(markers)
    regions = []
    for value in present:
        own = ((owner == value) & mask).astype(np.uint8)
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
        for piece in range(1, count):
            px, py, pw, ph, parea = stats[piece].tolist()
            window = (slice(py, py + ph), slice(px, px + pw))
            part = pieces[window] == piece
            seeds = part & (markers[window] == value)
            if parea >= LEAST_AREA and seeds.sum() >= 6:
                regions.append(Region(part, x + px, y + py, int(value) - 1, seeds, True))
    return regions


def _nearest(markers: IntArray) -> IntArray:
    """Each pixel's nearest marker."""
    free = (markers == 0).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(nearest.max()) + 1, dtype=markers.dtype)
    table[nearest[free == 0]] = markers[free == 0]
    return np.asarray(table[nearest])
