"""Looking something up in documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from visenv import capabilities
from visenv.errors import InvalidData
from visenv.tools.base import Steps, ToolContext, expect
from visenv.tools.recall import RecallImage
from visenv.tools.visharness import PhraseToBoxMask, PhraseToPoint
from visenv.types import Argument, ToolSpec
from visenv.workspace import Effect

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Search:
    """Shows the passages that fit a query best.

    Args:
        limit: the most passages shown.
        characters: of each passage, and of its title, that are shown.

    Raises:
        InvalidData: if a number is under 1.
    """

    spec = ToolSpec(
        "Search",
        "Looks something up in a library, and shows the passages whose words fit best. It knows no images: say in "
        "words what to look for.",
        (Argument("query", "phrase", "what to look for, in plain words"),),
        asks=("Search",),
    )

    def __init__(self, limit: int = 3, characters: int = 500) -> None:
        for name, value in (("limit", limit), ("characters", characters)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidData(f"Expected {name} to be a whole number of at least 1, but got {value!r}.")
        self.limit, self.characters = limit, characters

    def run(self, arguments: Mapping[str, Any], context: ToolContext) -> Steps:
        """See ``Tool.run``."""
        (found,) = expect((yield [capabilities.Search(arguments["query"], self.limit)]))
        rows = list(zip(found.titles, found.texts, strict=True))
        if not rows:
            return Effect(("Nothing was found. Try other words, or fewer.",))
        return Effect(("\n".join(f"{i}. {self._shown(title, text)}" for i, (title, text) in enumerate(rows, start=1)),))

    def _shown(self, title: str, text: str) -> str:
        name, words = self._cut(title), self._cut(text)
        return f"{name}: {words}" if name else words

    def _cut(self, text: str) -> str:
        # What comes from elsewhere may hold what can be written to no file, or would tell a terminal what to do.
        words = " ".join(_CONTROL.sub(" ", text.encode("utf-8", "replace").decode("utf-8")).split())
        return words if len(words) <= self.characters else f"{words[: self.characters - 1]}…"


MATSEARCH = (Search, PhraseToBoxMask, PhraseToPoint, RecallImage)
"""For questions about something in a picture whose answers stand in documents."""
