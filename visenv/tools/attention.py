"""Tools that bring back attention, not pixels, in the style of IMAgent (arXiv 2512.08980): reflect and verify."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from visenv.capabilities import GroundPhrase
from visenv.tools.base import Steps, ToolContext, ToolError, describe, expect
from visenv.tools.interactive import ZoomRegion
from visenv.tools.visharness import PhraseToBoxMask, PhraseToPoint, PointToBoxMask
from visenv.types import Argument, ToolSpec
from visenv.workspace import Effect, NamedImage, Overlay, Picture, usable

_LEAST = 4
"""Pixels of a side of the smallest region to look at."""


class Reflect:
    """An image that was seen before, looked at again: all of it, or with a region marked."""

    spec = ToolSpec(
        "Reflect",
        "Brings an image back into view, to look at it again; if you name a region, with that region marked.",
        (
            Argument("image", "image", "name of the image to look at again"),
            Argument("box", "box", "the region [x1, y1, x2, y2] to look at; all of it if left out", optional=True),
        ),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        """See ``Tool.run``."""
        image = context.workspace.images[arguments["image"]]
        box = (0, 0, *image.size) if arguments["box"] is None else _clipped(arguments["box"], image)
        if box[2] - box[0] >= image.size[0] and box[3] - box[1] >= image.size[1]:
            return Effect((f"{image.name} ({image.size[0]}x{image.size[1]}):", Picture(image.name, image)))
        (corners,) = context.write(np.array([box], dtype=float), image.size)
        overlay = Overlay(windows=(("here", box),))
        text = f"{image.name} with {corners} marked. {context.frame(image.size)}"
        return Effect((text, Picture(f"{image.name}_reflect_visual", image, overlay)))


class Verify:
    """A claim beside the image that it is about, with what an expert finds there."""

    spec = ToolSpec(
        "Verify",
        "Puts a claim beside the image that it is about, so that it can be checked, with what an expert finds of the "
        "thing that the claim is about.",
        (
            Argument("image", "image", "name of the image"),
            Argument("claim", "phrase", "what you believe of the image"),
            Argument("phrase", "phrase", "the thing that the claim is about: a noun, or one colour and a noun"),
        ),
        asks=(GroundPhrase.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        image, phrase = context.workspace.images[arguments["image"]], arguments["phrase"]
        (result,) = expect((yield [GroundPhrase(context.workspace.view(image.name, context.sample_id), phrase)]))
        found = usable(result)
        reading = describe(found.boxes, image, context, phrase, f"times {phrase}")
        reply = (f"Claim: {arguments['claim']}", f"An expert finds: {reading}", Picture(image.name, image))
        return Effect(reply, detections=((image.name, found),))


class Claim:
    """A claim beside the image that it is about; no expert is asked."""

    spec = ToolSpec(
        "Verify",
        "Puts a claim beside the image that it is about, so that it can be checked.",
        (Argument("image", "image", "name of the image"), Argument("claim", "phrase", "what you believe of the image")),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        """See ``Tool.run``."""
        image = context.workspace.images[arguments["image"]]
        return Effect((f"Claim: {arguments['claim']}", Picture(image.name, image)))


MULTIIMAGE = (PhraseToBoxMask, PhraseToPoint, PointToBoxMask, ZoomRegion, Reflect, Verify)
ATTENTION = (Reflect, Claim)
"""The two tools alone, without any expert: the agent's eyes are its own."""


def _clipped(box: tuple[float, ...], image: NamedImage) -> tuple[int, int, int, int]:
    width, height = image.size
    x0, y0, x1, y1 = (round(side) for side in box)
    clipped = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    if clipped[2] - clipped[0] < _LEAST or clipped[3] - clipped[1] < _LEAST:
        raise ToolError("too_small", f"The region must cover at least {_LEAST}x{_LEAST} pixels of {image.name}.")
    return clipped
