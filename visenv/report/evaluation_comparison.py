"""The page of two evaluations side by side."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visenv.errors import InvalidData
from visenv.report.evaluation import flat_settings, interval_text, write_pieces
from visenv.report.markup import Markup, joined, tag
from visenv.report.page import PAGE, card, opening
from visenv.report.training_files import figure, mapping, read_json

LISTED = 2000
"""Samples that the page lists; the file beside it has all."""
_HERE = Path(__file__).parent


def write_comparison_page(folder: str | os.PathLike[str], pictures: Sequence[Mapping[str, bytes]] = ()) -> Path:
    """Write ``index.html`` beside a comparison.

    Args:
        folder: with ``comparison.json``, as ``visenv.evaluation.compare`` wrote it.
        pictures: for each sample that changed most, JPEG files of ``truth``, ``a`` and ``b``.

    Returns:
        The path of the page.

    Raises:
        InvalidData: if there is no comparison in the folder, or the page cannot be written.
    """
    path = Path(folder)
    report = mapping(read_json(path / "comparison.json"))
    if not report:
        raise InvalidData(f"Expected a folder with comparison.json, but {str(path)!r} has none.")
    write_pieces(path / PAGE, _pieces(report, pictures))
    return path / PAGE


def _pieces(report: Mapping[str, Any], pictures: Sequence[Mapping[str, bytes]]) -> Iterator[str]:
    script = (_HERE / "training.js").read_text(encoding="utf-8")
    runs = mapping(report.get("runs"))
    yield opening("Comparison", script)
    yield tag("header", tag("h1", "Two evaluations, sample by sample"), *[_run(name, runs) for name in ("a", "b")])
    yield "<main>"
    yield _overview(report)
    headline = str(report.get("headline"))
    changed = report.get("changed")
    yield tag("h3", f"Changed most by {headline}")
    for place, sample in enumerate(changed if isinstance(changed, list) else ()):
        yield _changed(sample, pictures[place] if place < len(pictures) else {})
        yield "\n"
    if not changed:
        yield tag("p", "No sample has changed.", class_="dim")
    yield _samples(report.get("samples"), headline)
    yield f"</main>\n<script>{script}</script>\n</body>\n</html>\n"


def _run(name: str, runs: Mapping[str, Any]) -> Markup:
    run = mapping(runs.get(name))
    settings = mapping(run.get("settings"))
    flat = {
        "run": run.get("folder"),
        "env": settings.get("env_id"),
        **flat_settings(settings, mapping(run.get("facts"))),
    }
    chips = [tag("span", tag("i", key), str(value), class_="chip") for key, value in flat.items()]
    return tag("p", tag("b", f"{name.upper()} "), *chips)


def _overview(report: Mapping[str, Any]) -> Markup:
    left_out = mapping(report.get("left_out"))
    words = {"only_a": "only A has", "only_b": "only B has", "invalid": "of invalid episodes"}
    missing = ", ".join(f"{count} {words.get(why, why)}" for why, count in left_out.items() if count)
    cards = [card(f"{key} in B", str(report.get(key, "–")), "samples") for key in ("better", "worse", "same")]
    rows = [tag("tr", *[tag("th", name) for name in ("figure", "A", "B", "B − A", "95 %")])]
    for name, part in mapping(report.get("figures")).items():
        cells = [name, *[_value(part.get(key)) for key in ("a", "b")], _signed(part.get("difference"))]
        rows.append(tag("tr", *[tag("td", cell) for cell in (*cells, interval_text(part.get("interval")))]))
    for name, part in mapping(report.get("means")).items():
        cells = [f"mean {name} of a sample", "", "", _signed(part.get("difference"))]
        rows.append(tag("tr", *[tag("td", cell) for cell in (*cells, interval_text(part.get("interval")))]))
    return tag(
        "section",
        tag("p", f"{report.get('paired')} samples that both have."),
        tag("p", f"Left out: {missing}.", class_="fault") if missing else None,
        tag("div", *cards, class_="cards"),
        tag("table", *rows, class_="tasks"),
        class_="overview",
    )


def _changed(sample: Mapping[str, Any], pictures: Mapping[str, bytes]) -> Markup:
    sides = {name: mapping(sample.get(name)) for name in ("a", "b")}
    captions = {"truth": "Truth"} | {
        name: f"{name.upper()}: {_value(side.get('value'))}" for name, side in sides.items()
    }
    shown = [
        tag(
            "figure",
            tag("img", src=f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", alt=captions[name]),
            tag("figcaption", captions[name]),
        )
        for name, data in pictures.items()
        if name in captions
    ]
    head = tag(
        "p", tag("b", _signed(sample.get("difference"))), " ", tag("bdi", sample.get("query", ""), class_="query")
    )
    rows = [
        tag(
            "p",
            tag("b", f"{name.upper()} "),
            f"{side.get('ended')} after {side.get('turns')} turns, reward {_signed(side.get('reward'))}: "
            f"{', '.join(map(str, side.get('calls') or ()))}",
            joined([", answering ", tag("bdi", side["answer"], class_="quote")]) if side.get("answer") else None,
            class_="dim",
        )
        for name, side in sides.items()
    ]
    known = tag("p", sample.get("sample_id", ""), class_="dim mono")
    body = tag("div", head, tag("div", *shown, class_="pictures"), *rows, known, class_="body")
    return tag("section", body, class_="episode")


def _samples(samples: object, headline: str) -> Markup:
    listed = samples if isinstance(samples, list) else []
    titles = ("sample", "query", f"{headline} A", "B", "B − A", "A ended", "B ended")
    rows = [tag("tr", *[tag("th", name) for name in titles])]
    for sample in listed[:LISTED]:
        a, b = mapping(sample.get("a")), mapping(sample.get("b"))
        cells = [sample.get("sample_id"), tag("bdi", sample.get("query", "")), _value(a.get("value"))]
        cells += [_value(b.get("value")), _signed(sample.get("difference")), a.get("ended"), b.get("ended")]
        rows.append(tag("tr", *[tag("td", cell) for cell in cells]))
    more = len(listed) - LISTED
    note = tag("p", f"{more} more in comparison.json.", class_="dim") if more > 0 else None
    table = tag("table", *rows, class_="tasks")
    return tag("details", tag("summary", f"All {len(listed)} samples"), joined([table, *([note] if note else [])]))


def _value(value: object) -> str:
    shown = figure(value)
    return "–" if shown is None else f"{shown:.3f}"


def _signed(value: object) -> str:
    shown = figure(value)
    return "–" if shown is None else f"{shown:+.3f}"
