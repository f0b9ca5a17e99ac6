"""From what a Gymnasium action space holds to what an episode takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from visenv.episode import Episode
from visenv.spaces import CELLS, PATCH_PARTS, SLOTS
from visenv.types import Action, Answer, Argument, ArgumentKind, BoolArray, IntArray, Malformed, ToolCall, ToolSpec
from visenv.workspace import NamedImage, Workspace


def structured_action(action: Any, specs: Sequence[ToolSpec], episode: Episode) -> Action:
    """An element of ``structured_space`` as an action.

    Args:
        action: ``(index, arguments)``: which tool (the answer last), and its arguments as its ``Dict`` holds them.
        specs: the tools, in the space's order.
        episode: whose image slots are meant.
    """
    try:
        index, values = action
        index = int(index)
    except (TypeError, ValueError, OverflowError):
        return Malformed("bad_action", f"Expected (tool index, arguments), but got {type(action).__name__}.")
    if not 0 <= index <= len(specs) or not isinstance(values, Mapping):
        return Malformed("bad_action", f"Expected a tool index from 0 to {len(specs)} and a mapping of arguments.")
    if index == len(specs):
        return Answer(str(values.get("text", "")))
    spec, slots = specs[index], episode.workspace.slots(SLOTS)
    named = {arg.name: arg for arg in spec.arguments if arg.name in values}
    try:
        candidates = newest_candidates(episode.workspace)
        arguments = {name: _structured_value(arg, values[name], slots, candidates) for name, arg in named.items()}
        image = next(
            (episode.workspace.images.get(arguments[a.name]) for a in named.values() if a.kind == "image"), None
        )
        for name, arg in named.items():
            if arg.kind in ("point", "box"):
                arguments[name] = _pixels(arguments[name], image or episode.workspace.root)
            elif arg.kind == "points":
                root = image or episode.workspace.root
                arguments[name] = [[*_pixels(point[:2], root), point[2]] for point in arguments[name]]
    except (TypeError, ValueError, IndexError, KeyError, OverflowError) as error:
        return Malformed("bad_action", f"Expected arguments of {spec.name}'s space, but one of them is not: {error}.")
    return ToolCall(spec.name, arguments)


def newest_candidates(workspace: Workspace) -> list[str]:
    """The candidates that fixed-size actions can address, the newest first."""
    return list(workspace.candidates)[: -SLOTS - 1 : -1]


def _structured_value(argument: Argument, value: Any, slots: Sequence[NamedImage], candidates: Sequence[str]) -> Any:
    if argument.kind == "images":
        return _chosen(value, [image.name for image in slots])
    if argument.kind == "candidates":
        return _chosen(value, candidates)
    if argument.kind == "candidate":
        number = int(value)
        return candidates[number] if 0 <= number < len(candidates) else f"number {number}"
    if argument.kind == "choices":
        return _chosen(value, argument.choices)
    if argument.kind == "points":
        signs = [int(sign) for sign in np.asarray(value["signs"]).ravel()]
        places = np.asarray(value["places"], dtype=float).reshape(-1, 2).tolist()
        return [[x, y, int(sign == 1)] for (x, y), sign in zip(places, signs, strict=True) if sign]
    if argument.kind == "image":
        slot = int(value)
        return slots[slot].name if 0 <= slot < len(slots) else f"slot {slot}"
    if argument.kind == "choice":
        return argument.choices[_index(value, len(argument.choices))]
    if argument.kind == "patch_sizes":
        return dict.fromkeys(_chosen(value["images"], [image.name for image in slots]), int(value["size"]))
    if argument.kind == "integer":
        return int(value)
    if argument.kind in ("point", "box"):
        return [float(number) for number in np.asarray(value, dtype=float).ravel()]
    return str(value)


def _index(value: Any, count: int) -> int:
    index = int(value)
    if not 0 <= index < count:
        raise IndexError(f"expected a number from 0 to {count - 1}, but got {index}")
    return index


def _chosen(bits: Any, names: Sequence[str]) -> list[str]:
    return [name for name, bit in zip(names, np.asarray(bits).ravel(), strict=False) if bit]


def _pixels(values: list[float], image: NamedImage) -> list[float]:
    """Coordinates from parts of an image's sides to its pixels; a box is put in order."""
    scaled = [value * image.size[i % 2] for i, value in enumerate(values)]
    if len(scaled) != 4:
        return scaled
    (x0, x1), (y0, y1) = sorted(scaled[::2]), sorted(scaled[1::2])
    return [x0, y0, x1, y1]


