"""The reward of MMSearch-R1 (arXiv 2506.20670): exact match, a little less where something was searched for.

    0.9 · EM · (0.9 if searched) + 0.1 · format

How it can be gamed: the discount is the same for one search and for all three, so that after the first the others are
free, needed or not.
"""

from __future__ import annotations

from collections.abc import Sequence

from visenv.rewards.answer_text import as_count
from visenv.rewards.functional.text import exact_match

BOUNDS = (0.0, 1.0)
"""The least and the greatest sum of the terms."""
ACCURACY, FORMAT, SEARCHED = 0.9, 0.1, 0.9
"""What an answer and its form weigh, and what is left of an answer that was searched for."""
MAX_IMAGE_SEARCHES, MAX_TEXT_SEARCHES = 1, 2


def score(
    answer: str | None,
    answers: str | Sequence[str],
    *,
    image_searches: int = 0,
    text_searches: int = 0,
    well_formed: bool,
) -> dict[str, float]:
    """Score an episode.

    Args:
        answer: the answer given; None if none was.
        answers: the accepted answer or answers.
        image_searches: how often it searched for a picture.
        text_searches: how often it searched for a text.
        well_formed: whether every turn had the form that is asked for.

    Returns:
        ``accuracy`` and ``format``. More than 1 search for a picture or 2 for a text is bad form: the published
        environment allows no more, what its reward would say of them is our choice.

    Raises:
        InvalidData: if no answer is accepted at all, or a number is negative.

    Source:
        MMSearch-R1, arXiv 2506.20670.

    Example:
        >>> {name: round(term, 2) for name, term in score("Paris", "paris", text_searches=2, well_formed=True).items()}
        {'accuracy': 0.81, 'format': 0.1}
    """
    pictures, texts = as_count(image_searches, "image_searches"), as_count(text_searches, "text_searches")
    allowed = pictures <= MAX_IMAGE_SEARCHES and texts <= MAX_TEXT_SEARCHES
    discount = SEARCHED if pictures or texts else 1.0
    return {
        "accuracy": ACCURACY * exact_match(answer, answers) * discount,
        "format": FORMAT if well_formed and allowed else 0.0,
    }
