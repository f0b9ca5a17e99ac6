"""Whether an agent sees that there is something, or nothing, to find."""

from __future__ import annotations

from collections.abc import Sequence

from visenv.rewards.metrics.base import Metric, mean
from visenv.rewards.metrics.regions import Region, measure_region
from visenv.types import MaskTruth, Outcome


class NullAccuracy(Metric[Region]):
    """N-acc and T-acc: the shares of no-target and of targeted samples that are recognised as such.

    A no-target sample is recognised by an explicit answer without a result, a targeted one by any result: whether the
    right one is for ``GIoU`` to say.

    Keys: ``N_acc`` and ``T_acc`` (NaN where there is no such sample), each with its ``_n`` and ``_failed``. ``values``
    are 1 for a recognised sample of either kind, else 0.

    Source:
        GRES (arXiv 2306.00968), section 4; the explicit answer as in VisHarness (arXiv 2605.29894).

    Example:
        >>> from visenv.masks import Masks
        >>> from visenv.types import MaskTruth, Outcome
        >>> metric, nothing = NullAccuracy(), MaskTruth(Masks.empty((8, 8)))
        >>> metric.update(Outcome(None, "nothing there", "answer", 1), nothing)
        >>> metric.update(Outcome(None, None, "max_turns", 10), nothing)
        >>> metric.compute()["N_acc"]
        0.5
    """

    name = "N_acc"
    higher_is_better = True
    bounds = (0.0, 1.0)
    truths = (MaskTruth,)

    def _measure(self, outcome: Outcome, truth: MaskTruth) -> Region:
        return measure_region(outcome, truth)

    def _covering(self) -> tuple[str, ...]:
        return "N_acc", "T_acc"

    def _covers(self, figure: str, record: Region) -> bool:
        return record.null is (figure == "N_acc")

    def _summarize(self, records: Sequence[Region]) -> dict[str, float]:
        return {
            "N_acc": mean(self._value(record) for record in records if record.null),
            "T_acc": mean(self._value(record) for record in records if not record.null),
        }

    def _value(self, record: Region) -> float:
        return float(record.says_none if record.null else record.found)
