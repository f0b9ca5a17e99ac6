"""Rows of a trainer's data set: which samples they are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from visenv.env import VisionToolEnv
from visenv.errors import InvalidData
from visenv.types import Sample


def row_options(row: Mapping[str, Any]) -> dict[str, Any]:
    """The options of ``reset`` for the sample that a row names; none if it names none.

    Example:
        >>> row_options({"prompt": "…", "sample_id": None, "index": 3})
        {'index': 3}
    """
    for name in ("sample_id", "index"):
        if row.get(name) is not None:
            return {name: row[name]}
    return {}


def row_seed(row: Mapping[str, Any]) -> int | None:
    """The seed that a row names; None if it names none.

    Raises:
        InvalidData: if it is no whole number of at least 0.

    Example:
        >>> row_seed({"seed": 3}), row_seed({})
        (3, None)
    """
    seed = row.get("seed")
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise InvalidData(f"Expected a seed of at least 0 in the row, but got {seed!r:.80}.")
    return int(seed)


def first_samples(env: VisionToolEnv, size: int | None) -> Iterator[Sample]:
    """The first samples of an environment's data set.

    Args:
        env: whose data set it is.
        size: how many; all of them if None.

    Raises:
        InvalidData: if the split has no end and ``size`` is None, or it has fewer samples.
    """
    dataset, whole = env.dataset, env.dataset.size
    if size is None and whole is None:
        raise InvalidData(f"Expected a size, since the split {dataset.split!r} of {dataset.name} never ends.")
    if size is not None and (size < 1 or (whole is not None and size > whole)):
        most = "samples" if whole is None else f"and at most {whole} samples"
        raise InvalidData(f"Expected at least 1 {most} of {dataset.name}, but got size={size}.")
    return (dataset.get(index) for index in range(size or whole or 0))
