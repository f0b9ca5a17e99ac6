"""``visenv rollout`` and ``visenv view``."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from visenv.cli.common import JSON, known_id, make_env, output, print_json, progress_output
from visenv.errors import InvalidData
from visenv.policies import make_policy
from visenv.policies import rollout as run_policy
from visenv.report import write_page
from visenv.wrappers.recording import TRAJECTORIES, RecordTrajectories

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def rollout(
    env_id: str = typer.Argument(..., metavar="ID", help="An environment, such as VisHarness/ReasonSeg-v0."),
    policy: str = typer.Option("scripted", help="Who acts; see `visenv list`."),
    dataset: str = typer.Option("scenes", help="Where samples come from: a name, or name:path."),
    experts: str | None = typer.Option(
        None, help="Who answers the tools. [default: classical; oracle with --policy oracle]", show_default=False
    ),
    split: str = typer.Option("val", help="train, val or test."),
    difficulty: int = typer.Option(1, help="0 to 3, of generated data."),
    episodes: int = typer.Option(20, "--episodes", "-n", min=1, help="How many episodes."),
    seed: int = typer.Option(0, min=0, help="Of everything that is drawn; the same seed writes the same bytes."),
    out: Path | None = typer.Option(
        None, help="Folder to write. [default: a new one under runs/]", show_default=False, file_okay=False
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the run that the folder holds."),
    max_turns: int = typer.Option(10, min=1, help="Turns after which an episode ends."),
    token_budget: int | None = typer.Option(None, min=1, help="Visual tokens after which an episode ends."),
    reward: str = typer.Option("visharness", help="What an episode pays."),
    toolset: str = typer.Option("visharness", help="What the agent may call."),
    memory: str = typer.Option("latest", help="What stays in view: latest, last_k:K, token_budget:N or keep_all."),
    action_mode: str = typer.Option("structured", help="structured, text or discrete."),
    pictures: bool = typer.Option(True, "--pictures/--no-pictures", help="Whether the page shows pictures."),
    json: bool = JSON,
) -> None:
    """Run a policy, write every episode down, and make a page that shows them turn by turn."""
    name = known_id(env_id)
    who = make_policy(policy)
    settings: dict[str, Any] = {
        "dataset": dataset,
        "split": split,
        "difficulty": difficulty,
        "experts": experts or ("oracle" if policy == "oracle" else "classical"),
        "max_turns": max_turns,
        "token_budget": token_budget,
        "reward": reward,
        "toolset": toolset,
        "memory": memory,
        "action_mode": action_mode,
    }
    env = make_env(name, **settings, obs="features")
    run = {"env_id": name, "policy": policy, **settings, "seed": seed, "episodes": episodes}
    folder = out or _free_folder(Path("runs"), f"{name.rpartition('/')[2]}-{dataset}-{policy}-{seed}")
    recorder = RecordTrajectories(env, folder, run, pictures=pictures, page=None, overwrite=overwrite)
    interrupted = False
    with closing(recorder), _progress() as progress:
        task = progress.add_task(escape(f"{name} · {policy}"), total=episodes, score="")
        try:
            for end in run_policy(recorder, who, episodes=episodes, seed=seed):
                progress.update(task, completed=end.index + 1, score=f"reward {end.reward:+.2f}")
        except KeyboardInterrupt:
            interrupted = True
        summary = recorder.recorder.close(**({"interrupted": True} if interrupted else {}))
    page = write_page(folder)
    if json:
        print_json({**summary, "trajectories": str(folder / TRAJECTORIES), "page": str(page)})
    else:
        _print_summary(summary, page)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def view(
    run: Path = typer.Argument(..., metavar="RUN", help="A folder that `visenv rollout` wrote."),
    open_it: bool = typer.Option(False, "--open", help="Open the page in the browser."),
    json: bool = JSON,
) -> None:
    """Build a run's page anew, and say where it is."""
    page = write_page(run)
    if json:
        print_json({"page": str(page), "bytes": page.stat().st_size})
    else:
        typer.echo(str(page))
    if open_it and typer.launch(page.resolve().as_uri()) != 0:
        raise InvalidData(f"No browser could be started: open {str(page)!r} yourself.")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[score]}"),
        console=progress_output(),
    )


def _free_folder(parent: Path, stem: str) -> Path:
    """A folder that holds no run yet; the stem, or the stem with a number."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")
    number, folder = 1, parent / stem
    while (folder / TRAJECTORIES).exists():
        number += 1
        folder = parent / f"{stem}-{number}"
    return folder


def _tasks_table(tasks: dict[str, Any]) -> Table:
    table = Table("task", "episodes", "reward", "figures", title="By task", title_justify="left")
    for task, part in sorted(tasks.items()):
        metrics = part["metrics"]
        shown = [f"{key[:-2]} {metrics[key[:-2]]:.3f}" for key in metrics if key.endswith("_n") and key[:-2] in metrics]
        table.add_row(task, str(part["episodes"]), f"{part['reward_mean']:+.3f}", ", ".join(shown))
    return table


def _print_summary(summary: dict[str, Any], page: Path) -> None:
    console = output()
    figures = Table("figure", "value", "over", title="Results", title_justify="left")
    metrics = summary["metrics"]
    covered = {key[:-2] for key in metrics if key.endswith("_n")}
    over = ""
    for key, value in metrics.items():
        if key.endswith(("_n", "_failed")):
            continue
        if key in covered:
            over = f"{metrics[f'{key}_n']:.0f} samples, {metrics[f'{key}_failed']:.0f} failed"
        figures.add_row(key, f"{value:.3f}", over if key in covered else "")
    if summary["reward_mean"] is not None:
        figures.add_row("reward", f"{summary['reward_mean']:+.3f} ± {summary['reward_std']:.3f}", "mean, deviation")
    console.print(figures)
    if "tasks" in summary:
        console.print(_tasks_table(summary["tasks"]))
    ended = ", ".join(f"{count} {why}" for why, count in summary["terminations"].items())
    totals = summary["totals"]
    read, saved = totals["visual_tokens_read"], totals["visual_tokens_saved"]
    console.print(f"{summary['episodes']} episodes ended: {ended or 'none'}.", highlight=False)
    console.print(
        f"{totals['turns']} turns, {totals['tool_calls']} tool calls, {totals['errors']} faulty. "
        f"{read} visual tokens read; archiving saved {saved} more ({saved / max(1, read + saved):.0%}).",
        highlight=False,
    )
    if summary.get("interrupted"):
        console.print("[yellow]Interrupted: what had ended by then is kept.[/]")
    console.print(f"Page: {page}", soft_wrap=True, highlight=False, markup=False)
