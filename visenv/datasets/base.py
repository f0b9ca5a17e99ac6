"""What a data set is to an environment."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from visenv.types import Sample

FAMILIES = ("reasonseg", "grefseg", "refseg", "densedet", "refcount")
"""The kinds of task a data set may be asked for whose result is found in the picture, one an environment id."""
QUESTIONS = ("multiimage", "blink", "mmvp", "matcoding", "matsearch")
"""The kinds of task whose result is an answer, or an image that was mended; one an environment id."""


@runtime_checkable
class Dataset(Protocol):
    """Samples by number, by identifier, or by chance.

    A factory ``make(*, path, family, split, difficulty) -> Dataset`` is what gets registered: ``path`` is what follows
    the colon in ``dataset="name:path"`` (None without one), ``family`` one of ``FAMILIES`` or ``QUESTIONS``,
    ``difficulty`` 0 to 3 for data that is generated (others ignore it). It raises ``DatasetError`` for a family or
    split it does not have.

    One whose copies in other processes draw the same samples from the same generators, because it neither remembers
    what it drew nor holds what cannot be copied, has ``replicable = True``: its samples may be drawn there.

    One thread may run ``draw`` or ``get`` while others run ``find``, for experts that read the truth, or ``get``.
    """

    name: str
    """As registered."""
    split: str
    vocabulary: tuple[str, ...]
    """At least eight simple phrases (nouns, colours and nouns), the same for every sample: for discrete mode."""

    @property
    def size(self) -> int | None:
        """How many samples there are; None where they never end."""
        ...

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0.

        Raises:
            IndexError: if there is none.
        """
        ...

    def find(self, sample_id: str) -> Sample:
        """The sample with that identifier.

        Raises:
            DatasetError: if there is none.
        """
        ...

    def draw(self, rng: np.random.Generator) -> Sample:
        """A sample by chance: any of a finite data set, a new one of an infinite one."""
        ...
