"""Tools of interactive segmentation, as RSAgent's (arXiv 2512.24023): zoom, prompt, refine, look, compare, submit.

Masks stay in the workspace as candidates with short names, in the frame of the input image; the agent names them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from visenv.capabilities import Candidates, Prompt, SegmentPrompts
from visenv.masks import Masks
from visenv.tools.base import Steps, ToolContext, ToolError, expect
from visenv.tools.merge import SourceDetections, merge_detections
from visenv.types import Argument, Detections, FloatArray, ToolSpec
from visenv.workspace import Candidate, Effect, NamedImage, Overlay, Picture, Workspace, usable

SMALLEST = 16
"""Pixels of a side of the smallest region that can be zoomed to."""

_IMAGE = Argument("image", "image", "name of the image that the coordinates refer to")
_POINTS = Argument("points", "points", "points [x, y, 1] on what is meant and [x, y, 0] beside it")
_CANDIDATE = Argument("candidate", "candidate", "name of a candidate, such as c1")


@dataclass(frozen=True, eq=False)
class Clicks:
    """The signed points that a candidate was made from, in pixels of its input image."""

    inside: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    """(K, 2) points on what is meant."""
    outside: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    """(L, 2) points beside it."""

    @classmethod
    def of(cls, points: Sequence[Sequence[float]]) -> Clicks:
        """Signed points ``[x, y, sign]`` as clicks."""
        rows = np.asarray(points, dtype=np.float64).reshape(-1, 3)
        return cls(rows[rows[:, 2] > 0, :2], rows[rows[:, 2] <= 0, :2])

    def mapped(self, transform: FloatArray) -> Clicks:
        """The same points in another frame."""
        return Clicks(_mapped(self.inside, transform), _mapped(self.outside, transform))

    def and_also(self, others: Clicks) -> Clicks:
        """These points and others."""
        return Clicks(np.concatenate([self.inside, others.inside]), np.concatenate([self.outside, others.outside]))


class ZoomRegion:
    """A part of an image as an image of its own."""

    spec = ToolSpec(
        "ZoomRegion",
        "Makes a region of an image an image of its own, called NAME_z1, NAME_z2, …, and shows it. Prompts on it work "
        "in its own coordinates and see nothing of the rest.",
        (_IMAGE, Argument("box", "box", "the region [x1, y1, x2, y2]")),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        """See ``Tool.run``."""
        parent = context.workspace.images[arguments["image"]]
        width, height = parent.size
        x0, y0, x1, y1 = arguments["box"]
        box = (max(0, math.floor(x0)), max(0, math.floor(y0)), min(width, math.ceil(x1)), min(height, math.ceil(y1)))
        if box[2] - box[0] < min(SMALLEST, width) or box[3] - box[1] < min(SMALLEST, height):
            raise ToolError(
                "too_small", f"The region must cover at least {SMALLEST}x{SMALLEST} pixels of {parent.name}: take more."
            )
        image = parent.patch(_zoomed_name(parent, context.workspace), box, context.turn)
        corners = context.write(np.array([box], dtype=float), parent.size)[0]
        text = f"{image.name} ({image.size[0]}x{image.size[1]}, {corners} of {parent.name}):"
        return Effect((text, Picture(image.name, image)), images=(image,))


class SegmentPoints:
    """A candidate from signed points."""

    spec = ToolSpec(
        "SegmentPoints",
        "Segments the one object that points on an image mean, as a candidate; points beside it say what it is not.",
        (_IMAGE, _POINTS),
        asks=(SegmentPrompts.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        image, clicks = context.workspace.images[arguments["image"]], Clicks.of(arguments["points"])
        if not len(clicks.inside):
            raise ToolError("no_point_inside", "At least one point must lie on what is meant: [x, y, 1].")
        _check_within(clicks, image)
        return (yield from _segmented(image, _prompt(clicks), clicks.mapped(image.to_root), context))


class SegmentBox:
    """A candidate from a box."""

    spec = ToolSpec(
        "SegmentBox",
        "Segments the one object that a box on an image encloses, as a new candidate.",
        (_IMAGE, Argument("box", "box", "the box [x1, y1, x2, y2]")),
        asks=(SegmentPrompts.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        image = context.workspace.images[arguments["image"]]
        box = np.clip(np.asarray(arguments["box"], np.float64), 0, np.tile(image.size, 2))
        if (box[2:] <= box[:2]).any():
            raise ToolError("outside", f"The box must lie in {image.name}: it does not.")
        return (yield from _segmented(image, Prompt(box=box), Clicks(), context))


class RefineCandidate:
    """A candidate with what points add to it and take from it, as a new one."""

    spec = ToolSpec(
        "RefineCandidate",
        "Makes a new candidate from one: what each point [x, y, 1] lies on is added to it, what each point [x, y, 0] "
        "lies on is taken away.",
        (_CANDIDATE, _IMAGE, _POINTS),
        needs="candidates",
        asks=(SegmentPrompts.capability,),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        workspace = context.workspace
        old, image = workspace.candidates[arguments["candidate"]], workspace.images[arguments["image"]]
        if image.root.name != old.image:
            raise ToolError("wrong_root", f"{old.name} lies in {old.image}, of which {image.name} shows no part.")
        new = Clicks.of(arguments["points"])
        _check_within(new, image)
        earlier: Clicks = old.prompt
        beside = new.and_also(earlier.mapped(np.linalg.inv(image.to_root))).outside
        # What is added must not take in what was marked as beside it; what is taken away is the least that is there.
        prompts = [_prompt(Clicks(point[None], beside)) for point in new.inside]
        prompts += [Prompt(points=point[None]) for point in new.outside]
        (found,) = expect((yield [SegmentPrompts(workspace.view(image.name, context.sample_id), tuple(prompts))]))
        added = [_in_root(_surest(found, place), image) for place in range(len(new.inside))]
        taken = [_in_root(_smallest(found, place), image) for place in range(len(new.inside), len(prompts))]
        masks = old.detections.masks
        assert masks is not None
        height, width = workspace.images[old.image].pixels.shape[:2]
        masks = Masks.concatenate([masks, *(_masks_of(part) for part in added)], (height, width)).union()
        if taken:
            masks = masks.minus(Masks.concatenate([_masks_of(part) for part in taken], (height, width)).union())
        scores = [float(old.detections.scores[0]), *(float(part.scores[0]) for part in added if len(part))]
        clicks = earlier.and_also(new.mapped(image.to_root))
        return _kept(Detections(masks.boxes, masks, np.array([min(scores)])), image, clicks, context, old.name)


class ShowCandidate:
    """A candidate drawn over an image."""

    spec = ToolSpec("ShowCandidate", "Shows a candidate drawn over an image.", (_CANDIDATE, _IMAGE), needs="candidates")

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        """See ``Tool.run``."""
        workspace = context.workspace
        candidate, image = workspace.candidates[arguments["candidate"]], workspace.images[arguments["image"]]
        if image.root.name != candidate.image:
            raise ToolError(
                "wrong_root", f"{candidate.name} lies in {candidate.image}, of which {image.name} shows no part."
            )
        return Effect((_says(candidate, workspace, context), _drawn(candidate, image)))


class CompareCandidates:
    """Two candidates beside each other."""

    spec = ToolSpec(
        "CompareCandidates",
        "Compares two candidates: how much they share, what each has alone, both drawn over the image.",
        (Argument("candidates", "candidates", "names of two candidates"),),
        needs="candidates",
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        """See ``Tool.run``."""
        workspace = context.workspace
        two = [workspace.candidates[name] for name in arguments["candidates"]]
        if len(two) != 2 or two[0].image != two[1].image:
            raise ToolError("not_two", "Name two different candidates of one image.")
        one, other = (_masks_of(candidate.detections) for candidate in two)
        both = Masks.concatenate([one, other])
        scores = np.array([candidate.detections.scores[0] for candidate in two])
        common = int(one.intersection_areas(other)[0, 0])
        lines = [_says(candidate, workspace, context) for candidate in two]
        lines.append(f"IoU of the two: {one.iou(other)[0, 0]:.2f}.")
        for candidate, area in zip(two, both.areas.tolist(), strict=True):
            lines.append(f"{(area - common) / area:.0%} of {candidate.name} is not in the other.")
        image = workspace.images[two[0].image]
        overlay = Overlay(detections=Detections(both.boxes, both, scores))
        return Effect(("\n".join(lines), Picture(f"{two[0].name}_{two[1].name}_visual", image, overlay)))


class SubmitCandidate:
    """A candidate as the final result: the end."""

    spec = ToolSpec(
        "SubmitCandidate",
        "Ends the task with a candidate as its result. Where there is nothing to segment, answer instead.",
        (_CANDIDATE,),
        needs="candidates",
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        """See ``Tool.run``."""
        candidate = context.workspace.candidates[arguments["candidate"]]
        if candidate.image != "img_0":
            raise ToolError("wrong_root", f"{candidate.name} lies in {candidate.image}: the result stands in img_0.")
        text = f"{candidate.name} was submitted."
        return Effect((text,), final=candidate.detections, answer=candidate.name)


def _segmented(image: NamedImage, prompt: Prompt, clicks: Clicks, context: ToolContext) -> Steps:
    request = SegmentPrompts(context.workspace.view(image.name, context.sample_id), (prompt,))
    (found,) = expect((yield [request]))
    return _kept(_in_root(_surest(found, 0), image), image, clicks, context)


def _kept(
    found: Detections, image: NamedImage, clicks: Clicks, context: ToolContext, made_from: str | None = None
) -> Effect:
    """Keep what was found as the next candidate, and show it over the image that was worked on."""
    found = usable(found)
    if not len(found):
        raise ToolError("nothing_there", "Nothing is left there: try other points, or another image.")
    name = f"c{len(context.workspace.candidates) + 1}"
    candidate = Candidate(name, image.root.name, found, clicks, made_from)
    reply = (_says(candidate, context.workspace, context), _drawn(candidate, image))
    return Effect(reply, candidates=(candidate,))


def _says(candidate: Candidate, workspace: Workspace, context: ToolContext) -> str:
    image, found = workspace.images[candidate.image], candidate.detections
    width, height = image.size
    share = _masks_of(found).areas[0] / (width * height)
    (box,) = context.write(found.boxes, image.size)
    refined = f", made from {candidate.made_from}" if candidate.made_from else ""
    facts = f"box {box} of {image.name}, {share:.1%} of it, score {found.scores[0]:.2f}{refined}"
    return f"{candidate.name}: {facts}. {context.frame(image.size)}"


def _drawn(candidate: Candidate, image: NamedImage) -> Picture:
    found = candidate.detections
    if image.depth:
        height, width = image.pixels.shape[:2]
        masks = _masks_of(found).warp(np.linalg.inv(image.to_root), (height, width))
        found = usable(Detections(masks.boxes, masks, found.scores))
    return Picture(f"{image.name}_{candidate.name}_visual", image, Overlay(detections=found))


def _prompt(clicks: Clicks) -> Prompt:
    points = np.concatenate([clicks.inside, clicks.outside])
    return Prompt(points, np.repeat([1, 0], [len(clicks.inside), len(clicks.outside)]))


def _check_within(clicks: Clicks, image: NamedImage) -> None:
    points = np.concatenate([clicks.inside, clicks.outside])
    if (points < 0).any() or (points > image.size).any():
        raise ToolError("outside", f"Every point must lie in {image.name}: one of them does not.")


def _surest(found: Candidates, place: int) -> Detections:
    return _one(found.masks[place], found.scores[place], int(np.argmax(found.scores[place])))


def _smallest(found: Candidates, place: int) -> Detections:
    areas = np.asarray(found.masks[place].areas, dtype=float)
    return _one(found.masks[place], found.scores[place], int(np.argmin(np.where(areas > 0, areas, np.inf))))


def _one(masks: Masks, scores: FloatArray, index: int) -> Detections:
    mask = masks[[index]]
    return Detections(mask.boxes, mask, scores[[index]])


def _in_root(found: Detections, image: NamedImage) -> Detections:
    """The same in the frame of the input image."""
    source = SourceDetections(image.name, usable(found), image.to_root, image.split, image.depth)
    return merge_detections([source], image.root.size)


def _masks_of(found: Detections) -> Masks:
    assert found.masks is not None
    return found.masks


def _mapped(points: FloatArray, transform: FloatArray) -> FloatArray:
    return np.asarray(points @ transform[:2, :2].T + transform[:2, 2])


def _zoomed_name(parent: NamedImage, workspace: Workspace) -> str:
    zoomed = f"{parent.name}_z"
    earlier = [name for name, image in workspace.images.items() if image.parent is parent and name.startswith(zoomed)]
    return f"{zoomed}{len(earlier) + 1}"
