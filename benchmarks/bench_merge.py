"""Merging 551 detections in 12 patches of a 1920x1080 image, against full frames.

Run it with ``python -m benchmarks.bench_merge``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks._timing import Row, print_rows, row, timed
from benchmarks.full_frame_merge import merge_full_frames
from visenv.geometry import translation
from visenv.masks import Masks
from visenv.tools.merge import SourceDetections, merge_detections
from visenv.tools.split import split_windows
from visenv.types import Detections

SIZE = (1920, 1080)
PATCH_SIZE = 450
"""Four columns and three rows: 12 patches."""


def crowded_scene(
    size: tuple[int, int] = SIZE,
    patch_size: int = PATCH_SIZE,
    detections: int = 551,
    encoded: bool = False,
    seed: int = 0,
) -> list[SourceDetections]:
    """Make detections of many small ellipses, each found in every patch that shows enough of it.

    Args:
        size: (width, height) of the root.
        patch_size: of the split.
        detections: how many in all; the objects go on being drawn until there are that many.
        encoded: whether masks come as RLEs, as from a server, or as crops.
        seed: of the scene.
    """
    width, height = size
    rng = np.random.default_rng(seed)
    windows = split_windows(width, height, patch_size)
    crops: list[list[NDArray[np.bool_]]] = [[] for _ in windows]
    offsets: list[list[tuple[int, int]]] = [[] for _ in windows]
    total = 0
    while total < detections:
        crop, (x, y) = ellipse(rng, size)
        for index, window in enumerate(windows):
            x0, y0 = max(x, window.x0), max(y, window.y0)
            x1, y1 = min(x + crop.shape[1], window.x1), min(y + crop.shape[0], window.y1)
            if x0 >= x1 or y0 >= y1 or total == detections:
                continue
            seen = crop[y0 - y : y1 - y, x0 - x : x1 - x]
            if np.count_nonzero(seen) >= 0.1 * np.count_nonzero(crop):
                crops[index].append(seen)
                offsets[index].append((x0 - window.x0, y0 - window.y0))
                total += 1
    sources = []
    for window, seen_crops, places in zip(windows, crops, offsets, strict=True):
        frame = (window.y1 - window.y0, window.x1 - window.x0)
        masks = Masks.from_crops(seen_crops, places, frame)
        masks = Masks.from_coco_rles(masks.to_coco_rles(), frame) if encoded else masks
        name = f"img_0_r{window.row}_c{window.column}"
        found = Detections(masks.boxes, masks, rng.random(len(masks)))
        sources.append(SourceDetections(name, found, translation(window.x0, window.y0), split=True, depth=1))
    return sources


def run(repeats: int = 5, quick: bool = False) -> list[Row]:
    """Time the merge of crops and of RLEs against the full-frame implementation.

    Args:
        repeats: runs of ours, of which the shortest counts; the other is run once.
        quick: whether to take a tenth of the scene.

    Raises:
        RuntimeError: if the two results differ.
    """
    size, patch_size, number = ((640, 360), 160, 60) if quick else (SIZE, PATCH_SIZE, 551)
    slow = crowded_scene(size, patch_size, number)
    slow_s, expected = timed(merge_full_frames, slow, size)
    detail = f"{number} detections, {len(slow)} patches, {size[0]}x{size[1]}, {len(expected)} objects, same result"
    rows = []
    for encoded in (False, True):
        times = []
        for _ in range(max(1, repeats)):
            # What is decoded stays decoded, so that every run gets a scene of its own.
            fresh = crowded_scene(size, patch_size, number, encoded)
            seconds, result = timed(merge_detections, fresh, size)
            check_same(result, expected)
            times.append(seconds)
        rows.append(row(f"merge of {'RLEs' if encoded else 'crops'}", min(times), "full frames", slow_s, detail))
    return rows


def check_same(ours: Detections, expected: Detections) -> None:
    """Raise RuntimeError unless two results agree in every bit."""
    same = ours.masks == expected.masks and ours.labels == expected.labels
    if not (same and np.array_equal(ours.boxes, expected.boxes) and np.array_equal(ours.scores, expected.scores)):
        raise RuntimeError(f"The merges differ: {len(ours)} objects, but {len(expected)} on full frames.")


def ellipse(rng: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """Make a small ellipse at a random place.

    Args:
        rng: what is drawn from.
        size: (width, height) of the frame.

    Returns:
        Its pixels, (h, w) bool, and their (x, y) offset; cut off at the frame's sides.
    """
    width, height = size
    rx, ry = rng.uniform(6, 26, 2)
    angle = rng.uniform(0, np.pi)
    reach = int(np.ceil(max(rx, ry)))
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = u * np.cos(angle) + v * np.sin(angle), v * np.cos(angle) - u * np.sin(angle)
    crop = (along / rx) ** 2 + (across / ry) ** 2 <= 1
    x, y = (int(rng.integers(0, side)) - reach for side in (width, height))
    return crop[max(0, -y) : height - y, max(0, -x) : width - x], (max(0, x), max(0, y))


if __name__ == "__main__":
    print_rows(run())
