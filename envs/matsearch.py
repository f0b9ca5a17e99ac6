"""Questions about something in a picture whose answers stand in documents."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from visenv.datasets.base import Dataset
from visenv.datasets.lore.questions import answer_of
from visenv.datasets.lore.world import world
from visenv.datasets.scenes.kinds import COLOURS, PATTERNS
from visenv.env import VisionToolEnv
from visenv.episode import Reward
from visenv.experts_making import ExpertsLike
from visenv.memory import MemoryPolicy
from visenv.spaces import PHRASES
from visenv.tools.base import Tool
from visenv.types import Sample
from visenv.vector import VisionToolVectorEnv

JOB = """\
You answer questions about something in a picture. Looking tells you what it is: its kind, its colour and its pattern. \
What is known about it stands in the documents of a library, and nowhere else. Each turn, think about what you still \
have to find out, and either call one tool or give your answer.

- The input image is img_0.
- Search finds passages by their words, and knows no picture: describe what you see. Look for one thing at a time, and \
use the names that you have found in the next query. Much of what is found is of no use.
- Answer in as few words as the question needs, such as a name or a year.
- You have {max_turns} turns in all, and a call that cannot be carried out uses one up."""


class MATSearchEnv(VisionToolEnv):
    """Answer questions about something in a picture by looking it up in documents.

    Source: the task, its tool and its grammar (the dialect `arft`) are those of Visual-ARFT's agentic search
    (MAT-Search, arXiv 2505.14246). Data and reward of the generated family are our own.

    ## Description
    A picture shows some things; a question asks about the town whose flag shows one of them. Which colour and which
    pattern that thing has stands in the picture alone, and what is known of the town in the documents alone, one fact a
    document: the town in one, its founder and the year in another, the founder's village and teacher in a third. Others
    name the same things, in markets and at festivals, and are of no use. Every name is invented. No split asks about a
    thing that another asks about.

    At difficulty 0 one document has to be found, at 1 two, at 2 three; at 3 there are several of the kind in the
    picture, and the question says which one is meant by its place. Textures, light and noise grow with the difficulty.
    `dataset="matsearch:/path"` takes MAT-Search itself; `experts={"*": "classical", "Search": ...}` another library
    (`visenv.experts.search.LocalSearch`) or a search service (`ServiceSearch`): see [Search](../search.md).

    ## Action Space
    As `VisHarness/ReasonSeg-v0`, with the tools `Search(query)`, `PhraseToBoxMask`, `PhraseToPoint` and `RecallImage`.
    In discrete mode queries and answers are chosen from 16 each, of which one answer is right: the queries describe the
    thing in all colours and patterns, so that only questions of difficulty 0 can be searched for there.

    ## Observation Space
    As `VisHarness/ReasonSeg-v0`. The passages that were found stand in the reply.

    ## Rewards
    At the end, `answer`: 0.9 times the token F1 of the answer, the best over the accepted ones; and `format`: 0.1 times
    the same if every turn was carried out. From 0 to 1. `reward="matsearch:answer=1,format=0"` changes the weights;
    `reward="arft_search"` is the published one (token F1 plus 1 for the form), `reward="mmsearch_r1"` that of
    MMSearch-R1.

    ## Metrics
    Exact match and token F1, as MAT-Search is reported.

    ## Figures
    Exact match over 100 episodes of `val`: `visenv rollout VisHarness/MATSearch-v0 --split val --episodes 100 --seed 0
    --policy POLICY --difficulty DIFFICULTY --out DIR`.

    | difficulty | random | single | scripted | oracle |
    |---|---|---|---|---|
    | 0 | 0.00 | 0.02 | 0.69 | 1.00 |
    | 1 | 0.00 | 0.00 | 0.77 | 1.00 |
    | 2 | 0.00 | 0.00 | 0.59 | 1.00 |
    | 3 | 0.00 | 0.00 | 0.58 | 1.00 |

    `single` looks the question up as it stands, without looking at the picture. `scripted` looks with the eyes of the
    classical expert, which are not sure of patterns, and then follows the documents. `oracle` is told which thing is
    meant, and finds the rest in the documents as well. Who knows every document by heart but not the picture is right
    one time in 32.

    ## Starting State
    One picture in view, `img_0`, and the question.

    ## Episode End
    The episode is terminated by an answer and by the turn limit, which is 5 here.

    ## Arguments
    See `visenv.env.VisionToolEnv`.

    Here the defaults of some are others: `toolset="matsearch"`, `reward="matsearch"`, `max_turns=5`, and
    `memory="keep_all"`, since there is one picture and searching brings no other.

    ## Version History
    * v0: initial version
    """

    family: ClassVar[str] = "matsearch"
    job: ClassVar[str] = JOB
    own_experts: ClassVar[Mapping[str, ExpertsLike]] = {"Search": "search"}
    plans: ClassVar[Mapping[str, str]] = {
        "scripted": "visenv.policies.plans.matsearch:scripted",
        "single": "visenv.policies.plans.matsearch:single",
        "oracle": "visenv.policies.plans.matsearch:oracle",
    }
    metric_names: ClassVar[tuple[str, ...]] = ("visenv.rewards.metrics:AnswerAccuracy",)

    def __init__(
        self,
        dataset: str | Dataset = "scenes",
        split: str = "train",
        difficulty: int = 1,
        *,
        toolset: str | Iterable[Tool | type] = "matsearch",
        reward: str | Reward = "matsearch",
        max_turns: int = 5,
        memory: str | MemoryPolicy = "keep_all",
        **keywords: Any,
    ) -> None:
        super().__init__(
            dataset, split, difficulty, toolset=toolset, reward=reward, max_turns=max_turns, memory=memory, **keywords
        )

    def phrases_of(self, sample: Sample) -> tuple[str, ...]:
        """Queries that describe what the question is about, in every colour and every pattern; else as elsewhere."""
        kind = sample.metadata.get("kind")
        if kind is None or sample.metadata.get("family") != self.family:
            return super().phrases_of(sample)
        described = [f"flag {word} {kind}" for word in (*COLOURS, *PATTERNS)]
        return (sample.query, f"{kind} flag", "founded by", "born in the village", *described)[:PHRASES]

    def answers_of(self, sample: Sample) -> tuple[str, ...]:
        """The right answer among others of its sort; in an order that depends on the sample alone."""
        asked = sample.metadata.get("asked")
        if asked is None or sample.metadata.get("family") != self.family:
            return super().answers_of(sample)
        (right,) = getattr(sample.truth, "answers", ("",))
        rng = np.random.default_rng(zlib.crc32(sample.sample_id.encode()))
        others = dict.fromkeys(answer_of(town, str(asked)) for town in world().values())
        others.pop(right, None)
        chosen = rng.choice(list(others), PHRASES - 1, replace=False).tolist()
        return tuple(rng.permutation([right, *chosen]).tolist())


class MATSearchVectorEnv(VisionToolVectorEnv):
    """Many `MATSearchEnv` at once."""

    env_class: ClassVar[type[VisionToolEnv]] = MATSearchEnv
