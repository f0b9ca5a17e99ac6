"""The classical experts' speed: ``python -m benchmarks.bench_experts``.

Each against the plain way to the same answer: perceiving a view anew for every request, looking at all pixels of an
enlargement, turning a silhouette step by step, and GrabCut over the whole image for every point. Times are of the
processor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from benchmarks._timing import Row, print_rows, row
from visenv.capabilities import GroundPhrase, PointPhrase, Prompt, Request, SegmentPrompts, View
from visenv.datasets.scenes import make as make_scenes
from visenv.experts.classical import make
from visenv.experts.classical.grabcut import ROUNDS
from visenv.experts.classical.perception import perceive, working_side
from visenv.experts.classical.segmenter import segment
from visenv.experts.classical.shape import ANGLES, correlate, load_banks, polar_map
from visenv.experts.classical.upscaler import upscale
from visenv.images import Provenance, RootPixels
from visenv.tools.split import split_windows
from visenv.types import Pixels

PATCH = 80
"""Pixels of a patch's side, without its overlap."""


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Time the experts on generated scenes of 256 x 256.

    Args:
        repeats: runs, of which the shortest counts.
        quick: whether to use 3 scenes in place of 12.
    """
    data = make_scenes(family="reasonseg", split="val", difficulty=1)
    images = [data.get(index).image for index in range(3 if quick else 12)]
    return [
        _sharing(images, repeats),
        _enlarging(images, repeats),
        _turning(images, repeats),
        _prompting(images, repeats),
    ]


def _sharing(images: Sequence[Pixels], repeats: int) -> Row:
    """Four requests about each image: with what is perceived shared, and without."""
    batches: list[list[Request]] = []
    for image in images:
        view = View(image, Provenance(RootPixels(image)))
        x0, y0, x1, y1 = max(perceive(image).percepts, key=lambda percept: percept.area).box
        prompts = (Prompt(box=np.array([x0, y0, x1, y1])),)
        batches.append(
            [GroundPhrase(view, "car"), GroundPhrase(view, "red mug"), PointPhrase(view, "the largest thing")]
            + [SegmentPrompts(view, prompts)]
        )

    def shared() -> None:
        (expert,) = make()
        for batch in batches:
            expert.run(batch)

    def anew() -> None:
        for batch in batches:
            for request in batch:
                make()[0].run([request])

    perceived = _best(lambda: [perceive(image) for image in images], repeats) / len(images)
    detail = f"4 requests an image of 256x256; perceiving it takes {1e3 * perceived:.1f} ms"
    count = len(images)
    return row("experts shared", _best(shared, repeats) / count, "perceive anew", _best(anew, repeats) / count, detail)


def _enlarging(images: Sequence[Pixels], repeats: int) -> Row:
    """Perceiving patches enlarged four times: as closely as their roots show anything, and at every pixel."""
    patches = []
    for image in images:
        windows = split_windows(image.shape[1], image.shape[0], PATCH)
        patches += [image[at.y0 : at.y1, at.x0 : at.x1] for at in (windows[0], windows[len(windows) // 2])]
    views = [
        View(upscale(patch, 4), Provenance(RootPixels(patch)).then("x4"), to_root=np.diag([0.25, 0.25, 1.0]))
        for patch in patches
    ]
    ours = _best(lambda: [perceive(view.pixels, working_side(view)) for view in views], repeats) / len(views)
    plain = _best(lambda: [perceive(view.pixels) for view in views], repeats) / len(views)
    small = _best(lambda: [perceive(patch) for patch in patches], repeats) / len(patches)
    enlarged = _best(lambda: [upscale(patch, 4) for patch in patches], repeats) / len(patches)
    detail = (
        f"patches of {PATCH} and their overlap; as they are it takes {1e3 * small:.1f} ms, enlarging one takes "
        f"{1e3 * enlarged:.1f} ms"
    )
    return row("enlarged patch", ours, "at all pixels", plain, detail)


def _turning(images: Sequence[Pixels], repeats: int) -> Row:
    """Comparing silhouettes with the bank at every turn: in the Fourier domain, and turn by turn."""
    bank = load_banks().whole
    masks = [np.asarray(crop) for image in images for crop in perceive(image).masks.crops if crop.size > 400]
    maps = np.stack([polar_map(mask) for mask in masks])
    drawings = np.fft.irfft(bank.spectra, n=ANGLES, axis=2).reshape(len(bank.owners), -1)

    def step_by_step() -> None:
        for each in maps:
            centred = each - each.mean()
            for turn in range(ANGLES):
                drawings @ np.roll(centred, turn, axis=1).ravel()

    ours = _best(lambda: correlate(maps, bank), repeats) / len(maps)
    detail = f"{len(bank.owners)} drawings, {ANGLES} turns"
    return row("silhouette", ours, "turn by turn", _best(step_by_step, repeats) / len(maps), detail)


def _prompting(images: Sequence[Pixels], repeats: int) -> Row:
    """Masks for a point on every perceived object: from regions, and by GrabCut over the whole image."""
    cases = []
    for image in images:
        perception = perceive(image)
        boxes = perception.masks.boxes[perception.masks.areas > 200]
        cases.append((image, perception, (boxes[:, :2] + boxes[:, 2:]) / 2))
    points = sum(len(centres) for _, _, centres in cases)

    def from_regions() -> None:
        for image, perception, centres in cases:
            segment(image, perception, tuple(Prompt(points=centre[None]) for centre in centres))

    def by_grabcut() -> None:
        for image, _, centres in cases:
            for x, y in centres.astype(int).tolist():
                trimap = np.full(image.shape[:2], cv2.GC_PR_BGD, dtype=np.uint8)
                cv2.circle(trimap, (x, y), 12, cv2.GC_PR_FGD, -1)
                model = np.zeros((1, 65)), np.zeros((1, 65))
                cv2.grabCut(image, trimap, (0, 0, 1, 1), *model, ROUNDS, cv2.GC_INIT_WITH_MASK)

    ours = _best(from_regions, repeats) / points
    return row("point prompt", ours, "GrabCut", _best(by_grabcut, 1) / points, f"{points} points on 256x256")


def _best(work: Callable[[], object], repeats: int) -> float:
    """The shortest of several runs, seconds of the processor."""
    times = []
    for _ in range(max(repeats, 1)):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    print_rows(run())
