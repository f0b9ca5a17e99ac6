"""SAM 2 and SAM 2.1, through the ``sam2`` package: points, boxes and earlier masks become masks."""

from visenv.experts.sam2.expert import Sam2Expert

__all__ = ["Sam2Expert"]
