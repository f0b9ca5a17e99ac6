"""What a pool of experts remembers of results."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

from visenv.capabilities import Result
from visenv.experts_checks import result_bytes


class ResultCache:
    """Results by key, the least recently used dropped once they take more than so many bytes.

    Args:
        limit: in bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._results: OrderedDict[Hashable, tuple[Result, int]] = OrderedDict()

    def get(self, key: Hashable) -> Result | None:
        """The result of a key, which counts as used now; None if it is not remembered."""
        found = self._results.get(key)
        if found is None:
            return None
        self._results.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, result: Result) -> None:
        """Remember a result; one that is larger than the whole cache is not."""
        size = result_bytes(result)
        if size > self.limit:
            return
        self.size += size - self._results.pop(key, (result, 0))[1]
        self._results[key] = (result, size)
        while self.size > self.limit:
            _, (_, dropped) = self._results.popitem(last=False)
            self.size -= dropped

    def __len__(self) -> int:
        return len(self._results)

    def __getstate__(self) -> dict[str, Any]:
        """What is remembered stays behind: it can be had again."""
        return {"limit": self.limit, "size": 0, "_results": OrderedDict()}
