"""Choosing a query for a scene: programs are proposed until one is clear and means as many objects as wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from visenv.datasets.scenes.comparisons import Direction, Extreme, Nearest, Nth, Relation, RelationName, Side, Sized
from visenv.datasets.scenes.kinds import COLOURS, KINDS, PATTERNS
from visenv.datasets.scenes.language import CATEGORY, COUNT_EACH, COUNT_MANY, fill
from visenv.datasets.scenes.programs import Either, Indices, Program, Purpose, Select, Without
from visenv.datasets.scenes.scene import Scene, SceneObject

_ROUNDS = 14
_TRIES = 5
_MOST = 10_000


@dataclass(frozen=True)
class Question:
    """A query, what it means and what it is about."""

    program: Program
    text: str
    targets: Indices
    """Indices into ``scene.objects``, ascending."""


@dataclass(frozen=True)
class _About:
    """What a proposal starts from: one object of a scene, and how involved the query may be."""

    rng: np.random.Generator
    scene: Scene
    index: int
    difficulty: int

    @property
    def thing(self) -> SceneObject:
        return self.scene.objects[self.index]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def one_of(self, choices: tuple[Any, ...] | list[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]


_ATTRIBUTES = (
    ("kind",),
    ("colour", "kind"),
    ("colour", "kind"),
    ("colour",),
    ("pattern", "kind"),
    ("pattern", "colour", "kind"),
)


def _select(about: _About, simple: bool = False) -> Select:
    """The object's kind, or more or less than that."""
    thing = about.thing
    known = {"kind": thing.kind, "colour": thing.colour, "pattern": thing.pattern}
    number = 3 if simple or about.difficulty == 0 else len(_ATTRIBUTES)
    names: tuple[str, ...] = _ATTRIBUTES[int(about.rng.integers(number))]
    if thing.pattern == "plain" and all(t.pattern == "plain" for t in about.scene.objects if t.kind == thing.kind):
        names = tuple(name for name in names if name != "pattern")
    return Select(**{name: known[name] for name in names})


def _group(about: _About) -> Program:
    """Something the object belongs to together with others: its kind, its colour, or everything."""
    thing = about.thing
    choice = about.rng.random()
    if choice < 0.6:
        return Select(kind=thing.kind)
    if choice < 0.75:
        return Select(kind=thing.kind, colour=thing.colour)
    return Select(colour=thing.colour) if choice < 0.9 else Select()


def _purpose(about: _About) -> Program:
    return Purpose(about.thing.kind, about.thing.colour if about.chance(0.35) else None)


def _sized(about: _About) -> Program:
    return Sized(_group(about), about.one_of(("small", "large")))


def _side(about: _About) -> Program:
    axis = int(about.rng.integers(2))
    before = about.thing.centre[axis] < about.scene.size[axis] / 2
    sides: tuple[tuple[Direction, Direction], ...] = (("left", "right"), ("top", "bottom"))
    return Side(_group(about), sides[axis][0 if before else 1])


def _extreme(about: _About) -> Program:
    of = _side(about) if about.difficulty == 3 and about.chance(0.4) else _group(about)
    return Extreme(of, about.one_of(("largest", "largest", "smallest")))


def _nth(about: _About) -> Program | None:
    of = _group(about)
    side: Direction = about.one_of(("left", "right", "left", "right", "top", "bottom"))
    most = 1 if about.difficulty == 0 else 4
    for n in range(1, most + 1):
        program = Nth(of, n, side)
        if program.evaluate(about.scene) == (about.index,):
            return program
    return None


def _anchor(about: _About) -> tuple[int, Program] | None:
    """Another object, and a description that fits it alone."""
    other = int(about.rng.integers(len(about.scene.objects)))
    if other == about.index:
        return None
    there = _About(about.rng, about.scene, other, about.difficulty)
    proposals: list[Program] = [Select(kind=there.thing.kind), Select(kind=there.thing.kind, colour=there.thing.colour)]
    if about.difficulty >= 2 and about.chance(0.3):
        proposals = [Purpose(there.thing.kind)]
    elif about.difficulty == 3 and about.chance(0.4):
        proposals = [Extreme(Select(kind=there.thing.kind), "largest"), _nth(there) or proposals[0]]
    for proposal in proposals:
        if (
            proposal.evaluate(about.scene) == (other,)
            and proposal.is_clear(about.scene)
            and _matters(proposal, about.scene)
        ):
            return other, proposal
    return None


