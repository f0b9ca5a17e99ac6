"""``visenv serve``."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from visenv.cli.common import JSON, output, print_json, progress_output
from visenv.clusters import LOCAL, TOKEN_VARIABLE
from visenv.errors import InvalidData
from visenv.serve.running import APP, HOST, PORT, Serving, start, wait_until_stopped
from visenv.serve.wire import Limits

MEGABYTE = 2**20


def serve(
    experts: str = typer.Argument(
        ..., metavar="PRESET", help="What to serve: a set or preset of `visenv list`, or a preset file."
    ),
    address: str = typer.Option(
        f"{HOST}:{PORT}", help="Where to listen, HOST:PORT. One that other machines can reach needs a token."
    ),
    token_file: Path | None = typer.Option(
        None,
        help=f"File with the token that clients have to show. (default: the variable {TOKEN_VARIABLE}, if it is set)",
        show_default=False,
        dir_okay=False,
    ),
    ray: str = typer.Option(LOCAL, help="A Ray to join: HOST:PORT, or auto; local starts one."),
    app: str = typer.Option(APP, help='Name of the application on Ray Serve, for experts="ray://NAME".'),
    replicas: int | None = typer.Option(None, min=1, help="Processes an expert. (default: as the preset says, or 1)"),
    num_cpus: float | None = typer.Option(None, min=0, help="Processors a replica, or a part of one. (default: 1)"),
    num_gpus: float | None = typer.Option(None, min=0, help="GPUs a replica, or a part of one. (default: 0)"),
    min_replicas: int | None = typer.Option(None, min=0, help="With --max-replicas: as many as the load asks for."),
    max_replicas: int | None = typer.Option(None, min=1, help="The most replicas an expert."),
    target_ongoing_requests: float | None = typer.Option(
        None, min=0.1, help="Requests in hand a replica that autoscaling aims at. (default: 2)"
    ),
    max_batch: int | None = typer.Option(None, min=1, help="Requests in a batch. (default: as the expert says)"),
    batch_wait: float | None = typer.Option(
        None, min=0, help="Seconds that a batch waits to become full. (default: 0.005)"
    ),
    timeout: float = typer.Option(
        120.0, min=1, help="Seconds after which an expert that has not answered is replaced."
    ),
    max_mb: int = typer.Option(256, min=1, help="Megabytes that a request may have."),
    store_mb: int = typer.Option(512, min=1, help="Megabytes of pixels that are remembered."),
    ingresses: int = typer.Option(1, min=1, help="Processes that take requests in."),
    json: bool = JSON,
) -> None:
    """Serve experts on Ray Serve, for environments in any process, until interrupted."""
    options: dict[str, Any] = {
        "replicas": replicas,
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "max_batch": max_batch,
        "batch_wait_s": batch_wait,
        "autoscaling": _autoscaling(min_replicas, max_replicas, target_ongoing_requests),
    }
    token = _token(token_file)
    if not json:
        progress_output().print(f"Starting {escape(experts)} …", highlight=False)
    with (
        contextlib.suppress(KeyboardInterrupt),
        _sigterm_interrupts(),
        start(
            experts,
            address,
            token=token,
            ray=ray,
            app=app,
            limits=Limits(body_bytes=max_mb * MEGABYTE),
            timeout=timeout,
            store_bytes=store_mb * MEGABYTE,
            ingresses=ingresses,
            **options,
        ) as serving,
    ):
        _show(serving, token is not None, json)
        wait_until_stopped(serving)
    if not json:
        progress_output().print("Stopped.")


def _autoscaling(least: int | None, most: int | None, target: float | None) -> dict[str, float] | None:
    given = {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": target}
    if most is None and (least is not None or target is not None):
        raise InvalidData("Expected --max-replicas with --min-replicas or --target-ongoing-requests.")
    return None if most is None else {name: value for name, value in given.items() if value is not None}


def _token(path: Path | None) -> str | None:
    """The token, from a file or from the environment.

    Raises:
        InvalidData: if the file cannot be read, or holds none.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise InvalidData(f"Expected a token in {str(path)!r}, but it cannot be read: {error}.") from error
    if not token or not token.isascii() or not token.isprintable():
        raise InvalidData(f"Expected one line of printable ASCII characters in {str(path)!r}.")
    return token


@contextlib.contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(serving: Serving, has_token: bool, json: bool) -> None:
    described = serving.describe()
    if json:
        print_json(described)
        return
    table = Table("expert", "answers", "batch", "each takes", "runs in", title="Served", title_justify="left")
    for expert in described["experts"]:
        gpus = f", {expert['num_gpus']:g} GPU" if expert["num_gpus"] else ""
        scaling = expert["autoscaling"]
        more = "" if scaling is None else f"\nup to {scaling.get('max_replicas', 1)} by load"
        table.add_row(
            escape(f"{expert['name']}\n{expert['fingerprint']}"),
            "\n".join(expert["capabilities"]),
            str(expert["max_batch"]),
            f"{expert['num_cpus']:g} CPU{gpus}",
            escape("\n".join(f"{each['host']}, process {each['pid']}" for each in expert["replicas"]) + more),
        )
    console = output()
    console.print(table)
    secret = f" Clients need the token in {TOKEN_VARIABLE}." if has_token else ""
    console.print(f'Use it by experts="{described["address"]}".{secret}', highlight=False, soft_wrap=True)
    console.print(
        f'Inside the Ray (RAY_ADDRESS={described["ray"]}): experts="ray://{described["app"]}". Ctrl-C stops it.',
        highlight=False,
        soft_wrap=True,
    )
