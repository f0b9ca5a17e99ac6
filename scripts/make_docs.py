"""Write the generated parts of docs/: a page for each environment, the page of the tools, the table of limits.

    python scripts/make_docs.py            write what has changed
    python scripts/make_docs.py --check    write nothing; fail if a page is out of step with the code

The text comes from docstrings, tool specifications, signatures and constants: to change a page, change these.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from visenv.builtin import ENVIRONMENTS  # noqa: E402 - after the path, so that it is this checkout's
from visenv.cli.docstrings import arguments  # noqa: E402
from visenv.env import VisionToolEnv  # noqa: E402
from visenv.protocol.schema import ANSWER_TOOL, json_schema  # noqa: E402
from visenv.registration import Entry, toolsets  # noqa: E402
from visenv.tools.base import Tool  # noqa: E402
from visenv.tools.toolsets import make_toolset  # noqa: E402
from visenv.types import Argument, ToolSpec  # noqa: E402

NOTE = "<!-- Written by scripts/make_docs.py from the code. Edit the docstrings, then run it again. -->"
NEEDS = {
    "points": "Every named image must have points.",
    "boxes": "Every named image must have boxes and masks.",
    "unenlarged": "Not for images that were enlarged already.",
    "candidates": "There must be a candidate.",
}
KINDS = {
    "images": "list of image names",
    "image": "image name",
    "phrase": "text",
    "text": "text",
    "choice": "choice",
    "integer": "whole number",
    "patch_sizes": "object from image name to whole number",
    "point": "[x, y]",
    "box": "[x1, y1, x2, y2]",
    "points": "list of [x, y, 1 or 0]",
    "choices": "list of choices",
    "candidate": "candidate's name",
    "candidates": "list of candidates' names",
}
LIMITS = (
    ("visenv.protocol.base", "MAX_CHARACTERS", "characters of a turn", "`too_long`"),
    ("visenv.protocol.strict_json", "MAX_DEPTH", "lists and objects inside one another", "`bad_json`"),
    ("visenv.protocol.strict_json", "MAX_DIGITS", "digits of a whole number", "`bad_json`"),
    ("visenv.protocol.intake", "MAX_NAME", "characters of a tool's name", "`too_large`"),
    ("visenv.protocol.intake", "MAX_ARGUMENTS", "characters of a call's arguments, as JSON", "`too_large`"),
    ("visenv.protocol.intake", "MAX_ANSWER", "characters of an answer", "`long_answer`"),
    ("visenv.types", "MAX_PHRASE", "characters of a phrase", "`wrong_argument`"),
    ("visenv.tools.arguments", "MAX_IMAGES", "images named in one call", "`wrong_argument`"),
    ("visenv.tools.visharness", "MAX_PATCHES", "patches made in one call", "`too_many_patches`"),
    ("visenv.tools.visharness", "MAX_UPSCALED_PIXELS", "pixels of one enlarged image", "`too_large`"),
    ("visenv.tools.visharness", "MAX_UPSCALED_PIXELS_PER_CALL", "pixels enlarged in one call", "`too_large`"),
    ("visenv.images", "MAX_PIXELS", "pixels of a picture that is decoded", "`InvalidImage`"),
    ("visenv.rle", "MAX_PIXELS", "pixels of a mask in a run-length encoding", "`InvalidData`"),
    ("visenv.datasets.files", "MAX_LONG_SIDE", "pixels of a picture's longer side, in a folder", "shrunk to fit"),
    ("visenv.datasets.files", "MAX_SHORT_SIDE", "pixels of a picture's shorter side, in a folder", "shrunk to fit"),
)
"""Module, constant, what it counts, and what comes of more."""


def pages() -> dict[str, str]:
    """Every generated page: its path in the repository, and its text."""
    made = {"docs/environments/index.md": environments_index(), "docs/tools.md": tools_page()}
    for name, entry_point in ENVIRONMENTS.items():
        made[f"docs/environments/{file_of(name)}"] = environment_page(name, Entry(name, entry_point).load())
    bad_input = ROOT / "docs" / "bad-input.md"
    made["docs/bad-input.md"] = with_region(bad_input.read_text(encoding="utf-8"), "limits", limits_table())
    return made


def file_of(env_id: str) -> str:
    """The file of an environment's page: ``VisHarness/ReasonSeg-v0`` is in ``reasonseg.md``."""
    return env_id.rpartition("/")[2].rpartition("-")[0].lower() + ".md"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def first_sentence(thing: object) -> str:
    """The first line of a docstring."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


# --- environments -------------------------------------------------------------------------------------------------


def environments_index() -> str:
    """The list of environments, and the keywords that all of them take."""
    rows = []
    for name, entry_point in ENVIRONMENTS.items():
        env = Entry(name, entry_point).load()
        metrics = ", ".join(f"`{entry.rpartition(':')[2]}`" for entry in env.metric_names)
        rows.append([f"[`{name}`]({file_of(name)})", first_sentence(env), metrics])
    return "\n\n".join(
        (
            NOTE,
            "# Environments",
            table(["id", "task", "metrics"], rows),
            "All ids share their spaces, tools and keywords, save for the task of [`Mixed-v0`](mixed.md): "
            "[`VisHarness/ReasonSeg-v0`](reasonseg.md) describes the spaces in full.",
            "## Keywords",
            "Of `gym.make(id, ...)`. Every one has a default.",
            keywords_table(),
        )
    )


def environment_page(name: str, env: type[VisionToolEnv]) -> str:
    """The page of one environment, from its class."""
    doc = inspect.getdoc(env) or ""
    summary, _, body = doc.partition("\n\n")
    body = body.replace("## Arguments\nSee `visenv.env.VisionToolEnv`.", f"## Arguments\n{keywords_table()}")
    for other in ENVIRONMENTS:
        if other != name:
            body = body.replace(f"`{other}`", f"[`{other}`]({file_of(other)})")
    metrics = [Entry(entry, entry).load() for entry in env.metric_names]
    rows = [
        [
            f"`{metric.__name__}`",
            first_sentence(metric),
            "{:g} to {:g}".format(*metric.bounds),
            "higher" if metric.higher_is_better else "lower",
        ]
        for metric in metrics
    ]
    spaced = re.sub(r"^(## .*)\n(?=\S)", r"\1\n\n", body, flags=re.MULTILINE)
    metrics_section = f"## Metrics\n\n{table(['metric', 'what it is', 'range', 'better'], rows)}\n\n## Arguments"
    return "\n\n".join((NOTE, f"# {name}", summary, spaced.replace("## Arguments", metrics_section, 1)))


def keywords_table() -> str:
    """The keywords of ``VisionToolEnv``: names and texts from its docstring, defaults from its signature."""
    described = arguments(VisionToolEnv)
    parameters = inspect.signature(VisionToolEnv).parameters
    if list(described) != list(parameters):
        raise ValueError(f"Expected the docstring of VisionToolEnv to describe {list(parameters)}, in that order.")
    return table(
        ["keyword", "default", "what it is"],
        [[f"`{name}`", f"`{parameters[name].default!r}`", text] for name, text in described.items()],
    )


# --- tools --------------------------------------------------------------------------------------------------------


def tools_page() -> str:
    """Every tool: what it does, its arguments, its schema; and the tool sets."""
    tools = {name: tool for entry in toolsets for name, tool in make_toolset(entry.name).items()}
    sets = [
        [f"`{entry.name}`", entry.summary, ", ".join(f"`{name}`" for name in make_toolset(entry.name))]
        for entry in toolsets
    ]
    parts = [
        NOTE,
        "# Tools",
        "What an agent may call. The specification of a tool (`visenv.types.ToolSpec`) is the one source of its JSON "
        "Schema, of its part of the action space and of this page. Arguments are required unless they are optional.",
        "## Tool sets",
        "Chosen with `gym.make(..., toolset=...)`: a name, or a list of tools.",
        table(["name", "what it is", "tools"], sets),
    ]
    parts += [tool_section(tool.spec, tool) for tool in tools.values()]
    parts.append(tool_section(ANSWER_TOOL, None))
    return "\n\n".join(parts)


def tool_section(spec: ToolSpec, tool: Tool | None) -> str:
    """One tool."""
    rows = [
        [f"`{each.name}`" + (" (optional)" if each.optional else ""), kind_of(each), each.description]
        for each in spec.arguments
    ]
    parts = [f"## {spec.name}", spec.description]
    if spec.needs:
        parts.append(NEEDS[spec.needs])
    parts.append(table(["argument", "type", "what it is"], rows))
    if tool is None:
        parts.append("Ends the episode; every tool set has it. In the text dialects it is written in tags of its own.")
    parts.append(f"```json\n{dump(json_schema(spec))}\n```")
    return "\n\n".join(parts)


def kind_of(argument: Argument) -> str:
    """An argument's type in words."""
    if argument.kind == "choice":
        return " or ".join(f"`{choice}`" for choice in argument.choices)
    return KINDS[argument.kind]


