"""HTML from Python values: text is escaped unless it says that it is markup."""

from __future__ import annotations

import html
import re

# What has no place in a text: control characters, marks that reorder what is around them, and halves of characters.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Any value as text of a page; markup stays as it is.

    Example:
        >>> text("<b>1 & 2</b>"), text(Markup("<b>"))
        ('&lt;b&gt;1 &amp; 2&lt;/b&gt;', '<b>')
    """
    return value if isinstance(value, Markup) else Markup(html.escape(seen(str(value)), quote=True))


def seen(value: str) -> str:
    r"""A text with U+FFFD for each character that has no place in one.

    Example:
        >>> seen("a\x00b") == "a\ufffdb"
        True
    """
    return _UNSEEN.sub("\ufffd", value)


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: of the element.
        *children: its content; what is no markup is escaped, None is left out.
        **attributes: ``class_`` means ``class``, ``data_x`` means ``data-x``; True stands alone, None and False are
            left out.

    Example:
        >>> tag("p", "a < b", tag("br"), class_="note", hidden=True)
        '<p class="note" hidden>a &lt; b<br></p>'
    """
    written = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in ("br", "img", "input", "meta"):
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{''.join(text(child) for child in children if child is not None)}</{name}>")


def joined(parts: object) -> Markup:
    """Several pieces one after another."""
    return Markup("".join(text(part) for part in parts)) if isinstance(parts, (list, tuple)) else text(parts)


def _attribute(key: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {key}" if value is True else f' {key}="{text(value)}"'
