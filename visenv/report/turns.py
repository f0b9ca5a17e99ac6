"""The turns of a recorded episode as HTML: what was called, what came back, and the pictures of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from visenv.report.markup import Markup, joined, tag

LONG_TEXT = 600
"""Characters of a reply or raw turn above which it is folded."""
LONG_CODE = 20_000
"""Characters of a program above which it is cut."""
A_ROW = 4
"""Pictures that stand side by side."""
MANY = 8
"""Pictures of one reply above which they are shown small."""

Picture = Callable[[str], str]
"""From the path of a picture in the run's folder to what ``src`` takes; empty if it cannot be shown."""
_OVERVIEW = "_split_overview"
_PASSAGE = re.compile(r"(\d{1,3})\. (.*)")


def number(value: object) -> str:
    """A figure, short.

    Example:
        >>> number(0.123456), number(3.0), number(12345.0)
        ('0.123', '3', '12345')
    """
    if not isinstance(value, (int, float)):
        return str(value)
    return f"{value:.0f}" if float(value).is_integer() else f"{value:.3f}"


def turns_html(record: Mapping[str, Any], picture: Picture, *, inputs: bool = True) -> Markup:
    """All turns of an episode, beginning with the task.

    Args:
        record: a line of ``trajectories.jsonl``.
        picture: gives the pictures.
        inputs: whether to show the input images with the task.
    """
    names = [image["name"] for image in record["images"]]
    files = record.get("pictures", [])
    sizes = ", ".join(f"{image['name']} ({image['width']}×{image['height']})" for image in record["images"])
    start = tag(
        "li",
        tag("div", tag("span", "Task", class_="tool"), tag("bdi", record["query"], class_="quote"), class_="call"),
        tag("p", sizes, class_="dim"),
        gallery(files, names, picture) if inputs else None,
        class_="turn start",
    )
    known = dict(zip(names, files, strict=False))
    answers = [str(answer) for answer in record["truth"].get("answers") or ()]
    parts = [start]
    for turn in record["turns"]:
        parts.append(_turn(turn, known, answers, picture))
        known |= zip(turn["shown"], turn.get("pictures", []), strict=False)
    return tag("ol", *parts, class_="turns")


def _turn(turn: Mapping[str, Any], known: Mapping[str, str], answers: Sequence[str], picture: Picture) -> Markup:
    """One turn.

    Args:
        turn: as recorded.
        known: from the names of pictures shown before to their files.
        answers: those that are accepted.
        picture: gives the pictures.
    """
    error, name = turn["error"], turn["name"]
    terms = [chip(term, value) for term, value in turn["reward_terms"].items()]
    notes = [
        tag("p", "Made ", _names(turn["created"]), class_="dim") if turn["created"] else None,
        tag("p", "Archived ", _names(turn["archived"]), class_="archived") if turn["archived"] else None,
    ]
    call = tag(
        "div",
        tag("span", name or "malformed", class_=f"tool {word(name or 'malformed')}"),
        _arguments(turn["arguments"]),
        tag("span", f"{turn['visual_tokens']} tokens in view", class_="tokens"),
        class_="call",
    )
    program = _program(turn)
    passages = _passages(turn["reply"], answers) if name == "Search" and not error else None
    words = tag(
        "div",
        tag("p", tag("bdi", turn["thought"]), class_="thought") if turn.get("thought") else None,
        program,
        *(
            _folded(key, value, "lines")
            for key, value in turn["arguments"].items()
            if key != "code" and _has_lines(value)
        ),
        _folded("Raw turn", turn["text"], "raw") if turn.get("text") is not None else None,
        tag("p", tag("b", error["code"]), " ", tag("bdi", error["message"]), class_="fault") if error else None,
        passages if passages is not None else _folded("Reply", turn["reply"], "reply") if not error else None,
        *notes,
        tag("p", *terms, class_="terms") if any(turn["reward_terms"].values()) else None,
    )
    files, names = list(turn.get("pictures", [])), list(turn["shown"])
    source = turn["arguments"].get("image")
    if program is not None and len(files) == 1 and isinstance(source, str) and source in known and source not in names:
        shown = tag(
            "div",
            figure(picture(known[source]), f"{source}, before"),
            figure(picture(files[0]), f"{names[0]}, after"),
            class_="pictures change",
        )
        return tag("li", call, tag("div", words, shown, class_="told"), class_="turn")
    pictures = gallery(files, names, picture)
    beside = " beside" if pictures is not None and len(files) == 1 else ""
    return tag(
        "li", call, tag("div", words, pictures, class_=f"told{beside}"), class_="turn faulty" if error else "turn"
    )


