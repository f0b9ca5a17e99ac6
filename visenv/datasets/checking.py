"""Is a folder the whole data set, and is everything in it sound?"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from visenv.datasets.base import Dataset
from visenv.datasets.files import existing_folder
from visenv.datasets.making import find_entry, make_dataset
from visenv.datasets.paths import path_and_options
from visenv.datasets.prepared import copies
from visenv.datasets.published import Size, published
from visenv.datasets.refcoco import SPLIT_BY
from visenv.errors import DatasetError, VisenvError
from visenv.registration import Entry

_OWN_FAMILY = {
    **dict.fromkeys(("refcoco", "refcoco+", "refcocog"), "refseg"),
    **dict.fromkeys(("grefcoco", "visharness"), "grefseg"),
    **dict.fromkeys(("coco", "cocojson"), "densedet"),
}
_AT_ONCE = 64


@dataclass
class SplitReport:
    """What was found of one split."""

    split: str
    counts: dict[str, int] = field(default_factory=dict)
    """By what is counted; empty where the split cannot be opened."""
    published: dict[str, int] = field(default_factory=dict)
    """What the publication says, where it says anything."""
    source: str = ""
    """Where it says so."""
    error: str | None = None
    """Why the split cannot be opened."""
    looked_at: int = 0
    """Samples that were loaded."""
    broken: list[tuple[str, str]] = field(default_factory=list)
    """Samples that cannot be loaded, with what is wrong with them."""

    @property
    def differs(self) -> bool:
        """Whether a number is not the published one."""
        return any(self.counts.get(what) != count for what, count in self.published.items())

    @property
    def state(self) -> str:
        """``whole``, ``incomplete`` (a number differs), ``broken`` (a sample does), ``missing``, or ``sound``.

        ``sound`` is what no published number is known of.
        """
        if self.error is not None:
            return "missing"
        if self.broken:
            return "broken"
        if not self.published:
            return "sound"
        return "incomplete" if self.differs else "whole"


def own_family(entry: Entry, path: str | None) -> str:
    """The family of tasks that a data set was made for; of prepared copies, the first."""
    families: Sequence[str] = entry.options.get("families", ("reasonseg",))
    if entry.name == "prepared":
        return next((family for family, _ in copies(existing_folder(path, "prepared", "FAMILY/SPLIT"))), families[0])
    return _OWN_FAMILY.get(entry.name, families[0])


def splits_of(entry: Entry, path: str | None, family: str) -> tuple[str, ...]:
    """The splits that a data set may have."""
    if entry.name == "prepared":
        return tuple(
            split for found, split in copies(existing_folder(path, "prepared", "FAMILY/SPLIT")) if found == family
        )
    module = importlib.import_module(entry.entry_point.partition(":")[0])
    return tuple(getattr(module, "SPLITS", ("train", "val", "test")))


def check(
    value: str,
    *,
    family: str | None = None,
    splits: Sequence[str] | None = None,
    samples: int | None = None,
    threads: int = 2,
    progress: Callable[[str, int, int], None] = lambda split, done, total: None,
) -> Iterator[SplitReport]:
    """Open every split of a data set, count it, and load its samples.

    Args:
        value: a name with a path, as ``make_dataset`` takes it.
        family: of tasks; the one that it was made for if left out.
        splits: which; all that it may have if left out.
        samples: how many to load of each split, evenly spread; all if None.
        threads: that load them.
        progress: called with the split, how many samples are done, and how many there are.

    Yields:
        A report a split, as it is done.

    Raises:
        UnknownName: if there is no such data set.
    """
    entry, path = find_entry(value)
    by = path_and_options(path, entry.name)[1].get("by", SPLIT_BY.get(entry.name, ""))
    chosen = family or own_family(entry, path)
    known = splits or splits_of(entry, path, chosen)
    for split in known:
        size: Size | None = published(entry.name, by, split)
        if splits is None and size is None and any(published(entry.name, by, other) for other in known):
            continue  # This way of parting has no such split.
        report = SplitReport(split)
        if size is not None:
            report.published, report.source = dict(size.counts), size.source
        try:
            data = make_dataset(f"{entry.name}:{path}" if path else value, family=chosen, split=split, difficulty=1)
        except DatasetError as error:
            report.error = str(error)
        else:
            report.counts = dict(getattr(data, "counts", {"samples": data.size or 0}))
            _load(data, report, samples, threads, progress)
        yield report


def _load(
    data: Dataset, report: SplitReport, samples: int | None, threads: int, progress: Callable[[str, int, int], None]
) -> None:
    size = data.size or 0
    wanted = min(size, size if samples is None else samples)
    indices = np.unique(np.linspace(0, size - 1, wanted).astype(int)).tolist() if wanted else []
    waiting = iter(indices)
    progress(report.split, 0, len(indices))
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        while chunk := list(islice(waiting, _AT_ONCE)):
            for index, error in zip(chunk, pool.map(lambda each: _fault(data, each), chunk), strict=True):
                report.looked_at += 1
                if error is not None:
                    ids: Any = getattr(data, "sample_ids", None)
                    report.broken.append((f"{report.split}/{index}" if ids is None else ids[index], error))
            progress(report.split, report.looked_at, len(indices))


def _fault(data: Dataset, index: int) -> str | None:
    """What is wrong with a sample."""
    try:
        data.get(index)
    except VisenvError as error:
        return str(error)
    return None
