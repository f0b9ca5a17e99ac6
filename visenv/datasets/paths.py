"""What stands after the colon in ``dataset="name:…"``: a path, and perhaps options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from visenv.errors import DatasetError

_OPTIONS = re.compile(r"\?(\w+=[^&?]*(?:&\w+=[^&?]*)*)$")


def path_and_options(
    path: str | None, name: str, allowed: Sequence[str] | None = None
) -> tuple[str | None, dict[str, str]]:
    """A path apart from the options behind it, ``/a/folder?key=value&key=value``.

    Args:
        path: as a factory of data sets is given it. A question mark that no ``key=`` follows is part of the path; in
            a value, ``%26`` is an ampersand.
        name: of the data set, for messages.
        allowed: the keys that it knows; any if left out.

    Raises:
        DatasetError: if a key is none of these, or stands there twice.

    Example:
        >>> path_and_options("/data/refcoco?by=google", "refcoco", ("by", "images"))
        ('/data/refcoco', {'by': 'google'})
    """
    found = None if path is None else _OPTIONS.search(path)
    if path is None or found is None:
        return path, {}
    options: dict[str, str] = {}
    for pair in found[1].split("&"):
        key, _, value = pair.partition("=")
        if key in options or (allowed is not None and key not in allowed):
            known = f" out of {', '.join(allowed)}" if allowed else ""
            raise DatasetError(
                f"The data set {name!r} takes options{known}, each once, but got {pair!r} after the path."
            )
        options[key] = unquote(value)
    return path[: found.start()], options
