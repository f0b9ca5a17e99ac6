"""The family ``multiimage`` of the data set ``scenes``."""

from __future__ import annotations

from dataclasses import replace

from visenv.datasets.options import answers_with, asked_with
from visenv.datasets.scenes.kinds import COLOURS
from visenv.datasets.scenes.numbered import NumberedDataset
from visenv.datasets.several.forms import FORMS, NUMBERS, SOLID, Drawn, NoRoom, draw_form
from visenv.types import AnswerTruth, Sample

FAMILY = "multiimage"

_ENTROPY = 0x5E7E
_ATTEMPTS = 200


class SeveralDataset(NumberedDataset):
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

    vocabulary = (*SOLID, *COLOURS)

    def __init__(self, split: str, difficulty: int) -> None:
        super().__init__(FAMILY, split, difficulty)

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0; its form follows from the number.

        Raises:
            IndexError: for a negative number, or one that ``val`` and ``test`` do not have.
        """
        return self._sample(self._number(index))

    def _told(self, number: int) -> Sample:
        return self._sample(number, told=True)

    def _sample(self, number: int, told: bool = False) -> Sample:
        form = tuple(FORMS)[number % len(FORMS)]
        drawn = self._drawn(number, form)
        return Sample(
            sample_id=f"{self._prefix}{number}",
            images=drawn.images,
            query=_query(drawn),
            truth=replace(_truth(drawn), contents=drawn.contents() if told else None),
            task="question",
            metadata={"family": FAMILY, "difficulty": self.difficulty, "form": form, **(drawn.facts or {})},
        )

    def _drawn(self, number: int, form: str) -> Drawn:
        for attempt in range(_ATTEMPTS):
            try:
                return draw_form(self._stream(_ENTROPY, attempt, number), form, self.difficulty)
            except NoRoom:
                continue
        raise RuntimeError(f"No pictures were found for {self._prefix}{number} in {_ATTEMPTS} attempts.")


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
