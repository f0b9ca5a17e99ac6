"""What a tool is: what the agent sees of it, and cheap code over the workspace."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from visenv.capabilities import ExpertFailure, Request, Result
from visenv.errors import ExpertError
from visenv.types import FloatArray, ToolSpec
from visenv.workspace import Effect, NamedImage, Workspace

Steps: TypeAlias = Generator[list[Request], Sequence["Result | ExpertFailure"], Effect]
"""A running tool: yields lists of expert requests, is sent as many results, returns its effect."""


class ToolError(Exception):
    """The agent's call cannot be carried out. Caught by the episode, which turns it into the turn's reply."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class ToolContext:
    """What a running tool may look at."""

    workspace: Workspace
    sample_id: str
    turn: int
    """The number of this turn, from 1."""
    write: Callable[[FloatArray, tuple[int, int]], list[list[float]]]
    """Coordinates (N, 2 or 4) in pixels of an image of a (width, height), as the agent's dialect writes them."""
    frame: Callable[[tuple[int, int]], str]
    """Says in words which frame those coordinates refer to."""


class Tool(Protocol):
    """One thing the agent may call."""

    spec: ToolSpec

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps | Effect:
        """Carry out a call whose arguments have been validated against ``spec``.

        A tool that needs no expert returns its effect; one that does is a generator, which returns it in the end.

        Raises:
            ToolError: if the call makes no sense in this workspace.
            ExpertError: if an expert failed for good.
        """
        ...


def expect(results: Sequence[Result | ExpertFailure]) -> list[Any]:
    """The results of a request list.

    Raises:
        ExpertError: if any of them is a failure; the first one is raised.
    """
    for result in results:
        if isinstance(result, ExpertFailure):
            raise ExpertError(result.expert, result.message)
    return list(results)


LISTED = 20
"""Objects listed one by one in a reply; the rest are only counted, so that replies stay short."""


def describe(found: FloatArray, image: NamedImage, context: ToolContext, noun: str, nouns: str) -> str:
    """Say what was found on an image.

    Args:
        found: (N, 2) points or (N, 4) boxes, pixels of the image.
        image: the image.
        context: the tool's context.
        noun: the word for one of them.
        nouns: the word for many of them.
    """
    count = len(found)
    if count == 0:
        return f"{image.name}: no {noun}."
    rows = ", ".join([f"{i} {row}" for i, row in enumerate(context.write(found[:LISTED], image.size), start=1)])
    more = f" and {count - LISTED} more" if count > LISTED else ""
    return f"{image.name}: {count} {noun if count == 1 else nouns}: {rows}{more}. {context.frame(image.size)}"
