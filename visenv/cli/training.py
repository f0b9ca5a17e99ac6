"""``visenv train``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.progress import Progress, TaskID
from rich.table import Table

from visenv.cli import options as option
from visenv.cli.common import JSON, OWN, given, known_id, make_env, output, parse_tasks, print_json, progress_bar
from visenv.cli.runs import INTERRUPTED, free_folder
from visenv.errors import InvalidData, MissingDependency
from visenv.policies import make_policy

# visenv.training itself loads no trainer before it is asked to train.
from visenv.training import TrainConfig, evaluate, one_thread_each
from visenv.training import train as run_training
from visenv.training.config import CONFIG, HYPERPARAMETERS
from visenv.training.evaluation import headline_of

_SETTINGS = f"A hyperparameter: {', '.join(HYPERPARAMETERS)}."


def train(
    env_id: option.EnvId,
    algo: str = typer.Option("ppo", help="ppo, or maskable_ppo, which is told which actions make sense."),
    steps: int = typer.Option(49_152, min=1, help="Steps to train for, of all environments together."),
    out: Path | None = typer.Option(
        None,
        help="Folder to write; a run stopped there goes on. (default: a new one under runs/)",
        show_default=False,
        file_okay=False,
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace the training run that the folder holds."),
    start: Path | None = typer.Option(
        None, "--from", help="Folder of a training run to begin with, such as one of easier samples.", file_okay=False
    ),
    imitate: str | None = typer.Option(
        None, help="A policy to imitate before the first step of PPO, such as scripted, by name or with arguments."
    ),
    demonstrations: int = typer.Option(1000, min=1, help="Episodes that the imitated policy plays."),
    seed: int = typer.Option(0, min=0, help="Of weights, samples and actions."),
    eval_episodes: int | None = typer.Option(
        None, min=1, help="Episodes of the evaluation. (default: 500, or steps/32 if that is less)", show_default=False
    ),
    n_envs: int = typer.Option(16, "--n-envs", min=1, help="Environments side by side."),
    dataset: option.DatasetName = None,
    difficulty: option.Difficulty = None,
    tasks: option.Tasks = None,
    experts: str | None = typer.Option(None, help=f"Who answers the tools. {OWN}: classical)", show_default=False),
    workers: int = typer.Option(2, min=0, help="Processes that run the experts; 0 for none of their own."),
    reward: option.RewardName = None,
    step_cost: float = typer.Option(0.0, min=0.0, help="What a turn costs, with the reward visharness."),
    max_turns: option.MaxTurns = None,
    token_budget: option.TokenBudget = None,
    memory: option.Memory = None,
    toolset: option.Toolset = None,
    settings: list[str] = typer.Option([], "--set", metavar="NAME=NUMBER", help=_SETTINGS),
    json: bool = JSON,
) -> None:
    """Train an agent with PPO, compare it with the policies that need no training, and make a page of it all."""
    name = known_id(env_id)
    if imitate is not None:
        make_policy(imitate)
    if step_cost:
        if reward not in (None, "visharness"):
            raise InvalidData(f"Expected --step-cost with --reward visharness, but got --reward {reward}.")
        reward = f"visharness:step_cost={step_cost:g}"
    env = given(
        dataset=dataset,
        difficulty=difficulty,
        tasks=parse_tasks(tasks),
        experts=experts,
        reward=reward,
        max_turns=max_turns,
        token_budget=token_budget,
        memory=memory,
        toolset=toolset,
        expert_workers=workers,
    )
    make_env(name, **{**env, "expert_workers": 0}, action_mode="discrete", obs="features").close()
    config = TrainConfig(
        name,
        algo,
        steps,
        seed,
        n_envs,
        eval_episodes,
        start=None if start is None else str(start),
        imitate=imitate,
        demonstrations=demonstrations,
        env=env,
        hyperparameters=dict(map(_hyperparameter, settings)),
    )
    folder = out or free_folder(Path("runs"), f"{name.rpartition('/')[2]}-{algo}-{seed}", CONFIG)
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingDependency('The page of a training run needs Matplotlib: pip install "visenv[train]"')
    one_thread_each()
    try:
        _learn(config, folder, overwrite)
        report = _evaluate(folder)
    except KeyboardInterrupt:
        typer.echo(f"Interrupted. The same command with --out {folder} goes on from there.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    from visenv.report.training import write_training_page

    page = write_training_page(folder)
    if json:
        print_json({**report, "folder": str(folder), "page": str(page)})
    else:
        _print(report, page)


def _hyperparameter(text: str) -> tuple[str, float | int]:
    name, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        raise InvalidData(f"Expected --set NAME=NUMBER, but got {text!r}.") from None
    whole = isinstance(HYPERPARAMETERS.get(name.strip()), int) and number.is_integer()
    return name.strip(), int(number) if whole else number


def _learn(config: TrainConfig, folder: Path, overwrite: bool) -> None:
    headline = headline_of(config.env_id)[0]
    with progress_bar() as bar:
        task = bar.add_task(escape(f"{config.env_id} · {config.algo}"), total=config.steps, score="")

        def show(steps: int, line: dict[str, Any] | None) -> None:
            bar.update(task, completed=min(steps, config.steps))
            if line is not None and line["reward"] is not None:
                figure = line["metrics"].get(headline)
                measured = "" if figure is None else f" · {headline} {figure:.3f}"
                speed = f" · {line['steps_per_second']:.0f} steps/s"
                bar.update(task, score=f"reward {line['reward']:+.2f}{measured}{speed}")

        run_training(config, folder, overwrite=overwrite, progress=show, imitating=_told(bar))


def _evaluate(folder: Path) -> dict[str, Any]:
    with progress_bar() as bar:
        told = _told(bar)
        return evaluate(folder, progress=lambda who, done, total: told(f"evaluating {who}", done, total))


def _told(bar: Progress) -> Callable[[str, int, int], None]:
    """Who shows a bar for each thing that is being done."""
    tasks: dict[str, TaskID] = {}

    def show(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(escape(what), total=total, score="")
        bar.update(tasks[what], completed=done)

    return show


def _print(report: dict[str, Any], page: Path) -> None:
    console = output()
    headline = report["headline"]
    table = Table("policy", "episodes", headline, "95 %", "reward", "turns", "faulty", title_justify="left")
    table.title = f"On {report['split']}"
    for name, result in report["policies"].items():
        value, ends = result["metrics"].get(headline), result["interval"]
        table.add_row(
            name,
            str(result["episodes"]),
            "–" if value is None else f"{value:.3f}",
            "–" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}",
            f"{result['reward_mean']:+.2f}",
            f"{result['turns_mean']:.1f}",
            f"{result['errors']:.0%}",
        )
    console.print(table)
    if report["gap_closed"] is not None:
        share = f"{report['gap_closed']:.0%}"
        console.print(f"Training closed {share} of the gap between random and scripted.", highlight=False)
    apart = report["differences"].get("scripted", {}).get("reward")
    if apart is not None and apart["interval"] is not None:
        low, high = apart["interval"]
        said = f"{apart['mean']:+.2f} reward ({low:+.2f} to {high:+.2f}) beside scripted, on the same samples."
        console.print(said, highlight=False)
    console.print(f"Page: {page}", soft_wrap=True, highlight=False, markup=False)
