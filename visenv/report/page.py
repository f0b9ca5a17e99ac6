"""The page of a run: every episode, turn by turn, in one file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visenv.errors import InvalidData, InvalidImage
from visenv.images import fit_within, load_image, to_data_url
from visenv.report.episode import episode_html, quality
from visenv.report.markup import Markup, joined, tag
from visenv.report.turns import number

PAGE = "index.html"
THUMBNAIL = 112
"""Pixels of the longer side of the pictures in the list of episodes."""
_HERE = Path(__file__).parent
_SHOWN = ("env_id", "policy", "dataset", "split", "difficulty", "experts", "seed")


def write_page(folder: str | os.PathLike[str]) -> Path:
    """Write ``index.html`` into a run's folder, from what was recorded there.

    The page is built episode by episode, so that the size of a run is bounded by what a browser can show. Pictures and
    lines that are missing or broken are named on the page and stop nothing.

    Args:
        folder: with ``trajectories.jsonl``.

    Returns:
        The path of the page.

    Raises:
        InvalidData: if there is no run in the folder, or the page cannot be written.
    """
    run = Path(folder)
    source = run / "trajectories.jsonl"
    if not source.is_file():
        raise InvalidData(f"Expected a run's folder with trajectories.jsonl, but there is none in {str(run)!r}.")
    summary = _summary(run)
    partial = run / f"{PAGE}.partial"
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as out:
            for piece in _pieces(run, source, summary):
                out.write(piece)
        partial.replace(run / PAGE)
    except OSError as error:
        raise InvalidData(f"Cannot write the page to {str(run)!r}: {error.strerror}.") from error
    return run / PAGE


def _pieces(run: Path, source: Path, summary: Mapping[str, Any]) -> Iterator[str]:
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    settings = summary.get("settings", {})
    bounds = settings.get("reward_bounds")
    title = f"{settings.get('env_id', 'Run')} · {settings.get('policy', 'recorded')}"
    yield opening(title, script)
    heads = [_head(record) for record in read_records(source) if record]
    yield _header(settings)
    yield "<main>"
    yield _overview(summary, heads, bounds)
    yield toolbar(sorted({str(head["termination"]) for head in heads}))
    yield '<div id="episodes">'
    broken = 0
    for record in read_records(source):
        if record is None:
            broken += 1
            continue
        yield episode_html(record, lambda path: _data_url(run, path), lambda path: _thumbnail(run, path), bounds)
        yield "\n"
    yield "</div>"
    if broken:
        yield tag("p", f"{broken} lines of trajectories.jsonl could not be read.", class_="fault")
    yield tag("p", "No episode has ended.", class_="dim") if not heads else ""
    yield f"</main>\n<script>{script}</script>\n</body>\n</html>\n"


def opening(title: str, script: str) -> str:
    """What stands above the content of a page: its title, its style, and what it may do.

    Args:
        title: of the page.
        script: the one that the page ends with.
    """
    style = (_HERE / "style.css").read_text(encoding="utf-8")
    # Only this very script may run, and nothing may be loaded: whatever a model wrote, it stays text.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        + tag("meta", http_equiv="Content-Security-Policy", content=policy)
        + tag("meta", name="viewport", content="width=device-width, initial-scale=1")
        + tag("title", title)
        + f"<style>{style}</style></head>\n<body>\n"
    )


def read_records(source: Path) -> Iterator[dict[str, Any] | None]:
    """The recorded episodes; None for a line that cannot be read, as the last of a run that was killed."""
    with source.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = None
            yield record if isinstance(record, dict) and {"episode", "turns", "metrics"} <= record.keys() else None


def _head(record: Mapping[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in ("episode", "reward", "query", "termination")}


def _summary(run: Path) -> dict[str, Any]:
    """The run's summary; empty where it was killed before it could be written."""
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def _header(settings: Mapping[str, Any]) -> Markup:
    shown = [(key, settings[key]) for key in _SHOWN if settings.get(key) is not None]
    rest = [
        (key, value) for key, value in settings.items() if key not in (*_SHOWN, "reward_bounds") and value is not None
    ]
    chips = [tag("span", tag("i", key), value, class_="chip") for key, value in shown if key != "env_id"]
    more = tag("span", *[tag("span", f"{key} {value}") for key, value in rest], class_="rest")
    return tag("header", tag("h1", settings.get("env_id", "Run")), tag("p", *chips), tag("p", more, class_="dim"))


