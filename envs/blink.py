"""BLINK."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from visenv.env import VisionToolEnv
from visenv.envs.questions import QuestionsEnv
from visenv.vector import VisionToolVectorEnv


class BlinkEnv(QuestionsEnv):
    """Answer questions of seeing rather than knowing, by asking specialists and experts.

    Source: the tasks are BLINK's (arXiv 2404.12390); the tools are those of VipAct (arXiv 2410.16400). The pictures of
    the generated family are our own.

    ## Description
    The agent is shown one to four images and a question with options, and answers with a letter. What is asked is hard
    to put into words: how many, which point is nearer, how two things lie to each other, which points correspond, which
    picture is more alike, which part is missing, where the camera moved, which box fits. Specialists say what they see;
    experts find marks, depth, likeness, boxes and masks; the agent decides whom to ask.

    The generated family draws eight of BLINK's sub-tasks in turns, and computes the answers from what was drawn.
    `dataset="blink:/path"` takes BLINK itself: see [BLINK, MMVP and VipAct](../vipact.md).

    ## Action Space
    As `VisHarness/ReasonSeg-v0`, with other tools: the specialists ImageCaptioning, VisualPromptDescribe and
    ImageComparison; the experts VisualPromptDetector, DepthEstimation, EmbeddingSimilarity, PhraseToBoxMask,
    PhraseToPoint and PointToBoxMask; and ZoomRegion and RecallImage. In `discrete` mode the phrase chooses the letter.

    ## Observation Space
    As `VisHarness/ReasonSeg-v0`. What specialists and experts say stands in the reply.

    ## Rewards
    At the end, `right`: 1 for the letter of the right option, its text, or both.

    ## Metrics
    `subtask_acc`, the mean over sub-tasks, `subtask_acc/NAME` of each, and `EM`, over all questions alike.

    ## Figures
    `subtask_acc` over 160 episodes of `val`: `visenv rollout VisHarness/Blink-v0 --split val --episodes 160 --seed 0
    --policy POLICY --difficulty DIFFICULTY --out DIR`.

    | difficulty | random | single | scripted | oracle |
    |---|---|---|---|---|
    | 0 | 0.00 | 0.45 | 0.87 | 1.00 |
    | 1 | 0.00 | 0.47 | 0.93 | 1.00 |
    | 2 | 0.00 | 0.43 | 0.86 | 1.00 |
    | 3 | 0.00 | 0.45 | 0.87 | 1.00 |

    | `scripted`, by sub-task | 0 | 1 | 2 | 3 |
    |---|---|---|---|---|
    | Counting | 1.00 | 0.96 | 0.77 | 0.77 |
    | Jigsaw | 0.77 | 1.00 | 0.77 | 0.92 |
    | Multi-view_Reasoning | 1.00 | 1.00 | 0.91 | 0.91 |
    | Object_Localization | 0.42 | 0.68 | 0.63 | 0.63 |
    | Relative_Depth | 1.00 | 1.00 | 0.96 | 1.00 |
    | Spatial_Relation | 1.00 | 1.00 | 0.96 | 0.78 |
    | Visual_Correspondence | 0.85 | 0.95 | 0.90 | 0.95 |
    | Visual_Similarity | 0.96 | 0.88 | 1.00 | 1.00 |

    `single` answers with the first option. `scripted` asks the experts for what a question needs, and sees with their
    eyes alone: it is surest of counts and of how things lie, and least of boxes that cross. `oracle` reads the answer
    from the sample. `random` answers with words by chance; in discrete mode it guesses a letter.

    ## Starting State
    All images in view, and the question with its options.

    ## Episode End
    As `VisHarness/ReasonSeg-v0`.

    ## Arguments
    See `visenv.env.VisionToolEnv`; `reward` is `"answer"`. For the ablations of VipAct:

    | keyword | |
    |---|---|
    | `specialists=False` | no specialised agents |
    | `expert_tools=False` | no experts |
    | `show_inputs=False` | an agent that sees no image, and has to ask about them by name |
    | `joined=True` | several images joined into one, side by side |
    | `shuffle=0` | options in another order, by that seed |

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "blink"
    plans: ClassVar[Mapping[str, str]] = {
        "scripted": "visenv.policies.plans.questions:scripted",
        "single": "visenv.policies.plans.questions:single",
        "oracle": "visenv.policies.plans.questions:oracle",
    }
    metric_names: ClassVar[tuple[str, ...]] = (
        "visenv.rewards.metrics:SubTaskAccuracy",
        "visenv.rewards.metrics:AnswerAccuracy",
    )


class BlinkVectorEnv(VisionToolVectorEnv):
    """Many `BlinkEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = BlinkEnv
