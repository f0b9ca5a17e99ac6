"""The embedded search: an index of SQLite (FTS5), ranked by BM25, over documents of one's own."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import tempfile
import threading
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np

from visenv.capabilities import Passages, Request, Search, not_answered
from visenv.errors import InvalidData
from visenv.experts.search.documents import DocumentLike, passages, read_folder

VERSION = 2
"""Changes with anything that changes what is found: how documents are cut, how queries are read."""
MAX_TERMS = 32
"""Different words of a query that are looked up; the others are left out."""
MAX_WORD = 64
TITLE_WEIGHT = 2.0
"""How much more a word counts in a title than in the text."""
_WORD = re.compile(r"[^\W_]+")
_MARKS = re.compile("[\u0300-\u036f]")
"""Accents that stand alone; the index knows its words without them."""
_STOP_WORDS = frozenset(
    "a an and are as at be by did do does for from had has have in is it its of on or that the their this to was were "
    "what when where which who whom whose why how with".split()
)
_CREATE = "CREATE VIRTUAL TABLE passages USING fts5(title, body, tokenize = 'porter unicode61')"
_FIND = (
    f"SELECT title, body, bm25(passages, {TITLE_WEIGHT}, 1.0) AS rank_ FROM passages WHERE passages MATCH ? "
    "ORDER BY rank_, rowid LIMIT ?"
)
_ALL = "SELECT title, body FROM passages ORDER BY rowid"


def match_expression(query: str) -> str | None:
    """A free text as a query of FTS5: any of its words, each in quotes, so that nothing in it is an operator.

    Args:
        query: whatever an agent wrote.

    Returns:
        The words of the query that say something (all of them where none does); None where there is no word.

    Example:
        >>> match_expression('Who founded the town of "Velmora"? title:x OR NEAR(')
        '"founded" OR "town" OR "velmora" OR "title" OR "x" OR "near"'
    """
    plain = _MARKS.sub("", unicodedata.normalize("NFC", query.lower()))
    words = dict.fromkeys(word[:MAX_WORD] for word in _WORD.findall(plain))
    telling = [word for word in words if word not in _STOP_WORDS] or list(words)
    return " OR ".join(f'"{word}"' for word in telling[:MAX_TERMS]) or None


class LocalSearch:
    """Finds passages of documents by their words.

    Words are matched by their stems, whatever their case; passages that hold rarer words of the query, more of them, or
    hold them in the title come first (Okapi BM25), those that are alike in the order of the documents. The same
    documents give the same results in every process. Copies in other processes take the documents with them, or share
    the file in ``cache``. Several threads may ask at the same time.

    Args:
        documents: a folder (``read_folder`` says what is read), or documents: pairs of title and text.
        cache: a folder in which the index is kept as one file, named after what is in it; None to build it in memory.
            It is made anew where it is missing or broken.
        max_batch: the most requests in one call.

    Raises:
        InvalidData: if there are no documents, one is broken, or this Python's SQLite has no FTS5.

    Example:
        >>> search = LocalSearch([("Velmora", "A town by the sea. Its flag shows a red kite."), ("Oskel", "A hill.")])
        >>> search.run([Search("Whose flag shows a kite?")])[0].titles
        ('Velmora',)
    """

    name = "search"
    capabilities: tuple[str, ...] = ("Search",)
    per_sample = False
    divisible = True
    """A batch takes as long as its requests one by one."""

    def __init__(
        self,
        documents: str | Path | Iterable[DocumentLike],
        *,
        cache: str | Path | None = None,
        max_batch: int = 256,
    ) -> None:
        if not isinstance(max_batch, int) or isinstance(max_batch, bool) or max_batch < 1:
            raise InvalidData(f"Expected max_batch to be a whole number of at least 1, but got {max_batch!r}.")
        self.max_batch = max_batch
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._passages = tuple(passages(read_folder(documents) if isinstance(documents, (str, Path)) else documents))
        if not self._passages:
            raise InvalidData("Expected documents to be searched, but there is no text in them.")
        self.size = len(self._passages)
        """How many passages there are."""
        self._digest = _digest(self._passages)
        self.fingerprint = f"search-{VERSION}-{self._digest}-{sqlite3.sqlite_version}"
        self._file = None if cache is None else Path(cache).expanduser().resolve() / f"{self.fingerprint}.sqlite"
        self._connected()
        if self._file is not None:
            self._passages = ()

    def run(self, requests: Sequence[Request]) -> list[Passages]:
        """Answer a batch; result ``i`` belongs to request ``i``."""
        return [self._answer(request) for request in requests]

    def close(self) -> None:
        """Give back memory and the file; the index is opened, or built, again when it is next needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _answer(self, request: Request) -> Passages:
        if not isinstance(request, Search):
            raise not_answered(self.name, request)
        expression = match_expression(request.query)
        rows: list[tuple[str, str, float]] = []
        if expression is not None:
            with self._lock:
                rows = self._connected().execute(_FIND, (expression, request.limit)).fetchall()
        titles, texts, ranks = tuple(zip(*rows, strict=True)) or ((), (), ())
        return Passages(titles, texts, -np.array(ranks, np.float64))

    def _connected(self) -> sqlite3.Connection:
        with self._lock:
            if self._connection is None:
                self._connection = self._in_memory() if self._file is None else self._in_file(self._file)
            return self._connection

    def _in_memory(self) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", check_same_thread=False)
        _fill(connection, self._passages)
        return connection

    def _in_file(self, file: Path) -> sqlite3.Connection:
        connection = _opened(file, self._digest)
        if connection is None:
            if not self._passages:
                raise InvalidData(f"Expected the index in {str(file)!r}, but it is gone or broken: make it anew.")
            _write(file, self._passages)
            connection = _opened(file, self._digest)
        if connection is None:
            raise InvalidData(f"Expected an index that can be read in {str(file)!r}, but what was written cannot be.")
        return connection

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_connection")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.RLock(), _connection=None)


