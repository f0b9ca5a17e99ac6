"""``visenv export`` and ``visenv synth``."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from visenv.cli import options as option
from visenv.cli.common import JSON, full_id, given, output, print_json, progress_bar
from visenv.cli.runs import INTERRUPTED
from visenv.errors import InvalidData
from visenv.export import Filters, export_run
from visenv.export.formats import FORMS
from visenv.export.judging import MAX_COUNT_ERROR, MIN_IOU
from visenv.export.writing import SHARD_ROWS

LISTED = ("kept", "dropped", "dropped_turns")
"""What of a manifest is too long to be printed."""


def export(
    run: Path = typer.Argument(..., metavar="RUN", help="A folder that `visenv rollout`, `eval` or `synth` wrote."),
    to: str = typer.Option("sft", "--to", help=f"Which form: {', '.join(FORMS)}."),
    out: Path | None = typer.Option(
        None, help="Folder to write. (default: RUN-FORM beside the run)", show_default=False, file_okay=False
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the training set that the folder holds."),
    min_iou: option.MinIou = MIN_IOU,
    max_count_error: option.MaxCountError = MAX_COUNT_ERROR,
    answered: option.Answered = False,
    min_reward: option.MinReward = None,
    faulty: option.Faulty = "drop",
    patch_budget: option.PatchBudget = None,
    per_sample: option.PerSample = None,
    mixed_only: option.MixedOnly = False,
    dialect: str | None = typer.Option(
        None,
        help="How turns are written. (default: as recorded; qwen3_vl of tool calls beside the text)",
        show_default=False,
    ),
    files: option.Files = None,
    shard_rows: int = typer.Option(SHARD_ROWS, "--shard-rows", min=1, help="Rows of a file."),
    dataset: str | None = typer.Option(
        None, help="Where samples come from now. (default: as in the run)", show_default=False
    ),
    experts: str | None = typer.Option(
        None, help="Who answers the tools now. (default: as in the run)", show_default=False
    ),
    env: list[str] = typer.Option(
        [], "--env", metavar="NAME=VALUE", help="Another keyword of the environment, where the run does not say it."
    ),
    env_id: str | None = typer.Option(
        None, metavar="ID", help="The environment, where the run does not say it.", show_default=False
    ),
    skip_changed: bool = typer.Option(
        False, "--skip-changed", help="Leave out episodes that come to something else when they are played again."
    ),
    json: bool = JSON,
) -> None:
    """Make a training set of a run: what is good enough, turn by turn, with the very pictures that each turn saw."""
    keywords = dict(map(_keyword, env)) | given(dataset=dataset, experts=experts)
    filters = Filters(min_iou, max_count_error, answered, min_reward, faulty, patch_budget, per_sample, mixed_only)
    folder = out or run.absolute().with_name(f"{run.absolute().name}-{to}")
    try:
        with progress_bar() as bar:
            manifest = export_run(
                run,
                folder,
                to=to,
                filters=filters,
                dialect=dialect,
                env_id=None if env_id is None else full_id(env_id),
                env=keywords,
                files=files,
                shard_rows=shard_rows,
                skip_changed=skip_changed,
                overwrite=overwrite,
                progress=shown(bar, f"{run} · {to}"),
            )
    except KeyboardInterrupt:
        typer.echo("Interrupted: nothing was written.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if json:
        print_json(brief(manifest))
    else:
        print_set(manifest)


def brief(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest without its long lists."""
    return {name: value for name, value in manifest.items() if name not in LISTED}


def shown(bar: Any, description: str) -> Callable[[int, int], None]:
    """What moves a bar."""
    task = bar.add_task(escape(description), total=None, score="")

    def show(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    return show


def print_set(manifest: dict[str, Any]) -> None:
    """Say what a training set holds, for people."""
    console = output()
    table = Table("", "kept", "dropped", "why", title="Training set", title_justify="left")
    for what, counts in manifest["counts"].items():
        why = ", ".join(f"{count} {reason}" for reason, count in manifest["why"].get(what, {}).items())
        table.add_row(what, str(counts["kept"]), str(counts["dropped"]), why)
    console.print(table)
    pictures = manifest["pictures"]
    console.print(
        f"{manifest['rows']} rows of {manifest['form']} in {len(manifest['files'])} files, "
        f"{pictures['number']} pictures ({pictures['bytes'] / 1e6:.1f} MB).",
        highlight=False,
    )
    console.print(f"Folder: {manifest['folder']}", soft_wrap=True, highlight=False, markup=False)


def _keyword(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise InvalidData(f"Expected --env NAME=VALUE, but got {text!r}.")
    try:
        return name.strip(), json_module.loads(value)
    except ValueError:
        return name.strip(), value
