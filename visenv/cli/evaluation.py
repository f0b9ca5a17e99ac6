"""``visenv eval`` and ``visenv compare``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from visenv.cli import options as option
from visenv.cli.common import JSON, OWN, full_id, given, known_id, output, parse_tasks, print_json, progress_output
from visenv.cli.runs import INTERRUPTED, free_folder
from visenv.evaluation import EvalConfig
from visenv.evaluation import compare as run_comparison
from visenv.evaluation import evaluate as run_evaluation
from visenv.evaluation.comparison import COMPARISON
from visenv.evaluation.following import Follower
from visenv.evaluation.store import RUN
from visenv.policies.chat import BASE_URL, CHAT
from visenv.report.evaluation import interval_text
from visenv.training import TrainedPolicy


def evaluate(
    env_id: option.EnvId,
    policy: str = typer.Option(
        "scripted",
        help=f"Who acts: see `visenv list`; the folder of a training run; or {CHAT}MODEL for a chat endpoint.",
    ),
    dataset: option.DatasetName = None,
    split: str = typer.Option("val", help="train, val, test, or another that the data set has."),
    experts: option.Experts = None,
    episodes: int | None = typer.Option(
        None, "--episodes", "-n", min=1, help="How many. (default: one of each sample of the split)", show_default=False
    ),
    out: Path | None = typer.Option(
        None,
        help="Folder to write; an evaluation stopped there goes on, and others may join in. "
        "(default: a new one under runs/)",
        show_default=False,
        file_okay=False,
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the evaluation that the folder holds."),
    seed: option.Seed = 0,
    workers: option.Workers = 1,
    concurrency: int | None = typer.Option(
        None,
        min=1,
        help="Episodes that each of them has under way. (default: 1, or --parallel with a chat endpoint)",
        show_default=False,
    ),
    difficulty: option.Difficulty = None,
    tasks: option.Tasks = None,
    max_turns: option.MaxTurns = None,
    token_budget: option.TokenBudget = None,
    reward: option.RewardName = None,
    toolset: option.Toolset = None,
    memory: option.Memory = None,
    dialect: str | None = typer.Option(
        None, help=f"How text turns are written. {OWN}: qwen3_vl; openai with --tools native)", show_default=False
    ),
    base_url: option.BaseUrl = BASE_URL,
    tools: str = typer.Option("native", help="How a chat endpoint calls tools: native, or text in the dialect."),
    parallel: option.Parallel = 8,
    max_tokens: option.MaxTokens = 2048,
    temperature: option.Temperature = 0.0,
    request_timeout: option.RequestTimeout = 120.0,
    retries: option.Retries = 6,
    json: bool = JSON,
) -> None:
    """Evaluate a policy by its benchmark's metrics, with intervals; a run that is killed goes on where it was."""
    name = known_id(env_id)
    chat = policy.startswith(CHAT)
    env = given(
        dataset=dataset,
        split=split,
        experts=experts,
        difficulty=difficulty,
        tasks=parse_tasks(tasks),
        max_turns=max_turns,
        token_budget=token_budget,
        reward=reward,
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
    if TrainedPolicy.is_one(policy):
        policy = str(Path(policy).resolve())  # Other processes may work in other folders.
    config = EvalConfig(full_id(env_id), policy, episodes, seed, env, options if chat else {})
    who = Path(policy).name if TrainedPolicy.is_one(policy) else policy
    folder = out or free_folder(Path("runs"), f"eval-{name.rpartition('/')[2]}-{dataset or 'scenes'}-{who}-{seed}", RUN)
    seats = concurrency or (parallel if chat else 1)
    try:
        with evaluation_bar() as bar:
            report = run_evaluation(
                config,
                folder,
                workers=workers,
                concurrency=seats,
                overwrite=overwrite,
                progress=follow(bar, f"{name} · {policy}"),
            )
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. The same command with --out {folder} goes on from there.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    if json:
        print_json({**report, "folder": str(folder)})
    else:
        print_report(output(), report)


def compare(
    run_a: Path = typer.Argument(..., metavar="RUN_A", help="Folder of an evaluation."),
    run_b: Path = typer.Argument(..., metavar="RUN_B", help="Folder of another one."),
    out: option.NewFolder = None,
    json: bool = JSON,
) -> None:
    """Put two evaluations side by side, sample by sample: differences with intervals, and what changed most."""
    stem = f"compare-{run_a.resolve().name}-{run_b.resolve().name}"
    report = run_comparison(run_a, run_b, out or free_folder(Path("runs"), stem, COMPARISON))
    if json:
        print_json(report)
    else:
        print_comparison(output(), report)


def print_comparison(console: Console, report: Mapping[str, Any]) -> None:
    """Print a comparison for people."""
    table = Table("figure", "A", "B", "B - A", "95 %", title=f"{report['paired']} samples", title_justify="left")
    for name, part in report["figures"].items():
        values = f"{part['a']:.3f}", f"{part['b']:.3f}", f"{part['difference']:+.3f}"
        table.add_row(name, *values, interval_text(part["interval"]))
    for name, part in report["means"].items():
        if part["difference"] is not None:
            table.add_row(f"mean {name}", "", "", f"{part['difference']:+.3f}", interval_text(part["interval"]))
    console.print(table)
    better = "more" if report["higher_is_better"] else "less"
    console.print(
        f"{report['better']} samples better in B ({better} {report['headline']}), {report['worse']} worse, "
        f"{report['same']} the same.",
        highlight=False,
    )
    left_out = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in report["left_out"].items() if count)
    if left_out:
        console.print(f"Left out: {left_out}.", style="red", highlight=False)
    changed = Table("A", "B", "B - A", "query", "sample", title="Changed most", title_justify="left")
    for one in report["changed"]:
        sides = [f"{one[side]['value']:.3f}" for side in ("a", "b")]
        changed.add_row(*sides, f"{one['difference']:+.3f}", escape(one["query"]), escape(one["sample_id"]))
    if report["changed"]:
        console.print(changed)
    console.print(f"Page: {report['page']}", soft_wrap=True, highlight=False, markup=False)


