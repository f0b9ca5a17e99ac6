"""Referring segmentation."""

from __future__ import annotations

from typing import ClassVar

from visenv.env import VisionToolEnv
from visenv.vector import VisionToolVectorEnv


class RefSegEnv(VisionToolEnv):
    """Segment the one object that an expression refers to.

    Source: the task is RefCOCO's (arXiv 1608.00272), the tools, grammar and reward are VisHarness's (arXiv 2605.29894).

    ## Description
    As `VisHarness/ReasonSeg-v0`, with expressions that always refer to exactly one object.

    ## Action Space
    As `VisHarness/ReasonSeg-v0`.

    ## Observation Space
    As `VisHarness/ReasonSeg-v0`.

    ## Rewards
    8 · IoU − 3; no result: −3.

    ## Metrics
    `cIoU`, `mIoU` and `Pr@X`, as RefCOCO is reported; `gIoU`, which is mIoU where every sample has a target.

    ## Starting State
    One picture in view, `img_0`, and the expression.

    ## Episode End
    As `VisHarness/ReasonSeg-v0`.

    ## Arguments
    See `visenv.env.VisionToolEnv`.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "refseg"
    metric_names: ClassVar[tuple[str, ...]] = (
        "visenv.rewards.metrics:GIoU",
        "visenv.rewards.metrics:CIoU",
        "visenv.rewards.metrics:MIoU",
        "visenv.rewards.metrics:PrecisionAt",
    )


class RefSegVectorEnv(VisionToolVectorEnv):
    """Many `RefSegEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = RefSegEnv
