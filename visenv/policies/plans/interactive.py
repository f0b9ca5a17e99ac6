"""Interactive segmentation by rule: point at what is asked for, look closer at each, add one to the other, submit."""

from __future__ import annotations

from collections.abc import Generator

from visenv.episode import Episode
from visenv.policies.base import Plan
from visenv.policies.phrases import target_phrase
from visenv.policies.scripted import WIDE
from visenv.tools.arguments import MAX_POINTS
from visenv.types import MAX_PHRASE, Answer, ToolCall

NOTHING = Answer("There is nothing like that.")
CLOSE = 0.2
"""How far a region to zoom to reaches from its point, in parts of the picture's longer side."""
SPILT = 0.2
"""The part of the picture that one prompt may add; one that adds more has taken the background for an object."""

Point = tuple[float, float]


def scripted(episode: Episode) -> Plan:
    """A point at a time, each on a region that is zoomed to if the picture is wide; what spills over is left again.

    Where turns run short, what is left is added in one call, on the picture as it is.
    """
    points = yield from _pointed(episode)
    zooms = max(episode.workspace.root.size) > WIDE
    base: str | None = None
    while points:
        left = episode.config.max_turns - episode.turns
        needed = (2 if zooms else 1) + (len(points) > 1) + 1
        alone = left >= needed
        now, points = (points[:1], points[1:]) if alone else (points[:MAX_POINTS], [])
        name, at = "img_0", now
        if zooms and alone:
            yield _zoom(episode, now[0])
            name, at = _in_newest(episode, now[0])
        base = yield from _added(episode, base, name, at)
    yield ToolCall("SubmitCandidate", {"candidate": base}) if base else NOTHING


def single(episode: Episode) -> Plan:
    """One prompt, of all points that were found, submitted as it is."""
    points = yield from _pointed(episode)
    base = (yield from _added(episode, None, "img_0", points[:MAX_POINTS])) if points else None
    yield ToolCall("SubmitCandidate", {"candidate": base}) if base else NOTHING


def oracle(episode: Episode) -> Plan:
    """One point, then all others at once: with the experts ``oracle`` that is perfect."""
    points = yield from _pointed(episode)
    base: str | None = None
    for now in (points[:1], *(points[i : i + MAX_POINTS] for i in range(1, len(points), MAX_POINTS))):
        if now:
            base = yield from _added(episode, base, "img_0", now)
    yield ToolCall("SubmitCandidate", {"candidate": base}) if base else NOTHING


def _pointed(episode: Episode) -> Generator[ToolCall, None, list[Point]]:
    phrase = target_phrase(episode.query)[:MAX_PHRASE]
    yield ToolCall("PhraseToPoint", {"images": ["img_0"], "phrase": phrase})
    found = episode.workspace.points.get("img_0")
    return [] if found is None else [(x, y) for x, y in found.points.tolist()]


def _added(
    episode: Episode, base: str | None, image: str, points: list[Point]
) -> Generator[ToolCall, None, str | None]:
    """Segment, or add to a candidate; the candidate to go on with."""
    signed = [[x, y, 1] for x, y in points]
    if base is None:
        yield ToolCall("SegmentPoints", {"image": image, "points": signed})
    else:
        yield ToolCall("RefineCandidate", {"candidate": base, "image": image, "points": signed})
    candidates = episode.workspace.candidates
    newest = next(reversed(candidates), None)
    if newest is None or newest == base or _area(episode, newest) - _area(episode, base) > SPILT:
        return base
    return newest


def _area(episode: Episode, candidate: str | None) -> float:
    """The part of the picture that a candidate covers."""
    masks = None if candidate is None else episode.workspace.candidates[candidate].detections.masks
    width, height = episode.workspace.root.size
    return 0.0 if masks is None else float(masks.areas.sum()) / (width * height)


def _zoom(episode: Episode, point: Point) -> ToolCall:
    width, height = episode.workspace.root.size
    reach, (x, y) = CLOSE * max(width, height), point
    box = [max(0.0, x - reach), max(0.0, y - reach), min(width, x + reach), min(height, y + reach)]
    return ToolCall("ZoomRegion", {"image": "img_0", "box": box})


def _in_newest(episode: Episode, point: Point) -> tuple[str, list[Point]]:
    """The region that was zoomed to last, and a point of the picture in it; the picture, if zooming did not work."""
    turn = episode.transcript[-1]
    if turn.error is not None:
        return "img_0", [point]
    image = episode.workspace.images[turn.created[0]]
    x0, y0 = image.window[:2].tolist()
    return image.name, [(point[0] - x0, point[1] - y0)]
