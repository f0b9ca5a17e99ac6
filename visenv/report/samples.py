"""The same samples before and after training, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visenv.errors import InvalidData, InvalidImage
from visenv.images import fit_within, load_image, to_data_url
from visenv.report.episode import Picture, episode_html
from visenv.report.markup import Markup, tag
from visenv.report.page import PAGE, picture_path, read_records, write_page
from visenv.report.training_files import figure, mapping, read_json

SIDES = {"before": "Before training", "after": "After training"}
MOST_SAMPLES = 12
"""Samples on the page; the runs' own pages show all."""
BUDGET = 2_000_000
"""Bytes that the pictures should take, as base64."""
WIDTHS = (512, 384, 256, 160, 96)
"""Pixels of the longer side of a picture, of which the largest is taken that keeps to the budget."""
THUMBNAIL = 112
_BYTES_A_PIXEL = 0.22
"""Of a JPEG file as base64, about."""
_BROKEN = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What comes of a recorded episode that is not as ``RunRecorder`` writes it."""

Pair = dict[str, dict[str, Any]]
"""From sides to the episode of one sample."""


def samples_section(folder: Path, headline: str | None) -> Markup | None:
    """What the policy did with some samples, before and after training.

    Args:
        folder: of the training run, with the recorded runs ``before`` and ``after``.
        headline: the metric to compare.

    Returns:
        None where nothing was recorded.
    """
    episodes = {side: list(_episodes(folder / side)) for side in SIDES if (folder / side).is_dir()}
    pairs = _pairs(episodes)
    if not pairs:
        return None
    shown = pairs[:MOST_SAMPLES]
    width = _width(shown)
    links = [
        tag("a", f"All that was recorded {side} training", href=f"{side}/{PAGE}")
        for side in episodes
        if _has_page(folder / side)
    ]
    linked = [piece for link in links for piece in (" · ", link)][1:]
    said = (
        "The same samples, played by the policy before its first step and after its last. Open one to follow its turns."
    )
    return tag(
        "section",
        tag("h2", "Before and after training"),
        tag("p", said, class_="lead dim"),
        tag("p", *linked) if linked else None,
        *[_sample(folder, index, pair, headline, width) for index, pair in enumerate(shown)],
        tag("p", f"And {len(pairs) - len(shown)} more.", class_="dim") if len(pairs) > len(shown) else None,
    )


def _episodes(run: Path) -> Iterator[dict[str, Any]]:
    try:
        yield from (record for record in read_records(run / "trajectories.jsonl") if record is not None)
    except OSError:
        return


def _pairs(episodes: Mapping[str, Sequence[dict[str, Any]]]) -> list[Pair]:
    """The episodes of equal samples together; one that was played more than once is as many pairs."""
    pairs: dict[tuple[str, int], Pair] = {}
    for side, records in episodes.items():
        seen: Counter[str] = Counter()
        for record in records:
            sample = str(record.get("sample_id"))
            pairs.setdefault((sample, seen[sample]), {})[side] = record
            seen[sample] += 1
    return list(pairs.values())


def _sample(folder: Path, index: int, pair: Pair, headline: str | None, width: int) -> Markup:
    record = pair.get("after") or pair["before"]
    sides = [
        tag("div", tag("h4", label), _side(folder / side, pair.get(side), f"{side}-{index}-", width))
        for side, label in SIDES.items()
    ]
    compared = [_change(pair, "reward", lambda each: each.get("reward"), "{:+.2f}")]
    if headline is not None and headline != "reward":
        compared.insert(0, _change(pair, headline, lambda each: _metric(each, headline), "{:.3f}"))
    title = tag("h3", tag("bdi", record.get("query", ""), class_="quote"), *compared)
    return tag("article", title, tag("div", *sides, class_="versus"), class_="sample")


def _side(run: Path, record: dict[str, Any] | None, prefix: str, width: int) -> Markup:
    """One episode as a card."""
    if record is None:
        return tag("p", "This sample was not played.", class_="dim")
    bounds = mapping(mapping(read_json(run / "summary.json")).get("settings")).get("reward_bounds")
    known = isinstance(bounds, list) and len(bounds) == 2 and None not in map(figure, bounds)
    try:
        return episode_html(
            record, _picture(run, width), _picture(run, THUMBNAIL), bounds if known else None, prefix=prefix
        )
    except _BROKEN:
        return tag("p", "This episode could not be read.", class_="fault")


def _picture(run: Path, width: int) -> Picture:
    """Gives the pictures of a run, none of them larger than it may be."""

    def picture(name: str) -> str:
        path = picture_path(run, name)
        try:
            return "" if path is None else to_data_url(fit_within(load_image(path), width, width), encoding="jpeg")
        except InvalidImage:
            return ""

    return picture


def _width(pairs: Sequence[Pair]) -> int:
    """How large pictures can be for all of them to keep to the budget."""
    count = sum(_pictures(record) for pair in pairs for record in pair.values())
    fitting = (width for width in WIDTHS if count * width**2 * _BYTES_A_PIXEL <= BUDGET)
    return next(fitting, WIDTHS[-1])


def _pictures(record: Mapping[str, Any]) -> int:
    """How many pictures an episode has."""
    turns = [mapping(turn) for turn in record["turns"]] if isinstance(record["turns"], list) else []
    lists = [each.get("pictures") for each in (record, *turns)]
    return len(mapping(record.get("result_pictures"))) + sum(len(each) for each in lists if isinstance(each, list))


def _metric(record: Mapping[str, Any], name: str) -> object:
    return mapping(record["metrics"]).get(name)


def _change(pair: Pair, name: str, value_of: Callable[[Mapping[str, Any]], object], form: str) -> Markup | None:
    """A figure before and after."""
    values = [figure(value_of(pair[side])) if side in pair else None for side in SIDES]
    if values == [None, None]:
        return None
    before, after = ("–" if value is None else form.format(value) for value in values)
    return tag("span", tag("i", name), f"{before} → {after}", class_="chip")


def _has_page(run: Path) -> bool:
    """Whether a recorded run has a page of its own; it is written if it has none."""
    if (run / PAGE).is_file():
        return True
    try:
        write_page(run)
    except (InvalidData, *_BROKEN):
        return False
    return True
