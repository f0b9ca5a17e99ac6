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
FAINT = 0.16
"""Share of a component's upper quartile of deviation below which a pixel of it is a mark on the background."""
TINY_HOLE = 0.025
"""Share of a component below which a hole is ink or shine that looks like the background."""
HOLE_CONTRAST = 6.0
"""Lab distance from the surroundings from which a hole is no hole."""
HOLE_HOLDS = 0.1
"""Share of a hole that something else may cover before it counts as open: then something lies in it."""
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
        mask = _filled(mask, lab[window], foreground[window] > 0)
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


def _filled(mask: BoolArray, lab: FloatArray, foreground: BoolArray) -> BoolArray:
    """A component with those holes filled that are tiny or do not show the background around it."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    if count <= 2:
        return mask
    pieces = pieces[1:-1, 1:-1]
    around = pieces == 1
    level = lab[around].mean(axis=0) if around.any() else None
    filled = mask.copy()
    area = int(mask.sum())
    for index in range(2, count):
        hole = pieces == index
        if foreground[hole].mean() > HOLE_HOLDS:
            continue
        shows_background = level is not None and np.linalg.norm(lab[hole].mean(axis=0) - level) < HOLE_CONTRAST
        if not shows_background or stats[index, cv2.CC_STAT_AREA] < TINY_HOLE * area:
            filled |= hole
    return filled


def _part(mask: BoolArray, lab: FloatArray, names: IntArray, hued: BoolArray, corner: Corner) -> list[Region]:
    """The regions of one connected component."""
    area = int(mask.sum())
    names = _joined_hues(lab, names, hued)
    counts = np.bincount(names[hued], minlength=len(NAMES))
    least = np.clip(LEAST_HUE_SHARE * area, LEAST_AREA // 2, ENOUGH_HUED)
    strong = np.flatnonzero(counts >= least)
    if len(strong) <= 1:
        hue = int(strong[0]) if len(strong) else -1
        return [Region(mask, corner.x, corner.y, hue, hued & (names == hue), corner.cut)]
    markers = np.zeros(mask.shape, dtype=np.uint8)
    for hue in strong:
        seed = (hued & (names == hue)).astype(np.uint8)
        _, pieces, stats, _ = cv2.connectedComponentsWithStats(seed, connectivity=8)
        kept = stats[:, cv2.CC_STAT_AREA] >= 6
        kept[0] = False
        markers[kept[pieces]] = hue + 1
    present = np.unique(markers[markers > 0])
    if len(present) == 0:
        return [Region(mask, corner.x, corner.y, -1, np.zeros_like(mask), corner.cut)]
    owner = nearest_marker(markers)
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
                regions.append(Region(part, corner.x + px, corner.y + py, int(value) - 1, seeds, True))
    return regions


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
