"""From a call to the element of the structured action space that means it: the way back of ``structured_action``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from visenv.actions import newest_candidates
from visenv.episode import Episode
from visenv.errors import InvalidData
from visenv.spaces import SIGNED_POINTS, SLOTS
from visenv.types import Argument, ToolSpec


def structured_arguments(spec: ToolSpec, given: Mapping[str, Any], episode: Episode) -> dict[str, Any]:
    """The arguments of a call as the tool's ``Dict`` in the structured action space holds them.

    Args:
        spec: of the tool.
        given: the arguments; points and boxes in pixels of the image that the call names, or of the root.
        episode: whose image slots and candidates are meant.

    Returns:
        One value an argument. Whether the space contains it remains to be seen.

    Raises:
        InvalidData: if the arguments are not the tool's, or one has no element: an image without a slot, a choice that
            is none, patches of different sizes.
    """
    names = {argument.name for argument in spec.arguments}
    given = {**{argument.name: None for argument in spec.arguments if argument.optional}, **given}
    if set(given) != names:
        raise InvalidData(f"Expected {spec.name} with {', '.join(sorted(names))}, but got {given!r:.80}.")
    elements = _Elements(spec, given, episode)
    values = {}
    for argument in spec.arguments:
        try:
            values[argument.name] = elements.of(argument, given[argument.name])
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as error:
            what = f"{spec.name} with {argument.name}={given[argument.name]!r:.80}"
            raise InvalidData(f"The action space has no element for {what}: {error}.") from error
    return values


class _Elements:
    def __init__(self, spec: ToolSpec, given: Mapping[str, Any], episode: Episode) -> None:
        workspace = episode.workspace
        self._slots = [image.name for image in workspace.slots(SLOTS)]
        self._candidates = newest_candidates(workspace)
        named = [given[argument.name] for argument in spec.arguments if argument.kind == "image"]
        image = next((workspace.images[name] for name in named if name in self._slots), workspace.root)
        self._size = np.array(image.size, float)

    def of(self, argument: Argument, value: Any) -> Any:
        kind = argument.kind
        if kind == "images":
            return _bits(value, self._slots, SLOTS)
        if kind == "image":
            return self._slots.index(value)
        if kind == "candidates":
            return _bits(value, self._candidates, SLOTS)
        if kind == "candidate":
            return self._candidates.index(value)
        if kind == "choice":
            return argument.choices.index(value)
        if kind == "choices":
            return _bits(value, argument.choices, len(argument.choices))
        if kind == "patch_sizes":
            (edge,) = set(value.values()) or {1}
            return {"images": _bits(list(value), self._slots, SLOTS), "size": edge}
        if kind == "box" and value is None:
            # The space has no element for none: all of the image is meant.
            return np.array([0, 0, 1, 1], np.float32)
        if kind in ("point", "box"):
            return self._parts(value).ravel()
        if kind == "points":
            places, signs = np.zeros((SIGNED_POINTS, 2), np.float32), np.zeros(SIGNED_POINTS, np.int64)
            for place, (x, y, sign) in enumerate(value):
                places[place], signs[place] = self._parts([x, y])[0], 1 if sign else 2
            return {"places": places, "signs": signs}
        return value

    def _parts(self, values: Any) -> Any:
        """(N, 2) float32 parts of the image's sides."""
        return (np.asarray(values, float).reshape(-1, 2) / self._size).astype(np.float32)


def _bits(names: Sequence[str], all_of: Sequence[str], count: int) -> Any:
    if isinstance(names, str):
        raise TypeError("expected a list of names, not one text")
    bits = np.zeros(count, np.int8)
    bits[[all_of.index(name) for name in names]] = 1
    return bits
