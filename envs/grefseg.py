"""Generalised referring segmentation."""

from __future__ import annotations

from typing import ClassVar

from visenv.env import VisionToolEnv
from visenv.vector import VisionToolVectorEnv


class GRefSegEnv(VisionToolEnv):
    """Segment all that an expression refers to: nothing, one object, or many.

    Source: the task is GRES's (arXiv 2306.00968), the tools, grammar and reward are VisHarness's (arXiv 2605.29894).

    ## Description
    As `VisHarness/ReasonSeg-v0`, with expressions that refer to any number of objects. The union of the merged masks is
    scored, so that finding two of three objects pays in part; an expression that refers to nothing is to be answered
    without a result.

    ## Action Space
    As `VisHarness/ReasonSeg-v0`.

    ## Observation Space
    As `VisHarness/ReasonSeg-v0`.

    ## Rewards
    8 · IoU − 3 of the united masks; with no target +5 for answering without any result, −3 otherwise. No result where
    one is due: −3.

    ## Metrics
    `gIoU`, `cIoU`, `N_acc`, `T_acc` and `Pr@X`, as GRES reports gRefCOCO.

    ## Starting State
    One picture in view, `img_0`, and the expression.

    ## Episode End
    As `VisHarness/ReasonSeg-v0`.

    ## Arguments
    See `visenv.env.VisionToolEnv`.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "grefseg"
    metric_names: ClassVar[tuple[str, ...]] = (
        "visenv.rewards.metrics:GIoU",
        "visenv.rewards.metrics:CIoU",
        "visenv.rewards.metrics:NullAccuracy",
        "visenv.rewards.metrics:PrecisionAt",
    )


class GRefSegVectorEnv(VisionToolVectorEnv):
    """Many `GRefSegEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = GRefSegEnv
