"""``visenv data``: check a data set's folder, and prepare a copy of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from visenv.cli.common import JSON, Commands, output, print_json, progress_bar
from visenv.datasets.base import FAMILIES, Dataset
from visenv.datasets.checking import SplitReport, check, own_family, splits_of
from visenv.datasets.making import find_entry, make_dataset
from visenv.datasets.preparing import QUALITY, SHARD_BYTES, number_of_samples, prepare
from visenv.errors import DatasetError

data = typer.Typer(cls=Commands, no_args_is_help=True, help="Check a data set's folder, and prepare a copy of it.")

FAMILY = typer.Option(None, help=f"The tasks: {', '.join(FAMILIES)}. (default: those that the data set was made for)")
SPLITS = typer.Option(None, "--split", help="Which split; may be given several times. (default: all)")
_STATES = {
    "whole": "[green]whole[/]",
    "sound": "[green]sound[/]",
    "incomplete": "[yellow]incomplete[/]",
    "broken": "[red]broken[/]",
    "missing": "[red]missing[/]",
}


@data.command("check")
def check_folder(
    name: str = typer.Argument(..., metavar="NAME", help="A data set: see `visenv list`."),
    path: str = typer.Argument("", metavar="[PATH]", help="Its folder, with options as in refcoco:PATH?by=google."),
    family: str | None = FAMILY,
    split: list[str] = SPLITS,
    samples: int | None = typer.Option(None, min=0, help="Load so many samples of each split, evenly spread; or all."),
    show: int = typer.Option(10, min=0, help="How many broken samples of a split to list."),
    threads: int = typer.Option(2, min=1, help="How many load samples."),
    json: bool = JSON,
) -> None:
    """Count a data set's splits against the published numbers, load every sample, and list what is missing or broken.

    The exit code is 1 unless every split is there, as large as published, and sound.
    """
    value = f"{name}:{path}" if path else name
    reports: list[SplitReport] = []
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def show_progress(which: str, done: int, total: int) -> None:
            if which not in tasks:
                tasks[which] = bar.add_task(escape(f"{name} {which}"), total=total, score="")
            bar.update(tasks[which], completed=done)

        wanted = check(
            value, family=family, splits=split or None, samples=samples, threads=threads, progress=show_progress
        )
        reports.extend(wanted)
    good = all(report.state in ("whole", "sound") for report in reports)
    if json:
        print_json({"dataset": name, "path": path, "good": good, "splits": [_record(report) for report in reports]})
    else:
        _print_reports(reports, show)
    if not good:
        raise typer.Exit(1)


@data.command("convert")
def convert(
    source: str = typer.Argument(..., metavar="NAME:PATH", help="What to copy: a data set, as --dataset takes it."),
    out: Path = typer.Argument(..., metavar="DIR", file_okay=False, help="Folder to write FAMILY/SPLIT to."),
    family: str | None = FAMILY,
    split: list[str] = SPLITS,
    encoding: str = typer.Option("jpeg", help="Of pictures: jpeg, or png for the very pixels."),
    quality: int = typer.Option(QUALITY, min=1, max=100, help="Of JPEG."),
    shard_size: int = typer.Option(SHARD_BYTES // 2**20, min=1, help="Of a shard's pictures, in MiB."),
    threads: int = typer.Option(2, min=1, help="How many load samples."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a copy that is there."),
    json: bool = JSON,
) -> None:
    """Write a copy in shards of Parquet, pictures no larger than 1920x1080, to be read with --dataset prepared:DIR.

    Samples that are broken are left out and listed, and the exit code is 1.
    """
    entry, path = find_entry(source)
    chosen = family or own_family(entry, path)
    records: list[dict[str, Any]] = []
    with progress_bar() as bar:
        for each, made in _opened(source, chosen, split, splits_of(entry, path, chosen)):
            task = bar.add_task(escape(f"{source} {each}"), total=number_of_samples(made), score="")
            report = prepare(
                made,
                out / chosen / each,
                source=source,
                encoding=encoding,
                quality=quality,
                shard_bytes=shard_size * 2**20,
                threads=threads,
                overwrite=overwrite,
                progress=lambda done, task=task: bar.update(task, completed=done),  # type: ignore[misc]
            )
            records.append({"family": chosen, "split": each, **asdict(report), "folder": str(report.folder)})
    if json:
        print_json({"source": source, "out": str(out), "splits": records})
    else:
        _print_copies(records, out)
    if any(record["left_out"] for record in records):
        raise typer.Exit(1)


def _opened(source: str, family: str, wanted: list[str], known: Sequence[str]) -> Iterator[tuple[str, Dataset]]:
    """The splits asked for; or all that there are, of those that a data set may have.

    Raises:
        DatasetError: if one that is asked for cannot be opened, or none can.
    """
    missing: list[DatasetError] = []
    for split in wanted or known:
        try:
            made = make_dataset(source, family=family, split=split, difficulty=1)
        except DatasetError as error:
            missing.append(error)
            if wanted or len(missing) == len(known):
                raise
            continue
        yield split, made


def _record(report: SplitReport) -> dict[str, Any]:
    broken = [{"sample": name, "error": error} for name, error in report.broken]
    return {**asdict(report), "state": report.state, "broken": broken}


def _print_reports(reports: list[SplitReport], show: int) -> None:
    console = output()
    table = Table("split", "state", "found", "published", "looked at", "broken")
    for report in reports:
        found = ", ".join(f"{count:,} {what}" for what, count in report.counts.items())
        known = ", ".join(f"{count:,} {what}" for what, count in report.published.items())
        table.add_row(
            escape(report.split),
            _STATES[report.state],
            found or "–",
            known or "–",
            f"{report.looked_at:,}",
            f"{len(report.broken):,}",
        )
    console.print(table)
    for report in reports:
        if report.error is not None:
            console.print(f"{report.split}: {report.error}", markup=False, highlight=False)
        for name, error in report.broken[:show]:
            console.print(f"{name}: {error}", markup=False, highlight=False)
        if len(report.broken) > show:
            console.print(f"… and {len(report.broken) - show:,} more of {report.split}: --show lists more, --json all.")
    for source in dict.fromkeys(report.source for report in reports if report.source):
        console.print(f"Published numbers: {source}.", highlight=False)


def _print_copies(records: list[dict[str, Any]], out: Path) -> None:
    console = output()
    table = Table("split", "samples", "pictures", "MB", "shards", "left out")
    for record in records:
        table.add_row(
            escape(record["split"]),
            f"{record['samples']:,}",
            f"{record['pictures']:,}",
            f"{record['bytes'] / 1e6:.1f}",
            str(record["shards"]),
            f"{len(record['left_out']):,}",
        )
    console.print(table)
    for record in records:
        for name, error in record["left_out"][:10]:
            console.print(f"{name}: {error}", markup=False, highlight=False)
    console.print(f'Read it with dataset="prepared:{out}".', highlight=False, markup=False, soft_wrap=True)
