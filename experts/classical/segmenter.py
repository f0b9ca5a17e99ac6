"""From prompts to masks: three candidates for each point or box, as an interactive segmenter gives them.

Where the background model explains the image, the object under the prompt is a region that stands out from it. Where it
does not, as on most photographs, the object is cut out by GrabCut, seeded with the colour region that grows from the
prompt. The candidates are a *part* (what has the colour under the prompt), the *whole*, and the whole with a *smooth*
outline.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from visenv.capabilities import Candidates, Prompt
from visenv.experts.classical.colour import to_lab
from visenv.experts.classical.grabcut import CUT_SIDE, cut_out, grow
from visenv.experts.classical.perception import Perception
from visenv.masks import Masks
from visenv.types import BoolArray, FloatArray, IntArray, Pixels

EXPLAINED = 0.65
"""Share of the image that the background model must explain to be relied on."""
RECOGNISED = 0.2
"""Share of the foreground that must be recognised for all its regions to be relied on…"""
KNOWN = 0.6
"""…or the probability of being something known that is enough for one region."""
REACH = 0.03
"""Distance from a region, in long sides of the image, up to which a point beside it still means it."""
CORE = 0.05
"""Radius around a point that is likely of its object, in long sides of the photograph."""
PART_TOLERANCE = 14.0
"""Lab distance within which a part's pixels agree with the pixel under the prompt."""
BOX_OVERLAP = 0.4
"""Least IoU of a region's box with a box prompt that means it."""


@dataclass(frozen=True, eq=False)
class _Scene:
    """An image and what is perceived in it."""

    pixels: Pixels
    perception: Perception

    @cached_property
    def scale(self) -> float:
        height, width = self.pixels.shape[:2]
        return min(1.0, CUT_SIDE / max(height, width))

    @cached_property
    def small(self) -> Pixels:
        """The image at the resolution of cutting, with texture flattened."""
        height, width = self.pixels.shape[:2]
        size = (max(1, round(width * self.scale)), max(1, round(height * self.scale)))
        reduced = cv2.resize(np.ascontiguousarray(self.pixels), size, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.bilateralFilter(reduced, 5, 30, 3))

    @cached_property
    def lab(self) -> FloatArray:
        return to_lab(self.small)


def segment(pixels: Pixels, perception: Perception, prompts: tuple[Prompt, ...]) -> Candidates:
    """Three masks for each prompt.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        perception: what is perceived in it.
        prompts: points, boxes or both; points outside of the image count as the nearest pixel. A prompt with neither a
            positive point nor a usable box gets empty masks with score 0.

    Returns:
        For each prompt part, whole and smooth, in this order, with scores in [0, 1].
    """
    scene = _Scene(pixels, perception)
    found = [_candidates(scene, prompt.located) for prompt in prompts]
    return Candidates(tuple(masks for masks, _ in found), tuple(scores for _, scores in found))


def _candidates(scene: _Scene, prompt: Prompt) -> tuple[Masks, FloatArray]:
    height, width = scene.pixels.shape[:2]
    inside, outside = _points(prompt, width, height)
    box = _box(prompt, width, height)
    if box is None and len(inside) == 0:
        return Masks.from_crops([np.zeros((1, 1), bool)] * 3, np.zeros((3, 2), int), (height, width)), np.zeros(3)
    region = _region(scene.perception, inside, outside, box)
    if region is not None and _is_understood(scene.perception, region):
        return _from_region(scene, region, inside, outside)
    return _from_photograph(scene, inside, outside, box)


def _is_understood(perception: Perception, region: int) -> bool:
    """Whether a region can be relied on: the background fits, and this or much else before it is recognised."""
    recognised = perception.recognised > RECOGNISED or perception.percepts[region].known > KNOWN
    return perception.surface.explained > EXPLAINED and recognised


def _points(prompt: Prompt, width: int, height: int) -> tuple[IntArray, IntArray]:
    """Positive and negative points as pixels (K, 2) xy; ones that are not finite are dropped."""
    points = np.asarray(prompt.points, dtype=np.float64).reshape(-1, 2)
    labels = np.ones(len(points)) if prompt.labels is None else np.asarray(prompt.labels).reshape(-1)
    finite = np.isfinite(points).all(axis=1)
    pixels = np.clip(np.floor(points[finite]), 0, [width - 1, height - 1]).astype(np.int64)
    return pixels[labels[finite] > 0], pixels[labels[finite] <= 0]


def _box(prompt: Prompt, width: int, height: int) -> tuple[int, int, int, int] | None:
    """The box in whole pixels of the image; None if there is none or nothing of it lies in the image."""
    if prompt.box is None:
        return None
    sides = np.asarray(prompt.box, dtype=np.float64).reshape(-1)
    if len(sides) != 4 or not np.isfinite(sides).all():
        return None
    x0, y0 = np.clip(np.floor(sides[:2]), 0, [width, height]).astype(int)
    x1, y1 = np.clip(np.ceil(sides[2:]), 0, [width, height]).astype(int)
    return (int(x0), int(y0), int(x1), int(y1)) if x1 > x0 and y1 > y0 else None


