"""The rules of ``MergeBoxMask`` written the straightforward way: every mask a full frame.

As in the published tool, a pair is compared in the window that both cover, and not at all where there is none. Nothing
is shared with ``visenv.tools.merge`` besides the records that go in and come out, so that the tests can compare the two
and the benchmark has something to be compared with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from visenv.masks import Masks
from visenv.tools.merge import SourceDetections
from visenv.types import Detections


@dataclass
class _Found:
    image: SourceDetections
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_]  # (H, W) of the root
    extent: tuple[int, int, int, int]  # of the mask: xyxy pixels, half-open
    sides: set[str]
    score: float
    label: str | None
    area: int


def merge_full_frames(
    sources: Sequence[SourceDetections],
    size: tuple[int, int],
    *,
    iou_threshold: float = 0.8,
    fragment_overlap: float = 0.2,
    edge_margin: float = 0.03,
) -> Detections:
    """Do what ``merge_detections`` does, on full frames; image names have to differ."""
    width, height = size
    found = [item for image in sources for item in _in_root(image, size, edge_margin)]
    found.sort(key=lambda item: (-item.image.depth, -item.area))
    kept: list[_Found] = []
    for item in found:
        others = (other for other in kept if other.image.name != item.image.name)
        if not any(_iou(item, other) > iou_threshold for other in others):
            kept.append(item)
    edges = []
    for i, first in enumerate(kept):
        for j in range(i + 1, len(kept)):
            second = kept[j]
            if first.image.name == second.image.name:
                continue
            common, (x, y) = _common(first, second)
            share = int(common.sum()) / min(first.area, second.area)
            if not share > fragment_overlap:
                continue
            rows, columns = np.nonzero(common)
            bounds = (x + columns.min(), y + rows.min(), x + columns.max(), y + rows.max())
            if _at_border(first, second, bounds, size, edge_margin):
                edges.append((share, i, j))
    members = {i: {i} for i in range(len(kept))}
    for _, i, j in sorted(edges, key=lambda edge: (-edge[0], edge[1:])):
        together = members[i] | members[j]
        names = [kept[k].image.name for k in together]
        if len(set(names)) == len(names):
            for k in together:
                members[k] = together
    objects = [sorted(members[i]) for i in range(len(kept)) if i == min(members[i])]
    masks = [np.logical_or.reduce([kept[i].mask for i in group]) for group in objects]
    boxes = [[kept[i].box for i in group] for group in objects]
    labelled = all(item.label is not None for item in kept)
    return Detections(
        np.array([[*np.min(b, axis=0)[:2], *np.max(b, axis=0)[2:]] for b in boxes]).reshape(-1, 4),
        Masks.from_dense(np.array(masks)) if masks else Masks.empty((height, width)),
        np.array([max(kept[i].score for i in group) for group in objects]),
        tuple(str(kept[group[0]].label) for group in objects) if kept and labelled else None,
    )


def _in_root(image: SourceDetections, size: tuple[int, int], edge_margin: float) -> list[_Found]:
    width, height = size
    (a, _, tx), (_, d, ty) = image.transform[:2].tolist()
    result = []
    for index, local in enumerate(image.masks.to_dense()):
        x0, y0, x1, y1 = image.detections.boxes[index].tolist()
        left, right = (min(max(a * x + tx, 0.0), float(width)) for x in (x0, x1))
        top, bottom = (min(max(d * y + ty, 0.0), float(height)) for y in (y0, y1))
        if not (left < right and top < bottom):
            continue
        warped = cv2.warpAffine(local.astype(np.float32), image.transform[:2], (width, height), flags=cv2.INTER_LINEAR)
        mask = np.asarray(warped) > 0.5
        if not mask.any():
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        scores, labels = np.asarray(image.detections.scores), image.detections.labels
        result.append(
            _Found(
                image,
                (left, top, right, bottom),
                mask,
                (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1),
                _close_sides(local, edge_margin),
                float(scores[index]),
                None if labels is None else labels[index],
                int(mask.sum()),
            )
        )
    return result


def _close_sides(local: NDArray[np.bool_], edge_margin: float) -> set[str]:
    height, width = local.shape
    dx, dy = max(2, round(width * edge_margin)), max(2, round(height * edge_margin))
    rows, columns = np.nonzero(local)
    close = {
        "left": columns.min() <= dx,
        "right": columns.max() >= width - 1 - dx,
        "top": rows.min() <= dy,
        "bottom": rows.max() >= height - 1 - dy,
    }
    return {side for side, is_close in close.items() if is_close}


def _common(a: _Found, b: _Found) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    x0, y0 = max(a.extent[0], b.extent[0]), max(a.extent[1], b.extent[1])
    x1, y1 = max(x0, min(a.extent[2], b.extent[2])), max(y0, min(a.extent[3], b.extent[3]))
    return a.mask[y0:y1, x0:x1] & b.mask[y0:y1, x0:x1], (x0, y0)


def _iou(a: _Found, b: _Found) -> float:
    common = int(_common(a, b)[0].sum())
    return common / (a.area + b.area - common)


def _region(image: SourceDetections) -> tuple[float, float, float, float]:
    height, width = image.masks.shape
    (a, _, tx), (_, d, ty) = image.transform[:2].tolist()
    return tx, ty, a * width + tx, d * height + ty


def _at_border(
    first: _Found, second: _Found, bounds: tuple[int, int, int, int], size: tuple[int, int], edge_margin: float
) -> bool:
    if not (first.image.split and second.image.split):
        return False
    here, there = _region(first.image), _region(second.image)
    scale = max(1.0, *map(abs, here), *map(abs, there))
    if max(abs(p - q) for p, q in zip(here, there, strict=True)) <= 1e-6 * scale:
        return False
    return _cut(first, second, bounds, size, edge_margin) or _cut(second, first, bounds, size, edge_margin)


def _cut(
    item: _Found, other: _Found, bounds: tuple[int, int, int, int], size: tuple[int, int], edge_margin: float
) -> bool:
    """Whether ``item`` was cut at a side of its patch, the other patch goes on there, and so does the overlap."""
    x0, y0, x1, y1 = _region(item.image)
    ox0, oy0, ox1, oy1 = _region(other.image)
    height, width = item.image.masks.shape
    dx = max(2 * (x1 - x0) / width, (x1 - x0) * edge_margin)
    dy = max(2 * (y1 - y0) / height, (y1 - y0) * edge_margin)
    left, top, right, bottom = bounds
    tiny = 1e-6 * max(1, *size)
    at = {
        "left": x0 > tiny and ox0 < x0 - tiny and ox1 > x0 + tiny and left <= x0 + dx,
        "right": x1 < size[0] - tiny and ox0 < x1 - tiny and ox1 > x1 + tiny and right >= x1 - dx,
        "top": y0 > tiny and oy0 < y0 - tiny and oy1 > y0 + tiny and top <= y0 + dy,
        "bottom": y1 < size[1] - tiny and oy0 < y1 - tiny and oy1 > y1 + tiny and bottom >= y1 - dy,
    }
    return any(at[side] for side in item.sides)