_PARTS_OF: tuple[frozenset[ArgumentKind], ...] = (
    frozenset(("image", "images", "patch_sizes", "point", "box", "points", "candidate", "candidates")),
    frozenset(("phrase", "text")),
    frozenset(("choice", "choices", "points")),
    frozenset(("patch_sizes",)),
    frozenset(("point", "box", "points")),
)
"""Which kinds of arguments the parts of a discrete action after its tool decide."""


def discrete_action(
    action: Any,
    specs: Sequence[ToolSpec],
    episode: Episode,
    phrases: Sequence[str],
    answers: Sequence[str] = ("done",),
) -> Action:
    """An element of ``discrete_space`` as an action; parts that the tool does not use are ignored.

    The image slot counts modulo the images that exist. A tool that takes several images gets the slot's image and
    those made together with it (a slot of one patch means all patches of that split, a slot of one input all inputs),
    as far as they have what the tool needs; merging takes every image with results. The slot also chooses among
    candidates, the newest first. A
    signed point lies in the cell, on what is meant (mode 0) or beside it (1); or (2) it is the first of the points that
    were found on the image which lies outside of the newest candidate.

    Args:
        action: (6,) tool, image slot, phrase, mode, patch size, point cell.
        specs: the tools, in the space's order.
        episode: whose image slots are meant.
        phrases: what is asked for, by number.
        answers: what is answered, by the number of the phrase, counted modulo their number.
    """
    try:
        values = np.asarray(action)
    except ValueError:
        values = np.empty(0)
    if values.shape != (6,) or values.dtype.kind not in "iu" or not 0 <= values[0] <= len(specs):
        return Malformed(
            "bad_action", f"Expected 6 whole numbers, the first from 0 to {len(specs)}, but got {action!r:.80}."
        )
    tool, slot, phrase, mode, patch, cell = (int(value) for value in values)
    if tool == len(specs):
        return Answer(answers[phrase % len(answers)])
    spec, workspace = specs[tool], episode.workspace
    slots = workspace.slots(SLOTS)
    image = slots[slot % len(slots)]
    arguments: dict[str, Any] = {}
    for arg in spec.arguments:
        if arg.kind == "images":
            arguments[arg.name] = _meant(spec, image, workspace)
        elif arg.kind == "image":
            arguments[arg.name] = image.name
        elif arg.kind in ("phrase", "text"):
            arguments[arg.name] = phrases[phrase % len(phrases)]
        elif arg.kind == "choice":
            arguments[arg.name] = arg.choices[mode % len(arg.choices)]
        elif arg.kind == "choices":
            arguments[arg.name] = [arg.choices[mode % len(arg.choices)]]
        elif arg.kind in ("candidate", "candidates"):
            names = newest_candidates(workspace) or ["none"]
            chosen = names[slot % len(names)]
            arguments[arg.name] = chosen if arg.kind == "candidate" else list(dict.fromkeys([chosen, names[0]]))
        elif arg.kind == "points":
            arguments[arg.name] = _clicked(mode, cell, image, workspace)
        elif arg.kind == "patch_sizes":
            arguments[arg.name] = {image.name: max(1, max(image.size) // PATCH_PARTS[patch % len(PATCH_PARTS)])}
        elif arg.kind == "integer":
            arguments[arg.name] = arg.low
        else:
            arguments[arg.name] = _cell(cell, image, arg.kind == "box")
    return ToolCall(spec.name, arguments)


def encode_discrete(
    action: Action,
    specs: Sequence[ToolSpec],
    nvec: Sequence[int],
    episode: Episode,
    phrases: Sequence[str],
    answers: Sequence[str] = ("done",),
) -> tuple[IntArray, BoolArray] | None:
    """The element of ``discrete_space`` that means an action, such as one that a policy by rule has chosen.

    Args:
        action: a call or an answer.
        specs: the tools, in the space's order.
        nvec: sizes of the space's parts.
        episode: whose image slots are meant, before the action is taken.
        phrases: what can be asked for, by number.
        answers: what can be answered, as in ``discrete_action``.

    Returns:
        (6,) the element, the first of several, and (6,) bool, which of its parts matter; None if there is no such one.
    """
    element, used = np.zeros(len(nvec), np.int64), np.zeros(len(nvec), bool)
    if isinstance(action, Answer):
        # Where there is but one answer, such as "done", it stands for any.
        number = answers.index(action.text) if action.text in answers else len(answers) - 1
        if number >= nvec[2] or (len(answers) > 1 and answers[number] != action.text):
            return None
        element[[0, 2]], used[[0, 2]] = (len(specs), number), (True, len(answers) > 1)
        return element, used
    names = [spec.name for spec in specs]
    if not isinstance(action, ToolCall) or action.name not in names:
        return None
    element[0] = names.index(action.name)
    kinds = {argument.kind for argument in specs[element[0]].arguments}
    used[:] = [True, *(bool(kinds & part) for part in _PARTS_OF)]
    asked = set(map(str, action.arguments.values()))
    choices = [list(range(size)) if matters else [0] for size, matters in zip(nvec, used, strict=True)]
    if used[2]:
        choices[2] = [number for number in choices[2] if number < len(phrases) and phrases[number] in asked]
    for element[1:] in product(*choices[1:]):
        if discrete_action(element, specs, episode, phrases, answers) == action:
            return element, used
    return None


def _clicked(mode: int, cell: int, image: NamedImage, workspace: Workspace) -> list[list[float]]:
    if mode % 3 == 2 and image.name in workspace.points:
        points = workspace.points[image.name].points
        newest = next(reversed(workspace.candidates.values()), None)
        if newest is not None and newest.image == image.root.name and newest.detections.masks is not None:
            in_root = points @ image.to_root[:2, :2].T + image.to_root[:2, 2]
            points = points[~newest.detections.masks.covers(in_root)]
        if len(points):
            return [[*points[0].tolist(), 1]]
    return [[*_cell(cell, image, False), int(mode % 3 != 1)]]


def _cell(cell: int, image: NamedImage, box: bool) -> list[float]:
    row, column = divmod(cell % CELLS**2, CELLS)
    parts = [column, row, column + 1, row + 1] if box else [column + 0.5, row + 0.5]
    return _pixels([part / CELLS for part in parts], image)


def _ready(spec: ToolSpec, workspace: Workspace) -> list[NamedImage]:
    """The images on which a tool can be called now."""
    images = workspace.images.values()
    if spec.needs == "candidates" and not workspace.candidates:
        return []
    if spec.needs == "points":
        return [image for image in images if image.name in workspace.points]
    if spec.needs == "boxes":
        return [image for image in images if image.name in workspace.detections and image.root is workspace.root]
    if spec.needs == "unenlarged":
        return [image for image in images if image.maker != "upscaled"]
    return list(images)


def _meant(spec: ToolSpec, image: NamedImage, workspace: Workspace) -> list[str]:
    """The images that a discrete call of a tool for several images means."""
    ready = _ready(spec, workspace)
    if spec.needs != "boxes":
        ready = [other for other in ready if other is image or _made_together(other, image)]
    return [other.name for other in ready] or [image.name]


def _made_together(one: NamedImage, other: NamedImage) -> bool:
    return one.maker == other.maker and one.group == other.group


def discrete_masks(specs: Sequence[ToolSpec], nvec: Sequence[int], episode: Episode) -> BoolArray:
    """Which parts of a discrete action make sense now, in the form that sb3-contrib's ``MaskablePPO`` expects.

    Args:
        specs: the tools, in the space's order.
        nvec: sizes of the space's parts.
        episode: the episode.

    Returns:
        (sum of nvec,) bool, part after part.
    """
    workspace = episode.workspace
    masks = [np.ones(size, dtype=bool) for size in nvec]
    masks[0][: len(specs)] = [bool(_ready(spec, workspace)) for spec in specs]
    masks[1][:] = np.arange(len(masks[1])) < max(len(workspace.images), len(newest_candidates(workspace)))
    return np.concatenate(masks)
