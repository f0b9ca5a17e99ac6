"""The plainest reward of a question: whether it was answered rightly."""

from __future__ import annotations

from visenv.errors import InvalidData
from visenv.rewards.functional.text import exact_match
from visenv.types import AnswerTruth, Outcome, Truth, Turn


class AnswerReward:
    """Pays 1 for a right answer, once, at the end, and nothing else.

    How it can be gamed: by guessing, where there are few options; what that comes to stands with every environment.

    Example:
        >>> from visenv.types import AnswerTruth, Outcome
        >>> AnswerReward().final(Outcome(None, "(B)", "answer", 3), AnswerTruth(("B", "the left one")))
        {'right': 1.0}
    """

    name = "answer"
    bounds = (0.0, 1.0)

    def __repr__(self) -> str:
        return "AnswerReward()"

    def turn(self, turn: Turn) -> dict[str, float]:
        """Nothing: only the end pays."""
        return {}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        """What the end pays: ``right``.

        Raises:
            InvalidData: if the truth is no answer.
        """
        return {"right": answered_rightly(outcome, truth)}


def answered_rightly(outcome: Outcome, truth: Truth) -> float:
    """1 for a right answer of an episode that counts, else 0.

    Raises:
        InvalidData: if the truth is no answer.
    """
    if not isinstance(truth, AnswerTruth):
        raise InvalidData(f"Expected a truth of answers (AnswerTruth), but got {type(truth).__name__}.")
    return exact_match(outcome.answer, truth.accepted) if outcome.termination != "invalid" else 0.0
