"""What is remembered because it can be had again: bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Values by key, the least recently used dropped once they take more than so many bytes.

    Args:
        limit: in bytes.

    Example:
        >>> cache = ByteCache(100)
        >>> for name in "abc":
        ...     cache.put(name, name.upper(), size=40)
        >>> cache.get("a"), cache.get("c"), cache.size
        (None, 'C', 80)
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """The value of a key, which counts as used now; None if it is not remembered."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Remember a value of so many bytes; one that is larger than the whole cache is not."""
        if size > self.limit:
            return
        self.size += size - self._values.pop(key, (value, 0))[1]
        self._values[key] = (value, size)
        while self.size > self.limit:
            _, (_, dropped) = self._values.popitem(last=False)
            self.size -= dropped

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
        self.size = 0

    def __len__(self) -> int:
        return len(self._values)

    def __getstate__(self) -> dict[str, object]:
        """What is remembered stays behind: it can be had again."""
        return {"limit": self.limit, "size": 0, "_values": OrderedDict()}
