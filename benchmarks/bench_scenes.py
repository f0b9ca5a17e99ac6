"""Scenes a second, against Pillow with one full-frame layer an object: ``python -m benchmarks.bench_scenes``.

Both draw the same objects, at the same places, on the same backgrounds, with the same smoothness (twice the resolution,
averaged down), and both end with the visible mask of every object. Ours also lays out the scene and finds the query;
the alternative is given the layout. Times are of the processor, so that what else runs beside does not count, and
OpenCV keeps to one thread, since waiting for others would count.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks._timing import Row, print_rows, row
from visenv.datasets.scenes import COLOURS, KINDS, ScenesDataset, make
from visenv.datasets.scenes.backgrounds import background, finish
from visenv.datasets.scenes.kinds import MATERIALS
from visenv.datasets.scenes.profiles import profile
from visenv.datasets.scenes.render import Placement, RenderedScene

_FINE = 2
_CASES = (("reasonseg", 0, 60), ("reasonseg", 1, 60), ("reasonseg", 3, 20), ("refcount", 1, 20), ("densedet", 1, 4))


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Time complete samples against drawing the same scenes with Pillow.

    Args:
        repeats: runs of ours, of which the shortest counts; the other is run once, on a quarter of the scenes.
        quick: whether to leave out the larger pictures, and take a quarter of the scenes.

    Raises:
        RuntimeError: if the two do not see the same objects.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return _rows(repeats, quick)
    finally:
        cv2.setNumThreads(threads)


def _rows(repeats: int, quick: bool) -> list[Row]:
    rows = []
    for family, difficulty, number in _CASES[:2] if quick else _CASES:
        number = number // 4 if quick else number
        data = make(family=family, split="train", difficulty=difficulty)
        scenes = [data.explain(index)[0] for index in range(number)]
        ours = min(_ours(data, number) for _ in range(max(repeats, 1)))
        theirs = _theirs(data, scenes[: max(number // 4, 1)])
        width, height = scenes[0].scene.size
        objects = np.mean([len(rendered.placements) for rendered in scenes])
        detail = f"{1 / ours:.0f} scenes a second at {width}x{height}, {objects:.1f} objects each, on one core"
        rows.append(row(f"scenes {family} d{difficulty}", ours, "Pillow, full-frame layers", theirs, detail))
    return rows


def _ours(data: ScenesDataset, number: int) -> float:
    start = time.process_time()
    for index in range(number):
        data.get(index)
    return (time.process_time() - start) / number


def _theirs(data: ScenesDataset, scenes: Sequence[RenderedScene]) -> float:
    start = time.process_time()
    drawn = [_pillow(rendered, data.family, data.difficulty) for rendered in scenes]
    taken = (time.process_time() - start) / len(scenes)
    for rendered, (_, masks) in zip(scenes, drawn, strict=True):
        ours = np.stack([rendered.owners == number for number in range(1, len(masks) + 1)])
        overlap = np.count_nonzero(ours & masks) / np.count_nonzero(ours | masks)
        if overlap < 0.8:
            raise RuntimeError(f"Expected the same objects from both, but their masks have an IoU of {overlap:.2f}.")
    return taken


def _pillow(rendered: RenderedScene, family: str, difficulty: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The picture and the (N, H, W) visible masks of a scene."""
    rng = np.random.default_rng(0)
    look = profile(family, difficulty)
    picture = Image.fromarray(background(rng, look)).convert("RGBA")
    owners = np.zeros((picture.height, picture.width), dtype=np.int32)
    for number, placement in enumerate(rendered.placements, start=1):
        layer = Image.new("RGBA", (picture.width * _FINE, picture.height * _FINE))
        _draw(ImageDraw.Draw(layer), placement)
        layer = layer.resize(picture.size, Image.Resampling.BOX)
        owners[np.asarray(layer)[:, :, 3] >= 128] = number
        picture = Image.alpha_composite(picture, layer)
    masks = np.stack([owners == number for number in range(1, len(rendered.placements) + 1)])
    return finish(rng, np.asarray(picture.convert("RGB")), look), masks


def _draw(canvas: ImageDraw.ImageDraw, placement: Placement) -> None:
    item = placement.item
    kind = KINDS[item.kind]
    angle = np.radians(item.rotation)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) * [[placement.aspect], [1.0]]
    outlines = [outline @ turn for part in kind.parts for outline in part.outlines]
    points = np.concatenate(outlines)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = item.size / float((high - low).max())
    main = np.array(COLOURS[item.colour])
    edge = tuple((main * 0.3).astype(int).tolist())
    at = 0
    for part in kind.parts:
        fill = main * 0.75 if part.fill == "shade" else np.array(MATERIALS.get(part.fill, main))
        shapes = outlines[at : at + len(part.outlines)]
        for outline in shapes:
            corners = ((outline - low) * scale + placement.corner) * _FINE
            hole = any(_within(outline, other) for other in shapes if other is not outline)
            ink = (0, 0, 0, 0) if hole else tuple(fill.astype(int).tolist())
            canvas.polygon([tuple(corner) for corner in corners.tolist()], ink, edge)
        at += len(part.outlines)


def _within(inner: NDArray[np.float64], outer: NDArray[np.float64]) -> bool:
    return bool((inner.min(axis=0) > outer.min(axis=0)).all() and (inner.max(axis=0) < outer.max(axis=0)).all())


if __name__ == "__main__":
    print_rows(run())
