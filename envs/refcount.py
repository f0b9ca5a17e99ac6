"""Referring counting."""

from __future__ import annotations

from typing import ClassVar

from visenv.env import VisionToolEnv
from visenv.vector import VisionToolVectorEnv


class RefCountEnv(VisionToolEnv):
    """Count the objects that an expression refers to, and say where they are.

    Source: the task is REC-8K's (GroundingREC, CVPR 2024), the tools, grammar and reward are VisHarness's
    (arXiv 2605.29894).

    ## Description
    As `VisHarness/GRefSeg-v0`, but the number of boxes in the merged result is what counts.

    ## Action Space
    As `VisHarness/ReasonSeg-v0`.

    ## Observation Space
    As `VisHarness/ReasonSeg-v0`.

    ## Rewards
    max(−3, 5 − 8 · |truth − predicted| / truth) over the boxes of the merged result; no result: −3.

    ## Metrics
    `MAE`, `RMSE`, `precision`, `recall` and `point_F1`, as REC-8K is reported; `NAE`, as FSC-147 is.

    ## Starting State
    One picture in view, `img_0`, and the expression.

    ## Episode End
    As `VisHarness/ReasonSeg-v0`.

    ## Arguments
    See `visenv.env.VisionToolEnv`.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "refcount"
    metric_names: ClassVar[tuple[str, ...]] = (
        "visenv.rewards.metrics:CountError",
        "visenv.rewards.metrics:PointLocalisation",
    )


class RefCountVectorEnv(VisionToolVectorEnv):
    """Many `RefCountEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = RefCountEnv
