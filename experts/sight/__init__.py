"""Small classical experts for what BLINK's tasks ask: depth, likeness, words, and visual prompts. They read pixels."""

from __future__ import annotations

from visenv.experts.sight.expert import Sight


def make() -> list[Sight]:
    """The expert set ``sight``."""
    return [Sight()]


__all__ = ["Sight", "make"]
