"""How far a count is off, and what VisHarness pays for it."""

from __future__ import annotations

from visenv.errors import InvalidData

REWARD_HIGH = 5.0
"""The most that VisHarness pays for a task."""
REWARD_LOW = -3.0
"""The least that VisHarness pays for a task."""


def count_error(predicted: float, true: float, *, relative: bool = False) -> float:
    """By how much a count is off.

    Args:
        predicted: how many were found.
        true: how many there are.
        relative: divide by ``true``, by 1 where it is 0.

    Returns:
        A number of objects, or its ratio to the true number; 0 where both are 0.

    Raises:
        InvalidData: if a count is negative.

    Example:
        >>> count_error(3, 4), count_error(3, 4, relative=True), count_error(2, 0, relative=True)
        (1.0, 0.25, 2.0)
    """
    for name, value in (("predicted", predicted), ("true", true)):
        if not value >= 0:
            raise InvalidData(f"Expected argument `{name}` to be a count, 0 or more, but got {value!r}.")
    error = float(abs(predicted - true))
    return error / max(float(true), 1.0) if relative else error


def count_reward(predicted: float, true: float) -> float:
    """The task reward of VisHarness for a count, which depends on the relative error.

    max(-3, 5 - 8 * |true - predicted| / true); where there is nothing to count, max(-3, 5 - 2 * predicted).

    Args:
        predicted: how many were found.
        true: how many there are.

    Returns:
        A reward in [-3, 5]; 5 for the right count, 0 included.

    Raises:
        InvalidData: if a count is negative.

    Source:
        VisHarness, arXiv 2605.29894, reward of counting tasks, as in its released code.

    Example:
        >>> count_reward(3, 4), count_reward(9, 4), count_reward(1, 0)
        (3.0, -3.0, 3.0)
    """
    error = count_error(predicted, true)
    cost = 8.0 * (error / true) if true else 2.0 * error
    return max(REWARD_LOW, REWARD_HIGH - cost)
