"""Questions about something in a picture whose answers only the documents hold."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from visenv.datasets.lore.world import Thing, Town, things_of, world
from visenv.datasets.scenes.contents import Sketch
from visenv.datasets.scenes.kinds import COLOURS, KINDS, PATTERN_MIN_SIZE
from visenv.datasets.scenes.numbered import NumberedDataset
from visenv.datasets.scenes.profiles import Profile, profile
from visenv.datasets.scenes.render import RenderedScene, render_scene
from visenv.datasets.scenes.scene import Scene, SceneObject
from visenv.types import AnswerTruth, Sample

FAMILY = "matsearch"
FIXED_SIZE = 500
"""Samples in ``val`` and in ``test``; ``train`` does not end."""
FORMS: dict[str, tuple[str, int]] = {
    "town": ("Which town's flag shows {it}?", 1),
    "founder": ("Who founded the town whose flag shows {it}?", 2),
    "year": ("In which year was the town founded whose flag shows {it}?", 2),
    "birthplace": ("In which village was the person born who founded the town whose flag shows {it}?", 3),
    "teacher": ("Who taught the person who founded the town whose flag shows {it}?", 3),
}
"""What is asked, and how many documents have to be found for it."""
ASKED: tuple[tuple[str, ...], ...] = (
    ("town",),
    ("founder", "year"),
    ("birthplace", "teacher"),
    ("birthplace", "teacher"),
)
"""By difficulty; at 3 there are several of the kind, and it is said which one is meant."""
PLACES: dict[str, tuple[int, int]] = {"leftmost": (0, -1), "rightmost": (0, 1), "topmost": (1, -1), "lowest": (1, 1)}
"""The axis of the middle that decides, and its sign: the greatest one is meant."""

_ENTROPY = 0x3A7C
_ATTEMPTS = 400
_CLEAR = 1.15
"""How much larger than the least that bears a pattern a thing must be to be asked about."""
_LEAST_VISIBLE = 0.9
_MARGIN = 14
"""Pixels by which the one that is meant lies farther out than the next."""
_LOOKS: tuple[dict[str, Any], ...] = (
    {"count": (3, 5), "size": (50, 84), "kinds": (2, 4), "colours": (3, 5)},
    {"count": (4, 7), "size": (46, 72), "kinds": (3, 5), "colours": (3, 6)},
    {"count": (8, 14), "size": (46, 80), "kinds": (4, 7), "colours": (4, 8)},
    {"count": (8, 14), "size": (46, 80), "kinds": (3, 5), "colours": (4, 8)},
)


@dataclass(frozen=True)
class LoreQuestion:
    """A question, what it is about, and what the documents say."""

    text: str
    asked: str
    """A name in ``FORMS``."""
    target: int
    """Index into ``scene.objects`` of what it is about."""
    place: str | None
    """A name in ``PLACES``, where there are several of the kind."""
    town: Town

    @property
    def answer(self) -> str:
        """The only right one."""
        return answer_of(self.town, self.asked)


def answer_of(town: Town, asked: str) -> str:
    """What the documents say about a town.

    Args:
        town: that is asked about.
        asked: a name in ``FORMS``.
    """
    return town.name if asked == "town" else str(vars(town)[asked])


class LoreDataset(NumberedDataset):
    """Generated scenes with questions about an invented country, which only its documents answer.

    A sample depends on its identifier and on nothing else. No two splits ask about the same thing, so that nothing that
    was learned by heart in training answers a question of the others.

    Args:
        split: ``train``, ``val`` or ``test``; the three share no sample.
        difficulty: 0 to 3: one document to be found, two, three, and three about one of several alike.

    Raises:
        DatasetError: for any other split or difficulty.

    Example:
        >>> sample = LoreDataset("val", 1).get(0)
        >>> sample.query, sample.truth.answers
        ('In which year was the town founded whose flag shows the hat in the picture?', ('1690',))
    """

    vocabulary = (*(kind.name for kind in KINDS.values() if not kind.hollow), *COLOURS)

    def __init__(self, split: str, difficulty: int) -> None:
        super().__init__(FAMILY, split, difficulty)
        self._things = things_of(split)

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0.

        Raises:
            IndexError: for a negative number, or one that ``val`` and ``test`` do not have.
        """
        return self._sample(operator.index(index))

    def _told(self, number: int) -> Sample:
        return self._sample(number, told=True)

    def _sample(self, number: int, told: bool = False) -> Sample:
        rendered, question = self.explain(number)
        thing = question.town.thing
        return Sample(
            sample_id=f"{self._prefix}{number}",
            images=(rendered.image,),
            query=question.text,
            truth=AnswerTruth((question.answer,), contents=(Sketch.of(rendered).content(),) if told else None),
            task="question",
            metadata={
                "family": FAMILY,
                "difficulty": self.difficulty,
                "asked": question.asked,
                "documents": FORMS[question.asked][1],
                "thing": str(thing),
                "kind": thing.kind,
                "place": question.place,
                "box": list(rendered.scene.objects[question.target].box),
            },
        )

    def explain(self, index: int) -> tuple[RenderedScene, LoreQuestion]:
        """What the sample with that number is made of.

        Raises:
            IndexError: as ``get``.
        """
        number = self._number(index)
        look = look_of(self.difficulty)
        for attempt in range(_ATTEMPTS):
            rng = self._stream(_ENTROPY, attempt, number)
            rendered = render_scene(rng, look)
            question = self._ask(rng, rendered.scene)
            if question is not None:
                return rendered, question
        raise RuntimeError(f"No question was found for {self._prefix}{number} in {_ATTEMPTS} scenes.")

    def _ask(self, rng: np.random.Generator, scene: Scene) -> LoreQuestion | None:
        """A question about a scene; None where there is nothing to ask about."""
        possible = [
            (index, place)
            for index, thing in enumerate(scene.objects)
            if as_thing(thing) in self._things and _clear(thing)
            for place in self._places(scene, index)
        ]
        if not possible:
            return None
        target, place = possible[int(rng.integers(len(possible)))]
        asked = ASKED[self.difficulty][int(rng.integers(len(ASKED[self.difficulty])))]
        thing = scene.objects[target]
        words = f"the {place + ' ' if place else ''}{thing.kind} in the picture"
        return LoreQuestion(FORMS[asked][0].format(it=words), asked, target, place, world()[as_thing(thing)])

    def _places(self, scene: Scene, index: int) -> list[str | None]:
        """The ways of saying which object is meant; None alone where it is the only one of its kind."""
        alike = [i for i, thing in enumerate(scene.objects) if thing.kind == scene.objects[index].kind]
        if self.difficulty < 3:
            return [None] if len(alike) == 1 else []
        # What is said must matter: all of the kind looking the same, it would not.
        if len({as_thing(scene.objects[i]) for i in alike}) < 2 or not all(_clear(scene.objects[i]) for i in alike):
            return []
        return [
            place
            for place in PLACES
            if outermost([scene.objects[i].centre for i in alike], place) == alike.index(index)
        ]


