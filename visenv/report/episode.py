"""One recorded episode as HTML."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visenv.report.markup import Markup, joined, tag

COSTS = ("turns", "tool_calls", "errors", "visual_tokens_shown", "visual_tokens_read", "visual_tokens_saved")
LONG_TEXT = 600
"""Characters of a reply or raw turn above which it is folded."""

Picture = Callable[[str], str]
"""From the path of a picture in the run's folder to what ``src`` takes; empty if it cannot be shown."""


def number(value: object) -> str:
    """A figure, short.

    Example:
        >>> number(0.123456), number(3.0), number(12345.0)
        ('0.123', '3', '12345')
    """
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3f}"


def quality(reward: float, bounds: Sequence[float] | None) -> float:
    """Where a reward lies between the worst and the best, from 0 to 1; 0.5 where that is not known.

    Example:
        >>> quality(1.0, [-3.0, 5.0]), quality(1.0, None)
        (0.5, 0.5)
    """
    if not bounds or None in bounds or bounds[1] <= bounds[0]:
        return 0.5
    return min(1.0, max(0.0, (reward - bounds[0]) / (bounds[1] - bounds[0])))


def episode_html(
    record: Mapping[str, Any],
    picture: Picture,
    thumbnail: Picture,
    bounds: Sequence[float] | None,
    *,
    prefix: str = "e",
) -> Markup:
    """An episode as one folded card.

    Args:
        record: a line of ``trajectories.jsonl``.
        picture: gives the pictures.
        thumbnail: gives small ones.
        bounds: the least and the most that an episode can pay.
        prefix: of the card's ``id``, before the episode's number.
    """
    index, turns, reward = record["episode"], record["turns"], float(record["reward"])
    figures = {key: value for key, value in record["metrics"].items() if key not in COSTS}
    small = thumbnail(record["pictures"][0]) if record.get("pictures") else ""
    head = tag(
        "summary",
        tag("img", class_="thumb", src=small, alt="") if small else tag("span", class_="thumb"),
        tag(
            "span",
            tag("span", f"#{index}", class_="number"),
            tag("bdi", record["query"], class_="query"),
            tag("span", _steps(turns), class_="steps"),
            class_="what",
        ),
        tag("span", *[_chip(name, value) for name, value in list(figures.items())[:2]], class_="figures"),
        tag("span", record["termination"], class_=f"ended {_word(record['termination'])}"),
        tag("span", f"{reward:+.2f}", class_="score", style=f"--q:{quality(reward, bounds):.3f}", title="reward"),
    )
    body = [
        tag("p", f"Invalid: {record['invalid']}", class_="fault") if record.get("invalid") else None,
        _result(record, figures, picture),
        tag("ol", _start(record, picture), *[_turn(turn, picture) for turn in turns], class_="turns"),
    ]
    return tag(
        "details",
        head,
        tag("div", *body, class_="body"),
        class_="episode",
        id=f"{prefix}{index}",
        data_order=index,
        data_reward=f"{reward:.6f}",
        data_turns=len(turns),
        data_ended=record["termination"],
        data_faults=sum(turn["error"] is not None for turn in turns),
        data_text=f"{record['query']} {record['sample_id']} {' '.join(str(turn['name']) for turn in turns)}".lower(),
    )


def _steps(turns: Sequence[Mapping[str, Any]]) -> Markup:
    """The calls of an episode as a row of small marks."""
    return joined(
        [
            tag(
                "i",
                class_="fault" if turn["error"] else _word(turn["name"] or "malformed"),
                title=turn["name"] or "malformed",
            )
            for turn in turns
        ]
    )


def _result(record: Mapping[str, Any], figures: Mapping[str, Any], picture: Picture) -> Markup:
    outcome, truth, drawn = record["outcome"], record["truth"], record.get("result_pictures", {})
    count = "no final result" if outcome["count"] is None else f"{outcome['count']} found"
    # An answer is no part of the picture.
    final = "img_0" if truth["type"] == "answers" and outcome["count"] is None else f"Final result: {count}"
    shown = [
        _figure(picture(drawn[key]), caption)
        for key, caption in (("truth", f"Truth: {_truth_words(truth)}"), ("final", final))
        if key in drawn
    ]
    costs = {key.replace("_", " "): record["metrics"][key] for key in COSTS if key in record["metrics"]}
    table = tag(
        "dl",
        *[tag("div", tag("dt", name), tag("dd", number(value))) for name, value in {**figures, **costs}.items()],
    )
    answer = outcome["answer"]
    said = tag("p", "Answer: ", tag("bdi", answer, class_="quote")) if answer else tag("p", "No answer.", class_="dim")
    if truth.get("answers"):
        accepted = [part for each in truth["answers"] for part in (" or ", tag("bdi", each, class_="quote"))][1:]
        said = joined([said, tag("p", "Right: ", *accepted)])
    facts = tag("div", table, said, tag("p", record["sample_id"], class_="dim mono"), class_="facts")
    return tag("section", tag("div", *shown, class_="pictures pair"), facts, class_="result")


