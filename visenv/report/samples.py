"""The same samples before and after training, side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from visenv.errors import InvalidData, InvalidImage
from visenv.images import fit_within, load_image, to_data_url
from visenv.report.episode import episode_html
from visenv.report.markup import Markup, tag
from visenv.report.page import PAGE, picture_path, read_records, write_page
from visenv.report.training_files import figure, mapping, read_json

SIDES = {"before": "Before training", "after": "After training"}
MOST_SAMPLES = 12
"""Samples on the page; the runs' own pages show all."""
BUDGET = 2_200_000
"""Characters that the pictures may take, as base64."""
WIDTHS = (512, 384, 256, 160, 96)
"""Pixels of the longer side of a picture, of which the largest is taken that keeps to the budget."""
THUMBNAIL = 112
FEW = 6
"""Pictures of a turn beyond which they are shown as small as patches."""
PATCH = 80
QUALITY = 75
"""Of JPEG."""
_BYTES_A_PIXEL = 0.17
"""Of a generated scene as base64, about: where to begin."""
_BROKEN = (AttributeError, IndexError, KeyError, TypeError, ValueError)
"""What comes of a recorded episode that is not as ``RunRecorder`` writes it."""

Pair = dict[str, dict[str, Any]]
"""From sides to the episode of one sample."""
Urls = Mapping[str, Mapping[str, str]]
"""The pictures, by side and name."""


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
    shown, urls = _fitting(folder, pairs)
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
        *[_sample(folder, index, pair, headline, urls) for index, pair in enumerate(shown)],
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


def _sample(folder: Path, index: int, pair: Pair, headline: str | None, urls: Urls) -> Markup:
    record = pair.get("after") or pair["before"]
    sides = [
        tag("div", tag("h4", label), _side(folder / side, pair.get(side), f"{side}-{index}-", urls[side]))
        for side, label in SIDES.items()
    ]
    compared = [_change(pair, "reward", lambda each: each.get("reward"), "{:+.2f}")]
    if headline is not None and headline != "reward":
        compared.insert(0, _change(pair, headline, lambda each: _metric(each, headline), "{:.3f}"))
    title = tag("h3", tag("bdi", record.get("query", ""), class_="quote"), *compared)
    return tag("article", title, tag("div", *sides, class_="versus"), class_="sample")


def _side(run: Path, record: dict[str, Any] | None, prefix: str, urls: Mapping[str, str]) -> Markup:
    """One episode as a card."""
    if record is None:
        return tag("p", "This sample was not played.", class_="dim")
    bounds = mapping(mapping(read_json(run / "summary.json")).get("settings")).get("reward_bounds")
    known = isinstance(bounds, list) and len(bounds) == 2 and None not in map(figure, bounds)
    try:
        return episode_html(
            record,
            lambda name: urls.get(name, ""),
            lambda name: _url(run, name, THUMBNAIL),
            bounds if known else None,
            prefix=prefix,
        )
    except _BROKEN:
        return tag("p", "This episode could not be read.", class_="fault")


def _fitting(folder: Path, pairs: Sequence[Pair]) -> tuple[Sequence[Pair], Urls]:
    """As many samples as the budget allows, and their pictures as large as it allows."""
    shown = pairs[:MOST_SAMPLES]
    while True:
        named = {side: [each for pair in shown for each in _pictures(pair.get(side, {}))] for side in SIDES}
        for width in WIDTHS:
            pixels = sum(min(width, most) ** 2 for each in named.values() for _, most in each)
            if width > WIDTHS[-1] and pixels * _BYTES_A_PIXEL > BUDGET:
                continue
            urls = {
                side: {name: _url(folder / side, name, min(width, most)) for name, most in dict(each).items()}
                for side, each in named.items()
            }
            if sum(len(urls[side][name]) for side, each in named.items() for name, _ in each) <= BUDGET:
                return shown, urls
        if len(shown) == 1:
            return shown, urls
        shown = shown[: len(shown) // 2]


def _url(run: Path, name: str, width: int) -> str:
    """A picture of a run, no larger than that; empty if it cannot be shown."""
    path = picture_path(run, name)
    try:
        if path is None:
            return ""
        return to_data_url(fit_within(load_image(path), width, width), encoding="jpeg", quality=QUALITY)
    except InvalidImage:
        return ""


def _pictures(record: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The names of an episode's pictures, each with the most pixels that it is worth."""
    turns = record.get("turns")
    parts = [record, *map(mapping, turns)] if isinstance(turns, list) else [record]
    lists = [part.get("pictures") for part in parts] + [list(mapping(record.get("result_pictures")).values())]
    return [
        (name, WIDTHS[0] if len(each) <= FEW else PATCH)
        for each in lists
        if isinstance(each, list)
        for name in each
        if isinstance(name, str)
    ]


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
