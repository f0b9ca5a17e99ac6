"""From ``dataset="name"`` or ``dataset="name:path"`` to a data set."""

from __future__ import annotations

from visenv.datasets.base import Dataset
from visenv.errors import InvalidData
from visenv.registration import datasets


def make_dataset(value: str | Dataset, *, family: str, split: str, difficulty: int) -> Dataset:
    """A data set for a family of tasks.

    Args:
        value: a registered name, with what the data set needs after a colon (``"reasonseg:/data/ReasonSeg"``), or a
            data set, which is taken as it is.
        family: one of ``FAMILIES``.
        split: ``train``, ``val`` or ``test``.
        difficulty: 0 to 3; only generated data has one.

    Raises:
        UnknownName: if no data set has that name.
        DatasetError: if it has no such family or split, or cannot be read.
        InvalidData: if ``value`` is neither a name nor a data set.
    """
    if isinstance(value, str):
        name, _, path = value.partition(":")
        made: Dataset = datasets.load(name)(path=path or None, family=family, split=split, difficulty=difficulty)
        return made
    if isinstance(value, type) or not isinstance(value, Dataset):
        raise InvalidData(f"Expected dataset to be a name or a data set, but got {value!r:.80}.")
    return value
