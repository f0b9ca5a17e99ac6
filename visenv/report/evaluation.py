"""The page of an evaluation: its figures with their intervals, how every episode ended, and what it cost."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from visenv.errors import InvalidData
from visenv.report.episode import episode_html
from visenv.report.markup import Markup, joined, tag
from visenv.report.page import PAGE, bars, card, opening, read_records, toolbar
from visenv.report.training_files import figure, mapping, read_json
from visenv.report.turns import number

REPORT = "report.json"
SHOWN = 200
"""Episodes that the page shows turn by turn: the worst."""
_HERE = Path(__file__).parent


def write_evaluation_page(folder: str | os.PathLike[str]) -> Path:
    """Write ``index.html`` into an evaluation's folder, from its report, its timing and its episodes.

    Args:
        folder: that ``visenv.evaluation.score`` has written to.

    Returns:
        The path of the page.

    Raises:
        InvalidData: if there is no report in the folder, or the page cannot be written.
    """
    run = Path(folder)
    report = mapping(read_json(run / REPORT))
    if not report:
        raise InvalidData(f"Expected the folder of an evaluation with {REPORT}, but {str(run)!r} has none.")
    write_pieces(run / PAGE, _pieces(run, report))
    return run / PAGE


def write_pieces(path: Path, pieces: Iterator[str]) -> None:
    """Write a page piece by piece; it is there whole, or as it was before.

    Raises:
        InvalidData: if it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as out:
            for piece in pieces:
                out.write(piece)
        partial.replace(path)
    except OSError as error:
        raise InvalidData(f"Cannot write the page {str(path)!r}: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)


def interval_text(ends: object) -> str:
    """An interval in words; empty if there is none.

    Example:
        >>> interval_text([0.25, 0.5]), interval_text(None)
        ('0.250 to 0.500', '')
    """
    if not isinstance(ends, (list, tuple)) or len(ends) != 2:
        return ""
    low, high = (figure(end) for end in ends)
    return "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def figures_table(metrics: Mapping[str, Any], intervals: Mapping[str, Any], heading: str = "figure") -> Markup:
    """Every figure with its interval, over how many samples it is taken, and how many of these failed."""
    rows = [tag("tr", *[tag("th", name) for name in (heading, "value", "95 %", "samples", "failed")])]
    for name, value in metrics.items():
        if name.endswith(("_n", "_failed")):
            continue
        covered = [metrics.get(f"{name}{end}") for end in ("_n", "_failed")]
        cells = [name, _value(value), interval_text(intervals.get(name)), *map(_count, covered)]
        rows.append(tag("tr", *[tag("td", cell) for cell in cells]))
    return tag("table", *rows, class_="tasks")


def settings_head(title: str, settings: Mapping[str, Any]) -> Markup:
    """The head of a page: what was evaluated."""
    chips = [tag("span", tag("i", name), str(value), class_="chip") for name, value in settings.items()]
    return tag("header", tag("h1", title), tag("p", *chips))


def flat_settings(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a reader wants to know of an evaluation's settings, without what is not set."""
    flat = {"policy": settings.get("policy"), "dataset": facts.get("dataset"), "split": facts.get("split")}
    flat |= {**mapping(settings.get("env")), **mapping(settings.get("options")), "seed": settings.get("seed")}
    return {name: value for name, value in flat.items() if value is not None}


def _pieces(run: Path, report: Mapping[str, Any]) -> Iterator[str]:
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    settings, facts = mapping(report.get("settings")), mapping(report.get("facts"))
    title = str(settings.get("env_id", "Evaluation"))
    yield opening(f"{title} · {settings.get('policy', '')}", script)
    yield settings_head(title, flat_settings(settings, facts))
    yield "<main>"
    yield _overview(report, mapping(read_json(run / "timing.json")))
    source = run / "trajectories.jsonl"
    worst: list[dict[str, Any]] = []
    broken = total = 0
    if source.is_file():
        records = [record for record in read_records(source)]
        broken, total = records.count(None), len(records)
        whole = [record for record in records if record is not None]
        worst = heapq.nsmallest(SHOWN, whole, key=lambda record: (record["reward"], record["episode"]))
        worst.sort(key=lambda record: int(record["episode"]))
    if total > len(worst):
        yield tag(
            "p", f"The {len(worst)} of {total} episodes that paid least; trajectories.jsonl has all.", class_="dim"
        )
    yield toolbar(sorted({str(record["termination"]) for record in worst}))
    yield '<div id="episodes">'
    bounds = facts.get("reward_bounds")
    for record in worst:
        yield episode_html(record, _no_picture, _no_picture, bounds)
        yield "\n"
    yield "</div>"
    if broken:
        yield tag("p", f"{broken} lines of trajectories.jsonl could not be read.", class_="fault")
    yield f"</main>\n<script>{script}</script>\n</body>\n</html>\n"


def _overview(report: Mapping[str, Any], timing: Mapping[str, Any]) -> Markup:
    metrics, intervals = mapping(report.get("metrics")), mapping(report.get("intervals"))
    covered = [name[:-2] for name in metrics if name.endswith("_n") and name[:-2] in metrics]
    cards = [card(name, _value(metrics[name]), interval_text(intervals.get(name)) or "no interval") for name in covered]
    reward = mapping(report.get("reward"))
    if figure(reward.get("mean")) is not None:
        cards.append(card("reward", f"{reward['mean']:+.3f}", interval_text(reward.get("interval"))))
    episodes, finished = report.get("episodes"), report.get("finished")
    notes = [] if episodes == finished else [f"{finished} of {episodes} episodes have ended: these are their figures."]
    problems = mapping(report.get("problems"))
    return tag(
        "section",
        *[tag("p", note, class_="fault") for note in notes],
        tag("div", *cards, class_="cards"),
        figures_table(metrics, intervals),
        *[
            figures_table(mapping(part.get("metrics")), mapping(part.get("intervals")), f"{task} ({part['episodes']})")
            for task, part in mapping(report.get("tasks")).items()
        ],
        tag("div", *_costs(report, timing), class_="charts"),
        *[tag("p", f"{count} invalid: {why}", class_="fault") for why, count in problems.items()],
        class_="overview",
    )


def _costs(report: Mapping[str, Any], timing: Mapping[str, Any]) -> Iterator[Markup | None]:
    cost = mapping(report.get("cost"))
    yield bars("Episodes ended", mapping(report.get("ends")))
    yield bars("Turns by tool", mapping(cost.get("calls")))
    yield bars("Faulty turns", mapping(cost.get("faults")))
    tokens = {name.replace("_", " "): value for name, value in mapping(cost.get("visual_tokens")).items()}
    yield bars("Visual tokens a trajectory", tokens)
    seconds = mapping(timing.get("seconds"))
    yield bars("Seconds a trajectory", seconds) if any(seconds.values()) else None
    yield bars("Used of the endpoint", mapping(timing.get("usage")))
    turns, speed = figure(mapping(cost.get("turns")).get("mean")), figure(timing.get("trajectories_a_minute"))
    facts = [("Turns a trajectory", turns), ("Trajectories a minute", speed)]
    lines = [tag("div", tag("dt", name), tag("dd", f"{value:.1f}")) for name, value in facts if value is not None]
    yield tag("div", tag("h3", "In all"), tag("dl", joined(lines)), class_="chart")


def _no_picture(path: str) -> str:
    return ""


def _value(value: object) -> str:
    shown = figure(value)
    return "–" if shown is None else f"{shown:.3f}"


def _count(value: object) -> str:
    return "" if value is None else number(value)