def _digest(rows: Iterable[tuple[str, str]]) -> str:
    digest = hashlib.blake2b(digest_size=12)
    for title, text in rows:
        for part in (title.encode(), text.encode()):
            digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def _fill(connection: sqlite3.Connection, rows: Iterable[tuple[str, str]]) -> None:
    try:
        connection.execute(_CREATE)
    except sqlite3.OperationalError as error:
        raise InvalidData(
            f"Searching needs SQLite with FTS5, but Python's SQLite {sqlite3.sqlite_version} has none ({error}): use "
            "a Python that is built with it, as those of python.org, Debian and conda are."
        ) from error
    with connection:
        connection.executemany("INSERT INTO passages (title, body) VALUES (?, ?)", rows)
        connection.execute("INSERT INTO passages (passages) VALUES ('optimize')")


def _write(file: Path, rows: Iterable[tuple[str, str]]) -> None:
    """Write an index that is whole from the moment at which it is there."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=".search-", suffix=".tmp")
        os.close(handle)
    except OSError as error:
        raise InvalidData(f"Cannot write an index to {str(file.parent)!r}: {error.strerror or error}.") from error
    try:
        with closing(sqlite3.connect(name)) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            _fill(connection, rows)
        os.replace(name, file)
    except (OSError, sqlite3.Error) as error:
        raise InvalidData(f"Cannot write an index to {str(file)!r}: {error}.") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)


def _opened(file: Path, digest: str) -> sqlite3.Connection | None:
    """An index, for reading only; None if there is none that is whole."""
    if not file.is_file():
        return None
    connection = sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    try:
        for setting in ("trusted_schema = OFF", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {setting}")
        whole = connection.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        # A view or a trigger would be code; only what was created here is read.
        created = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'passages'").fetchall()
        if whole and created == [(_CREATE,)] and _digest(connection.execute(_ALL)) == digest:
            return connection
    except (sqlite3.DatabaseError, AttributeError):
        pass  # Broken, or with numbers where texts were written.
    connection.close()
    return None
