"""How many targets are found well enough."""

from __future__ import annotations

from collections.abc import Sequence

from visenv.errors import InvalidData
from visenv.rewards.metrics.base import ratios
from visenv.rewards.metrics.regions import Region, RegionMetric
from visenv.types import FloatArray


class PrecisionAt(RegionMetric):
    """Pr@X: the share of targeted samples whose IoU is X or more.

    Samples on which nothing is to be found are left out, and counted in ``Pr_null``.

    Args:
        thresholds: the values of X, each in (0, 1].

    Keys: ``Pr@0.5`` and so on, ``Pr_null``, and ``_n`` and ``_failed`` of the lowest threshold, which hold for all.
    ``values`` are, for each targeted sample, whether it reaches the lowest threshold; NaN for others.

    Raises:
        InvalidData: if there is no threshold, or one lies outside of (0, 1].

    Source:
        Pr@X as in referring segmentation; GRES (arXiv 2306.00968), section 4, for targeted samples alone.

    Example:
        >>> from visenv.masks import Masks
        >>> from visenv.types import Detections, MaskTruth, Outcome
        >>> metric, target = PrecisionAt([0.5, 0.7]), Masks.from_boxes([[0, 0, 4, 4]], (8, 8))
        >>> found = Detections([[0, 0, 4, 2]], Masks.from_boxes([[0, 0, 4, 2]], (8, 8)))
        >>> metric.update(Outcome(found, "the square", "answer", 3), MaskTruth(target))
        >>> metric.compute()
        {'Pr@0.5': 1.0, 'Pr@0.7': 0.0, 'Pr_null': 0.0, 'Pr@0.5_n': 1.0, 'Pr@0.5_failed': 0.0}
    """

    higher_is_better = True
    bounds = (0.0, 1.0)
    counts = frozenset({"Pr_null"})

    def __init__(self, thresholds: Sequence[float] = (0.5, 0.6, 0.7, 0.8, 0.9)) -> None:
        super().__init__()
        self.thresholds = tuple(float(threshold) for threshold in thresholds)
        if not self.thresholds or not all(0.0 < threshold <= 1.0 for threshold in self.thresholds):
            raise InvalidData(f"Expected argument `thresholds` to be numbers in (0, 1], but got {thresholds!r}.")
        self.name = f"Pr@{min(self.thresholds):g}"
        self.width = 2 + len(self.thresholds)

    def _covers(self, figure: str, record: Region) -> bool:
        return not record.null

    def _tally(self, record: Region) -> tuple[float, ...]:
        reached = [not record.null and record.iou >= threshold for threshold in self.thresholds]
        return (record.null, not record.null, *reached)

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        nulls, targets, *reached = totals
        names = [f"Pr@{threshold:g}" for threshold in self.thresholds]
        return {**{name: ratios(part, targets) for name, part in zip(names, reached, strict=True)}, "Pr_null": nulls}

    def _value(self, record: Region) -> float:
        return float("nan") if record.null else float(record.iou >= min(self.thresholds))
