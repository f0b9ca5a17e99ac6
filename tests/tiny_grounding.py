"""Tiny models of every kind that finds what a phrase names, what they are asked, and how near answers are."""

import numpy as np
from tiny_models import florence2, grounding_dino, owlv2, view

from visenv.capabilities import GroundPhrase
from visenv.experts.grounding import GroundingExpert
from visenv.experts_checks import check_result

TOLERANCE = 1e-3
"""Of boxes (in shares of the sides) and scores between one batch and another, in fp32."""
ODD_SIZES = [(1, 1), (1, 300), (300, 1), (333, 7), (3, 3), (64, 48), (2000, 1)]
KINDS = ["grounding-dino", "mm-grounding-dino", "owlv2", "florence2"]
MAKERS = {"owlv2": owlv2, "florence2": florence2}


def saved(tmp_path_factory):
    """A tiny model of each kind: its folder."""
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = MAKERS[kind](folder) if kind in MAKERS else grounding_dino(folder, kind)
    return made


def all_found(folders):
    """An expert of each kind that leaves nothing out."""
    loose = {"score_threshold": 0.0, "text_threshold": 0.0, "nms_threshold": 1.0}
    return {kind: GroundingExpert(folder, **loose) for kind, folder in folders.items()}


def mixed():
    first, second, third = view(40, 30), view(25, 60), view(60, 45, seed=3)
    asked = [(first, "red cat"), (second, "a small dog"), (first, "car"), (third, "thing"), (second, "Blue. Circle?")]
    return [GroundPhrase(*each) for each in asked]


def close(one, other, size):
    """Whether two results of one request agree."""
    assert len(one) == len(other)
    np.testing.assert_allclose(one.scores, other.scores, atol=TOLERANCE)
    sides = np.array([*size, *size])
    np.testing.assert_allclose(one.boxes / sides, other.boxes / sides, atol=TOLERANCE)
    check_result(GroundPhrase(view(*size), ""), one)


def replace_output(outputs, **changes):
    for name, value in changes.items():
        outputs[name] = value
    return outputs
