"""From foreground pixels to one region an object: connected components, parted by hue."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from visenv.experts.classical.colour import NAMES, name_probabilities, to_lab
from visenv.experts.classical.foreground import SATURATED, STANDS_OUT, Surface
from visenv.types import BoolArray, FloatArray, IntArray, Pixels

LEAST_AREA = 20
"""Working pixels below which a speck is noise."""
LEAST_SEED = 6
"""Working pixels of one hue, connected, from which an object grows."""
FAINT = 0.16
"""Share of a component's upper quartile of deviation below which a pixel of it is a mark on the background."""
TINY_HOLE = 0.025
"""Share of a component below which a hole is ink or shine that looks like the background."""
HOLE_CONTRAST = 6.0
"""Lab distance from the surroundings from which a hole is no hole."""
HOLE_HOLDS = 0.1
"""Share of a hole that something else may cover before it counts as open: then something lies in it."""
COMPACT = 4
"""Working pixels, with all their neighbours, that a hue must have somewhere: fringes between two colours have none."""
MARGIN = 4
"""Working pixels around a component's box in which the background is looked at."""
SAME_HUE = 14.0
"""Degrees of hue angle within which two colour names are shades of one."""
LEAST_HUE_SHARE = 0.06
"""Share of a component that a hue must cover to be an object of its own…"""
ENOUGH_HUED = 40
"""…or working pixels that are enough, however large the component is."""


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
    """Whether it shares its component with another region or reaches the image's border: it may be partly hidden."""


class Corner(NamedTuple):
    """Where a component lies."""

    x: int
    y: int
    cut: bool
    """Whether it reaches the image's border."""


@cache
def _name_table() -> IntArray:
    """The likeliest colour name of every RGB colour of 5 bits a channel: (32, 32, 32)."""
    steps = (np.arange(32, dtype=np.uint8) << 3) + 4
    red, green, blue = np.meshgrid(steps, steps, steps, indexing="ij")
    lab = to_lab(np.stack([red, green, blue], axis=-1).reshape(32, 1024, 3))
    return name_probabilities(lab).argmax(axis=-1).reshape(32, 32, 32).astype(np.uint8)


def colour_names(pixels: Pixels) -> IntArray:
    """Index in ``colour.NAMES`` of each pixel's likeliest colour name: (H, W) uint8."""
    coarse = (pixels >> 3).astype(np.uint16)
    return np.asarray(_name_table().ravel().take(coarse[..., 0] << 10 | coarse[..., 1] << 5 | coarse[..., 2]))


def find_regions(lab: FloatArray, names: IntArray, surface: Surface) -> list[Region]:
    """Part an image's foreground into objects.

    Args:
        lab: (H, W, 3) Lab colours at the working resolution.
        names: (H, W) its ``colour_names``.
        surface: the background.

    Returns:
        Regions in reading order of their first pixels.
    """
    deviation = surface.deviation(lab)
    foreground = (deviation > STANDS_OUT).astype(np.uint8)
    chroma = np.hypot(lab[..., 1], lab[..., 2])
    hued = (foreground > 0) & (chroma > SATURATED) & _CHROMATIC[names]
    count, labels, stats, _ = cv2.connectedComponentsWithStats(foreground, connectivity=4)
    regions: list[Region] = []
    for index in range(1, count):
        x, y, w, h, area = stats[index].tolist()
        if area < LEAST_AREA:
            continue
        window = (slice(y, y + h), slice(x, x + w))
        mask = _without_clutter(labels[window] == index, deviation[window])
        others = (labels[window] > 0) & (labels[window] != index)
        mask = _filled(mask, lab[window], others, _around(lab, foreground, (x, y, w, h)))
        cut = x == 0 or y == 0 or x + w == lab.shape[1] or y + h == lab.shape[0]
        regions.extend(_part(mask, lab[window], names[window], hued[window] & mask, Corner(x, y, cut)))
    return regions


