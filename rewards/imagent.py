"""What a tool gained, and what is learned from, in the style of IMAgent (arXiv 2512.08980).

IMAgent pays extra where using a tool helped, and learns from a trajectory through a mask of two layers: which tokens
carry loss, and which trajectories count. Its formulas are not published; these are ours.

How it can be gamed: the gain is measured against those of the group that did not use the tool. A group that fails on
purpose without it widens the gap, and where few go without, the group earns more by that than the wrong answers cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from visenv.errors import InvalidData
from visenv.rewards.answer import answered_rightly
from visenv.rewards.answer_text import as_amount, as_flags, as_share
from visenv.rewards.credit import token_mask, two_layer_mask
from visenv.types import FloatArray, Outcome, Truth, Turn

LOOKING_AGAIN = ("Reflect", "Verify", "RecallImage")
"""Names of the tools that show nothing which was not seen before."""
COEFFICIENT = 0.5
"""What a tool is worth that makes all the difference, unless it is said otherwise."""


def tool_gain(right: ArrayLike, used: ArrayLike, *, coefficient: float = COEFFICIENT) -> FloatArray:
    """What each trajectory of a group earns for having used a tool that helped.

    It is paid once an episode, however often the tool was called, and only to those that used it and are right.

    Args:
        right: (N,) bool; whether each trajectory about the same sample answered rightly.
        used: (N,) bool; whether it used the tool at all.
        coefficient: what a tool is worth that makes all the difference, in [0, 1].

    Returns:
        (N,) float64 in [0, coefficient]: coefficient · max(0, rate with the tool − rate without it), the rates being
        shares of right answers in the group. 0 for all if everybody used it, or nobody: there is nothing to compare.

    Raises:
        InvalidData: if there are not as many of both, one is no flag, or the coefficient is out of range.

    Source:
        IMAgent, arXiv 2512.08980, in style.

    Example:
        >>> tool_gain([True, True, True, False], [True, True, False, False]).tolist()
        [0.25, 0.25, 0.0, 0.0]
    """
    good, called = as_flags(right, "right"), as_flags(used, "used")
    if good.shape != called.shape:
        raise InvalidData(f"Expected as many `right` as `used` (N,), but got {good.shape} and {called.shape}.")
    worth = as_share(coefficient, "coefficient")
    if not called.any() or called.all():
        return np.zeros(len(good))
    gain = max(0.0, float(good[called].mean() - good[~called].mean()))
    return np.where(good & called, worth * gain, 0.0)


def loss_weights(conversations: Sequence[Sequence[tuple[str, int]]], counted: ArrayLike) -> list[FloatArray]:
    """The mask of two layers over a batch: tokens that the agent wrote, of trajectories that count.

    What the tools show, the pictures that come back and the claims that are checked carry no loss; trajectories that
    ended as invalid count nothing.

    Args:
        conversations: one list of (role, number of tokens) a trajectory, in order; see ``credit.token_mask``.
        counted: (N,) bool or weights; which trajectories count, and how much.

    Returns:
        One (L,) float64 a trajectory; those of the batch sum to 1, or are all 0 if none counts. See
        ``credit.two_layer_mask``.

    Raises:
        InvalidData: if there are not as many of both, or a number or weight is negative.

    Source:
        IMAgent, arXiv 2512.08980, in style.

    Example:
        >>> turns = [("user", 1), ("assistant", 2), ("tool", 1), ("assistant", 2)]
        >>> [each.tolist() for each in loss_weights([turns, [("assistant", 1)]], [True, False])]
        [[0.0, 0.25, 0.25, 0.0, 0.25, 0.25], [0.0]]
    """
    return [np.asarray(each) for each in two_layer_mask([token_mask(turns) for turns in conversations], counted)]


class IMAgentReward:
    """Pays for the right answer, and once an episode for a tool that was used on the way to it.

    What the tool gains is a matter of the group: how much oftener the question is answered rightly with it than
    without. An environment plays one episode and knows no group, so that the rate without the tool is given; a trainer
    that has the group pays ``tool_gain`` in its place.

    How it can be gamed: with a rate that is too low, by a call of the tool that nothing depends on.

    Args:
        right: what a right answer pays.
        gain: what a tool is worth that makes all the difference.
        rate_without_tool: how often the question is answered rightly without it, in [0, 1]; at 1 nothing is paid.
        tools: names of the tools that count.

    Attributes:
        bounds: the least and the greatest sum of an episode.

    Raises:
        InvalidData: if a number is out of range.

    Source:
        IMAgent, arXiv 2512.08980, in style.

    Example:
        >>> from visenv.types import AnswerTruth, Outcome
        >>> reward = IMAgentReward(rate_without_tool=0.4)
        >>> reward.final(Outcome(None, "(B)", "answer", 3, tools=("Reflect",)), AnswerTruth(("B", "img_1")))
        {'right': 1.0, 'gain': 0.3}
        >>> reward.final(Outcome(None, "(A)", "answer", 3, tools=("Reflect",)), AnswerTruth(("B", "img_1")))
        {'right': 0.0, 'gain': 0.0}
    """

    name: ClassVar[str] = "imagent"

    def __init__(
        self,
        right: float = 1.0,
        gain: float = COEFFICIENT,
        rate_without_tool: float = 1.0,
        tools: Sequence[str] = LOOKING_AGAIN,
    ) -> None:
        if isinstance(tools, str) or not all(isinstance(tool, str) for tool in tools):
            raise InvalidData(f"Expected argument `tools` to be a list of tools' names, but got {tools!r:.80}.")
        self.right, self.tools = as_amount(right, "right"), frozenset(tools)
        self.worth = as_share(gain, "gain") * (1 - as_share(rate_without_tool, "rate_without_tool"))
        self.bounds = (0.0, self.right + self.worth)

    def turn(self, turn: Turn) -> dict[str, float]:
        """Return what one turn pays: nothing."""
        return {}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        """Return the terms that the end of an episode pays.

        Raises:
            InvalidData: if the truth is no answer.
        """
        good = answered_rightly(outcome, truth)
        used = not self.tools.isdisjoint(outcome.tools)
        return {"right": self.right * good, "gain": self.worth * good * used}
