"""Text answers and the form of turns, by hand, against SQuAD's definition, and by properties."""

import re
import string
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from visenv.errors import InvalidData, UnknownName
from visenv.rewards.functional import exact_match, format_score, normalize_answer, token_f1
from visenv.types import Answer, Malformed, ToolCall, Turn

WORDS = st.lists(st.sampled_from(["The", "a", "red", "Umbrella", "an", "left", "umbrella,", "2"]), max_size=6).map(
    " ".join
)
GOOD = "<think>It is red.</think><answer>the umbrella</answer>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Red  Umbrella!", "red umbrella"),
        ("an  apple\ta\nday", "apple day"),
        ("theatre, another", "theatre another"),
        ("A", "a"),
        ("(A)", "a"),
        ("a.", "a"),
        ("B)", "b"),
        ("the", "the"),
        ("“quoted”—dash", "quoteddash"),
        ("3.5", "35"),
        ("?!", ""),
        ("", ""),
        ("ÉTÉ", "été"),
    ],
)
def test_normalisation_by_hand(text, expected):
    assert normalize_answer(text) == expected


def test_an_option_letter_is_no_article():
    assert exact_match("A", "(A)") == exact_match("a.", ["A"]) == token_f1("(a)", "A") == 1.0
    assert exact_match("B", "(A)") == exact_match("", "A") == token_f1("the", "A") == 0.0


def test_scores_are_the_best_over_the_accepted_answers():
    answers = ["a parasol", "the red umbrella"]
    assert exact_match("Red umbrella", answers) == 1.0
    assert exact_match("umbrella", answers) == 0.0
    # One word of one, of two: precision 1, recall 1/2.
    assert token_f1("umbrella", answers) == pytest.approx(2 / 3)
    assert token_f1("parasol", answers) == 1.0
    # "red" is shared once, however often it is said.
    assert token_f1("red red red", answers) == pytest.approx(2 * 1 / (3 + 2))


def test_no_answer_scores_nothing_and_an_empty_one_only_against_an_empty_one():
    assert exact_match(None, "") == token_f1(None, "") == 0.0
    assert exact_match("", "") == token_f1("!", "") == 1.0
    assert token_f1("", "umbrella") == token_f1("umbrella", "") == 0.0


@pytest.mark.parametrize("answers", [[], [None], 3])
def test_refuses_answers_that_are_none(answers):
    with pytest.raises(InvalidData, match="answers"):
        exact_match("red", answers)


def squad_words(text):
    text = "".join(char for char in text.lower() if char not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


@given(WORDS, WORDS)
def test_agrees_with_squad_where_more_than_articles_is_said(prediction, answer):
    words, truth = squad_words(prediction), squad_words(answer)
    assume(words)
    assume(truth)
    shared = sum((Counter(words) & Counter(truth)).values())
    precision, recall = shared / len(words), shared / len(truth)
    f1 = 2 * precision * recall / (precision + recall) if shared else 0.0
    assert token_f1(prediction, answer) == pytest.approx(f1)
    assert exact_match(prediction, answer) == float(words == truth)


@given(st.text(max_size=30), st.text(max_size=30))
def test_scores_are_bounded_symmetric_and_f1_never_below_exact_match(prediction, answer):
    f1 = token_f1(prediction, answer)
    assert 0.0 <= exact_match(prediction, answer) <= f1 <= 1.0
    assert f1 == token_f1(answer, prediction)
    assert exact_match(prediction, prediction) == 1.0
    assert normalize_answer(normalize_answer(prediction)) == normalize_answer(prediction)


def test_format_score_counts_turns_of_the_right_form():
    bad = Malformed("bad_json", "The arguments are no JSON.")
    turns = [Turn(1, ToolCall("MergeBoxMask"), ""), Turn(2, bad, "", error=bad), Turn(3, Answer("done"), "")]
    assert format_score(turns) == pytest.approx(2 / 3)
    assert format_score([turn.action for turn in turns]) == pytest.approx(2 / 3)
    assert format_score([]) == 0.0


def test_format_score_takes_wrong_arguments_for_good_form_and_a_cut_turn_for_bad():
    unknown = Malformed("unknown_tool", "There is no such tool.")
    assert format_score([Turn(1, ToolCall("Nonsense"), "", error=unknown)]) == 1.0
    assert format_score([Turn(1, ToolCall("MergeBoxMask"), "", cut=True)]) == 0.0


def test_format_score_reads_texts_of_a_dialect():
    assert format_score(GOOD) == 1.0
    assert format_score("<answer>the umbrella</answer>") == 0.0
    assert format_score([GOOD, "nothing of the sort"]) == 0.5
    with pytest.raises(UnknownName):
        format_score(GOOD, dialect="klingon")
