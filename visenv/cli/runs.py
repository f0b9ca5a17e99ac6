"""``visenv rollout`` and ``visenv view``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import typer
from rich.markup import escape
from rich.table import Table

from visenv.cli import options as option
from visenv.cli.common import JSON, OWN, given, known_id, make_env, output, parse_tasks, print_json, progress_bar
from visenv.errors import InvalidData
from visenv.policies import Policy, make_policy
from visenv.policies import rollout as run_policy
from visenv.policies.chat import BASE_URL, CHAT, ChatPolicy
from visenv.policies.concurrent import rollout_awaiting
from visenv.policies.distributed import rollout_on_ray
from visenv.policies.playing import Finished
from visenv.report import write_page
from visenv.report.evaluation import REPORT, write_evaluation_page
from visenv.training import TrainedPolicy
from visenv.wrappers.recording import TRAJECTORIES, EpisodeParcel, RecordTrajectories, RunRecorder

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


def rollout(
    env_id: option.EnvId,
    policy: str = typer.Option(
        "scripted",
        help=f"Who acts: see `visenv list`; the folder of a training run; or {CHAT}MODEL for a chat endpoint.",
    ),
    dataset: option.DatasetName = None,
    experts: option.Experts = None,
    split: str = typer.Option("val", help="train, val or test."),
    difficulty: option.Difficulty = None,
    tasks: option.Tasks = None,
    episodes: int = typer.Option(20, "--episodes", "-n", min=1, help="How many episodes."),
    seed: int = typer.Option(0, min=0, help="Of everything that is drawn; the same seed writes the same bytes."),
    out: option.NewFolder = None,
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the run that the folder holds."),
    max_turns: option.MaxTurns = None,
    token_budget: option.TokenBudget = None,
    reward: option.RewardName = None,
    toolset: option.Toolset = None,
    memory: option.Memory = None,
    action_mode: str | None = typer.Option(
        None,
        help="structured, text or discrete. "
        "(default: structured; discrete with a trained policy; text with a chat endpoint and --tools text)",
        show_default=False,
    ),
    dialect: str | None = typer.Option(
        None,
        help=f"How text turns are written. {OWN}: qwen3_vl; openai with a chat endpoint and --tools native)",
        show_default=False,
    ),
    base_url: option.BaseUrl = BASE_URL,
    tools: str = typer.Option("native", help="How a chat endpoint calls tools: native, or text in the dialect."),
    parallel: int = typer.Option(8, min=1, help="Requests to a chat endpoint under way at once, and episodes."),
    max_tokens: option.MaxTokens = 2048,
    temperature: option.Temperature = 0.0,
    request_timeout: option.RequestTimeout = 120.0,
    retries: option.Retries = 6,
    pictures: bool = typer.Option(True, "--pictures/--no-pictures", help="Whether the page shows pictures."),
    ray: str | None = typer.Option(
        None,
        metavar="ADDRESS",
        help="Spread the episodes over a Ray: HOST:PORT, auto, or local to start one here. (default: this process)",
        show_default=False,
    ),
    workers: int | None = typer.Option(None, min=1, help="With --ray: processes. (default: 2)", show_default=False),
    json: bool = JSON,
) -> None:
    """Run a policy, write every episode down, and make a page that shows them turn by turn."""
    if workers is not None and ray is None:
        raise InvalidData("Expected --ray with --workers: --ray local starts a Ray on this machine.")
    chat = policy.startswith(CHAT)
    if chat and ray is not None:
        raise InvalidData("Expected no --ray with a chat endpoint: this process keeps --parallel episodes under way.")
    name = known_id(env_id)
    options: dict[str, Any] = {
        "base_url": base_url,
        "tools": tools,
        "parallel": parallel,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "timeout": request_timeout,
        "retries": retries,
    }
    who = ChatPolicy(policy.removeprefix(CHAT), **options) if chat else _policy(policy)
    wanted = ChatPolicy.env_keywords(options) if chat else {}
    if TrainedPolicy.is_one(policy):
        wanted = {"action_mode": "discrete"}
    settings = given(
        dataset=dataset,
        split=split,
        difficulty=difficulty,
        tasks=parse_tasks(tasks),
        experts=experts or ("oracle" if policy == "oracle" else None),
        max_turns=max_turns,
        token_budget=token_budget,
        reward=reward,
        toolset=toolset,
        memory=memory,
        action_mode=action_mode or wanted.get("action_mode", "structured"),
        dialect=dialect or wanted.get("dialect"),
    )
    env = make_env(name, **settings, obs="features")
    made = partial(_made, env_id, {**settings, "obs": "features"}, policy)
    if isinstance(who, ChatPolicy):
        who.reset(env, np.random.SeedSequence(seed))  # What it refuses is said before there is a folder.
    settings = {"dataset": env.dataset.name, **settings}
    run = {"env_id": name, "policy": policy, **settings, "seed": seed, "episodes": episodes}
    if chat:
        run["options"] = options
    usage: Counter[str] = Counter()
    stem = f"{name.rpartition('/')[2]}-{settings['dataset']}-{policy if chat else who.name}-{seed}"
    folder = out or free_folder(Path("runs"), stem, TRAJECTORIES)
    recorder = RecordTrajectories(env, folder, run, pictures=pictures, page=None, overwrite=overwrite)
    interrupted = False
    with closing(recorder), progress_bar() as progress:
        task = progress.add_task(escape(f"{name} · {policy}"), total=episodes, score="")
        ends: Generator[Finished, None, None] | Generator[EpisodeParcel, None, None]
        counts: dict[str, Any] = {"episodes": episodes, "seed": seed}
        if isinstance(who, ChatPolicy):
            parcels = rollout_awaiting(env, who, **counts, concurrency=parallel, pictures=pictures, usage=usage)
            ends = _written(recorder.recorder, parcels)
        elif ray is not None:
            spread: dict[str, Any] = {"size": env.dataset.size, "workers": workers or 2, "address": ray}
            ends = _written(recorder.recorder, rollout_on_ray(made, **counts, **spread, pictures=pictures))
        else:
            ends = run_policy(recorder, who, **counts)
        try:
            with closing(ends):
                for end in ends:
                    progress.update(task, completed=end.index + 1, score=f"reward {end.reward:+.2f}")
        except KeyboardInterrupt:
            interrupted = True
        facts: dict[str, Any] = {"interrupted": True} if interrupted else {}
        summary = recorder.recorder.close(**facts, **({"usage": dict(usage)} if chat else {}))
    page = write_page(folder)
    if json:
        print_json({**summary, "trajectories": str(folder / TRAJECTORIES), "page": str(page)})
    else:
        _print_summary(summary, page)
    if interrupted:
        raise typer.Exit(INTERRUPTED)


def _policy(name: str) -> Policy:
    return TrainedPolicy(name) if TrainedPolicy.is_one(name) else make_policy(name)


def _made(env_id: str, settings: dict[str, Any], policy: str) -> tuple[gym.Env[Any, Any], Policy]:
    """What a process of Ray runs."""
    return make_env(known_id(env_id), **settings), _policy(policy)


def _written(
    recorder: RunRecorder, parcels: Generator[EpisodeParcel, None, None]
) -> Generator[EpisodeParcel, None, None]:
    """Write episodes down as they come, in their order."""
    with closing(parcels):
        for parcel in parcels:
            recorder.add(parcel)
            yield parcel


def view(
    run: Path = typer.Argument(..., metavar="RUN", help="A folder that `visenv rollout` or `visenv eval` wrote."),
    open_it: bool = typer.Option(False, "--open", help="Open the page in the browser."),
    json: bool = JSON,
) -> None:
    """Build a run's page anew, and say where it is."""
    page = write_evaluation_page(run) if (run / REPORT).is_file() else write_page(run)
    if json:
        print_json({"page": str(page), "bytes": page.stat().st_size})
    else:
        typer.echo(str(page))
    if open_it and typer.launch(page.resolve().as_uri()) != 0:
        raise InvalidData(f"No browser could be started: open {str(page)!r} yourself.")


