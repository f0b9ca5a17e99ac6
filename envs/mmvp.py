"""MMVP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from visenv.env import VisionToolEnv
from visenv.envs.questions import QuestionsEnv
from visenv.vector import VisionToolVectorEnv


class MMVPEnv(QuestionsEnv):
    """Tell pictures apart that look alike: pairs of questions that only what differs answers.

    Source: the task is MMVP's (arXiv 2401.06209); the tools are those of VipAct (arXiv 2410.16400). The pictures of the
    generated family are our own.

    ## Description
    The agent is shown one picture and a question with two options. The same question is asked about another picture
    that is almost the same, where the other option is right; who answers both by habit gets one of them wrong. A pair
    counts if both answers are right.

    The generated family draws pairs that differ in one thing: its colour, its kind, how many there are, or where it
    is. `dataset="mmvp:/path"` takes MMVP itself: see [BLINK, MMVP and VipAct](../vipact.md).

    ## Action Space
    As `VisHarness/Blink-v0`.

    ## Observation Space
    As `VisHarness/Blink-v0`.

    ## Rewards
    As `VisHarness/Blink-v0`: 1 for a right answer.

    ## Metrics
    `pair_acc`, beside how many pairs there were (`pair_count`) and of how many one question alone was asked
    (`pair_incomplete`), and `EM`, over single questions.

    ## Figures
    `pair_acc` over all 500 episodes of `val`: `visenv rollout VisHarness/MMVP-v0 --split val --episodes 500 --seed 0
    --policy POLICY --difficulty DIFFICULTY --out DIR`.

    | difficulty | random | single | scripted | oracle |
    |---|---|---|---|---|
    | 0 | 0.00 | 0.00 | 1.00 | 1.00 |
    | 1 | 0.00 | 0.00 | 0.98 | 1.00 |
    | 2 | 0.00 | 0.00 | 0.91 | 1.00 |
    | 3 | 0.00 | 0.00 | 0.80 | 1.00 |

    The policies are those of `VisHarness/Blink-v0`: `single` is right on one question of each pair, and so on no pair.

    ## Starting State
    One picture in view, `img_0`, and the question with its options.

    ## Episode End
    As `VisHarness/ReasonSeg-v0`.

    ## Arguments
    As `VisHarness/Blink-v0`.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "mmvp"
    plans: ClassVar[Mapping[str, str]] = {
        "scripted": "visenv.policies.plans.questions:scripted",
        "single": "visenv.policies.plans.questions:single",
        "oracle": "visenv.policies.plans.questions:oracle",
    }
    metric_names: ClassVar[tuple[str, ...]] = (
        "visenv.rewards.metrics:PairAccuracy",
        "visenv.rewards.metrics:AnswerAccuracy",
    )


class MMVPVectorEnv(VisionToolVectorEnv):
    """Many `MMVPEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = MMVPEnv
