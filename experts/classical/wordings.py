"""How English says sides, orders, relations and negation: patterns that turn wordings into marks.

The patterns run over lower-case words with single spaces between them, one after the other, longer wordings first.
"""

from __future__ import annotations

import re

_PICTURE = r"(?:the |this )?(?:picture|image|photo|photograph|scene|canvas|view)"
_SIDE = {"left": "left", "right": "right", "top": "top", "upper": "top", "bottom": "bottom", "lower": "bottom"}

SUPERLATIVES = {
    "leftmost": "left",
    "rightmost": "right",
    "topmost": "top",
    "uppermost": "top",
    "highest": "top",
    "bottommost": "bottom",
    "lowermost": "bottom",
    "lowest": "bottom",
    "largest": "largest",
    "biggest": "largest",
    "smallest": "smallest",
    "tiniest": "smallest",
    "littlest": "smallest",
}
"""Words of order, and what they order by."""

_RELATIONS: tuple[tuple[str, str], ...] = (
    (r"(?:to|on|at) the (?:immediate )?left(?: hand)?(?: side)? of", "left"),
    (r"(?:to|on|at) the (?:immediate )?right(?: hand)?(?: side)? of", "right"),
    (r"(?:further|farther|more) (?:to the )?left than", "left"),
    (r"(?:further|farther|more) (?:to the )?right than", "right"),
    (r"left of", "left"),
    (r"right of", "right"),
    (r"(?:higher|further up|farther up)(?: up)? than|on top of|above|over|atop", "above"),
    (r"(?:lower|further down|farther down)(?: down)? than|below|underneath|beneath|under", "below"),
    (
        r"in the (?:middle|centre|center|inside) of|inside of|inside|within|enclosed by|surrounded by|framed by",
        "inside",
    ),
    (r"(?:that|which) (?:contains?|surrounds?)|around|surrounding|enclosing|containing", "around"),
    (r"(?:closest|nearest) to|nearest|closest", "nearest"),
    (r"(?:farthest|furthest)(?: away)? from", "farthest"),
    (r"far(?: away)? from", "far"),
    (r"(?:right |just )?next to|adjacent to|close to|near to|near|beside|besides|alongside|touching", "near"),
    (r"(?:bigger|larger) than", "larger"),
    (r"smaller than", "smaller"),
)
"""Regular expressions and the relation each of them says."""


def _compiled(*pairs: tuple[str, str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    return tuple((re.compile(rf"\b(?:{pattern})(?=\s|$)"), replacement) for pattern, replacement in pairs)


TAILS = _compiled(
    (r"is there|are there|there is|there are", " "),
    (r"if (?:there is|there are)?\s*(?:one|any|it exists)", " "),
    (r"if\s+(?:one|any)", " "),
    (r"(?:mark|show|segment|find|point at) (?:it|them)", " "),
    (r"how many", "all"),
)
"""What says nothing about the objects, and what it is replaced by."""

MARKS = _compiled(
    *(
        (
            rf"(?:that (?:is|are) )?(?:in|on|at) the {word}(?: hand)? (?:half|side|part|third|edge) of {_PICTURE}",
            f"<side:{side}>",
        )
        for word, side in _SIDE.items()
    ),
    *(
        (rf"(?:on|at) the (?:far |very )?{word}(?! (?:half|side|part|of|hand))", f"<side:{side}>")
        for word, side in _SIDE.items()
    ),
    (rf"in the (?:middle|centre|center) of {_PICTURE}", "<side:centre>"),
    *(
        (rf"(?:counting |counted |starting |seen )?from the {word}(?: side| edge)?", f"<from:{side}>")
        for word, side in _SIDE.items()
    ),
    (r"(?:most|farthest|furthest) (?:to the )?left", "leftmost"),
    (r"(?:most|farthest|furthest) (?:to the )?right", "rightmost"),
    (r"far left", "leftmost"),
    (r"far right", "rightmost"),
    (r"without (?:a |any )?patterns?", "plain"),
    (r"with (?:a )?(?:striped|stripy) pattern", "striped"),
    (r"(?:that|which|who) (?:is|are|was|were|do|does) not|(?:is|are|do|does) not", "<not>"),
    (
        r"(?:other|rather) than|apart from|aside from|except(?: for)?|excluding|(?:every|any)thing but|all but|but not",
        "<not>",
    ),
    (r"not|without|neither|nor", "<not>"),
    (rf"(?:in|on|within|visible in) {_PICTURE}$", " "),
    *((pattern, f" <relation:{name}> ") for pattern, name in _RELATIONS),
)
"""Wordings and the marks that stand for them."""
