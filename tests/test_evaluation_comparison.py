"""Two evaluations side by side."""

import json
import re

import numpy as np
import pytest
from typer.testing import CliRunner

from visenv.cli import app
from visenv.errors import InvalidData
from visenv.evaluation import EvalConfig, Run, compare, evaluate
from visenv.evaluation.comparison import MOST_CHANGED
from visenv.report.evaluation_comparison import write_comparison_page


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for policy in ("single", "scripted"):
        evaluate(EvalConfig("VisHarness/RefSeg-v0", policy, 16), folder / policy)
    return folder / "single", folder / "scripted"


@pytest.fixture(scope="module")
def compared(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    return folder, compare(*runs, folder)


def records(folder):
    return [json.loads(line) for line in (folder / "trajectories.jsonl").read_text().splitlines()]


def test_differences_are_those_of_the_same_samples(runs, compared):
    a, b = map(records, runs)
    _, report = compared
    apart = np.array([two["metrics"]["gIoU"] - one["metrics"]["gIoU"] for one, two in zip(a, b, strict=True)])
    assert report["paired"] == 16
    assert report["headline"] == "gIoU"
    assert report["means"]["gIoU"]["difference"] == pytest.approx(apart.mean())
    assert report["figures"]["gIoU"]["difference"] == pytest.approx(apart.mean())
    assert [one["difference"] for one in report["samples"]] == pytest.approx(apart)
    assert (report["better"], report["worse"], report["same"]) == (sum(apart > 0), sum(apart < 0), sum(apart == 0))
    low, high = report["figures"]["gIoU"]["interval"]
    assert low < apart.mean() < high
    # What both share cancels out: the interval of paired differences is no wider than that of values far apart.
    assert report["means"]["gIoU"]["interval"] == pytest.approx([low, high])
    ratio = report["figures"]["cIoU"]
    assert ratio["interval"][0] <= ratio["difference"] <= ratio["interval"][1]


def test_the_samples_that_changed_most_are_shown_with_pictures(compared):
    folder, report = compared
    changed = [abs(one["difference"]) for one in report["changed"]]
    everything = sorted((abs(one["difference"]) for one in report["samples"]), reverse=True)
    assert changed == [value for value in everything if value][:MOST_CHANGED]
    page = (folder / "index.html").read_text()
    assert len(re.findall(r'src="data:image/jpeg;base64,[^"]{500,}"', page)) == 3 * len(changed)
    for one in report["samples"]:
        assert one["sample_id"] in page


def test_a_run_is_the_same_as_itself(runs, tmp_path):
    report = compare(runs[0], runs[0], tmp_path)
    assert report["changed"] == []
    assert report["same"] == 16
    assert all(part["interval"] in ([0, 0], None) for part in report["figures"].values())
    assert "No sample has changed" in (tmp_path / "index.html").read_text()


def test_what_cannot_be_paired_is_counted(runs, tmp_path):
    evaluate(EvalConfig("VisHarness/RefSeg-v0", "oracle", 5), tmp_path / "five")
    run = Run(tmp_path / "five")
    path = run.path(2)
    line = json.loads(path.read_text())
    line["record"] |= {"termination": "invalid", "invalid": "policy: gone"}
    path.write_text(json.dumps(line) + "\n")
    report = compare(runs[0], tmp_path / "five", tmp_path / "out")
    assert report["left_out"] == {"only_a": 11, "only_b": 0, "invalid": 1}
    assert report["paired"] == 4


def test_counting_runs_are_better_with_less(tmp_path):
    for policy in ("single", "oracle"):
        config = EvalConfig("VisHarness/RefCount-v0", policy, 4, env={"difficulty": 0, "max_turns": 4})
        evaluate(config, tmp_path / policy)
    report = compare(tmp_path / "single", tmp_path / "oracle", tmp_path / "out")
    assert (report["headline"], report["higher_is_better"], report["worse"]) == ("MAE", False, 0)
    assert report["means"]["MAE"]["difference"] <= 0


def test_mixed_tasks_are_compared_by_reward(tmp_path):
    for policy in ("single", "oracle"):
        env = {"tasks": ["refseg", "refcount"], "difficulty": 0}
        evaluate(EvalConfig("VisHarness/Mixed-v0", policy, 6, 1, env), tmp_path / policy)
    report = compare(tmp_path / "single", tmp_path / "oracle", tmp_path / "out")
    assert report["headline"] == "reward"
    assert {"gIoU", "MAE"} <= report["figures"].keys()


def test_what_is_no_evaluation_is_said_to_be_none(runs, tmp_path):
    with pytest.raises(InvalidData, match="folder of an evaluation"):
        compare(runs[0], tmp_path, tmp_path)
    evaluate(EvalConfig("VisHarness/RefSeg-v0", "oracle", 2, env={"difficulty": 3}), tmp_path / "other")
    with pytest.raises(InvalidData, match="in common"):
        compare(runs[0], tmp_path / "other", tmp_path / "out")
    with pytest.raises(InvalidData, match=r"comparison\.json"):
        write_comparison_page(tmp_path)


def test_what_a_run_says_stays_text(compared, tmp_path):
    folder, _ = compared
    report = json.loads((folder / "comparison.json").read_text())
    report["samples"][0]["query"] = report["changed"][0]["query"] = "<script>alert(1)</script>"
    report["changed"][0]["a"] = "broken"
    (tmp_path / "comparison.json").write_text(json.dumps(report))
    page = write_comparison_page(tmp_path).read_text()
    assert "<script>alert" not in page


def test_the_command_line_compares(runs, tmp_path):
    words = ["compare", *map(str, runs), "--out", str(tmp_path)]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.stderr
    for word in ("cIoU", "16 samples", "Changed most", "better in B"):
        assert word in shown.stdout
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["paired"] == 16
