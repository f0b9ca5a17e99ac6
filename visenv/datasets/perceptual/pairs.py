"""Pairs of pictures that differ in one thing, and the question that tells them apart."""

from __future__ import annotations

import numpy as np

from visenv.datasets.perceptual.forms import paint
from visenv.datasets.scenes.kinds import COLOURS, KINDS
from visenv.datasets.scenes.language import article, pick
from visenv.datasets.several.forms import SOLID, Drawn, NoRoom, of_scenes, shuffled

_THINGS = (3, 5, 7, 9)
"""How many things a picture shows, by difficulty."""
_SIZES = ((44, 64), (38, 56), (36, 56), (32, 52))
DIFFERENCES = ("colour", "kind", "count", "place")
"""What a pair can differ in."""


def draw_pair(rng: np.random.Generator, difficulty: int) -> tuple[Drawn, Drawn]:
    """Two questions of the same words about two pictures, with different answers.

    Args:
        rng: the only source of chance.
        difficulty: 0 to 3.

    Raises:
        NoRoom: if the things did not find room.
    """
    number = _THINGS[difficulty]
    colours = [str(colour) for colour in rng.choice(list(COLOURS), number)]
    kinds = [SOLID[i] for i in rng.permutation(len(SOLID))[:number].tolist()]
    low, high = _SIZES[difficulty]
    # All of one size, so that what is changed takes the same room and the rest stays where it is.
    sizes, seed = [int(rng.integers(low, high))] * number, int(rng.integers(2**32))
    first = list(zip(colours, kinds, strict=True))
    second = list(first)
    colour, kind = first[0]
    difference = pick(rng, DIFFERENCES)
    if difference == "colour":
        other = pick(rng, [name for name in COLOURS if name != colour])
        second[0] = (other, kind)
        question, answers = f"What colour is the {kind}?", (colour, other)
    elif difference == "kind":
        other = pick(rng, [name for name in SOLID if name not in kinds])
        # A colour that nothing else has, so that the question means one thing.
        free = [name for name in COLOURS if name not in colours[1:]]
        if not free:
            raise NoRoom
        colour = pick(rng, free)
        first[0], second[0] = (colour, kind), (colour, other)
        one, another = (f"{article(each)} {each}" for each in (kind, other))
        question, answers = f"What is {colour} in the image?", (one, another)
    elif difference == "count":
        first[1] = (colour, kind)
        second = [*first]
        second[1] = (colours[1], kinds[1])
        question, answers = f"How many {colour} {KINDS[kind].plural} are there?", ("2", "1")
        if colours[1] == colour and kinds[1] == kind:
            raise NoRoom
    else:
        question = f"Is the {' '.join(first[0])} to the left or to the right of the {' '.join(first[1])}?"
        second[0], second[1] = first[1], first[0]
        answers = ("to the left", "to the right")
    scenes = [paint(np.random.default_rng(seed), difficulty, things, sizes) for things in (first, second)]
    if difference == "place":
        middles = []
        for scene in scenes:
            by_thing = {(each.colour, each.kind): each.centre[0] for each in scene.scene.objects}
            middles.append(by_thing[first[0]] - by_thing[first[1]])
        if min(abs(gap) for gap in middles) < 24 or middles[0] * middles[1] > 0:
            raise NoRoom
        answers = answers if middles[0] < 0 else answers[::-1]
    options = shuffled(rng, answers)
    facts = {"difference": difference}
    drawn = [
        of_scenes([scene], question, answer, options, facts) for scene, answer in zip(scenes, answers, strict=True)
    ]
    one, other_one = (drawn[i] for i in rng.permutation(2).tolist())
    return one, other_one
