"""Writing a prepared copy of a data set, as ``visenv.datasets.prepared`` reads it."""

from __future__ import annotations

import io
import json
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from visenv.datasets.base import Dataset
from visenv.datasets.prepared import FORMAT, MANIFEST
from visenv.datasets.tables import need_pyarrow
from visenv.errors import DatasetError, InvalidData
from visenv.images import RootPixels, to_png_bytes
from visenv.records import truth_record
from visenv.types import Pixels, Sample

ENCODINGS = ("jpeg", "png")
QUALITY = 95
PICTURES_A_GROUP = 16
SAMPLES_A_GROUP = 256
SHARD_BYTES = 256 * 2**20
"""Of pictures, after which a shard is closed."""


@dataclass
class Report:
    """What came of a conversion."""

    folder: Path
    samples: int = 0
    pictures: int = 0
    """Stored, one that several samples of a shard show counted once."""
    bytes: int = 0
    """Of pictures."""
    shards: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Samples that are broken, with what is wrong with them."""


def prepare(
    dataset: Dataset,
    folder: Path,
    *,
    source: str = "",
    encoding: str = "jpeg",
    quality: int = QUALITY,
    shard_bytes: int = SHARD_BYTES,
    threads: int = 2,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Report:
    """Write a prepared copy of a finite data set.

    Args:
        dataset: what to copy. One that has several texts for a picture has ``every_id``, the identifiers of all: each
            becomes a sample of its own.
        folder: to write to; it appears only once it is whole.
        source: what to say that it is a copy of.
        encoding: of the pictures: ``jpeg``, or ``png`` for the very pixels.
        quality: of JPEG, 1 to 100.
        shard_bytes: of pictures, after which a shard is closed.
        threads: that load samples.
        overwrite: whether to replace a copy that is there.
        progress: called with how many samples are done.

    Raises:
        InvalidData: if the data set does not end, or a value is out of range.
        DatasetError: if there is a copy already, or every sample is broken.
        MissingDependency: if pyarrow is not installed.
    """
    if dataset.size is None:
        raise InvalidData(f"The data set {dataset.name!r}, split {dataset.split!r}, does not end: it cannot be copied.")
    if encoding not in ENCODINGS or not 1 <= quality <= 100:
        raise InvalidData(f"Expected encoding jpeg or png and quality 1 to 100, but got {encoding!r}, {quality!r}.")
    if (folder / MANIFEST).exists() and not overwrite:
        raise DatasetError(f"There is a prepared copy in {str(folder)!r} already: choose another folder, or overwrite.")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    report = Report(folder)
    writer = _Writer(partial, encoding, quality, shard_bytes, report)
    for done, (name, found) in enumerate(_loaded(dataset, threads), 1):
        if isinstance(found, Sample):
            writer.add(found)
        else:
            report.left_out.append((name, str(found)))
        progress(done)
    writer.close()
    if not report.samples:
        raise DatasetError(f"Every sample of {dataset.name!r} is broken: {report.left_out[0][1]}")
    manifest = {
        "format": FORMAT,
        "source": source,
        "name": dataset.name,
        "split": dataset.split,
        "vocabulary": list(dataset.vocabulary),
        "shards": report.shards,
        "samples": report.samples,
        "encoding": encoding if encoding == "png" else f"jpeg, quality {quality}",
        "left_out": [{"sample": name, "error": error} for name, error in report.left_out],
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=2), encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)
    return report


def number_of_samples(dataset: Dataset) -> int:
    """How many samples a copy of a data set has, if none is broken."""
    return len(_wanted(dataset))


def _wanted(dataset: Dataset) -> Sequence[int | str]:
    """Every sample, by number or by name."""
    every = getattr(dataset, "every_id", None)
    return range(dataset.size or 0) if every is None else list(every())


def _loaded(dataset: Dataset, threads: int) -> Iterator[tuple[str, Sample | DatasetError]]:
    """Every sample in order, or what is wrong with it; a few are loaded ahead."""
    wanted = _wanted(dataset)

    def load(which: int | str) -> Sample | DatasetError:
        try:
            return dataset.find(which) if isinstance(which, str) else dataset.get(which)
        except DatasetError as error:
            return error

    waiting: deque[tuple[Any, Future[Sample | DatasetError]]] = deque()
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        for which in wanted:
            waiting.append((which, pool.submit(load, which)))
            if len(waiting) > 2 * threads:
                name, future = waiting.popleft()
                yield str(name), future.result()
        for name, future in waiting:
            yield str(name), future.result()


class _Writer:
    """Writes shards, one at a time."""

    def __init__(self, folder: Path, encoding: str, quality: int, shard_bytes: int, report: Report) -> None:
        self.folder, self.encoding, self.quality = folder, encoding, quality
        self.shard_bytes, self.report = shard_bytes, report
        self.samples: list[dict[str, Any]] = []
        self.pictures: list[bytes] = []
        self.places: dict[str, int] = {}
        self.size = 0

    def add(self, sample: Sample) -> None:
        pictures = [self._place(pixels) for pixels in sample.images]
        self.samples.append(
            {
                "sample_id": sample.sample_id,
                "query": sample.query,
                "task": sample.task,
                "truth": json.dumps(truth_record(sample.truth)),
                "metadata": json.dumps(dict(sample.metadata), ensure_ascii=False),
                "pictures": pictures,
            }
        )
        self.report.samples += 1
        if self.size >= self.shard_bytes:
            self.close()

    def close(self) -> None:
        """Write the shard at hand, if there is anything in it."""
        if not self.samples:
            return
        parquet = need_pyarrow()
        import pyarrow

        stem = f"{self.report.shards:05d}"
        pictures = pyarrow.table({"bytes": pyarrow.array(self.pictures, pyarrow.large_binary())})
        samples = pyarrow.Table.from_pylist(
            self.samples,
            pyarrow.schema(
                [(name, pyarrow.string()) for name in ("sample_id", "query", "task", "truth", "metadata")]
                + [("pictures", pyarrow.list_(pyarrow.int32()))]
            ),
        )
        # Pictures are compressed already.
        path = self.folder / f"{stem}.pictures.parquet"
        parquet.write_table(pictures, path, row_group_size=PICTURES_A_GROUP, compression="NONE", use_dictionary=False)
        parquet.write_table(samples, self.folder / f"{stem}.samples.parquet", row_group_size=SAMPLES_A_GROUP)
        self.report.shards += 1
        self.report.pictures += len(self.pictures)
        self.report.bytes += self.size
        self.samples, self.pictures, self.places, self.size = [], [], {}, 0

    def _place(self, pixels: Pixels) -> int:
        digest = RootPixels(pixels).digest
        if digest not in self.places:
            self.places[digest] = len(self.pictures)
            self.pictures.append(self._encode(pixels))
            self.size += len(self.pictures[-1])
        return self.places[digest]

    def _encode(self, pixels: Pixels) -> bytes:
        if self.encoding == "png":
            return to_png_bytes(pixels)
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=self.quality)
        return out.getvalue()
