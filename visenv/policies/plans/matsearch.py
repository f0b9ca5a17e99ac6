"""Questions about pictured things by rule: look, look up the flag, and follow the names from document to document."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from visenv.datasets.lore.questions import FORMS, PLACES, outermost
from visenv.datasets.scenes.kinds import COLOURS, KINDS, PATTERNS
from visenv.episode import Episode
from visenv.experts.classical.perception import Perceiver, Percept
from visenv.policies.base import Plan
from visenv.types import MAX_PHRASE, Answer, AnswerTruth, ToolCall

_PASSAGE = re.compile(r"^\d+\. ([^:\n]*): (.*)$", re.MULTILINE)
_NAME = r"([A-Z][a-z]+ [A-Z][a-z]+)"
_FOUNDER, _YEAR = re.compile(rf"founded by {_NAME}"), re.compile(r"\b(1\d\d\d)\b")
_BIRTHPLACE = re.compile(r"[Bb]orn in the village of ([A-Z][a-z]+)")
_TEACHER = re.compile(rf"taught by {_NAME}")
_UNSURE = 0.3
"""The least probability of a kind for which something seen is taken to be of it."""
_UNKNOWN = Answer("unknown")


def scripted(episode: Episode) -> Plan:
    """Looks at the picture with the eyes of the classical expert, and follows the documents from there.

    It sees what any policy may see, the pixels of ``img_0``, and knows how questions and documents are worded.
    """
    thing = seen_thing(episode)
    if thing is None:
        yield from single(episode)
    else:
        yield from followed(episode, thing)


def oracle(episode: Episode) -> Plan:
    """Is told which thing is meant, and finds the rest in the documents; about other data it is told the answer."""
    thing = episode.get_state().sample.metadata.get("thing")
    if thing is None:
        truth = episode.truth
        yield Answer(truth.answers[0] if isinstance(truth, AnswerTruth) else "")
    else:
        yield from followed(episode, str(thing))


def single(episode: Episode) -> Plan:
    """Looks the question itself up, once, and answers with the title of the best passage: it does not look."""
    yield ToolCall("Search", {"query": episode.query[:MAX_PHRASE]})
    found = passages(episode)
    yield Answer(found[0][0]) if found else _UNKNOWN


def followed(episode: Episode, thing: str) -> Plan:
    """From a thing's description to the answer, a document at a time.

    Args:
        episode: at work.
        thing: pattern, colour and kind, as flags show it.
    """
    asked = asked_of(episode.query)
    yield ToolCall("Search", {"query": f"flag {thing}"})
    flags = [(title, text) for title, text in passages(episode) if "flag" in text]
    town = next((title for title, text in flags if thing in text), flags[0][0] if flags else None)
    if town is None or asked == "town":
        yield Answer(town) if town else _UNKNOWN
        return
    yield ToolCall("Search", {"query": f"Who founded {town}?"})
    founding = next((text for title, text in passages(episode) if title == f"The founding of {town}"), "")
    founder = _found(_FOUNDER, founding)
    if asked in ("founder", "year") or founder is None:
        yield Answer(_found(_YEAR, founding) or "unknown") if asked == "year" else Answer(founder or "unknown")
        return
    yield ToolCall("Search", {"query": f"{founder}, born, taught"})
    life = next((text for title, text in passages(episode) if title == founder), "")
    yield Answer(_found(_BIRTHPLACE if asked == "birthplace" else _TEACHER, life) or "unknown")


def passages(episode: Episode) -> list[tuple[str, str]]:
    """Titles and texts in the last reply."""
    return _PASSAGE.findall(episode.transcript[-1].reply)


def asked_of(query: str) -> str | None:
    """What a question asks for, a name in ``FORMS``, by its first words.

    Example:
        >>> asked_of("Who founded the town whose flag shows the kite in the picture?")
        'founder'
    """
    for name, (form, _) in FORMS.items():
        if query.startswith(form.partition("{it}")[0]):
            return name
    return None


def seen_thing(episode: Episode) -> str | None:
    """What the question is about, described as it looks; None where it is not seen."""
    kind = next((name for name in KINDS if re.search(rf"\b{name} in the picture", episode.query)), None)
    if kind is None or asked_of(episode.query) is None:
        return None
    percepts = _perceiver()(episode.workspace.view("img_0", "")).percepts
    alike = [percept for percept in percepts if percept.kinds.get(kind, 0.0) >= _UNSURE]
    if not alike:
        return None
    place = next((name for name in PLACES if f"the {name} {kind}" in episode.query), None)
    if place is None:
        meant: Percept = max(alike, key=lambda percept: percept.kinds[kind])
    else:
        centres = [((p.box[0] + p.box[2]) / 2, (p.box[1] + p.box[3]) / 2) for p in alike]
        meant = alike[outermost(centres, place, margin=0.0) or 0]
    return f"{_likeliest(meant.patterns, PATTERNS)} {_likeliest(meant.colours, COLOURS)} {kind}"


@cache
def _perceiver() -> Perceiver:
    return Perceiver()


def _likeliest(probabilities: dict[str, float], known: Iterable[str]) -> str:
    """Of the words that flags are described with, the one that fits best."""
    return max(known, key=lambda name: probabilities.get(name, 0.0))


def _found(pattern: re.Pattern[str], text: str) -> str | None:
    match = pattern.search(text)
    return match.group(1) if match else None
