"""Names to import strings, for everything that plugs into the core.

A registry holds strings, so that listing what there is imports nothing and the core never knows its content. A name is
registered once; registering it again is an error, asking for one that is not there offers the nearest ones.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from visenv.errors import DuplicateName, InvalidData, UnknownName

_ENTRY_POINT = re.compile(r"[\w.]+:[\w.]+")


@dataclass(frozen=True)
class Entry:
    """One registered name."""

    name: str
    entry_point: str
    """``package.module:attribute``."""
    summary: str = ""
    """One line, for listings."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments that every call of the entry point gets, and flags that its registry knows."""

    def load(self) -> Any:
        """Import what the entry names."""
        module, _, attribute = self.entry_point.partition(":")
        return getattr(importlib.import_module(module), attribute)


class Registry:
    """A named set of entries.

    Example:
        >>> toys = Registry("toy")
        >>> toys.register("ball", "collections:OrderedDict", summary="A round thing.")
        >>> toys.names()
        ['ball']
        >>> toys.load("bal")
        Traceback (most recent call last):
        visenv.errors.UnknownName: Unknown toy 'bal'. Did you mean 'ball'? Known: ball.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, entry_point: str, *, summary: str = "", **options: Any) -> None:
        """Add a name.

        Args:
            name: what users write; no colon, since ``name:rest`` passes ``rest`` on.
            entry_point: ``package.module:attribute``, imported only when it is used.
            summary: one line, for listings.
            **options: kept with the entry.

        Raises:
            DuplicateName: if the name is taken.
            InvalidData: if name or entry point have the wrong form.
        """
        if not isinstance(name, str) or not name or ":" in name or name != name.strip():
            raise InvalidData(f"Expected a {self.kind} name without a colon or spaces around it, but got {name!r}.")
        if not isinstance(entry_point, str) or not _ENTRY_POINT.fullmatch(entry_point):
            raise InvalidData(f"Expected an entry point like 'package.module:attribute', but got {entry_point!r}.")
        if name in self._entries:
            taken = self._entries[name].entry_point
            raise DuplicateName(f"The {self.kind} {name!r} is registered already, as {taken!r}: choose another name.")
        self._entries[name] = Entry(name, entry_point, summary, options)

    def entry(self, name: str) -> Entry:
        """The entry of a name.

        Raises:
            UnknownName: if there is none; the message offers the nearest names.
        """
        if not isinstance(name, str):
            raise UnknownName(f"Expected the name of a {self.kind}, but got {name!r:.80}.")
        if name in self._entries:
            return self._entries[name]
        near = difflib.get_close_matches(name, self._entries, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UnknownName(f"Unknown {self.kind} {name!r}.{hint} Known: {', '.join(self.names())}.")

    def load(self, name: str) -> Any:
        """Import what a name stands for."""
        return self.entry(name).load()

    def names(self) -> list[str]:
        """All names, in the order of registration."""
        return list(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __contains__(self, name: object) -> bool:
        return name in self._entries


datasets = Registry("data set")
experts = Registry("expert set")
expert_sources = Registry("source of experts")
"""By what stands before ``://`` in an address, and ``file`` for a file that says which experts to use."""
rewards = Registry("reward")
toolsets = Registry("tool set")
policies = Registry("policy")
