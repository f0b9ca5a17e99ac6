"""Mending pictures by programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from visenv.datasets.base import Dataset
from visenv.datasets.damaged_scenes import ANSWERS
from visenv.env import VisionToolEnv
from visenv.envs.mending import discrete_programs
from visenv.episode import Reward
from visenv.experts_making import ExpertsLike
from visenv.tools.base import Tool
from visenv.types import Sample
from visenv.vector import VisionToolVectorEnv

JOB = """\
You answer a question about a picture that may be damaged: turned, too dark, too bright, blurred, noisy, or only a \
part of a larger one that matters. Say first what is wrong with it, then put it right with Python programs, then answer.

- The picture is img_0. A program finds it as input.png and writes output.png; numpy, cv2 and PIL can be imported.
- What a program writes comes back as a picture, out_N, with what it printed. The last one counts.
- A program has no network and no other files, and a few seconds.
- You have {max_turns} turns in all, and one that cannot be carried out uses one up."""


class MATCodingEnv(VisionToolEnv):
    """Mend a damaged picture by writing programs, and answer a question about it.

    Source: the task, its tools and its grammar are those of Visual-ARFT's MAT-Coding (arXiv 2505.14246); the generated
    data and the reward are ours.

    ## Description
    The agent is shown a picture that may be turned by a quarter (clockwise) or a half, dark, overexposed, blurred,
    noisy, in a frame that is to be cropped away, several of these, or fine, and a question about it. It says what is
    wrong, writes Python programs that read the picture and write another, sees what came of them, and answers. Programs
    really run, each in a [sandbox](../sandbox.md); where there is none, the environment refuses to start and says what
    to install.

    ## Action Space
    As `VisHarness/ReasonSeg-v0`, with other tools: NameProblems (in the first turn alone) and RunCode. In `text` mode
    turns are written in the dialect `arft`, whose programs always read `img_0`. In `discrete` mode the phrase chooses
    one of sixteen programs (`visenv.envs.mending`), or one of the answers that the question may have.

    ## Observation Space
    As `VisHarness/ReasonSeg-v0`; `phrases` holds the programs.

    ## Rewards
    `matcoding`: what the last picture is worth, 0 to 1, turn by turn as it changes, and 1 for the right answer. A
    picture's worth is the lesser of two relative reductions, max(0, 1 − x(picture) / max(x(damaged), floor)), x being
    by how much an error is above its floor: of colours (mean absolute difference, floor 4/255), and of edges (distance
    of normalised gradients, floor 0.25), after it is brought to the clean picture's size. A picture that needs nothing
    is worth 1 as it is. `reward="matcoding:answer=0.5"` sets weights. `arft_coding` is the published reward, for
    comparison: it pays 0.9 for any program, whatever it does.

    ## Metrics
    `likeness` of the last picture to the clean one, `EM` and `token_F1` of the answers.

    ## Starting State
    The damaged picture in view, `img_0`, and the question.

    ## Episode End
    Terminated by an answer, by `max_turns` (5), or by the visual-token budget.

    ## Arguments
    See `visenv.env.VisionToolEnv`; `toolset` is `"matcoding"`, `reward` `"matcoding"`, `max_turns` 5, `dialect`
    `"arft"`. `experts={"RunCode": …}` brings a sandbox of your own, such as one with other limits.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "matcoding"
    job: ClassVar[str] = JOB
    own_experts: ClassVar[Mapping[str, ExpertsLike]] = {"RunCode": "sandbox"}
    plans: ClassVar[Mapping[str, str]] = {
        "scripted": "visenv.policies.plans.matcoding:scripted",
        "single": "visenv.policies.plans.matcoding:single",
        "oracle": "visenv.policies.plans.matcoding:oracle",
    }
    metric_names: ClassVar[tuple[str, ...]] = ("visenv.rewards.metrics:MendedPictures",)

    def __init__(
        self,
        dataset: str | Dataset = "scenes",
        split: str = "train",
        difficulty: int = 1,
        *,
        toolset: str | Iterable[Tool | type] = "matcoding",
        reward: str | Reward = "matcoding",
        max_turns: int = 5,
        dialect: str = "arft",
        **keywords: Any,
    ) -> None:
        super().__init__(
            dataset,
            split,
            difficulty,
            toolset=toolset,
            reward=reward,
            max_turns=max_turns,
            dialect=dialect,
            **keywords,
        )

    def phrases_of(self, sample: Sample) -> tuple[str, ...]:
        """The programs that a discrete action chooses from: the same for every sample."""
        return discrete_programs()

    def answers_of(self, sample: Sample) -> tuple[str, ...]:
        """What a discrete action can answer: all that fits the kind of question."""
        return ANSWERS.get(str(sample.metadata.get("asked")), ("done",))


class MATCodingVectorEnv(VisionToolVectorEnv):
    """Many `MATCodingEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = MATCodingEnv
