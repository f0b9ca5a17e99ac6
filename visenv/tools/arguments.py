"""Validation of a call's arguments against the tool's specification; each kind of argument has one rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from visenv.tools.base import ToolError
from visenv.types import MAX_PHRASE, Argument, ToolSpec
from visenv.workspace import Workspace

MAX_IMAGES = 64
"""Images named in one call, unless there are more images than that."""
MAX_POINTS = 16
"""Signed points in one call."""
MAX_TEXT = 8192
"""Characters of a text."""


def validate(spec: ToolSpec, arguments: Mapping[str, Any], workspace: Workspace) -> dict[str, Any]:
    """Check a call's arguments and bring them into their plain form.

    Args:
        spec: the tool's specification.
        arguments: as the agent gave them.
        workspace: where named images must exist.

    Returns:
        One value for each argument of ``spec``; None for an optional one that is left out.

    Raises:
        ToolError: saying what was expected, what came, and how to mend the call.
    """
    known = {argument.name for argument in spec.arguments}
    for name in arguments:
        if name not in known:
            raise ToolError(
                "unknown_argument", f"{spec.name} has no argument {_show(name)}. It takes {_listing(known)}."
            )
    values: dict[str, Any] = {}
    for argument in spec.arguments:
        if argument.optional and arguments.get(argument.name) is None:
            values[argument.name] = None
            continue
        if argument.name not in arguments:
            raise ToolError(
                "missing_argument", f"{spec.name} needs the argument {argument.name!r}: {argument.description}"
            )
        values[argument.name] = _RULES[argument.kind](argument, arguments[argument.name], workspace)
    return values


def _show(value: Any) -> str:
    if isinstance(value, (list, tuple, dict, set)) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)} items"
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**20 else "a huge number"
    return text if len(text) <= 80 else f"{text[:60]}… ({len(text)} characters)"


def _listing(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "no arguments"


def _wrong(argument: Argument, expected: str, value: Any) -> ToolError:
    return ToolError("wrong_argument", f"Expected {argument.name!r} to be {expected}, but got {_show(value)}.")


def check_image(value: Any, workspace: Workspace) -> str:
    """The name of an image that exists.

    Raises:
        ToolError: if there is none.
    """
    if isinstance(value, str) and value in workspace.images:
        return value
    names = list(workspace.images)
    shown = ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
    raise ToolError("missing_image", f"There is no image {_show(value)}. The images are: {shown}.")


def _images(argument: Argument, value: Any, workspace: Workspace) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not value:
        raise _wrong(argument, "a list with at least one image name", value)
    most = max(MAX_IMAGES, len(workspace.images))
    if len(value) > most:
        raise _wrong(argument, f"a list of at most {most} image names", value)
    names = [check_image(item, workspace) for item in value]
    return tuple(dict.fromkeys(names))


def _image(argument: Argument, value: Any, workspace: Workspace) -> str:
    return check_image(value, workspace)


def _phrase(argument: Argument, value: Any, workspace: Workspace) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(argument, "some words", value)
    if len(value) > MAX_PHRASE:
        raise _wrong(argument, f"at most {MAX_PHRASE} characters", value)
    return value.strip()


def _choice(argument: Argument, value: Any, workspace: Workspace) -> str:
    chosen = value.strip().lower() if isinstance(value, str) and len(value) <= MAX_PHRASE else value
    if chosen not in argument.choices:
        raise _wrong(argument, " or ".join(repr(choice) for choice in argument.choices), value)
    return chosen


def _choices(argument: Argument, value: Any, workspace: Workspace) -> tuple[str, ...]:
    items = value if isinstance(value, (list, tuple)) else (value,)
    if not items or len(items) > len(argument.choices):
        raise _wrong(argument, f"a list of 1 to {len(argument.choices)} of {', '.join(argument.choices)}", value)
    return tuple(dict.fromkeys(_choice(argument, item, workspace) for item in items))


def _text(argument: Argument, value: Any, workspace: Workspace) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(argument, "a text", value)
    if len(value) > MAX_TEXT:
        raise _wrong(argument, f"at most {MAX_TEXT} characters", value)
    return value


def _whole(argument: Argument, value: Any) -> int:
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdecimal():
        value = int(value)  # a dialect without types writes numbers as text
    if isinstance(value, bool) or not isinstance(value, int) or not argument.low <= value <= argument.high:
        raise _wrong(argument, f"a whole number from {argument.low} to {argument.high}", value)
    return value


def _integer(argument: Argument, value: Any, workspace: Workspace) -> int:
    return _whole(argument, value)


def _patch_sizes(argument: Argument, value: Any, workspace: Workspace) -> dict[str, int]:
    if not isinstance(value, Mapping) or not value:
        raise _wrong(argument, 'an object from image name to patch size, like {"img_0": 320}', value)
    return {check_image(name, workspace): _whole(argument, size) for name, size in value.items()}


def _numbers(argument: Argument, value: Any, count: int, expected: str) -> tuple[float, ...]:
    numbers = value if isinstance(value, (list, tuple)) else ()
    good = len(numbers) == count and all(
        isinstance(number, (int, float)) and not isinstance(number, bool) and abs(number) < 1e6 for number in numbers
    )
    if not good:
        raise _wrong(argument, expected, value)
    return tuple(float(number) for number in numbers)


def _point(argument: Argument, value: Any, workspace: Workspace) -> tuple[float, ...]:
    return _numbers(argument, value, 2, "two finite numbers [x, y]")


def _points(argument: Argument, value: Any, workspace: Workspace) -> tuple[tuple[float, ...], ...]:
    expected = "a list of points [x, y, 1] on what is meant or [x, y, 0] beside it"
    if not isinstance(value, (list, tuple)) or not value:
        raise _wrong(argument, expected, value)
    if len(value) > MAX_POINTS:
        raise _wrong(argument, f"at most {MAX_POINTS} points", value)
    points = tuple(_numbers(argument, point, 3, expected) for point in value)
    if any(point[2] not in (0, 1) for point in points):
        raise _wrong(argument, expected, value)
    return points


def check_candidate(value: Any, workspace: Workspace) -> str:
    """The name of a candidate that exists.

    Raises:
        ToolError: if there is none.
    """
    if isinstance(value, str) and value in workspace.candidates:
        return value
    names = ", ".join(list(workspace.candidates)[-12:])
    there = f"The candidates are: {names}." if names else "There is none yet: segment something first."
    raise ToolError("missing_candidate", f"There is no candidate {_show(value)}. {there}")


def _candidate(argument: Argument, value: Any, workspace: Workspace) -> str:
    return check_candidate(value, workspace)


def _candidates(argument: Argument, value: Any, workspace: Workspace) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not 1 <= len(value) <= MAX_IMAGES:
        raise _wrong(argument, f"a list of 1 to {MAX_IMAGES} names of candidates", value)
    return tuple(dict.fromkeys(check_candidate(item, workspace) for item in value))


def _box(argument: Argument, value: Any, workspace: Workspace) -> tuple[float, ...]:
    box = _numbers(argument, value, 4, "four finite numbers [x1, y1, x2, y2]")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise _wrong(argument, "a box with x1 < x2 and y1 < y2", value)
    return box


_RULES: dict[str, Callable[[Argument, Any, Workspace], Any]] = {
    "images": _images,
    "image": _image,
    "phrase": _phrase,
    "text": _text,
    "choice": _choice,
    "choices": _choices,
    "integer": _integer,
    "patch_sizes": _patch_sizes,
    "point": _point,
    "points": _points,
    "box": _box,
    "candidate": _candidate,
    "candidates": _candidates,
}
