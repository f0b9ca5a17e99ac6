"""From foreground pixels to one region an object: connected components, parted by hue."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from visenv.experts.classical.colour import CHROMATIC, NAMES, name_probabilities, squared_chroma, to_lab
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

NO_HUE = len(NAMES)
"""Stands for a pixel without a hue where hues are named."""


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
    index = np.asarray(cv2.transform((pixels >> 3).astype(np.uint16), _PLACES), dtype=np.uint16)
    return np.asarray(_name_table().ravel().take(index))


_PLACES = np.array([[1 << 10, 1 << 5, 1]], dtype=np.float32)


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
    foreground = deviation > STANDS_OUT
    hued = foreground & (squared_chroma(lab) > SATURATED**2) & (names < CHROMATIC)
    hues = _where(hued, names)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(foreground.view(np.uint8), connectivity=4)
    regions: list[Region] = []
    for index in (1 + np.flatnonzero(stats[1:count, cv2.CC_STAT_AREA] >= LEAST_AREA)).tolist():
        x, y, w, h, _ = stats[index].tolist()
        window = (slice(y, y + h), slice(x, x + w))
        own = labels[window] == index
        mask = _filled(_without_clutter(own, deviation[window]), own, lab, foreground, (x, y))
        cut = x == 0 or y == 0 or x + w == lab.shape[1] or y + h == lab.shape[0]
        regions.extend(_part(mask, lab[window], hues[window], Corner(x, y, cut)))
    return regions


def _where(mask: BoolArray, hues: IntArray) -> IntArray:
    """The hues of a mask's pixels, and ``NO_HUE`` elsewhere."""
    result = np.full(hues.shape, NO_HUE, dtype=np.uint8)
    np.copyto(result, hues, where=mask)
    return result


def _without_clutter(mask: BoolArray, deviation: FloatArray) -> BoolArray:
    """A component without the faint marks on the background that hang on to it."""
    values = deviation[mask]
    upper = 3 * len(values) // 4
    values.partition(upper)
    least = FAINT * float(values[upper])
    if least <= STANDS_OUT:
        return mask
    strong = (mask & (deviation > least)).view(np.uint8)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(strong, connectivity=8)
    kept = stats[:, cv2.CC_STAT_AREA] >= LEAST_AREA // 2
    kept[0] = False
    return kept[pieces] if kept.any() else mask


