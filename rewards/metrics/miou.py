"""The mean IoU of what is there to be found."""

from __future__ import annotations

from visenv.rewards.metrics.base import ratios
from visenv.rewards.metrics.regions import Region, RegionMetric
from visenv.types import FloatArray


class MIoU(RegionMetric):
    """mIoU: the mean over targeted samples of the IoU of the final result with the target.

    It is gIoU where every sample has a target, as in RefCOCO; samples on which nothing is to be found are left out, and
    counted in ``mIoU_null``. A missing result scores 0. Ignored pixels are removed from both sides first.

    Keys: ``mIoU``, ``mIoU_null``, ``mIoU_n``, ``mIoU_failed``. ``values`` are the IoUs, NaN where there is no target.

    Source:
        RefCOCO as in LAVT (arXiv 2112.02244), section 4.

    Example:
        >>> from visenv.masks import Masks
        >>> from visenv.types import Detections, MaskTruth, Outcome
        >>> metric, target = MIoU(), Masks.from_boxes([[0, 0, 4, 4]], (8, 8))
        >>> found = Detections([[0, 0, 4, 2]], Masks.from_boxes([[0, 0, 4, 2]], (8, 8)))
        >>> metric.update(Outcome(found, "the square", "answer", 3), MaskTruth(target))
        >>> metric.update(Outcome(None, "nothing", "answer", 1), MaskTruth(Masks.empty((8, 8))))
        >>> metric.compute()
        {'mIoU': 0.5, 'mIoU_null': 1.0, 'mIoU_n': 1.0, 'mIoU_failed': 0.0}
    """

    name = "mIoU"
    higher_is_better = True
    bounds = (0.0, 1.0)
    counts = frozenset({"mIoU_null"})
    width = 3

    def _covers(self, figure: str, record: Region) -> bool:
        return not record.null

    def _tally(self, record: Region) -> tuple[float, ...]:
        return (1, 0, 0) if record.null else (0, 1, record.iou)

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        nulls, targets, ious = totals
        return {"mIoU": ratios(ious, targets), "mIoU_null": nulls}

    def _value(self, record: Region) -> float:
        return float("nan") if record.null else record.iou
