"""What an agent earns that mends pictures by programs: for what its programs did, and for its answer."""

from __future__ import annotations

import math
from typing import ClassVar

from visenv.errors import InvalidData
from visenv.rewards.functional.pictures import picture_errors, reduction
from visenv.rewards.functional.text import exact_match
from visenv.types import ImageTruth, Outcome, Truth, Turn
from visenv.workspace import Workspace


class MATCodingReward:
    """Pays for what programs did to a damaged picture, and for the answer to a question about it.

    Each program pays by how much more, or less, of the damage is put right than before it (``mending``), so that the
    sum is what the last picture is worth and nothing is earned by going to and fro. A picture that needs nothing is
    worth 1 as it is, paid at the end (``kept``), and less after a program has spoiled it. Nothing is paid for a program
    as such, or for naming what is wrong.

    Args:
        picture: what a perfectly mended picture is worth, at least 0.
        answer: what a right answer is worth (exact match after normalisation), at least 0; where there is no question,
            any answer of the agent's own is right.

    Raises:
        InvalidData: if a coefficient is no number of at least 0.

    Attributes:
        bounds: the least and the greatest sum of an episode.

    Source:
        The task is that of Visual-ARFT (arXiv 2505.14246); this reward is ours. How it can be gamed: by looking up the
        clean picture, if programs could; they see nothing but the damaged one.

    Example:
        >>> MATCodingReward().bounds
        (0.0, 2.0)
    """

    name: ClassVar[str] = "matcoding"

    def __init__(self, picture: float = 1.0, answer: float = 1.0) -> None:
        for name, value in (("picture", picture), ("answer", answer)):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value < 0:
                raise InvalidData(f"Expected argument `{name}` to be a number of at least 0, but got {value!r}.")
        self.coefficients = {"picture": float(picture), "answer": float(answer)}
        self.bounds = (0.0, sum(self.coefficients.values()))

    def turn(self, turn: Turn) -> dict[str, float]:
        """Return what one turn pays by itself: nothing."""
        return {}

    def progress(self, turn: Turn, before: Workspace, after: Workspace, truth: Truth) -> dict[str, float]:
        """Return what one turn pays for the picture that it made, in place of the one before it.

        Args:
            turn: the turn.
            before: the workspace before it.
            after: the workspace after it.
            truth: what is right.

        Raises:
            InvalidData: if the truth is not that of a damaged picture.
        """
        known = _known(truth)
        if before.made is after.made:
            return {"picture": 0.0}
        wrong = picture_errors(before.root.pixels, known.clean)
        gained = picture_worth(after, known, wrong) - picture_worth(before, known, wrong)
        return {"picture": self.coefficients["picture"] * gained}

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        """Return what the end of an episode pays: for the answer, and for a picture that needed nothing.

        Raises:
            InvalidData: if the truth is not that of a damaged picture.
        """
        known = _known(truth)
        given = outcome.answer if outcome.termination == "answer" else None
        right = exact_match(given, known.answers) if known.answers else float(given is not None)
        return {
            "kept": 0.0 if known.damage else self.coefficients["picture"],
            "answer": self.coefficients["answer"] * right,
        }

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.coefficients.items())
        return f"MATCodingReward({values})"


def picture_worth(workspace: Workspace, truth: ImageTruth, wrong: tuple[float, float]) -> float:
    """What the picture that a program made last, or else the damaged one, is worth, in [0, 1].

    Where nothing was wrong that is its ``mending``. Otherwise it is 0 for the damaged one and grows with its mending
    to 1, so that a damage that was slight pays nothing for being left. One so slight that it is below the floors of
    ``mending`` cannot be told from none: any picture as near is worth 1, once a program has made it.

    Args:
        workspace: with the picture.
        truth: what it should be.
        wrong: ``picture_errors`` of the damaged one.
    """
    if workspace.made is None:
        return 0.0 if truth.damage else reduction(wrong, wrong)
    mended = reduction(picture_errors(workspace.made.pixels, truth.clean), wrong)
    if not truth.damage:
        return mended
    start = reduction(wrong, wrong)
    if start < 1:
        return max(0.0, (mended - start) / (1 - start))
    return mended


def _known(truth: Truth) -> ImageTruth:
    if not isinstance(truth, ImageTruth):
        raise InvalidData(f"Expected the truth of a damaged picture (ImageTruth), but got {type(truth).__name__}.")
    return truth
