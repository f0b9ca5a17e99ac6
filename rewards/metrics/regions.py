"""What the segmentation metrics measure on a sample, and when an agent has said that nothing is there."""

from __future__ import annotations

from typing import NamedTuple

from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.rewards.functional.regions import RATIO_TOLERANCE, as_region, fit_to_frame
from visenv.rewards.metrics.base import SummedMetric
from visenv.types import Detections, MaskTruth, Outcome


class Region(NamedTuple):
    """How a sample's final result compares with its target, ignored pixels removed from both."""

    intersection: int
    """In pixels."""
    union: int
    """In pixels."""
    null: bool
    """Whether there is nothing to find."""
    found: bool
    """Whether there is a final result."""
    says_none: bool
    """Whether the agent answered that nothing is there."""

    @property
    def iou(self) -> float:
        """Intersection over union; on a null sample, 1 if the agent said that nothing is there and 0 otherwise."""
        if self.null:
            return float(self.says_none)
        return self.intersection / self.union


class RegionMetric(SummedMetric[Region]):
    """A metric of the united result and its target; several of them measure a sample once (``update_all``)."""

    truths = (MaskTruth,)
    shares_records = True

    def _measure(self, outcome: Outcome, truth: MaskTruth) -> Region:
        return measure_region(outcome, truth)


def says_none(outcome: Outcome) -> bool:
    """Whether an agent *explicitly* said that nothing is there: it answered, and without a result.

    An episode that ran out of turns, or failed, says nothing.
    """
    return outcome.termination == "answer" and not outcome.detections


def measure_region(outcome: Outcome, truth: MaskTruth) -> Region:
    """Compare a final result with its target.

    Args:
        outcome: its masks are united, and stretched by nearest neighbour if they are over another frame than the truth;
            no result is an empty region.
        truth: target and ignored pixels, over one frame.

    Returns:
        Pixel counts and what kind of sample it is. A target that lies wholly in ignored pixels is none.

    Raises:
        InvalidData: if the result has boxes but no masks, or its aspect ratio is more than 1 % from the truth's.
    """
    target = None if truth.target is None else as_region(truth.target)
    ignore = None if truth.ignore is None else as_region(truth.ignore)
    if target is not None and ignore is not None:
        target = target.minus(ignore)
    area = 0 if target is None else int(target.areas[0])
    intersection = predicted_area = 0
    if outcome.detections:
        predicted = _predicted(outcome.detections, target)
        predicted = predicted if ignore is None else predicted.minus(ignore)
        predicted_area = int(predicted.areas[0])
        intersection = 0 if target is None else int(predicted.intersection_areas(target)[0, 0])
    union = area + predicted_area - intersection
    return Region(intersection, union, null=not area, found=bool(outcome.detections), says_none=says_none(outcome))


def _predicted(detections: Detections, target: Masks | None) -> Masks:
    if detections.masks is None:
        raise InvalidData(
            "Expected a result with masks, to compare it with a mask, but got boxes alone: use BoxesTruth."
        )
    if target is None:
        return as_region(detections.masks)
    return fit_to_frame(detections.masks, target.shape, relative=RATIO_TOLERANCE)
