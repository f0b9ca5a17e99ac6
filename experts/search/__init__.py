"""Search: a local index over documents (``LocalSearch``), and services over HTTP (``ServiceSearch``)."""

from __future__ import annotations

from functools import cache

from visenv.experts.search.documents import Document, read_folder
from visenv.experts.search.index import LocalSearch
from visenv.experts.search.remote import ServiceSearch
from visenv.experts.search.services import SERVICES, Service
from visenv.registration import Entry

__all__ = ["SERVICES", "Document", "LocalSearch", "Service", "ServiceSearch", "make", "read_folder"]


@cache
def _indexed(corpus: str) -> LocalSearch:
    """An index, once a process: it never changes, and any number of environments may ask it."""
    return LocalSearch(Entry(corpus, corpus).load()())


def make(corpus: str) -> list[LocalSearch]:
    """The expert set ``search``.

    Args:
        corpus: the import string of a function that gives the documents.

    Returns:
        One expert, a local index.
    """
    return [_indexed(corpus)]
