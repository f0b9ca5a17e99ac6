"""What an episode keeps in memory beyond its input, 1920x1080: ``python -m benchmarks.bench_memory``.

An agent works for ten turns on a picture of 300 things: boxes, points and masks on the whole of it, a split into twelve
patches, boxes, points and masks on these, a closer look at one of them, the merge. After every turn it reads the
conversation, as a vision-language model does, so that every picture in view is drawn. Counted is what Python and NumPy
have allocated since before the episode began and still hold: the most after any turn, and beside it the same with every
picture that was shown kept as an array. Results that the experts' pool remembers are the pool's, which has a limit of
its own; it remembers none here.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from benchmarks._timing import Row, amount_row, print_rows
from benchmarks.bench_merge import ellipse
from visenv.capabilities import Candidates, Request, Result, SegmentPrompts
from visenv.envs.reasonseg import ReasonSegEnv
from visenv.experts.oracle import Oracle
from visenv.experts.truth_view import truth_in_view
from visenv.experts_pool import ExpertPool
from visenv.masks import Masks
from visenv.tools.split import split_windows
from visenv.types import MaskTruth, Sample

SIZE = (1920, 1080)
PATCH_SIZE = 450
"""Four columns and three rows: 12 patches."""
THINGS = 300
Call = dict[str, Any]


class Crowd:
    """A data set of one picture, full of small ellipses.

    Args:
        size: (width, height) of the picture.
        things: how many ellipses.
    """

    name = "crowd"
    split = "train"
    vocabulary: tuple[str, ...] = ("disc", "red disc")
    size = 1

    def __init__(self, size: tuple[int, int], things: int) -> None:
        width, height = size
        rng = np.random.default_rng(0)
        coarse = rng.integers(0, 255, (height // 40, width // 40, 3), dtype=np.uint8)
        pixels = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
        placed = [ellipse(rng, size) for _ in range(things)]
        masks = Masks.from_crops([crop for crop, _ in placed], [place for _, place in placed], (height, width))
        self._sample = Sample("crowd/0", (pixels,), "every disc", MaskTruth(masks))

    def get(self, index: int) -> Sample:
        return self._sample

    def find(self, sample_id: str) -> Sample:
        return self._sample

    def draw(self, rng: np.random.Generator) -> Sample:
        return self._sample


class Known(Oracle):
    """The oracle, which takes the k-th prompt for the k-th thing in view, as ``PhraseToPoint`` gives them.

    It answers at once where the oracle looks for the thing that is nearest to each point.
    """

    def _answer(self, request: Request) -> Result:
        if not isinstance(request, SegmentPrompts):
            return super()._answer(request)
        seen = truth_in_view(self.find, request.view).masks
        assert seen is not None
        candidates = tuple(Masks.concatenate([mask] * 3) for mask in seen)
        return Candidates(candidates, tuple(np.ones(3) for _ in candidates))


@dataclass(frozen=True)
class Held:
    """Bytes that an episode holds beyond its input."""

    most: int
    """After the turn after which it was most."""
    shown: int
    """What all pictures shown so far would take as arrays, the input excepted."""


def ten_turns(size: tuple[int, int], patch_size: int, enlarge: int) -> list[Call]:
    """The agent's calls.

    Args:
        size: (width, height) of the picture.
        patch_size: of the split.
        enlarge: how many patches are enlarged four times before they are looked at, in place of a split of one of them.
    """
    patches = [f"img_0_r{window.row}_c{window.column}" for window in split_windows(*size, patch_size)]
    if enlarge:
        closer = [f"{name}_4x" for name in patches[:enlarge]]
        look: Call = _call("SuperResolution", images=patches[:enlarge])
    else:
        parts = split_windows(patch_size, patch_size, patch_size // 2)
        closer = [f"{patches[0]}_r{part.row}_c{part.column}" for part in parts]
        look = _call("SplitImageIntoPatches", patch_configs={patches[0]: patch_size // 2})
    return [
        _call("PhraseToBoxMask", images=["img_0"], phrase="disc"),
        _call("PhraseToPoint", images=["img_0"], phrase="every disc"),
        _call("PointToBoxMask", images=["img_0"], mode="confidence"),
        _call("SplitImageIntoPatches", patch_configs={"img_0": patch_size}),
        _call("PhraseToBoxMask", images=patches, phrase="disc"),
        _call("PhraseToPoint", images=patches, phrase="every disc"),
        _call("PointToBoxMask", images=patches, mode="area"),
        look,
        _call("PhraseToBoxMask", images=closer, phrase="disc"),
        _call("MergeBoxMask", images=[*patches[enlarge:], *closer] if enlarge else patches),
    ]


def held(data: Crowd, calls: Sequence[Call]) -> Held:
    """Play an episode and say what it holds.

    Args:
        data: where the picture comes from.
        calls: the agent's, one a turn.

    Raises:
        RuntimeError: if a call was rejected.
    """
    expert = Known(data.find)
    env = ReasonSegEnv(dataset=data, experts=expert, obs="full", max_turns=len(calls))
    env.pool = ExpertPool(dict.fromkeys(expert.capabilities, expert), cache_bytes=0)
    most = shown = 0
    with _traced():
        before = tracemalloc.get_traced_memory()[0]
        env.reset(options={"index": 0})
        for call in calls:
            info = env.step(call)[4]
            if info["error"] is not None:
                raise RuntimeError(f"The call {call} was rejected: {info['error']}.")
            env.episode.messages()
            del info
            gc.collect()
            most = max(most, tracemalloc.get_traced_memory()[0] - before)
    for shown_at in env.episode.pictures()[1:]:
        width, height = shown_at.picture.size
        shown += 3 * width * height
    return Held(most, shown)


def run(repeats: int = 1, quick: bool = False) -> list[Row]:
    """Measure an episode without enlarged patches, and one with two of them.

    Args:
        repeats: makes no difference: the same is allocated in every run.
        quick: whether to take a picture of a quarter of the size.
    """
    size, patch_size, things = ((960, 540), 225, 60) if quick else (SIZE, PATCH_SIZE, THINGS)
    data = Crowd(size, things)
    held(data, ten_turns(size, patch_size, 1))  # fills the caches that live as long as the process
    rows = []
    for enlarge in (0, 2):
        calls = ten_turns(size, patch_size, enlarge)
        ours = held(data, calls)
        name = f"memory of {len(calls)} turns" + (f", {enlarge} patches enlarged" if enlarge else "")
        detail = f"{size[0]}x{size[1]}, {things} things, the most after any turn"
        kept = ours.most + ours.shown
        rows.append(amount_row(name, ours.most / 1e6, "with every picture shown kept", kept / 1e6, detail))
    return rows


def _call(tool: str, **arguments: Any) -> Call:
    return {"name": tool, "arguments": arguments}


@contextmanager
def _traced() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # what is there already need not be looked through after every turn
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()
        gc.unfreeze()


if __name__ == "__main__":
    print_rows(run())
