"""Everything the classical experts see in one image: objects with what they may be, and the background behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from visenv.capabilities import View
from visenv.errors import InvalidData
from visenv.experts.classical.colour import NAMES, to_lab
from visenv.experts.classical.foreground import WORKING_SIDE, Surface, fit_background, working_size
from visenv.experts.classical.parting import Judged, part_and_join
from visenv.experts.classical.pattern import pattern_probabilities
from visenv.experts.classical.regions import Region, colour_names, find_regions
from visenv.experts.classical.shape import load_banks
from visenv.masks import Masks
from visenv.types import BoolArray, IntArray, Pixels

LEAST_SIDE = 10
"""Working pixels of the longer side of a box below which an object is not recognised."""
SHARPNESS = {"alone": 70.0, "touching": 75.0}
"""How fast the probability of a kind falls with its correlation; near the fit to 1,176 regions of scenes."""
HALF_BELIEVED = {"alone": 0.905, "touching": 0.925}
"""The correlation at which a silhouette is as likely to be a known kind as to be something else; fitted likewise."""
DETAIL = 2
"""Working pixels for each pixel of the root, with which an enlargement is looked at, at most: more show nothing new."""
VIEW_BYTES, PERCEPT_BYTES = 2_000, 1_400
"""What a perception and each percept in it take in memory besides the pixels of masks, as measured."""
MEMORY_BYTES = 64_000_000
"""What is remembered unless told otherwise: some 1,800 views of 256 x 256 pixels."""


@dataclass(frozen=True, eq=False)
class Percept:
    """One object as it is perceived, in the frame of its view."""

    box: tuple[float, float, float, float]
    """xyxy pixels, half-open."""
    area: float
    """Pixels of its mask."""
    kinds: dict[str, float]
    """Probability of each known kind; what is missing to 1 is the probability of none of them."""
    colours: dict[str, float]
    """Probability of each colour name."""
    patterns: dict[str, float]
    """Probability of each pattern."""
    alone: bool = True
    """Whether it touches neither another percept nor the image's border."""

    @property
    def known(self) -> float:
        """Probability that it is of any known kind."""
        return min(sum(self.kinds.values()), 1.0)


@dataclass(frozen=True, eq=False)
class Perception:
    """All that is perceived in one view."""

    percepts: tuple[Percept, ...]
    """Recognised or not, in reading order."""
    masks: Masks
    """One a percept, over the view's frame."""
    surface: Surface
    """The background."""

    @property
    def recognised(self) -> float:
        """Share of the foreground that stands alone and is likely something known, in [0, 1]; 0 without foreground."""
        areas = np.array([percept.area for percept in self.percepts])
        known = np.array([percept.alone and percept.known > 0.5 for percept in self.percepts])
        return float(areas[known].sum() / areas.sum()) if len(areas) else 0.0

    @cached_property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        return VIEW_BYTES + PERCEPT_BYTES * len(self.percepts) + sum(crop.nbytes for crop in self.masks.crops)


class Perceiver:
    """Perceives views, and remembers the latest perceptions by the views' provenance.

    Copies and pickles start with an empty memory.

    Args:
        memory_bytes: how much of perceptions is remembered, at least 0; the latest one always is.

    Raises:
        InvalidData: if ``memory_bytes`` is negative.
    """

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        if memory_bytes < 0:
            raise InvalidData(f"Expected memory_bytes to be at least 0, but got {memory_bytes}.")
        self.memory_bytes = memory_bytes
        self._memory: dict[tuple[str, int], Perception] = {}
        self._held = 0

    def __reduce__(self) -> tuple[type[Perceiver], tuple[int]]:
        return Perceiver, (self.memory_bytes,)

    def __len__(self) -> int:
        """How many perceptions are remembered."""
        return len(self._memory)

    def __call__(self, view: View) -> Perception:
        """What is seen in a view; equal provenance keys are looked at once while they are remembered."""
        side = working_side(view)
        key = (view.provenance.key, side)
        found = self._memory.pop(key, None)
        if found is None:
            found = perceive(view.pixels, side)
            self._held += found.nbytes
        self._memory[key] = found
        while self._held > self.memory_bytes and len(self._memory) > 1:
            self._held -= self._memory.pop(next(iter(self._memory))).nbytes
        return found


