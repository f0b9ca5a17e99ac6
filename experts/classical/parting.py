"""Parting what touches and joining what is cut in two: hypotheses of regions, judged by the bank of silhouettes.

Objects of one hue that touch come as one region. The dark lines inside of it cut it into pieces; each way of dealing
the pieces to two objects is tried, and kept if the halves look more like something known than the whole does. The other
way round, two regions of one hue with another object between them are joined if as one they look like something known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from visenv.experts.classical.regions import LEAST_AREA, Region, nearest_marker
from visenv.experts.classical.shape import Banks, correlate, polar_map
from visenv.types import BoolArray, FloatArray, IntArray

RECOGNISED = 0.93
"""Correlation from which a region is left as it is."""
PLAIN = 0.975
"""Correlation with a whole drawing from which nothing of a region is thought to be hidden."""
GAIN = 0.03
"""Least gain in correlation that parting or joining must bring."""
JOINED = 0.9
"""Least correlation of joined regions."""
PARTABLE = 120
"""Working pixels below which a region is not parted."""
PIECES = 5
"""The most pieces that are dealt to two objects; smaller ones go with their neighbours."""
LINE_DEPTH = 0.22
"""Depth of a dark line, as a share of the region's lightness."""


@dataclass(frozen=True, eq=False)
class Judged:
    """A region and how well it fits each kind of the bank."""

    region: Region
    scores: FloatArray
    """(K,) correlations."""

    @property
    def best(self) -> float:
        """The highest correlation."""
        return float(self.scores.max())


def judge(regions: Sequence[Region], banks: Banks) -> list[Judged]:
    """Compare regions with the banks: with whole drawings, and also with cut ones where one may be partly hidden."""
    if not regions:
        return []
    maps = np.stack([polar_map(region.mask) for region in regions])
    scores = correlate(maps, banks.whole)
    hidden = np.array([region.touches for region in regions]) & (scores.max(axis=1) < PLAIN)
    if hidden.any():
        scores[hidden] = np.maximum(scores[hidden], correlate(maps[hidden], banks.cut))
    return [Judged(region, row) for region, row in zip(regions, scores, strict=True)]


def part_and_join(regions: Sequence[Region], lab: FloatArray, banks: Banks) -> list[Judged]:
    """The regions, parted and joined where that makes them look more like known things.

    Args:
        regions: as found.
        lab: (H, W, 3) Lab colours of the image at the working resolution.
        banks: known silhouettes.
    """
    judged = _join(judge(regions, banks), banks)
    result: list[Judged] = []
    for each in judged:
        result.extend(_part(each, lab, banks, depth=2))
    return result


def _part(whole: Judged, lab: FloatArray, banks: Banks, depth: int) -> list[Judged]:
    region = whole.region
    if depth == 0 or whole.best >= RECOGNISED or region.hue < 0 or int(region.mask.sum()) < PARTABLE:
        return [whole]
    h, w = region.mask.shape
    owners, count = _pieces(region, lab[region.y : region.y + h, region.x : region.x + w, 0])
    if count < 2:
        return [whole]
    halves = [_crop(region, side) for side in _sides(owners, count)]
    scored = judge([half for half in halves if half is not None], banks)
    by_side = iter(scored)
    found = [None if half is None else next(by_side) for half in halves]
    best, choice = whole.best + GAIN, None
    for first, second in zip(found[0::2], found[1::2], strict=True):
        if first is None or second is None:
            continue
        areas = np.array([first.region.mask.sum(), second.region.mask.sum()], dtype=float)
        mean = float(areas @ [first.best, second.best] / areas.sum())
        if mean > best:
            best, choice = mean, (first, second)
    if choice is None:
        return [whole]
    return [part for half in choice for part in _part(half, lab, banks, depth - 1)]


