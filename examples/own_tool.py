"""A tool of your own: `ZoomIn` crops an image to a box, so that an agent looks closely where it wants to.

    python examples/own_tool.py

A tool has a specification, of which its JSON Schema, its validation and its part of the action space are made, and
`run`, which returns what the call did. The crop knows where it lies in its image, so that `MergeBoxMask` maps what is
found on it back. Below, the same question is asked of a whole picture and of a part of it. It prints:

    Find the rightmost anchor.
      img_0: 1 point: 1 [956, 181]
      img_0: 1 box with a mask: 1 [939, 166, 971, 184]
      Merged: the final result is 1 object in img_0.
      The episode has ended: answer.
      reward -1.4, IoU 0.2
    Find the rightmost anchor.
      Error (too_small): That is 12x256 pixels: take at least 32x32.
      img_0_zoom2 (128x256) is [750, 0, 1000, 500] of img_0:
      img_0_zoom2_4x (512x1024) was made from img_0_zoom2; it is stored, not shown.
      img_0_zoom2_4x: 1 point: 1 [810, 360]
      img_0_zoom2_4x: 1 box with a mask: 1 [738, 284, 906, 372]
      Merged: the final result is 1 object in img_0.
      The episode has ended: answer.
      reward 3.3, IoU 0.8
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

import visenv  # noqa: F401 - registers the environments
from visenv.tools.base import ToolContext, ToolError
from visenv.tools.toolsets import VISHARNESS
from visenv.types import Argument, ToolSpec
from visenv.workspace import Effect, Picture

MIN_SIDE = 32


class ZoomIn:
    """Crops an image to a box and shows the crop."""

    spec = ToolSpec(
        "ZoomIn",
        "Crops an image to a box and shows the crop, which is a new image that can be named in calls.",
        (Argument("image", "image", "name of the image"), Argument("box", "box", "the part to show, [x1, y1, x2, y2]")),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        image = context.workspace.images[arguments["image"]]
        # Validated against the specification: the image exists, and the box is in order and in pixels of the image.
        limit = np.array([*image.size, *image.size])
        window = np.clip(np.round(arguments["box"]), 0, limit).astype(int)
        x0, y0, x1, y1 = window.tolist()
        if min(x1 - x0, y1 - y0) < MIN_SIDE:
            raise ToolError("too_small", f"That is {x1 - x0}x{y1 - y0} pixels: take at least {MIN_SIDE}x{MIN_SIDE}.")
        crop = image.patch(f"{image.name}_zoom{context.turn}", (x0, y0, x1, y1), context.turn)
        # In the coordinates that the agent reads and writes, which depend on the dialect.
        corners = context.write(window[None].astype(float), image.size)[0]
        says = f"{crop.name} ({crop.size[0]}x{crop.size[1]}) is {corners} of {image.name}:"
        return Effect((says, Picture(crop.name, crop)), images=(crop,))


LOOK = [
    ("PhraseToPoint", {"images": ["img_0"], "phrase": "the rightmost anchor"}),
    ("PointToBoxMask", {"images": ["img_0"], "mode": "confidence"}),
    ("MergeBoxMask", {"images": ["img_0"]}),
    ("Answer", {"text": "Here."}),
]
LOOK_CLOSER = [
    ("ZoomIn", {"image": "img_0", "box": [500, 0, 512, 256]}),
    ("ZoomIn", {"image": "img_0", "box": [384, 0, 512, 256]}),
    ("SuperResolution", {"images": ["img_0_zoom2"]}),
    ("PhraseToPoint", {"images": ["img_0_zoom2_4x"], "phrase": "the rightmost anchor"}),
    ("PointToBoxMask", {"images": ["img_0_zoom2_4x"], "mode": "confidence"}),
    ("MergeBoxMask", {"images": ["img_0_zoom2_4x"]}),
    ("Answer", {"text": "Here."}),
]


def main() -> None:
    env = gym.make("VisHarness/RefSeg-v0", split="val", difficulty=3, toolset=[*VISHARNESS, ZoomIn])
    for calls in (LOOK, LOOK_CLOSER):
        _, info = env.reset(options={"index": 29})
        print(info["query"])
        for name, arguments in calls:
            _, reward, _, _, info = env.step({"name": name, "arguments": arguments})
            print(f"  {info['reply'].splitlines()[0].partition('. ')[0]}")
        print(f"  reward {reward:.1f}, IoU {info['metrics']['gIoU']:.1f}")


if __name__ == "__main__":
    main()
