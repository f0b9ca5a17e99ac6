"""Tools of VipAct (arXiv 2410.16400): specialised agents that are asked for words, and experts for what is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from visenv.capabilities import Describe, Embed, EstimateDepth, FindVisualPrompts
from visenv.tools.base import Steps, ToolContext, ToolError, expect
from visenv.tools.interactive import ZoomRegion
from visenv.tools.recall import RecallImage
from visenv.tools.visharness import PhraseToBoxMask, PhraseToPoint, PointToBoxMask
from visenv.types import Argument, ToolSpec
from visenv.workspace import Effect, Picture, usable

LONGEST = 2000
"""Characters of what a specialist says that are taken into a reply."""
_IMAGE = Argument("image", "image", "name of the image")
_FOCUS = Argument("focus", "phrase", "what to look at")


class ImageCaptioning:
    """A specialist that describes an image."""

    spec = ToolSpec(
        "ImageCaptioning",
        "Asks a specialist to describe an image, looking at what you are interested in.",
        (_IMAGE, _FOCUS),
        asks=(Describe.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        view = context.workspace.view(arguments["image"], context.sample_id)
        (said,) = expect((yield [Describe(view, "caption", arguments["focus"])]))
        return Effect((f"{arguments['image']}: {_cut(said.text)}",))


class VisualPromptDescribe:
    """A specialist that describes what is marked in an image."""

    spec = ToolSpec(
        "VisualPromptDescribe",
        "Asks a specialist which visual prompts (circles, boxes, arrows, letters) an image has, and what they are on.",
        (_IMAGE,),
        asks=(Describe.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        view = context.workspace.view(arguments["image"], context.sample_id)
        (said,) = expect((yield [Describe(view, "visual_prompt")]))
        return Effect((f"{arguments['image']}: {_cut(said.text)}",))


class ImageComparison:
    """A specialist that compares images."""

    spec = ToolSpec(
        "ImageComparison",
        "Asks a specialist how images differ and what they have in common, looking at what you are interested in.",
        (Argument("images", "images", "names of at least two images"), _FOCUS),
        asks=(Describe.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        names = arguments["images"]
        if len(names) < 2:
            raise ToolError("not_several", "Name at least two different images to compare.")
        first, *others = (context.workspace.view(name, context.sample_id) for name in names)
        (said,) = expect((yield [Describe(first, "compare", arguments["focus"], tuple(others))]))
        return Effect((f"{', '.join(names)}: {_cut(said.text)}",))


class VisualPromptDetector:
    """Where an image is marked."""

    spec = ToolSpec(
        "VisualPromptDetector",
        "Finds circles, boxes and arrows that are drawn on an image, with their letters and coordinates.",
        (_IMAGE,),
        asks=(FindVisualPrompts.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        image = context.workspace.images[arguments["image"]]
        (result,) = expect((yield [FindVisualPrompts(context.workspace.view(image.name, context.sample_id))]))
        found = usable(result)
        if not len(found):
            return Effect((f"{image.name}: nothing is marked.",), detections=((image.name, found),))
        labels = found.labels or ("mark",) * len(found)
        written = []
        for label, box in zip(labels, found.boxes, strict=True):
            middle = np.array([[(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]])
            (place,) = context.write(box[None] if label.startswith("box") else middle, image.size)
            written.append(f"{label} {place}")
        text = f"{image.name}: {', '.join(written)}. {context.frame(image.size)}"
        return Effect((text,), detections=((image.name, found),))


class DepthEstimation:
    """How near everything in an image is."""

    spec = ToolSpec(
        "DepthEstimation",
        "Estimates depth: makes NAME_depth, a grey picture of the same frame in which brighter is nearer, and says how "
        "near what was last found on the image is, from 0 to 1.",
        (_IMAGE,),
        asks=(EstimateDepth.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        workspace, name = context.workspace, arguments["image"]
        image = workspace.images[name]
        (result,) = expect((yield [EstimateDepth(workspace.view(name, context.sample_id))]))
        nearness = np.asarray(result.nearness)
        grey = np.rint(nearness * 255).astype(np.uint8)
        made = image.derived(f"{name}_depth", np.repeat(grey[:, :, None], 3, axis=2), "depth", context.turn)
        lines = [f"{made.name} (brighter is nearer):"]
        found = workspace.detections.get(name)
        if found is not None:
            labels = found.labels or tuple(str(number) for number in range(1, len(found) + 1))
            values = []
            for label, box in list(zip(labels, found.boxes.tolist(), strict=True))[:20]:
                x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
                row, column = min(max(y, 0), grey.shape[0] - 1), min(max(x, 0), grey.shape[1] - 1)
                values.append(f"{label} {nearness[row, column]:.2f}")
            lines.insert(0, f"Nearness in the middle of what was found: {', '.join(values)}.")
        return Effect((*lines, Picture(made.name, made)), images=(made,))


class EmbeddingSimilarity:
    """How alike images look."""

    spec = ToolSpec(
        "EmbeddingSimilarity",
        "Says how alike images, or regions that you zoomed to, look: the cosine similarity of the first to each other.",
        (Argument("images", "images", "names of at least two images, the one to compare with first"),),
        asks=(Embed.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        names = arguments["images"]
        if len(names) < 2:
            raise ToolError("not_several", "Name at least two different images to compare.")
        requests = [Embed(context.workspace.view(name, context.sample_id)) for name in names]
        first, *others = (result.image for result in expect((yield list(requests))))
        said = [f"{name} {float(first @ other):.3f}" for name, other in zip(names[1:], others, strict=True)]
        return Effect((f"Similarity to {names[0]}: {', '.join(said)}.",))


SPECIALISTS = (ImageCaptioning, VisualPromptDescribe, ImageComparison)
"""Agents that are asked for words."""
EXPERTS = (
    VisualPromptDetector,
    DepthEstimation,
    EmbeddingSimilarity,
    PhraseToBoxMask,
    PhraseToPoint,
    PointToBoxMask,
)
"""What frozen models find."""
LOOKING = (ZoomRegion, RecallImage)
"""What asks nobody."""
VIPACT = (*SPECIALISTS, *EXPERTS, *LOOKING)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"
