"""``visenv synth``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from visenv.cli.common import JSON, OWN, known_id, output, parse_tasks, print_json, progress_bar
from visenv.cli.evaluation import evaluation_bar, follow
from visenv.cli.export import (
    ANSWERED,
    FAULTY,
    FILES,
    MAX_COUNT_ERROR_OPTION,
    MIN_IOU_OPTION,
    MIN_REWARD,
    MIXED_ONLY,
    PATCH_BUDGET,
    PER_SAMPLE,
    brief,
    print_set,
    shown,
)
from visenv.cli.runs import INTERRUPTED, free_folder
from visenv.evaluation.store import RUN
from visenv.export import Filters, export_run
from visenv.export.formats import FORMS, get_form
from visenv.export.writing import check_free
from visenv.policies.chat import BASE_URL, CHAT, KEY_VARIABLE
from visenv.synth import TEMPERATURE, Screening, synth_config, synthesize


def synth(
    env_id: str = typer.Argument(..., metavar="ID", help="An environment, such as VisHarness/ReasonSeg-v0."),
    policy: str = typer.Option("scripted", help=f"Who acts: see `visenv list`; or {CHAT}MODEL for a chat endpoint."),
    noise: float = typer.Option(0.3, min=0, max=1, help="How often choices are changed by chance; not of an endpoint."),
    tries: int = typer.Option(8, min=1, help="Of each sample."),
    samples: int = typer.Option(20, "--samples", "-n", min=1, help="How many samples."),
    dataset: str | None = typer.Option(
        None, help=f"Where samples come from: a name, or name:path. {OWN}: scenes)", show_default=False
    ),
    split: str = typer.Option("train", help="train, val, test, or another that the data set has."),
    experts: str | None = typer.Option(None, help=f"Who answers the tools. {OWN}: classical)", show_default=False),
    out: Path | None = typer.Option(
        None,
        help="Folder of the run; one stopped there goes on. (default: a new one under runs/)",
        show_default=False,
        file_okay=False,
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the run, and the set, that are there."),
    seed: int = typer.Option(0, min=0, help="Of the order of samples and of all choices."),
    workers: int = typer.Option(1, min=1, help="Processes that play, one thread each."),
    concurrency: int | None = typer.Option(
        None,
        min=1,
        help="Tries that each of them has under way. (default: 1, or --parallel with a chat endpoint)",
        show_default=False,
    ),
    to: str | None = typer.Option(
        None, "--to", help=f"Make a training set, too: {', '.join(FORMS)}.", show_default=False
    ),
    set_out: Path | None = typer.Option(
        None, "--set", help="Its folder. (default: RUN-FORM beside the run)", show_default=False, file_okay=False
    ),
    files: str | None = FILES,
    min_iou: float = MIN_IOU_OPTION,
    max_count_error: float = MAX_COUNT_ERROR_OPTION,
    answered: bool = ANSWERED,
    min_reward: float | None = MIN_REWARD,
    faulty: str = FAULTY,
    patch_budget: int | None = PATCH_BUDGET,
    per_sample: int | None = PER_SAMPLE,
    mixed_only: bool = MIXED_ONLY,
    difficulty: int | None = typer.Option(None, help=f"0 to 3, of generated data. {OWN}: 1)", show_default=False),
    tasks: str | None = typer.Option(None, help="What Mixed-v0 mixes: reasonseg,refcount, or with weights."),
    max_turns: int | None = typer.Option(
        None, min=1, help=f"Turns after which an episode ends. {OWN}: 10)", show_default=False
    ),
    toolset: str | None = typer.Option(None, help=f"What the agent may call. {OWN}: visharness)", show_default=False),
    memory: str | None = typer.Option(
        None,
        help=f"What stays in view: latest, last_k:K, token_budget:N or keep_all. {OWN}: latest)",
        show_default=False,
    ),
    dialect: str | None = typer.Option(None, help=f"How text turns are written. {OWN}: qwen3_vl)", show_default=False),
    base_url: str = typer.Option(BASE_URL, help=f"Of a chat endpoint. Its key is read from ${KEY_VARIABLE} alone."),
    tools: str = typer.Option("text", help="How a chat endpoint calls tools: text in the dialect, or native."),
    parallel: int = typer.Option(8, min=1, help="Requests to a chat endpoint under way at once, in each process."),
    max_tokens: int = typer.Option(2048, min=1, help="Of an answer of a chat endpoint."),
    temperature: float = typer.Option(TEMPERATURE, min=0.0, help="Of a chat endpoint."),
    request_timeout: float = typer.Option(120.0, min=0.1, help="Seconds that one request to a chat endpoint may take."),
    retries: int = typer.Option(6, min=0, help="How often a request to a chat endpoint that failed is sent again."),
    json: bool = JSON,
) -> None:
    """Play each sample several times, screen the tries, and make a training set of the good ones, if one is asked for.

    A run that is killed goes on where it was by the same command with its --out.
    """
    filters = Filters(min_iou, max_count_error, answered, min_reward, faulty, patch_budget, per_sample, mixed_only)
    name, module, chat = known_id(env_id), env_id.rpartition(":")[0], policy.startswith(CHAT)
    env: dict[str, Any] = {
        "dataset": dataset,
        "split": split,
        "experts": experts or ("oracle" if policy == "oracle" else None),
        "difficulty": difficulty,
        "tasks": parse_tasks(tasks),
        "max_turns": max_turns,
        "toolset": toolset,
        "memory": memory,
        "dialect": dialect,
    }
    options: dict[str, Any] = {
        "base_url": base_url,
        "tools": tools,
        "parallel": parallel,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "timeout": request_timeout,
        "retries": retries,
    }
    config = synth_config(
        f"{module}:{name}" if module else name,
        policy=policy,
        noise=noise,
        samples=samples,
        tries=tries,
        seed=seed,
        env={option: value for option, value in env.items() if value is not None},
        options=options if chat else {},
    )
    folder = out or free_folder(Path("runs"), f"synth-{name.rpartition('/')[2]}-{policy}-{seed}", RUN)
    made, set_folder = None, set_out or folder.absolute().with_name(f"{folder.absolute().name}-{to}")
    if to is not None:
        get_form(to)
        check_free(set_folder.absolute(), overwrite)  # Before anything is played for it.
    try:
        with evaluation_bar() as bar:
            screening = synthesize(
                config,
                folder,
                filters=filters,
                workers=workers,
                concurrency=concurrency or (parallel if chat else 1),
                overwrite=overwrite,
                progress=follow(bar, f"{name} · {policy} · {tries} tries"),
            )
        if to is not None:
            with progress_bar() as bar:
                made = export_run(
                    folder,
                    set_folder,
                    to=to,
                    filters=filters,
                    env_id=config.env_id,
                    env={} if experts is None else {"experts": experts},
                    files=files,
                    overwrite=overwrite,
                    progress=shown(bar, f"{folder} · {to}"),
                )
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. The same command with --out {folder} goes on from there.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if json:
        print_json(
            {"folder": str(folder), "screening": asdict(screening), "set": None if made is None else brief(made)}
        )
        return
    print_screening(screening)
    if made is None:
        output().print(f"Run: {folder}", soft_wrap=True, highlight=False, markup=False)
    else:
        print_set(made)


def print_screening(screening: Screening) -> None:
    """Say what came of the tries, for people."""
    table = Table(
        "samples", "tries", "good", "kept", "always right", "always wrong", title="Tries", title_justify="left"
    )
    numbers = (
        screening.samples,
        screening.tries,
        screening.good,
        screening.kept,
        screening.always_right,
        screening.always_wrong,
    )
    table.add_row(*map(str, numbers))
    console = output()
    console.print(table)
    if screening.why:
        console.print(f"Dropped: {', '.join(f'{count} {why}' for why, count in screening.why.items())}.")
