"""The rewards of Visual-ARFT (arXiv 2505.14246), for agents that search and agents that mend pictures by code.

How they can be gamed: the released reward of code is a constant, paid without running anything, so that an empty block
earns as much as one that works (``released_code_reward``; the environments here score what the code did to the picture
instead). Half of a list of two problems is paid for naming its rotation alone. Token F1 pays for hedging: naming all of
three colours earns 0.5 for certain, guessing one of them a third.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from visenv.errors import InvalidData
from visenv.rewards.functional.text import token_f1
from visenv.types import ImageTruth, Outcome, ToolCall, Truth, Turn
from visenv.workspace import Workspace

PROBLEMS = ("rotation90", "rotation180", "dark", "overexposure", "blur", "noise", "crop", "none")
"""What may be wrong with a picture, as the agent names it."""
ROTATIONS = ("rotation90", "rotation180")
CODE_REWARD = 0.9
"""What any code is worth in the release."""
SEARCH_BOUNDS = (0.0, 2.0)
CODING_BOUNDS = (0.0, 3.9)
"""The least and the greatest sum of the terms."""


def search_score(answer: str | None, answers: str | Sequence[str], *, well_formed: bool) -> dict[str, float]:
    """Score an episode of searching.

    Args:
        answer: the answer given; None if none was.
        answers: the accepted answer or answers.
        well_formed: whether every turn was a thought and one search or answer.

    Returns:
        ``answer``: token F1, the best over the accepted answers; ``format``: 1 or 0. How much the two weigh against
        each other is not said; they are added here.

    Raises:
        InvalidData: if no answer is accepted at all.

    Source:
        Visual-ARFT, arXiv 2505.14246.

    Example:
        >>> search_score("the tall tower", "tower", well_formed=True)
        {'answer': 0.6666666666666666, 'format': 1.0}
    """
    return {"answer": token_f1(answer, answers), "format": float(well_formed)}


def coding_score(
    problems: Sequence[str] | None,
    true_problems: Sequence[str],
    code: str | None,
    answer: str | None,
    answers: str | Sequence[str],
    *,
    well_formed: bool,
) -> dict[str, float]:
    """Score an episode of mending a picture by code, as published: for comparison, not for training.

    The release scores each turn as a sample of its own; this is the sum over the three kinds of turn.

    Args:
        problems: what the agent says is wrong with the picture; None if it never said.
        true_problems: what is.
        code: the code that it wrote; None if it wrote none.
        answer: the answer given; None if none was.
        answers: the accepted answer or answers.
        well_formed: whether every turn had the form that is asked for.

    Returns:
        ``problems``, ``code`` (see ``released_code_reward`` for its flaw), ``answer`` (token F1) and ``format``.

    Raises:
        InvalidData: if a true problem is unknown, or no answer is accepted at all.

    Source:
        Visual-ARFT, arXiv 2505.14246, and its released code.

    Example:
        >>> coding_score(["dark"], ["dark"], "", "blue", "blue", well_formed=True)
        {'problems': 1.0, 'code': 0.9, 'answer': 1.0, 'format': 1.0}
    """
    return {
        "problems": problem_accuracy(problems, true_problems),
        "code": released_code_reward(code),
        "answer": token_f1(answer, answers),
        "format": float(well_formed),
    }


def problem_accuracy(problems: Sequence[str] | None, true_problems: Sequence[str]) -> float:
    """Whether the agent says what is wrong with a picture.

    Args:
        problems: what it names, in any order; None if it named nothing.
        true_problems: what is wrong, of ``PROBLEMS``.

    Returns:
        1 if the sorted lists agree; 0.5 if there are two problems, one of them a rotation, and only that rotation is
        named; 0 otherwise.

    Raises:
        InvalidData: if a true problem is unknown.

    Source:
        Visual-ARFT, arXiv 2505.14246.

    Example:
        >>> problem_accuracy(["rotation90"], ["rotation90", "dark"]), problem_accuracy(["dark"], ["rotation90", "dark"])
        (0.5, 0.0)
    """
    unknown = sorted(set(true_problems) - set(PROBLEMS))
    if isinstance(true_problems, str) or unknown:
        raise InvalidData(f"Expected true problems of {', '.join(PROBLEMS)}, but got {true_problems!r:.80}.")
    if problems is None:
        return 0.0
    named, true = sorted(problems), sorted(true_problems)
    if named == true:
        return 1.0
    rotations = [problem for problem in true if problem in ROTATIONS]
    return 0.5 if len(true) == 2 and len(rotations) == 1 and named == rotations else 0.0


def released_code_reward(code: str | None) -> float:
    """What the released reward pays for code: 0.9 for any, which is its flaw.

    The code is not run, so that nothing depends on what it does to the picture, or whether it is code at all. It stands
    here to be compared with, not to be trained on.

    Args:
        code: what the agent wrote; None if it wrote none.

    Source:
        Visual-ARFT's released code.

    Example:
        >>> released_code_reward("output = mend(picture)"), released_code_reward("raise SystemExit")
        (0.9, 0.9)
    """
    return 0.0 if code is None else CODE_REWARD


class ArftCodingReward:
    """The published reward of mending pictures by code, for environments: to be compared with, not to be trained on.

    The terms of ``coding_score``: the diagnosis is paid in the turn that makes it (an environment allows one), the rest
    at the end. ``code`` pays 0.9 for any program, whatever it did.

    Attributes:
        bounds: the least and the greatest sum of an episode.

    Source:
        Visual-ARFT, arXiv 2505.14246, and its released code.

    Example:
        >>> ArftCodingReward().bounds
        (0.0, 3.9)
    """

    name: ClassVar[str] = "arft_coding"
    bounds = CODING_BOUNDS

    def turn(self, turn: Turn) -> dict[str, float]:
        """Return what one turn pays by itself: nothing."""
        return {}

    def progress(self, turn: Turn, before: Workspace, after: Workspace, truth: Truth) -> dict[str, float]:
        """Return what one turn pays for saying what is wrong with the picture.

        Raises:
            InvalidData: if the truth is not that of a damaged picture.
        """
        call = turn.action
        if not isinstance(call, ToolCall) or call.name != "NameProblems" or turn.error is not None:
            return {"problems": 0.0}
        named = call.arguments["problems"]
        return {"problems": problem_accuracy([named] if isinstance(named, str) else named, _damage(truth))}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        """Return what the end of an episode pays.

        Raises:
            InvalidData: if the truth is not that of a damaged picture.
        """
        _damage(truth)
        answers = truth.answers if isinstance(truth, ImageTruth) else ()
        answered = outcome.termination == "answer"
        code = "" if "RunCode" in outcome.tools else None
        return {
            "code": released_code_reward(code),
            "answer": token_f1(outcome.answer, answers) if answers else float(answered),
            "format": float(len(outcome.tools) + answered == outcome.turns),
        }

    def __repr__(self) -> str:
        return "ArftCodingReward()"


def _damage(truth: Truth) -> tuple[str, ...]:
    if not isinstance(truth, ImageTruth):
        raise InvalidData(f"Expected the truth of a damaged picture (ImageTruth), but got {type(truth).__name__}.")
    return truth.damage or ("none",)
