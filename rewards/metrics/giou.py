"""The mean of per-sample IoU."""

from __future__ import annotations

from visenv.rewards.metrics.base import ratios
from visenv.rewards.metrics.regions import Region, RegionMetric
from visenv.types import FloatArray


class GIoU(RegionMetric):
    """gIoU: the mean over samples of the IoU of the final result with the target.

    A sample on which nothing is to be found scores 1 if the agent *answered* that nothing is there, and 0 otherwise: an
    episode that failed or was cut short is no correct null. A missing result on a targeted sample scores 0. Ignored
    pixels are removed from both sides first.

    Keys: ``gIoU``, ``gIoU_n``, ``gIoU_failed``. ``values`` are the IoUs.

    Source:
        GRES (arXiv 2306.00968) and LISA (arXiv 2308.00692); the explicit answer as in VisHarness (arXiv 2605.29894).

    Example:
        >>> from visenv.masks import Masks
        >>> from visenv.types import Detections, MaskTruth, Outcome
        >>> metric, target = GIoU(), Masks.from_boxes([[0, 0, 4, 4]], (8, 8))
        >>> found = Detections([[0, 0, 4, 2]], Masks.from_boxes([[0, 0, 4, 2]], (8, 8)))
        >>> metric.update(Outcome(found, "the square", "answer", 3), MaskTruth(target))
        >>> metric.update(Outcome(None, "nothing", "answer", 1), MaskTruth(Masks.empty((8, 8))))
        >>> metric.compute()
        {'gIoU': 0.75, 'gIoU_n': 2.0, 'gIoU_failed': 0.0}
    """

    name = "gIoU"
    higher_is_better = True
    bounds = (0.0, 1.0)
    width = 2

    def _tally(self, record: Region) -> tuple[float, ...]:
        return 1, record.iou

    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        samples, ious = totals
        return {"gIoU": ratios(ious, samples)}

    def _value(self, record: Region) -> float:
        return record.iou
