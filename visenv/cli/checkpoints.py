"""``visenv score``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from visenv.cli.common import JSON, output, print_json, progress_output
from visenv.evaluation.checkpoints import PUBLISHED, score_checkpoints
from visenv.report.evaluation import interval_text


def score(
    results: list[Path] = typer.Argument(
        ..., metavar="CKPT...", help="Checkpoints of VisHarness's runner (*_ckpt.jsonl), in the order of writing."
    ),
    dataset: str | None = typer.Option(
        None,
        help="Where the truth is, as reasonseg:/data/ReasonSeg. (default: the lines, of runs on VisHarness's Parquet)",
        show_default=False,
    ),
    split: str = typer.Option("val", help="Of the data set."),
    family: str | None = typer.Option(
        None,
        help=f"The tasks: {', '.join(PUBLISHED)}. (default: those that the data set was made for)",
        show_default=False,
    ),
    manifest: Path | None = typer.Option(
        None,
        help="The samples that count, as the runner was given them (*_QA_*.json). (default: all)",
        show_default=False,
    ),
    json: bool = JSON,
) -> None:
    """Score predictions that VisHarness's own runner has made, by its published metrics.

    Samples without a result count as misses.
    """
    with _bar() as bar:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done)

        report = score_checkpoints(
            results, dataset=dataset, split=split, family=family, manifest=manifest, progress=show
        )
    if json:
        print_json(report)
    else:
        print_scores(output(), report)


def print_scores(console: Console, report: Mapping[str, Any]) -> None:
    """Print what checkpoints have scored, for people."""
    for task, part in report["tasks"].items():
        metrics = part["metrics"]
        table = Table("figure", "value", "95 %", "over", title=task, title_justify="left")
        for name, value in metrics.items():
            if not name.endswith(("_n", "_failed")):
                count, failed = metrics.get(f"{name}_n"), metrics.get(f"{name}_failed")
                over = "" if count is None else f"{count:.0f} samples, {failed:.0f} failed"
                table.add_row(name, f"{value:.4f}", interval_text(part["intervals"].get(name)), over)
        console.print(table)
        ends = ", ".join(f"{count} {how}" for how, count in part["ends"].items())
        console.print(f"{part['samples']} samples: {ends}.", highlight=False)
        if part["missing"]:
            console.print(f"{part['missing']} have no result, and count as misses.", style="yellow", highlight=False)
        for name, value in part["cost"].items():
            console.print(f"{name.replace('_', ' ')}: {value:.2f} a trajectory.", highlight=False)
    left = f"{report['results']} results"
    for name, words in (("replaced", "lines replaced by later ones"), ("unexpected", "results about nothing asked")):
        left += f", {report[name]} {words}" if report[name] else ""
    console.print(f"{left}.", highlight=False)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=progress_output(),
    )
