"""The six tools of VisHarness (arXiv 2605.29894), with its names and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from visenv.capabilities import GroundPhrase, PointPhrase, Prompt, Request, SegmentPrompts, Upscale
from visenv.masks import Masks
from visenv.tools.base import Steps, ToolContext, ToolError, describe, expect
from visenv.tools.merge import SourceDetections, merge_detections
from visenv.tools.split import PatchWindow, count_windows, split_windows
from visenv.types import Argument, Detections, FloatArray, ToolSpec
from visenv.workspace import Effect, NamedImage, Overlay, Picture, usable, usable_points

MAX_PATCHES = 64
"""Patches made in one call."""
MAX_UPSCALED_PIXELS = 7680 * 4320
"""Of one enlarged image: 4x of the largest input."""
MAX_UPSCALED_PIXELS_PER_CALL = 2 * MAX_UPSCALED_PIXELS
FACTOR = 4

_IMAGES = Argument("images", "images", "names of the images to work on")


class PhraseToBoxMask:
    """Boxes and masks of every instance of a simple phrase."""

    spec = ToolSpec(
        "PhraseToBoxMask",
        "Finds every instance of a simple phrase (a noun, or one colour and a noun) in each image, as boxes and masks.",
        (_IMAGES, Argument("phrase", "phrase", "what to find: a noun, or one colour and a noun")),
        asks=(GroundPhrase.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        names, phrase = arguments["images"], arguments["phrase"]
        views = [context.workspace.view(name, context.sample_id) for name in names]
        found = expect((yield [GroundPhrase(view, phrase) for view in views]))
        return _boxes_effect(self.spec.name, names, found, context)


class PhraseToPoint:
    """The centre points of what a complex phrase refers to."""

    spec = ToolSpec(
        "PhraseToPoint",
        "Points at everything that a phrase refers to in each image; the phrase may hold relations, an order, a "
        "pattern, a purpose. Use PointToBoxMask to turn the points into boxes and masks.",
        (_IMAGES, Argument("phrase", "phrase", "what to point at, in as many words as it takes")),
        asks=(PointPhrase.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        names, phrase = arguments["images"], arguments["phrase"]
        views = [context.workspace.view(name, context.sample_id) for name in names]
        results = expect((yield [PointPhrase(view, phrase) for view in views]))
        found = [usable_points(points, view.size) for points, view in zip(results, views, strict=True)]
        reply: list[str | Picture] = []
        for name, points in zip(names, found, strict=True):
            image = context.workspace.images[name]
            overlay = Overlay(points=points.points)
            reply.append(describe(points.points, image, context, "point", "points"))
            reply.append(Picture(f"{name}_{self.spec.name}_visual", image, overlay))
        return Effect(tuple(reply), points=tuple(zip(names, found, strict=True)))


class PointToBoxMask:
    """Boxes and masks for the points stored on images."""

    spec = ToolSpec(
        "PointToBoxMask",
        "Turns the points that PhraseToPoint stored on each image into boxes and masks, one object a point.",
        (
            _IMAGES,
            Argument(
                "mode",
                "choice",
                "'confidence' takes the surest of the masks that a point may mean, 'area' the largest",
                ("confidence", "area"),
            ),
        ),
        needs="points",
        asks=(SegmentPrompts.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        names, workspace = arguments["images"], context.workspace
        bare = [name for name in names if name not in workspace.points]
        if bare:
            raise ToolError(
                "no_points", f"{_few(bare)} has no points yet: call PhraseToPoint on it first, or leave it out."
            )
        requests: list[Request] = []
        for name in names:
            prompts = tuple(Prompt(points=point[None]) for point in workspace.points[name].points)
            requests.append(SegmentPrompts(workspace.view(name, context.sample_id), prompts))
        results = expect((yield requests))
        found = []
        for name, candidates in zip(names, results, strict=True):
            chosen = [
                (masks[[index]], float(scores[index]))
                for masks, scores in zip(candidates.masks, candidates.scores, strict=True)
                for index in [int(np.argmax(masks.areas if arguments["mode"] == "area" else scores))]
            ]
            width, height = workspace.images[name].size
            masks = Masks.concatenate([mask for mask, _ in chosen]) if chosen else Masks.empty((height, width))
            found.append(Detections(masks.boxes, masks, np.array([score for _, score in chosen])))
        return _boxes_effect(self.spec.name, names, found, context)


class SplitImageIntoPatches:
    """Overlapping patches of images."""

    spec = ToolSpec(
        "SplitImageIntoPatches",
        "Cuts images into overlapping patches named NAME_rI_cJ (row and column from 1), so that small things can be "
        "looked at one part at a time.",
        (
            Argument(
                "patch_configs",
                "patch_sizes",
                'an object from image name to patch size in pixels, like {"img_0": 320}',
                low=1,
                high=1_000_000,
            ),
        ),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        """See ``Tool.run``."""
        sizes: dict[str, int] = arguments["patch_configs"]
        workspace = context.workspace
        counts = {name: count_windows(*workspace.images[name].size, size) for name, size in sizes.items()}
        if sum(counts.values()) > MAX_PATCHES:
            each = ", ".join(f"{name} into {count}" for name, count in list(counts.items())[:8])
            raise ToolError(
                "too_many_patches",
                f"That would cut {each}, but one call makes at most {MAX_PATCHES} patches: use larger patches.",
            )
        reply: list[str | Picture] = []
        made: list[NamedImage] = []
        for name, size in sizes.items():
            parent = workspace.images[name]
            windows = split_windows(*parent.size, size)
            patches = [_patch(parent, window, context.turn) for window in windows]
            boxes = tuple((patch.name, (w.x0, w.y0, w.x1, w.y1)) for patch, w in zip(patches, windows, strict=True))
            reply.append(f"{name} was cut into {len(patches)} patches. All of them on {name}:")
            reply.append(Picture(f"{name}_split_overview", parent, Overlay(windows=boxes)))
            for patch, (label, box) in zip(patches, boxes, strict=True):
                corners = context.write(np.array([box], dtype=float), parent.size)[0]
                reply.append(f"{label} ({patch.size[0]}x{patch.size[1]}, {corners} of {name}):")
                reply.append(Picture(label, patch))
            made += patches
        return Effect(tuple(reply), images=tuple(made))


class SuperResolution:
    """Images enlarged four times."""

    spec = ToolSpec(
        "SuperResolution",
        "Enlarges images four times; the new image of NAME is called NAME_4x. It is stored and can be named in calls, "
        "but is not shown.",
        (_IMAGES,),
        needs="unenlarged",
        asks=(Upscale.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        names, workspace = arguments["images"], context.workspace
        twice = [name for name in names if name.endswith("4x")]
        if twice:
            raise ToolError("upscaled_twice", f"{_few(twice)} was enlarged already: use it as it is.")
        pixels = {name: FACTOR**2 * workspace.images[name].size[0] * workspace.images[name].size[1] for name in names}
        for name, count in pixels.items():
            if count > MAX_UPSCALED_PIXELS:
                raise ToolError("too_large", f"{name} would become too large: cut it into patches first.")
        if sum(pixels.values()) > MAX_UPSCALED_PIXELS_PER_CALL:
            raise ToolError("too_large", f"{len(names)} images of that size are too many for one call: name fewer.")
        results = expect((yield [Upscale(workspace.view(name, context.sample_id), FACTOR) for name in names]))
        made = [
            workspace.images[name].upscaled(f"{name}_4x", up.pixels, FACTOR, up.fingerprint, context.turn)
            for name, up in zip(names, results, strict=True)
        ]
        lines = [
            f"{image.name} ({image.size[0]}x{image.size[1]}) was made from {name}; it is stored, not shown."
            for name, image in zip(names, made, strict=True)
        ]
        return Effect(("\n".join(lines),), images=tuple(made))


class MergeBoxMask:
    """The final result: everything found on the named images, merged in the frame of ``img_0``."""

    spec = ToolSpec(
        "MergeBoxMask",
        "Maps what was found on the named images to img_0, removes duplicates, joins fragments, and sets the final "
        "result. Name every image whose boxes and masks belong to the result. Where there is nothing to find, answer "
        "without it.",
        (_IMAGES,),
        needs="boxes",
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        """See ``Tool.run``."""
        names, workspace = arguments["images"], context.workspace
        bare = [name for name in names if name not in workspace.detections]
        if bare:
            raise ToolError(
                "no_boxes",
                f"{_few(bare)} has no boxes and masks yet: find something on it first, or leave it out. If there is "
                "nothing to find, answer without merging.",
            )
        foreign = [name for name in names if workspace.images[name].root is not workspace.root]
        if foreign:
            raise ToolError("wrong_root", f"{_few(foreign)} does not show a part of img_0, in which the result stands.")
        sources = [_source(workspace.images[name], workspace.detections[name]) for name in names]
        final = merge_detections(sources, workspace.root.size)
        if not len(final):
            raise ToolError("nothing_left", "Nothing of what was found lies in img_0: find something first.")
        noun = "object" if len(final) == 1 else "objects"
        return Effect((f"Merged: the final result is {len(final)} {noun} in img_0.",), final=final)


def _few(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''} each"


def _patch(parent: NamedImage, window: PatchWindow, turn: int) -> NamedImage:
    name = f"{parent.name}_r{window.row}_c{window.column}"
    return parent.patch(name, (window.x0, window.y0, window.x1, window.y1), turn)


def _source(image: NamedImage, detections: Detections) -> SourceDetections:
    return SourceDetections(image.name, detections, image.to_root, image.split, image.depth)


def _boxes_effect(tool: str, names: tuple[str, ...], results: list[Detections], context: ToolContext) -> Effect:
    reply: list[str | Picture] = []
    stored = []
    for name, result in zip(names, results, strict=True):
        image = context.workspace.images[name]
        found = usable(result)
        boxes: FloatArray = found.boxes
        reply.append(describe(boxes, image, context, "box with a mask", "boxes with masks"))
        reply.append(Picture(f"{name}_{tool}_visual", image, Overlay(detections=found)))
        stored.append((name, found))
    return Effect(tuple(reply), detections=tuple(stored))
