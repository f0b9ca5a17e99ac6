"""Tools of Visual-ARFT: saying what is wrong with a picture, and programs that mend it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from visenv.capabilities import Ran, RunCode
from visenv.images import fit_within
from visenv.tools.base import Steps, ToolContext, ToolError, expect
from visenv.types import Argument, ToolSpec
from visenv.workspace import Effect, NamedImage, Picture

PROBLEMS = ("rotation90", "rotation180", "dark", "overexposure", "blur", "noise", "crop", "none")
"""What may be wrong with a picture."""
SOURCE, TARGET = "input.png", "output.png"
"""The files that a program reads and writes."""
MAX_MADE_SIDE = 1920
"""Pixels of a side of a picture that a program made; a larger one is shrunk."""
LEAST_SIDE, MOST_ASPECT = 8, 50
"""What a picture must have at least, in pixels of its shorter side, and at most, in its longer by its shorter."""
REPLY_CHARS = 2000
"""Characters of what a program printed, or of its error, that come back."""


class NameProblems:
    """Says what is wrong with the picture, before anything is done about it."""

    spec = ToolSpec(
        "NameProblems",
        "Say what is wrong with the picture, in your first turn and once. rotation90: turned by a quarter clockwise; "
        "rotation180: upside down; crop: only a part of it matters; none: nothing is wrong.",
        (Argument("problems", "choices", "what is wrong, one or several", choices=PROBLEMS),),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Effect:
        """See ``Tool.run``."""
        if context.turn > 1:
            raise ToolError("too_late", "What is wrong is said in the first turn: run a program, or answer.")
        root = context.workspace.root
        named = ", ".join(arguments["problems"])
        return Effect((f"You say that this is wrong with it: {named}.", Picture(root.name, root)))


class RunProgram:
    """Runs a program that reads a picture and writes another; what it writes is a new picture."""

    spec = ToolSpec(
        "RunCode",
        f"Run a Python program (numpy, cv2 and PIL are there) that reads the picture {SOURCE} and writes {TARGET}, "
        "both in its folder. The new picture comes back as out_N, with what was printed.",
        (
            Argument("code", "text", "the program"),
            Argument("image", "image", f"name of the picture that it finds as {SOURCE}"),
        ),
        asks=("RunCode",),
    )

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        image = context.workspace.images[arguments["image"]]
        view = context.workspace.view(image.name, context.sample_id)
        (ran,) = expect((yield [RunCode(view, arguments["code"], SOURCE, TARGET)]))
        said = _said(ran)
        if ran.pixels is None:
            # The picture at hand stays in view: a program that makes none changes nothing.
            nothing = f"{TARGET} was not written; {image.name} is as it was:"
            return Effect((*said, nothing, Picture(image.name, image)))
        height, width = ran.pixels.shape[:2]
        if min(height, width) < LEAST_SIDE or max(height, width) > MOST_ASPECT * min(height, width):
            refused = f"{TARGET} is {width}x{height}, which is no picture to look at; {image.name} is as it was:"
            return Effect((*said, refused, Picture(image.name, image)))
        pixels = fit_within(ran.pixels, MAX_MADE_SIDE, MAX_MADE_SIDE)
        made = NamedImage.made(f"out_{context.turn}", pixels, context.turn)
        size = f"{made.name} ({made.size[0]}x{made.size[1]})"
        shrunk = f", shrunk from {width}x{height}" if pixels is not ran.pixels else ""
        return Effect((*said, f"{size}{shrunk}:", Picture(made.name, made)), images=(made,))


def _said(ran: Ran) -> list[str]:
    """What a program printed and how it failed, as lines of a reply."""
    parts = []
    if ran.text:
        parts.append(f"Printed: {_cut(ran.text)}")
    if ran.error:
        parts.append(f"Error: {_cut(ran.error)}")
    return parts


def _cut(text: str) -> str:
    return text if len(text) <= REPLY_CHARS else f"{text[:REPLY_CHARS]}[...]"
