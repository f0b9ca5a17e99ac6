"""The reward of MedSAM-Agent (arXiv 2602.03320), a published relative of RSAgent.

    0.2 · format + 0.8 · clip(base − penalty + bonus)

How it can be gamed: the bonus pays for every rise of IoU and the penalty looks at the last mask alone, so that going
down and up again on purpose pays more than staying. A potential difference (``visenv.rewards.rsagent``) does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import ClassVar

from visenv.masks import Masks
from visenv.rewards.answer_text import as_shares
from visenv.rewards.functional.regions import mask_iou
from visenv.types import MaskTruth, Outcome, Truth, Turn
from visenv.workspace import Workspace

BOUNDS = (0.0, 1.0)
"""The least and the greatest sum of the terms."""
MAX_TURNS = 5
"""Of an episode; its environment holds to it, not the formula."""
FORMAT_WEIGHT, QUALITY_WEIGHT = 0.2, 0.8
MASK_COST = 0.01
"""What each mask costs."""
BONUS = 0.1
"""What a rise of IoU by 1 is worth."""


def score(ious: Sequence[float], *, stopped: bool) -> dict[str, float]:
    """Score an episode of interactive segmentation.

    Args:
        ious: (K,) IoU of each mask that an interaction made, in order. Where both masks are empty it is 1, which is
            what ``visenv.rewards.functional.mask_iou`` says.
        stopped: whether the episode ended with a stop of the agent's own.

    Returns:
        ``format``: 0.2 with at least one interaction and a stop, 0.1 with one of the two. ``quality``: 0.8 · clip(base
        − penalty + bonus), where base is the mean of IoU and Dice of the last mask, 0 without one; the penalty is the
        best IoU so far less the last, and 0.01 for each mask; the bonus is 0.1 · Σ max(0, ΔIoU) from mask to mask.
        The bounds of the clip, 0 and 1, and that the first mask is no rise, are ours: the description leaves them open.

    Raises:
        InvalidData: if an IoU is not in [0, 1].

    Source:
        MedSAM-Agent, arXiv 2602.03320.

    Example:
        >>> {name: round(term, 4) for name, term in score([0.5, 0.6], stopped=True).items()}
        {'format': 0.2, 'quality': 0.532}
    """
    values = as_shares(ious, "ious")
    form = (bool(values) + bool(stopped)) / 2
    quality = 0.0
    if values:
        last = values[-1]
        base = (last + 2 * last / (1 + last)) / 2
        penalty = max(values) - last + MASK_COST * len(values)
        bonus = BONUS * sum(max(0.0, after - before) for before, after in pairwise(values))
        quality = min(1.0, max(0.0, base - penalty + bonus))
    return {"format": FORMAT_WEIGHT * form, "quality": QUALITY_WEIGHT * quality}


class MedSAMAgentReward:
    """The same for environments whose tools make candidates, paid as they are made.

    Each turn that makes a candidate pays by how much it changes the quality of the episode so far, so that the sum of
    an episode is what ``score`` says of it: ``quality``, with ``interaction`` and ``stop``, 0.1 each, for its form. As
    in the formula, it is the last mask that counts, submitted or not.

    Attributes:
        bounds: the least and the greatest sum of an episode.

    Source:
        MedSAM-Agent, arXiv 2602.03320.

    Example:
        >>> MedSAMAgentReward().final(Outcome(None, "done", "answer", 3), MaskTruth(None))
        {'stop': 0.1}
    """

    name: ClassVar[str] = "medsam_agent"
    bounds = BOUNDS

    def turn(self, turn: Turn) -> dict[str, float]:
        """Return what one turn pays by itself: nothing."""
        return {}

    def progress(self, turn: Turn, before: Workspace, after: Workspace, truth: Truth) -> dict[str, float]:
        """Return what one turn pays for the candidates that it made.

        Args:
            turn: the turn.
            before: the workspace before it.
            after: the workspace after it.
            truth: what is right; nothing is paid where it is no mask.
        """
        if before.candidates is after.candidates or not isinstance(truth, MaskTruth):
            return {"interaction": 0.0, "quality": 0.0}
        old, new = (candidate_ious(workspace, truth) for workspace in (before, after))
        return {
            "interaction": FORMAT_WEIGHT / 2 * (bool(new) - bool(old)),
            "quality": score(new, stopped=False)["quality"] - score(old, stopped=False)["quality"],
        }

    def final(self, outcome: Outcome, truth: Truth) -> dict[str, float]:
        """Return what the end of an episode pays: for a stop of the agent's own."""
        return {"stop": FORMAT_WEIGHT / 2 if outcome.termination == "answer" else 0.0}

    def __repr__(self) -> str:
        return "MedSAMAgentReward()"


def candidate_ious(workspace: Workspace, truth: MaskTruth) -> list[float]:
    """IoU of each candidate with the target, in the order they were made; 0 for one of another image than the first."""
    ious = []
    for candidate in workspace.candidates.values():
        masks = candidate.detections.masks
        if candidate.image != workspace.root.name or masks is None:
            ious.append(0.0)
            continue
        target = Masks.empty(masks.shape) if truth.target is None else truth.target
        ious.append(mask_iou(masks, target, truth.ignore))
    return ious
