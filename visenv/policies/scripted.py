"""VisHarness's published strategies as a script: which tool when, from the words and from what the tools return."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from visenv.episode import Episode
from visenv.policies.base import Plan, PlannedPolicy
from visenv.policies.phrases import is_simple, needs_whole_image, target_phrase
from visenv.policies.single import conclusion
from visenv.tools.split import count_windows
from visenv.tools.visharness import FACTOR, MAX_UPSCALED_PIXELS_PER_CALL
from visenv.types import MAX_PHRASE, Answer, ToolCall

LARGE = 640
"""Pixels of the longer side above which a picture is cut before a simple phrase is looked for: it is full of things."""
WIDE = 320
"""Pixels of the longer side up to which a picture is seen whole as well as in patches."""
TINY = 0.065
"""Median longer side of what was found, in parts of the picture's, below which some was probably missed."""
DENSE_CELLS, FEW_CELLS, RELATED_CELLS = 64, 9, 4
"""Most patches: of a picture full of things, of another, and where things must be seen beside each other."""
TURNS_TO_SPLIT = 6
"""Split, enlarge, point, segment, merge, answer."""


class ScriptedPolicy(PlannedPolicy):
    """Follows the published strategies of VisHarness.

    A noun, or one colour and a noun, goes to PhraseToBoxMask; anything more to PhraseToPoint and then PointToBoxMask.
    The whole picture is looked at first, unless it is large and the phrase is simple. Where nothing was found, or what
    was found is tiny, the picture is cut into patches, these are enlarged, and the same is asked of them; a phrase that
    compares things across the picture is asked of patches only where the whole picture showed nothing. What was found
    is merged; where there is nothing, it answers so.

    Source:
        The strategies of VisHarness (arXiv 2605.29894, released prompts), decided by rule in place of a model.
    """

    name = "scripted"

    def plan(self, episode: Episode) -> Plan:
        """See ``PlannedPolicy.plan``."""
        phrase = target_phrase(episode.query)[:MAX_PHRASE]
        full = can_split(episode) and is_simple(phrase) and max(episode.workspace.root.size) > LARGE
        found: list[str] = []
        if not full:
            yield from look(episode, ["img_0"], phrase)
            found = with_boxes(episode, ["img_0"])
        if can_split(episode) and (full or too_small(episode, phrase)):
            cells = DENSE_CELLS if full else RELATED_CELLS if needs_whole_image(phrase) else FEW_CELLS
            patches = yield from split(episode, cells)
            if patches:
                yield from look(episode, patches, phrase)
            found = with_boxes(episode, patches) or found
        if found:
            yield ToolCall("MergeBoxMask", {"images": found})
        yield Answer(conclusion(episode))


def too_small(episode: Episode, phrase: str) -> bool:
    """Whether things are probably too small to be recognised in the whole picture.

    So it is where nothing was found in a picture that is wide enough to be seen better in patches; and where what was
    found is tiny, unless the phrase compares things, which it seems to have done.
    """
    root = episode.workspace.root
    if max(root.size) <= WIDE:
        return False
    found = episode.workspace.detections.get(root.name)
    if found is None:
        return True
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1)
    return not needs_whole_image(phrase) and float(np.median(sides)) < TINY * max(root.size)


def look(episode: Episode, names: Sequence[str], phrase: str) -> Plan:
    """Ask for a phrase on images: by boxes if it is simple, else by points that become boxes."""
    if is_simple(phrase):
        yield ToolCall("PhraseToBoxMask", {"images": list(names), "phrase": phrase})
        return
    yield ToolCall("PhraseToPoint", {"images": list(names), "phrase": phrase})
    pointed = [name for name in names if name in episode.workspace.points]
    if pointed:
        yield ToolCall("PointToBoxMask", {"images": pointed, "mode": "confidence"})


def split(episode: Episode, cells: int) -> Generator[ToolCall, None, list[str]]:
    """Cut the picture into patches and enlarge them.

    Args:
        episode: at work.
        cells: the most patches.

    Returns:
        The names of the enlarged patches; of the patches themselves, where these cannot be enlarged.
    """
    size = patch_size(*episode.workspace.root.size, cells)
    yield ToolCall("SplitImageIntoPatches", {"patch_configs": {"img_0": size}})
    patches = list(episode.transcript[-1].created)
    images = episode.workspace.images
    pixels = sum(images[name].size[0] * images[name].size[1] for name in patches) * FACTOR**2
    if not patches or pixels > MAX_UPSCALED_PIXELS_PER_CALL or "SuperResolution" not in episode.config.tools:
        return patches
    yield ToolCall("SuperResolution", {"images": patches})
    return list(episode.transcript[-1].created) or patches


def patch_size(width: int, height: int, cells: int) -> int:
    """The smallest patch size, in pixels, that makes at most so many patches.

    Example:
        >>> patch_size(1280, 960, 64), patch_size(512, 512, 16)
        (138, 120)
    """
    least = max(1, int((width * height / cells) ** 0.5 / 2))
    return next(size for size in range(least, max(width, height) + 1) if count_windows(width, height, size) <= cells)


def with_boxes(episode: Episode, names: Sequence[str]) -> list[str]:
    """Those of the images on which something was found."""
    return [name for name in names if name in episode.workspace.detections]


def can_split(episode: Episode) -> bool:
    """Whether there is a tool for it, and turns enough to make use of the patches."""
    left = episode.config.max_turns - episode.turns
    return left >= TURNS_TO_SPLIT and "SplitImageIntoPatches" in episode.config.tools
