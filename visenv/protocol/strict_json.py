"""JSON as an agent may write it: everything that Python's parser lets pass and others do not is refused."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from visenv.errors import InvalidData

MAX_DEPTH = 16
"""Lists and objects inside one another."""
MAX_DIGITS = 300
"""Digits of an integer: longer ones take quadratic time to read."""
_TAG_START = re.compile(r"<(?=/?[A-Za-z|])")


def load_json(text: str) -> Any:
    """Read one JSON value.

    Besides what the JSON standard (RFC 8259) refuses, these are errors: ``NaN`` and ``Infinity``, numbers too large for
    a double or of more than ``MAX_DIGITS`` digits, a key that stands twice in one object, null characters and lone
    surrogates in strings, and more than ``MAX_DEPTH`` levels.

    Args:
        text: a JSON document.

    Returns:
        The value: None, bool, int, float, str, list or dict.

    Raises:
        InvalidData: if it is none; the message says what is wrong, and where if that is known.

    Example:
        >>> load_json('{"images": ["img_0"]}')
        {'images': ['img_0']}
        >>> load_json('{"a": 1, "a": 2}')
        Traceback (most recent call last):
        visenv.errors.InvalidData: the key 'a' stands twice in one object
    """
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_constant=_no_constant,
            parse_float=_finite_float,
            parse_int=_short_int,
        )
    except json.JSONDecodeError as error:
        raise InvalidData(f"{error.msg} at character {error.pos}") from None
    except RecursionError:
        raise InvalidData(f"more than {MAX_DEPTH} levels of lists and objects") from None
    _check_values(value)
    return value


def quote(text: str, limit: int = 60) -> str:
    """A text as an error message shows it: quoted, escaped and cut short."""
    return repr(text if len(text) <= limit else f"{text[: limit - 1]}…")


def dump_json(value: Any) -> str:
    """Write a JSON value so that no tag of a dialect can be found in it (``<`` before a tag becomes an escape).

    Raises:
        InvalidData: if the value is no JSON value.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidData(f"Expected a JSON value, but got one that cannot be written: {error}.") from error
    return _TAG_START.sub(r"\\u003c", text)


def text_problem(text: str) -> str | None:
    """What keeps a string from being ordinary text: a null character, or a lone surrogate."""
    if "\0" in text:
        return "a null character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "half of a surrogate pair, which is no character"
    return None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise InvalidData(f"the key {quote(key)} stands twice in one object")
        result[key] = value
    return result


def _no_constant(name: str) -> None:
    raise InvalidData(f"{name} is no JSON number")


def _finite_float(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise InvalidData(f"the number {quote(digits)} is too large")
    return value


def _short_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise InvalidData(f"a number has more than {MAX_DIGITS} digits")
    return int(digits)


def _check_values(root: Any) -> None:
    pending = [(root, 1)]
    while pending:
        value, depth = pending.pop()
        if isinstance(value, str):
            problem = text_problem(value)
            if problem:
                raise InvalidData(f"a string holds {problem}")
        elif isinstance(value, (list, dict)):
            if depth > MAX_DEPTH:
                raise InvalidData(f"more than {MAX_DEPTH} levels of lists and objects")
            pending.extend((item, depth + 1) for item in value)
            if isinstance(value, dict):
                pending.extend((item, depth + 1) for item in value.values())