def _program(turn: Mapping[str, Any]) -> Markup | None:
    """The program of a call that runs one."""
    code = turn["arguments"].get("code")
    if not isinstance(code, str):
        return None
    cut = code if len(code) <= LONG_CODE else f"{code[:LONG_CODE]}\n… ({len(code)} characters)"
    return tag("pre", tag("code", cut), class_="code", dir="ltr")


def _passages(reply: str, answers: Sequence[str]) -> Markup | None:
    """The passages that a search found as a list, with accepted answers marked; None for a reply of another form."""
    items: list[tuple[str, str]] = []
    others: list[str] = []
    for line in reply.split("\n"):
        found = _PASSAGE.fullmatch(line)
        if found is not None and not others:
            items.append((found[1], found[2]))
        elif items:
            others.append(line)
        else:
            return None
    rows = [tag("li", tag("bdi", _marked(passage, answers)), value=place) for place, passage in items]
    return tag("div", tag("ol", *rows), tag("p", " ".join(others), class_="dim") if others else None, class_="passages")


def _marked(passage: str, answers: Sequence[str]) -> Markup:
    """A passage with its title in bold and each accepted answer of more than one letter marked."""
    sought = sorted({answer for answer in answers if len(answer) > 1}, key=len, reverse=True)
    title, colon, rest = passage.partition(": ")
    if not colon:
        title, rest = "", passage
    pieces: list[object] = [rest]
    if sought:
        pieces = re.split(f"((?<!\\w)(?:{'|'.join(map(re.escape, sought))})(?!\\w))", rest, flags=re.IGNORECASE)
        pieces = [tag("mark", piece) if place % 2 else piece for place, piece in enumerate(pieces)]
    return joined([tag("b", f"{title}: ") if title else "", *pieces])


def _arguments(arguments: Mapping[str, Any]) -> Markup:
    """The arguments of a call, each ``name value``, long ones cut; programs and texts of several lines stand below."""
    parts = []
    for name, value in arguments.items():
        if (name == "code" and isinstance(value, str)) or _has_lines(value):
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
    """Whether an argument is a text of several lines."""
    return isinstance(value, str) and "\n" in value.strip()


def _folded(label: str, content: str, kind: str) -> Markup:
    if len(content) <= LONG_TEXT:
        return tag("pre", content, class_=kind, dir="auto")
    head = f"{label}: {' '.join(content[:120].split())}… ({len(content)} characters)"
    return tag("details", tag("summary", head), tag("pre", content, class_=kind, dir="auto"), class_="fold")


def gallery(files: Sequence[str], names: Sequence[str], picture: Picture) -> Markup | None:
    """Pictures side by side, with their names; None if there are none.

    Args:
        files: their paths in the run's folder.
        names: as many.
        picture: gives them.
    """
    if not files:
        return None
    shown = [figure(picture(path), name) for path, name in zip(files, names, strict=False)]
    if len(files) > MANY:
        return tag("div", *shown, class_="pictures many")
    if len(files) == 1 or any(name.endswith(_OVERVIEW) for name in names):
        return tag("div", *shown, class_="pictures")
    return tag("div", *shown, class_="pictures grid", style=f"--n:{min(A_ROW, len(files))}")


def figure(source: str, caption: str) -> Markup:
    """A picture with its caption, or that it is missing.

    Args:
        source: what ``src`` takes; empty if it cannot be shown.
        caption: its name.
    """
    kind = "overview" if caption.endswith(_OVERVIEW) else None
    inner = tag("img", src=source, alt=caption, loading="lazy") if source else tag("div", "missing", class_="missing")
    return tag("figure", inner, tag("figcaption", caption, title=caption), class_=kind)


def _names(names: Sequence[str]) -> Markup:
    shown = [joined([tag("code", name), " "]) for name in names[:8]]
    return joined([*shown, f" and {len(names) - 8} more" if len(names) > 8 else ""])


def chip(name: str, value: object) -> Markup:
    """A figure with its name."""
    return tag("span", tag("i", name), number(value), class_="chip")


def word(name: str) -> str:
    """A name as part of a class: letters alone."""
    return "".join(letter for letter in name if letter.isascii() and (letter.isalnum() or letter == "_"))[:40]
