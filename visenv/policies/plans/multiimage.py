"""Questions about several images by rule: look for what is named, or for everything, and compare."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import product

import cv2
import numpy as np

from visenv.envs.questions import EVERYTHING
from visenv.episode import Episode
from visenv.policies.base import Plan
from visenv.types import Answer, AnswerTruth, BoolArray, Detections, FloatArray, Pixels, ToolCall

_OPTION = re.compile(r"^\(([A-Z])\) (.+)$", re.MULTILINE)
_COUNTED = re.compile(r"(?:many|Count the) (\w+ \w+) (?:are there )?in all")
_NAMED = re.compile(r"(?:is the|the same) (\w+ \w+?)(?: the largest|\.)")
_IMAGE = re.compile(r"img_(\d+)")
NOTHING = Detections(np.zeros((0, 4)))
COLOUR, SHAPE = 30.0, 0.35
"""Distances in Lab, and between the logarithms of Hu moments, at which two things differ about as much."""


@dataclass(frozen=True, eq=False)
class Look:
    """What a thing looks like."""

    colour: FloatArray
    """(3,) median Lab."""
    shape: FloatArray
    """(3,) logarithms of the first Hu moments of its outline."""

    def unlike(self, other: Look) -> float:
        """How different two things are; under 1 for most that are of the same kind and colour."""
        colour = float(np.linalg.norm(self.colour - other.colour)) / COLOUR
        return colour + float(np.abs(self.shape - other.shape).mean()) / SHAPE


def scripted(episode: Episode) -> Plan:
    """One call on all images, or one for each option; the rest follows from counts, sizes, colours and outlines."""
    options = {text: letter for letter, text in _OPTION.findall(episode.query)}
    counted, named = _COUNTED.search(episode.query), _NAMED.search(episode.query)
    if counted is not None:
        found = yield from _found(episode, counted[1])
        answer = str(sum(len(each) for each in found))
    elif named is not None:
        found = yield from _found(episode, named[1])
        sizes = [float(_areas(each).max(initial=0)) for each in found]
        answer = max(options, key=lambda text: sizes[_places(text)[0]])
    elif not any(_places(text) for text in options):
        changes = {}
        for text in options:
            found = yield from _found(episode, text.removeprefix("the "))
            changes[text] = _change(episode, found[0])
        answer = max(options, key=lambda text: changes[text])
    else:
        found = yield from _everything(episode)
        looks = [_looks(episode.workspace.images[f"img_{i}"].pixels, each) for i, each in enumerate(found)]
        two = all(len(_places(text)) == 2 for text in options)
        scores = {text: _alike(looks, _places(text)) if two else _shared(looks, _places(text)[0]) for text in options}
        answer = min(options, key=lambda text: scores[text])
    yield Answer(options.get(answer, answer))


def single(episode: Episode) -> Plan:
    """The first option, or the number 3: what guessing comes to."""
    yield Answer(next((letter for letter, _ in _OPTION.findall(episode.query)), "3"))


def oracle(episode: Episode) -> Plan:
    """Look at the first image again, and give the true answer, which it reads from the sample."""
    truth = episode.truth
    assert isinstance(truth, AnswerTruth)
    width, height = episode.workspace.root.size
    yield ToolCall("Reflect", {"image": "img_0", "box": [0, 0, width, height]})
    yield Answer(truth.answers[0])


def _found(episode: Episode, phrase: str) -> Generator[ToolCall, None, list[Detections]]:
    """What an expert finds of a phrase on each input image."""
    names = _inputs(episode)
    yield ToolCall("PhraseToBoxMask", {"images": names, "phrase": phrase})
    return [episode.workspace.detections.get(name, NOTHING) for name in names]


def _everything(episode: Episode) -> Generator[ToolCall, None, list[Detections]]:
    """What stands out on each input image, whatever it is."""
    names = _inputs(episode)
    yield ToolCall("PhraseToPoint", {"images": names, "phrase": EVERYTHING})
    pointed = [name for name in names if name in episode.workspace.points]
    if pointed:
        yield ToolCall("PointToBoxMask", {"images": pointed, "mode": "confidence"})
    return [episode.workspace.detections.get(name, NOTHING) for name in names]


def _inputs(episode: Episode) -> list[str]:
    return [image.name for image in episode.workspace.images.values() if image.maker == "input"]


def _places(text: str) -> list[int]:
    """The numbers of the images that an option names."""
    return [int(number) for number in _IMAGE.findall(text)]


def _areas(found: Detections) -> FloatArray:
    return np.zeros(0) if found.masks is None else np.asarray(found.masks.areas, dtype=float)


def _change(episode: Episode, found: Detections) -> float:
    """How much the colour of the surest thing found on the first image changes to the second, at the same place."""
    if not len(found) or found.masks is None:
        return 0.0
    surest = int(np.argmax(found.scores))
    crop, (x, y) = np.asarray(found.masks.crops[surest]), found.masks.offsets[surest].tolist()
    first, second = (_lab(episode.workspace.images[name].pixels, crop, x, y) for name in ("img_0", "img_1"))
    return float(np.linalg.norm(np.median(first, axis=0) - np.median(second, axis=0)))


def _looks(pixels: Pixels, found: Detections) -> list[Look]:
    if found.masks is None:
        return []
    looks = []
    for crop, (x, y) in zip(found.masks.crops, found.masks.offsets.tolist(), strict=True):
        mask = np.asarray(crop)
        moments = cv2.HuMoments(cv2.moments(mask.astype(np.uint8), binaryImage=True)).ravel()[:3]
        shape = np.log10(np.abs(moments) + 1e-6)
        looks.append(Look(np.median(_lab(pixels, mask, x, y), axis=0), shape))
    return looks


def _lab(pixels: Pixels, mask: BoolArray, x: int, y: int) -> FloatArray:
    """(N, 3) Lab of the pixels of an image under a mask whose left top corner lies at x, y."""
    height, width = mask.shape
    window = np.ascontiguousarray(pixels[y : y + height, x : x + width])
    lab = cv2.cvtColor(window.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(lab[mask])


def _alike(looks: Sequence[Sequence[Look]], places: Sequence[int]) -> float:
    """How unlike the two things are that are most alike in two images."""
    first, second = (looks[place] for place in places)
    return min([one.unlike(other) for one, other in product(first, second)], default=np.inf)


def _shared(looks: Sequence[Sequence[Look]], lacking: int) -> float:
    """How unlike the things are that come nearest to being in all images but one."""
    others = [each for place, each in enumerate(looks) if place != lacking]
    if not all(others):
        return np.inf
    return min(max(min(thing.unlike(other) for other in each) for each in others[1:]) for thing in others[0])
