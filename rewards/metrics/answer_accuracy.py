"""Accuracy of text answers."""

from __future__ import annotations

from typing import NamedTuple

from visenv.rewards.functional.text import exact_match, token_f1
from visenv.rewards.metrics.base import SummedMetric, ratios
from visenv.types import AnswerTruth, FloatArray, Outcome


class Agreement(NamedTuple):
    """How well an answer agrees with the best of the accepted ones."""

    exact: float
    f1: float


class AnswerAccuracy(SummedMetric[Agreement]):
    """The shares of answers that are right: exact match and token F1, after normalisation.

    No answer scores 0.

    Keys: ``EM``, ``token_F1``, ``EM_n``, ``EM_failed``. ``values`` are 1 for an exact match, else 0.

    Source:
        SQuAD (arXiv 1606.05250), section 6.1; used by Visual-ARFT (arXiv 2505.14246).

    Example:
        >>> from visenv.types import AnswerTruth, Outcome
        >>> metric = AnswerAccuracy()
        >>> metric.update(Outcome(None, "The red one.", "answer", 1), AnswerTruth(("red one", "red")))
        >>> metric.compute()
        {'EM': 1.0, 'token_F1': 1.0, 'EM_n': 1.0, 'EM_failed': 0.0}
    """

    name = "EM"
    higher_is_better = True
    bounds = (0.0, 1.0)
    truths = (AnswerTruth,)
    width = 3

    def _measure(self, outcome: Outcome, truth: AnswerTruth) -> Agreement:
        return Agreement(exact_match(outcome.answer, truth.accepted), token_f1(outcome.answer, truth.answers))

    def _tally(self, record: Agreement) -> tuple[float, ...]:
        return 1, record.exact, record.f1

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        samples, exact, f1 = totals
        return {"EM": ratios(exact, samples), "token_F1": ratios(f1, samples)}

    def _value(self, record: Agreement) -> float:
        return record.exact
