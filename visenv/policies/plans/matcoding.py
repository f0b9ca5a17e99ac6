"""Mending pictures by rule: look at the grey levels, write the program that fits, recognise things, answer."""

from __future__ import annotations

import re

import cv2
import numpy as np

from visenv.datasets.damaged_scenes import POOL
from visenv.datasets.scenes.kinds import COLOURS, KINDS
from visenv.envs.mending import repair
from visenv.episode import Episode
from visenv.experts.classical.perception import Perception, perceive
from visenv.policies.base import Plan
from visenv.types import Answer, ImageTruth, Pixels, ToolCall

LEAST_WHITE, MOST_BLACK = 110, 145
"""Grey levels: what has nothing lighter is dark, what has nothing darker is overexposed."""
LEAST_NOISE = 9.0
"""Grey levels of noise from which on it is worth its loss of detail to take it away."""
LEAST_SHARPNESS = 0.34
"""How steep the steepest steps of a sharp picture are at least, in parts of all its range, a pixel."""
FRAME = 0.85
"""What is left of a framed picture is at most this much of its area."""
TURNS = {"": 0, "rotation90": 1, "rotation180": 2}
"""By how many quarters, counter-clockwise, a picture is turned back."""


def scripted(episode: Episode) -> Plan:
    """Say what is wrong, mend it, turn it as its things are recognised best, answer by what is recognised."""
    problems = diagnose(episode.workspace.root.pixels)
    yield ToolCall("NameProblems", {"problems": problems or ["none"]})
    if problems:
        yield _run(repair(problems))
    made = episode.workspace.made
    seen = _seen(made.pixels if made else episode.workspace.root.pixels)
    turn = max(seen, key=lambda name: _recognised(seen[name]))
    if turn:
        # From the damaged picture, since that is what a program of this dialect reads.
        yield _run(repair([*problems, turn]))
    yield Answer(answer(episode.query, seen[turn]))


def single(episode: Episode) -> Plan:
    """The answer at once, by what is recognised in the picture as it is."""
    yield Answer(answer(episode.query, perceive(episode.workspace.root.pixels)))


def oracle(episode: Episode) -> Plan:
    """What is wrong and what is right are read from the truth; the program is the one that is made for it."""
    truth = episode.truth
    if not isinstance(truth, ImageTruth):
        return
    yield ToolCall("NameProblems", {"problems": list(truth.damage) or ["none"]})
    if truth.damage:
        yield _run(repair(truth.damage))
    yield Answer(truth.answers[0] if truth.answers else "done")


def diagnose(pixels: Pixels) -> list[str]:
    """What is wrong with a picture, by its grey levels; which way up it is they do not say.

    Args:
        pixels: (H, W, 3) uint8.
    """
    found = []
    inner = _without_frame(pixels)
    if inner.shape[0] * inner.shape[1] < FRAME * pixels.shape[0] * pixels.shape[1]:
        found.append("crop")
        pixels = inner
    low, high = np.percentile(pixels, (0.2, 99.8))
    if high < LEAST_WHITE:
        found.append("dark")
    elif low > MOST_BLACK:
        found.append("overexposure")
    grey = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY).astype(np.float32)
    # Immerkaer's filter: what no smooth surface has; the median passes edges by.
    rest = cv2.filter2D(grey, -1, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32))
    if float(np.median(np.abs(rest))) / 0.6745 / 6 > LEAST_NOISE:
        found.append("noise")
        return found
    steps = np.concatenate([np.abs(np.diff(grey, axis=axis)).ravel() for axis in (0, 1)])
    if high > low and float(np.percentile(steps, 99.9)) / float(high - low) < LEAST_SHARPNESS:
        found.append("blur")
    return found


def answer(query: str, seen: Perception) -> str:
    """An answer to a question of the generated data, by what is recognised in a picture."""
    percepts = [(_kind(each.kinds), each) for each in seen.percepts]
    if not percepts:
        return "none"
    if "farthest to the left" in query:
        return min(percepts, key=lambda pair: pair[1].box[0] + pair[1].box[2])[0]
    many = re.search(r"How many (\w+) are there", query)
    if many:
        kind = next((name for name in POOL if KINDS[name].plural == many[1]), "")
        return str(max(1, sum(name == kind for name, _ in percepts)))
    asked = re.search(r"What colour is the (\w+)", query)
    kind = asked[1] if asked else ""
    best = max((each for _, each in percepts), key=lambda each: each.kinds.get(kind, 0.0))
    return max(COLOURS, key=lambda name: best.colours.get(name, 0.0))


def _run(code: str) -> ToolCall:
    return ToolCall("RunCode", {"code": code, "image": "img_0"})


def _kind(kinds: dict[str, float]) -> str:
    return max(POOL, key=lambda name: kinds.get(name, 0.0))


def _seen(pixels: Pixels) -> dict[str, Perception]:
    """What is recognised in a picture, by what would have to be wrong with it for it to be turned that way."""
    return {name: perceive(np.ascontiguousarray(np.rot90(pixels, turns))) for name, turns in TURNS.items()}


def _recognised(seen: Perception) -> float:
    """How surely things are recognised, all in all."""
    return sum(max((each.kinds.get(name, 0.0) for name in POOL), default=0.0) for each in seen.percepts)


def _without_frame(pixels: Pixels) -> Pixels:
    """What is left without an even frame, as the program ``crop`` cuts it."""
    corners = pixels[[0, 0, -1, -1], [0, -1, 0, -1]].astype(int).tolist()
    frame = max(corners, key=corners.count)
    rows, columns = np.nonzero((np.abs(pixels.astype(int) - frame) > 3).any(axis=2))
    if corners.count(frame) < 2 or not len(rows):
        return pixels
    return pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