def dump(schema: Mapping[str, Any]) -> str:
    """A schema as JSON, one property a line."""
    properties = ",\n".join(
        f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in schema["properties"].items()
    )
    rest = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in schema.items() if key != "properties"]
    return "{\n" + ",\n".join([rest[0], f'  "properties": {{\n{properties}\n  }}', *rest[1:]]) + "\n}"


# --- limits -------------------------------------------------------------------------------------------------------


def limits_table() -> str:
    """The limits of what agents and files may ask for, read from the constants that enforce them."""
    rows = []
    for module, constant, what, result in LIMITS:
        value = getattr(importlib.import_module(module), constant)
        rows.append([what, f"{value:,}", result, f"`{module}.{constant}`"])
    return table(["limit", "value", "beyond it", "constant"], rows)


def with_region(text: str, name: str, content: str) -> str:
    """A page with what stands between its ``<!-- begin NAME -->`` and ``<!-- end NAME -->`` replaced."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"Expected {begin} and {end} once each.")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{content}\n{end}{rest.partition(end)[2]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages, or check them; the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated parts of docs/.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of step")
    check = parser.parse_args(arguments).check
    stale = []
    for name, text in pages().items():
        path, wanted = ROOT / name, text.rstrip("\n") + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != wanted:
            stale.append(name)
            if not check:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(wanted, encoding="utf-8")
    for name in stale:
        print(f"{'out of step' if check else 'written'}: {name}")
    if check and stale:
        print("Run: python scripts/make_docs.py")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
