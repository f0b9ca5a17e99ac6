"""What a benchmark of neural experts needs to know of a family; each module that measures one offers such a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from visenv.capabilities import Expert, Request


@dataclass(frozen=True)
class Case:
    """One family, with random weights: they cost the same."""

    title: str
    """The model and its size."""
    make: Callable[..., Expert]
    """A fresh expert, from ``device``, ``precision`` and ``max_batch``."""
    requests: Callable[[int, int], list[Request]]
    """So many requests about images of their own, from a seed; other images for another seed."""
    turns: tuple[tuple[str, dict[str, Any]], ...]
    """The tools that an episode calls, with their arguments."""


CaseMaker: TypeAlias = Callable[[bool], Case]
"""From whether the model is to be a small one (for a first look, and on a CPU) to the case."""
