"""Questions with options by rule: ask the experts for what the question needs, and compare."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence

import numpy as np

from visenv.episode import Episode
from visenv.policies.base import Plan
from visenv.types import Answer, AnswerTruth, Detections, FloatArray, ToolCall

_OPTION = re.compile(r"^\(([A-Z])\) (.+)$", re.MULTILINE)
_COUNT = re.compile(r"^How many (\w+ \w+) are")
_RELATION = re.compile(r"^Is the (\w+ \w+) (to the left of|to the right of|above|below) the (\w+ \w+)\?")
_SIDE = re.compile(r"^Is the (\w+ \w+) to the left or to the right of the (\w+ \w+)\?")
_FITS = re.compile(r"encloses the (\w+ \w+) more")
_COLOUR = re.compile(r"^What colour is the (\w+)\?")
_KIND = re.compile(r"^What is (\w+) in")
_SIMILAR = re.compile(r"(\w+) (-?\d\.\d+)")
_ORDINALS = {"second": 1, "third": 2}
_RELATIONS = {"to the left of": (0, -1), "to the right of": (0, 1), "above": (1, -1), "below": (1, 1)}
_STRIP = 16
"""Pixels of the strips beside a cut that are compared."""
_CROP = 22
"""Pixels around a marked point that are compared."""

Asking = Generator[ToolCall, None, str]
"""Calls tools, and returns the text of an option."""


def scripted(episode: Episode) -> Plan:
    """One to eight calls of experts, by the form of the question; the first option where the form is not known."""
    options = {text: letter for letter, text in _OPTION.findall(episode.query)}
    answer = next(iter(options), "")
    asking = _way(episode, list(options))
    if asking is not None:
        answer = yield from asking
    yield Answer(options.get(answer, next(iter(options.values()), "A")))


def single(episode: Episode) -> Plan:
    """The first option: what guessing comes to."""
    yield Answer(next((letter for letter, _ in _OPTION.findall(episode.query)), "A"))


def oracle(episode: Episode) -> Plan:
    """The true answer, which it reads from the sample."""
    truth = episode.truth
    yield Answer(truth.answers[0] if isinstance(truth, AnswerTruth) else "")


def _way(episode: Episode, options: Sequence[str]) -> Asking | None:
    """How a question is answered, by its form."""
    query, several = episode.query, "img_1" in episode.workspace.images
    if match := _COUNT.search(query):
        return _counted(episode, match[1], options)
    if match := _RELATION.search(query):
        return _related(episode, match[1], match[2], match[3])
    if match := _SIDE.search(query):
        return _sided(episode, match[1], match[2])
    if match := _FITS.search(query):
        return _fitting(episode, match[1])
    if match := _COLOUR.search(query):
        return _surest(episode, {option: f"{option} {match[1]}" for option in options})
    if match := _KIND.search(query):
        return _surest(episode, {option: f"{match[1]} {option.split()[-1]}" for option in options})
    if "closer to the camera" in query:
        return _nearer(episode)
    if "reference point" in query and several:
        return _corresponding(episode)
    if "reference" in query and several:
        return _alike(episode, options)
    if "missing" in query and several:
        return _missing(episode, options)
    return _moved(episode) if "camera move" in query and several else None


def _found(episode: Episode, phrase: str, image: str = "img_0") -> Generator[ToolCall, None, Detections]:
    yield ToolCall("PhraseToBoxMask", {"images": [image], "phrase": phrase})
    return episode.workspace.detections.get(image, Detections(np.zeros((0, 4))))


def _counted(episode: Episode, phrase: str, options: Sequence[str]) -> Asking:
    found = yield from _found(episode, phrase)
    numbers = [option for option in options if option.isdecimal()]
    return min(numbers, key=lambda option: abs(int(option) - len(found)), default="")


def _related(episode: Episode, one: str, relation: str, other: str) -> Asking:
    middles = []
    for phrase in (one, other):
        found = yield from _found(episode, phrase)
        middles.append(_middle(found))
    axis, sign = _RELATIONS[relation]
    return "yes" if (middles[0][axis] - middles[1][axis]) * sign > 0 else "no"


def _sided(episode: Episode, one: str, other: str) -> Asking:
    middles = []
    for phrase in (one, other):
        found = yield from _found(episode, phrase)
        middles.append(_middle(found)[0])
    return "to the left" if middles[0] < middles[1] else "to the right"


def _surest(episode: Episode, phrases: dict[str, str]) -> Asking:
    scores = {}
    for option, phrase in phrases.items():
        found = yield from _found(episode, phrase)
        scores[option] = float(found.scores.max(initial=0.0))
    return max(scores, key=lambda option: scores[option])


def _fitting(episode: Episode, phrase: str) -> Asking:
    yield ToolCall("VisualPromptDetector", {"image": "img_0"})
    marked = _marked(episode, "img_0")
    found = yield from _found(episode, phrase)
    if not len(found):
        return "Box A"
    right = found.boxes[int(np.argmax(found.scores))]
    overlaps = {letter: _iou(box, right) for letter, box in marked.items()}
    return f"Box {max(overlaps, key=lambda letter: overlaps[letter], default='A')}"


def _nearer(episode: Episode) -> Asking:
    yield ToolCall("VisualPromptDetector", {"image": "img_0"})
    marked = _marked(episode, "img_0")
    yield ToolCall("DepthEstimation", {"image": "img_0"})
    depth = episode.workspace.images.get("img_0_depth")
    if depth is None or not marked:
        return "A is closer"
    near = {letter: _brightness(depth.pixels, box) for letter, box in marked.items()}
    return f"{max(near, key=lambda letter: near[letter])} is closer"


def _corresponding(episode: Episode) -> Asking:
    for image in ("img_0", "img_1"):
        yield ToolCall("VisualPromptDetector", {"image": image})
    reference, marked = list(_marked(episode, "img_0").values()), _marked(episode, "img_1")
    if not reference or not marked:
        return "Point A"
    names: dict[str, str] = {}
    for image, letter, box in [("img_0", "REF", reference[0]), *(("img_1", *item) for item in marked.items())][:5]:
        yield _zoomed(episode, image, box)
        created = episode.transcript[-1].created
        if created:
            names[created[0]] = letter
    first = next(iter(names), "img_0")
    yield ToolCall("EmbeddingSimilarity", {"images": list(names)})
    return f"Point {names.get(_most_similar(episode, first), 'A')}"


def _alike(episode: Episode, options: Sequence[str]) -> Asking:
    yield ToolCall("EmbeddingSimilarity", {"images": ["img_0", "img_1", "img_2"]})
    return _ordinal(_most_similar(episode, "img_0"), options)


def _missing(episode: Episode, options: Sequence[str]) -> Asking:
    width, height = episode.workspace.root.size
    strip = [width // 2, height // 2 - _STRIP, width, height // 2]
    yield ToolCall("ZoomRegion", {"image": "img_0", "box": strip})
    names = {episode.transcript[-1].created[0] if episode.transcript[-1].created else "img_0": ""}
    for image in ("img_1", "img_2"):
        wide, tall = episode.workspace.images[image].size
        yield ToolCall("ZoomRegion", {"image": image, "box": [0, 0, wide, min(_STRIP, tall)]})
        if episode.transcript[-1].created:
            names[episode.transcript[-1].created[0]] = image
    yield ToolCall("EmbeddingSimilarity", {"images": list(names)})
    return _ordinal(names.get(_most_similar(episode, next(iter(names))), "img_1"), options)


def _moved(episode: Episode) -> Asking:
    """What is near moves most, against the camera."""
    images = ["img_0", "img_1"]
    yield ToolCall("PhraseToPoint", {"images": images, "phrase": "object"})
    points = [episode.workspace.points.get(image) for image in images]
    lowest = [found.points[int(np.argmax(found.points[:, 1]))] if found is not None else None for found in points]
    if lowest[0] is None or lowest[1] is None:
        return "left"
    return "left" if lowest[1][0] > lowest[0][0] else "right"


def _marked(episode: Episode, image: str) -> dict[str, FloatArray]:
    """The boxes of marks that were found on an image, by letter; one without a letter by its number."""
    found = episode.workspace.detections.get(image)
    if found is None or found.labels is None:
        return {}
    letters = [label.rpartition(" ")[2] or str(place) for place, label in enumerate(found.labels)]
    return {letter: box for letter, box in reversed(list(zip(letters, found.boxes, strict=True)))}


def _zoomed(episode: Episode, image: str, box: FloatArray) -> ToolCall:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    width, height = episode.workspace.images[image].size
    region = [max(0.0, x - _CROP), max(0.0, y - _CROP), min(width, x + _CROP), min(height, y + _CROP)]
    return ToolCall("ZoomRegion", {"image": image, "box": [float(side) for side in region]})


def _most_similar(episode: Episode, reference: str) -> str:
    """The image that the last reply says is the most like the reference."""
    said = episode.transcript[-1].reply.partition(":")[2]
    scores = {name: float(score) for name, score in _SIMILAR.findall(said)}
    return max(scores, key=lambda name: scores[name], default=reference)


def _ordinal(image: str, options: Sequence[str]) -> str:
    number = next((word for word, place in _ORDINALS.items() if image.startswith(f"img_{place}")), "second")
    return next((option for option in options if number in option), "")


def _middle(found: Detections) -> tuple[float, float]:
    if not len(found):
        return 0.0, 0.0
    x0, y0, x1, y1 = found.boxes[int(np.argmax(found.scores))].tolist()
    return (x0 + x1) / 2, (y0 + y1) / 2


def _brightness(pixels: FloatArray | np.ndarray, box: FloatArray) -> float:
    x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
    return float(pixels[min(max(y, 0), pixels.shape[0] - 1), min(max(x, 0), pixels.shape[1] - 1), 0])


def _iou(one: FloatArray, other: FloatArray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    common = float(np.prod(np.clip(high - low, 0, None)))
    areas = [float(np.prod(box[2:] - box[:2])) for box in (one, other)]
    return common / max(sum(areas) - common, 1e-9)
