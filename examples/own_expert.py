"""An expert of your own: a grounder that finds a colour by its code, in place of one of the classical experts.

    python examples/own_expert.py

An expert answers a list of requests with as many results, in order. It reads pixels and prompts; it is never given the
truth. In the mapping below it answers `GroundPhrase`, and the classical experts answer all other capabilities. They
know names of colours but no codes; it knows codes and no kinds of thing. It prints:

    Segment every yellow kite.
      img_0: no box with a mask.
      img_0: 2 points: 1 [72, 791], 2 [830, 889]
    Segment every yellow kite.
      img_0: 3 boxes with masks: 1 [383, 176, 441, 309], 2 [39, 754, 105, 828], 3 [797, 855, 871, 934]
      img_0: 2 points: 1 [72, 791], 2 [830, 889]
    8 requests in 1 batch
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import cv2
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from visenv import registration
from visenv.capabilities import GroundPhrase
from visenv.masks import Masks
from visenv.types import Detections, Pixels
from visenv.vector import VisionToolVectorEnv


class ColourCodes:
    """Finds the connected regions that have a colour like `#fade32`, whatever else a phrase says.

    Args:
        tolerance: how far off a pixel's colour may be, in CIE Lab (CIE76).
        min_area: pixels of the smallest region that counts.
    """

    name = "colour_codes"
    capabilities = (GroundPhrase.capability,)
    max_batch = 64  # the most requests in one call
    per_sample = False  # the result depends on the pixels and the phrase alone

    def __init__(self, tolerance: float = 15.0, min_area: int = 40) -> None:
        self.tolerance, self.min_area = tolerance, min_area
        # Results are remembered under it: it changes with whatever changes them.
        self.fingerprint = f"colour_codes-1-{tolerance}-{min_area}"

    def run(self, requests: Sequence[GroundPhrase]) -> list[Detections]:
        return [self.find(request.view.pixels, request.phrase) for request in requests]

    def find(self, pixels: Pixels, phrase: str) -> Detections:
        masks = Masks.empty(pixels.shape[:2])
        code = re.search(r"#([0-9a-f]{6})\b", phrase.lower())
        if code is not None:
            sought = to_lab(np.frombuffer(bytes.fromhex(code[1]), np.uint8).reshape(1, 1, 3))
            similar = np.linalg.norm(to_lab(pixels) - sought, axis=2) < self.tolerance
            joined = cv2.morphologyEx(similar.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5)))
            _, labels, stats, _ = cv2.connectedComponentsWithStats(joined)
            large = [label for label in range(1, len(stats)) if stats[label, cv2.CC_STAT_AREA] >= self.min_area]
            masks = Masks.from_dense(labels == np.array(large).reshape(-1, 1, 1))
        return Detections(masks.boxes, masks, scores=np.full(len(masks), 0.9))


def to_lab(pixels: Pixels) -> NDArray[np.float32]:
    return cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).astype(np.float32)


def make() -> list[ColourCodes]:
    """What is registered under a name: a function that makes a list of experts."""
    return [ColourCodes()]


def main() -> None:
    registration.experts.register("colour_codes", f"{__name__}:make", summary="regions of a colour, by its code")
    ask = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "#fade32"}}
    point = {"name": "PhraseToPoint", "arguments": {"images": ["img_0"], "phrase": "yellow kite"}}

    for experts in ("classical", {"*": "classical", "GroundPhrase": ColourCodes(tolerance=25)}):
        env = gym.make("VisHarness/GRefSeg-v0", split="val", experts=experts)
        _, info = env.reset(options={"index": 2})
        print(info["query"])
        for call in (ask, point):
            print(" ", env.step(call)[-1]["reply"].splitlines()[0].partition(". ")[0])

    # Under its name, and of many episodes at once: one call of the expert for all of them.
    envs = gym.make_vec("VisHarness/GRefSeg-v0", 8, experts={"*": "classical", "GroundPhrase": "colour_codes"})
    assert isinstance(envs, VisionToolVectorEnv)  # which Gymnasium's annotations cannot know
    envs.reset(seed=0)
    envs.step([ask] * 8)
    print(f"{envs.pool.counters.requests} requests in {envs.pool.counters.batches} batch")


if __name__ == "__main__":
    main()
