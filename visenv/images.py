"""Pictures: loading, provenance, letterboxing and drawing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visenv.types import Pixels


@dataclass(frozen=True, eq=False)
class RootPixels:
    """An input image, whose digest is taken once, when it is first asked for."""

    pixels: Pixels

    @cached_property
    def digest(self) -> str:
        """A digest of shape and pixels."""
        data = np.ascontiguousarray(self.pixels)
        return hashlib.blake2b(data, digest_size=16, person=repr(data.shape[:2]).encode()[:16]).hexdigest()


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where an image's pixels come from: a root, and what was done to it since."""

    root: RootPixels
    steps: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Equal for equal pixels, whatever data set or episode they are in."""
        return "/".join((self.root.digest, *self.steps))

    def then(self, step: str) -> Provenance:
        """The provenance of an image made from this one by ``step``."""
        return Provenance(self.root, (*self.steps, step))
