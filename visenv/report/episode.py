"""One recorded episode as HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from visenv.datasets.options import LETTERS
from visenv.report.markup import Markup, joined, tag
from visenv.report.turns import Picture, chip, figure, gallery, number, turns_html, word

COSTS = ("turns", "tool_calls", "errors", "visual_tokens_shown", "visual_tokens_read", "visual_tokens_saved")


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
            tag("bdi", record["query"].partition("\n")[0], class_="query"),
            tag("span", _steps(turns), class_="steps"),
            class_="what",
        ),
        tag("span", *[chip(name, value) for name, value in list(figures.items())[:2]], class_="figures"),
        tag("span", record["termination"], class_=f"ended {word(record['termination'])}"),
        tag("span", f"{reward:+.2f}", class_="score", style=f"--q:{quality(reward, bounds):.3f}", title="reward"),
    )
    body = [
        tag("p", f"Invalid: {record['invalid']}", class_="fault") if record.get("invalid") else None,
        _result(record, figures, picture),
        turns_html(record, picture, inputs=not _is_told(record)),
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
                class_="fault" if turn["error"] else word(turn["name"] or "malformed"),
                title=turn["name"] or "malformed",
            )
            for turn in turns
        ]
    )


def _result(record: Mapping[str, Any], figures: Mapping[str, Any], picture: Picture) -> Markup:
    outcome, truth, drawn = record["outcome"], record["truth"], record.get("result_pictures", {})
    if _is_told(record):
        shown = gallery(record.get("pictures", []), [image["name"] for image in record["images"]], picture)
    else:
        count = "no final result" if outcome["count"] is None else f"{outcome['count']} found"
        final = "The picture in the end" if truth["type"] == "image" else f"Final result: {count}"
        captions = (("truth", f"Truth: {_truth_words(truth)}"), ("final", final))
        shown = tag(
            "div",
            *[figure(picture(drawn[key]), words) for key, words in captions if key in drawn],
            class_="pictures pair",
        )
    costs = {key.replace("_", " "): record["metrics"][key] for key in COSTS if key in record["metrics"]}
    table = tag(
        "dl",
        *[tag("div", tag("dt", name), tag("dd", number(value))) for name, value in {**figures, **costs}.items()],
    )
    facts = tag("div", *_answer(record), table, tag("p", record["sample_id"], class_="dim mono"), class_="facts")
    return tag("section", shown, facts, class_="result" if shown is not None else "result alone")


def _is_told(record: Mapping[str, Any]) -> bool:
    """Whether the result is an answer alone, which is no part of a picture."""
    return record["truth"]["type"] == "answers" and record["outcome"]["count"] is None


def _answer(record: Mapping[str, Any]) -> list[Markup]:
    """What was answered, whether that is right, and what would be: the options, or the accepted answers."""
    answer, right = record["outcome"]["answer"], record["truth"].get("answers")
    exact = record["metrics"].get("EM") if right else None
    verdict = None
    if exact is not None:
        verdict = tag("span", "right" if exact else "wrong", class_=f"verdict {'right' if exact else 'wrong'}")
    said = ("Answer: ", tag("bdi", answer, class_="quote")) if answer else (tag("span", "No answer.", class_="dim"),)
    parts = [tag("p", *said, " ", verdict)]
    choices = record["truth"].get("choices")
    if choices:
        parts.append(_choices(choices, right or (), answer or ""))
    elif right:
        accepted = [part for each in right for part in (" or ", tag("bdi", each, class_="quote"))][1:]
        parts.append(tag("p", "Right: ", *accepted))
    return parts


def _choices(choices: Sequence[str], right: Sequence[str], answer: str) -> Markup:
    """The options of a question, the right ones and the one that was chosen marked."""
    rows = []
    said = re.sub(r"^\((.*)\)$", r"\1", answer.strip().rstrip(".")).casefold()
    for letter, choice in zip(LETTERS, choices, strict=False):
        good, chosen = letter in right or choice in right, said in (letter.casefold(), choice.casefold())
        kind = " ".join(name for name, holds in (("right", good), ("chosen", chosen)) if holds)
        words = ", ".join(name for name, holds in (("right", good), ("answered", chosen)) if holds)
        note = tag("span", words, class_="dim") if words else None
        rows.append(tag("li", tag("b", letter), tag("bdi", choice), note, class_=kind or None))
    return tag("ul", *rows, class_="choices")


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
