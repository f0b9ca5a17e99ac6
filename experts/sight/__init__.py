"""Small classical experts for what BLINK's tasks ask: depth, likeness, words, and visual prompts. They read pixels."""

from __future__ import annotations

from visenv.experts.sight.expert import Sight


def make(letters: str = "templates") -> list[Sight]:
    """The expert sets ``sight`` and ``sight-rapidocr``.

    Args:
        letters: who reads the letters of visual prompts, as ``Sight`` takes it.
    """
    return [Sight(letters)]


__all__ = ["Sight", "make"]
