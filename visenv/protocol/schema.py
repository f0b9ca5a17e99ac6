"""Tools as a model is told of them: JSON Schema, and the tool list of OpenAI-compatible servers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from visenv.types import MAX_PHRASE, Argument, ToolSpec


def json_schema(spec: ToolSpec) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a tool's arguments.

    Args:
        spec: the tool; arguments are required unless they are optional, and there are no others.

    Returns:
        A new schema of type ``object``.

    Example:
        >>> spec = ToolSpec("Recall", "Show an image again.", (Argument("image", "image", "Its name."),))
        >>> json_schema(spec)["properties"]
        {'image': {'type': 'string', 'minLength': 1, 'description': 'Its name.'}}
    """
    return {
        "type": "object",
        "properties": {argument.name: _argument_schema(argument) for argument in spec.arguments},
        "required": [argument.name for argument in spec.arguments if not argument.optional],
        "additionalProperties": False,
    }


def openai_tools(specs: Iterable[ToolSpec]) -> list[dict[str, Any]]:
    """The ``tools`` parameter of a chat-completion request.

    Args:
        specs: the tools, in the order in which the model is told of them.

    Returns:
        One ``{"type": "function", "function": {"name", "description", "parameters"}}`` a tool.
    """
    return [
        {
            "type": "function",
            "function": {"name": spec.name, "description": spec.description, "parameters": json_schema(spec)},
        }
        for spec in specs
    ]


ANSWER_TOOL = ToolSpec(
    "Answer",
    "End the task. Say in a few words what was found, or that there is nothing to find.",
    (Argument("text", "text", "The final answer."),),
)
"""The answer as a tool, for a model that ends a task by a call; ``parse_turn`` reads such a call as an ``Answer``."""


def _argument_schema(argument: Argument) -> dict[str, Any]:
    integer = {"type": "integer", "minimum": argument.low, "maximum": argument.high}
    number = {"type": "number"}
    shapes: dict[str, dict[str, Any]] = {
        "images": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True},
        "image": {"type": "string", "minLength": 1},
        "phrase": {"type": "string", "minLength": 1, "maxLength": MAX_PHRASE},
        "text": {"type": "string"},
        "choice": {"type": "string", "enum": list(argument.choices)},
        "choices": {
            "type": "array",
            "items": {"type": "string", "enum": list(argument.choices)},
            "minItems": 1,
            "uniqueItems": True,
        },
        "patch_sizes": {"type": "object", "additionalProperties": integer, "minProperties": 1},
        "integer": integer,
        "point": {"type": "array", "items": number, "minItems": 2, "maxItems": 2},
        "points": {
            "type": "array",
            "items": {"type": "array", "items": number, "minItems": 3, "maxItems": 3},
            "minItems": 1,
        },
        "box": {"type": "array", "items": number, "minItems": 4, "maxItems": 4},
        "candidate": {"type": "string", "minLength": 1},
        "candidates": {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 1,
            "uniqueItems": True,
        },
    }
    return {**shapes[argument.kind], "description": argument.description}
