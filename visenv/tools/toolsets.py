"""Named sets of tools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from visenv.errors import DuplicateName, InvalidData
from visenv.registration import toolsets
from visenv.tools.base import Tool
from visenv.tools.coding import NameProblems, RunProgram
from visenv.tools.interactive import (
    CompareCandidates,
    RefineCandidate,
    SegmentBox,
    SegmentPoints,
    ShowCandidate,
    SubmitCandidate,
    ZoomRegion,
)
from visenv.tools.recall import RecallImage
from visenv.tools.visharness import (
    MergeBoxMask,
    PhraseToBoxMask,
    PhraseToPoint,
    PointToBoxMask,
    SplitImageIntoPatches,
    SuperResolution,
)
from visenv.types import ToolSpec

VISHARNESS = (PhraseToBoxMask, PhraseToPoint, PointToBoxMask, SplitImageIntoPatches, SuperResolution, MergeBoxMask)
FULL = (*VISHARNESS, RecallImage)
INTERACTIVE = (
    PhraseToPoint,
    ZoomRegion,
    SegmentPoints,
    SegmentBox,
    RefineCandidate,
    ShowCandidate,
    CompareCandidates,
    SubmitCandidate,
)
BASIC = (PhraseToBoxMask, PhraseToPoint, PointToBoxMask, MergeBoxMask, RecallImage)
MATCODING = (NameProblems, RunProgram)


def make_toolset(value: str | Iterable[Tool | type]) -> dict[str, Tool]:
    """The tools of an environment, by name.

    Args:
        value: the name of a tool set, or tools (instances, or classes that need no arguments).

    Raises:
        UnknownName: if no tool set has that name.
        DuplicateName: if two tools share a name.
        InvalidData: if there is no tool, or something is none.

    Example:
        >>> list(make_toolset("basic"))
        ['PhraseToBoxMask', 'PhraseToPoint', 'PointToBoxMask', 'MergeBoxMask', 'RecallImage']
    """
    kinds = toolsets.load(value) if isinstance(value, str) else value
    if not isinstance(kinds, Iterable):
        raise InvalidData(f"Expected toolset to be the name of a tool set, or tools, but got {kinds!r}.")
    made: dict[str, Tool] = {}
    for kind in kinds:
        tool = kind() if isinstance(kind, type) else kind
        if not isinstance(getattr(tool, "spec", None), ToolSpec):
            raise InvalidData(f"Expected a tool (see visenv.tools.base.Tool), but got {kind!r}.")
        if tool.spec.name in made or tool.spec.name == "Answer":
            raise DuplicateName(f"Two tools are called {tool.spec.name!r}: rename one of them.")
        made[tool.spec.name] = tool
    if not made:
        raise InvalidData("Expected at least one tool, but got none.")
    return made


def describe_toolset(tools: Mapping[str, Tool]) -> str:
    """The tools as a readable list."""
    lines = []
    for tool in tools.values():
        arguments = ", ".join(argument.name for argument in tool.spec.arguments)
        lines.append(f"- {tool.spec.name}({arguments}): {tool.spec.description}")
    return "\n".join(lines)