def outermost(centres: Sequence[tuple[float, float]], place: str, margin: float = _MARGIN) -> int | None:
    """Which of several lies farthest out.

    Args:
        centres: (x, y) each.
        place: a name in ``PLACES``.
        margin: by how much, at least.

    Returns:
        Its number; None where two are about as far out.

    Example:
        >>> outermost([(10, 0), (90, 0), (50, 0)], "rightmost"), outermost([(10, 0), (90, 5)], "lowest")
        (1, None)
    """
    axis, sign = PLACES[place]
    order = sorted(range(len(centres)), key=lambda i: -sign * centres[i][axis])
    if len(order) > 1 and abs(centres[order[0]][axis] - centres[order[1]][axis]) < margin:
        return None
    return order[0]


def as_thing(seen: SceneObject) -> Thing:
    """An object of a scene, as flags show it."""
    return Thing(seen.kind, seen.colour, seen.pattern)


def _clear(seen: SceneObject) -> bool:
    """Whether its colour and its pattern can be told."""
    return seen.length >= _CLEAR * PATTERN_MIN_SIZE and seen.visible >= _LEAST_VISIBLE


def look_of(difficulty: int) -> Profile:
    """What the pictures of a difficulty look like: as those of ReasonSeg, with larger things and more patterns."""
    return replace(
        profile("reasonseg", difficulty),
        patterned=0.7,
        container=0.0,
        overlapping=0.0,
        large=0.0,
        **_LOOKS[difficulty],
    )


def make(*, split: str, difficulty: int) -> LoreDataset:
    """The family ``matsearch`` of the data set ``scenes``.

    Raises:
        DatasetError: for a split or a difficulty that does not exist.
    """
    return LoreDataset(split, difficulty)
