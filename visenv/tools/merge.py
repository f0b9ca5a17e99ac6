"""Joining what was found in several images of one root: the rules of ``MergeBoxMask``.

Every step works on tight crops, and only on pairs whose boxes overlap: a full frame is never made. What a pair of
images allows is worked out once for the images (``visenv.tools._borders``), what a pair of detections allows from
their boxes and areas, and pixels are compared only where the answer still depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from visenv.errors import InvalidData
from visenv.geometry import check_transform, clip_boxes, map_boxes
from visenv.masks import Masks
from visenv.tools._borders import border_limits, near_sides, shared_borders
from visenv.tools._pairs import Overlaps, touching_pairs
from visenv.types import Detections, FloatArray, IntArray

_Join: TypeAlias = tuple[float, int, int]
"""Overlap over the smaller area, and the two detections."""
_IDENTITY = np.eye(3).tolist()


@dataclass(frozen=True, eq=False)
class SourceDetections:
    """What was found in one image, and how that image lies in its root.

    Raises:
        InvalidData: if the detections have no masks, or the transform cannot be used.
    """

    name: str
    """Of the image; detections of one image are never joined."""
    detections: Detections
    """With masks over that image's own frame."""
    transform: FloatArray
    """(3, 3) maps pixels of the image to pixels of the root."""
    split: bool
    """Whether the image is a patch, or was made from one."""
    depth: int
    """How many steps lie between the image and its root."""

    def __post_init__(self) -> None:
        if self.detections.masks is None:
            raise InvalidData(
                f"Expected the detections of {self.name!r} to have masks, but got boxes alone: "
                "fill them with `Masks.from_boxes(boxes, size)`."
            )
        object.__setattr__(self, "transform", check_transform(self.transform))

    @property
    def masks(self) -> Masks:
        """The detections' masks, over the image's own frame."""
        assert self.detections.masks is not None
        return self.detections.masks


