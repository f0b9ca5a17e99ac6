"""From ``dataset="name"`` or ``dataset="name:path"`` to a data set, by names of one's own too.

A file ``datasets.json`` in ``~/.config/visenv`` (``$XDG_CONFIG_HOME/visenv``), or the one that ``$VISENV_DATASETS``
names, says which data sets lie where::

    {"refcoco": "/data/refer/refcoco", "our-cups": "cocojson:/data/cups?images=/nas/cups"}

After that ``dataset="refcoco"`` needs no path, and ``dataset="our-cups"`` is a data set. A registered name with a path
behind it is always taken literally.
"""

from __future__ import annotations

import os
from pathlib import Path

from visenv.datasets.base import Dataset
from visenv.datasets.files import MAX_ANNOTATION_BYTES, expect, read_json
from visenv.errors import DatasetError, InvalidData
from visenv.registration import Entry, datasets

PLACES_VARIABLE = "VISENV_DATASETS"


def make_dataset(value: str | Dataset, *, family: str, split: str, difficulty: int) -> Dataset:
    """A data set for a family of tasks.

    Args:
        value: a registered name, with what the data set needs after a colon (``"reasonseg:/data/ReasonSeg"``); a name
            of the user's own file of data sets; or a data set, which is taken as it is.
        family: one of ``FAMILIES`` or ``QUESTIONS``.
        split: ``train``, ``val`` or ``test``, or another that the data set has (``testA``).
        difficulty: 0 to 3; only generated data has one.

    Raises:
        UnknownName: if no data set has that name.
        DatasetError: if it has no such family or split, or cannot be read.
        InvalidData: if ``value`` is neither a name nor a data set.
    """
    if isinstance(value, str):
        entry, path = find_entry(value)
        made: Dataset = entry.load()(path=path, family=family, split=split, difficulty=difficulty)
        return made
    if isinstance(value, type) or not isinstance(value, Dataset):
        raise InvalidData(f"Expected dataset to be a name or a data set, but got {value!r:.80}.")
    return value


def find_entry(value: str) -> tuple[Entry, str | None]:
    """What a data set's name stands for: what is registered, and the path.

    Args:
        value: as ``make_dataset`` takes it.

    Raises:
        UnknownName: if neither registered nor in the user's file.
        DatasetError: if the user's file is broken.
    """
    name, _, path = value.partition(":")
    if not path:
        own = own_places()
        if name in own:
            known, _, place = own[name].partition(":")
            return datasets.entry(known), place or None
    return datasets.entry(name), path or None


def own_places() -> dict[str, str]:
    """The user's own names of data sets, and what they stand for, ``NAME:PATH``; nothing where there is no file.

    Raises:
        DatasetError: if the file is missing though ``$VISENV_DATASETS`` names it, or is broken.
    """
    named = os.environ.get(PLACES_VARIABLE)
    file = places_file()
    if not file.is_file():
        if named:
            raise DatasetError(f"There is no file {str(file)!r}, which ${PLACES_VARIABLE} names.")
        return {}
    places = expect(read_json(file, MAX_ANNOTATION_BYTES), dict, str(file))
    for name, place in places.items():
        expect(place, str, f"{name!r} of {str(file)!r}")
    return {name: _complete(name, place, file) for name, place in places.items()}


def places_file() -> Path:
    """Where the user's own names of data sets are looked for."""
    named = os.environ.get(PLACES_VARIABLE)
    if named:
        return Path(named).expanduser()
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "visenv" / "datasets.json"


def _complete(name: str, place: str, file: Path) -> str:
    """A place with its data set's name before it, and its path, if it is relative, after the file's folder."""
    known, colon, path = place.partition(":")
    if not colon and place in datasets and name not in datasets:
        return place
    if not colon or known not in datasets:
        # A path alone lies under the name of its data set.
        known, path = name, place
    if known not in datasets:
        raise DatasetError(
            f'Expected a data set\'s name before the path of {name!r} in {str(file)!r}, as in "cocojson:/data/cups", '
            f"but got {place!r}. Known: {', '.join(datasets.names())}."
        )
    return f"{known}:{path if not path or path.startswith('~') else file.parent / path}"
