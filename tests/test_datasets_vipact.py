"""BLINK and MMVP from folders in their published layouts, and how they are scored."""

import io
import json
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from visenv.datasets import blink, mmvp
from visenv.datasets.making import make_dataset
from visenv.errors import DatasetError
from visenv.evaluation.records import read_truth
from visenv.records import truth_record
from visenv.rewards.functional import exact_match
from visenv.rewards.metrics import PairAccuracy, SubTaskAccuracy
from visenv.types import AnswerTruth, Outcome

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
SCHEMA = pa.schema(
    [
        ("idx", pa.string()),
        ("question", pa.string()),
        ("sub_task", pa.string()),
        *((name, PICTURE) for name in blink.IMAGES),
        ("choices", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("prompt", pa.string()),
    ]
)


def picture(shade, size=(40, 30), form="JPEG"):
    data = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(data, form)
    return {"bytes": data.getvalue(), "path": f"{shade}.jpg"}


def row(task, number, pictures=1, answer="(B)", **changes):
    shown = [picture(20 + 40 * i) for i in range(pictures)] + [None] * (4 - pictures)
    return {
        "idx": f"val_{task}_{number + 1}",
        "question": f"Question {number}?",
        "sub_task": task,
        **dict(zip(blink.IMAGES, shown, strict=True)),
        "choices": ["the first", "the second", "the third"],
        "answer": answer,
        "prompt": f"Question {number}? Select from the following choices.",
        **changes,
    }


@pytest.fixture
def folder(tmp_path):
    """Two sub-tasks as the hub has them, and one as JSON beside its pictures."""
    tables = {
        "Counting": [row("Counting", 0), row("Counting", 1, answer="(C)")],
        "Jigsaw": [row("Jigsaw", 0, 3, "(A)")],
    }
    for task, rows in tables.items():
        (tmp_path / task).mkdir()
        table = pa.Table.from_pylist(rows, SCHEMA)
        pq.write_table(table, tmp_path / task / "val-00000-of-00001.parquet")
        hidden = [{**each, "answer": "hidden"} for each in rows]
        pq.write_table(pa.Table.from_pylist(hidden, SCHEMA), tmp_path / task / "test-00000-of-00001.parquet")
    own = tmp_path / "Relative_Depth"
    (own / "images").mkdir(parents=True)
    Image.new("RGB", (20, 10), (200, 0, 0)).save(own / "images" / "1.png")
    rows = [row("Relative_Depth", 0, 0, "A", choices=["A is closer", "B is closer"], image_1="images/1.png")]
    (own / "val.json").write_text(json.dumps(rows))
    return tmp_path


def test_blink_as_it_is_published(folder):
    data = make_dataset(f"blink:{folder}", family="blink", split="val", difficulty=1)
    assert data.counts == {"samples": 4, "Counting": 2, "Jigsaw": 1, "Relative_Depth": 1}
    sample = data.get(1)
    assert sample.sample_id == "val/Counting/1"
    assert sample.query.splitlines()[:2] == ["Question 1?", "(A) the first"]
    assert sample.truth == AnswerTruth(("C", "the third"), ("the first", "the second", "the third"), "Counting")
    assert sample.metadata["idx"] == "val_Counting_2"
    jigsaw = data.find("val/Jigsaw/0")
    assert [image[0, 0, 0] // 10 for image in jigsaw.images] == [2, 6, 10]
    depth = data.find("val/Relative_Depth/0")
    assert depth.image.shape == (10, 20, 3)
    assert depth.truth.answers == ("A", "A is closer")


def test_some_sub_tasks_alone_and_those_of_several_pictures(folder):
    some = make_dataset(f"blink:{folder}?tasks=jigsaw,Relative-Depth", family="blink", split="val", difficulty=1)
    assert some.sample_ids == ("val/Jigsaw/0", "val/Relative_Depth/0")
    several = make_dataset(f"blink:{folder}", family="multiimage", split="val", difficulty=1)
    assert several.sample_ids == ("val/Jigsaw/0",)


@pytest.mark.parametrize(
    ("value", "split", "family", "message"),
    [
        ("blink", "val", "blink", "needs a folder"),
        ("blink:{0}", "train", "blink", "has the splits val, test"),
        ("blink:{0}", "val", "mmvp", "annotated for blink, multiimage"),
        ("blink:{0}?tasks=Chess", "val", "blink", "sub-tasks out of Art_Style"),
        ("blink:{0}?tasks=Art_Style", "val", "blink", "no table of split 'val' of 'Art_Style'"),
        ("blink:{0}/Counting", "val", "blink", "no sub-task of BLINK"),
        ("blink:{0}/none", "val", "blink", "There is no folder"),
        ("mmvp", "test", "mmvp", "needs a folder"),
        ("mmvp:{0}", "test", "mmvp", "Questions.csv"),
    ],
)
def test_bad_folders_say_what_is_wrong(folder, value, split, family, message):
    with pytest.raises(DatasetError, match=message):
        make_dataset(value.format(folder), family=family, split=split, difficulty=1)


def test_hidden_answers_are_not_scored(folder):
    data = make_dataset(f"blink:{folder}", family="blink", split="test", difficulty=1)
    with pytest.raises(DatasetError, match="hidden cannot be scored"):
        data.get(0)
    with pytest.raises(DatasetError, match="Every sample"):
        data.draw(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer": "(D)"}, "letter of one of 3 options"),
        ({"answer": 1}, "letter of one of 3 options"),
        ({"choices": ["one"]}, "at least two choices"),
        ({"choices": "abc"}, "at least two choices"),
        ({"choices": [f"number {number}" for number in range(27)]}, "at most 26 choices"),
        ({"question": " "}, "Expected a question"),
        ({"image_1": None}, "Expected a picture in 'image_1'"),
        ({"image_1": "../../secret.png"}, "relative path inside"),
        ({"image_1": "/etc/passwd"}, "relative path inside"),
        ({"image_1": 5}, "name of its file"),
        ({"image_1": "val.json"}, "cannot be used"),
    ],
)
def test_a_broken_row_costs_its_own_sample_alone(tmp_path, changes, message):
    own = tmp_path / "Counting"
    own.mkdir()
    Image.new("RGB", (20, 10)).save(own / "1.png")
    good = row("Counting", 0, 0, "A", image_1="1.png")
    (own / "val.json").write_text(json.dumps([good, {**good, **changes}]))
    data = blink.Blink(tmp_path)
    assert data.get(0).truth.answers == ("A", "the first")
    with pytest.raises(DatasetError, match=message):
        data.get(1)


def test_links_out_of_the_folder_are_refused(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    pq.write_table(pa.Table.from_pylist([row("Counting", 0)], SCHEMA), outside / "val-0.parquet")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "Counting").symlink_to(outside)
    with pytest.raises(DatasetError, match="leads out of"):
        blink.Blink(inside)


def test_an_option_that_reads_like_a_letter_is_accepted_by_its_own_letter_alone():
    truth = blink.grouped("B", ["B", "A", "C"], "IQ_Test")
    assert truth.answers == ("B",)
    assert exact_match("(A)", truth.answers) == 0
    assert blink.grouped("A", ["two", "two"], "Counting").answers == ("A",)
    assert blink.grouped("A", ["3", "4"], "Counting").answers == ("A", "3")


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        (["the cat", "a cat", "a dog"], "a cat"),
        (["Yes", "yes.", "no"], "yes."),
        (["the B", "left"], "B"),
        (["1.5", "15"], "15"),
        (["+", "5"], ""),
        (["?!", "5"], "!"),
    ],
)
def test_no_text_is_accepted_that_another_option_or_no_answer_reads_like(options, wrong):
    """As answers are compared: in lower case, without articles and punctuation."""
    assert exact_match(wrong, blink.grouped("A", options, "IQ_Test").answers) == 0


