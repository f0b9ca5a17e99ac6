"""The reward of interactive segmentation in the style of RSAgent (arXiv 2512.24023): final + process + format.

RSAgent pays for the mask in the end, for the improvement between turns and for the form of what is written; its
coefficients are not published, so those here are ours. The process term is a potential difference on IoU: over an
episode it adds up to the last IoU less the first, so that spoiling a mask and mending it again earns nothing.

How it can be gamed: the process term pays for the candidate, the final term for what is submitted. An agent that makes
a good candidate and never submits it keeps the whole process term.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from visenv.rewards.answer_text import as_amount, as_count, as_share, as_shares
from visenv.rewards.credit import potential_differences
from visenv.rewards.functional import mask_iou
from visenv.rewards.visharness.reward import VisHarnessReward
from visenv.types import Malformed, MaskTruth, Outcome, Truth, Turn
from visenv.workspace import Workspace

FINAL, PROCESS, FORMAT = 1.0, 0.5, 0.1
"""What the final IoU, the improvement from none to perfect, and a malformed turn weigh, unless it is said otherwise."""


def process_reward(ious: Sequence[float], *, start: float = 0.0) -> list[float]:
    """What each turn is paid for the improvement it makes: the IoU after it less the IoU before it.

    Args:
        ious: (T,) IoU of the candidate after each turn, in [0, 1].
        start: the IoU before the first turn; 0, as there is no candidate yet.

    Returns:
        T terms in [-1, 1]; their sum is the last IoU less ``start``, 0 without turns.

    Raises:
        InvalidData: if a number is not in [0, 1].

    Source:
        RSAgent, arXiv 2512.24023, rewards improvement between turns; the potential difference is ours, after Ng, Harada
        and Russell (ICML 1999).

    Example:
        >>> process_reward([0.5, 0.25, 0.75])
        [0.5, -0.25, 0.5]
    """
    return [float(term) for term in potential_differences([as_share(start, "start"), *as_shares(ious, "ious")])]


def candidate_iou(workspace: Workspace, truth: MaskTruth) -> float:
    """IoU of the newest candidate with the target; 0 where there is none, or where it lies in another image."""
    newest = next(reversed(workspace.candidates.values()), None)
    if newest is None or newest.image != "img_0":
        return 0.0
    return mask_iou(newest.detections.masks, truth.target, ignore=truth.ignore)


class RSAgentReward:
    """Final + process + format, for environments and for recorded episodes.

    The final term is the metric in [0, 1] that VisHarness's task reward is made of: the IoU of the final result, or 1
    for rightly *answering* that nothing is there. A malformed turn costs the format coefficient; a well-formed one
    earns nothing, so that there is nothing to collect by going on. The process term is paid turn by turn with
    ``progress`` (environments do so, for the newest candidate), or at the end where ``final`` is given the IoUs; the
    two come to the same sum, and one of them is to be used.

    Args:
        final: what a perfect final result is worth.
        process: what going from no overlap to a perfect candidate is worth.
        format: what a malformed turn costs.
        max_turns: how many turns an episode may have, for ``bounds`` alone.

    Attributes:
        bounds: the least and the greatest sum of an episode; there is no least one if malformed turns cost something
            and ``max_turns`` is not known.

    Raises:
        InvalidData: if a coefficient is negative or not finite.

    Source:
        RSAgent, arXiv 2512.24023; coefficients ours.

    Example:
        >>> from visenv.masks import Masks
        >>> from visenv.types import Detections, MaskTruth
        >>> half = Detections([[0, 0, 4, 2]], Masks.from_boxes([[0, 0, 4, 2]], (8, 8)))
        >>> truth = MaskTruth(Masks.from_boxes([[0, 0, 4, 4]], (8, 8)))
        >>> reward = RSAgentReward(max_turns=5)
        >>> reward.improvement(0.25, 0.5)
        {'process': 0.125}
        >>> reward.final(Outcome(half, "done", "answer", 3), truth, ious=[0.25, 0.75, 0.5])
        {'final': 0.5, 'process': 0.25}
        >>> reward.bounds
        (-0.5, 1.5)
    """

    name: ClassVar[str] = "rsagent"

    def __init__(
        self, final: float = FINAL, process: float = PROCESS, format: float = FORMAT, *, max_turns: int | None = None
    ) -> None:
        given = {"final": final, "process": process, "format": format}
        self.coefficients = {name: as_amount(value, name) for name, value in given.items()}
        turns = math.inf if max_turns is None else as_count(max_turns, "max_turns")
        self.bounds = (-self.coefficients["format"] * turns if format else 0.0, float(final + process))

    def turn(self, turn: Turn) -> dict[str, float]:
        """Return what one turn pays for its form: 0 if it is well formed."""
        malformed = turn.cut or isinstance(turn.action, Malformed)
        return {"format": -self.coefficients["format"] if malformed else 0.0}

    def progress(self, turn: Turn, before: Workspace, after: Workspace, truth: Truth) -> dict[str, float]:
        """Return what one turn pays for the newest candidate in place of the one before it.

        Args:
            turn: the turn.
            before: the workspace before it.
            after: the workspace after it.
            truth: what is right; where nothing is to be found, or it is no mask, there is nothing to improve.
        """
        if before.candidates is after.candidates or not isinstance(truth, MaskTruth) or truth.is_null:
            return {"process": 0.0}
        return self.improvement(candidate_iou(before, truth), candidate_iou(after, truth))

    def improvement(self, before: float, after: float) -> dict[str, float]:
        """Return what the change from one IoU to another pays."""
        return {"process": self.coefficients["process"] * process_reward([after], start=before)[0]}

    def final(self, outcome: Outcome, truth: Truth, *, ious: Sequence[float] | None = None) -> dict[str, float]:
        """Return the terms that the end of an episode pays.

        Args:
            outcome: what the episode ended with.
            truth: what is right.
            ious: (T,) IoU of the candidate after each turn; None where ``progress`` has paid for them. Where nothing is
                to be found there is nothing to improve, and the term is 0.

        Raises:
            InvalidData: if the truth is of an unknown kind, or an IoU not in [0, 1].
        """
        valid = outcome.termination != "invalid"
        quality = VisHarnessReward().score(outcome, truth).metric if valid else 0.0
        terms = {"final": self.coefficients["final"] * quality}
        if ious is not None:
            improved = sum(process_reward(ious)) if valid and not truth.is_null else 0.0
            terms["process"] = self.coefficients["process"] * improved
        return terms

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.coefficients.items())
        return f"RSAgentReward({values})"