def _overview(summary: Mapping[str, Any], heads: Sequence[Mapping[str, Any]], bounds: Sequence[float] | None) -> Markup:
    metrics = summary.get("metrics", {})
    covered = [key[:-2] for key in metrics if key.endswith("_n")]
    cards = [
        card(name, number(metrics[name]), f"{metrics[f'{name}_n']:.0f} samples, {metrics[f'{name}_failed']:.0f} failed")
        for name in covered
        if name in metrics
    ]
    minor = [
        tag("span", tag("i", name), number(value), class_="chip")
        for name, value in metrics.items()
        if name not in covered and not name.endswith(("_n", "_failed"))
    ]
    if summary.get("reward_mean") is not None:
        cards.append(
            card("reward", f"{summary['reward_mean']:+.2f}", f"± {summary['reward_std']:.2f} over {len(heads)}")
        )
    squares = [
        tag(
            "a",
            href=f"#e{head['episode']}",
            style=f"--q:{quality(float(head['reward']), bounds):.3f}",
            title=f"#{head['episode']} {head['query']}: {head['reward']:+.2f}",
        )
        for head in heads
    ]
    notes = (
        [tag("p", "Interrupted: only what had ended by then is here.", class_="fault")]
        if summary.get("interrupted")
        else []
    )
    return tag(
        "section",
        *notes,
        tag("div", *cards, class_="cards"),
        tag("p", *minor) if minor else None,
        _tasks(summary.get("tasks", {})),
        tag("div", *squares, class_="squares", aria_label="episodes by reward"),
        tag(
            "div",
            bars("Turns by tool", summary.get("tools", {})),
            bars("Episodes ended", summary.get("terminations", {})),
            bars("Faulty turns", summary.get("faults", {})),
            _tokens(summary.get("totals", {})),
            class_="charts",
        ),
        class_="overview",
    )


def _tasks(tasks: Mapping[str, Any]) -> Markup | None:
    """A table of the figures of each task, where a run has several."""
    if not tasks:
        return None
    rows = [tag("tr", *[tag("th", name) for name in ("task", "episodes", "reward", "figures")])]
    for task, part in sorted(tasks.items()):
        metrics = part["metrics"]
        covered = [key[:-2] for key in metrics if key.endswith("_n") and key[:-2] in metrics]
        chips = [tag("span", tag("i", name), number(metrics[name]), class_="chip") for name in covered]
        cells = (task, part["episodes"], f"{part['reward_mean']:+.2f}", joined(chips))
        rows.append(tag("tr", *[tag("td", cell) for cell in cells]))
    return tag("table", *rows, class_="tasks")


def card(name: str, value: str, note: str) -> Markup:
    """One figure, large, with its name and a note under it."""
    return tag("div", tag("b", value), tag("span", name), tag("small", note) if note else None, class_="card")


def bars(title: str, counts: Mapping[str, float]) -> Markup | None:
    """Amounts as bars, the greatest first; None if there are none."""
    if not counts:
        return None
    most = max(counts.values()) or 1
    rows = [
        tag("div", tag("span", name), tag("i", style=f"--w:{value / most:.3f}"), tag("b", number(value)), class_="bar")
        for name, value in sorted(counts.items(), key=lambda item: -item[1])
    ]
    return tag("div", tag("h3", title), *rows, class_="chart")


def _tokens(totals: Mapping[str, float]) -> Markup | None:
    read, saved = totals.get("visual_tokens_read", 0), totals.get("visual_tokens_saved", 0)
    if not read:
        return None
    chart = bars("Visual tokens read", {"with archiving": read, "without": read + saved})
    return joined([chart]) if chart is not None else None


def toolbar(terminations: Sequence[str]) -> Markup:
    """What filters and sorts the episodes of a page, with ``page.js``."""
    orders = {
        "order": "as run",
        "reward": "worst first",
        "-reward": "best first",
        "-turns": "longest first",
        "-faults": "most faults first",
    }
    return tag(
        "nav",
        tag(
            "input",
            type="search",
            id="find",
            placeholder="Filter by query or tool",
            aria_label="Filter by query or tool",
        ),
        tag(
            "select",
            tag("option", "any end", value=""),
            *[tag("option", end, value=end) for end in terminations],
            id="ended",
            aria_label="How it ended",
        ),
        tag(
            "select", *[tag("option", label, value=key) for key, label in orders.items()], id="sort", aria_label="Order"
        ),
        tag("button", "Open all", type="button", id="open"),
        tag("span", id="shown", class_="dim"),
    )


def picture_path(run: Path, name: str) -> Path | None:
    """A picture's path; None if it is missing, is no path, or lies outside of the run's folder."""
    try:
        path = (run / name).resolve()
    except (TypeError, ValueError):
        return None
    return path if path.is_relative_to(run.resolve()) and path.is_file() else None


def _data_url(run: Path, name: str) -> str:
    path = picture_path(run, name)
    if path is None or path.suffix != ".jpg":
        return ""
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _thumbnail(run: Path, name: str) -> str:
    path = picture_path(run, name)
    try:
        return (
            ""
            if path is None
            else to_data_url(fit_within(load_image(path), THUMBNAIL, THUMBNAIL), encoding="jpeg", quality=75)
        )
    except InvalidImage:
        return ""
