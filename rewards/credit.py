"""Which turns, tokens and trajectories a trainer learns from, and how much: pure functions over what was recorded.

The costs of turns and the rules for groups are VisHarness's (arXiv 2605.29894, released code); potential differences
are of Ng, Harada and Russell (ICML 1999); the mask of two layers is in the spirit of IMAgent (arXiv 2512.08980), whose
own formulas are not published.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visenv.errors import InvalidData
from visenv.rewards.answer_text import as_count, as_flags
from visenv.types import BoolArray, FloatArray, Malformed, Turn

CUT_COST, FORMAT_COST, ARGUMENTS_COST = 0.5, 0.2, 0.2
"""What a turn costs that was cut by the length limit, is of bad format, or has bad arguments."""
MIN_STD, MIN_VALID = 0.3, 4
"""Of a group's rewards, and of its trajectories, for it to be learned from (configuration of the release)."""


def turn_cost(turn: Turn) -> float:
    """What a faulty turn costs: the first that applies of cut, bad format, bad arguments; 0 for a good one.

    Source:
        VisHarness, arXiv 2605.29894: 0.5, 0.2 and 0.2.

    Example:
        >>> from visenv.types import Answer, ToolCall
        >>> cut = Turn(1, Malformed("cut", "…"), "", error=Malformed("cut", "…"), cut=True)
        >>> wrong = Turn(2, ToolCall("MergeBoxMask"), "", error=Malformed("no_boxes", "…"))
        >>> turn_cost(cut), turn_cost(wrong), turn_cost(Turn(3, Answer("done"), ""))
        (0.5, 0.2, 0.0)
    """
    if turn.cut:
        return CUT_COST
    if isinstance(turn.action, Malformed):
        return FORMAT_COST
    return ARGUMENTS_COST if turn.error is not None else 0.0


def turn_advantages(advantage: float, turns: Sequence[Turn]) -> FloatArray:
    """The advantage of each turn: its trajectory's, and for a faulty turn at most what the fault costs.

    Args:
        advantage: of the trajectory.
        turns: of it.

    Returns:
        (T,) float64: ``min(advantage, -cost)`` for faulty turns.

    Source:
        VisHarness, arXiv 2605.29894.

    Example:
        >>> from visenv.types import Answer, ToolCall
        >>> wrong = Turn(1, ToolCall("MergeBoxMask"), "", error=Malformed("no_boxes", "…"))
        >>> turn_advantages(1.5, [wrong, Turn(2, Answer("done"), "")]).tolist()
        [-0.2, 1.5]
    """
    costs = np.array([turn_cost(turn) for turn in turns])
    return np.where(costs > 0, np.minimum(advantage, -costs), float(advantage))


