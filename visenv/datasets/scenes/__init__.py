"""Generated scenes: drawn objects on drawn backgrounds, and questions about them whose answers are known exactly."""

from visenv.datasets.scenes.dataset import ScenesDataset, make
from visenv.datasets.scenes.kinds import COLOURS, KINDS, PATTERNS, Drawing, Kind, draw_object
from visenv.datasets.scenes.numbered import FIXED_SIZE, SPLITS
from visenv.datasets.scenes.scene import Scene, SceneObject

__all__ = [
    "COLOURS",
    "FIXED_SIZE",
    "KINDS",
    "PATTERNS",
    "SPLITS",
    "Drawing",
    "Kind",
    "Scene",
    "SceneObject",
    "ScenesDataset",
    "draw_object",
    "make",
]
