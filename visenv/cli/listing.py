"""``visenv list`` and ``visenv describe``."""

from __future__ import annotations

import inspect
from typing import Any, cast

import typer
from gymnasium import spaces
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table

from visenv.builtin import ENVIRONMENTS
from visenv.cli import options as option
from visenv.cli.common import JSON, known_id, make_env, output, print_json
from visenv.cli.docstrings import arguments, summary
from visenv.env import VisionToolEnv
from visenv.protocol.schema import openai_tools
from visenv.registration import Entry, Registry, datasets, experts, policies, rewards, toolsets

_REGISTRIES: dict[str, Registry] = {
    "datasets": datasets,
    "experts": experts,
    "toolsets": toolsets,
    "rewards": rewards,
    "policies": policies,
}
_TITLES = {"datasets": "Data sets", "experts": "Experts", "toolsets": "Tool sets", "rewards": "Rewards"}


def list_everything(json: bool = JSON) -> None:
    """List what there is: environments, data sets, experts, tool sets, rewards, policies."""
    environments = [
        {"name": name, "summary": summary(Entry(name, entry_point).load()), "entry_point": entry_point}
        for name, entry_point in ENVIRONMENTS.items()
    ]
    listed: dict[str, list[dict[str, str]]] = {"environments": environments}
    for kind, registry in _REGISTRIES.items():
        listed[kind] = [
            {"name": entry.name, "summary": entry.summary, "entry_point": entry.entry_point} for entry in registry
        ]
    if json:
        print_json(listed)
        return
    console = output()
    for kind, entries in listed.items():
        table = Table("name", "what it is", title=_TITLES.get(kind, kind.capitalize()), title_justify="left")
        for entry in entries:
            table.add_row(escape(entry["name"]), escape(entry["summary"]))
        console.print(table)


def describe(
    env_id: option.EnvId,
    toolset: str | None = typer.Option(None, help="The tools to describe, if not the environment's own."),
    reward: str | None = typer.Option(None, help="The reward to describe, if not the environment's own."),
    action_mode: str = typer.Option("structured", help="structured, text or discrete."),
    json: bool = JSON,
) -> None:
    """Describe an environment: task, tools with their arguments, spaces, reward, metrics."""
    chosen = {name: value for name, value in (("toolset", toolset), ("reward", reward)) if value is not None}
    env = make_env(env_id, action_mode=action_mode, experts="oracle", **chosen)
    page = _page(known_id(env_id), env, reward)
    if json:
        print_json(page)
        return
    console = output()
    console.print(Markdown(f"# {page['id']}\n\n{page['description']}"))
    console.print(_keywords_table(page["keywords"]))
    console.print(_tools_table(page["tools"]))
    held = Table("space", "holds", title="Spaces", title_justify="left")
    held.add_row("action", escape(page["action_space"]))
    for key, space in page["observation_space"].items():
        held.add_row(f"observation: {key}", escape(space))
    console.print(held)
    figures = Table("metric", "range", "better", "what it is", title="Metrics", title_justify="left")
    for metric in page["metrics"]:
        low, high = metric["bounds"]
        better = "higher" if metric["higher_is_better"] else "lower"
        figures.add_row(metric["name"], f"{low:g} to {high:g}", better, escape(metric["summary"]))
    console.print(figures)
    low, high = page["reward"]["bounds"]
    words = escape(f"{page['reward']['name']}: {page['reward']['summary']}")
    console.print(f"Reward {words} An episode pays {low:g} to {high:g}.", highlight=False)


def _page(name: str, env: VisionToolEnv, reward: str | None) -> dict[str, Any]:
    metrics = [Entry(entry, entry).load()() for entry in env.metric_names]
    return {
        "id": name,
        "summary": summary(type(env)),
        "description": inspect.getdoc(type(env)) or "",
        "family": env.family,
        "keywords": _keywords(),
        "tools": [tool["function"] for tool in openai_tools(env.specs)],
        "action_space": str(env.action_space),
        "observation_space": {key: str(space) for key, space in cast("spaces.Dict", env.observation_space).items()},
        "reward": {
            "name": reward or getattr(env.config.reward, "name", type(env.config.reward).__name__),
            "summary": summary(type(env.config.reward)),
            "bounds": list(env.config.reward.bounds),
        },
        "metrics": [
            {
                "name": metric.name,
                "summary": summary(type(metric)),
                "bounds": list(metric.bounds),
                "higher_is_better": metric.higher_is_better,
            }
            for metric in metrics
        ],
    }


def _keywords() -> list[dict[str, str]]:
    parameters = inspect.signature(VisionToolEnv).parameters
    texts = arguments(VisionToolEnv)
    return [
        {"name": name, "default": repr(parameter.default), "description": texts.get(name, "")}
        for name, parameter in parameters.items()
    ]


def _keywords_table(keywords: list[dict[str, str]]) -> Table:
    table = Table("keyword", "default", "what it is", title="Keywords of gym.make", title_justify="left")
    for keyword in keywords:
        words = escape(keyword["description"].replace("`", ""))
        table.add_row(keyword["name"], escape(keyword["default"]), words)
    return table


def _tools_table(tools: list[dict[str, Any]]) -> Table:
    table = Table("tool", "argument", "type", "what it is", title="Tools", title_justify="left", show_lines=True)
    for tool in tools:
        table.add_row(f"[bold]{tool['name']}[/]", "", "", escape(tool["description"]))
        for name, schema in tool["parameters"]["properties"].items():
            table.add_row("", name, escape(_type(schema)), escape(schema.get("description", "")))
    table.add_row("[bold]Answer[/]", "text", "string", "Ends the episode.")
    return table


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(repr(choice) for choice in schema["enum"])
    if schema.get("type") == "array" and "items" in schema:
        return f"array of {_type(schema['items'])}"
    return str(schema.get("type", "any"))