_RELATIONS: tuple[RelationName, ...] = (
    "left of",
    "right of",
    "above",
    "below",
    "next to",
    "inside",
)


def _relation(about: _About) -> Program | None:
    for _ in range(_TRIES):
        anchor = _anchor(about)
        if anchor is None:
            continue
        of: Program = Select() if about.chance(0.15) else _select(about)
        hollow = KINDS[about.scene.objects[anchor[0]].kind].hollow
        names = [name for name in _RELATIONS if hollow or name != "inside"]
        holding = [name for name in names if about.index in Relation(of, name, anchor[1]).evaluate(about.scene)]
        close = [name for name in holding if name in ("next to", "inside")]
        if holding and len(of.evaluate(about.scene)) > 1:
            return Relation(of, about.one_of(close if close and about.chance(0.5) else holding), anchor[1])
    return None


def _inside(about: _About) -> Program | None:
    """What is inside something hollow: said of a thing that is, or of everything that is."""
    for outer in about.scene.objects:
        if KINDS[outer.kind].hollow:
            of = about.one_of((Select(), Select(kind=about.thing.kind), Select(colour=about.thing.colour)))
            return Relation(of, "inside", Select(kind=outer.kind))
    return None


def _unrelated(about: _About) -> Program | None:
    """A relation that nothing needs to stand in."""
    anchor = _anchor(about)
    hollow = anchor is not None and KINDS[about.scene.objects[anchor[0]].kind].hollow
    names = [name for name in _RELATIONS if hollow or name != "inside"]
    return None if anchor is None else Relation(_select(about), about.one_of(names), anchor[1])


def _nearest(about: _About) -> Program | None:
    anchor = _anchor(about)
    return None if anchor is None else Nearest(_group(about), anchor[1])


def _without(about: _About) -> Program:
    thing, choice = about.thing, about.rng.random()
    if choice < 0.55:
        colours = [colour for colour in COLOURS if colour != thing.colour]
        return Without(Select(kind=thing.kind), Select(colour=about.one_of(colours)))
    if choice < 0.8:
        return Without(Select(kind=thing.kind), Select(pattern=about.one_of(PATTERNS[1:])))
    others = sorted({other.kind for other in about.scene.objects} - {thing.kind})
    return Without(Select(colour=thing.colour), Select(kind=about.one_of(others or list(KINDS))))


def _either(about: _About) -> Program | None:
    other = _About(about.rng, about.scene, int(about.rng.integers(len(about.scene.objects))), about.difficulty)
    first, second = _select(about, simple=True), _select(other, simple=True)
    return None if set(first.evaluate(about.scene)) & set(second.evaluate(about.scene)) else Either(first, second)


def _absent(about: _About) -> Program:
    """Something that may not be there: a kind in another colour, or another kind."""
    if about.chance(0.6):
        return Select(kind=about.thing.kind, colour=about.one_of(list(COLOURS)))
    return Select(kind=about.one_of(_UPRIGHT), colour=about.thing.colour if about.chance(0.5) else None)


def _absent_purpose(about: _About) -> Program:
    return Purpose(about.one_of(_UPRIGHT))


_UPRIGHT = [kind.name for kind in KINDS.values() if not kind.hollow]

_FORMS: dict[str, Callable[[_About], Program | None]] = {
    "select": _select, "purpose": _purpose, "sized": _sized, "side": _side, "extreme": _extreme, "nth": _nth,
    "relation": _relation, "nearest": _nearest, "without": _without, "either": _either, "inside": _inside,
    "absent": _absent, "absent purpose": _absent_purpose, "unrelated": _unrelated,
}  # fmt: skip

_Mixture = Mapping[str, float]

