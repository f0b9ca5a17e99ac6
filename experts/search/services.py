"""Search services over HTTP: what each is asked, and where its answer has titles and texts."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from visenv.errors import InvalidData, UnknownName

MAX_TEXT, MAX_TITLE = 2000, 200
"""Characters of a passage and of its title that are kept."""
_TAG = re.compile(r"<[^<>]{0,200}>")
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Service:
    """One way of asking for passages.

    Its functions are named at the top of modules where it is to be copied to other processes.
    """

    name: str
    ask: Callable[[str, int], dict[str, Any]]
    """From a query and the most passages wanted to the request: ``params`` for a GET, or ``json`` for a POST."""
    read: Callable[[Any], Any]
    """From the answer's JSON to a list of (title, text), the best first. Whatever it raises is a broken answer."""
    address: str | None = None
    """Where it is; None for one of the user's own."""
    path: str = ""
    """What is asked, after the address."""
    key_header: str | None = None
    """The header that carries the key; None where there is none."""
    key_variable: str | None = None
    """The environment variable in which the key is looked for."""


def passages_of(service: Service, answer: Any, limit: int) -> list[tuple[str, str]]:
    """The passages in a service's answer, as plain text, the best first, none empty.

    Raises:
        InvalidData: if it is not as the service's answers are.
    """
    try:
        rows = [(_plain(title, MAX_TITLE), _plain(text, MAX_TEXT)) for title, text in service.read(answer)]
    except Exception as error:
        raise InvalidData(
            f"Expected an answer of {service.name!r}, but got another: {type(error).__name__}: {error!s:.100}."
        ) from error
    return [(title, text) for title, text in rows if title or text][:limit]


def _plain(value: Any, limit: int) -> str:
    """A text without markup and what cannot be seen; empty where there is none."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"a text was expected, but {type(value).__name__} came")
    return " ".join(_UNSEEN.sub(" ", html.unescape(_TAG.sub("", value[: 8 * limit]))).split())[:limit]


def _ask_serper(query: str, limit: int) -> dict[str, Any]:
    return {"json": {"q": query, "num": limit}}


def _read_serper(answer: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return [(row.get("title"), row.get("snippet")) for row in answer.get("organic", [])]


def _ask_brave(query: str, limit: int) -> dict[str, Any]:
    return {"params": {"q": query, "count": limit}}


def _read_brave(answer: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return [(row.get("title"), row.get("description")) for row in answer.get("web", {}).get("results", [])]


def _ask_searxng(query: str, limit: int) -> dict[str, Any]:
    return {"params": {"q": query, "format": "json"}}


def _read_searxng(answer: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return [(row.get("title"), row.get("content")) for row in answer["results"]]


def _ask_retriever(query: str, limit: int) -> dict[str, Any]:
    return {"json": {"queries": [query], "topk": limit, "return_scores": True}}


def _read_retriever(answer: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    (found,) = answer["result"]
    rows = []
    for row in found:
        title, _, text = row.get("document", row)["contents"].partition("\n")
        rows.append((title.strip().strip('"'), text))
    return rows


SERVICES: dict[str, Service] = {
    service.name: service
    for service in (
        Service(
            "serper",
            _ask_serper,
            _read_serper,
            address="https://google.serper.dev",
            path="/search",
            key_header="X-API-KEY",
            key_variable="SERPER_API_KEY",
        ),
        Service(
            "brave",
            _ask_brave,
            _read_brave,
            address="https://api.search.brave.com",
            path="/res/v1/web/search",
            key_header="X-Subscription-Token",
            key_variable="BRAVE_SEARCH_API_KEY",
        ),
        Service("searxng", _ask_searxng, _read_searxng, path="/search"),
        Service("retriever", _ask_retriever, _read_retriever, path="/retrieve"),
    )
}
"""Those that are known: Serper (Google's results), Brave, SearXNG, and the retrieval server of Search-R1."""


def find_service(value: str | Service) -> Service:
    """A service by its name, or itself.

    Raises:
        UnknownName: if none has that name.
    """
    if isinstance(value, Service):
        return value
    if value not in SERVICES:
        raise UnknownName(f"Unknown search service {value!r:.80}. Known: {', '.join(SERVICES)}; or pass a Service.")
    return SERVICES[value]
