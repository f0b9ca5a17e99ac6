"""What all commands share: where output goes, how mistakes are said, how an environment is made."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import typer
import typer.core
from rich.console import Console

from visenv.builtin import ENVIRONMENTS
from visenv.env import VisionToolEnv
from visenv.errors import InvalidData, UnknownName, VisenvError
from visenv.registration import Entry
from visenv.wrappers.recording import plain_json
from visenv.wrappers.text import vision_env

JSON = typer.Option(False, "--json", help="Print one JSON document, and nothing else, to standard output.")


class Commands(typer.core.TyperGroup):
    """Commands whose mistakes are one line on standard error and exit code 2, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except VisenvError as error:
            typer.echo(f"Error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from None


def output() -> Console:
    """Standard output, for people."""
    return Console()


def progress_output() -> Console:
    """Standard error, for what is said while something runs."""
    return Console(stderr=True)


def print_json(document: Mapping[str, Any]) -> None:
    """Print the one document of ``--json``."""
    typer.echo(plain_json(document, indent=2))


def known_id(name: str) -> str:
    """The registered id that somebody means; ``ReasonSeg-v0`` is enough for ``VisHarness/ReasonSeg-v0``.

    Raises:
        UnknownName: if there is none; the message offers the nearest.
    """
    if name in ENVIRONMENTS or name in gym.registry:
        return name
    short = {full.partition("/")[2].lower(): full for full in ENVIRONMENTS}
    if name.lower() in short:
        return short[name.lower()]
    candidates = {**short, **{full.lower(): full for full in ENVIRONMENTS}}
    near = difflib.get_close_matches(name.lower(), candidates, n=1)
    hint = f" Did you mean {candidates[near[0]]!r}?" if near else ""
    raise UnknownName(f"Unknown environment {name!r}.{hint} Known: {', '.join(ENVIRONMENTS)}.")


def make_env(name: str, **keywords: Any) -> VisionToolEnv:
    """The environment of an id, without Gymnasium's wrappers: what people type reaches it unchecked by them.

    Raises:
        UnknownName: if there is no such id.
        InvalidData: if a value is out of range, or the id is no environment of visenv.
    """
    full = known_id(name)
    creator = gym.registry[full].entry_point
    kind = Entry(full, creator).load() if isinstance(creator, str) else creator
    if not (isinstance(kind, type) and issubclass(kind, VisionToolEnv)):
        raise InvalidData(f"Expected an environment of visenv, but {full!r} is none: see `visenv list`.")
    return vision_env(gym.make(full, disable_env_checker=True, **keywords))