def _without_clutter(mask: BoolArray, deviation: FloatArray) -> BoolArray:
    """A component without the faint marks on the background that hang on to it."""
    values = deviation[mask]
    upper = 3 * len(values) // 4
    least = FAINT * float(np.partition(values, upper)[upper])
    if least <= STANDS_OUT:
        return mask
    strong = (mask & (deviation > least)).astype(np.uint8)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(strong, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= LEAST_AREA // 2
    kept[0] = False
    return np.asarray(kept[pieces]) if count > 1 and kept.any() else mask


_CHROMATIC = np.array([name not in ("white", "grey", "black") for name in NAMES])


def _around(lab: FloatArray, foreground: IntArray, box: tuple[int, int, int, int]) -> FloatArray | None:
    """The mean Lab colour of the background on a margin around a component; None if there is none to be seen."""
    x, y, w, h = box
    top, left = max(y - MARGIN, 0), max(x - MARGIN, 0)
    free = foreground[top : y + h + MARGIN, left : x + w + MARGIN] == 0
    free[y - top : y - top + h, x - left : x - left + w] = False
    return lab[top : y + h + MARGIN, left : x + w + MARGIN][free].mean(axis=0) if free.any() else None


def _filled(mask: BoolArray, lab: FloatArray, others: BoolArray, level: FloatArray | None) -> BoolArray:
    """A component with those holes filled that are tiny or do not show the background around it."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    if count <= 2:
        return mask
    pieces = pieces[1:-1, 1:-1]
    filled = mask.copy()
    area = int(mask.sum())
    for index in range(2, count):
        hole = pieces == index
        if others[hole].mean() > HOLE_HOLDS:
            continue
        shows_background = level is not None and np.linalg.norm(lab[hole].mean(axis=0) - level) < HOLE_CONTRAST
        if not shows_background or stats[index, cv2.CC_STAT_AREA] < TINY_HOLE * area:
            filled |= hole
    return filled


def _part(mask: BoolArray, lab: FloatArray, names: IntArray, hued: BoolArray, corner: Corner) -> list[Region]:
    """The regions of one connected component."""
    names = _joined_hues(lab, names, hued)
    hues = _object_hues(names, hued, int(mask.sum()))
    if len(hues) <= 1:
        hue = hues[0] if hues else -1
        return [Region(mask, corner.x, corner.y, hue, hued & (names == hue), corner.cut)]
    markers = np.zeros(mask.shape, dtype=np.uint8)
    for hue in hues:
        seed = (hued & (names == hue)).astype(np.uint8)
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(seed, connectivity=8)
        kept = stats[:, cv2.CC_STAT_AREA] >= LEAST_SEED
        kept[0] = False
        markers[kept[pieces]] = hue + 1
    owners = nearest_marker(markers) if markers.any() else markers
    regions = []
    for hue in hues:
        own = ((owners == hue + 1) & mask).astype(np.uint8)
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
        for piece in range(1, count):
            x, y, w, h, area = stats[piece].tolist()
            window = (slice(y, y + h), slice(x, x + w))
            part = pieces[window] == piece
            seeds = part & (markers[window] == hue + 1)
            if area >= LEAST_AREA and seeds.sum() >= LEAST_SEED:
                regions.append(Region(part, corner.x + x, corner.y + y, hue, seeds, True))
    return regions


def _object_hues(names: IntArray, hued: BoolArray, area: int) -> list[int]:
    """The hues that a component's objects are named by: the commonest, and others that are more than a fringe."""
    counts = np.bincount(names[hued], minlength=len(NAMES))
    least = np.clip(LEAST_HUE_SHARE * area, LEAST_AREA // 2, ENOUGH_HUED)
    strong = np.flatnonzero(counts >= least).tolist()
    commonest = int(counts.argmax())
    return [hue for hue in strong if hue == commonest or _is_compact(hued & (names == hue))]


def _is_compact(pixels: BoolArray) -> bool:
    """Whether some pixels are more than a fringe: a few have all four neighbours among them."""
    inner = cv2.erode(np.pad(pixels, 1).astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)))
    return int(inner.sum()) >= COMPACT


def _joined_hues(lab: FloatArray, names: IntArray, hued: BoolArray) -> IntArray:
    """Names with those of nearly one hue angle made one, the commonest: a shade is often named like another colour."""
    counts = np.bincount(names[hued], minlength=len(NAMES))
    order = [int(name) for name in np.argsort(-counts, kind="stable") if counts[name] > 0]
    means = {name: lab[hued & (names == name)][:, 1:].mean(axis=0) for name in order}
    angles = {name: float(np.degrees(np.arctan2(mean[1], mean[0]))) for name, mean in means.items()}
    table = np.arange(len(NAMES), dtype=names.dtype)
    for rank, name in enumerate(order):
        for larger in order[:rank]:
            if table[larger] == larger and abs((angles[name] - angles[larger] + 180) % 360 - 180) < SAME_HUE:
                table[name] = larger
                break
    return np.asarray(table[names])


def nearest_marker(markers: IntArray) -> IntArray:
    """Each pixel's nearest marker: (H, W) of values above 0, from an image that is 0 where there is none."""
    free = (markers == 0).astype(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(free, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    table = np.zeros(int(nearest.max()) + 1, dtype=markers.dtype)
    table[nearest[free == 0]] = markers[free == 0]
    return np.asarray(table[nearest])
