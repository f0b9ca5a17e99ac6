"""Reading the answers of models that write ``<think>…</think><answer>…</answer>``, strictly and in bounded time.

Published rewards find these tags with regular expressions that take the first match of several. Here each tag has to
stand exactly once: a text with two answers has none. Nothing is evaluated, and nothing is searched for by a pattern
that could backtrack.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from visenv.errors import InvalidData
from visenv.protocol.strict_json import load_json
from visenv.types import BoolArray

MAX_TEXT = 100_000
"""Characters of a turn that is read; a longer one has neither form nor answer."""
MAX_COORDINATE = 1e6
"""Pixels from the origin beyond which a number is no coordinate."""


def is_think_answer(text: str) -> bool:
    """Whether a text is one ``<think>`` block and one ``<answer>`` block, with white space alone around them.

    Args:
        text: what the model wrote.

    Raises:
        InvalidData: if it is no text.

    Example:
        >>> is_think_answer("<think>left one</think> <answer>[]</answer>"), is_think_answer("<answer>[]</answer>")
        (True, False)
    """
    text = bounded(text).strip()
    if any(text.count(tag) != 1 for tag in ("<think>", "</think>", "<answer>", "</answer>")):
        return False
    before, _, rest = text.partition("</think>")
    between, _, inside = rest.partition("<answer>")
    return before.startswith("<think>") and not between.strip() and inside.endswith("</answer>")


def find_answer(text: str) -> str | None:
    """What stands in the only ``<answer>`` block of a text.

    Args:
        text: what the model wrote.

    Returns:
        Without the white space around it; None if there is no block, more than one, or one that is not closed.

    Raises:
        InvalidData: if it is no text.

    Example:
        >>> find_answer("so <answer> red </answer>"), find_answer("<answer>a</answer><answer>b</answer>")
        ('red', None)
    """
    text = bounded(text)
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return None
    inside, closed, _ = text.partition("<answer>")[2].partition("</answer>")
    return inside.strip() if closed else None


def find_json_answer(text: str) -> Any:
    """The JSON value in the only ``<answer>`` block of a text; None if there is none.

    Args:
        text: what the model wrote.

    Raises:
        InvalidData: if it is no text.

    Example:
        >>> find_json_answer('<answer>{"bbox": [1, 2]}</answer>'), find_json_answer("<answer>{'bbox'}</answer>")
        ({'bbox': [1, 2]}, None)
    """
    return read_json(find_answer(text))


def read_json(text: str | None) -> Any:
    """A JSON value, or None if the text is none: an agent's mistake is no error here."""
    if text is None:
        return None
    try:
        return load_json(text)
    except InvalidData:
        return None


def as_coordinates(value: Any, count: int) -> list[float] | None:
    """A list of that many coordinates as floats; None if it is no such list.

    Args:
        value: any JSON value.
        count: how many there have to be.

    Example:
        >>> as_coordinates([1, 2.5], 2), as_coordinates([1, "2"], 2), as_coordinates([1], 2)
        ([1.0, 2.5], None, None)
    """
    if not isinstance(value, list) or len(value) != count:
        return None
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in value):
        return None
    return [float(number) for number in value] if all(abs(n) <= MAX_COORDINATE for n in value) else None


def as_share(value: float, name: str) -> float:
    """A number in [0, 1], or what is wrong with it.

    Raises:
        InvalidData: if it is none.
    """
    if not isinstance(value, Real) or not math.isfinite(value) or not 0 <= value <= 1:
        raise InvalidData(f"Expected argument `{name}` to be a number in [0, 1], but got {value!r:.80}.")
    return float(value)


def as_shares(values: Iterable[float], name: str) -> list[float]:
    """Numbers in [0, 1], or what is wrong with them.

    Raises:
        InvalidData: if one is none, or they are no sequence.
    """
    if not isinstance(values, Iterable):
        raise InvalidData(f"Expected argument `{name}` to be a sequence of numbers in [0, 1], but got {values!r:.80}.")
    return [as_share(value, name) for value in values]


def as_amount(value: float, name: str) -> float:
    """A finite number of at least 0, or what is wrong with it.

    Raises:
        InvalidData: if it is none.
    """
    if not isinstance(value, Real) or not math.isfinite(value) or value < 0:
        raise InvalidData(f"Expected argument `{name}` to be a number of at least 0, but got {value!r:.80}.")
    return float(value)


def as_count(value: int, name: str) -> int:
    """A number of things, or what is wrong with it.

    Raises:
        InvalidData: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
        raise InvalidData(f"Expected argument `{name}` to be a whole number of at least 0, but got {value!r:.80}.")
    return int(value)


def as_flags(values: ArrayLike, name: str) -> BoolArray:
    """(N,) flags, or what is wrong with them: a text or a NaN would count as true.

    Raises:
        InvalidData: if they are not of one dimension, or one is neither false nor true, 0 nor 1.
    """
    try:
        flags = np.asarray(values)
    except ValueError:
        flags = np.empty((0, 0))
    if flags.ndim != 1 or (flags.size and (flags.dtype.kind not in "biuf" or not ((flags == 0) | (flags == 1)).all())):
        raise InvalidData(f"Expected argument `{name}` to be flags (N,), each false or true, but got {values!r:.80}.")
    return flags.astype(np.bool_)


def bounded(text: str) -> str:
    """A text as it is; an empty one if it is too long to be read.

    Raises:
        InvalidData: if it is no text.
    """
    if not isinstance(text, str):
        raise InvalidData(f"Expected argument `text` to be what a model wrote, but got {text!r:.80}.")
    return text if len(text) <= MAX_TEXT else ""
