"""What SAM 3 is asked in tests, and how near its answers are."""

import numpy as np

from visenv.capabilities import Prompt

TOLERANCE = 1e-3
"""Of boxes (in shares of the sides) and scores between one batch and another, in fp32."""


def points(*places, labels=None):
    return Prompt(points=np.array(places, float), labels=None if labels is None else np.array(labels))


def close(one, other, size):
    """Whether two results of one request agree."""
    if hasattr(one, "boxes"):
        sides = np.array([*size, *size])
        assert len(one) == len(other)
        np.testing.assert_allclose(one.boxes / sides, other.boxes / sides, atol=TOLERANCE)
        np.testing.assert_allclose(one.scores, other.scores, atol=TOLERANCE)
        pairs = [(one.masks, other.masks)]
    else:
        np.testing.assert_allclose(np.stack(one.scores), np.stack(other.scores), atol=TOLERANCE)
        pairs = list(zip(one.masks, other.masks, strict=True))
    for these, those in pairs:
        overlap = [float(a.iou(b)[0, 0]) if a.areas[0] + b.areas[0] else 1.0 for a, b in zip(these, those, strict=True)]
        assert min(overlap, default=1) > 0.98
