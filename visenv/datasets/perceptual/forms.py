"""The sub-tasks of BLINK that are drawn: what each shows, asks, and takes for an answer.

The answer is decided first, and every option is as likely as the others, whatever is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from visenv.contents import ImageContent
from visenv.datasets.perceptual.marks import Mark, draw_marks
from visenv.datasets.perceptual.views import FARTHEST, NEAREST, PlainView, Standing, look_at_plain
from visenv.datasets.scenes.contents import Sketch
from visenv.datasets.scenes.kinds import COLOURS, KINDS
from visenv.datasets.scenes.language import pick
from visenv.datasets.scenes.render import RenderedScene
from visenv.datasets.several.forms import SOLID, Drawn, NoRoom, look_of, of_scenes, paint_things, shuffled
from visenv.types import FloatArray, Pixels

Thing = tuple[str, str]
"""Colour and kind."""

LETTERS = "ABCD"
_SIZES = ((44, 64), (38, 56), (36, 56), (32, 52))
"""Pixels of things, by difficulty."""
_THINGS = (3, 4, 6, 8)
"""How many things a picture shows besides those that are asked about, by difficulty."""
_RATIO = (2.2, 1.8, 1.5, 1.3)
"""How many times farther the farther of two points is, at least, by difficulty."""
_GROUNDS = ((118, 138, 92), (150, 134, 104), (126, 126, 130), (160, 148, 122))


# --- one picture --------------------------------------------------------------------------------------------------


def _counting(rng: np.random.Generator, difficulty: int) -> Drawn:
    low = int(rng.integers(0, 2 + 2 * difficulty))
    total = low + int(rng.integers(4))
    colour, kind = _different(rng, 1)[0]
    others = [thing for thing in _different(rng, _THINGS[difficulty] + 1) if thing != (colour, kind)]
    scene = paint(rng, difficulty, [(colour, kind)] * total + others[: _THINGS[difficulty]])
    question = f"How many {colour} {KINDS[kind].plural} are in the image?"
    options = shuffled(rng, [str(low + i) for i in range(4)])
    facts = {"sub_task": "Counting", "thing": f"{colour} {kind}"}
    return of_scenes([scene], question, str(total), options, facts)


def _depth(rng: np.random.Generator, difficulty: int) -> Drawn:
    nearer = float(np.exp(rng.uniform(np.log(NEAREST * 1.1), np.log(FARTHEST / _RATIO[difficulty]))))
    farther = float(rng.uniform(nearer * _RATIO[difficulty], min(FARTHEST, nearer * _RATIO[difficulty] * 1.6)))
    view, things = _plain(rng, difficulty, [nearer, farther])
    first = int(rng.integers(2))
    marked = [first, 1 - first]
    points = [view.middle(index) for index in marked]
    if None in points:
        raise NoRoom
    marks = [Mark("circle", letter, point or ()) for letter, point in zip(LETTERS, points, strict=False)]
    _apart(marks)
    right = LETTERS[marked.index(0)]
    question = (
        "Two points are circled in the image, labelled by A and B beside each circle. "
        "Which point is closer to the camera?"
    )
    facts = {"sub_task": "Relative_Depth", "distances": [round(things[index].z, 3) for index in marked]}
    options = shuffled(rng, ["A is closer", "B is closer"])
    shown = (draw_marks(view.image, marks),)
    return Drawn(
        shown, question, f"{right} is closer", options, facts, lambda: (_marked(_on_plain(view, things), marks),)
    )


_RELATIONS: dict[str, tuple[int, int]] = {
    "to the left of": (0, -1),
    "to the right of": (0, 1),
    "above": (1, -1),
    "below": (1, 1),
}
"""Along which axis, and in which direction."""


def _spatial(rng: np.random.Generator, difficulty: int) -> Drawn:
    one, other, *others = _different(rng, 2 + _THINGS[difficulty])
    scene = paint(rng, difficulty, [one, other, *others])
    places = [_place_of(scene, thing) for thing in (one, other)]
    relation = pick(rng, list(_RELATIONS))
    axis, sign = _RELATIONS[relation]
    gap = (places[0][axis] - places[1][axis]) * sign
    holds = bool(rng.integers(2))
    if abs(gap) < 24 or (gap > 0) != holds:
        raise NoRoom
    question = f"Is the {' '.join(one)} {relation} the {' '.join(other)}?"
    facts = {"sub_task": "Spatial_Relation", "things": [" ".join(one), " ".join(other)], "relation": relation}
    return of_scenes([scene], question, "yes" if holds else "no", ("yes", "no"), facts)


def _localization(rng: np.random.Generator, difficulty: int) -> Drawn:
    target, *others = _different(rng, 1 + _THINGS[difficulty])
    scene = paint(rng, difficulty, [target, *others])
    box = np.array(next(each.box for each in scene.scene.objects if (each.colour, each.kind) == target))
    height, width = scene.image.shape[:2]
    side = box[2:] - box[:2]
    shift = rng.uniform(0.25, 0.45, 2) * side * rng.choice([-1, 1], 2) * (1.0 - 0.12 * difficulty)
    grow = side * rng.uniform(-0.25, 0.25, 2)
    wrong = np.concatenate([box[:2] + shift - grow / 2, box[2:] + shift + grow / 2])
    if (wrong < 2).any() or (wrong[2:] > (width - 2, height - 2)).any():
        raise NoRoom
    right = LETTERS[int(rng.integers(2))]
    boxes = {right: box, "A" if right == "B" else "B": wrong}
    inks = {letter: ink for letter, ink in zip("AB", shuffled(rng, ["red", "blue"]), strict=True)}
    marks = [Mark("box", letter, tuple(boxes[letter].tolist()), inks[letter]) for letter in "AB"]
    question = (
        f"Two boxes, A and B, are drawn on the image. Which of them encloses the {' '.join(target)} more accurately?"
    )
    facts = {"sub_task": "Object_Localization", "thing": " ".join(target)}
    options = shuffled(rng, ["Box A", "Box B"])
    shown = (draw_marks(scene.image, marks),)
    return Drawn(shown, question, f"Box {right}", options, facts, lambda: (_marked(Sketch.of(scene), marks),))


# --- several pictures ---------------------------------------------------------------------------------------------


def _correspondence(rng: np.random.Generator, difficulty: int) -> Drawn:
    scene = paint(rng, difficulty, _different(rng, 4 + _THINGS[difficulty] // 2))
    height, width = scene.image.shape[:2]
    angle = float(rng.uniform(6, 12 + 8 * difficulty)) * (1 if rng.random() < 0.5 else -1)
    centre = (width / 2, height / 2)
    turn = np.asarray(cv2.getRotationMatrix2D(centre, angle, float(rng.uniform(0.8, 0.9))), np.float64)
    turn[:, 2] += rng.uniform(-0.04, 0.04, 2) * (width, height)
    moved = np.asarray(cv2.warpAffine(scene.image, turn, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)
    chosen = rng.permutation(len(scene.scene.objects))[:4].tolist()
    centres = np.array([_inside(scene, index) for index in chosen])
    seen = centres @ turn[:, :2].T + turn[:, 2]
    marks = [Mark("circle", letter, tuple(point)) for letter, point in zip(LETTERS, seen.tolist(), strict=True)]
    if (seen < 14).any() or (seen > (width - 14, height - 14)).any():
        raise NoRoom
    _apart(marks)
    right = int(rng.integers(4))
    asked = Mark("circle", "REF", tuple(centres[right].tolist()))
    question = (
        "A point is circled on the first image, labelled with REF. The second image shows the same things from another "
        "side, with four points circled. Which point corresponds to the reference point?"
    )
    options = shuffled(rng, [f"Point {letter}" for letter in LETTERS])
    return Drawn(
        (draw_marks(scene.image, [asked]), draw_marks(moved, marks)),
        question,
        f"Point {LETTERS[right]}",
        options,
        {"sub_task": "Visual_Correspondence", "points": np.round(seen, 1).tolist(), "angle": round(angle, 2)},
        lambda: (_marked(Sketch.of(scene), [asked]), _marked(Sketch.of(scene).warped(turn), marks)),
    )


def _similarity(rng: np.random.Generator, difficulty: int) -> Drawn:
    number = 3 + _THINGS[difficulty]
    things = _different(rng, number)
    sizes, seed = _sizes(rng, difficulty, number), int(rng.integers(2**32))
    few = 1
    many = max(few + 2, number - difficulty)
    order = rng.permutation(number).tolist()
    fresh = [thing for thing in _different(rng, 3 * number) if thing not in things]
    variants = []
    for changes in (few, many):
        changed = list(things)
        for place in order[:changes]:
            changed[place] = fresh.pop()
        variants.append(changed)
    # The same seed puts what stays the same at the same places, as far as the new things leave them free.
    scenes = [paint(np.random.default_rng(seed), difficulty, each, sizes) for each in (things, *variants)]
    right = int(rng.integers(2))
    shown = (scenes[0], *(scenes[1:] if right == 0 else scenes[:0:-1]))
    question = (
        "Take the first image as the reference. Which one of the latter two images is more similar to it: which "
        "shows more of the same things?"
    )
    names = ("the second image", "the third image")
    facts = {"sub_task": "Visual_Similarity", "changed": [few, many]}
    return of_scenes(shown, question, names[right], shuffled(rng, names), facts)


def _jigsaw(rng: np.random.Generator, difficulty: int) -> Drawn:
    scene = paint(rng, difficulty, _different(rng, 4 + _THINGS[difficulty]))
    height, width = scene.image.shape[:2]
    top, left = height // 2, width // 2
    missing = scene.image[top:, left:]
    covered = scene.owners > 0
    # Things must cross the cut, or nothing but the ground would say what belongs there.
    owners = scene.owners
    crossing = set(np.unique(owners[top - 1, left:])) & set(np.unique(owners[top, left:]))
    crossing |= set(np.unique(owners[top:, left - 1])) & set(np.unique(owners[top:, left]))
    if not crossing - {0} or not covered[top:, left:].any():
        raise NoRoom
    other = ((0, 0), (0, left), (top, 0))[int(rng.integers(3))]
    wrong = scene.image[other[0] : other[0] + height - top, other[1] : other[1] + width - left]
    if _seam(scene.image, wrong, top, left) < 2.0 * _seam(scene.image, missing, top, left) + 1.0:
        raise NoRoom
    torn = scene.image.copy()
    torn[top:, left:] = 0
    right = int(rng.integers(2))
    names = ("the second image", "the third image")
    question = (
        "The lower right corner of the first image is missing. Which one of the second and the third image is the "
        "missing part?"
    )
    parts = [missing.copy(), wrong.copy()]
    corner = (left, top, width, height)
    places = [corner, (other[1], other[0], other[1] + width - left, other[0] + height - top)]
    if right == 1:
        parts, places = parts[::-1], places[::-1]

    def contents() -> tuple[ImageContent, ...]:
        sketch = Sketch.of(scene)
        return sketch.without(corner).content(), *(sketch.part(place).content() for place in places)

    return Drawn((torn, *parts), question, names[right], shuffled(rng, names), {"sub_task": "Jigsaw"}, contents)


def _multi_view(rng: np.random.Generator, difficulty: int) -> Drawn:
    step = float(rng.uniform(0.10, 0.16)) - 0.02 * difficulty
    right = bool(rng.integers(2))
    state = int(rng.integers(2**32))
    distances = [1.3, 2.6]
    before, things = _plain(np.random.default_rng(state), difficulty, distances)
    after, _ = _plain(np.random.default_rng(state), difficulty, distances, camera=step if right else -step)
    question = (
        "The first image is from the beginning of a video, the second from its end. In which direction did the camera "
        "move?"
    )
    facts = {"sub_task": "Multi-view_Reasoning", "step": round(step, 3)}
    options = shuffled(rng, ["left", "right"])
    return Drawn(
        (before.image, after.image),
        question,
        "right" if right else "left",
        options,
        facts,
        lambda: tuple(_on_plain(view, things).content() for view in (before, after)),
    )


FORMS: dict[str, Callable[[np.random.Generator, int], Drawn]] = {
    "Counting": _counting,
    "Relative_Depth": _depth,
    "Spatial_Relation": _spatial,
    "Visual_Correspondence": _correspondence,
    "Visual_Similarity": _similarity,
    "Jigsaw": _jigsaw,
    "Multi-view_Reasoning": _multi_view,
    "Object_Localization": _localization,
}
"""By the name of the sub-task."""


# --- parts --------------------------------------------------------------------------------------------------------


def paint(
    rng: np.random.Generator, difficulty: int, things: Sequence[Thing], sizes: Sequence[int] | None = None
) -> RenderedScene:
    """A picture of certain things.

    Raises:
        NoRoom: if they did not all find room.
    """
    chosen = _sizes(rng, difficulty, len(things)) if sizes is None else sizes
    return paint_things(rng, look_of(difficulty), things, chosen)


def _plain(
    rng: np.random.Generator, difficulty: int, distances: Sequence[float], camera: float = 0.0
) -> tuple[PlainView, list[Standing]]:
    """A plain with things at certain distances, and some more; the same state draws the same things."""
    number = len(distances) + _THINGS[difficulty] // 2
    further = rng.uniform(NEAREST * 1.1, FARTHEST, number - len(distances)).tolist()
    things = []
    for (colour, kind), z in zip(_different(rng, number), [*distances, *further], strict=True):
        x = float(rng.uniform(-0.38, 0.38)) * z
        things.append(Standing(kind, colour, x, z, float(rng.uniform(0.26, 0.34))))
    ground = _GROUNDS[int(rng.integers(len(_GROUNDS)))]
    return look_at_plain(things, camera, look_of(difficulty), ground, rng), things


def _marked(sketch: Sketch, marks: Sequence[Mark]) -> ImageContent:
    return sketch.content(mark.marked for mark in marks)


def _on_plain(view: PlainView, things: Sequence[Standing]) -> Sketch:
    return Sketch(view.owners, view.boxes, [(thing.kind, thing.colour, "plain") for thing in things])


def _different(rng: np.random.Generator, number: int) -> list[Thing]:
    every = [(colour, kind) for colour in COLOURS for kind in SOLID]
    return [every[i] for i in rng.permutation(len(every))[:number].tolist()]


def _sizes(rng: np.random.Generator, difficulty: int, number: int) -> list[int]:
    low, high = _SIZES[difficulty]
    return [int(size) for size in rng.integers(low, high, number, endpoint=True)]


def _place_of(scene: RenderedScene, thing: Thing) -> tuple[float, float]:
    return next(each.centre for each in scene.scene.objects if (each.colour, each.kind) == thing)


def _inside(scene: RenderedScene, index: int) -> tuple[float, float]:
    """A pixel of a thing that is well inside of it."""
    crop, (x, y) = scene.visible(index)
    depth = cv2.distanceTransform(
        cv2.copyMakeBorder(crop.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3
    )
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return x + float(column) - 1, y + float(row) - 1


def _apart(marks: Sequence[Mark], least: float = 34.0) -> None:
    """Refuse marks whose circles or letters would touch.

    Raises:
        NoRoom: if two of them are too near to each other.
    """
    points: FloatArray = np.array([mark.place for mark in marks])
    away = np.abs(points[:, None] - points[None])
    # Letters stand to the right or the left, so that marks need more room sideways.
    near = (away[..., 0] < least + 16) & (away[..., 1] < least - 6)
    if near.sum() > len(marks):
        raise NoRoom


def _seam(image: Pixels, part: Pixels, top: int, left: int) -> float:
    """How badly a part fits in the lower right corner: the mean step of the colour across the cut."""
    rows = np.abs(image[top - 1, left:].astype(float) - part[0].astype(float))
    columns = np.abs(image[top:, left - 1].astype(float) - part[:, 0].astype(float))
    return float(np.concatenate([rows, columns]).mean())