# --- on a background that is understood ---------------------------------------------------------------------------


def _region(
    perception: Perception, inside: IntArray, outside: IntArray, box: tuple[int, int, int, int] | None
) -> int | None:
    """The percept that a prompt means: the smallest under its points, the nearest to them, or the best fit of a box."""
    masks = perception.masks
    if len(masks) == 0:
        return None
    if box is not None:
        window = Masks.from_boxes(np.array([box], dtype=np.float64), masks.shape)
        boxes = Masks.from_boxes(masks.boxes, masks.shape)
        overlaps = boxes.iou(window)[:, 0]
        for x, y in inside:
            overlaps *= _distances(masks, int(x), int(y)) == 0
        best = int(np.argmax(overlaps))
        return best if overlaps[best] >= BOX_OVERLAP else None
    distances = np.sum([_distances(masks, int(x), int(y)) for x, y in inside], axis=0)
    for x, y in outside:
        distances = np.where(_distances(masks, int(x), int(y)) == 0, distances + max(masks.shape), distances)
    best = int(np.lexsort((masks.areas, distances))[0])
    return best if distances[best] <= REACH * max(masks.shape) * len(inside) else None


def _distances(masks: Masks, x: int, y: int) -> FloatArray:
    """Distance of a pixel from each mask, 0 inside of it: exact near a mask's box, a lower bound far from it."""
    boxes = masks.boxes
    dx = np.maximum(np.maximum(boxes[:, 0] - x, x - (boxes[:, 2] - 1)), 0)
    dy = np.maximum(np.maximum(boxes[:, 1] - y, y - (boxes[:, 3] - 1)), 0)
    distances = np.hypot(dx, dy)
    for index in np.flatnonzero(distances <= REACH * max(masks.shape)):
        ys, xs = np.nonzero(masks.crops[index])
        ox, oy = masks.offsets[index]
        distances[index] = np.sqrt(((xs + ox - x) ** 2 + (ys + oy - y) ** 2).min())
    return np.asarray(distances)


def _from_region(scene: _Scene, index: int, inside: IntArray, outside: IntArray) -> tuple[Masks, FloatArray]:
    masks, percept = scene.perception.masks, scene.perception.percepts[index]
    whole = np.asarray(masks.crops[index])
    ox, oy = (int(value) for value in masks.offsets[index])
    h, w = whole.shape
    lab = to_lab(np.ascontiguousarray(scene.pixels[oy : oy + h, ox : ox + w]))
    part = np.zeros_like(whole)
    seeds = [(int(x) - ox, int(y) - oy) for x, y in inside] or [_deepest(whole)]
    for x, y in seeds:
        part |= _part(lab, whole, min(max(x, 0), w - 1), min(max(y, 0), h - 1))
    for x, y in outside:
        if ox <= x < ox + w and oy <= y < oy + h and not part[y - oy, x - ox]:
            apart = _part(lab, whole, int(x) - ox, int(y) - oy) & ~part
            whole = whole & ~apart
    smooth = _smooth(whole)
    known = percept.known
    share = float(part.sum() / max(whole.sum(), 1))
    return _result(
        [part, whole, smooth],
        (ox, oy),
        masks.shape,
        [0.55 + 0.3 * (1 - share) * (1 - known), 0.6 + 0.35 * known, 0.55 + 0.35 * known],
    )


def _part(lab: FloatArray, whole: BoolArray, x: int, y: int) -> BoolArray:
    """The connected pixels of an object that agree with a pixel of it, its fringe included."""
    if not whole[y, x]:
        ys, xs = np.nonzero(whole)
        nearest = int(np.argmin((xs - x) ** 2 + (ys - y) ** 2))
        x, y = int(xs[nearest]), int(ys[nearest])
    patch = lab[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].reshape(-1, 3)
    agree = np.sqrt((((lab - np.median(patch, axis=0)) * [0.6, 1, 1]) ** 2).sum(axis=2)) < PART_TOLERANCE
    agree &= whole
    agree[y, x] = True
    _, labels = cv2.connectedComponents(agree.astype(np.uint8), connectivity=4)
    return np.asarray(labels == labels[y, x])


# --- on photographs -----------------------------------------------------------------------------------------------


