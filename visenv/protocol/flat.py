"""Tools in flat form: every argument is one text or one number, for trainers and servers that drop what is nested.

verl 0.9, for one, keeps nothing of an array's schema but its type. Lists are written with commas, a point and a box are
an argument a coordinate, several points are separated by semicolons. What cannot be read back is passed on as it came:
the tool says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from visenv.errors import InvalidData
from visenv.types import Argument, ToolSpec

COORDINATES = {"point": ("x", "y"), "box": ("x1", "y1", "x2", "y2")}
"""What a flat argument of these kinds ends with, after an underscore."""
_LISTS = ("images", "candidates", "choices")
"""Kinds that are written with commas."""
_NUMBER = re.compile(r"\s*[-+]?\d{1,12}(\.\d{1,12})?\s*")


def flat_schema(spec: ToolSpec) -> dict[str, Any]:
    """The JSON Schema of a tool's arguments in flat form.

    Args:
        spec: the tool; arguments are required unless they are optional, and there are no others.

    Returns:
        A new schema of type ``object``, whose properties have a ``type`` (``string``, ``integer`` or ``number``), a
        ``description``, and an ``enum`` where there is a choice: nothing else, so that nothing else can be lost.

    Raises:
        InvalidData: if two arguments would have one flat name.

    Example:
        >>> arguments = Argument("images", "images", "Where to look."), Argument("at", "point", "The place.")
        >>> schema = flat_schema(ToolSpec("Look", "Look at something.", arguments))
        >>> for name, property in schema["properties"].items():
        ...     print(name, property)
        images {'type': 'string', 'description': 'Where to look. Names, separated by commas.'}
        at_x {'type': 'number', 'description': 'The place. Its x.'}
        at_y {'type': 'number', 'description': 'The place. Its y.'}
    """
    pairs = [pair for argument in spec.arguments for pair in _properties(argument)]
    properties = dict(pairs)
    if len(properties) < len(pairs):
        names = ", ".join(name for name, _ in pairs)
        raise InvalidData(f"Expected arguments of {spec.name} whose flat names differ, but got {names}: rename one.")
    needed = [name for argument in spec.arguments if not argument.optional for name, _ in _properties(argument)]
    return {"type": "object", "properties": properties, "required": needed}


def flat_tools(specs: Iterable[ToolSpec]) -> list[dict[str, Any]]:
    """Tools in flat form, as the ``tools`` of a chat-completion request.

    Args:
        specs: the tools, in the order in which the model is told of them.

    Returns:
        One ``{"type": "function", "function": {"name", "description", "parameters"}}`` a tool.

    Raises:
        InvalidData: as ``flat_schema``.
    """
    return [
        {
            "type": "function",
            "function": {"name": spec.name, "description": spec.description, "parameters": flat_schema(spec)},
        }
        for spec in specs
    ]


def from_flat(spec: ToolSpec, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a tool from those of a flat call.

    Args:
        spec: the tool.
        arguments: by flat names; what already is in the nested form may also be given.

    Returns:
        By the names of ``spec``. What is missing or cannot be read is left missing or as it came.

    Example:
        >>> arguments = Argument("patch_configs", "patch_sizes", "Sizes."), Argument("at", "point", "The place.")
        >>> spec = ToolSpec("Look", "Look at something.", arguments)
        >>> from_flat(spec, {"patch_configs": "img_0=320, img_0_r1_c1=160", "at_x": 5, "at_y": 7.5})
        {'patch_configs': {'img_0': 320, 'img_0_r1_c1': 160}, 'at': [5, 7.5]}
    """
    left, nested = dict(arguments), {}
    for argument in spec.arguments:
        ends = COORDINATES.get(argument.kind, ())
        found = [_number(left.pop(f"{argument.name}_{end}", None)) for end in ends]
        if ends and None not in found:
            nested[argument.name] = found
        elif argument.optional and any(part is not None for part in found):
            # Not left out: the tool says that a coordinate is missing.
            nested[argument.name] = found
        elif argument.name in left:
            nested[argument.name] = _READ.get(argument.kind, _as_it_is)(left.pop(argument.name))
    return nested | left


def to_flat(spec: ToolSpec, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a flat call from those of a tool: what ``from_flat`` reads.

    Args:
        spec: the tool.
        arguments: good ones, by the names of ``spec``.

    Example:
        >>> spec = ToolSpec("Look", "Look at something.", (Argument("images", "images", "Where to look."),))
        >>> to_flat(spec, {"images": ["img_0", "img_0_4x"]})
        {'images': 'img_0, img_0_4x'}
    """
    flat: dict[str, Any] = {}
    for argument in spec.arguments:
        if argument.optional and arguments.get(argument.name) is None:
            continue
        value = arguments[argument.name]
        if argument.kind in COORDINATES:
            flat |= {
                f"{argument.name}_{end}": part for end, part in zip(COORDINATES[argument.kind], value, strict=True)
            }
        elif argument.kind in _LISTS:
            flat[argument.name] = ", ".join(value)
        elif argument.kind == "points":
            flat[argument.name] = "; ".join(" ".join(map(str, point)) for point in value)
        elif argument.kind == "patch_sizes":
            flat[argument.name] = ", ".join(f"{name}={size}" for name, size in value.items())
        else:
            flat[argument.name] = value
    return flat


def _properties(argument: Argument) -> list[tuple[str, dict[str, Any]]]:
    said = argument.description
    if argument.kind in COORDINATES:
        ends = COORDINATES[argument.kind]
        return [(f"{argument.name}_{end}", {"type": "number", "description": f"{said} Its {end}."}) for end in ends]
    if argument.kind == "integer":
        said = f"{said} From {argument.low} to {argument.high}."
        return [(argument.name, {"type": "integer", "description": said})]
    if argument.kind == "choice":
        return [(argument.name, {"type": "string", "description": said, "enum": list(argument.choices)})]
    more = {
        "images": " Names, separated by commas.",
        "candidates": " Names, separated by commas.",
        "choices": f" Some of {', '.join(argument.choices)}, separated by commas.",
        "points": " Each as X Y 1 or X Y 0, separated by semicolons.",
        "patch_sizes": f" As NAME=SIZE, separated by commas; sizes from {argument.low} to {argument.high}.",
    }
    return [(argument.name, {"type": "string", "description": said + more.get(argument.kind, "")})]


def _as_it_is(value: Any) -> Any:
    return value


def _names(value: Any) -> Any:
    """Names from a text with commas; brackets and quotes of a list written as text are left out."""
    if not isinstance(value, str):
        return value
    return [name for part in value.strip().strip("[]").split(",") if (name := part.strip().strip("'\""))]


def _points(value: Any) -> Any:
    """Points from a text with semicolons, or from a list of lists written as text."""
    if not isinstance(value, str):
        return value
    parts = [part.strip("[, \t\n") for part in re.split("[];]", value)]
    return [[_number(number) for number in re.split(r"[\s,]+", part)] for part in parts if part]


def _sizes(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    pairs = [re.split("[=:]", part, maxsplit=1) for part in value.strip().strip("{}").split(",") if part.strip()]
    if any(len(pair) < 2 for pair in pairs):
        return value
    return {name.strip().strip("'\""): _number(size.strip()) for name, size in pairs}


def _number(value: Any) -> Any:
    """A number from what may be its text: some parsers of calls know no types."""
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        return value
    return float(value) if "." in value else int(value)


_READ: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(_LISTS, _names),
    "patch_sizes": _sizes,
    "points": _points,
    "integer": _number,
}
