"""Whether an agent sees that there is something, or nothing, to find."""

from __future__ import annotations

from visenv.rewards.metrics.base import ratios
from visenv.rewards.metrics.regions import Region, RegionMetric
from visenv.types import FloatArray


class NullAccuracy(RegionMetric):
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
    width = 4

    def _covering(self) -> tuple[str, ...]:
        return "N_acc", "T_acc"

    def _covers(self, figure: str, record: Region) -> bool:
        return record.null is (figure == "N_acc")

    def _tally(self, record: Region) -> tuple[float, ...]:
        recognised = self._value(record)
        return (1, recognised, 0, 0) if record.null else (0, 0, 1, recognised)

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        nulls, right_nulls, targets, right_targets = totals
        return {"N_acc": ratios(right_nulls, nulls), "T_acc": ratios(right_targets, targets)}

    def _value(self, record: Region) -> float:
        return float(record.says_none if record.null else record.found)
