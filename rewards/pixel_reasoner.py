"""The reward of Pixel-Reasoner (arXiv 2505.15966): curiosity about a tool that a group rarely uses.

    right + max(0.3 − RaPR, 0) / 2 / RaPR · 0.25 − 0.05 · (calls − 1)

RaPR is the share of the group's trajectories that used the tool.

How it can be gamed: curiosity is paid for the call, whatever comes of it. In a group that rarely uses the tool, a call
on anything before a wrong answer earns more than the wrong answer alone.
"""

from __future__ import annotations

from visenv.errors import InvalidData
from visenv.rewards.answer_text import as_count, as_share

THRESHOLD = 0.3
"""Share of the group from which on nobody needs to be curious."""
CURIOSITY = 0.25
"""What curiosity weighs."""
CALL_COST = 0.05
"""What each call after the first costs."""


def score(*, right: bool, calls: int, rate: float, broken: bool = False) -> dict[str, float]:
    """Score one trajectory of a group.

    Args:
        right: whether its answer is right.
        calls: how often it used the tool.
        rate: the share of its group that used the tool (RaPR), itself included.
        broken: whether a call of the tool failed and was not repaired by a later one.

    Returns:
        ``accuracy`` (0 if ``broken``), ``curiosity`` and ``cost``. Curiosity is paid to those that used the tool, and
        calls cost from the second on: without a call, both terms are 0, which is our reading of a formula that would
        pay 0.05 for calling nothing.

    Raises:
        InvalidData: if the rate is not in [0, 1], or 0 for one that used the tool.

    Source:
        Pixel-Reasoner, arXiv 2505.15966, and its released code.

    Example:
        >>> {name: round(term, 4) for name, term in score(right=True, calls=3, rate=0.125).items()}
        {'accuracy': 1.0, 'curiosity': 0.175, 'cost': -0.1}
    """
    share, times = as_share(rate, "rate"), as_count(calls, "calls")
    if times and not share:
        raise InvalidData("Expected a rate above 0 for a trajectory that used the tool: it is one of its group.")
    curiosity = max(THRESHOLD - share, 0.0) / 2 / share * CURIOSITY if times else 0.0
    return {
        "accuracy": float(right and not broken),
        "curiosity": curiosity,
        "cost": -CALL_COST * max(0, times - 1),
    }


def bounds(group_size: int, max_calls: int) -> tuple[float, float]:
    """The least and the greatest sum of the terms; curiosity grows with the group, cost with the calls.

    Args:
        group_size: trajectories in a group, at least 1.
        max_calls: calls in a trajectory, at most.

    Raises:
        InvalidData: if a number is negative, or the group empty.

    Example:
        >>> [round(bound, 4) for bound in bounds(group_size=8, max_calls=5)]
        [-0.2, 1.175]
    """
    size, calls = as_count(group_size, "group_size"), as_count(max_calls, "max_calls")
    if not size:
        raise InvalidData("Expected a group of at least 1 trajectory.")
    most = score(right=True, calls=1, rate=1 / size)["curiosity"] if calls else 0.0
    return -CALL_COST * max(0, calls - 1), 1.0 + most
