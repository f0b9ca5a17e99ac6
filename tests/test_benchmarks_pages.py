"""The programs that write docs/performance.md and docs/learning.md."""

import re
from pathlib import Path

import pytest

from benchmarks import learning, performance
from benchmarks._machine import describe
from visenv.types import Answer, Malformed, Outcome, PointsTruth, ToolCall, Turn


def policy(iou, reward=1.0):
    return {
        "episodes": 10,
        "metrics": {"gIoU": iou},
        "interval": [iou - 0.05, iou + 0.05],
        "reward_mean": reward,
        "turns_mean": 4.5,
        "errors": 0.25,
        "tokens_read": 320.0,
    }


def result(run):
    policies = {who: policy(value) for who, value in (("random", 0.1), ("single", 0.4), ("scripted", 0.9))}
    policies["trained"] = policy(0.7 + 0.05 * run.seed, 2.5)
    curve = [{"steps": steps, "seconds": 90.0, "metrics": {"gIoU": 0.5}} for steps in (512, 1024)]
    levels = {str(level): policies["trained"] for level in run.difficulties}
    apart = {"scripted": {"reward": {"mean": 1.5, "interval": [1.25, 1.75]}}}
    return learning.Result([{**curve[0], "metrics": {}}, *curve], policies, levels, apart)


def test_every_figure_of_the_page_on_learning_comes_from_its_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "PAGE", tmp_path / "learning.md")
    monkeypatch.setattr(learning, "FIGURE", tmp_path / "images" / "learning.svg")
    (tmp_path / "images").mkdir()
    learning.write_page({run.name: result(run) for run in learning.ALL})
    page = (tmp_path / "learning.md").read_text(encoding="utf-8")
    assert "| PPO, seed 0 | 1.5 | 0.700 (0.650–0.750) | 75% | +2.50 | 4.5 | 25% |" in page
    assert "| PPO, seed 1 | 1.5 | 0.750 (0.700–0.800) | 81% |" in page
    assert "| scripted | – | 0.900" in page
    assert "images/learning.svg" in page
    assert "| 2 turns | 10 | +1.00 | +2.50 | +1.50 (+1.25 to +1.75) | 0.900 | 0.700 | 4.5 | 4.5 |" in page
    for run in learning.ALL:
        assert run.name in page
    assert not re.search(r"[{}]", page), "a figure was left out"
    assert "<svg" in learning.FIGURE.read_text(encoding="utf-8")


def test_runs_are_told_apart_and_can_be_made():
    configs = [run.config(Path()) for run in learning.ALL]
    assert len({run.folder for run in learning.ALL}) == len(configs)
    assert [config.env.get("max_turns") for config in configs].count(2) == 1
    assert {config.algo for config in configs} == {"ppo", "maskable_ppo"}


def test_the_reward_without_its_task_pays_for_faults_alone():
    reward = learning.FaultsOnly()
    assert reward.turn(Turn(1, ToolCall("MergeBoxMask", {}), "", error=Malformed("no_boxes", "…"))) == {"fault": -0.2}
    assert reward.turn(Turn(1, Answer("done"), "")) == {"fault": 0.0}
    assert reward.final(Outcome(None, "done", "answer", 1), PointsTruth([[1, 2]])) == {}


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"ours_s": 2.0}, "2 s"),
        ({"ours_s": 0.0345}, "34.5 ms"),
        ({"ours_s": 8e-6}, "8 µs"),
        ({"ours_mb": 3.0}, "3.0 MB"),
    ],
)
def test_quantities_have_units(row, text):
    assert performance.quantity(row, "ours") == text


def test_a_section_holds_every_row_and_every_benchmark_has_one():
    rows = [
        {"benchmark": "a", "ours_s": 1.0, "alternative": "b", "alternative_s": 3.0, "ratio": 3.0, "detail": "c"},
        {"benchmark": "d", "ours_mb": 2.0, "alternative": "e", "alternative_mb": 5.0, "ratio": 2.5, "detail": ""},
    ]
    text = performance.section("memory", rows)
    assert "| a | 1 s | b | 3 s | 3 | c |" in text
    assert "| d | 2.0 MB | e | 5.0 MB | 2.5 |  |" in text
    folder = Path(performance.__file__).parent
    assert {path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py")} == set(performance.TITLES)


def test_a_section_measured_anew_takes_the_place_of_the_old_one():
    rows = [{"benchmark": "a", "ours_s": 1.0, "alternative": "b", "alternative_s": 3.0, "ratio": 3.0, "detail": "c"}]
    page = "# Old\n\n## Merging\n\nold\n\n## Nothing of ours\n\nold\n"
    page = performance.with_section(page, "masks", performance.section("masks", rows))
    page = performance.with_section(page, "masks", performance.section("masks", rows))
    assert [line for line in page.splitlines() if line.startswith("#")] == [
        "# How fast is it?",
        "## Masks",
        "## Merging",
    ]
    assert page.count("| a | 1 s | b | 3 s | 3 | c |") == 1


def test_the_machine_is_described():
    assert re.search(r"\d+ cores in use, .*Python 3\.\d+.*numpy \d", describe())
