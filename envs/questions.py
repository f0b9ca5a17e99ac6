"""What environments of questions with options share: switches for ablations, and the order of options."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, ClassVar

import cv2
import numpy as np

from visenv.contents import side_by_side as joined_content
from visenv.datasets.base import Dataset
from visenv.datasets.blink import grouped
from visenv.datasets.options import LETTERS, asked_with, shuffled
from visenv.env import VisionToolEnv
from visenv.envs.several_calls import CallSeveral
from visenv.episode import Reward
from visenv.errors import InvalidData
from visenv.experts_making import ExpertsLike
from visenv.protocol.vipact import VipAct
from visenv.spaces import PHRASES, words
from visenv.tools.base import Tool
from visenv.tools.toolsets import make_toolset
from visenv.tools.vipact import EXPERTS, LOOKING, SPECIALISTS
from visenv.types import MAX_PHRASE, AnswerTruth, Pixels, Sample

JOB = """\
You answer a question about one or more images by asking specialists and vision experts. Each turn, think about what \
you still have to find out, and either call one tool or give your answer.

- The images are img_0, img_1, and so on. A region that you zoom to is an image of its own, NAME_z1, with its own \
coordinates, and can be compared like any other.
- Specialists answer in words; experts find, measure and compare. All of them make mistakes: check what they say.
- Only some images stay in view. One that was put away is replaced by a note; calls can still name it.
- Answer with the letter of one option.
- You have {max_turns} turns in all, and a call that cannot be carried out uses one up."""
GAP = 8
"""Pixels of white between images that are joined."""
WIDEST = 16_384
"""Pixels that images which are joined are wide together, at most."""
EVERYTHING = "object"
"""The phrase that stands for whatever there is."""
NAMED, OFFERED = 4, 4
"""Phrases of discrete mode that the question names, and that its options are."""
_OPTION = re.compile(r"\([A-Z]\) (?:(?:an?|the) )?(.+)", re.IGNORECASE)
_SAID = frozenset(
    """
    a all an and answer any are as at be been being besides but by can could count did do does each every find
    for from had has have how i if image images in into is it its lack lacks letter letters many me more most
    much number of on one only option or other others out photo photos picture pictures same show shown shows
    than that the their them there these they thing things this those to together two was were what when where
    which who whose with you
    """.split()
)
"""Words of questions that name nothing to look for."""


def question_phrases(query: str, vocabulary: Sequence[str]) -> tuple[str, ...]:
    r"""The phrases that discrete mode can use for a question.

    They are the question without its options; what it names, which is taken to be runs of words that are not words of
    asking, the longer runs first; the options without their articles; `EVERYTHING`; and the data set's vocabulary.
    Where there are too few of a sort, they are repeated.

    Args:
        query: a question, its options on lines of their own: ``(A) the hat``.
        vocabulary: of the data set.

    Returns:
        ``PHRASES`` of them.

    Example:
        >>> question_phrases("How many red hats are there?\nAnswer with a number.", ["hat", "cup"])[:3]
        ('How many red hats are there?', 'red hats', 'red hats')
        >>> question_phrases("Where is the cat?\n(A) on the bed\n(B) under it", ["cat"])
        ('Where is the cat?', 'cat', 'cat', 'cat', 'cat', 'on the bed', 'under it', 'on the bed', 'under it',
        'object', 'cat', 'cat', 'cat', 'cat', 'cat', 'cat')
    """
    first, *lines = [text for line in query.splitlines() if (text := line.strip())] or [query]
    offered = [option[1] for line in lines if (option := _OPTION.match(line))]
    runs = [list(run) for said, run in groupby(words(first), key=_SAID.__contains__) if not said]
    named = [" ".join(run) for run in sorted(runs, key=len, reverse=True)] or [first]
    rest = PHRASES - 2 - NAMED - OFFERED
    several = ((named, NAMED), (offered or named, OFFERED), ([EVERYTHING], 1), (list(vocabulary) or named, rest))
    chosen = (first, *(texts[i % len(texts)] for texts, count in several for i in range(count)))
    return tuple(phrase[:MAX_PHRASE] for phrase in chosen)


class QuestionsEnv(VisionToolEnv):
    """Questions with options, answered by asking specialists and experts (VipAct, arXiv 2410.16400).

    Args:
        specialists: whether there are specialised agents to ask (``Describe``).
        expert_tools: whether there are experts to ask (visual prompts, depth, similarity, detection, segmentation).
        joined: whether several images are shown as one, side by side.
        shuffle: a seed by which options are put into another order; None for the order of the data set.
        **keywords: as ``visenv.env.VisionToolEnv`` takes them; ``show_inputs=False`` leaves the agent without images.

    Raises:
        InvalidData: if tools are chosen and also switched off, or the seed is none.
    """

    job: ClassVar[str] = JOB
    own_experts: ClassVar[Mapping[str, ExpertsLike]] = dict.fromkeys(
        ("Describe", "EstimateDepth", "Embed", "FindVisualPrompts"), "sight"
    )

    def __init__(
        self,
        dataset: str | Dataset = "scenes",
        split: str = "train",
        difficulty: int = 1,
        *,
        toolset: str | Iterable[Tool | type] | None = None,
        reward: str | Reward = "answer",
        specialists: bool = True,
        expert_tools: bool = True,
        joined: bool = False,
        shuffle: int | None = None,
        **keywords: Any,
    ) -> None:
        if toolset is not None and not (specialists and expert_tools):
            raise InvalidData("Expected either `toolset` or the switches `specialists` and `expert_tools`, not both.")
        if shuffle is not None and (isinstance(shuffle, bool) or not isinstance(shuffle, int) or shuffle < 0):
            raise InvalidData(f"Expected shuffle to be a seed of at least 0, or None, but got {shuffle!r:.80}.")
        self.joined, self.shuffle = bool(joined), shuffle
        chosen: str | Iterable[Tool | type] = (
            (*(SPECIALISTS if specialists else ()), *(EXPERTS if expert_tools else ()), *LOOKING)
            if toolset is None
            else toolset
        )
        if keywords.get("dialect") == VipAct.name:
            # A block of this dialect may hold several calls.
            tools = tuple(make_toolset(chosen).values())
            chosen = (*tools, CallSeveral(tools))
        super().__init__(dataset, split, difficulty, toolset=chosen, reward=reward, **keywords)

    def seen(self, sample: Sample) -> Sample:
        """The sample with its options in the order of ``shuffle``, and its images joined into one if that is asked."""
        if self.joined and len(sample.images) > 1:
            sample = replace(sample, images=(side_by_side(sample.images),))
        return sample if self.shuffle is None else with_options_shuffled(sample, self.shuffle)

    def phrases_of(self, sample: Sample) -> tuple[str, ...]:
        """The question, what it names, its options, everything, and words of the data set."""
        return question_phrases(sample.query, self.dataset.vocabulary)

    def truth_source(self) -> Callable[[str], Sample]:
        """See ``VisionToolEnv.truth_source``."""
        return JoinedSource(self.dataset.find) if self.joined else super().truth_source()

    def answers_of(self, sample: Sample) -> tuple[str, ...]:
        """The letters of the options."""
        offered = sample.truth.choices if isinstance(sample.truth, AnswerTruth) else None
        return tuple(LETTERS[: len(offered)]) if offered else super().answers_of(sample)


@dataclass(frozen=True)
class JoinedSource:
    """Gives samples whose images are joined, with what the joined image shows, where that is known."""

    find: Callable[[str], Sample]
    """From an identifier to the sample with its images apart."""

    def __call__(self, sample_id: str) -> Sample:
        """The sample of an identifier."""
        sample = self.find(sample_id)
        if len(sample.images) == 1:
            return sample
        truth = sample.truth
        if isinstance(truth, AnswerTruth) and truth.contents is not None:
            height = max(image.shape[0] for image in sample.images)
            truth = replace(truth, contents=(joined_content(truth.contents, height, GAP),))
        return replace(sample, images=(side_by_side(sample.images),), truth=truth)


def with_options_shuffled(sample: Sample, seed: int) -> Sample:
    """A question with its options in an order that follows from a seed and the sample, the key kept right.

    Args:
        sample: a question with options; one that says no ``question`` in its metadata is left as it is.
        seed: of the order.
    """
    truth, question = sample.truth, sample.metadata.get("question")
    if not isinstance(truth, AnswerTruth) or not truth.choices or not isinstance(question, str):
        return sample
    # Questions of a pair keep one order, so that nothing but the images tells them apart.
    key = f"{sample.metadata.get('family')}/{truth.group}" if truth.group and sample.metadata.get("paired") else ""
    places = [
        int(place) for place in shuffled([str(i) for i in range(len(truth.choices))], key or sample.sample_id, seed)
    ]
    options = [truth.choices[place] for place in places]
    right = places.index(LETTERS.index(truth.answers[0]))
    answered = grouped(LETTERS[right], options, truth.group or "")
    return replace(sample, query=asked_with(question, options), truth=replace(answered, group=truth.group))


def side_by_side(images: Sequence[Pixels]) -> Pixels:
    """Images as one, from left to right, at the height of the tallest, with white between them.

    Where one is a thin strip, which would become as wide as it is flat, all are lower.

    Returns:
        (H, W, 3) uint8.
    """
    height = max(image.shape[0] for image in images)
    # What a pixel of height makes in width, over all of them.
    wide = sum(image.shape[1] / image.shape[0] for image in images)
    height = min(height, max(1, int(WIDEST / wide)))
    parts: list[Pixels] = []
    for image in images:
        width = max(1, round(image.shape[1] * height / image.shape[0]))
        if parts:
            parts.append(np.full((height, GAP, 3), 255, np.uint8))
        same = image.shape[0] == height
        parts.append(image if same else np.asarray(cv2.resize(image, (width, height)), np.uint8))
    return np.concatenate(parts, axis=1)
