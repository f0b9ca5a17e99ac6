"""Documents to be searched: from a folder of text, Markdown and JSON lines, cut into passages.

A folder comes from somewhere else. What is read is bounded in files, in bytes and in passages; links do not lead out of
it; a file that is broken is named, and nothing is indexed without it.
"""

from __future__ import annotations

import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from visenv.errors import InvalidData

SUFFIXES = (".txt", ".md", ".jsonl")
MAX_FILES = 100_000
MAX_BYTES = 2**30
"""Of all files of a folder together."""
MAX_TEXT_BYTES = 16 * 2**20
"""Of one text or Markdown file."""
MAX_LINE_BYTES = 2**20
"""Of one line of JSON."""
MAX_PASSAGES = 2_000_000
PASSAGE_CHARACTERS = 1000
"""The longest passage; a longer document becomes several of its title."""
TITLE_CHARACTERS = 200

_HEADING = re.compile(r"[ \t]{0,3}#{1,6}[ \t]+(\S[^\r\n]*)")
_BLANK_LINES = re.compile(r"\n[ \t\r]*\n\s*")


@dataclass(frozen=True)
class Document:
    """Something to be found.

    Raises:
        InvalidData: if a field is no text, or holds what no text holds.
    """

    title: str
    text: str

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, str) or "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
                raise InvalidData(f"Expected a document's {name} to be a text, but got {value!r:.80}.")


DocumentLike: TypeAlias = "Document | tuple[str, str] | Mapping[str, Any]"


def as_document(value: DocumentLike) -> Document:
    r"""A document from itself, from a pair of title and text, or from a mapping as a line of JSON holds it.

    Raises:
        InvalidData: if it is none of these.

    Example:
        >>> as_document(("Velmora", "A town by the sea."))
        Document(title='Velmora', text='A town by the sea.')
        >>> as_document({"id": 7, "contents": "Velmora\nA town by the sea."})
        Document(title='Velmora', text='A town by the sea.')
    """
    if isinstance(value, Document):
        return value
    if isinstance(value, tuple) and len(value) == 2:
        return Document(*value)
    if isinstance(value, Mapping) and "text" in value:
        return Document(value.get("title", ""), value["text"])
    if isinstance(value, Mapping) and isinstance(value.get("contents"), str):
        title, _, text = value["contents"].partition("\n")
        return Document(title.strip().strip('"'), text)
    raise InvalidData(
        "Expected a document as (title, text), {'title': …, 'text': …} or {'contents': 'title\\ntext'}, but got "
        f"{value!r:.80}."
    )


def passages(documents: Iterable[DocumentLike]) -> Iterator[tuple[str, str]]:
    """Documents cut into passages: pairs of the document's title and at most ``PASSAGE_CHARACTERS`` of its text.

    Paragraphs stay whole where they fit, and are put together while they do.

    Raises:
        InvalidData: if something is no document, or there are more than ``MAX_PASSAGES``.
    """
    number = 0
    for value in documents:
        document = as_document(value)
        title = " ".join(unicodedata.normalize("NFC", document.title).split())[:TITLE_CHARACTERS]
        # A letter and its accent may be one character or two, of which queries hold the one.
        for part in _parts(unicodedata.normalize("NFC", document.text)):
            number += 1
            if number > MAX_PASSAGES:
                raise InvalidData(f"Expected at most {MAX_PASSAGES} passages to be searched, but there are more.")
            yield title, part


def _parts(text: str) -> Iterator[str]:
    held = ""
    for paragraph in _BLANK_LINES.split(text.strip()):
        words = " ".join(paragraph.split())
        while words:
            joined = f"{held}\n{words}" if held else words
            if len(joined) <= PASSAGE_CHARACTERS:
                held, words = joined, ""
            elif held:
                yield held
                held = ""
            else:
                end = words.rfind(" ", 1, PASSAGE_CHARACTERS + 1)
                end = end if end > 0 else PASSAGE_CHARACTERS
                yield words[:end]
                words = words[end:].lstrip()
    if held:
        yield held


