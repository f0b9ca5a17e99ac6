"""Files of annotations in parts: JSON of any size element by element, JSON lines, and where in the file each stands.

Of a file with a million annotations an index needs a few numbers each; the outlines stay on disk until their sample is
asked for. The reader walks bytes as Latin-1, in which a place in the text is a place in the file: JSON's own marks are
ASCII, and no byte of another UTF-8 character is. What is handed out is decoded properly.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from visenv.datasets.files import MAX_ANNOTATION_BYTES, no_constant
from visenv.errors import DatasetError

_CHUNK = 2**20
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(parse_constant=no_constant)
_NEAR_THE_END = 16
"""Characters: an error this close to what has been read so far may go away once more of the file is."""
_NUMBERS = re.compile(r'\[[^"]*\]')
"""A list without a text in it; in an object without another in it, all that stands between two keys."""


class Element(NamedTuple):
    """One value of a file."""

    key: str
    """Of the object at the top that it stands in, directly or in a list; empty where the file is a list."""
    value: Any
    start: int
    """Its first byte."""
    length: int
    """In bytes."""


def json_elements(path: Path, limit: int = MAX_ANNOTATION_BYTES, hollow: Collection[str] = ()) -> Iterator[Element]:
    """Every value that a JSON file holds at its second level, in order: elements of lists one by one.

    Of ``{"info": {…}, "images": [a, b]}`` these are ``info``'s value, a and b; of ``[a, b]`` they are a and b.

    Args:
        path: UTF-8, with or without a byte order mark, or else Windows-1252.
        limit: the most bytes that one of the values may have.
        hollow: keys of lists whose objects may come with 0 in place of lists of numbers, which are not looked at: four
            times as fast where most of a file is outlines.

    Raises:
        DatasetError: if the file cannot be read, is no JSON, or holds a value that is larger.
    """
    try:
        with open(path, "rb") as file:
            yield from _Scanner(file, path, limit, hollow).elements()
    except OSError as error:
        raise DatasetError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error


def json_lines(path: Path, limit: int = MAX_ANNOTATION_BYTES) -> Iterator[Element]:
    """Every line of a JSONL file that is not blank; the key of an element is its line's number, from 1.

    Args:
        path: UTF-8, with or without a byte order mark, or else Windows-1252.
        limit: the most bytes that a line may have.

    Raises:
        DatasetError: if the file cannot be read, or a line is no JSON or longer.
    """
    start = 0
    try:
        with open(path, "rb") as file:
            for number in _numbers():
                line = file.readline(limit + 1)
                if not line:
                    return
                if len(line) > limit:
                    raise DatasetError(f"Expected at most {limit} bytes a line in {str(path)!r}, line {number}.")
                if line.strip(b" \t\r\n\xef\xbb\xbf"):
                    yield Element(str(number), decode(line, f"{str(path)!r}, line {number}"), start, len(line))
                start += len(line)
    except OSError as error:
        raise DatasetError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error


def read_element(path: Path, start: int, length: int) -> Any:
    """A value of a file, from its place there.

    Args:
        path: the file.
        start: as in ``Element``.
        length: as in ``Element``.

    Raises:
        DatasetError: if it cannot be read; or is no JSON (any more): the file was changed.
    """
    try:
        with open(path, "rb") as file:
            file.seek(start)
            data = file.read(length)
    except OSError as error:
        raise DatasetError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    return decode(data, f"{str(path)!r}, bytes {start} to {start + length} (was the file changed?)")


def decode(data: bytes, where: str) -> Any:
    """A JSON value from its bytes.

    Raises:
        DatasetError: if it is none.
    """
    try:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("cp1252")
        return json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"Expected JSON in {where}, but it is broken: {error or type(error).__name__}.") from error


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


class _Scanner:
    """A file that is read forwards, a window of it at a time."""

    def __init__(self, file: io.BufferedReader, path: Path, limit: int, hollow: Collection[str]) -> None:
        self.file, self.path, self.limit, self.hollow = file, path, limit, hollow
        self.text, self.place, self.base, self.ended = "", 0, 0, False
        self._more()
        if self.text.startswith("\xef\xbb\xbf"):
            self.place = 3

    def elements(self) -> Iterator[Element]:
        opening = self._next()
        if opening == "[":
            self.place += 1
            yield from self._list("")
        elif opening == "{":
            self.place += 1
            yield from self._object()
        else:
            raise self._broken(f"it begins with {opening!r}, which is neither a list nor an object")
        if self._next():
            raise self._broken("there is more after its end")

    def _object(self) -> Iterator[Element]:
        if self._next() == "}":
            self.place += 1
            return
        while True:
            key = self._value("").value
            if not isinstance(key, str):
                raise self._broken("a key is no text")
            self._expect(":")
            if self._next() == "[":
                self.place += 1
                yield from self._list(key)
            else:
                yield self._value(key)
            if self._expect(",}") == "}":
                return

    def _list(self, key: str) -> Iterator[Element]:
        if self._next() == "]":
            self.place += 1
            return
        take = self._hollow_value if key in self.hollow else self._value
        while True:
            yield take(key)
            if self._expect(",]") == "]":
                return

    def _hollow_value(self, key: str) -> Element:
        """An object without another in it is its text up to the first brace, if that much is an object."""
        if self._next() == "{":
            end = self.text.find("}", self.place) + 1
            raw = self.text[self.place : end]
            if raw and raw.rfind("{") == 0 and raw.isascii() and len(raw) <= self.limit:
                hollow = _NUMBERS.sub("0", raw)
                try:
                    value, length = _DECODER.raw_decode(hollow)
                except ValueError:
                    return self._value(key)
                if length == len(hollow):
                    start = self.base + self.place
                    self.place = end
                    return Element(key, value, start, len(raw))
        return self._value(key)

    def _value(self, key: str) -> Element:
        self._next()
        wanted = _CHUNK
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.place)
            except json.JSONDecodeError as error:
                open_ended = error.msg.startswith("Unterminated string") or error.pos + _NEAR_THE_END > len(self.text)
                if self.ended or not open_ended:
                    raise self._broken(f"{error.msg} at byte {self.base + error.pos}") from error
            except (ValueError, RecursionError) as error:
                raise self._broken(str(error) or type(error).__name__) from error
            else:
                if end < len(self.text) or self.ended:
                    break
            if len(self.text) - self.place > self.limit:
                raise self._broken(f"one value has more than {self.limit} bytes")
            self._more(wanted)
            wanted *= 2
        if end - self.place > self.limit:
            raise self._broken(f"one value has more than {self.limit} bytes")
        start, raw = self.base + self.place, self.text[self.place : end]
        self.place = end
        if not raw.isascii():
            value = decode(raw.encode("latin-1"), f"{str(self.path)!r}, byte {start}")
        return Element(key, value, start, len(raw))

    def _next(self) -> str:
        """The next character that is no space, which stays unread; empty at the end of the file."""
        while True:
            found = _SPACE.match(self.text, self.place)
            assert found is not None
            self.place = found.end()
            if self.place < len(self.text) or self.ended:
                return self.text[self.place : self.place + 1]
            self._more()

    def _expect(self, marks: str) -> str:
        found = self._next()
        if not found or found not in marks:
            came = repr(found) if found else "the end of the file"
            raise self._broken(f"expected {' or '.join(map(repr, marks))} at byte {self.base + self.place}, got {came}")
        self.place += 1
        return found

    def _more(self, size: int = _CHUNK) -> None:
        """Read on; what lies before the place is forgotten."""
        data = self.file.read(size)
        self.ended = len(data) < size
        self.text = self.text[self.place :] + data.decode("latin-1")
        self.base += self.place
        self.place = 0

    def _broken(self, why: str) -> DatasetError:
        return DatasetError(f"Expected JSON in {str(self.path)!r}, but it is broken: {why}.")
