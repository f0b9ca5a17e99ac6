"""What the classical perception sees, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from visenv.experts.classical.perception import Percept, Perception
from visenv.experts.sight.marks import FoundMark

_LISTED = 20
"""Things that are named one by one."""


def named(percept: Percept) -> str:
    """The likeliest colour and kind of something seen; ``something`` where no kind is likely."""
    kind = max(percept.kinds, key=lambda name: percept.kinds[name], default="")
    colour = max(percept.colours, key=lambda name: percept.colours[name], default="")
    known = kind if kind and percept.kinds[kind] > 0.3 else "something"
    return f"{colour} {known}".strip() if known != "something" else f"something {colour}".strip()


def caption(perception: Perception, focus: str = "") -> str:
    """What is seen: how many of each, and where each is.

    Args:
        perception: of the view.
        focus: what to look at: where a word of it names something seen, that alone is described.
    """
    seen = _focused(perception, focus)
    if not seen:
        return "Nothing stands out."
    counts = Counter(name for name, _ in seen)
    summary = ", ".join(f"{count} x {name}" for name, count in counts.items())
    places = "; ".join(f"{name} at the {_where(percept, perception)}" for name, percept in seen[:_LISTED])
    return f"{len(seen)} things: {summary}. {places}."


def compare(views: Sequence[tuple[str, Perception]], focus: str = "") -> str:
    """What several views have in common, and what each has alone."""
    counts = [(name, Counter(thing for thing, _ in _focused(perception, focus))) for name, perception in views]
    common = counts[0][1]
    for _, other in counts[1:]:
        common = common & other
    lines = [f"In common: {_listing(common)}."]
    lines += [f"Only in {name}: {_listing(own - common)}." for name, own in counts]
    return " ".join(lines)


def describe_marks(marks: Sequence[FoundMark], perception: Perception) -> str:
    """Which marks there are, and what each is on."""
    if not marks:
        return "Nothing is marked."
    sentences = []
    for mark in marks:
        x, y = mark.point
        named_by = f" labelled {mark.letter}" if mark.letter else ""
        on = [percept for percept in perception.percepts if _holds(percept.box, x, y)]
        near = min(on, key=lambda percept: percept.area, default=None)
        what = f"on the {named(near)}" if near is not None else "on the ground"
        sentences.append(f"A {mark.ink} {mark.kind}{named_by} is {what}.")
    return " ".join(sentences)


def _focused(perception: Perception, focus: str) -> list[tuple[str, Percept]]:
    seen = [(named(percept), percept) for percept in perception.percepts]
    words = set(focus.lower().replace("?", " ").replace(",", " ").split())
    about = [(name, percept) for name, percept in seen if set(name.split()) & words - {"something"}]
    return about or seen


def _listing(counts: Counter[str]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in sorted(counts.items())) or "nothing"


def _where(percept: Percept, perception: Perception) -> str:
    height, width = perception.masks.shape
    x, y = (percept.box[0] + percept.box[2]) / 2 / width, (percept.box[1] + percept.box[3]) / 2 / height
    row = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else "middle"
    column = "left" if x < 1 / 3 else "right" if x > 2 / 3 else "centre"
    return f"{row} {column}"


def _holds(box: tuple[float, float, float, float], x: float, y: float) -> bool:
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]
