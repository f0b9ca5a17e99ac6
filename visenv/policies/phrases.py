"""What a query asks for, as far as it decides which tools to call."""

from __future__ import annotations

import re

from visenv.spaces import words

_REQUESTS = re.compile(
    r"^\s*(?:please\s+)?(?:(?:can|could|would)\s+you\s+(?:please\s+)?)?"
    r"(?:segment|find|mark|detect|count|locate|highlight|outline|box|select|show(?:\s+me)?|point\s+(?:out|at|to)|"
    r"where\s+(?:is|are)|how\s+many|i\s+need|is\s+there|are\s+there|look\s+for|give\s+me|pick\s+out)\s+",
    re.IGNORECASE,
)
_TAILS = re.compile(
    r"(?:\s+are\s+there(?:\s+in\s+the\s+(?:picture|image|photo))?|[,.]?\s*(?:mark|find|segment)\s+(?:it|them)|"
    r",?\s+if\s+there\s+(?:is|are)\s+(?:one|any)|\s+in\s+(?:the|this)\s+(?:picture|image|photo|scene))?\s*[.?!]*\s*$",
    re.IGNORECASE,
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


COLOURS = _words("""
    red orange yellow green blue purple pink brown black white grey gray cyan magenta violet turquoise teal golden
    silver beige maroon navy crimson scarlet lime olive tan
""")
_DETERMINERS = _words("a an the all every each any some of both these those")
_GENERIC = _words("thing things object objects item items something anything one ones")
_ACROSS = _words("""
    left right top bottom above below leftmost rightmost topmost bottommost uppermost lowest highest higher lower upper
    largest biggest smallest large big small little tiny larger smaller first second third fourth fifth sixth seventh
    eighth ninth tenth last nearest closest farthest furthest middle half
""")
"""Words that compare things which may lie anywhere in the picture, or place them in it."""
_COMPLEX = _ACROSS | _words("""
    under over beside next near between behind front inside outside in on at to of with without from by for that which
    who whose is are not isn't aren't no non and or but than central centre center huge tall tallest short shortest
    wide widest plain striped stripy dotted spotted checked checkered chequered patterned solid other only
""")
"""Words that a noun, or one colour and a noun, does without."""
_PER_COUNT = re.compile(r"^(?:number|count)\s+of\s+", re.IGNORECASE)


def target_phrase(query: str) -> str:
    """A query without the words around it that only say what to do.

    Example:
        >>> target_phrase("Please point out the red car left of the house.")
        'red car left of the house'
        >>> target_phrase("Is there a mushroom? Mark it."), target_phrase("How many cars are there?")
        ('mushroom', 'cars')
    """
    text = " ".join(query.split())
    for pattern in (_REQUESTS, _PER_COUNT):
        text = pattern.sub("", text)
    text = _TAILS.sub("", text).rstrip(" .?!,")
    text = re.sub(r"\?\s*\w+\s+(?:it|them)$", "", text)
    parts = text.split()
    while len(parts) > 1 and parts[0].lower() in _DETERMINERS:
        parts = parts[1:]
    return " ".join(parts) or query.strip() or "object"


def is_simple(phrase: str) -> bool:
    """Whether a phrase is a noun, or one colour and a noun: all that PhraseToBoxMask is made for.

    Args:
        phrase: from ``target_phrase``.

    Example:
        >>> [is_simple(text) for text in ("car", "red cars", "red car left of the house", "striped hat", "red thing")]
        [True, True, False, False, False]
    """
    parts = words(phrase)
    if not parts or len(parts) > 3 or any(part in _COMPLEX or part in _GENERIC for part in parts):
        return False
    colours = sum(part in COLOURS for part in parts)
    return colours == 0 or (colours == 1 and parts[0] in COLOURS and len(parts) > 1)


def needs_whole_image(phrase: str) -> bool:
    """Whether a phrase compares things that may lie far apart, which a patch would tear asunder.

    Example:
        >>> needs_whole_image("second car from the left"), needs_whole_image("hat with dots")
        (True, False)
    """
    return any(part in _ACROSS for part in words(phrase))
