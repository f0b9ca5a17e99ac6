"""The environment's own time a step at 256x256, with experts that cost nothing: ``python -m benchmarks.bench_step``.

Each of the first rows compares a step with the same step whose observation carries the newest picture as a PNG file, as
agent servers send it: what building the observation from arrays saves. The others are steps as reinforcement learning
takes them, of discrete actions and without pictures, beside the same with pictures. Steps with experts are not the
first of their episodes, which also takes the picture's digest (about 0.15 ms here).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import cv2
import numpy as np

from benchmarks._timing import Row, print_rows, row
from visenv.capabilities import GroundPhrase, Points, Request, Result, Upscale, Upscaled
from visenv.envs.reasonseg import ReasonSegEnv
from visenv.images import to_png_bytes
from visenv.masks import Masks
from visenv.types import Detections, MaskTruth, Sample

SIDE = 256
OBJECTS = 5

GROUND = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "disc"}}
MERGE = {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}
UPSCALE = {"name": "SuperResolution", "arguments": {"images": ["img_0"]}}
REJECTED = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_7"], "phrase": "disc"}}

# The same as discrete actions: tool, image slot, phrase, mode, patch size, point cell.
GROUND_D, POINTLESS_D, UPSCALE_D, MERGE_D = (np.array([tool, 0, 8, 0, 0, 0]) for tool in (0, 2, 4, 5))


class Discs:
    """A data set of one picture with a few discs."""

    name = "discs"
    split = "train"
    vocabulary: tuple[str, ...] = ("disc", "red disc", "ring", "square", "line", "dot", "star", "bar")
    size = 1

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 255, (SIDE // 16, SIDE // 16, 3), dtype=np.uint8)
        pixels = np.asarray(cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        ys, xs = np.mgrid[:SIDE, :SIDE]
        centres = rng.integers(30, SIDE - 30, (OBJECTS, 2))
        self.masks = Masks.from_dense(np.stack([(xs - x) ** 2 + (ys - y) ** 2 < 20**2 for x, y in centres]))
        self._sample = Sample("discs/0", (pixels,), "the disc on the left", MaskTruth(self.masks[[0]]))

    def get(self, index: int) -> Sample:
        return self._sample

    def find(self, sample_id: str) -> Sample:
        return self._sample

    def draw(self, rng: np.random.Generator) -> Sample:
        return self._sample


class Free:
    """An expert whose results were made beforehand."""

    name = "free"
    fingerprint = "free-1"
    capabilities = ("GroundPhrase", "PointPhrase", "SegmentPrompts", "Upscale")
    max_batch = 64
    per_sample = False

    def __init__(self, masks: Masks) -> None:
        self.found = Detections(masks.boxes, masks, np.full(len(masks), 0.9))
        self.enlarged = np.zeros((4 * SIDE, 4 * SIDE, 3), np.uint8)

    def run(self, requests: Sequence[Request]) -> list[Result]:
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Result:
        if isinstance(request, GroundPhrase):
            return self.found
        return (
            Upscaled(self.enlarged, "free-1") if isinstance(request, Upscale) else Points(np.zeros((0, 2)), np.zeros(0))
        )


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Time one step of each sort, the median over many episodes.

    Args:
        repeats: times as many episodes.
        quick: whether to take few episodes.
    """
    data = Discs()
    env = ReasonSegEnv(dataset=data, experts=Free(data.masks), obs="full")
    episodes = (20 if quick else 150) * repeats
    sorts: list[tuple[str, list[Any], Any]] = [
        ("step: a rejected call", [], REJECTED),
        ("step: an upscaled image is stored", [GROUND], UPSCALE),
        ("step: results are merged", [GROUND], MERGE),
        (f"step: {OBJECTS} masks are drawn", [UPSCALE], GROUND),
    ]
    rows = []
    for name, before, action in sorts:
        ours = _median_step(env, before, action, episodes, lambda: None)
        other = _median_step(env, before, action, episodes, lambda: to_png_bytes(env.episode.newest_picture().pixels))
        detail = f"{SIDE}x{SIDE}, obs='full', median of {episodes}"
        rows.append(row(name, ours, "and the picture as PNG", other, detail))
    lean, full = (
        ReasonSegEnv(dataset=data, experts=Free(data.masks), action_mode="discrete", obs=obs)
        for obs in ("features", "full")
    )
    sorts = [
        ("discrete step: a rejected call", [], POINTLESS_D),
        ("discrete step: an upscaled image is stored", [GROUND_D], UPSCALE_D),
        ("discrete step: results are merged", [GROUND_D], MERGE_D),
        (f"discrete step: {OBJECTS} masks are found", [UPSCALE_D], GROUND_D),
    ]
    for name, before, action in sorts:
        ours = _median_step(lean, before, action, episodes, lambda: None)
        other = _median_step(full, before, action, episodes, lambda: None)
        detail = f"{SIDE}x{SIDE}, obs='features', median of {episodes}"
        rows.append(row(name, ours, "obs='full'", other, detail))
    return rows


def _median_step(
    env: ReasonSegEnv,
    before: Sequence[Any],
    action: Any,
    episodes: int,
    extra: Callable[[], object],
) -> float:
    times = []
    for _ in range(episodes):
        env.reset(seed=0)
        for earlier in before:
            env.step(earlier)
        start = time.perf_counter()
        env.step(action)
        extra()
        times.append(time.perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    print_rows(run())