_REASONING: tuple[_Mixture, ...] = (
    {"select": 60, "purpose": 22, "nth": 10, "extreme": 8},
    {
        "select": 14, "purpose": 26, "relation": 18, "inside": 10, "nth": 10, "extreme": 6, "side": 6, "nearest": 4,
        "without": 4, "sized": 6,
    },
    {
        "select": 6, "purpose": 20, "relation": 30, "inside": 8, "nth": 10, "extreme": 6, "side": 4, "nearest": 6,
        "without": 4, "sized": 6,
    },
    {"purpose": 14, "relation": 42, "inside": 8, "nth": 10, "extreme": 10, "nearest": 8, "without": 4, "sized": 6},
)  # fmt: skip
_REFERRING: tuple[_Mixture, ...] = (
    {"select": 80, "nth": 10, "extreme": 10},
    {"select": 36, "relation": 20, "inside": 8, "nth": 12, "extreme": 10, "side": 6, "nearest": 4, "without": 4},
    {"select": 18, "relation": 34, "inside": 8, "nth": 14, "extreme": 10, "side": 4, "nearest": 6, "without": 6},
    {"select": 8, "relation": 44, "inside": 8, "nth": 14, "extreme": 10, "nearest": 10, "without": 6},
)
_SEVERAL: tuple[_Mixture, ...] = (
    {"select": 80, "either": 20},
    {"select": 42, "side": 16, "without": 16, "either": 12, "relation": 8, "sized": 6},
    {"select": 26, "side": 16, "without": 16, "either": 12, "relation": 22, "sized": 8},
    {"select": 14, "side": 18, "without": 18, "either": 12, "relation": 30, "sized": 8},
)
_NOTHING: tuple[_Mixture, ...] = (
    {"absent": 100},
    {"absent": 70, "unrelated": 30},
    {"absent": 55, "unrelated": 45},
    {"absent": 45, "unrelated": 55},
)


def ask(rng: np.random.Generator, scene: Scene, family: str, difficulty: int, null: bool) -> Question | None:
    """Find a query for a scene.

    Args:
        rng: the only source of chance.
        scene: what there is to ask about.
        family: one of ``visenv.datasets.base.FAMILIES``.
        difficulty: 0 to 3.
        null: whether the query has to be about nothing in the scene.

    Returns:
        The question, or None where none was found: draw another scene.
    """
    if not scene.objects:
        return None
    if family == "densedet":
        return _category(rng, scene)
    mixture, low, high = _wanted(rng, family, difficulty, null)
    many = high > 1 if not null else family != "reasonseg" and family != "refseg" and bool(rng.random() < 0.6)
    program = _search(rng, scene, difficulty, mixture, low, high)
    if program is None:
        return None
    targets = program.evaluate(scene)
    if family == "refcount":
        phrase = program.phrase(rng)
        text = fill(rng, COUNT_EACH if phrase.plural is None or rng.random() < 0.2 else COUNT_MANY, phrase)
    else:
        text = program.render(rng, many)
    return Question(program, text, targets)


def _wanted(rng: np.random.Generator, family: str, difficulty: int, null: bool) -> tuple[_Mixture, int, int]:
    """What kinds of programs to try, and the least and most objects they are to mean."""
    if null:
        purposes = {"absent purpose": 60.0} if family == "reasonseg" else {}
        return {**_NOTHING[difficulty], **purposes}, 0, 0
    if family == "refcount":
        return _SEVERAL[difficulty], 1 if rng.random() < 0.15 else 2, _MOST
    if family == "grefseg" and rng.random() < 0.6:
        return {**_SEVERAL[difficulty], "purpose": 8.0}, 2, _MOST
    return (_REASONING if family == "reasonseg" else _REFERRING)[difficulty], 1, 1


def _search(
    rng: np.random.Generator, scene: Scene, difficulty: int, mixture: _Mixture, low: int, high: int
) -> Program | None:
    names = list(mixture)
    weights = np.array([mixture[name] for name in names], dtype=np.float64)
    forms = np.searchsorted(weights.cumsum(), rng.random(_ROUNDS) * weights.sum(), side="right").tolist()
    for form in forms:
        for index in rng.integers(0, len(scene.objects), _TRIES).tolist():
            program = _FORMS[names[form]](_About(rng, scene, index, difficulty))
            if program is None or not low <= len(program.evaluate(scene)) <= high:
                continue
            if program.is_clear(scene) and _matters(program, scene):
                return program
    return None


def _matters(program: Program, scene: Scene) -> bool:
    """Whether what a program adds to the one it builds on leaves something out, and that one means anything at all."""
    of = getattr(program, "of", None)
    if of is None:
        return True
    return len(of.evaluate(scene)) > len(program.evaluate(scene)) and _matters(of, scene)


def _category(rng: np.random.Generator, scene: Scene) -> Question | None:
    """A kind, or a kind in one colour, of which there are at least five."""
    for index in rng.integers(0, len(scene.objects), _TRIES).tolist():
        thing = scene.objects[index]
        program = Select(kind=thing.kind, colour=thing.colour if rng.random() < 0.65 else None)
        targets = program.evaluate(scene)
        if len(targets) >= 5:
            return Question(program, fill(rng, CATEGORY, program.phrase(rng)), targets)
    return None
