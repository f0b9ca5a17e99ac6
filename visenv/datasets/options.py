"""Questions with options: how they are asked, in which order, and which answers are right."""

from __future__ import annotations

import string
import zlib
from collections.abc import Sequence

import numpy as np

from visenv.errors import InvalidData
from visenv.types import AnswerTruth

LETTERS = string.ascii_uppercase
"""What options are called, in order."""


def asked_with(question: str, options: Sequence[str]) -> str:
    """A question with its options, as it is put to an agent.

    Example:
        >>> print(asked_with("Which one?", ["the left", "the right"]))
        Which one?
        (A) the left
        (B) the right
        Answer with the letter of one option.
    """
    lines = [f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False)]
    return "\n".join([question, *lines, "Answer with the letter of one option."])


def answers_with(right: str, options: Sequence[str]) -> AnswerTruth:
    """The truth of a question with options: the letter of the right one, or its text.

    Args:
        right: the right option.
        options: all of them, in the order in which they are asked.

    Raises:
        InvalidData: if the right one is none of them, or there are too many.

    Example:
        >>> answers_with("the right", ["the left", "the right"])
        AnswerTruth(answers=('B', 'the right'), choices=('the left', 'the right'))
    """
    if right not in options or len(options) > len(LETTERS):
        count = f"{len(options)} options"
        raise InvalidData(f"Expected {right!r:.80} to be one of at most {len(LETTERS)} options, but got {count}.")
    return AnswerTruth((LETTERS[list(options).index(right)], right), tuple(options))


def shuffled(options: Sequence[str], sample_id: str, seed: int) -> tuple[str, ...]:
    """Options in an order that follows from a seed and the sample alone, in any process.

    Example:
        >>> shuffled(["a", "b", "c"], "blink/1", 0) == shuffled(["a", "b", "c"], "blink/1", 0)
        True
    """
    rng = np.random.default_rng([seed, zlib.crc32(sample_id.encode())])
    return tuple(options[i] for i in rng.permutation(len(options)).tolist())
