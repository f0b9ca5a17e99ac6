"""Finding every instance of a simple phrase: a noun, or a colour and a noun.

The grounder does not parse. It looks for the first noun it knows and for a colour right before it; relations, orders
and whatever else a phrase says pass it by, as they pass by an open-vocabulary detector.
"""

from __future__ import annotations

import numpy as np

from visenv.experts.classical.lexicon import COLOUR_WORDS, GENERIC, noun_at
from visenv.experts.classical.parser import words
from visenv.experts.classical.perception import Perception
from visenv.types import Detections

THRESHOLD = 0.4
"""Least score of a detection (as the published grounder's: VisHarness, arXiv 2605.29894)."""


def understand(phrase: str) -> tuple[tuple[str, ...], str | None]:
    """The kinds and the colour that the grounder reads in a phrase; no kinds means any object of the colour.

    Example:
        >>> understand("the red cars left of the house")
        (('car',), 'red')
        >>> understand("something that keeps the rain off")
        ((), None)
    """
    tokens = words(phrase)
    for index in range(len(tokens)):
        kinds, _ = noun_at(tokens, index)
        if kinds:
            before = tokens[index - 1] if index else ""
            return kinds, COLOUR_WORDS.get(before)
        if tokens[index] in COLOUR_WORDS and index + 1 < len(tokens) and tokens[index + 1] in GENERIC:
            return (), COLOUR_WORDS[tokens[index]]
    return (), None


def ground(perception: Perception, phrase: str) -> Detections:
    """Every perceived object that a simple phrase names, best first.

    The score is the probability that the object is of the kind, times that it is of the colour, if one is named.

    Args:
        perception: what is perceived in the view.
        phrase: a noun, or a colour and a noun; of anything longer, what the grounder can use.
    """
    kinds, colour = understand(phrase)
    height, width = perception.masks.shape
    scores = np.zeros(len(perception.percepts))
    if kinds or colour:
        for index, percept in enumerate(perception.percepts):
            kind_score = sum(percept.kinds.get(kind, 0.0) for kind in kinds) if kinds else sum(percept.kinds.values())
            scores[index] = kind_score * (percept.colours.get(colour, 0.0) if colour else 1.0)
    order = np.argsort(-scores, kind="stable")
    kept = order[scores[order] >= THRESHOLD]
    masks = perception.masks[kept]
    return Detections(masks.boxes, masks=masks, scores=np.clip(scores[kept], 0.0, 1.0))
