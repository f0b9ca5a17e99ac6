"""Figures over many samples, as papers report them.

Each metric has ``update(outcome, truth)``, ``compute()`` (a flat dict of floats), ``merge(other)``, ``reset()``,
``values`` (one number a sample), ``intervals()`` (bootstrapped over samples), ``resample(indices)``,
``higher_is_better`` and ``bounds``, and can be pickled.

Example:
    >>> from visenv.types import Detections, Outcome, PointsTruth
    >>> metric = CountError()
    >>> metric.update(Outcome(Detections([[0, 0, 4, 4]]), "one", "answer", 2), PointsTruth([[2, 2], [9, 9]]))
    >>> metric.compute()["MAE"]
    1.0
"""

from visenv.rewards.metrics.answer_accuracy import AnswerAccuracy
from visenv.rewards.metrics.base import Metric, update_all
from visenv.rewards.metrics.ciou import CIoU
from visenv.rewards.metrics.coco_ap import CocoAP
from visenv.rewards.metrics.count_error import CountError
from visenv.rewards.metrics.dense_f1 import DenseF1, MacroDenseF1
from visenv.rewards.metrics.giou import GIoU
from visenv.rewards.metrics.group_accuracy import PairAccuracy, SubTaskAccuracy
from visenv.rewards.metrics.mended_pictures import MendedPictures
from visenv.rewards.metrics.miou import MIoU
from visenv.rewards.metrics.null_accuracy import NullAccuracy
from visenv.rewards.metrics.point_localisation import PointLocalisation
from visenv.rewards.metrics.precision_at import PrecisionAt

__all__ = [
    "AnswerAccuracy",
    "CIoU",
    "CocoAP",
    "CountError",
    "DenseF1",
    "GIoU",
    "MIoU",
    "MacroDenseF1",
    "MendedPictures",
    "Metric",
    "NullAccuracy",
    "PairAccuracy",
    "PointLocalisation",
    "PrecisionAt",
    "SubTaskAccuracy",
    "update_all",
]