def _truth_words(truth: Mapping[str, Any]) -> str:
    if truth["type"] == "answers":
        return " / ".join(truth["answers"])
    if truth["type"] == "image":
        return ", ".join(truth["damage"]) or "nothing is wrong with it"
    items = truth.get("target") if truth["type"] == "masks" else truth[truth["type"]]
    if not items:
        return "nothing to find"
    noun = {"masks": "region", "boxes": "box", "points": "point"}[truth["type"]]
    return f"1 {noun}" if len(items) == 1 else f"{len(items)} {'boxes' if noun == 'box' else noun + 's'}"


def _start(record: Mapping[str, Any], picture: Picture) -> Markup:
    images = ", ".join(f"{image['name']} ({image['width']}×{image['height']})" for image in record["images"])
    return tag(
        "li",
        tag("div", tag("span", "Task", class_="tool"), tag("bdi", record["query"], class_="quote"), class_="call"),
        tag("p", images, class_="dim"),
        _pictures(record.get("pictures", []), [image["name"] for image in record["images"]], picture),
        class_="turn start",
    )


def _turn(turn: Mapping[str, Any], picture: Picture) -> Markup:
    error, name = turn["error"], turn["name"]
    terms = [_chip(term, value) for term, value in turn["reward_terms"].items()]
    notes = [
        tag("p", "Made ", _names(turn["created"]), class_="dim") if turn["created"] else None,
        tag("p", "Archived ", _names(turn["archived"]), class_="archived") if turn["archived"] else None,
    ]
    call = tag(
        "div",
        tag("span", name or "malformed", class_=f"tool {_word(name or 'malformed')}"),
        _arguments(turn["arguments"]),
        tag("span", f"{turn['visual_tokens']} tokens in view", class_="tokens"),
        class_="call",
    )
    words = tag(
        "div",
        tag("p", tag("bdi", turn["thought"]), class_="thought") if turn.get("thought") else None,
        *(_folded(name, text, "lines") for name, text in turn["arguments"].items() if _has_lines(text)),
        _folded("Raw turn", turn["text"], "raw") if turn.get("text") is not None else None,
        tag("p", tag("b", error["code"]), " ", tag("bdi", error["message"]), class_="fault") if error else None,
        _folded("Reply", turn["reply"], "reply") if not error else None,
        *notes,
        tag("p", *terms, class_="terms") if any(turn["reward_terms"].values()) else None,
    )
    shown = _pictures(turn.get("pictures", []), turn["shown"], picture)
    beside = " beside" if shown is not None and len(turn["pictures"]) == 1 else ""
    return tag("li", call, tag("div", words, shown, class_=f"told{beside}"), class_="turn faulty" if error else "turn")


def _arguments(arguments: Mapping[str, Any]) -> Markup:
    """The arguments of a call, each ``name value``, long ones cut; those of several lines stand below it."""
    parts = []
    for name, value in arguments.items():
        if _has_lines(value):
            continue
        written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        if isinstance(value, list) and len(value) > 4 and all(isinstance(item, str) for item in value):
            written = f"{', '.join(value[:3])}, … ({len(value)})"
        elif isinstance(value, list) and all(isinstance(item, str) for item in value):
            written = ", ".join(value)
        cut = written if len(written) <= 200 else f"{written[:200]}… ({len(written)} characters)"
        parts.append(tag("span", tag("i", name), tag("bdi", cut), class_="argument", title=written[:2000]))
    return joined(parts)


def _has_lines(value: Any) -> bool:
    """Whether an argument is a text of several lines, such as a program."""
    return isinstance(value, str) and "\n" in value.strip()


def _folded(label: str, content: str, kind: str) -> Markup:
    if len(content) <= LONG_TEXT:
        return tag("pre", content, class_=kind, dir="auto")
    head = f"{label}: {' '.join(content[:120].split())}… ({len(content)} characters)"
    return tag("details", tag("summary", head), tag("pre", content, class_=kind, dir="auto"), class_="fold")


def _pictures(files: Sequence[str], names: Sequence[str], picture: Picture) -> Markup | None:
    if not files:
        return None
    shown = [_figure(picture(path), name) for path, name in zip(files, names, strict=False)]
    many = " many" if len(files) > 6 else ""
    return tag("div", *shown, class_=f"pictures{many}")


def _figure(source: str, caption: str) -> Markup:
    kind = "overview" if caption.endswith("_split_overview") else None
    inner = tag("img", src=source, alt=caption, loading="lazy") if source else tag("div", "missing", class_="missing")
    return tag("figure", inner, tag("figcaption", caption, title=caption), class_=kind)


def _names(names: Sequence[str]) -> Markup:
    shown = [joined([tag("code", name), " "]) for name in names[:8]]
    return joined([*shown, f" and {len(names) - 8} more" if len(names) > 8 else ""])


def _chip(name: str, value: object) -> Markup:
    return tag("span", tag("i", name), number(value), class_="chip")


def _word(name: str) -> str:
    """A name as part of a class: letters alone."""
    return "".join(letter for letter in name if letter.isascii() and (letter.isalnum() or letter == "_"))[:40]
