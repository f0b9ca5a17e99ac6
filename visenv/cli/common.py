"""What all commands share: where output goes, how mistakes are said, how an environment is made."""

from __future__ import annotations

import difflib
import importlib
import re
import sys
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import typer
import typer.core
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from visenv.builtin import ENVIRONMENTS
from visenv.env import VisionToolEnv
from visenv.errors import InvalidData, UnknownName, VisenvError
from visenv.registration import Entry
from visenv.wrappers.recording import plain_json
from visenv.wrappers.text import vision_env

JSON = typer.Option(False, "--json", help="Print one JSON document, and nothing else, to standard output.")

OWN = "(default: as the environment has it"
"""How the help begins to say that an option left out changes nothing of an environment."""


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


def progress_bar() -> Progress:
    """A bar on standard error; each of its tasks has a field ``score``, for what it has come to."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[score]}"),
        console=progress_output(),
    )


def print_json(document: Mapping[str, Any]) -> None:
    """Print the one document of ``--json``."""
    typer.echo(plain_json(document, indent=2))


def known_id(name: str) -> str:
    """The registered id that somebody means; ``ReasonSeg-v0`` is enough for ``VisHarness/ReasonSeg-v0``.

    Args:
        name: an id; also ``module:ID``, as ``gym.make`` takes it, where importing the module registers the id.

    Raises:
        UnknownName: if there is none; the message offers the nearest.
        InvalidData: if the module cannot be imported.
    """
    module, colon, inner = name.partition(":")
    if colon:
        if "" not in sys.path:
            sys.path.insert(0, "")  # A module of one's own lies where the command is given.
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InvalidData(f"Expected MODULE:ID, but importing {module!r} fails: {error}.") from error
        name = inner
    if name in ENVIRONMENTS or name in gym.registry:
        return name
    short = {full.partition("/")[2].lower(): full for full in ENVIRONMENTS}
    if name.lower() in short:
        return short[name.lower()]
    candidates = {**short, **{full.lower(): full for full in ENVIRONMENTS}}
    near = difflib.get_close_matches(name.lower(), candidates, n=1)
    hint = f" Did you mean {candidates[near[0]]!r}?" if near else ""
    raise UnknownName(f"Unknown environment {name!r}.{hint} Known: {', '.join(ENVIRONMENTS)}.")


def full_id(name: str) -> str:
    """The registered id that somebody means, with the module that registers it where one was named.

    Args:
        name: as :func:`known_id` takes it.
    """
    known, module = known_id(name), name.rpartition(":")[0]
    return f"{module}:{known}" if module else known


def parse_tasks(text: str | None) -> list[str] | dict[str, float] | None:
    """What ``--tasks`` names, as ``VisHarness/Mixed-v0`` takes it.

    Raises:
        InvalidData: if a weight is no number, or only some tasks have one.

    Example:
        >>> parse_tasks("reasonseg,refcount"), parse_tasks("reasonseg=3,refcount=1")
        (['reasonseg', 'refcount'], {'reasonseg': 3.0, 'refcount': 1.0})
    """
    if text is None:
        return None
    parts = [part.partition("=") for part in text.split(",")]
    if not any(equals for _, equals, _ in parts):
        return [name.strip() for name, _, _ in parts]
    try:
        return {name.strip(): float(weight) for name, _, weight in parts}
    except ValueError:
        raise InvalidData(f"Expected --tasks NAME,NAME or NAME=WEIGHT,NAME=WEIGHT, but got {text!r}.") from None


def given(**options: Any) -> dict[str, Any]:
    """Those options that somebody gave: what is None is left to the environment.

    Example:
        >>> given(dataset=None, difficulty=2)
        {'difficulty': 2}
    """
    return {name: value for name, value in options.items() if value is not None}


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
    try:
        return vision_env(gym.make(full, disable_env_checker=True, **keywords))
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown is None:
            raise
        option = unknown[1].replace("_", "-")
        raise InvalidData(
            f"Expected options that {full} has, but it has no --{option}: see `visenv describe`."
        ) from None