def working_side(view: View) -> int:
    """The working pixels of the longer side that show all there is to be seen in a view.

    Example:
        >>> from visenv.images import Provenance, RootPixels
        >>> pixels = np.zeros((256, 320, 3), np.uint8)
        >>> provenance = Provenance(RootPixels(pixels))
        >>> working_side(View(pixels, provenance)), working_side(View(pixels, provenance, to_root=np.eye(3) / 4))
        (320, 160)
    """
    scale = math.sqrt(abs(np.linalg.det(view.to_root[:2, :2])))
    return min(WORKING_SIDE, max(1, math.ceil(DETAIL * scale * max(view.size)))) if scale < 1 else WORKING_SIDE


def perceive(pixels: Pixels, side: int = WORKING_SIDE) -> Perception:
    """Find and recognise the objects of an image.

    Args:
        pixels: (H, W, 3) uint8 RGB, of any size.
        side: the most that the longer side is looked at with, working pixels.
    """
    height, width = pixels.shape[:2]
    size = working_size(width, height, side)
    small = np.ascontiguousarray(pixels)
    if size != (width, height):
        small = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    lab = to_lab(small)
    surface = fit_background(lab)
    names = colour_names(small)
    regions = find_regions(lab, names, surface)
    banks = load_banks()
    judged = part_and_join(regions, lab, banks)
    regions = [each.region for each in judged]
    kinds = [_kinds(each, banks.whole.names) for each in judged]
    masks = _full_masks(regions, pixels, surface, size)
    percepts = []
    for region, probabilities, box, area in zip(regions, kinds, masks.boxes, masks.areas, strict=True):
        h, w = region.mask.shape
        window = (slice(region.y, region.y + h), slice(region.x, region.x + w))
        percepts.append(
            Percept(
                (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                float(area),
                probabilities,
                _colours(region, names[window]),
                pattern_probabilities(region, lab[window]),
                not region.touches,
            )
        )
    return Perception(tuple(percepts), masks, surface)


def _kinds(judged: Judged, names: tuple[str, ...]) -> dict[str, float]:
    """Probabilities of the kinds of a region; none for what is too small to be recognised."""
    if max(judged.region.mask.shape) < LEAST_SIDE:
        return {}
    how = "touching" if judged.region.touches else "alone"
    weights = np.exp(SHARPNESS[how] * (judged.scores - judged.best))
    nothing = np.exp(SHARPNESS[how] * (HALF_BELIEVED[how] - judged.best))
    probabilities = weights / (weights.sum() + nothing)
    return {names[index]: float(probabilities[index]) for index in np.flatnonzero(probabilities > 0.01)}


def _colours(region: Region, names: IntArray) -> dict[str, float]:
    """Probabilities of colour names: its hue's, or the shares of its pixels if it has no hue."""
    if region.hue >= 0:
        return {NAMES[region.hue]: 1.0}
    counts = np.bincount(names[region.mask], minlength=len(NAMES))
    shares = counts / max(counts.sum(), 1)
    return {NAMES[index]: float(shares[index]) for index in np.flatnonzero(shares > 0.02)}


def _full_masks(regions: list[Region], pixels: Pixels, surface: Surface, size: tuple[int, int]) -> Masks:
    """Masks at the view's own resolution."""
    height, width = pixels.shape[:2]
    if size == (width, height):
        crops = [region.mask for region in regions]
        offsets = np.array([(region.x, region.y) for region in regions], dtype=np.int64).reshape(-1, 2)
        return Masks.from_crops(crops, offsets, (height, width))
    full_crops, full_offsets = [], []
    sx, sy = width / size[0], height / size[1]
    for region in regions:
        h, w = region.mask.shape
        x0, y0 = int(region.x * sx), int(region.y * sy)
        x1, y1 = min(int(np.ceil((region.x + w) * sx)), width), min(int(np.ceil((region.y + h) * sy)), height)
        full_crops.append(_enlarge(region, (x0, y0, x1, y1), (sx, sy)))
        full_offsets.append((x0, y0))
    return Masks.from_crops(full_crops, np.array(full_offsets, dtype=np.int64).reshape(-1, 2), (height, width))


def _enlarge(region: Region, box: tuple[int, int, int, int], scale: tuple[float, float]) -> BoolArray:
    x0, y0, x1, y1 = box
    xs = ((np.arange(x0, x1) + 0.5) / scale[0] - 0.5 - region.x).astype(np.float32)
    ys = ((np.arange(y0, y1) + 0.5) / scale[1] - 0.5 - region.y).astype(np.float32)
    map_x, map_y = np.empty((2, y1 - y0, x1 - x0), dtype=np.float32)
    map_x[:] = xs
    map_y[:] = ys[:, None]
    soft = cv2.remap(region.mask.astype(np.float32), map_x, map_y, cv2.INTER_LINEAR, borderValue=0.0)
    return np.asarray(soft > 0.5)