# --- MMVP -----------------------------------------------------------------------------------------------------------

QUESTIONS = """\
Index,Question,Options,Correct Answer
1,Are the butterfly's wings closer to being open or closed?,(a) Open (b) Closed,(a)
2,Are the butterfly's wings closer to being open or closed?,(a) Open (b) Closed,(b)
3,"Is the dog, on the left, asleep?",(a) Yes (b) No,(b)
4,"Is the dog, on the left, asleep?",(a) Yes (b) No,(a)
"""


@pytest.fixture
def pairs(tmp_path):
    (tmp_path / "Questions.csv").write_text(QUESTIONS, encoding="utf-8-sig")
    (tmp_path / "MMVP Images").mkdir()
    for number in range(1, 5):
        (tmp_path / "MMVP Images" / f"{number}.jpg").write_bytes(picture(number * 20)["bytes"])
    return tmp_path


def test_mmvp_as_it_is_published(pairs):
    data = make_dataset(f"mmvp:{pairs}", family="mmvp", split="test", difficulty=1)
    assert data.counts == {"samples": 4, "pairs": 2}
    third = data.get(2)
    assert third.sample_id == "test/3"
    assert third.query.startswith("Is the dog, on the left, asleep?\n(A) Yes\n(B) No\n")
    assert third.truth == AnswerTruth(("B", "No"), ("Yes", "No"), "2")
    assert abs(int(third.image[0, 0, 0]) - 60) <= 2
    assert [data.get(i).truth.group for i in range(4)] == ["1", "1", "2", "2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Index,Question\n1,Why?\n", "'Options' is missing"),
        ("Index,Question,Options,Correct Answer\nx,Why?,(a) b (b) c,(a)\n", "number from 1"),
        ("Index,Question,Options,Correct Answer\n1,Why?\n", "a cell for each column"),
        (QUESTIONS + QUESTIONS.splitlines()[1] + "\n", "is there twice"),
        ("Index,Question,Options,Correct Answer\n", "no samples"),
        ('Index,Question,Options,Correct Answer\n1,"Why?\n', "comma-separated"),
        ("", "is missing"),
    ],
)
def test_a_broken_table_says_what_is_wrong(pairs, text, message):
    (pairs / "Questions.csv").write_text(text)
    with pytest.raises(DatasetError, match=message):
        mmvp.MMVP(pairs)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1,Why?,no options,(a)", "Expected options"),
        ("1,Why?,(b) one (a) two,(a)", "Expected options"),
        ("1,Why?,(a) one (b) two,(c)", "letter of one of 2"),
        ("1, ,(a) one (b) two,(a)", "Expected a question"),
        ("9,Why?,(a) one (b) two,(a)", "no picture '9.jpg'"),
    ],
)
def test_a_broken_question_costs_its_own_sample(pairs, line, message):
    (pairs / "Questions.csv").write_text(f"{QUESTIONS.splitlines()[0]}\n{line}\n")
    with pytest.raises(DatasetError, match=message):
        mmvp.MMVP(pairs).get(0)


