"""Questions about several images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from visenv.datasets.base import Dataset
from visenv.datasets.options import LETTERS
from visenv.env import VisionToolEnv
from visenv.envs.questions import question_phrases
from visenv.episode import Reward
from visenv.spaces import PHRASES
from visenv.tools.base import Tool
from visenv.types import AnswerTruth, Sample
from visenv.vector import VisionToolVectorEnv

JOB = """\
You answer a question about several images, which none of them alone answers. Each turn, decide what you still have to \
look at, and either call one tool or give your answer.

- The images are img_0, img_1, and so on. A region that you zoom to is an image of its own, NAME_z1.
- Only some images stay in view. One that was put away is replaced by a note: Reflect brings it back, and Verify puts \
a claim beside it.
- Experts make mistakes: check what they say.
- Answer with the letter of an option, or with a number, as the question says.
- You have {max_turns} turns in all, and a call that cannot be carried out uses one up."""


class MultiImageEnv(VisionToolEnv):
    """Answer questions that need several images.

    Source: looking again (reflection) and checking claims (verification) are IMAgent's tools (arXiv 2512.08980), whose
    formulas are not published: this is IMAgent-style. Data and coefficients are ours.

    ## Description
    The agent is shown two to eight images, each its own, and a question that none of them alone answers: what changed
    from one to the other, which two show the same thing, how many there are in all of them together, in which one a
    thing is nearest, which one lacks what all others have. It answers with the letter of an option or with a number.
    After the first call the images are archived: `Reflect` brings one back, if asked with a region marked, `Verify`
    puts a claim beside one, with what an expert finds of the thing that it is about. Neither shows anything that was
    not seen before.

    ## Action Space
    As `VisHarness/ReasonSeg-v0`, with the tools PhraseToBoxMask, PhraseToPoint, PointToBoxMask, ZoomRegion, Reflect and
    Verify. In `discrete` mode the answer is chosen by the phrase: a letter, or a number from 0 to 15.

    ## Observation Space
    As `VisHarness/ReasonSeg-v0`; the contact sheet `memory_images` holds all images.

    ## Rewards
    `imagent`: 1 for the right answer, and `gain` (0.5) · (1 − `rate_without_tool`) more, once, if it is right and an
    image was looked at again. That rate, how often the question is answered without, is the group's to measure
    (`visenv.rewards.imagent.tool_gain`); it is 1 unless you set it, so that nothing is paid for looking:
    `reward="imagent:rate_without_tool=0.4"`.

    ## Metrics
    `EM` (whether the answer is right) and `token_F1`.

    ## Figures
    Exact match over 100 episodes of `val`: `visenv rollout VisHarness/MultiImage-v0 --split val --episodes 100 --seed 0
    --policy POLICY --difficulty DIFFICULTY --json`.

    | difficulty | random | single | scripted | oracle |
    |---|---|---|---|---|
    | 0 | 0.00 | 0.34 | 1.00 | 1.00 |
    | 1 | 0.00 | 0.34 | 0.98 | 1.00 |
    | 2 | 0.00 | 0.22 | 0.82 | 1.00 |
    | 3 | 0.00 | 0.26 | 0.70 | 1.00 |

    `random` writes any text, `single` gives the first option, or the number 3. `scripted` asks the classical expert for
    what the question names, or for everything, and compares counts, sizes, colours and outlines. `oracle` gives the
    true answer. Memory policies and trained agents are compared in `docs/multi-image.md`.

    ## Starting State
    All images in view, and the question with its options.

    ## Episode End
    As `VisHarness/ReasonSeg-v0`.

    ## Arguments
    See `visenv.env.VisionToolEnv`; `toolset` is `"multiimage"`, `reward` `"imagent"`. `toolset="attention"`
    has the two tools alone, without any expert: claims come back as they are.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "multiimage"
    job: ClassVar[str] = JOB
    plans: ClassVar[Mapping[str, str]] = {
        "scripted": "visenv.policies.plans.multiimage:scripted",
        "single": "visenv.policies.plans.multiimage:single",
        "oracle": "visenv.policies.plans.multiimage:oracle",
    }
    metric_names: ClassVar[tuple[str, ...]] = ("visenv.rewards.metrics:AnswerAccuracy",)

    def __init__(
        self,
        dataset: str | Dataset = "scenes",
        split: str = "train",
        difficulty: int = 1,
        *,
        toolset: str | Iterable[Tool | type] = "multiimage",
        reward: str | Reward = "imagent",
        **keywords: Any,
    ) -> None:
        super().__init__(dataset, split, difficulty, toolset=toolset, reward=reward, **keywords)

    def phrases_of(self, sample: Sample) -> tuple[str, ...]:
        """The question, what it names, its options, everything, and words of the data set."""
        return question_phrases(sample.query, self.dataset.vocabulary)

    def answers_of(self, sample: Sample) -> tuple[str, ...]:
        """Letters of the options that are offered, or numbers."""
        offered = sample.truth.choices if isinstance(sample.truth, AnswerTruth) else None
        return tuple(LETTERS[: len(offered)]) if offered else tuple(str(number) for number in range(PHRASES))


class MultiImageVectorEnv(VisionToolVectorEnv):
    """Many `MultiImageEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = MultiImageEnv
