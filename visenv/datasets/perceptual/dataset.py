"""The families ``blink`` and ``mmvp`` of the data set ``scenes``."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import ClassVar

import numpy as np

from visenv.datasets.options import answers_with, asked_with
from visenv.datasets.perceptual.forms import FORMS
from visenv.datasets.perceptual.pairs import draw_pair
from visenv.datasets.scenes.kinds import COLOURS
from visenv.datasets.scenes.numbered import NumberedDataset
from visenv.datasets.several.forms import SOLID, Drawn, NoRoom
from visenv.types import Sample

_ATTEMPTS = 300


class _Drawn(NumberedDataset):
    """Samples by number: what both families share."""

    vocabulary = (*SOLID, *COLOURS)
    label: ClassVar[str]
    """The family."""

    def __init__(self, split: str, difficulty: int) -> None:
        super().__init__(self.label, split, difficulty)

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0.

        Raises:
            IndexError: for a negative number, or one that ``val`` and ``test`` do not have.
        """
        return self._sample(self._number(index))

    def _told(self, number: int) -> Sample:
        return self._sample(number, told=True)

    def _sample(self, number: int, told: bool = False) -> Sample:
        group, drawn = self._question(number)
        truth = answers_with(drawn.answer, drawn.options)
        return Sample(
            sample_id=f"{self._prefix}{number}",
            images=drawn.images,
            query=asked_with(drawn.question, drawn.options),
            truth=replace(truth, group=group, contents=drawn.contents() if told else None),
            task="question",
            metadata={
                "family": self.family,
                "difficulty": self.difficulty,
                "question": drawn.question,
                "paired": self.family == "mmvp",
                **(drawn.facts or {}),
            },
        )

    @abstractmethod
    def _question(self, number: int) -> tuple[str, Drawn]:
        """What a question counts for, and the question."""

    def _streams(self, entropy: int, number: int) -> list[np.random.Generator]:
        """Sources of chance, one an attempt; they depend on the sample alone."""
        return [self._stream(entropy, attempt, number) for attempt in range(_ATTEMPTS)]


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

    label = "blink"

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

    label = "mmvp"

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