@dataclass(frozen=True, eq=False)
class _Mapped:
    """Detections of all images, mapped to the root."""

    masks: Masks
    boxes: FloatArray  # (N, 4) xyxy pixels of the root, clipped to it
    source: IntArray  # (N,) which image each was found in
    local: FloatArray  # (N, 4) the mask's tight box, xyxy pixels of that image
    scores: FloatArray  # (N,)
    labels: tuple[str, ...] | None

    def __getitem__(self, chosen: NDArray[np.int64]) -> _Mapped:
        labels = None if self.labels is None else tuple(self.labels[i] for i in chosen.tolist())
        masks, boxes, source = self.masks[chosen], self.boxes[chosen], self.source[chosen]
        return _Mapped(masks, boxes, source, self.local[chosen], self.scores[chosen], labels)

    def touching(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Pairs from different images whose tight boxes overlap; see ``touching_pairs``."""
        return touching_pairs(self.masks.boxes.astype(np.int64), self.source)


def merge_detections(
    sources: Sequence[SourceDetections],
    size: tuple[int, int],
    *,
    iou_threshold: float = 0.8,
    fragment_overlap: float = 0.2,
    edge_margin: float = 0.03,
) -> Detections:
    """Join what was found in several images into the objects of their root.

    1. Boxes and masks are mapped to the root, masks by linear interpolation and above 0.5; what has no area left is
       dropped.
    2. From the deepest image to the shallowest, and there from the largest mask to the smallest, a detection is dropped
       if its mask has an IoU above ``iou_threshold`` with one that was kept from another image.
    3. Two kept detections of different images are fragments of one object if what they have in common is more than
       ``fragment_overlap`` of the smaller, and lies at a border at which a patch cut one of them. The strongest overlap
       is joined first; no object gets two detections of one image.
    4. An object's mask is the union of its members' masks, its box the hull of their boxes, its score the highest of
       theirs, and its label the one they agree on, or else its first member's. Objects come in the order of their first
       members; a member's place is the one it had in step 2.

    Args:
        sources: detections of the images, in the order in which they were named. Ties keep that order; of two with one
            name, the later takes the place of the earlier.
        size: (width, height) of the root, pixels.
        iou_threshold: of step 2, 0 to 1.
        fragment_overlap: of step 3, 0 to 1.
        edge_margin: how far from a border counts as at it, as a share of the patch's side; at least 2 pixels of it.

    Returns:
        Detections in the root's frame; with labels only if every source that found something has them.

    Raises:
        InvalidData: if the size or a threshold is out of range.

    Example:
        >>> left = Detections([[20, 3, 25, 13]], Masks.from_boxes([[20, 3, 25, 13]], (20, 25)))
        >>> right = Detections([[0, 3, 10, 13]], Masks.from_boxes([[0, 3, 10, 13]], (20, 25)))
        >>> sources = [
        ...     SourceDetections("img_0_r1_c1", left, np.eye(3), split=True, depth=1),
        ...     SourceDetections("img_0_r1_c2", right, [[1, 0, 15], [0, 1, 0], [0, 0, 1]], split=True, depth=1),
        ... ]
        >>> merge_detections(sources, (40, 20)).boxes.tolist()
        [[15.0, 3.0, 25.0, 13.0]]

    Source:
        VisHarness (arXiv 2605.29894), tool ``MergeBoxMask``.
    """
    shares = {"iou_threshold": iou_threshold, "fragment_overlap": fragment_overlap, "edge_margin": edge_margin}
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise InvalidData(f"Expected `{name}` to be from 0 to 1, but got {value!r}.")
    width, height = size
    if not sources:
        return Detections(np.zeros((0, 4)), Masks.empty((height, width)))
    images = list({source.name: source for source in sources}.values())
    if len(images) == 1:
        # Detections of one image are never duplicates or fragments of each other.
        return _merged_alone(images[0], size)
    mapped = _mapped_to_root(images, size)
    kept = mapped[_without_duplicates(mapped, iou_threshold)]
    joins = _fragment_joins(kept, images, size, fragment_overlap, edge_margin)
    return _as_detections(kept, _objects(kept.source.tolist(), joins))


def _merged_alone(image: SourceDetections, size: tuple[int, int]) -> Detections:
    chosen, boxes, masks = _in_root(image, size)
    order = np.argsort(-masks.areas, kind="stable")
    scores, labels = _of_chosen(image.detections, chosen[order])
    return Detections(boxes[order], masks[order], scores, labels if len(order) else None)


def _mapped_to_root(images: Sequence[SourceDetections], size: tuple[int, int]) -> _Mapped:
    """All detections that lie in the root, in the order in which they are judged."""
    parts = [_mapped_image(index, image, size) for index, image in enumerate(images)]
    filled = [part for part in parts if len(part.source)]
    whole = filled[0] if len(filled) == 1 else _joined(parts, filled)
    depths = np.array([image.depth for image in images])[whole.source]
    return whole[np.lexsort((-whole.masks.areas, -depths))]


def _joined(parts: list[_Mapped], filled: list[_Mapped]) -> _Mapped:
    labels = [part.labels for part in filled if part.labels is not None]
    return _Mapped(
        Masks.concatenate([part.masks for part in parts]),
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.source for part in parts]),
        np.concatenate([part.local for part in parts]),
        np.concatenate([part.scores for part in parts]),
        tuple(label for some in labels for label in some) if filled and len(labels) == len(filled) else None,
    )


def _mapped_image(index: int, image: SourceDetections, size: tuple[int, int]) -> _Mapped:
    chosen, boxes, masks = _in_root(image, size)
    scores, labels = _of_chosen(image.detections, chosen)
    return _Mapped(masks, boxes, np.full(len(chosen), index), image.masks.boxes[chosen], scores, labels)


def _in_root(image: SourceDetections, size: tuple[int, int]) -> tuple[NDArray[np.int64], FloatArray, Masks]:
    """Which detections of an image have an area in the root; and there their boxes, clipped to it, and their masks."""
    width, height = size
    stays = image.masks.shape == (height, width) and image.transform.tolist() == _IDENTITY
    mapped = image.detections.boxes if stays else map_boxes(image.transform, image.detections.boxes)
    boxes = clip_boxes(mapped, width, height)
    chosen = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1) & np.isfinite(mapped).all(axis=1))
    local = image.masks if len(chosen) == len(boxes) else image.masks[chosen]
    masks = local if stays else local.warp(image.transform, (height, width))
    if not masks.areas.all():
        filled = np.flatnonzero(masks.areas)
        chosen, masks = chosen[filled], masks[filled]
    return chosen, boxes[chosen], masks


def _of_chosen(found: Detections, chosen: NDArray[np.int64]) -> tuple[FloatArray, tuple[str, ...] | None]:
    labels = None if found.labels is None else tuple(found.labels[i] for i in chosen.tolist())
    return found.scores[chosen], labels


def _without_duplicates(mapped: _Mapped, iou_threshold: float) -> NDArray[np.int64]:
    """Indices of the detections that are no duplicate of an earlier one that was kept."""
    first, second, overlap = mapped.touching()
    a, b = mapped.masks.areas[first], mapped.masks.areas[second]
    most = np.minimum(overlap, np.minimum(a, b))
    possible = most / (a + b - most) > iou_threshold
    rivals: dict[int, list[int]] = {}
    for i, j in zip(first[possible].tolist(), second[possible].tolist(), strict=True):
        rivals.setdefault(j, []).append(i)
    areas, common = mapped.masks.areas.tolist(), Overlaps(mapped.masks)
    dropped: set[int] = set()
    for j in sorted(rivals):
        for i in rivals[j]:
            if i in dropped:
                continue
            shared = common.area(i, j)
            if shared / (areas[i] + areas[j] - shared) > iou_threshold:
                dropped.add(j)
                break
    return np.array([i for i in range(len(areas)) if i not in dropped], np.int64)


def _fragment_joins(
    kept: _Mapped,
    images: Sequence[SourceDetections],
    size: tuple[int, int],
    fragment_overlap: float,
    edge_margin: float,
) -> list[_Join]:
    """Pairs that are fragments of one object, the strongest overlap first."""
    placed = [(image.transform, image.masks.shape, image.split) for image in images]
    borders = shared_borders(placed, size)
    first, second, overlap = kept.touching()
    areas = kept.masks.areas
    smaller = np.minimum(areas[first], areas[second])
    near = near_sides(kept.local, np.array([image.masks.shape for image in images])[kept.source], edge_margin)
    # For each pair and side: whether the first was cut there where the second goes on, and the other way round.
    cut_first = borders[kept.source[first], kept.source[second]] & near[first]
    cut_second = borders[kept.source[second], kept.source[first]] & near[second]
    possible = (np.minimum(overlap, smaller) / smaller > fragment_overlap) & (cut_first | cut_second).any(axis=1)
    limits = border_limits(placed, edge_margin)
    common = Overlaps(kept.masks)
    joins = []
    for pair in np.flatnonzero(possible).tolist():
        i, j = int(first[pair]), int(second[pair])
        pixels, (x, y) = common.pixels(i, j)
        ratio = int(np.count_nonzero(pixels)) / int(smaller[pair])
        if not ratio > fragment_overlap:
            continue
        columns, rows = np.flatnonzero(pixels.any(axis=0)), np.flatnonzero(pixels.any(axis=1))
        # In pixel indices, the last one included, signed so that "close to the side" is "at most the limit".
        bounds = np.array([x + columns[0], y + rows[0], -(x + columns[-1]), -(y + rows[-1])])
        at_first = cut_first[pair] & (bounds <= limits[kept.source[i]])
        at_second = cut_second[pair] & (bounds <= limits[kept.source[j]])
        if at_first.any() or at_second.any():
            joins.append((ratio, i, j))
    return sorted(joins, key=lambda join: (-join[0], join[1], join[2]))


def _objects(source: list[int], joins: list[_Join]) -> list[list[int]]:
    """Groups of detections, each with at most one of every image, in the order of their first members."""
    group = {index: [index] for index in range(len(source))}
    for _, i, j in joins:
        one, other = group[i], group[j]
        if one is other or {source[k] for k in one} & {source[k] for k in other}:
            continue
        one += other
        for k in other:
            group[k] = one
    return [sorted(members) for index, members in group.items() if min(members) == index]


def _as_detections(kept: _Mapped, objects: list[list[int]]) -> Detections:
    if len(objects) == len(kept.source):
        return Detections(kept.boxes, kept.masks, kept.scores, kept.labels)
    joined = [index for index, members in enumerate(objects) if len(members) > 1]
    unions = [kept.masks[np.array(objects[index])].union() for index in joined]
    place = [members[0] for members in objects]
    for offset, index in enumerate(joined):
        place[index] = len(kept.source) + offset
    starts = np.cumsum([0] + [len(members) for members in objects[:-1]])
    members = np.array([k for group in objects for k in group])
    boxes = np.concatenate(
        (
            np.minimum.reduceat(kept.boxes[members, :2], starts),
            np.maximum.reduceat(kept.boxes[members, 2:], starts),
        ),
        axis=1,
    )
    return Detections(
        boxes,
        Masks.concatenate([kept.masks, *unions])[np.array(place)],
        np.maximum.reduceat(kept.scores[members], starts),
        None if kept.labels is None else tuple(kept.labels[group[0]] for group in objects),
    )