def read_folder(folder: str | Path) -> Iterator[Document]:
    r"""The documents of a folder and the folders in it, in the order of their paths.

    A ``.txt`` or ``.md`` file is a document, whose title is its first heading or its name. Each line of a ``.jsonl``
    file is one: ``{"title": …, "text": …}``, or ``{"contents": "title\ntext"}`` as retrieval corpora have it. Other
    files, and those whose name begins with a dot, are not looked at. Everything is UTF-8.

    Raises:
        InvalidData: if there is no such folder, nothing in it, a file is broken or too large, or a link leads out.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InvalidData(f"Expected a folder of documents ({', '.join(SUFFIXES)}), but there is no {str(root)!r}.")
    left = MAX_BYTES
    found = False
    for path in _files(root):
        for document, size in _jsonl(path) if path.suffix.lower() == ".jsonl" else _whole(path):
            left -= size
            if left < 0:
                raise InvalidData(f"Expected at most {MAX_BYTES} bytes of documents in {str(root)!r}; there are more.")
            if document is not None:
                found = True
                yield document
    if not found:
        raise InvalidData(f"Expected documents ({', '.join(SUFFIXES)}) in {str(root)!r}, but there are none.")


def _files(root: Path) -> list[Path]:
    files: list[Path] = []
    real_root = root.resolve()
    for folder, folders, names in os.walk(root, onerror=_unlisted):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            # Those that lead to another place inside are not followed: what is there is read where it is.
            if (path := Path(folder, name)).is_symlink() and not _inside(path, real_root):
                raise InvalidData(f"{str(path)!r} is a link that leads out of {str(root)!r}: copy the folder instead.")
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            if path.is_symlink() and not _inside(path, real_root):
                raise InvalidData(f"{str(path)!r} is a link that leads out of {str(root)!r}: copy the file instead.")
            files.append(path)
            if len(files) > MAX_FILES:
                raise InvalidData(f"Expected at most {MAX_FILES} files of documents in {str(root)!r}; there are more.")
    return files


def _unlisted(error: OSError) -> None:
    raise InvalidData(f"Cannot list {str(error.filename)!r}: {error.strerror or error}.") from error


def _inside(path: Path, root: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def _open(path: Path) -> Any:
    """An open file that is one: a pipe or a device could keep its reader for ever."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise InvalidData(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    file = os.fdopen(handle, "rb")
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        file.close()
        raise InvalidData(f"Expected {str(path)!r} to be a file, but it is a pipe or a device.")
    return file


def _whole(path: Path) -> Iterator[tuple[Document | None, int]]:
    with _open(path) as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise InvalidData(f"Expected at most {MAX_TEXT_BYTES} bytes in {str(path)!r}: divide it.")
    text = _decoded(data, repr(str(path)))
    heading = _HEADING.match(text.lstrip()) if path.suffix.lower() == ".md" else None
    title = heading.group(1).rstrip("# \t") if heading else path.stem
    yield (_checked((title, text), repr(str(path))) if text.strip() else None), len(data)


def _jsonl(path: Path) -> Iterator[tuple[Document | None, int]]:
    with _open(path) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            where = f"{str(path)!r}, line {number}"
            if len(line) > MAX_LINE_BYTES:
                raise InvalidData(f"Expected at most {MAX_LINE_BYTES} bytes a line in {where}.")
            yield (_checked(_json(line, where), where) if line.strip() else None), len(line)


def _json(line: bytes, where: str) -> Any:
    try:
        # Numbers are of no use here, and long ones take long to read.
        return json.loads(_decoded(line, where), parse_int=_unread, parse_float=_unread, parse_constant=_unread)
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"Expected a JSON object in {where}, but it is broken: {error!s:.100}.") from error


def _unread(digits: str) -> None:
    return None


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidData(
            f"Expected UTF-8 in {where}, but byte {error.start} is none: convert or remove it."
        ) from error


def _checked(value: Any, where: str) -> Document:
    try:
        return as_document(value)
    except InvalidData as error:
        raise InvalidData(f"{where}: {error}") from error
