"""How well a trajectory keeps to the form that is asked of it."""

from __future__ import annotations

from collections.abc import Iterable

from visenv.types import Action, Malformed, Turn


def format_score(turns: Iterable[Turn | Action]) -> float:
    """The share of turns that are a tool call or an answer, in the form that the dialect asks for.

    Scored on the records of turns, never on a transcript that is parsed again. A turn that was cut by its length limit
    is malformed; a well-formed call with wrong arguments is not.

    Args:
        turns: the turns of a trajectory, or just what was done in them.

    Returns:
        A number in [0, 1]; 0 for no turns.

    Example:
        >>> from visenv.types import Answer, ToolCall
        >>> format_score([ToolCall("MergeBoxMask"), Malformed("bad_json", "…"), ToolCall("MergeBoxMask"), Answer()])
        0.75
    """
    good = [_is_well_formed(turn) for turn in turns]
    return sum(good) / len(good) if good else 0.0


def _is_well_formed(turn: Turn | Action) -> bool:
    if isinstance(turn, Turn):
        return not turn.cut and not isinstance(turn.action, Malformed)
    return not isinstance(turn, Malformed)
