"""What the agent sees now, what is archived, and what seeing costs.

Pictures are shown by replies. Before a *successful* reply is appended, the memory policy decides which of the pictures
in view stay; the others are archived: their place in the conversation is taken by a placeholder, they stay addressable
by name. An error archives nothing (VisHarness, arXiv 2605.29894).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from visenv.errors import InvalidData, UnknownName


@dataclass(frozen=True)
class TokenRule:
    """How a family of vision-language models turns a picture into tokens.

    Sides are rounded to multiples of ``factor``; a picture outside the bounds is scaled until it fits, keeping its
    proportions; then there is one token per ``factor`` x ``factor`` pixels ("smart resize" of Qwen2-VL and later).
    """

    factor: int
    min_tokens: int = 4
    max_tokens: int = 2048

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels that the model gets to see."""
        return _smart_size(width, height, self.factor, self.min_tokens, self.max_tokens)

    def tokens(self, width: int, height: int) -> int:
        """Visual tokens of a picture.

        Args:
            width: in pixels, at least 1.
            height: in pixels, at least 1.

        Example:
            >>> TOKEN_RULES["qwen2_5_vl"].tokens(1920, 1080), TOKEN_RULES["qwen3_vl"].tokens(1920, 1080)
            (1980, 2040)
        """
        if width < 1 or height < 1:
            raise InvalidData(f"Expected a picture of at least one pixel, but got {width}x{height}.")
        w, h = self.resized(width, height)
        return (w // self.factor) * (h // self.factor)


@lru_cache(maxsize=4096)
def _smart_size(width: int, height: int, factor: int, min_tokens: int, max_tokens: int) -> tuple[int, int]:
    w, h = (max(factor, round(side / factor) * factor) for side in (width, height))
    if w * h > max_tokens * factor**2:
        shrink = math.sqrt(width * height / (max_tokens * factor**2))
        w, h = (max(factor, math.floor(side / shrink / factor) * factor) for side in (width, height))
        # A side of one token cannot shrink: of a very long and thin picture, the long side gives way.
        if w > h:
            w = min(w, max_tokens // (h // factor) * factor)
        else:
            h = min(h, max_tokens // (w // factor) * factor)
    elif w * h < min_tokens * factor**2:
        grow = math.sqrt(min_tokens * factor**2 / (width * height))
        w, h = (math.ceil(side * grow / factor) * factor for side in (width, height))
    return w, h


TOKEN_RULES = {"qwen2_5_vl": TokenRule(28), "qwen3_vl": TokenRule(32)}


def token_rule(family: str) -> TokenRule:
    """The token rule of a model family.

    Raises:
        UnknownName: if there is none of that name.
    """
    if family not in TOKEN_RULES:
        raise UnknownName(f"Unknown model family {family!r}. Known: {', '.join(TOKEN_RULES)}.")
    return TOKEN_RULES[family]


@dataclass(frozen=True)
class Seen:
    """One picture in the conversation."""

    key: int
    """Its number in the order of showing, from 0."""
    name: str
    tokens: int
    visualisation: bool = False


class MemoryPolicy(Protocol):
    """Decides what stays in view."""

    def keep(self, visible: Sequence[Seen], new: Sequence[Seen]) -> list[Seen]:
        """Which pictures are in view once a successful reply has come.

        Args:
            visible: what was in view, oldest first.
            new: what the reply shows.

        Returns:
            A subset of ``visible`` and ``new``, in that order.
        """
        ...


@dataclass(frozen=True)
class Latest:
    """Only the newest reply's pictures, as VisHarness does."""

    def keep(self, visible: Sequence[Seen], new: Sequence[Seen]) -> list[Seen]:
        """See ``MemoryPolicy.keep``."""
        return list(new)


@dataclass(frozen=True)
class LastK:
    """The newest ``k`` pictures, whatever reply they came in."""

    k: int

    def __post_init__(self) -> None:
        if self.k < 1:
            raise InvalidData(f"Expected last_k to keep at least 1 picture, but got {self.k}.")

    def keep(self, visible: Sequence[Seen], new: Sequence[Seen]) -> list[Seen]:
        """See ``MemoryPolicy.keep``."""
        return [*visible, *new][-self.k :]


@dataclass(frozen=True)
class TokenBudget:
    """As many pictures as cost at most ``tokens``: the oldest go first, pinned ones and the newest one never."""

    tokens: int
    pinned: tuple[str, ...] = ()
    """Names of images that stay in view."""

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise InvalidData(f"Expected a token budget of at least 1, but got {self.tokens}.")

    def keep(self, visible: Sequence[Seen], new: Sequence[Seen]) -> list[Seen]:
        """See ``MemoryPolicy.keep``."""
        everything = [*visible, *new]
        total = sum(seen.tokens for seen in everything)
        kept = []
        for seen in everything:
            droppable = seen.name not in self.pinned and seen is not everything[-1]
            if total > self.tokens and droppable:
                total -= seen.tokens
            else:
                kept.append(seen)
        return kept


@dataclass(frozen=True)
class KeepAll:
    """Everything, always: what archiving is compared with."""

    def keep(self, visible: Sequence[Seen], new: Sequence[Seen]) -> list[Seen]:
        """See ``MemoryPolicy.keep``."""
        return [*visible, *new]


_MAX_DIGITS = 18


def memory_policy(value: str | MemoryPolicy) -> MemoryPolicy:
    """A memory policy from its name: ``latest``, ``last_k:K``, ``token_budget:N`` or ``keep_all``.

    Example:
        >>> memory_policy("last_k:3")
        LastK(k=3)

    Raises:
        InvalidData: if the name or its number cannot be read.
    """
    if not isinstance(value, str):
        if isinstance(value, type) or not callable(getattr(value, "keep", None)):
            raise InvalidData(
                f"Expected memory to be the name of a policy, or an object with `keep`, but got {value!r}."
            )
        return value
    name, _, number = value.partition(":")
    plain: dict[str, type[Latest | KeepAll]] = {"latest": Latest, "keep_all": KeepAll}
    counted: dict[str, type[LastK | TokenBudget]] = {"last_k": LastK, "token_budget": TokenBudget}
    if name in plain and not number:
        return plain[name]()
    if name in counted and number.isdecimal() and len(number) <= _MAX_DIGITS:
        return counted[name](int(number))
    expected = "'latest', 'keep_all', 'last_k:K' or 'token_budget:N' with a whole number"
    raise InvalidData(f"Expected memory to be {expected}, but got {value!r}.")


@dataclass(frozen=True)
class VisualMemory:
    """What is in view, and the account of what seeing has cost. Never changed in place: each step makes a new one."""

    policy: MemoryPolicy = field(default_factory=Latest)
    rule: TokenRule = TOKEN_RULES["qwen3_vl"]
    visible: tuple[Seen, ...] = ()
    shown: int = 0
    """Pictures shown so far."""
    spent: int = 0
    """Tokens of all pictures shown so far, each counted when it was shown."""
    read: int = 0
    """Tokens read so far: what was in view, summed over the turns."""

    unarchived: int = 0
    """What ``read`` would be had nothing ever been archived."""

    @property
    def tokens(self) -> int:
        """Tokens in view now."""
        return sum([seen.tokens for seen in self.visible])

    def show(self, pictures: Sequence[tuple[str, tuple[int, int], bool]]) -> tuple[VisualMemory, tuple[Seen, ...]]:
        """Show a successful reply's pictures and archive what the policy puts away.

        A picture that is shown again, or drawn anew, takes the place of the one of that name: none is in view twice.

        Args:
            pictures: name, (width, height) in pixels, and whether it is a visualisation, of each.

        Returns:
            The memory after, and what was archived.
        """
        rule = self.rule
        new = [Seen(self.shown + i, name, rule.tokens(*size), drawn) for i, (name, size, drawn) in enumerate(pictures)]
        names = {seen.name for seen in new}
        kept = tuple(self.policy.keep([seen for seen in self.visible if seen.name not in names], new))
        keys = {seen.key for seen in kept}
        archived = tuple(seen for seen in (*self.visible, *new) if seen.key not in keys)
        spent = self.spent + sum(seen.tokens for seen in new)
        shown = self.shown + len(new)
        return VisualMemory(
            self.policy, rule, kept, shown=shown, spent=spent, read=self.read, unarchived=self.unarchived
        ), archived

    def turned(self) -> VisualMemory:
        """Account for one turn of the agent, which reads everything in view."""
        read, unarchived = self.read + self.tokens, self.unarchived + self.spent
        return VisualMemory(
            self.policy, self.rule, self.visible, self.shown, self.spent, read=read, unarchived=unarchived
        )