def _from_photograph(
    scene: _Scene, inside: IntArray, outside: IntArray, box: tuple[int, int, int, int] | None
) -> tuple[Masks, FloatArray]:
    height, width = scene.small.shape[:2]
    at = _to_small(scene, inside)
    trimap = np.full((height, width), cv2.GC_PR_BGD, dtype=np.uint8)
    part = np.zeros((height, width), dtype=bool)
    if box is not None:
        x0, y0, x1, y1 = _small_box(scene, box)
        trimap[:] = cv2.GC_BGD
        trimap[y0:y1, x0:x1] = cv2.GC_PR_FGD
        seeds = at if len(at) else np.array([[(x0 + x1) // 2, (y0 + y1) // 2]])
    else:
        seeds = at
        for x, y in seeds:
            cv2.circle(trimap, (int(x), int(y)), max(1, round(CORE * max(height, width))), cv2.GC_PR_FGD, -1)
        trimap[_grown(scene.lab, seeds)] = cv2.GC_PR_FGD
    for x, y in seeds:
        part |= grow(scene.lab, int(x), int(y), 5.0)
    for x, y in at:
        cv2.circle(trimap, (int(x), int(y)), 2, cv2.GC_FGD, -1)
    for x, y in _to_small(scene, outside):
        cv2.circle(trimap, (int(x), int(y)), 2, cv2.GC_BGD, -1)
    whole = _under(cut_out(scene.small, trimap), seeds)
    barred = trimap == cv2.GC_BGD
    part &= ~barred
    smooth = _smooth(whole) & ~barred
    contrast = _contrast(scene.lab, whole)
    masks = [_enlarge(mask, scene) for mask in (part, whole, smooth)]
    scores = [0.35 + 0.4 * _contrast(scene.lab, part), 0.45 + 0.45 * contrast, 0.4 + 0.45 * contrast]
    return _result(masks, (0, 0), scene.perception.masks.shape, scores)


def _grown(lab: FloatArray, seeds: IntArray) -> BoolArray:
    """The colour region of the seeds, grown until it would take most of the image."""
    region = np.zeros(lab.shape[:2], dtype=bool)
    for x, y in seeds:
        for tolerance in (4.0, 7.0, 10.0, 14.0, 18.0):
            wider = grow(lab, int(x), int(y), tolerance)
            if tolerance > 4.0 and wider.mean() > 0.35:
                break
            grown = wider
        region |= grown
    return region


def _under(mask: BoolArray, seeds: IntArray) -> BoolArray:
    """The connected components of a mask that hold a seed, or the mask if none does, without pinholes."""
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    held = np.unique(labels[seeds[:, 1], seeds[:, 0]])
    held = held[held > 0]
    kept = np.isin(labels, held) if len(held) else mask
    return np.asarray(cv2.morphologyEx(kept.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)) > 0)


def _contrast(lab: FloatArray, mask: BoolArray) -> float:
    """How much colour changes across a mask's outline, from 0 to 1 at 30 Lab units."""
    small = mask.astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    inner = mask & ~(cv2.erode(small, kernel, borderValue=1) > 0)
    outer = ~mask & (cv2.dilate(small, kernel) > 0)
    if not inner.any() or not outer.any():
        return 0.0
    local_in = cv2.boxFilter(np.where(mask[..., None], lab, 0).astype(np.float32), -1, (5, 5))
    share = cv2.boxFilter(mask.astype(np.float32), -1, (5, 5))[..., None]
    local = cv2.boxFilter(lab.astype(np.float32), -1, (5, 5))
    outline = inner | outer
    difference = local_in / np.maximum(share, 1e-3) - (local - local_in) / np.maximum(1 - share, 1e-3)
    return float(np.clip(np.linalg.norm(difference[outline], axis=-1).mean() / 30, 0, 1))


def _to_small(scene: _Scene, points: IntArray) -> IntArray:
    height, width = scene.small.shape[:2]
    scaled = np.floor((np.asarray(points).reshape(-1, 2) + 0.5) * scene.scale).astype(np.int64)
    return np.clip(scaled, 0, [width - 1, height - 1])


def _small_box(scene: _Scene, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    height, width = scene.small.shape[:2]
    x0, y0 = min(int(box[0] * scene.scale), width - 1), min(int(box[1] * scene.scale), height - 1)
    x1, y1 = max(int(np.ceil(box[2] * scene.scale)), x0 + 1), max(int(np.ceil(box[3] * scene.scale)), y0 + 1)
    return x0, y0, min(x1, width), min(y1, height)


def _enlarge(mask: BoolArray, scene: _Scene) -> BoolArray:
    height, width = scene.pixels.shape[:2]
    if mask.shape == (height, width):
        return mask
    return np.asarray(cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR) > 0.5)


# --- either way ---------------------------------------------------------------------------------------------------


def _deepest(mask: BoolArray) -> tuple[int, int]:
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return int(x) - 1, int(y) - 1


def _smooth(mask: BoolArray) -> BoolArray:
    """A mask with its holes filled and its outline smoothed by a Gaussian of 4 % of its size."""
    if not mask.any():
        return mask
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, dtype=np.uint8)
    cv2.drawContours(filled, outlines, -1, 1, -1)
    sigma = max(0.04 * float(np.sqrt(mask.sum())), 0.8)
    soft = cv2.GaussianBlur(filled.astype(np.float32), (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(soft > 0.5) if (soft > 0.5).any() else mask


def _result(
    crops: list[BoolArray], offset: tuple[int, int], shape: tuple[int, int], scores: list[float]
) -> tuple[Masks, FloatArray]:
    masks = Masks.from_crops(crops, np.array([offset] * len(crops), dtype=np.int64), shape)
    return masks, np.clip(np.where(masks.areas > 0, scores, 0.0), 0.0, 1.0)
