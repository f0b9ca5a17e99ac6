"""Docstrings as users read them: what a thing is, and its arguments."""

from __future__ import annotations

import inspect
import re
from typing import Any


def summary(thing: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def arguments(thing: Any) -> dict[str, str]:
    """The entries of a docstring's ``Args`` section, by name and in order, as Markdown.

    Args:
        thing: whose docstring, in Google's form.

    Example:
        >>> arguments(arguments)
        {'thing': "whose docstring, in Google's form."}
    """
    section = re.search(r"^Args:\n((?:[ ]+.*\n|\n)+)", f"{inspect.getdoc(thing) or ''}\n", re.MULTILINE)
    found: dict[str, str] = {}
    for line in section.group(1).splitlines() if section else ():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            found[start.group(1)] = start.group(2)
        elif line.strip() and found:
            found[next(reversed(found))] += f" {line.strip()}"
    return {name: text.replace("``", "`") for name, text in found.items()}