def _pieces(region: Region, lightness: FloatArray) -> tuple[IntArray, int]:
    """The piece, from 1, that each pixel of a region belongs to, and how many there are."""
    level = float(np.median(lightness[region.hued]))
    inside = np.where(region.mask, lightness, level).astype(np.float32)
    valleys = cv2.morphologyEx(inside, cv2.MORPH_BLACKHAT, np.ones((5, 5), np.uint8)) > LINE_DEPTH * level
    _, pieces, stats, _ = cv2.connectedComponentsWithStats((region.hued & ~valleys).astype(np.uint8), connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    order = np.argsort(-areas, kind="stable")[:PIECES]
    kept = order[areas[order] >= LEAST_AREA // 2] + 1
    if len(kept) < 2:
        return np.zeros(region.mask.shape, dtype=np.int64), len(kept)
    table = np.zeros(len(stats), dtype=np.uint8)
    table[kept] = np.arange(1, len(kept) + 1)
    return np.where(region.mask, nearest_marker(table[pieces]), 0), len(kept)


def _sides(owners: IntArray, count: int) -> list[BoolArray]:
    """Every way to deal the pieces to two connected sides: the two sides of each, one after the other, as masks."""
    touching = np.zeros((count + 1, count + 1), dtype=bool)
    for a, b in ((owners[:, 1:], owners[:, :-1]), (owners[1:], owners[:-1])):
        touching[a, b] = touching[b, a] = True
    sides = []
    for size in range(count - 1):
        for extra in combinations(range(2, count + 1), size):
            group = (1, *extra)
            rest = tuple(piece for piece in range(2, count + 1) if piece not in extra)
            if _connected(group, touching) and _connected(rest, touching):
                sides += [np.isin(owners, group), np.isin(owners, rest)]
    return sides


def _connected(group: Sequence[int], touching: BoolArray) -> bool:
    reached, frontier = {group[0]}, [group[0]]
    while frontier:
        piece = frontier.pop()
        for other in group:
            if other not in reached and touching[piece, other]:
                reached.add(other)
                frontier.append(other)
    return len(reached) == len(group)


def _crop(region: Region, side: BoolArray) -> Region | None:
    """A side of a region as a region; None if it is only a speck."""
    ys, xs = np.flatnonzero(side.any(axis=1)), np.flatnonzero(side.any(axis=0))
    if int(side.sum()) < LEAST_AREA:
        return None
    window = (slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1))
    hued = region.hued[window] & side[window]
    return Region(side[window], region.x + int(xs[0]), region.y + int(ys[0]), region.hue, hued, True)


def _join(judged: list[Judged], banks: Banks) -> list[Judged]:
    """Join regions of one hue that are cut apart by something between them."""
    weak = [index for index, each in enumerate(judged) if each.region.touches and each.best < RECOGNISED]
    pairs = [(a, b) for a, b in combinations(weak, 2) if _may_join(judged[a].region, judged[b].region)][:24]
    unions = judge([_union(judged[a].region, judged[b].region) for a, b in pairs], banks)
    taken: set[int] = set()
    joined: list[Judged] = []
    for index in np.argsort([-union.best for union in unions], kind="stable"):
        (a, b), union = pairs[index], unions[index]
        apart = max(judged[a].best, judged[b].best)
        if union.best >= max(JOINED, apart + GAIN) and not taken & {a, b}:
            taken |= {a, b}
            joined.append(union)
    return [each for index, each in enumerate(judged) if index not in taken] + joined


def _may_join(a: Region, b: Region) -> bool:
    """Whether two regions have one hue and lie within the longer side of the larger one."""
    if a.hue != b.hue or a.hue < 0:
        return False
    (ah, aw), (bh, bw) = a.mask.shape, b.mask.shape
    gap_x = max(a.x - b.x - bw, b.x - a.x - aw, 0)
    gap_y = max(a.y - b.y - bh, b.y - a.y - ah, 0)
    return max(gap_x, gap_y) < 0.6 * max(ah, aw, bh, bw)


def _union(a: Region, b: Region) -> Region:
    x, y = min(a.x, b.x), min(a.y, b.y)
    width = max(a.x + a.mask.shape[1], b.x + b.mask.shape[1]) - x
    height = max(a.y + a.mask.shape[0], b.y + b.mask.shape[0]) - y
    mask, hued = np.zeros((2, height, width), dtype=bool)
    for region in (a, b):
        h, w = region.mask.shape
        window = (slice(region.y - y, region.y - y + h), slice(region.x - x, region.x - x + w))
        mask[window] |= region.mask
        hued[window] |= region.hued
    return Region(mask, x, y, a.hue, hued, True)
