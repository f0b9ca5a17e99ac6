"""SAM 2 through the pool, against a predictor call a prompt: ``python -m benchmarks.bench_sam2``.

SAM 2.1 tiny with random weights (they cost the same), on the CPU, in fp32. The other side is the package's own
``SAM2ImagePredictor``: ``set_image`` and ``predict``, once a prompt, as an expert would be called that knows of no
other episode. Times are of the processor, on one thread (others would count their waiting); the shortest runs count,
and of the predictor the shortest of several calls.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from benchmarks._neural import Case
from benchmarks._timing import Row, print_rows, row
from visenv.capabilities import Prompt, Request, SegmentPrompts, View
from visenv.datasets.scenes import make as make_scenes
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels
from visenv.types import FloatArray, Pixels

EPISODES, PROMPTS = 8, 5
QUICK_SIDE = 256
"""Of the square that a small model sees, in place of 1024."""


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Time 8 episodes of one sample, five prompts each.

    Args:
        repeats: runs, of which the shortest counts.
        quick: whether the model sees images of 256 x 256 in place of 1024 x 1024.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _rows([scene(index) for index in range(repeats)], quick)
    finally:
        torch.set_num_threads(threads)


def _rows(images: Sequence[Pixels], quick: bool) -> list[Row]:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, images[0].shape[0], (EPISODES, PROMPTS, 2))
    own = min(_through_pool(image, points, quick) for image in images)
    same = min(_through_pool(image, np.repeat(points[:1], EPISODES, axis=0), quick) for image in images)
    anew, kept = _through_predictor(images[0], points, quick)
    what = f"SAM 2.1 tiny at {QUICK_SIDE if quick else 1024}, {EPISODES} episodes of one sample, {PROMPTS} prompts each"
    return [
        row("prompts of their own", own, "a predictor call a prompt", anew, f"{what}; a prompt"),
        row("the same prompts", same, "a predictor call a prompt", anew, "as episodes that begin alike ask; a prompt"),
        row("prompts of their own", own, "set_image an episode", kept, "the predictor keeps its image; a prompt"),
    ]


def scene(index: int) -> Pixels:
    """A generated picture."""
    image: Pixels = make_scenes(family="reasonseg", split="val", difficulty=1).get(index).image
    return image


@cache
def network(small: bool) -> Any:
    """SAM 2.1 tiny with random weights."""
    import torch

    from visenv.experts.sam2 import loading

    torch.manual_seed(0)
    with loading.importing_sam2():
        model = loading.build(loading.find_config("sam2.1_hiera_t"), **({"image_size": QUICK_SIDE} if small else {}))
    return model.eval()


def case(small: bool) -> Case:
    """As ``bench_neural`` measures it."""
    from visenv.experts.sam2 import Sam2Expert

    def requests(count: int, seed: int) -> list[Request]:
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 255, (count, 480, 640, 3), dtype=np.uint8)
        prompts = [tuple(Prompt(points=rng.uniform(0, 480, (1, 2))) for _ in range(PROMPTS)) for _ in images]
        return [
            SegmentPrompts(View(image, Provenance(RootPixels(image))), each)
            for image, each in zip(images, prompts, strict=True)
        ]

    side = QUICK_SIDE if small else 1024
    turns: tuple[tuple[str, dict[str, Any]], ...] = (
        ("PhraseToPoint", {"phrase": "thing"}),
        ("PointToBoxMask", {"mode": "confidence"}),
    )
    return Case(f"SAM 2.1 tiny at {side}", lambda **keywords: Sam2Expert(network(small), **keywords), requests, turns)


def _through_pool(image: Pixels, points: FloatArray, small: bool) -> float:
    """Seconds a prompt: each episode asks for one of its points a turn, all episodes together."""
    from visenv.experts.sam2 import Sam2Expert

    pool = ExpertPool({"SegmentPrompts": Sam2Expert(network(small), device="cpu")})

    def play() -> None:
        for turn in range(PROMPTS):
            asked = [_request(image, episode[turn : turn + 1]) for episode in points]
            pool.answer(asked)

    return _seconds(play) / (EPISODES * PROMPTS)


def _request(image: Pixels, point: FloatArray) -> Request:
    return SegmentPrompts(View(image, Provenance(RootPixels(image))), (Prompt(points=point),))


def _through_predictor(image: Pixels, points: FloatArray, small: bool) -> tuple[float, float]:
    """Seconds a prompt with the image set anew for each, and once for the prompts of an episode."""
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # The package's own, of torch.jit.
        predictor = SAM2ImagePredictor(network(small))
    side = predictor.model.image_size
    predictor._bb_feat_sizes = [(side // cell,) * 2 for cell in (4, 8, 16)]  # It knows those of 1024 alone.
    setting, predicting = [], []
    for point in points[:4, 0]:
        setting.append(_seconds(lambda: predictor.set_image(image)))
        prompt = {"point_coords": point[None], "point_labels": np.ones(1)}
        predicting.append(_seconds(partial(predictor.predict, **prompt, multimask_output=True)))
    return min(setting) + min(predicting), min(setting) / PROMPTS + min(predicting)


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    print_rows(run())
