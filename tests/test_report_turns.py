"""What the page of a run shows of answers, options, programs, passages and several images."""

import re

import numpy as np
import pytest

from tests.test_report import HOSTILE, Reader
from visenv.report.episode import episode_html
from visenv.report.turns import gallery
from visenv.types import AnswerTruth, ImageTruth, Outcome
from visenv.wrappers.snapshots import draw_final, draw_truth


def read(markup):
    reader = Reader()
    reader.feed(markup)
    assert reader.open == []
    return reader


def turn(name, arguments, reply="", shown=(), pictures=(), **more):
    return {
        "turn": 1,
        "name": name,
        "arguments": arguments,
        "text": None,
        "reply": reply,
        "error": None,
        "shown": list(shown),
        "archived": [],
        "created": [],
        "visual_tokens": 64,
        "reward_terms": {},
        "pictures": list(pictures),
        **more,
    }


def record(*turns, images=1, answer="B", truth=None, metrics=None, **more):
    names = [f"img_{i}" for i in range(images)]
    return {
        "episode": 0,
        "sample_id": "some/1",
        "query": "Which one?\n(A) left\n(B) right",
        "images": [{"name": name, "width": 32, "height": 24} for name in names],
        "pictures": [f"{name}.jpg" for name in names],
        "turns": list(turns),
        "termination": "answer",
        "invalid": None,
        "reward": 1.0,
        "metrics": {"EM": 1.0} if metrics is None else metrics,
        "outcome": {"answer": answer, "count": None},
        "truth": truth or {"type": "answers", "answers": ["B", "right"], "choices": ["left", "right"]},
        "result_pictures": {},
        **more,
    }


def page(one):
    return episode_html(one, lambda path: f"data:{path}", lambda path: "", None)


def sources(markup):
    return [attributes["src"] for name, attributes in read(markup).elements if name == "img"]


@pytest.mark.parametrize(
    ("answer", "exact", "left", "right"),
    [
        ("B", 1.0, None, "right chosen"),
        (" (b). ", 1.0, None, "right chosen"),
        ("Left", 0.0, "chosen", "right"),
        ("both", 0.0, None, "right"),
        (None, 0.0, None, "right"),
    ],
)
def test_options_say_which_is_right_and_which_was_chosen(answer, exact, left, right):
    markup = page(record(answer=answer, metrics={"EM": exact}))
    rows = re.findall(r"<li( class=\"[^\"]*\")?><b>[AB]</b>", markup)
    assert rows == [f' class="{kind}"' if kind else "" for kind in (left, right)]
    verdicts = [a["class"] for _, a in read(markup).elements if a.get("class", "").startswith("verdict")]
    assert verdicts == ["verdict right" if exact else "verdict wrong"]


def test_accepted_answers_stand_beside_one_without_options():
    truth = {"type": "answers", "answers": ["3", "three"], "choices": None}
    text = read(page(record(answer="4", truth=truth, metrics={"EM": 0.0}))).text
    assert "Right: 3 or three" in text
    assert "Answer: 4" in text


def test_several_images_are_shown_side_by_side_and_once():
    markup = page(record(images=3))
    assert sources(markup) == ["data:img_0.jpg", "data:img_1.jpg", "data:img_2.jpg"]
    assert 'class="pictures grid" style="--n:3"' in markup


@pytest.mark.parametrize(
    ("count", "kind"), [(1, "pictures"), (2, "pictures grid"), (8, "pictures grid"), (9, "pictures many")]
)
def test_pictures_shrink_with_their_number(count, kind):
    shown = gallery(["a.jpg"] * count, ["a"] * count, lambda path: f"data:{path}")
    assert shown.startswith(f'<div class="{kind}"')


def test_an_overview_of_a_split_keeps_its_size():
    shown = gallery(["a.jpg"] * 2, ["img_0_split_overview", "b"], lambda path: f"data:{path}")
    assert shown.startswith('<div class="pictures">')
    assert '<figure class="overview">' in shown


