"""How well a trajectory keeps to the form that is asked of it."""

from __future__ import annotations

from collections.abc import Iterable

from visenv.protocol import parse_turn
from visenv.types import Action, Malformed, Turn


def format_score(turns: str | Iterable[Turn | Action | str], dialect: str = "qwen3_vl") -> float:
    """The share of turns that are a tool call or an answer, in the form that the dialect asks for.

    A turn that was cut by its length limit is malformed; a well-formed call with wrong arguments is not.

    Args:
        turns: the turns of a trajectory: their records, which is best, just what was done in them, or the raw texts of
            a model; a single text is one turn.
        dialect: how raw texts are to be read.

    Returns:
        A number in [0, 1]; 0 for no turns.

    Raises:
        UnknownName: if there is a text and no such dialect.

    Example:
        >>> format_score("<think>Nothing here.</think><answer>none</answer>")
        1.0
        >>> from visenv.types import Answer, ToolCall
        >>> format_score([ToolCall("MergeBoxMask"), Malformed("bad_json", "…"), ToolCall("MergeBoxMask"), Answer()])
        0.75
    """
    good = [_is_well_formed(turn, dialect) for turn in ([turns] if isinstance(turns, str) else turns)]
    return sum(good) / len(good) if good else 0.0


def _is_well_formed(turn: Turn | Action | str, dialect: str) -> bool:
    if isinstance(turn, Turn):
        return not turn.cut and not isinstance(turn.action, Malformed)
    action = parse_turn(turn, dialect) if isinstance(turn, str) else turn
    return not isinstance(action, Malformed)
