"""Detection of many small objects."""

from __future__ import annotations

from typing import ClassVar

from visenv.env import VisionToolEnv
from visenv.vector import VisionToolVectorEnv


class DenseDetEnv(VisionToolEnv):
    """Box every object of one category in a large picture full of small things.

    Source: the task is that of VisDrone-DET and Dense200, one category a sample, as in VisHarness (arXiv 2605.29894).

    ## Description
    Hundreds of objects of 6 to 20 pixels in one picture: experts that work at a fixed resolution miss them, so that the
    agent has to cut the picture into patches and enlarge these before it asks for the category.

    ## Action Space
    As `VisHarness/ReasonSeg-v0`.

    ## Observation Space
    As `VisHarness/ReasonSeg-v0`.

    ## Rewards
    8 · F1 − 3, F1 the mean over the IoU thresholds .50:.05:.95 (ours: no reward for this task is published).

    ## Metrics
    `F1@0.50`, `F1@0.95` and `F1@0.50:0.95` over all boxes of all samples together, as VisDrone is reported; the same
    averaged over categories under `macro_F1@…`, as Dense200 is; and `AP` of the result's scores, as COCO and SODA
    report it, with up to 500 boxes a sample and in SODA's bands of size.

    ## Starting State
    One picture in view, `img_0`, and the category.

    ## Episode End
    As `VisHarness/ReasonSeg-v0`.

    ## Arguments
    See `visenv.env.VisionToolEnv`.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "densedet"
    metric_names: ClassVar[tuple[str, ...]] = (
        "visenv.rewards.metrics:DenseF1",
        "visenv.rewards.metrics:MacroDenseF1",
        "visenv.rewards.metrics:CocoAP",
    )


class DenseDetVectorEnv(VisionToolVectorEnv):
    """Many `DenseDetEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = DenseDetEnv
