"""The IoU of all samples together."""

from __future__ import annotations

from visenv.rewards.metrics.base import ratio, ratios
from visenv.rewards.metrics.regions import Region, RegionMetric
from visenv.types import FloatArray


class CIoU(RegionMetric):
    """cIoU: the intersections of all samples, summed, over their unions, summed; large objects weigh more.

    A missing result adds the target's area to the union, a result where nothing is to be found adds its own. Ignored
    pixels are removed from both sides first. NaN where no sample has any pixel to count.

    Keys: ``cIoU``, ``cIoU_n``, ``cIoU_failed``. ``values`` are I / U of each sample, NaN where U is 0.

    Source:
        LISA (arXiv 2308.00692); null targets as in GRES (arXiv 2306.00968).

    Example:
        >>> from visenv.masks import Masks
        >>> from visenv.types import Detections, MaskTruth, Outcome
        >>> metric, target = CIoU(), Masks.from_boxes([[0, 0, 4, 4]], (8, 8))
        >>> found = Detections([[0, 0, 4, 2]], Masks.from_boxes([[0, 0, 4, 2]], (8, 8)))
        >>> metric.update(Outcome(found, "the square", "answer", 3), MaskTruth(target))
        >>> metric.update(Outcome(None, None, "max_turns", 10), MaskTruth(target))
        >>> metric.compute()
        {'cIoU': 0.25, 'cIoU_n': 2.0, 'cIoU_failed': 1.0}
    """

    name = "cIoU"
    higher_is_better = True
    bounds = (0.0, 1.0)
    width = 2

    def _tally(self, record: Region) -> tuple[float, ...]:
        return record.intersection, record.union

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        intersections, unions = totals
        return {"cIoU": ratios(intersections, unions)}

    def _value(self, record: Region) -> float:
        return ratio(record.intersection, record.union)
