"""Several calls in one turn: each carried out on what the ones before it left, each with its own part of the reply."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from types import GeneratorType
from typing import Any

import numpy as np

from visenv.capabilities import ExpertFailure, Request, Result
from visenv.errors import InvalidData
from visenv.protocol.vipact import SEVERAL, listed_calls
from visenv.tools.arguments import validate
from visenv.tools.base import Steps, Tool, ToolContext, ToolError
from visenv.types import Argument, ToolSpec
from visenv.workspace import Effect, Workspace


class CallSeveral:
    """Carries out several calls in order, within one turn.

    Each call sees what the ones before it have made and found. One that cannot be carried out says so in its part of
    the reply, and the others go on; if none can, the turn is a fault like any other. A call that ends the episode is
    the last. Coordinates are those of the dialect, as a model writes them.

    Args:
        tools: which may be called.
    """

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools = {tool.spec.name: tool for tool in tools}
        asks = tuple(dict.fromkeys(capability for tool in self._tools.values() for capability in tool.spec.asks))
        self.spec = ToolSpec(
            SEVERAL,
            "Carries out several calls in order, in one turn; each has its own part of the reply.",
            (Argument("calls", "text", 'the calls as JSON: [{"name": …, "arguments": {…}}, …]'),),
            asks=asks,
        )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        try:
            calls = listed_calls(arguments["calls"])
        except InvalidData as error:
            raise ToolError("wrong_argument", str(error)) from None
        done: list[Effect] = []
        names: list[str] = []
        reply: list[Any] = []
        errors: list[ToolError] = []
        workspace = context.workspace
        for number, call in enumerate(calls, start=1):
            heading = f"[{number}] {call['name'][:80]}:"
            try:
                effect = yield from self._one(call, replace(context, workspace=workspace))
            except ToolError as error:
                errors.append(error)
                reply.append(f"{heading} Error ({error.code}): {error.message}")
                continue
            workspace = workspace.after(effect)
            done.append(effect)
            names.append(call["name"])
            reply += [heading, *effect.reply]
            if effect.answer is not None:
                break
        if not done:
            lines = " ".join(f"[{number}] {error.message}" for number, error in enumerate(errors, start=1))
            raise ToolError(errors[0].code, lines[:2000])
        return replace(_together(done, tuple(reply), workspace), tools=tuple(names))

    def _one(
        self, call: Mapping[str, Any], context: ToolContext
    ) -> Generator[list[Request], Sequence[Result | ExpertFailure], Effect]:
        tool = self._tools.get(call["name"])
        if tool is None:
            raise ToolError(
                "unknown_tool", f"There is no tool {call['name'][:80]!r}. They are: {', '.join(self._tools)}."
            )
        arguments = validate(tool.spec, call["arguments"], context.workspace)
        running: Any = tool.run(_in_pixels(tool.spec, arguments, context), context)
        effect: Effect = (yield from running) if isinstance(running, GeneratorType) else running
        return effect


def _in_pixels(spec: ToolSpec, arguments: dict[str, Any], context: ToolContext) -> dict[str, Any]:
    """Points and boxes as the dialect writes them, in pixels of the image that the call names."""
    images = context.workspace.images
    named = [arguments[argument.name] for argument in spec.arguments if argument.kind == "image"]
    size = images[named[0] if named else "img_0"].size
    # How far the far corner is, as the dialect writes it, says how long its unit is.
    (corner,) = context.write(np.array([size], dtype=np.float64), size)
    unit = [length / max(far, 1e-9) for length, far in zip(size, corner, strict=True)]
    read = dict(arguments)
    for argument in spec.arguments:
        value = arguments[argument.name]
        if value is None:
            continue
        if argument.kind in ("point", "box"):
            read[argument.name] = tuple(number * unit[place % 2] for place, number in enumerate(value))
        elif argument.kind == "points":
            read[argument.name] = tuple((x * unit[0], y * unit[1], sign) for x, y, sign in value)
    return read


def _together(effects: Sequence[Effect], reply: tuple[Any, ...], workspace: Workspace) -> Effect:
    """What several effects, one after the other, come to as one."""
    images = {image.name: image for effect in effects for image in effect.images}
    points = {name: found for effect in effects for name, found in effect.points}
    detections = {name: found for effect in effects for name, found in effect.detections}
    kept = {candidate.name: candidate for effect in effects for candidate in effect.candidates}
    return Effect(
        reply,
        images=tuple(image for name, image in images.items() if name in workspace.images),
        points=tuple((name, found) for name, found in points.items() if name in workspace.images),
        detections=tuple((name, found) for name, found in detections.items() if name in workspace.images),
        final=workspace.final if any(effect.final is not None for effect in effects) else None,
        candidates=tuple(kept.values()),
        answer=effects[-1].answer,
    )
