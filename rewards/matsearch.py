"""Rewards for agents that search and answer: our own, and two published ones to compare it with."""

from __future__ import annotations

import math

from visenv.errors import InvalidData
from visenv.rewards import mmsearch_r1, visual_arft
from visenv.rewards.functional.text import token_f1
from visenv.types import AnswerTruth, Outcome, Truth, Turn

ANSWER, FORMAT = 0.9, 0.1


class MATSearchReward:
    """Pays for the answer, and for clean turns as far as the answer is right.

    ``answer`` is 0.9 times the token F1 of the answer, the best over the accepted ones; ``format`` 0.1 times the same
    if every turn was carried out, so that well-formed turns alone earn nothing. Searching itself is neither paid nor
    charged: the turns are few.

    How it can be gamed: as every F1, by hedging. An answer of three names, one of them right, earns half.

    Args:
        answer: what a right answer pays.
        format: what clean turns pay besides.

    Raises:
        InvalidData: if one of them is negative or not finite.
    """

    name = "matsearch"

    def __init__(self, answer: float = ANSWER, format: float = FORMAT) -> None:
        for name, value in (("answer", answer), ("format", format)):
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise InvalidData(f"Expected {name} to be a number of at least 0, but got {value!r}.")
        self.answer, self.format = float(answer), float(format)
        self.bounds = (0.0, self.answer + self.format)
        """The least and the most that an episode pays."""

    def __repr__(self) -> str:
        return f"MATSearchReward(answer={self.answer:g}, format={self.format:g})"

    def turn(self, turn: Turn) -> dict[str, float]:
        """Nothing: only the end pays."""
        return {}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        """What the end pays: ``answer`` and ``format``."""
        right = token_f1(outcome.answer, accepted(truth))
        return {"answer": self.answer * right, "format": self.format * right * well_formed(outcome)}


class ArftSearchReward:
    """The published reward of Visual-ARFT for searching (arXiv 2505.14246): token F1, and 1 for the form.

    How it can be gamed: half of what can be had is for the form, whatever the answer.
    """

    name = "arft_search"
    bounds = visual_arft.SEARCH_BOUNDS

    def turn(self, turn: Turn) -> dict[str, float]:
        """Nothing: only the end pays."""
        return {}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        """See ``visenv.rewards.visual_arft.search_score``."""
        return visual_arft.search_score(outcome.answer, accepted(truth), well_formed=well_formed(outcome))


class MMSearchR1Reward:
    """The published reward of MMSearch-R1 (arXiv 2506.20670): exact match, a little less where it was searched for.

    How it can be gamed: see ``visenv.rewards.mmsearch_r1``. Here every right answer has to be searched for, so that
    0.91 is the most that can be had; and three documents take more searches than its form allows.
    """

    name = "mmsearch_r1"
    bounds = mmsearch_r1.BOUNDS

    def turn(self, turn: Turn) -> dict[str, float]:
        """Nothing: only the end pays."""
        return {}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        """See ``visenv.rewards.mmsearch_r1.score``."""
        searches = outcome.tools.count("Search")
        return mmsearch_r1.score(
            outcome.answer, accepted(truth), text_searches=searches, well_formed=well_formed(outcome)
        )


def accepted(truth: Truth) -> tuple[str, ...]:
    """The accepted answers.

    Raises:
        InvalidData: if it is no question that has some.
    """
    if not isinstance(truth, AnswerTruth):
        raise InvalidData(f"Expected a truth with accepted answers (AnswerTruth), but got {type(truth).__name__}.")
    return truth.answers


def well_formed(outcome: Outcome) -> bool:
    """Whether every turn was carried out, and the last one answered."""
    return outcome.termination == "answer" and len(outcome.tools) + 1 == outcome.turns
