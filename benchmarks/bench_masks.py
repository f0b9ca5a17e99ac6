"""Masks as crops and run lengths against full frames: ``python -m benchmarks.bench_masks``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco

from benchmarks._timing import Row, print_rows, row, timed
from visenv.masks import Masks, Rle

SIZE = (1080, 1920)


def random_masks(count: int, size: tuple[int, int] = SIZE, seed: int = 0) -> Masks:
    """Make ellipses of 10 to 120 pixels across, anywhere in a frame.

    Args:
        count: how many.
        size: (H, W) of the frame.
        seed: of their places and sides.
    """
    rng = np.random.default_rng(seed)
    crops, offsets = [], []
    for _ in range(count):
        rx, ry = rng.integers(5, 60, 2).tolist()
        v, u = np.mgrid[-ry : ry + 1, -rx : rx + 1]
        crops.append((u / rx) ** 2 + (v / ry) ** 2 <= 1)
        offsets.append([int(rng.integers(0, size[1] - rx)), int(rng.integers(0, size[0] - ry))])
    return Masks.from_crops(crops, offsets, size)


def run(repeats: int = 5, quick: bool = False) -> list[Row]:
    """Time IoU of stored RLEs, union, and encoding against the same on full frames.

    Args:
        repeats: runs of ours, of which the shortest counts; the other is run once.
        quick: whether to take a tenth of the masks on a ninth of the frame.

    Raises:
        RuntimeError: if two results differ.
    """
    size, count = ((360, 640), 10) if quick else (SIZE, 100)
    a, b = random_masks(count, size, seed=1), random_masks(count, size, seed=2)
    first, second = a.to_coco_rles(), b.to_coco_rles()
    detail = f"{count} masks of {size[1]}x{size[0]}"

    def stored_iou() -> NDArray[np.float64]:
        return Masks.from_coco_rles(first).iou(Masks.from_coco_rles(second))

    fresh = [random_masks(count, size, seed=1) for _ in range(max(1, repeats))]
    frames = a.to_dense()
    cases = [
        (
            f"IoU of stored RLEs, {count} x {count} pairs",
            stored_iou,
            "decoded frames",
            lambda: _frame_iou(first, second),
        ),
        ("union of crops", lambda: a.union().to_dense()[0], "full frames", lambda: frames.any(axis=0)),
        ("RLEs of crops", lambda: fresh.pop().to_coco_rles(), "full frames", lambda: _frame_rles(frames)),
    ]
    rows = []
    for name, ours, alternative, theirs in cases:
        slow_s, expected = timed(theirs)
        times = []
        for _ in range(max(1, repeats)):
            seconds, result = timed(ours)
            times.append(seconds)
            if not np.array_equal(np.asarray(result), np.asarray(expected)):
                raise RuntimeError(f"{name}: the result differs from that on full frames.")
        rows.append(row(name, min(times), alternative, slow_s, detail))
    return rows


def _frame_iou(first: list[Rle], second: list[Rle]) -> NDArray[np.float64]:
    a, b = (coco.decode(rles).transpose(2, 0, 1).astype(bool) for rles in (first, second))
    areas = [[np.count_nonzero(mask) for mask in masks] for masks in (a, b)]
    result = np.zeros((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            common = np.count_nonzero(one & other)
            result[i, j] = common / (areas[0][i] + areas[1][j] - common)
    return result


def _frame_rles(frames: NDArray[np.bool_]) -> list[Rle]:
    encoded = coco.encode(np.asfortranarray(frames.transpose(1, 2, 0).astype(np.uint8)))
    return [{"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")} for rle in encoded]


if __name__ == "__main__":
    print_rows(run())
