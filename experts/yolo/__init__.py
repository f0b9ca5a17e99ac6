"""YOLO detectors and segmenters, YOLO-World and YOLOE, through ultralytics (AGPL-3.0)."""

from visenv.experts.yolo.checkpoints import save_yolo
from visenv.experts.yolo.expert import YoloExpert

__all__ = ["YoloExpert", "save_yolo"]
