"""The forms of questions about several pictures: what each draws, asks, and takes for an answer.

No picture alone gives an answer away: what is asked is decided first, and only then spread over the pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from visenv.contents import ImageContent
from visenv.datasets.scenes.contents import Sketch
from visenv.datasets.scenes.kinds import COLOURS, KINDS
from visenv.datasets.scenes.language import pick
from visenv.datasets.scenes.layout import Item
from visenv.datasets.scenes.profiles import Profile, profile
from visenv.datasets.scenes.render import RenderedScene, render_items
from visenv.types import Pixels

Thing = tuple[str, str]
"""Colour and kind."""

SOLID = tuple(kind.name for kind in KINDS.values() if not kind.hollow)
NUMBERS = "none one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen".split()
LARGER = 1.4
"""How many times larger one thing is than the same thing in the other pictures."""

_PICTURES: dict[str, tuple[int, int, int, int]] = {
    "changed": (2, 2, 2, 2),
    "same": (3, 3, 4, 5),
    "count": (2, 3, 4, 6),
    "larger": (2, 3, 4, 5),
    "odd": (3, 4, 6, 8),
}
"""How many there are, by difficulty."""
_OTHERS = (2, 3, 4, 5)
"""Further things in each picture, by difficulty."""
_MOST = (5, 8, 11, 15)
"""The greatest count, by difficulty."""
_LOOKS: tuple[dict[str, Any], ...] = (
    {"canvas": (256, 256), "size": (44, 64)},
    {"canvas": (256, 256), "size": (38, 56)},
    {"canvas": (320, 320), "size": (36, 56)},
    {"canvas": (320, 320), "size": (32, 52)},
)
OPTIONS = 4
"""The most that one can choose from."""


@dataclass(frozen=True)
class Drawn:
    """A question with its pictures."""

    images: tuple[Pixels, ...]
    question: str
    answer: str
    options: tuple[str, ...] = ()
    """What can be chosen from, the answer among them; none where a number is asked for."""
    facts: dict[str, Any] | None = None
    """What else is known about it, as JSON values."""
    contents: Callable[[], tuple[ImageContent, ...]] = tuple
    """Works out what each picture shows."""


class NoRoom(Exception):
    """The things did not all find room: try again."""


def look_of(difficulty: int) -> Profile:
    """What the pictures of a difficulty look like: as those of ReasonSeg, plain and apart."""
    look = profile("reasonseg", difficulty)
    return replace(look, container=0.0, overlapping=0.0, patterned=0.0, large=0.0, beside=0.0, **_LOOKS[difficulty])


def draw_form(rng: np.random.Generator, form: str, difficulty: int) -> Drawn:
    """A question of a form.

    Args:
        rng: the only source of chance.
        form: a name in ``FORMS``.
        difficulty: 0 to 3.

    Raises:
        NoRoom: if the things did not find room.
    """
    return FORMS[form](rng, difficulty)


# --- the forms ----------------------------------------------------------------------------------------------------


def _changed(rng: np.random.Generator, difficulty: int) -> Drawn:
    """Two pictures of the same things, one of which has another colour in the second."""
    kinds = _some(rng, SOLID, OPTIONS + _OTHERS[difficulty] - 2)
    colours = [str(colour) for colour in rng.choice(list(COLOURS), len(kinds))]
    things = list(zip(colours, kinds, strict=True))
    which = int(rng.integers(len(kinds)))
    other = pick(rng, [colour for colour in COLOURS if colour != colours[which]])
    sizes, seed = _sizes(rng, difficulty, len(things)), int(rng.integers(2**32))
    after = [(other, kind) if i == which else (colour, kind) for i, (colour, kind) in enumerate(things)]
    # The same seed gives the same places, since a colour takes none of the chance.
    scenes = [_paint(np.random.default_rng(seed), difficulty, these, sizes) for these in (things, after)]
    wrong = _some(rng, [kind for kind in kinds if kind != kinds[which]], OPTIONS - 1)
    options = shuffled(rng, [f"the {kind}" for kind in (kinds[which], *wrong)])
    question = pick(
        rng, ("Which thing has another colour in img_1 than in img_0?", "What changed its colour from img_0 to img_1?")
    )
    return of_scenes(scenes, question, f"the {kinds[which]}", options)


def _same(rng: np.random.Generator, difficulty: int) -> Drawn:
    """Several pictures, two of which show a thing of the same kind and colour; no other thing comes twice."""
    number, others = _PICTURES["same"][difficulty], _OTHERS[difficulty]
    shared, *rest = _things(rng, 1 + number * (others + 1))
    pairs = [(int(i), int(j)) for i, j in combinations(range(number), 2)]
    right = pairs[int(rng.integers(len(pairs)))]
    scenes = [[shared if i in right else rest.pop(), *(rest.pop() for _ in range(others))] for i in range(number)]
    wrong = [pair for pair in pairs if pair != right]
    chosen = [right, *(wrong[i] for i in rng.permutation(len(wrong))[: OPTIONS - 1].tolist())]
    options = shuffled(rng, [_pair(pair) for pair in chosen])
    question = pick(
        rng,
        (
            "Which two pictures show a thing of the same kind and the same colour?",
            "One thing, of the same kind and colour, is in two of the pictures. In which two?",
        ),
    )
    painted = [_paint(rng, difficulty, scene) for scene in scenes]
    return of_scenes(painted, question, _pair(right), options, {"thing": " ".join(shared)})


def _count(rng: np.random.Generator, difficulty: int) -> Drawn:
    """How many of a thing there are in all pictures together; the total is drawn first, then spread."""
    number, most = _PICTURES["count"][difficulty], _MOST[difficulty]
    total = int(rng.integers(1, most + 1))
    counts = np.bincount(rng.integers(number, size=total), minlength=number).tolist()
    (colour, kind), *rest = _things(rng, 1 + number * _OTHERS[difficulty])
    decoys = [thing for thing in rest if thing != (colour, kind)]
    scenes = [[(colour, kind)] * count + [decoys.pop() for _ in range(_OTHERS[difficulty])] for count in counts]
    plural = KINDS[kind].plural
    question = pick(
        rng,
        (
            f"How many {colour} {plural} are there in all the pictures together?",
            f"Count the {colour} {plural} in all the pictures: how many are there in sum?",
        ),
    )
    painted = [_paint(rng, difficulty, scene) for scene in scenes]
    return of_scenes(painted, question, str(total), (), {"thing": f"{colour} {kind}", "counts": counts})


def _larger(rng: np.random.Generator, difficulty: int) -> Drawn:
    """The same thing in every picture, seen from nearer in one of them."""
    number = _PICTURES["larger"][difficulty]
    (colour, kind), *rest = _things(rng, 1 + number * _OTHERS[difficulty])
    decoys = [thing for thing in rest if thing[1] != kind]
    low, high = _LOOKS[difficulty]["size"]
    usual = float(np.exp(rng.uniform(np.log(low * 0.8), np.log(high * 1.2))))
    right = int(rng.integers(number))
    painted = []
    for place in range(number):
        size = usual * (LARGER if place == right else float(rng.uniform(0.94, 1.0)))
        scene = [(colour, kind), *(decoys.pop() for _ in range(min(_OTHERS[difficulty], len(decoys))))]
        sizes = [round(size), *_sizes(rng, difficulty, len(scene) - 1)]
        painted.append(_paint(rng, difficulty, scene, sizes))
    wrong = [place for place in range(number) if place != right]
    chosen = [right, *(wrong[i] for i in rng.permutation(len(wrong))[: OPTIONS - 1].tolist())]
    options = tuple(f"img_{place}" for place in sorted(chosen))
    question = pick(
        rng,
        (
            f"In which of these pictures is the {colour} {kind} the largest?",
            f"All pictures show the same {colour} {kind}. In which one is it nearest to the camera?",
        ),
    )
    return of_scenes(painted, question, f"img_{right}", options, {"thing": f"{colour} {kind}"})


def _odd(rng: np.random.Generator, difficulty: int) -> Drawn:
    """One thing is in all pictures but one; nothing else is in two."""
    number, others = _PICTURES["odd"][difficulty], _OTHERS[difficulty] - 1
    common, *rest = _things(rng, 1 + number * (others + 1))
    right = int(rng.integers(number))
    scenes = [[rest.pop() if i == right else common, *(rest.pop() for _ in range(others))] for i in range(number)]
    wrong = [place for place in range(number) if place != right]
    chosen = [right, *(wrong[i] for i in rng.permutation(len(wrong))[: OPTIONS - 1].tolist())]
    options = tuple(f"img_{place}" for place in sorted(chosen))
    question = pick(
        rng,
        (
            "One thing, of the same kind and colour, is in all pictures but one. Which picture lacks it?",
            "Find the odd one: all other pictures have a thing of the same kind and colour in common.",
        ),
    )
    painted = [_paint(rng, difficulty, scene) for scene in scenes]
    return of_scenes(painted, question, f"img_{right}", options, {"thing": " ".join(common)})


FORMS: dict[str, Callable[[np.random.Generator, int], Drawn]] = {
    "changed": _changed,
    "same": _same,
    "count": _count,
    "larger": _larger,
    "odd": _odd,
}


# --- parts --------------------------------------------------------------------------------------------------------


def of_scenes(
    scenes: Sequence[RenderedScene],
    question: str,
    answer: str,
    options: tuple[str, ...] = (),
    facts: dict[str, Any] | None = None,
) -> Drawn:
    """A question about pictures that show scenes as they are.

    Args:
        scenes: one a picture.
        question: as in ``Drawn``, as the rest.
        answer: the right one.
        options: what can be chosen from.
        facts: what else is known.
    """
    return Drawn(
        tuple(scene.image for scene in scenes),
        question,
        answer,
        options,
        facts,
        lambda: tuple(Sketch.of(scene).content() for scene in scenes),
    )


def paint_things(
    rng: np.random.Generator, look: Profile, things: Sequence[Thing], sizes: Sequence[int]
) -> RenderedScene:
    """A picture of certain things, one beside the other.

    Args:
        rng: the only source of chance; the same state draws the same places, whatever the colours.
        look: what the picture is to look like otherwise.
        things: what to draw.
        sizes: the longer side of each, pixels.

    Raises:
        NoRoom: if they did not all find room.
    """
    items = [
        Item(kind, colour, "plain", size, float(rng.uniform(-1, 1) * look.rotation), "free")
        for (colour, kind), size in zip(things, sizes, strict=True)
    ]
    # The largest first, as it finds room least easily; what is where says nothing about what is asked.
    items.sort(key=lambda item: -item.size)
    rendered = render_items(rng, look, items)
    if len(rendered.scene.objects) != len(items):
        raise NoRoom
    return rendered


def shuffled(rng: np.random.Generator, options: Sequence[str]) -> tuple[str, ...]:
    """Options in an order by chance."""
    return tuple(options[i] for i in rng.permutation(len(options)).tolist())


def _paint(
    rng: np.random.Generator, difficulty: int, things: Sequence[Thing], sizes: Sequence[int] | None = None
) -> RenderedScene:
    look = look_of(difficulty)
    chosen = _sizes(rng, difficulty, len(things)) if sizes is None else sizes
    return paint_things(rng, look, things, chosen)


def _sizes(rng: np.random.Generator, difficulty: int, number: int) -> list[int]:
    low, high = _LOOKS[difficulty]["size"]
    return [int(size) for size in rng.integers(low, high, number, endpoint=True)]


def _things(rng: np.random.Generator, number: int) -> list[Thing]:
    """So many different things."""
    every = [(colour, kind) for colour in COLOURS for kind in SOLID]
    return [every[i] for i in rng.permutation(len(every))[:number].tolist()]


def _some(rng: np.random.Generator, choices: Sequence[str], number: int) -> list[str]:
    return [choices[i] for i in rng.permutation(len(choices))[:number].tolist()]


def _pair(places: tuple[int, int]) -> str:
    return f"img_{places[0]} and img_{places[1]}"
