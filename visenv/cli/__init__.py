"""The command line: ``visenv`` and ``python -m visenv``.

With ``--json``, standard output is one JSON document and nothing else; progress and errors go to standard error. A
mistake of the user's is one line and exit code 2.
"""

from __future__ import annotations

import typer

from visenv import __version__
from visenv.cli.checkpoints import score
from visenv.cli.common import Commands
from visenv.cli.data import data
from visenv.cli.evaluation import compare, evaluate
from visenv.cli.export import export
from visenv.cli.listing import describe, list_everything
from visenv.cli.machine import bench, doctor
from visenv.cli.runs import rollout, view
from visenv.cli.serving import serve
from visenv.cli.synthesis import synth
from visenv.cli.training import train

app = typer.Typer(
    cls=Commands,
    name="visenv",
    help="Segmentation, detection and counting as environments in which an agent calls vision experts.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"visenv {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
) -> None:
    """Segmentation, detection and counting as environments in which an agent calls vision experts."""


app.command("list")(list_everything)
app.command()(describe)
app.command()(rollout)
app.command()(train)
app.command("eval")(evaluate)
app.command()(score)
app.command()(compare)
app.command()(view)
app.command()(synth)
app.command()(export)
app.command()(serve)
app.add_typer(data, name="data")
app.command()(bench)
app.command()(doctor)


def main() -> None:
    """Run the command line."""
    app()