def test_a_program_stands_as_code_with_the_picture_before_and_after():
    code = "import cv2\nif 1 < 2:\n    pass"
    run = turn("RunCode", {"code": code, "image": "img_0"}, "Printed: 1", ["out_1"], ["out.jpg"])
    again = turn("RunCode", {"code": "x", "image": "out_1"}, "", ["out_2"], ["out2.jpg"])
    markup = page(record(run, again))
    assert '<pre class="code" dir="ltr"><code>import cv2\nif 1 &lt; 2:\n    pass</code></pre>' in markup
    assert sources(markup) == ["data:img_0.jpg", *(f"data:{name}.jpg" for name in ("img_0", "out", "out", "out2"))]
    assert "img_0, before" in markup
    assert "out_2, after" in markup
    assert "Printed: 1" in markup


def test_a_program_that_made_nothing_shows_one_picture():
    failed = turn("RunCode", {"code": "x", "image": "img_0"}, "Error: no", ["img_0"], ["again.jpg"])
    markup = page(record(failed))
    assert "before" not in markup
    assert sources(markup) == ["data:img_0.jpg", "data:again.jpg"]


def test_a_long_program_is_cut():
    markup = page(record(turn("RunCode", {"code": "x" * 30_000, "image": ["img_0"]})))
    assert "(30000 characters)" in markup
    assert len(markup) < 30_000


def test_passages_are_a_list_with_accepted_answers_marked():
    reply = "1. A town: It was founded by Niben (1621).\n2. nibenish\nTurns left: 3."
    truth = {"type": "answers", "answers": ["niben", "A"], "choices": None}
    markup = page(record(turn("Search", {"query": "who"}, reply), truth=truth))
    assert '<li value="1"><bdi><b>A town: </b>It was founded by <mark>Niben</mark> (1621).</bdi></li>' in markup
    assert '<li value="2"><bdi>nibenish</bdi></li>' in markup
    assert '<p class="dim">Turns left: 3.</p>' in markup


def test_a_search_that_found_nothing_is_a_plain_reply():
    markup = page(record(turn("Search", {"query": "who"}, "Nothing was found. Try other words, or fewer.")))
    assert '<pre class="reply" dir="auto">Nothing was found.' in markup


def test_hostile_text_stays_text():
    truth = {"type": "answers", "answers": [HOSTILE], "choices": [HOSTILE, "x"]}
    turns = (
        turn("Search", {"query": HOSTILE}, f"1. {HOSTILE}: {HOSTILE}"),
        turn("RunCode", {"code": HOSTILE, "image": HOSTILE}, HOSTILE, [HOSTILE], ["a.jpg"]),
    )
    markup = page(record(*turns, answer=HOSTILE, truth=truth))
    elements = read(markup).elements
    assert "script" not in {name for name, _ in elements}
    assert not [key for _, attributes in elements for key in attributes if key.startswith("on")]
    assert len(re.findall("<mark>", markup)) == 1


def test_a_mended_picture_is_shown_beside_the_clean_one():
    damaged, clean, mended = (np.full((8, 12, 3), value, np.uint8) for value in (0, 200, 100))
    truth = ImageTruth(clean, ("dark",))
    assert (draw_truth(damaged, truth) == 200).all()
    assert (draw_final(damaged, Outcome(None, "x", "answer", 1, image=mended), truth) == 100).all()
    assert (draw_final(damaged, Outcome(None, "x", "answer", 1), truth) == 0).all()


def test_an_answer_alone_is_no_picture():
    image, truth = np.zeros((8, 12, 3), np.uint8), AnswerTruth(("x",))
    assert draw_truth(image, truth) is None
    assert draw_final(image, Outcome(None, "x", "answer", 1), truth) is None


def test_an_argument_of_several_lines_stands_below_the_call():
    markup = page(record(turn("Note", {"said": "a <b>\nc", "short": "x"})))
    assert '<pre class="lines" dir="auto">a &lt;b&gt;\nc</pre>' in markup
    assert markup.count("c</") == 1


def test_without_pictures_the_answer_takes_the_whole_width():
    bare = page(record(pictures=[]))
    assert '<section class="result alone"><div class="facts">' in bare
    assert sources(bare) == []
    assert 'class="result"' in page(record())
