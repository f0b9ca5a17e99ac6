"""Tools as Python functions: for trainers that read a tool's schema off its signature and docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

from visenv.types import Argument, ToolSpec

_TYPES: dict[str, Any] = {
    "images": list[str],
    "image": str,
    "phrase": str,
    "text": str,
    "patch_sizes": dict[str, int],
    "integer": int,
    "point": list[float],
    "points": list[list[float]],
    "box": list[float],
    "candidate": str,
    "candidates": list[str],
}


def as_method(spec: ToolSpec, call: Callable[[Any, str, dict[str, Any]], Any], returns: str) -> Callable[..., Any]:
    """A method that stands for a tool, with its name, its typed arguments and a docstring in Google style.

    Whatever arguments come are handed on: whether they are right is for the episode to say, not for Python.

    Args:
        spec: the tool.
        call: what is called: with the instance, the tool's name, and the arguments by name.
        returns: a sentence on what comes back, for the docstring.

    Example:
        >>> spec = ToolSpec("Recall", "Show an image again.", (Argument("image", "image", "Its name."),))
        >>> method = as_method(spec, lambda self, name, arguments: f"{name} {arguments}", "The image.")
        >>> class Tools:
        ...     Recall = method
        >>> Tools().Recall(image="img_0"), str(inspect.signature(Tools.Recall))
        ("Recall {'image': 'img_0'}", '(self, image: str) -> list')
        >>> print(method.__doc__)
        Show an image again.
        <BLANKLINE>
        Args:
            image: Its name.
        <BLANKLINE>
        Returns:
            The image.
    """
    names = [argument.name for argument in spec.arguments]

    def method(self: Any, *given: Any, **arguments: Any) -> Any:
        return call(self, spec.name, dict(zip(names, given, strict=False)) | arguments)

    types = {argument.name: _type(argument) for argument in spec.arguments}
    lines = [spec.description, "", "Args:"]
    lines += [f"    {argument.name}: {argument.description}" for argument in spec.arguments]
    lines += ["", "Returns:", f"    {returns}"]
    method.__name__ = method.__qualname__ = spec.name
    method.__doc__ = "\n".join(lines)
    method.__annotations__ = {**types, "return": list}
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [
        inspect.Parameter(
            argument.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=types[argument.name],
            default=None if argument.optional else inspect.Parameter.empty,
        )
        for argument in spec.arguments
    ]
    vars(method)["__signature__"] = inspect.Signature(parameters, return_annotation=list)
    return method


def _type(argument: Argument) -> Any:
    if argument.kind in ("choice", "choices"):
        one: Any = Literal[argument.choices]
        return one if argument.kind == "choice" else list[one]
    return _TYPES[argument.kind]
