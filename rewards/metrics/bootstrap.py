"""Intervals of figures over samples: what they would be, had other samples been drawn."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from visenv.errors import InvalidData
from visenv.types import FloatArray

RESAMPLES = 1000
CONFIDENCE = 0.95
SEED = 0
_CELLS = 4_000_000
"""Weights that are held at once: 32 MB."""


def resampling_weights(samples: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[FloatArray]:
    """Draw as many samples as there are, with replacement, many times: how often each was drawn.

    The same arguments give the same draws, so that figures of the same samples can be compared draw by draw.

    Args:
        samples: N, at least 1.
        resamples: R, how many times.
        seed: of the draws.

    Yields:
        (r, N) float64 whole numbers, each row of which sums to N; R rows in all, a part at a time.

    Example:
        >>> [part.sum(axis=1).tolist() for part in resampling_weights(4, resamples=3)]
        [[4.0, 4.0, 4.0]]
    """
    if resamples < 1 or samples < 1:
        raise InvalidData(f"Expected at least 1 sample and 1 resample, but got {samples} and {resamples}.")
    chance = np.random.default_rng(seed)
    rows = max(1, _CELLS // samples)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = chance.integers(0, samples, (count, samples)) + samples * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * samples).reshape(count, samples).astype(np.float64)


def percentile_interval(values: FloatArray, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """The interval that holds the middle of some values.

    Args:
        values: (R,) figures of as many resamples; NaN where one was not defined.
        confidence: the share of values inside, between 0 and 1.

    Returns:
        Its ends; None where the figure was defined on none.

    Example:
        >>> percentile_interval(np.arange(101.0), 0.5)
        (25.0, 75.0)
    """
    if not 0.0 < confidence < 1.0:
        raise InvalidData(f"Expected argument `confidence` to be between 0 and 1, but got {confidence!r}.")
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    low, high = np.quantile(finite, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low), float(high)
