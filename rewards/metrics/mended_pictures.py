"""How near mended pictures are to what they should be, and how often the answer is right."""

from __future__ import annotations

from typing import NamedTuple

from visenv.rewards.functional.pictures import likeness
from visenv.rewards.functional.text import exact_match, token_f1
from visenv.rewards.metrics.base import SummedMetric, ratios
from visenv.types import FloatArray, ImageTruth, Outcome


class Mended(NamedTuple):
    """One picture, and the answer about it."""

    likeness: float
    asked: float
    """Whether there was a question."""
    exact: float
    f1: float


class MendedPictures(SummedMetric[Mended]):
    """The mean ``likeness`` of the last picture that a program made to the clean one; exact match and F1 of answers.

    Where no program made a picture it is 1 if nothing was wrong, and else 0. Answers count where there is a question.

    Keys: ``likeness``, ``EM``, ``token_F1``, ``likeness_n``, ``likeness_failed``.

    Source:
        The task is that of Visual-ARFT (arXiv 2505.14246), whose figures are EM and F1; ``likeness`` is ours.

    Example:
        >>> import numpy as np
        >>> metric, picture = MendedPictures(), np.full((4, 4, 3), 9, np.uint8)
        >>> metric.update(Outcome(None, "Red.", "answer", 2, picture), ImageTruth(picture, ("blur",), ("red",)))
        >>> metric.compute()["likeness"], metric.compute()["EM"]
        (1.0, 1.0)
    """

    name = "likeness"
    higher_is_better = True
    bounds = (0.0, 1.0)
    truths = (ImageTruth,)
    width = 5

    def _measure(self, outcome: Outcome, truth: ImageTruth) -> Mended:
        near = float(not truth.damage) if outcome.image is None else likeness(outcome.image, truth.clean)
        if not truth.answers:
            return Mended(near, 0.0, 0.0, 0.0)
        return Mended(near, 1.0, exact_match(outcome.answer, truth.answers), token_f1(outcome.answer, truth.answers))

    def _tally(self, record: Mended) -> tuple[float, ...]:
        return 1, *record

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        samples, near, asked, exact, f1 = totals
        return {"likeness": ratios(near, samples), "EM": ratios(exact, asked), "token_F1": ratios(f1, asked)}

    def _value(self, record: Mended) -> float:
        return record.likeness