def potential_differences(potentials: ArrayLike, gamma: float = 1.0) -> FloatArray:
    """What each turn is paid for the state it leads to: γ·Φ(t+1) − Φ(t).

    With γ = 1 the sum is Φ at the end less Φ at the beginning, whatever lies between: going to and fro earns nothing.

    Args:
        potentials: (T + 1,) Φ before the first turn and after each; the IoU of the result so far, for one.
        gamma: the discount, in [0, 1].

    Returns:
        (T,) float64.

    Raises:
        InvalidData: if there is no potential, one is not finite, or gamma is out of range.

    Source:
        Ng, Harada and Russell, Policy invariance under reward transformations, ICML 1999.

    Example:
        >>> potential_differences([0.0, 0.5, 0.25, 0.75]).tolist()
        [0.5, -0.25, 0.5]
    """
    values = np.asarray(potentials, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise InvalidData(f"Expected finite potentials (T + 1,), but got {potentials!r:.80}.")
    if not 0 <= gamma <= 1:
        raise InvalidData(f"Expected gamma in [0, 1], but got {gamma!r}.")
    return gamma * values[1:] - values[:-1]


@dataclass(frozen=True)
class Group:
    """What a group of trajectories about one sample is worth to a trainer."""

    kept: bool
    """Whether it is learned from."""
    why: str
    """Why not: ``few_valid`` or ``small_std``; empty if it is."""
    advantages: FloatArray
    """(N,) float64: of each trajectory; 0 for invalid ones, and for all of a group that is not kept."""


def group_advantages(
    rewards: ArrayLike, valid: ArrayLike | None = None, *, min_std: float = MIN_STD, min_valid: int = MIN_VALID
) -> Group:
    """The advantages of a GRPO group, over its valid trajectories alone, if it is worth learning from.

    Args:
        rewards: (N,) one a trajectory.
        valid: (N,) bool; false for trajectories whose experts failed or whose prompt overflowed. All if left out.
        min_std: the least standard deviation of the rewards (population), below which a group teaches nothing.
        min_valid: the fewest valid trajectories.

    Returns:
        Whether it is kept, and (reward − mean) / standard deviation for each valid trajectory.

    Raises:
        InvalidData: if there are not as many flags as rewards.

    Source:
        GRPO, arXiv 2402.03300; the filters are VisHarness's, arXiv 2605.29894.

    Example:
        >>> group_advantages([5, 5, -3, -3, 100], [True, True, True, True, False]).advantages.tolist()
        [1.0, 1.0, -1.0, -1.0, 0.0]
        >>> group_advantages([1, 1, 1, 1]).why
        'small_std'
    """
    values = np.asarray(rewards, dtype=np.float64)
    flags = np.ones(len(values), np.bool_) if valid is None else np.asarray(valid, dtype=np.bool_)
    if values.ndim != 1 or flags.shape != values.shape:
        raise InvalidData(f"Expected as many flags as rewards (N,), but got {flags.shape} and {values.shape}.")
    nothing = np.zeros(len(values))
    counted = values[flags]
    if len(counted) < max(1, min_valid):
        return Group(False, "few_valid", nothing)
    spread = float(counted.std())
    if spread < min_std or spread == 0:
        return Group(False, "small_std", nothing)
    return Group(True, "", np.where(flags, (values - counted.mean()) / spread, 0.0))


def token_mask(segments: Sequence[tuple[str, int]]) -> BoolArray:
    """Which tokens of a conversation carry loss: those that the agent wrote, and nothing that it was told or shown.

    Args:
        segments: (role, number of tokens), in order; tokens of the role ``assistant`` are the agent's.

    Returns:
        (sum of the numbers,) bool.

    Raises:
        InvalidData: if a number is negative or none, or a segment is no such pair.

    Example:
        >>> token_mask([("user", 2), ("assistant", 3), ("tool", 1)]).tolist()
        [False, False, True, True, True, False]
    """
    if not all(isinstance(segment, Sequence) and len(segment) == 2 for segment in segments):
        raise InvalidData(f"Expected segments (role, number of tokens), but got {segments!r:.80}.")
    counts = [as_count(count, "number of tokens") for _, count in segments]
    return np.repeat(np.array([role == "assistant" for role, _ in segments], np.bool_), counts)


def two_layer_mask(tokens: Sequence[ArrayLike], trajectories: ArrayLike) -> list[NDArray[np.float64]]:
    """Weights of tokens in a batch: which tokens of a trajectory count, and which trajectories.

    Args:
        tokens: one (L,) bool a trajectory: its tokens that carry loss.
        trajectories: (N,) bool or weights: which trajectories count, and how much.

    Returns:
        One (L,) float64 a trajectory; those of a whole batch sum to 1, each trajectory that counts has a share by its
        weight, spread over its tokens evenly: a long trajectory does not outweigh a short one. All 0 if none counts.

    Raises:
        InvalidData: if there are not as many of both, a token is neither, or a weight is negative or not finite.

    Example:
        >>> [each.tolist() for each in two_layer_mask([[True, True, False], [True], [True]], [1, 1, 0])]
        [[0.25, 0.25, 0.0], [0.5], [0.0]]
    """
    masks = [as_flags(each, "tokens") for each in tokens]
    try:
        weights = np.asarray(trajectories, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidData(f"Expected {len(masks)} weights, one a trajectory, but got {trajectories!r:.80}.") from error
    if weights.shape != (len(masks),) or not np.isfinite(weights).all() or (weights < 0).any():
        raise InvalidData(f"Expected {len(masks)} weights of at least 0, one a trajectory, but got {weights!r:.80}.")
    # A trajectory without a token of its own cannot take its share.
    counted = weights * [each.any() for each in masks] if masks else weights
    total = counted.sum()
    shares = counted / total if total > 0 else np.zeros(len(masks))
    return [each * (share / max(1, each.sum())) for each, share in zip(masks, shares, strict=True)]
