"""Interactive segmentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from visenv.datasets.base import Dataset
from visenv.env import VisionToolEnv
from visenv.episode import Reward
from visenv.tools.base import Tool
from visenv.vector import VisionToolVectorEnv

JOB = """\
You segment what an expression refers to, in several steps. A segmenter turns your points and boxes into candidate \
masks, named c1, c2, and so on; look at them, refine them, and submit the best one.

- The input image is img_0. A region that you zoom to is an image of its own, NAME_z1, with its own coordinates.
- A candidate covers one object at first: where several are meant, refine it with a point on each of the others.
- Only some images stay in view. One that was put away is replaced by a note; calls can still name it.
- The result is the candidate that you submit; that ends the task. If there is nothing to segment, answer instead.
- You have {max_turns} turns in all, and a call that cannot be carried out uses one up."""


class InteractiveSegEnv(VisionToolEnv):
    """Segment all that an expression refers to with points and boxes, over several turns.

    Source: the turns are in the style of RSAgent (arXiv 2512.24023), whose tools take points and boxes on zoomed views
    and return candidates to be revised; names and coefficients are ours, as none are published.

    ## Description
    The agent is shown a picture and an expression for nothing, one object, or many. It zooms, prompts a segmenter with
    signed points or a box, looks at the candidates that come of it, adds to them and takes from them, compares them,
    and submits one, which ends the episode. Candidates have short names (`c1`); their masks stay with the environment.
    Where there is nothing to segment, the right thing is to answer without submitting.

    ## Action Space
    As `VisHarness/ReasonSeg-v0`, with other tools: PhraseToPoint, ZoomRegion, SegmentPoints, SegmentBox,
    RefineCandidate, ShowCandidate, CompareCandidates, SubmitCandidate. In `discrete` mode the image slot also chooses a
    candidate, the newest first, and a signed point is the cell's (mode 0 on what is meant, 1 beside it) or, in mode 2,
    the first of the points that PhraseToPoint found which lies outside of the newest candidate.

    ## Observation Space
    As `VisHarness/ReasonSeg-v0`; `detections` holds the candidates, the newest first.

    ## Rewards
    `rsagent`: 1.0 · IoU of what was submitted (1 for rightly answering that nothing is there); 0.5 · the change of the
    newest candidate's IoU, turn by turn, which adds up to its last IoU, so that going up and down earns nothing; −0.1
    for a malformed turn. `reward="rsagent:final=1,process=0.5,format=0.1"` sets the coefficients. The published
    relative, MedSAM-Agent's, is `visenv.rewards.medsam_agent`.

    ## Metrics
    `gIoU`, `cIoU`, `N_acc`, `T_acc`.

    ## Figures
    gIoU over 100 episodes of `val`: `visenv rollout VisHarness/InteractiveSeg-v0 --split val --episodes 100 --seed 0
    --policy POLICY --difficulty DIFFICULTY --json`.

    | difficulty | random | single | scripted | oracle |
    |---|---|---|---|---|
    | 0 | 0.11 | 0.91 | 0.99 | 1.00 |
    | 1 | 0.10 | 0.86 | 0.90 | 1.00 |
    | 2 | 0.18 | 0.70 | 0.82 | 1.00 |
    | 3 | 0.14 | 0.62 | 0.74 | 1.00 |

    `single` prompts once, with all points that the expert finds; `scripted` takes one point after the other, each on a
    region that it zooms to where the picture is large. `random` is right about scenes where there is nothing to find,
    whenever it submits nothing. `oracle` is played with the oracle's experts.

    ## Starting State
    One picture in view, `img_0`, and the expression.

    ## Episode End
    Terminated by SubmitCandidate, by an answer, by `max_turns` (10), or by the visual-token budget. What was not
    submitted does not count.

    ## Arguments
    See `visenv.env.VisionToolEnv`; `toolset` is `"interactive"`, `reward` `"rsagent"`.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "grefseg"
    job: ClassVar[str] = JOB
    plans: ClassVar[Mapping[str, str]] = {
        "scripted": "visenv.policies.plans.interactive:scripted",
        "single": "visenv.policies.plans.interactive:single",
        "oracle": "visenv.policies.plans.interactive:oracle",
    }
    metric_names: ClassVar[tuple[str, ...]] = (
        "visenv.rewards.metrics:GIoU",
        "visenv.rewards.metrics:CIoU",
        "visenv.rewards.metrics:NullAccuracy",
    )

    def __init__(
        self,
        dataset: str | Dataset = "scenes",
        split: str = "train",
        difficulty: int = 1,
        *,
        toolset: str | Iterable[Tool | type] = "interactive",
        reward: str | Reward = "rsagent",
        **keywords: Any,
    ) -> None:
        super().__init__(dataset, split, difficulty, toolset=toolset, reward=reward, **keywords)


class InteractiveSegVectorEnv(VisionToolVectorEnv):
    """Many `InteractiveSegEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = InteractiveSegEnv
