"""``visenv doctor`` and ``visenv bench``."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

import visenv
from visenv.cli.common import JSON, output, print_json, progress_output
from visenv.cli.examination import examine
from visenv.errors import InvalidData, UnknownName

_SIGNS = {"ok": "[green]ok[/]", "missing": "[dim]not there[/]", "problem": "[red]problem[/]"}


def doctor(json: bool = JSON) -> None:
    """Say which extras, devices and weights are there, and whether everything that visenv needs works."""
    findings = examine()
    problems = [finding for finding in findings if finding["status"] == "problem"]
    if json:
        print_json({"findings": findings, "healthy": not problems})
    else:
        table = Table("what", "state", "detail")
        for finding in findings:
            table.add_row(escape(finding["name"]), _SIGNS[finding["status"]], escape(finding["detail"]))
        output().print(table)
    if problems:
        raise typer.Exit(1)


def bench(
    names: list[str] = typer.Argument(None, metavar="[NAME]...", help="Which benchmarks; all if none is named."),
    quick: bool = typer.Option(False, "--quick", help="Smaller inputs, for a first look."),
    repeats: int = typer.Option(3, min=1, help="Runs of each, of which the shortest counts."),
    json: bool = JSON,
) -> None:
    """Run the benchmarks of a checkout, each beside what it is compared with."""
    available = _benchmarks()
    for name in names or []:
        if name not in available:
            raise UnknownName(f"Unknown benchmark {name!r}. Known: {', '.join(available)}.")
    rows: list[dict[str, Any]] = []
    console = progress_output()
    for name in names or available:
        console.print(f"{name} …", highlight=False)
        rows += importlib.import_module(f"benchmarks.bench_{name}").run(repeats=repeats, quick=quick)
    if json:
        print_json({"quick": quick, "repeats": repeats, "rows": rows})
        return
    table = Table("benchmark", "ours", "compared with", "takes", "times as much", "detail")
    for row in rows:
        ratio = row["ratio"]
        table.add_row(
            escape(row["benchmark"]),
            _amount(row, "ours"),
            escape(row["alternative"] or ""),
            _amount(row, "alternative"),
            "" if ratio is None else f"{ratio:.1f}",
            escape(row["detail"]),
        )
    output().print(table)


def _benchmarks() -> list[str]:
    """The names of the benchmarks, made importable.

    Raises:
        InvalidData: outside a checkout.
    """
    root = Path(visenv.__file__).resolve().parent.parent
    folder = root / "benchmarks"
    if not (root / "setup.cfg").is_file() or not folder.is_dir():
        raise InvalidData(
            "The benchmarks are no part of the installed package: "
            "clone the repository and run `python -m visenv bench` in it."
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))


def _amount(row: dict[str, Any], side: str) -> str:
    """What one side of a row takes: time, or memory."""
    if f"{side}_mb" in row:
        return f"{row[f'{side}_mb']:.3g} MB"
    seconds = row[f"{side}_s"]
    return "" if seconds is None else _duration(seconds)


def _duration(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
