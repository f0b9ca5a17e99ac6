"""Which final results are good enough to learn from, by figures computed by hand."""

import pytest

from visenv.errors import InvalidData
from visenv.export.judging import judge
from visenv.masks import Masks


def rle(x0, x1):
    """The columns from x0 to x1 of a picture of 10x10."""
    return Masks.from_boxes([[x0, 0, x1, 10]], (10, 10)).to_coco_rles()


def record(truth, boxes=None, masks=None, answer="done", termination="answer", invalid=None):
    found = {"boxes": boxes, "scores": None if boxes is None else [1.0] * len(boxes), "masks": masks}
    outcome = {**found, "answer": answer, "termination": termination, "turns": 3}
    return {"episode": 0, "truth": truth, "outcome": outcome, "invalid": invalid, "reward": 1.5}


MASKS = {"type": "masks", "target": rle(0, 10), "ignore": None}
NULL = {"type": "masks", "target": [], "ignore": None}
POINTS = {"type": "points", "points": [[i, i] for i in range(10)]}
BOXES = {"type": "boxes", "boxes": [[0, 0, 2, 2], [4, 4, 6, 6]], "labels": None, "ignore": None}
BOX = [[0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("given", "score", "why"),
    [
        (record(MASKS, BOX, rle(0, 7)), 0.7, ""),
        (record(MASKS, BOX, rle(0, 6)), 0.6, "low_score"),
        (record(MASKS), 0.0, "low_score"),
        (record(MASKS, BOX, rle(0, 8), termination="max_turns"), 0.8, ""),
        (record(MASKS, BOX, rle(0, 8), termination="invalid", invalid="sam broke"), 0.8, "invalid"),
        (record(MASKS, BOX, rle(0, 8), termination=None), 0.8, "unfinished"),
        (record({**MASKS, "ignore": rle(4, 10)}, BOX, rle(0, 3)), 0.75, ""),
        (record(NULL), 1.0, ""),
        (record(NULL, termination="max_turns", answer=None), 0.0, "low_score"),
        (record(NULL, BOX, rle(0, 1)), 0.0, "low_score"),
        (record(POINTS, BOX * 7), 0.7, ""),
        (record(POINTS, BOX * 13), 0.7, ""),
        (record(POINTS, BOX * 6), 0.6, "count_error"),
        (record(POINTS), 0.0, "count_error"),
        (record({**POINTS, "points": []}), 1.0, ""),
        (record({**POINTS, "points": []}, termination="max_turns", answer=None), 0.0, "count_error"),
        (record({**POINTS, "points": []}, BOX), 0.0, "count_error"),
        (record(BOXES, [[0, 0, 2, 2], [4, 4, 6, 6], [8, 8, 9, 9]]), 0.8, ""),
        (record(BOXES, [[0, 0, 2, 2]]), 2 / 3, "low_score"),
        (record(BOXES), 0.0, "low_score"),
        (record({"type": "answers", "answers": ["a red car"], "choices": None}, answer="red car"), 1.0, ""),
        (record({"type": "answers", "answers": ["(A)"], "choices": ["(A)", "(B)"]}, answer="(B)"), 0.0, "low_score"),
    ],
)
def test_verdicts(given, score, why):
    verdict = judge(given)
    assert verdict.score == pytest.approx(score)
    assert (verdict.why, verdict.good) == (why, not why)


def test_other_limits():
    assert judge(record(MASKS, BOX, rle(0, 6)), min_iou=0.6).good
    assert judge(record(POINTS, BOX * 6), max_count_error=0.4).good
    late = record(MASKS, BOX, rle(0, 8), termination="max_turns")
    assert judge(late, answered=True).why == "unanswered"
    assert judge(record(MASKS, BOX, rle(0, 8)), answered=True).good
    assert judge(record(MASKS, BOX, rle(0, 8)), min_reward=1.5).good
    assert judge(record(MASKS, BOX, rle(0, 8)), min_reward=1.6).why == "low_reward"
    with pytest.raises(InvalidData, match="episode 0"):
        judge(record({"type": "masks", "target": [{"counts": 7}], "ignore": None}))


def test_what_a_record_does_not_hold_is_judged_by_its_reward():
    restored = record({"type": "image", "width": 10, "height": 10, "damage": ["blur"], "answers": []})
    assert judge(restored).why == "not_scored"
    assert judge(restored, min_reward=1.0).good
    assert judge(restored, min_reward=2.0).why == "low_reward"
