"""``visenv synth``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer
from rich.table import Table

from visenv.cli import options as option
from visenv.cli.common import JSON, OWN, full_id, given, known_id, output, parse_tasks, print_json, progress_bar
from visenv.cli.evaluation import evaluation_bar, follow
from visenv.cli.export import brief, print_set, shown
from visenv.cli.runs import INTERRUPTED, free_folder
from visenv.evaluation.store import RUN
from visenv.export import Filters, export_run
from visenv.export.formats import FORMS, get_form
from visenv.export.judging import MAX_COUNT_ERROR, MIN_IOU
from visenv.export.writing import check_free
from visenv.policies.chat import BASE_URL, CHAT
from visenv.synth import TEMPERATURE, Screening, synth_config, synthesize


def synth(
    env_id: option.EnvId,
    policy: str = typer.Option("scripted", help=f"Who acts: see `visenv list`; or {CHAT}MODEL for a chat endpoint."),
    noise: float = typer.Option(0.3, min=0, max=1, help="How often choices are changed by chance; not of an endpoint."),
    tries: int = typer.Option(8, min=1, help="Of each sample."),
    samples: int = typer.Option(20, "--samples", "-n", min=1, help="How many samples."),
    dataset: option.DatasetName = None,
    split: str = typer.Option("train", help="train, val, test, or another that the data set has."),
    experts: option.Experts = None,
    out: Path | None = typer.Option(
        None,
        help="Folder of the run; one stopped there goes on. (default: a new one under runs/)",
        show_default=False,
        file_okay=False,
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the run, and the set, that are there."),
    seed: option.Seed = 0,
    workers: option.Workers = 1,
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
    files: option.Files = None,
    min_iou: option.MinIou = MIN_IOU,
    max_count_error: option.MaxCountError = MAX_COUNT_ERROR,
    answered: option.Answered = False,
    min_reward: option.MinReward = None,
    faulty: option.Faulty = "drop",
    patch_budget: option.PatchBudget = None,
    per_sample: option.PerSample = None,
    mixed_only: option.MixedOnly = False,
    difficulty: option.Difficulty = None,
    tasks: option.Tasks = None,
    max_turns: option.MaxTurns = None,
    toolset: option.Toolset = None,
    memory: option.Memory = None,
    dialect: str | None = typer.Option(None, help=f"How text turns are written. {OWN}: qwen3_vl)", show_default=False),
    base_url: option.BaseUrl = BASE_URL,
    tools: str = typer.Option("text", help="How a chat endpoint calls tools: text in the dialect, or native."),
    parallel: option.Parallel = 8,
    max_tokens: option.MaxTokens = 2048,
    temperature: option.Temperature = TEMPERATURE,
    request_timeout: option.RequestTimeout = 120.0,
    retries: option.Retries = 6,
    json: bool = JSON,
) -> None:
    """Play each sample several times, screen the tries, and make a training set of the good ones, if one is asked for.

    A run that is killed goes on where it was by the same command with its --out.
    """
    filters = Filters(min_iou, max_count_error, answered, min_reward, faulty, patch_budget, per_sample, mixed_only)
    name, chat = known_id(env_id), policy.startswith(CHAT)
    env = given(
        dataset=dataset,
        split=split,
        experts=experts or ("oracle" if policy == "oracle" else None),
        difficulty=difficulty,
        tasks=parse_tasks(tasks),
        max_turns=max_turns,
        toolset=toolset,
        memory=memory,
        dialect=dialect,
    )
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
        full_id(env_id),
        policy=policy,
        noise=noise,
        samples=samples,
        tries=tries,
        seed=seed,
        env=env,
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
                    env=given(experts=experts),
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