def _filled(
    mask: BoolArray, component: BoolArray, lab: FloatArray, foreground: BoolArray, corner: tuple[int, int]
) -> BoolArray:
    """A component with those holes filled that are tiny or do not show the background around it.

    Args:
        mask: (h, w) what is kept of the component.
        component: (h, w) all of it.
        lab: (H, W, 3) of the image.
        foreground: (H, W) of the image.
        corner: x and y of the component's box.
    """
    outside = cv2.copyMakeBorder((~mask).view(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=1)
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(outside, connectivity=4)
    if count <= 2:
        return mask
    pieces, sizes = pieces[1:-1, 1:-1], stats[:, cv2.CC_STAT_AREA]
    (x, y), (h, w) = corner, mask.shape
    window = (slice(y, y + h), slice(x, x + w))
    others = np.bincount(pieces[foreground[window] & ~component], minlength=count)
    closed = others <= HOLE_HOLDS * sizes
    closed[:2] = False
    large = closed & (sizes >= TINY_HOLE * np.count_nonzero(mask))
    level = _around(lab, foreground, (x, y, w, h)) if large.any() else None
    if level is not None:
        for index in np.flatnonzero(large).tolist():
            shown = cv2.mean(lab[window], (pieces == index).view(np.uint8))[:3]
            closed[index] = math.dist(shown, level) >= HOLE_CONTRAST
    return mask | closed[pieces]


def _around(lab: FloatArray, foreground: BoolArray, box: tuple[int, int, int, int]) -> Sequence[float] | None:
    """The mean Lab colour of the background on a margin around a component; None if there is none to be seen."""
    x, y, w, h = box
    top, left = max(y - MARGIN, 0), max(x - MARGIN, 0)
    window = (slice(top, y + h + MARGIN), slice(left, x + w + MARGIN))
    free = ~foreground[window]
    free[y - top : y - top + h, x - left : x - left + w] = False
    return cv2.mean(lab[window], free.view(np.uint8))[:3] if free.any() else None


def _part(mask: BoolArray, lab: FloatArray, hues: IntArray, corner: Corner) -> list[Region]:
    """The regions of one connected component.

    Args:
        mask: (h, w) of the component.
        lab: (h, w, 3) of its box.
        hues: (h, w) names of the pixels that have a hue, elsewhere ``NO_HUE``.
        corner: where the box lies.
    """
    hues, counts = _joined_hues(lab, _where(mask, hues))
    named = _object_hues(hues, counts, int(np.count_nonzero(mask)))
    if len(named) <= 1:
        hue = named[0] if named else -1
        return [Region(mask, corner.x, corner.y, hue, hues == hue, corner.cut)]
    markers = np.zeros(mask.shape, dtype=np.uint8)
    for hue in named:
        _, pieces, stats, _ = cv2.connectedComponentsWithStats((hues == hue).view(np.uint8), connectivity=8)
        kept = stats[:, cv2.CC_STAT_AREA] >= LEAST_SEED
        kept[0] = False
        markers[kept[pieces]] = hue + 1
    owners = nearest_marker(markers) if markers.any() else markers
    regions = []
    for hue in named:
        own = ((owners == hue + 1) & mask).view(np.uint8)
        count, pieces, stats, _ = cv2.connectedComponentsWithStats(own, connectivity=8)
        for piece in range(1, count):
            x, y, w, h, area = stats[piece].tolist()
            window = (slice(y, y + h), slice(x, x + w))
            part = pieces[window] == piece
            seeds = part & (markers[window] == hue + 1)
            if area >= LEAST_AREA and np.count_nonzero(seeds) >= LEAST_SEED:
                regions.append(Region(part, corner.x + x, corner.y + y, hue, seeds, True))
    return regions


def _object_hues(hues: IntArray, counts: IntArray, area: int) -> list[int]:
    """The hues that a component's objects are named by: the commonest, and others that are more than a fringe."""
    least = min(max(LEAST_HUE_SHARE * area, LEAST_AREA // 2), ENOUGH_HUED)
    commonest = int(counts.argmax())
    return [hue for hue in np.flatnonzero(counts >= least).tolist() if hue == commonest or _is_compact(hues == hue)]


def _is_compact(pixels: BoolArray) -> bool:
    """Whether some pixels are more than a fringe: a few have all four neighbours among them."""
    inner = cv2.erode(pixels.view(np.uint8), _CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return cv2.countNonZero(inner) >= COMPACT


_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))


def _joined_hues(lab: FloatArray, hues: IntArray) -> tuple[IntArray, IntArray]:
    """Hues with those of nearly one angle made one, the commonest: a shade is often named like another colour.

    Args:
        lab: (h, w, 3) Lab colours.
        hues: (h, w) names, ``NO_HUE`` where there is none.

    Returns:
        The joined hues, and (12,) how often each occurs.
    """
    counts = np.bincount(hues.ravel(), minlength=NO_HUE + 1)[:NO_HUE]
    order = [name for name in np.argsort(-counts, kind="stable").tolist() if counts[name] > 0]
    if len(order) <= 1:
        return hues, counts
    angles = []
    for name in order:
        _, a, b, _ = cv2.mean(lab, (hues == name).view(np.uint8))
        angles.append(math.degrees(math.atan2(b, a)))
    table = np.arange(NO_HUE + 1, dtype=np.uint8)
    for rank, name in enumerate(order):
        for larger, angle in zip(order[:rank], angles, strict=False):
            if table[larger] == larger and abs((angles[rank] - angle + 180) % 360 - 180) < SAME_HUE:
                table[name] = larger
                counts[larger] += counts[name]
                counts[name] = 0
                break
    return table[hues], counts


def nearest_marker(markers: IntArray) -> IntArray:
    """Each pixel's nearest marker: (H, W) of values above 0, from an image that is 0 where there is none."""
    free = markers == 0
    _, nearest = cv2.distanceTransformWithLabels(free.view(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    found = ~free
    table = np.zeros(int(nearest.max()) + 1, dtype=markers.dtype)
    table[nearest[found]] = markers[found]
    return np.asarray(table[nearest])