def evaluation_bar() -> Progress:
    """A bar with the time left, on standard error."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[score]}"),
        console=progress_output(),
    )


def follow(bar: Progress, description: str) -> Callable[[Follower], None]:
    """What moves the bar, with the running metric."""
    task = bar.add_task(escape(description), total=None, score="")

    def show(follower: Follower) -> None:
        first = bar.tasks[task].total is None
        if first:
            # What an earlier call has played says nothing about the time that is left.
            bar.reset(task, total=follower.episodes, completed=follower.done, score=follower.running())
        else:
            bar.update(task, completed=follower.done, score=follower.running())

    return show


def print_report(console: Console, report: Mapping[str, Any]) -> None:
    """Print an evaluation's report for people."""
    metrics, intervals = report["metrics"], report["intervals"]
    table = Table("figure", "value", "95 %", "over", title="Results", title_justify="left")
    for name, value in metrics.items():
        if not name.endswith(("_n", "_failed")):
            table.add_row(name, f"{value:.3f}", interval_text(intervals.get(name)), _over(metrics, name))
    reward = report["reward"]
    if reward["mean"] is not None:
        over = f"{reward['episodes']} episodes"
        table.add_row("reward", f"{reward['mean']:+.3f}", interval_text(reward["interval"]), over)
    console.print(table)
    for task, part in report.get("tasks", {}).items():
        shown = [f"{name[:-2]} {part['metrics'][name[:-2]]:.3f}" for name in part["metrics"] if _heads(part, name)]
        console.print(f"{task}: {part['episodes']} episodes, {', '.join(shown)}", highlight=False)
    ends = ", ".join(f"{count} {why}" for why, count in report["ends"].items())
    cost, timing = report["cost"], report["timing"]
    tokens = cost["visual_tokens"]
    console.print(f"{report['finished']} of {report['episodes']} episodes ended: {ends}.", highlight=False)
    for why, count in report["problems"].items():
        console.print(f"{count} invalid: {why}", style="red", highlight=False, markup=False)
    calls = ", ".join(f"{count} {tool}" for tool, count in cost["calls"].items())
    console.print(f"{cost['turns']['mean']:.1f} turns a trajectory: {calls}.", highlight=False)
    console.print(
        f"{tokens['with_archiving']:.0f} visual tokens a trajectory; without archiving "
        f"{tokens['without_archiving']:.0f}.",
        highlight=False,
    )
    seconds = ", ".join(f"{part} {value:.3f}" for part, value in timing["seconds"].items())
    speed = timing["trajectories_a_minute"]
    console.print(
        f"Seconds a trajectory: {seconds}." + ("" if speed is None else f" {speed:.0f} trajectories a minute."),
        highlight=False,
    )
    if timing["usage"]:
        used = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in timing["usage"].items())
        console.print(f"The endpoint: {used}.", highlight=False)
    console.print(f"Page: {report['page']}", soft_wrap=True, highlight=False, markup=False)


def _heads(part: Mapping[str, Any], name: str) -> bool:
    return name.endswith("_n") and name[:-2] in part["metrics"]


def _over(metrics: Mapping[str, Any], name: str) -> str:
    if f"{name}_n" not in metrics:
        return ""
    return f"{metrics[f'{name}_n']:.0f} samples, {metrics[f'{name}_failed']:.0f} failed"
