"""How answers in words are compared: what counts as the same."""

from __future__ import annotations

import re
import string
import unicodedata

_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalize_answer(text: str) -> str:
    """Reduce an answer to what is compared: lower case, no punctuation, no articles, single spaces.

    Where nothing but articles is left they stay, so that the option letter ``A`` is not taken for an article.

    Args:
        text: any text.

    Returns:
        Its words, separated by single spaces; "" if there are none.

    Source:
        SQuAD (arXiv 1606.05250), its evaluation script; the exception for lone articles is ours.

    Example:
        >>> normalize_answer("The  red, umbrella!"), normalize_answer("(A)"), normalize_answer("?")
        ('red umbrella', 'a', '')
    """
    kept = "".join(char for char in text.lower() if not _is_punctuation(char))
    return " ".join(_ARTICLES.sub(" ", kept).split()) or " ".join(kept.split())


def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char).startswith("P")
