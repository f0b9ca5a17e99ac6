"""Damaged pictures with questions: generated scenes, and any other data set's pictures."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from visenv.datasets.base import Dataset
from visenv.datasets.damage import DAMAGES, ROTATIONS, damage
from visenv.datasets.scenes.kinds import COLOURS, KINDS
from visenv.datasets.scenes.numbered import NumberedDataset
from visenv.datasets.scenes.profiles import Profile, profile
from visenv.datasets.scenes.render import RenderedScene, render_scene
from visenv.datasets.scenes.scene import Scene
from visenv.errors import DatasetError
from visenv.types import ImageTruth, Sample

FAMILY = "matcoding"
FIXED_SIZE = 500
"""Samples in ``val`` and in ``test``; ``train`` does not end."""
POOL = ("apple", "car", "fish", "house", "kite", "star", "tree", "umbrella")
"""The kinds that these scenes show."""
COUNTS = tuple(str(count) for count in range(1, 9))
"""How many there may be of what is to be counted."""
ASKED = (("colour",), ("colour", "count"), ("colour", "count", "leftmost"), ("colour", "count", "leftmost"))
"""What is asked about, by difficulty."""
MEND = "Put right what is wrong with the picture."
"""What is asked where there is no question."""

_ENTROPY = 0x3A7D
_ATTEMPTS = 200
_LEAST_VISIBLE = 0.9
_MARGIN = 12
"""Pixels by which what is farthest to the left lies farther than the next."""
_NOTHING_WRONG = 0.12
"""The share of pictures that are as they should be."""
_EASY = ("rotation90", "rotation180", "dark", "overexposure")


@dataclass(frozen=True)
class DamagedQuestion:
    """A question about a scene, and what was done to its picture."""

    text: str
    asked: str
    answer: str
    problems: tuple[str, ...]


class DamagedScenes(NumberedDataset):
    """Generated scenes whose pictures are damaged, with a question about each.

    A sample depends on its identifier and on nothing else. At difficulty 0 the damage is one of those that can be
    undone without loss, at 1 any one, at 2 and 3 one and a rotation, stronger at 3; one picture in eight or so is as it
    should be.

    Args:
        split: ``train``, ``val`` or ``test``; the three share no sample.
        difficulty: 0 to 3.

    Raises:
        DatasetError: for any other split or difficulty.

    Example:
        >>> sample = DamagedScenes("val", 1).get(0)
        >>> sample.query, sample.truth.answers, sample.truth.damage
        ('How many fish are there?', ('3',), ('crop',))
    """

    vocabulary = POOL

    def __init__(self, split: str, difficulty: int) -> None:
        super().__init__(FAMILY, split, difficulty)

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0.

        Raises:
            IndexError: for a negative number, or one that ``val`` and ``test`` do not have.
        """
        number = self._number(index)
        look = look_of(self.difficulty)
        for attempt in range(_ATTEMPTS):
            rng = self._stream(_ENTROPY, attempt, number)
            rendered = render_scene(rng, look)
            question = self._ask(rng, rendered.scene)
            if question is not None:
                return self._sample(number, rendered, question, rng)
        raise RuntimeError(f"No question was found for {self._prefix}{number} in {_ATTEMPTS} scenes.")

    def _sample(
        self, number: int, rendered: RenderedScene, question: DamagedQuestion, rng: np.random.Generator
    ) -> Sample:
        return Sample(
            sample_id=f"{self._prefix}{number}",
            images=(damage(rendered.image, question.problems, rng, self.difficulty),),
            query=question.text,
            truth=ImageTruth(rendered.image, question.problems, (question.answer,)),
            task="restoration",
            metadata={"family": FAMILY, "difficulty": self.difficulty, "asked": question.asked},
        )

    def _ask(self, rng: np.random.Generator, scene: Scene) -> DamagedQuestion | None:
        forms = ASKED[self.difficulty]
        asked = forms[int(rng.integers(len(forms)))]
        found = _FORMS[asked](rng, scene)
        if found is None:
            return None
        return DamagedQuestion(found[0], asked, found[1], draw_problems(rng, self.difficulty))


