"""The families ``blink`` and ``mmvp`` of the data set ``scenes``."""

from __future__ import annotations

import operator
import re
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np

from visenv.datasets.options import answers_with, asked_with
from visenv.datasets.perceptual.forms import FORMS
from visenv.datasets.perceptual.pairs import draw_pair
from visenv.datasets.scenes.dataset import FIXED_SIZE, SPLITS
from visenv.datasets.scenes.kinds import COLOURS
from visenv.datasets.several.forms import SOLID, Drawn, NoRoom
from visenv.errors import DatasetError
from visenv.types import Sample

_ATTEMPTS = 300


class _Drawn(ABC):
    """Samples by number: what both families share."""

    name = "scenes"
    replicable = True
    vocabulary = (*SOLID, *COLOURS)
    family: ClassVar[str]

    def __init__(self, split: str, difficulty: int) -> None:
        if split not in SPLITS:
            raise DatasetError(f"Expected a split out of {', '.join(SPLITS)}, but got {split!r}.")
        if isinstance(difficulty, bool) or difficulty not in range(4):
            raise DatasetError(f"Expected a difficulty of 0, 1, 2 or 3, but got {difficulty!r}.")
        self.split, self.difficulty = split, int(difficulty)
        self._prefix = f"scenes/{self.family}/d{self.difficulty}/{split}/"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.split!r}, {self.difficulty})"

    @property
    def size(self) -> int | None:
        """500 for ``val`` and ``test``, None for ``train``."""
        return None if self.split == "train" else FIXED_SIZE

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0.

        Raises:
            IndexError: for a negative number, or one that ``val`` and ``test`` do not have.
        """
        number = operator.index(index)
        if number < 0 or (self.size is not None and number >= self.size):
            end = "or more" if self.size is None else f"to {self.size - 1}"
            raise IndexError(f"Expected a number of 0 {end} for {self!r}, but got {number}.")
        group, drawn = self._question(number)
        return Sample(
            sample_id=f"{self._prefix}{number}",
            images=drawn.images,
            query=asked_with(drawn.question, drawn.options),
            truth=replace(answers_with(drawn.answer, drawn.options), group=group),
            task="question",
            metadata={
                "family": self.family,
                "difficulty": self.difficulty,
                "question": drawn.question,
                "paired": self.family == "mmvp",
                **(drawn.facts or {}),
            },
        )

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
        return self.get(int(match[1]))

    def draw(self, rng: np.random.Generator) -> Sample:
        """A sample by chance: any of a fixed split, one of 2⁶³ of ``train``."""
        return self.get(int(rng.integers(0, 2**63 - 1 if self.size is None else self.size)))

    @abstractmethod
    def _question(self, number: int) -> tuple[str, Drawn]:
        """What a question counts for, and the question."""

    def _streams(self, entropy: int, number: int) -> list[np.random.Generator]:
        """Sources of chance, one an attempt; they depend on the sample alone."""
        keys = [(self.difficulty, SPLITS.index(self.split), attempt, number) for attempt in range(_ATTEMPTS)]
        return [np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=key)) for key in keys]


class PerceptualDataset(_Drawn):
    """Questions of eight of BLINK's sub-tasks about generated pictures, in turns.

    A sample depends on its identifier and on nothing else; its answer follows from what was drawn.

    Args:
        split: ``train``, ``val`` or ``test``; the three share no sample.
        difficulty: 0 to 3: more things, harder to tell apart.

    Raises:
        DatasetError: for any other split or difficulty.

    Example:
        >>> sample = PerceptualDataset("val", 0).get(1)
        >>> sample.truth.group, print(sample.query)
        Two points are circled in the image, ... Which point is closer to the camera?
        ...
        ('Relative_Depth', None)
    """

    family = "blink"

    def _question(self, number: int) -> tuple[str, Drawn]:
        task = tuple(FORMS)[number % len(FORMS)]
        for rng in self._streams(0xB117, number):
            try:
                return task, FORMS[task](rng, self.difficulty)
            except NoRoom:
                continue
        raise RuntimeError(f"No pictures were found for {self._prefix}{number} in {_ATTEMPTS} attempts.")


class PairsDataset(_Drawn):
    """Pairs of pictures that differ in one thing, with one question that they answer differently, as MMVP's.

    Samples 2 k and 2 k + 1 are a pair, which their identifiers and truths say. Which of the two comes first is drawn.

    Args:
        split: ``train``, ``val`` or ``test``; the three share no pair.
        difficulty: 0 to 3: more things, and smaller ones.

    Raises:
        DatasetError: for any other split or difficulty.

    Example:
        >>> data = PairsDataset("val", 0)
        >>> first, second = data.get(6), data.get(7)
        >>> first.query == second.query, first.truth.answers == second.truth.answers
        (True, False)
    """

    family = "mmvp"

    def _question(self, number: int) -> tuple[str, Drawn]:
        for rng in self._streams(0x33B9, number // 2):
            try:
                return str(number // 2), draw_pair(rng, self.difficulty)[number % 2]
            except NoRoom:
                continue
        raise RuntimeError(f"No pictures were found for {self._prefix}{number} in {_ATTEMPTS} attempts.")


def make(*, split: str, difficulty: int) -> PerceptualDataset:
    """The family ``blink`` of the data set ``scenes``.

    Raises:
        DatasetError: for a split or a difficulty that does not exist.
    """
    return PerceptualDataset(split, difficulty)


def make_pairs(*, split: str, difficulty: int) -> PairsDataset:
    """The family ``mmvp`` of the data set ``scenes``.

    Raises:
        DatasetError: for a split or a difficulty that does not exist.
    """
    return PairsDataset(split, difficulty)
