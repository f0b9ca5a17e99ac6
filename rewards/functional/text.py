"""Comparing a text answer with the accepted ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from visenv.errors import InvalidData
from visenv.wording import normalize_answer


def exact_match(prediction: str | None, answers: str | Sequence[str]) -> float:
    """Whether an answer is, once normalised, one of the accepted ones.

    Args:
        prediction: the answer given; None if none was.
        answers: the accepted answer or answers.

    Returns:
        1.0 or 0.0; no answer given is 0.0 even where the accepted answer is empty.

    Raises:
        InvalidData: if no answer is accepted at all.

    Example:
        >>> exact_match("(B).", ["b", "the left one"]), exact_match("C", "b"), exact_match(None, "b")
        (1.0, 0.0, 0.0)
    """
    accepted = _accepted(answers)
    return float(prediction is not None and normalize_answer(prediction) in accepted)


def token_f1(prediction: str | None, answers: str | Sequence[str]) -> float:
    """The F1 of the words that an answer shares with an accepted one, the best over all accepted.

    Args:
        prediction: the answer given; None if none was.
        answers: the accepted answer or answers.

    Returns:
        A number in [0, 1]; an empty answer scores 1 against an empty one and 0 against any other, no answer scores 0.

    Raises:
        InvalidData: if no answer is accepted at all.

    Source:
        SQuAD (arXiv 1606.05250), section 6.1; used by Visual-ARFT (arXiv 2505.14246).

    Example:
        >>> token_f1("a red umbrella", ["the umbrella", "a parasol"])
        0.6666666666666666
    """
    accepted = _accepted(answers)
    if prediction is None:
        return 0.0
    words = normalize_answer(prediction).split()
    return max(_word_f1(words, answer.split()) for answer in accepted)


def _word_f1(words: list[str], truth: list[str]) -> float:
    if not words or not truth:
        return float(words == truth)
    shared = sum((Counter(words) & Counter(truth)).values())
    return 2.0 * shared / (len(words) + len(truth))


def _accepted(answers: str | Sequence[str]) -> list[str]:
    accepted = [answers] if isinstance(answers, str) else answers
    if not isinstance(accepted, Sequence) or not accepted or not all(isinstance(answer, str) for answer in accepted):
        raise InvalidData(f"Expected argument `answers` to be a text or a list of texts, but got {answers!r:.200}.")
    return [normalize_answer(answer) for answer in accepted]