def test_brackets_in_an_option_are_no_mark():
    assert mmvp.options_of("(A) One cat(s)  (b) (f) Two(b)") == ["One cat(s)", "(f) Two(b)"]
    assert mmvp.options_of("(a) it (C) them") == ["it (C) them"], "One option, which is no question."
    assert mmvp.options_of("well (a) it (b) them") == []
    assert mmvp.options_of("(a) it (b) ") == []
    assert mmvp.options_of("") == []


def test_options_are_read_in_bounded_time():
    """A pattern that goes back for every space would take minutes."""
    spaces = " " * 100_000
    assert mmvp.options_of(f"(a) one{spaces}more (b) two") == [f"one{spaces}more", "two"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_in_a_folder_are_no_files(pairs):
    """To open one would wait for ever."""
    (pairs / "MMVP Images" / "1.jpg").unlink()
    os.mkfifo(pairs / "MMVP Images" / "1.jpg")
    with pytest.raises(DatasetError, match="no picture"):
        mmvp.MMVP(pairs).get(0)
    (pairs / "Questions.csv").unlink()
    os.mkfifo(pairs / "Questions.csv")
    with pytest.raises(DatasetError, match="no file"):
        mmvp.MMVP(pairs)


# --- scoring --------------------------------------------------------------------------------------------------------


def scored(metric, rows):
    for given, right, group, *ended in rows:
        outcome = Outcome(None, given, ended[0] if ended else "answer", 1)
        metric.update(outcome, AnswerTruth((right,), group=group))
    return metric


def test_sub_tasks_weigh_alike():
    rows = [("A", "A", "Jigsaw"), ("B", "A", "Jigsaw"), ("C", "A", "Jigsaw"), (None, "A", "Jigsaw", "max_turns")]
    metric = scored(SubTaskAccuracy(), [*rows, ("(b)", "B", "Counting")])
    figures = metric.compute()
    assert figures["subtask_acc"] == (1 / 4 + 1) / 2
    assert figures["subtask_acc/Jigsaw"] == 1 / 4
    assert (figures["subtask_acc/Jigsaw_n"], figures["subtask_acc/Jigsaw_failed"]) == (4, 1)
    assert (figures["subtask_acc_n"], figures["subtask_acc_failed"]) == (5, 1)
    low, high = metric.intervals()["subtask_acc/Jigsaw"]
    assert low == 0
    assert high >= 0.75


def test_a_pair_is_right_if_both_answers_are():
    rows = [("A", "A", "1"), ("B", "B", "1"), ("A", "A", "2"), ("A", "B", "2"), (None, "A", "3", "invalid")]
    metric = scored(PairAccuracy(), rows)
    figures = metric.compute()
    assert figures["pair_acc"] == 1 / 3
    assert (figures["pair_count"], figures["pair_incomplete"]) == (3, 1)
    assert (figures["pair_acc_n"], figures["pair_acc_failed"]) == (5, 1)
    assert set(metric.intervals()) == {"pair_acc"}
    assert sorted(set(np.round(metric.resampled(200)["pair_acc"] * 3, 9))) == [0, 1, 2, 3]


def test_what_a_question_counts_for_survives_a_record():
    truth = AnswerTruth(("A",), ("x", "y"), "Jigsaw")
    assert read_truth(json.loads(json.dumps(truth_record(truth)))) == truth
    assert "group" not in truth_record(AnswerTruth(("A",)))