def free_folder(parent: Path, stem: str, marker: str) -> Path:
    """A folder that holds no run yet; the stem, or the stem with a number.

    Args:
        parent: where it is to be.
        stem: of its name; what file systems dislike is replaced.
        marker: the file that a run's folder holds.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")
    number, folder = 1, parent / stem
    while (folder / marker).exists():
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
    for why, count in summary.get("problems", {}).items():
        console.print(f"{count} invalid: {why}", style="red", highlight=False, markup=False)
    totals = summary["totals"]
    read, saved = totals["visual_tokens_read"], totals["visual_tokens_saved"]
    console.print(f"{summary['episodes']} episodes ended: {ended or 'none'}.", highlight=False)
    console.print(
        f"{totals['turns']} turns, {totals['tool_calls']} tool calls, {totals['errors']} faulty. "
        f"{read} visual tokens read; archiving saved {saved} more ({saved / max(1, read + saved):.0%}).",
        highlight=False,
    )
    if summary.get("usage"):
        used = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in summary["usage"].items())
        console.print(f"The endpoint: {used}.", highlight=False)
    if summary.get("interrupted"):
        console.print("[yellow]Interrupted: what had ended by then is kept.[/]")
    console.print(f"Page: {page}", soft_wrap=True, highlight=False, markup=False)
