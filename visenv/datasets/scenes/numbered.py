"""Generated samples by number: what all families of ``scenes`` share."""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod

import numpy as np

from visenv.errors import DatasetError
from visenv.types import Sample

SPLITS = ("train", "val", "test")
FIXED_SIZE = 500
"""Samples in ``val`` and in ``test``; ``train`` does not end."""


class NumberedDataset(ABC):
    """Samples of one family, split and difficulty, each of which depends on its number alone.

    Args:
        family: as it stands in identifiers.
        split: ``train``, ``val`` or ``test``.
        difficulty: 0 to 3.

    Raises:
        DatasetError: for any other split or difficulty.
    """

    name = "scenes"
    replicable = True
    vocabulary: tuple[str, ...]

    def __init__(self, family: str, split: str, difficulty: int) -> None:
        if split not in SPLITS:
            raise DatasetError(f"Expected a split out of {', '.join(SPLITS)}, but got {split!r}.")
        if isinstance(difficulty, bool) or difficulty not in range(4):
            raise DatasetError(f"Expected a difficulty of 0, 1, 2 or 3, but got {difficulty!r}.")
        self.family, self.split, self.difficulty = family, split, int(difficulty)
        self._prefix = f"scenes/{family}/d{self.difficulty}/{split}/"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.split!r}, {self.difficulty})"

    @property
    def size(self) -> int | None:
        """500 for ``val`` and ``test``, None for ``train``."""
        return None if self.split == "train" else FIXED_SIZE

    @abstractmethod
    def get(self, index: int) -> Sample:
        """The sample with that number, from 0; ``train`` has one for every number.

        Raises:
            IndexError: for a negative number, or one that ``val`` and ``test`` do not have.
        """

    def find(self, sample_id: str) -> Sample:
        """The sample with that identifier, as in ``Sample.sample_id``.

        Raises:
            DatasetError: if it is none of this data set's.
        """
        match = re.fullmatch(re.escape(self._prefix) + r"(0|[1-9][0-9]{0,30})", sample_id)
        if match is None or (self.size is not None and int(match[1]) >= self.size):
            end = "" if self.size is None else f" under {self.size}"
            raise DatasetError(
                f"Expected an identifier {self._prefix}N with a number N{end}, but got {sample_id[:100]!r}."
            )
        return self._told(int(match[1]))

    def _told(self, number: int) -> Sample:
        """The sample with that number, with what experts that are given the truth may know besides."""
        return self.get(number)

    def draw(self, rng: np.random.Generator) -> Sample:
        """A sample by chance: any of a fixed split, one of 2⁶³ of ``train``."""
        return self.get(int(rng.integers(0, 2**63 - 1 if self.size is None else self.size)))

    def _number(self, index: int) -> int:
        """An index as a number that there is."""
        number = operator.index(index)
        if number < 0 or (self.size is not None and number >= self.size):
            end = "or more" if self.size is None else f"to {self.size - 1}"
            raise IndexError(f"Expected a number of 0 {end} for {self!r}, but got {number}.")
        return number

    def _stream(self, entropy: int, attempt: int, number: int) -> np.random.Generator:
        """The source of chance of one attempt at a sample: it depends on the sample alone."""
        key = (self.difficulty, SPLITS.index(self.split), attempt, number)
        return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=key))