class DamagedPictures:
    """The pictures of another data set, damaged, without a question: they are to be mended.

    Args:
        dataset: whose pictures are taken; its queries and truths are not.
        difficulty: 0 to 3, as ``DamagedScenes``.

    Raises:
        DatasetError: for another difficulty.

    Example:
        >>> from visenv.datasets.scenes import ScenesDataset
        >>> pictures = DamagedPictures(ScenesDataset("refseg", "val", 1), difficulty=2)
        >>> sample = pictures.get(4)
        >>> sample.query, sample.truth.damage, pictures.find(sample.sample_id).truth.damage
        ('Put right what is wrong with the picture.', ('rotation90', 'blur'), ('rotation90', 'blur'))
    """

    def __init__(self, dataset: Dataset, difficulty: int = 1) -> None:
        if isinstance(difficulty, bool) or difficulty not in range(4):
            raise DatasetError(f"Expected a difficulty of 0, 1, 2 or 3, but got {difficulty!r}.")
        self.dataset, self.difficulty = dataset, difficulty
        self.name, self.split, self.vocabulary = dataset.name, dataset.split, dataset.vocabulary

    @property
    def size(self) -> int | None:
        """How many pictures there are."""
        return self.dataset.size

    def get(self, index: int) -> Sample:
        """The picture with that number, damaged."""
        return self._damaged(self.dataset.get(index))

    def find(self, sample_id: str) -> Sample:
        """The picture with that identifier, damaged."""
        return self._damaged(self.dataset.find(sample_id))

    def draw(self, rng: np.random.Generator) -> Sample:
        """A picture by chance, damaged."""
        return self._damaged(self.dataset.draw(rng))

    def _damaged(self, sample: Sample) -> Sample:
        # By its name, so that a sample is the same however it is asked for.
        seed = np.random.SeedSequence(_ENTROPY, spawn_key=(self.difficulty, *sample.sample_id.encode()))
        rng = np.random.default_rng(seed)
        problems = draw_problems(rng, self.difficulty)
        mended = ImageTruth(sample.image, problems)
        broken = damage(sample.image, problems, rng, self.difficulty)
        return replace(sample, images=(broken,), query=MEND, truth=mended, task="restoration")


def draw_problems(rng: np.random.Generator, difficulty: int) -> tuple[str, ...]:
    """What is done to a picture, in order; nothing to one in eight or so."""
    if rng.random() < _NOTHING_WRONG:
        return ()
    if difficulty < 2:
        names = _EASY if difficulty == 0 else DAMAGES
        return (names[int(rng.integers(len(names)))],)
    others = tuple(name for name in DAMAGES if name not in ROTATIONS)
    return ROTATIONS[int(rng.integers(2))], others[int(rng.integers(len(others)))]


def look_of(difficulty: int) -> Profile:
    """What the scenes look like before they are damaged: without noise or blur of their own."""
    look = profile("reasonseg", min(difficulty, 1))
    return replace(look, pool=POOL, noise=(0.0, 0.0), blur=(0.0, 0.0), container=0.0)


def _colour(rng: np.random.Generator, scene: Scene) -> tuple[str, str] | None:
    """The colour of the only one of its kind."""
    kinds = [thing.kind for thing in scene.objects]
    possible = [
        thing
        for thing in scene.objects
        if kinds.count(thing.kind) == 1 and thing.pattern == "plain" and thing.visible >= _LEAST_VISIBLE
    ]
    if not possible:
        return None
    thing = possible[int(rng.integers(len(possible)))]
    return f"What colour is the {thing.kind}?", thing.colour


def _count(rng: np.random.Generator, scene: Scene) -> tuple[str, str] | None:
    """How many there are of a kind, all of them well to be seen."""
    kinds = sorted({thing.kind for thing in scene.objects})
    kind = kinds[int(rng.integers(len(kinds)))]
    alike = [thing for thing in scene.objects if thing.kind == kind]
    if str(len(alike)) not in COUNTS or any(thing.visible < _LEAST_VISIBLE for thing in alike):
        return None
    return f"How many {KINDS[kind].plural} are there?", str(len(alike))


def _leftmost(rng: np.random.Generator, scene: Scene) -> tuple[str, str] | None:
    """The kind of what is farthest to the left, once the picture is the right way up."""
    order = sorted(scene.objects, key=lambda thing: thing.centre[0])
    if len(order) < 2 or order[1].centre[0] - order[0].centre[0] < _MARGIN or order[0].visible < _LEAST_VISIBLE:
        return None
    return "The right way up, what kind of thing is farthest to the left?", order[0].kind


_FORMS = {"colour": _colour, "count": _count, "leftmost": _leftmost}
ANSWERS: dict[str, tuple[str, ...]] = {"colour": tuple(COLOURS), "count": COUNTS, "leftmost": POOL}
"""What may be the answer, by what is asked."""


def make(*, split: str = "train", difficulty: int = 1) -> DamagedScenes:
    """The family ``matcoding`` of ``scenes``.

    Raises:
        DatasetError: for a split or difficulty that does not exist.
    """
    return DamagedScenes(split, difficulty)
