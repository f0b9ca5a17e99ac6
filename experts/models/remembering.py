"""Experts that remember what their networks made of images and phrases."""

from __future__ import annotations

from typing import Any, TypeVar

from visenv.byte_cache import ByteCache
from visenv.experts.models.base import ModelExpert

M = TypeVar("M")

CACHE_BYTES = 2**30
"""What is remembered where no ``memory_mb`` is given."""


class RememberingExpert(ModelExpert[M]):
    """What experts share that look at an image once, however often they are asked about it.

    What they remember takes what ``memory_mb`` leaves beside the weights, or 1 GiB without it.
    """

    _remembered: ByteCache[Any] | None = None

    def _forget(self) -> None:
        self._remembered = None

    def _cache(self) -> ByteCache[Any]:
        if self._remembered is None:
            spare = self.spare_bytes
            self._remembered = ByteCache(CACHE_BYTES if spare is None else spare)
        return self._remembered
