"""The family ``multiimage`` of the data set ``scenes``."""

from __future__ import annotations

import operator
import re

import numpy as np

from visenv.datasets.options import answers_with, asked_with
from visenv.datasets.scenes.dataset import FIXED_SIZE, SPLITS
from visenv.datasets.scenes.kinds import COLOURS
from visenv.datasets.several.forms import FORMS, NUMBERS, SOLID, Drawn, NoRoom, draw_form
from visenv.errors import DatasetError
from visenv.types import AnswerTruth, Sample

FAMILY = "multiimage"

_ENTROPY = 0x5E7E
_ATTEMPTS = 200


class SeveralDataset:
    """Generated pictures, two to eight a sample, and questions that need more than one of them.

    What changed between two, which two show the same thing, how many there are in all, in which one a thing is nearest,
    which one lacks what the others have: in turns. A sample depends on its identifier and on nothing else.

    Args:
        split: ``train``, ``val`` or ``test``; the three share no sample.
        difficulty: 0 to 3: more pictures, more in each, and harder to see.

    Raises:
        DatasetError: for any other split or difficulty.

    Example:
        >>> sample = SeveralDataset("val", 0).get(0)
        >>> len(sample.images), print(sample.query)
        Which thing has another colour in img_1 than in img_0?
        ...
        (2, None)
    """

    name = "scenes"
    replicable = True
    vocabulary = (*SOLID, *COLOURS)

    def __init__(self, split: str, difficulty: int) -> None:
        if split not in SPLITS:
            raise DatasetError(f"Expected a split out of {', '.join(SPLITS)}, but got {split!r}.")
        if isinstance(difficulty, bool) or difficulty not in range(4):
            raise DatasetError(f"Expected a difficulty of 0, 1, 2 or 3, but got {difficulty!r}.")
        self.split, self.difficulty = split, int(difficulty)
        self._prefix = f"scenes/{FAMILY}/d{self.difficulty}/{split}/"

    def __repr__(self) -> str:
        return f"SeveralDataset({self.split!r}, {self.difficulty})"

    @property
    def size(self) -> int | None:
        """500 for ``val`` and ``test``, None for ``train``."""
        return None if self.split == "train" else FIXED_SIZE

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0; its form follows from the number.

        Raises:
            IndexError: for a negative number, or one that ``val`` and ``test`` do not have.
        """
        number = operator.index(index)
        if number < 0 or (self.size is not None and number >= self.size):
            end = "or more" if self.size is None else f"to {self.size - 1}"
            raise IndexError(f"Expected a number of 0 {end} for {self!r}, but got {number}.")
        form = tuple(FORMS)[number % len(FORMS)]
        drawn = self._drawn(number, form)
        return Sample(
            sample_id=f"{self._prefix}{number}",
            images=drawn.images,
            query=_query(drawn),
            truth=_truth(drawn),
            task="question",
            metadata={"family": FAMILY, "difficulty": self.difficulty, "form": form, **(drawn.facts or {})},
        )

    def _drawn(self, number: int, form: str) -> Drawn:
        for attempt in range(_ATTEMPTS):
            key = (self.difficulty, SPLITS.index(self.split), attempt, number)
            rng = np.random.default_rng(np.random.SeedSequence(_ENTROPY, spawn_key=key))
            try:
                return draw_form(rng, form, self.difficulty)
            except NoRoom:
                continue
        raise RuntimeError(f"No pictures were found for {self._prefix}{number} in {_ATTEMPTS} attempts.")

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


def _query(drawn: Drawn) -> str:
    return asked_with(drawn.question, drawn.options) if drawn.options else f"{drawn.question}\nAnswer with a number."


def _truth(drawn: Drawn) -> AnswerTruth:
    if drawn.options:
        return answers_with(drawn.answer, drawn.options)
    return AnswerTruth((drawn.answer, NUMBERS[int(drawn.answer)]))


def make(*, split: str, difficulty: int) -> SeveralDataset:
    """The family ``multiimage`` of the data set ``scenes``.

    Raises:
        DatasetError: for a split or a difficulty that does not exist.
    """
    return SeveralDataset(split, difficulty)
