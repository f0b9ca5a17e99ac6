"""Evaluations: what is written, going on, sharing a folder, and the report."""

import json
import subprocess
import sys
import threading

import gymnasium as gym
import numpy as np
import pytest
from typer.testing import CliRunner

from visenv.builtin import ENVIRONMENTS
from visenv.cli import app
from visenv.errors import InvalidData, UnknownName
from visenv.evaluation import EvalConfig, Run, evaluate, score, work
from visenv.evaluation.following import Follower
from visenv.evaluation.records import Ended, read_truth
from visenv.evaluation.running import begin
from visenv.evaluation.store import read_lines
from visenv.images import to_data_url
from visenv.policies import make_policy, rollout
from visenv.policies.oracle import OraclePolicy
from visenv.records import truth_record
from visenv.registration import Entry, policies
from visenv.types import Answer

REFSEG = EvalConfig("VisHarness/RefSeg-v0", "oracle", 8)


class FlakyPolicy(OraclePolicy):
    """Fails on every third episode."""

    def reset(self, env, seed):
        super().reset(env, seed)
        if int(env.episode.sample_id.rpartition("/")[2]) % 3 == 0:
            raise ConnectionError("nobody there")


class WrongPolicy(OraclePolicy):
    """Is not made for this environment."""

    def reset(self, env, seed):
        raise InvalidData("Expected other actions.")


@pytest.fixture(autouse=True)
def stubs(monkeypatch):
    for name, kind in (("flaky", FlakyPolicy), ("wrong", WrongPolicy)):
        monkeypatch.setitem(policies._entries, name, Entry(name, f"{__name__}:{kind.__name__}"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished evaluation, which tests only read."""
    folder = tmp_path_factory.mktemp("finished")
    return folder, evaluate(EvalConfig("VisHarness/GRefSeg-v0", "scripted", 12, env={"experts": "oracle"}), folder)


def views(folder):
    return [(folder / name).read_bytes() for name in ("trajectories.jsonl", "report.json")]


def test_it_plays_what_a_rollout_plays(finished):
    folder, report = finished
    config = EvalConfig("VisHarness/GRefSeg-v0", "scripted", env={"experts": "oracle"})
    env = config.make_env()
    expected = list(rollout(env, make_policy("scripted"), episodes=12, seed=0))
    records = [json.loads(line) for line in (folder / "trajectories.jsonl").read_text().splitlines()]
    assert [record["sample_id"] for record in records] == [one.sample_id for one in expected]
    assert [record["reward"] for record in records] == pytest.approx([one.reward for one in expected])
    for record, one in zip(records, expected, strict=True):
        assert record["metrics"] == pytest.approx(one.metrics)
    assert report["reward"]["mean"] == pytest.approx(np.mean([one.reward for one in expected]))
    assert report["metrics"]["gIoU"] == pytest.approx(np.mean([one.metrics["gIoU"] for one in expected]))


def test_the_report_tells_all(finished):
    folder, report = finished
    assert {"gIoU", "cIoU", "Pr@0.5", "T_acc"} <= report["metrics"].keys()
    assert report["intervals"].keys() <= report["metrics"].keys()
    low, high = report["intervals"]["gIoU"]
    assert low <= report["metrics"]["gIoU"] <= high
    assert report["headline"] == {
        "name": "gIoU",
        "value": report["metrics"]["gIoU"],
        "interval": [low, high],
        "higher_is_better": True,
    }
    assert (report["episodes"], report["finished"], sum(report["ends"].values())) == (12, 12, 12)
    cost, timing = report["cost"], report["timing"]
    records = [json.loads(line) for line in (folder / "trajectories.jsonl").read_text().splitlines()]
    assert cost["turns"]["total"] == sum(cost["calls"].values()) == sum(len(record["turns"]) for record in records)
    tokens = cost["visual_tokens"]
    assert 0 < tokens["with_archiving"] < tokens["without_archiving"]
    assert timing["seconds"].keys() == {"loading", "policy", "experts", "env"}
    assert all(value >= 0 for value in timing["seconds"].values())
    assert timing["trajectories_a_minute"] > 0
    page = (folder / "index.html").read_text()
    for word in ("gIoU", "T_acc", "PhraseToBoxMask", "Trajectories a minute", "without archiving"):
        assert word in page
    assert json.loads((folder / "report.json").read_text()) == {
        key: value for key, value in report.items() if key not in ("timing", "page")
    }


def test_a_run_is_scored_again_from_its_outcomes(finished, tmp_path):
    folder, report = finished
    before = views(folder)
    again = score(folder)
    assert views(folder) == before
    assert again["metrics"] == report["metrics"]


@pytest.mark.parametrize("name", list(ENVIRONMENTS))
def test_every_environment_reports_its_benchmarks_figures(name, tmp_path):
    env = {"tasks": ["refseg", "refcount"]} if "Mixed" in name else {"difficulty": 0}
    report = evaluate(EvalConfig(name, "oracle", 8 if "Mixed" in name else 3, seed=1, env=env), tmp_path)
    published = {
        "ReasonSeg": {"gIoU", "cIoU"},
        "GRefSeg": {"gIoU", "cIoU", "Pr@0.7"},
        "RefSeg": {"cIoU", "mIoU", "Pr@0.5"},
        "DenseDet": {"F1@0.50", "F1@0.95", "F1@0.50:0.95", "macro_F1@0.50", "AP", "AP@0.50"},
        "RefCount": {"MAE", "RMSE", "NAE", "precision", "recall", "point_F1"},
        "Mixed": {"cIoU", "MAE"},
        "InteractiveSeg": {"gIoU", "cIoU", "T_acc"},
        "MultiImage": {"EM", "token_F1"},
        "Blink": {"subtask_acc"},
        "MMVP": {"pair_acc"},
        "MATCoding": {"likeness", "EM", "token_F1"},
        "MATSearch": {"EM", "token_F1"},
    }[name.removeprefix("VisHarness/").removesuffix("-v0")]
    assert published <= report["metrics"].keys()
    counts = {"TP", "FP", "FN", "AP_cut", "Pr_null", "mIoU_null"}
    assert published - counts <= report["intervals"].keys()
    assert report["reward"]["mean"] == pytest.approx(gym.make(name).unwrapped.config.reward.bounds[1])
    if "Mixed" in name:
        assert report["tasks"].keys() == {"refseg", "refcount"}
        assert report["tasks"]["refcount"]["metrics"]["MAE"] == 0.0


def test_going_on_is_the_same_as_never_stopping(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    evaluate(REFSEG, whole)
    run = begin(REFSEG, parts)

    class Stop(Exception):
        pass

    stopped = 0
    while run.missing():
        played = []

        def told(played=played):
            played.append(1)
            if len(played) == 3:
                raise Stop

        try:
            work(parts, told=told)
        except Stop:
            stopped += 1
    assert stopped == 2
    evaluate(REFSEG, parts)
    assert views(parts) == views(whole)


def test_results_do_not_depend_on_the_size_of_blocks(tmp_path, monkeypatch):
    import visenv.evaluation.store as store

    evaluate(REFSEG, tmp_path / "one")
    monkeypatch.setattr(store, "LEAST_BLOCKS", 3)
    report = evaluate(REFSEG, tmp_path / "few", workers=2)
    assert Run(tmp_path / "few").block == 2
    assert report["finished"] == 8
    assert views(tmp_path / "one") == views(tmp_path / "few")


def test_results_do_not_depend_on_concurrency(tmp_path):
    evaluate(REFSEG, tmp_path / "one")
    evaluate(REFSEG, tmp_path / "many", concurrency=5)
    assert views(tmp_path / "one") == views(tmp_path / "many")


def test_processes_share_a_folder(tmp_path):
    evaluate(REFSEG, tmp_path / "one")
    report = evaluate(REFSEG, tmp_path / "two", workers=2)
    assert views(tmp_path / "one") == views(tmp_path / "two")
    assert report["timing"]["processes"] in (1, 2)


def test_workers_in_one_process_never_play_an_episode_twice(tmp_path):
    config = EvalConfig("VisHarness/RefSeg-v0", "oracle", 30)
    run, played = begin(config, tmp_path), []
    threads = [threading.Thread(target=lambda: played.append(work(tmp_path, concurrency=3))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(played) == 30
    lines = [line for block in run.blocks for line in run.path(block).read_text().splitlines()]
    assert sorted(json.loads(line)["record"]["episode"] for line in lines) == list(range(30))


def test_a_held_block_is_left_to_its_holder(tmp_path):
    run = begin(EvalConfig("VisHarness/RefSeg-v0", "oracle", 3), tmp_path)
    holder = run.claim(1)
    assert run.claim(1) is None
    assert work(tmp_path, wait=False) == 2
    holder.close()
    assert work(tmp_path, wait=False) == 1
    assert run.missing() == 0


@pytest.mark.parametrize("tail", [b'{"record": {"epis', b"\0\0\0\0", b"\0\0\n", b"{}\n", b'{"record": {"episode": 1'])
def test_a_torn_last_line_is_mended(tmp_path, tail):
    run = begin(REFSEG, tmp_path)
    work(tmp_path)
    before = run.path(0).read_bytes()
    with run.path(0).open("ab") as file:
        file.write(tail)
    assert [line["record"]["episode"] for line in run.block_lines(0)] == [0]
    run.claim(0).close()
    assert run.path(0).read_bytes() == before


def test_what_is_lost_of_a_line_is_played_again(tmp_path):
    evaluate(REFSEG, tmp_path)
    before, run = views(tmp_path), Run(tmp_path)
    for block in (2, 5):
        content = run.path(block).read_bytes()
        run.path(block).write_bytes(content[: len(content) // 2])
    run.path(3).unlink()
    assert run.missing() == 3
    evaluate(REFSEG, tmp_path)
    assert views(tmp_path) == before


def test_lines_are_read_once_each_and_in_order():
    lines = [b'{"record": {"episode": %d}, "n": %d}\n' % pair for pair in ((5, 0), (4, 1), (5, 2), (9, 3))]
    found, length = read_lines(b"".join([lines[0], b"broken\n", *lines[1:]]), range(4, 8))
    assert {number: line["n"] for number, line in found.items()} == {5: 0, 4: 1}
    assert length == sum(map(len, lines[:3])) + len(b"broken\n")


def test_a_failing_policy_makes_episodes_invalid_and_pays_nothing(tmp_path):
    report = evaluate(EvalConfig("VisHarness/RefSeg-v0", "flaky", 9, env={"experts": "oracle"}), tmp_path)
    records = [json.loads(line) for line in (tmp_path / "trajectories.jsonl").read_text().splitlines()]
    failed = [int(record["sample_id"].rpartition("/")[2]) % 3 == 0 for record in records]
    assert 0 < sum(failed) < 9
    assert [record["termination"] == "invalid" for record in records] == failed
    assert [record["outcome"]["termination"] == "invalid" for record in records] == failed
    assert report["ends"] == {"answer": 9 - sum(failed), "invalid": sum(failed)}
    assert report["problems"] == {"policy: ConnectionError: nobody there": sum(failed)}
    # No reward of theirs counts, and the metrics say how many they miss.
    assert report["reward"]["mean"] == 5.0
    assert report["reward"]["episodes"] == 9 - sum(failed)
    assert report["metrics"]["gIoU_failed"] == sum(failed)
    assert "nobody there" in (tmp_path / "index.html").read_text()


def test_a_users_mistake_stops_the_run_and_is_no_episode(tmp_path):
    with pytest.raises(InvalidData, match="other actions"):
        evaluate(EvalConfig("VisHarness/RefSeg-v0", "wrong", 4), tmp_path)
    assert Run(tmp_path).missing() == 4
    with pytest.raises(InvalidData, match="no episode|none yet"):
        score(tmp_path)


def test_a_mistake_in_a_worker_process_is_said(tmp_path):
    config = EvalConfig("VisHarness/RefSeg-v0", "oracle", 4)
    begin(config, tmp_path)
    content = json.loads((tmp_path / "run.json").read_text())
    content["settings"]["env"]["experts"] = "nobody"
    (tmp_path / "run.json").write_text(json.dumps(content))
    broken = EvalConfig("VisHarness/RefSeg-v0", "oracle", 4, env={"experts": "nobody"})
    with pytest.raises(UnknownName, match="nobody"):
        evaluate(broken, tmp_path, workers=2)


def test_other_settings_need_another_folder(tmp_path):
    evaluate(REFSEG, tmp_path)
    other = EvalConfig("VisHarness/RefSeg-v0", "oracle", 5, seed=1)
    with pytest.raises(InvalidData, match="seed"):
        evaluate(other, tmp_path)
    assert evaluate(other, tmp_path, overwrite=True)["finished"] == 5


def test_a_run_that_somebody_plays_is_not_replaced(tmp_path):
    run = begin(REFSEG, tmp_path)
    holder = run.claim(0)
    with pytest.raises(InvalidData, match="nobody"):
        begin(REFSEG, tmp_path, overwrite=True)
    holder.close()
    begin(REFSEG, tmp_path, overwrite=True)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: EvalConfig("VisHarness/RefSeg-v0", episodes=0), "episodes"),
        (lambda: EvalConfig("VisHarness/RefSeg-v0", seed=-1), "seed"),
        (lambda: EvalConfig("VisHarness/RefSeg-v0", env={"dataset": object()}), "JSON"),
        (lambda: EvalConfig("VisHarness/RefSeg-v0", options={"tools": "text"}), "openai:MODEL"),
        (lambda: EvalConfig.from_settings({"who": 1}), "settings"),
    ],
)
def test_impossible_settings_are_refused(make, match):
    with pytest.raises(InvalidData, match=match):
        make()


def test_a_split_without_end_needs_a_number_and_one_with_an_end_has_no_more(tmp_path):
    with pytest.raises(InvalidData, match="no end"):
        begin(EvalConfig("VisHarness/RefSeg-v0", env={"split": "train"}), tmp_path / "a")
    with pytest.raises(InvalidData, match="at most"):
        begin(EvalConfig("VisHarness/RefSeg-v0", episodes=10**6), tmp_path / "b")


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"format": 2, "episodes": 1, "block": 1, "settings": {}, "facts": {}}']
)
def test_a_folder_that_is_no_evaluation_is_said_to_be_none(tmp_path, content):
    with pytest.raises(InvalidData):
        Run(tmp_path / "nowhere")
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(InvalidData):
        Run(tmp_path)


def test_a_full_disk_is_said_and_costs_one_episode(tmp_path, monkeypatch):
    import visenv.evaluation.store as store

    run, write, room = begin(REFSEG, tmp_path), store.os.write, [4000]

    def full(descriptor, data):
        if room[0] <= 0:
            raise OSError(28, "No space left on device")
        written = write(descriptor, data[:1000])
        room[0] -= written
        return written

    monkeypatch.setattr(store.os, "write", full)
    with pytest.raises(InvalidData, match="No space left"):
        work(tmp_path)
    monkeypatch.undo()
    assert 0 < run.missing() < 8
    assert evaluate(REFSEG, tmp_path)["finished"] == 8


@pytest.mark.parametrize("block", [1, 4])
def test_a_follower_reads_each_line_once(tmp_path, block):
    begin(REFSEG, tmp_path)
    content = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(content | {"block": block}))
    run = Run(tmp_path)
    follower = Follower(run)
    assert not follower.look()
    assert follower.running() == ""
    seen = []
    work(tmp_path, told=lambda: seen.append((follower.look(), follower.done)))
    assert seen == [(True, number) for number in range(1, 9)]
    assert follower.complete
    assert follower.running() == "gIoU 1.000"
    assert not follower.look()


def test_truths_are_read_back(tmp_path):
    from visenv.types import AnswerTruth, BoxesTruth, ImageTruth, PointsTruth

    boxes = BoxesTruth(np.array([[0.1, 2, 3, 4]]), ("car",), np.array([[0, 0, 5, 5.5]]))
    again = read_truth(json.loads(json.dumps(truth_record(boxes))))
    np.testing.assert_array_equal(again.boxes, boxes.boxes)
    np.testing.assert_array_equal(again.ignore, boxes.ignore)
    assert again.labels == ("car",)
    points = PointsTruth(np.array([[1.5, 2.25]]))
    np.testing.assert_array_equal(read_truth(truth_record(points)).points, points.points)
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = ImageTruth(pixels, ("blur",), ("red",))
    back = read_truth({**truth_record(image), "clean": to_data_url(pixels)})
    assert (back.damage, back.answers) == (("blur",), ("red",))
    np.testing.assert_array_equal(back.clean, pixels)
    with pytest.raises(InvalidData, match="PNG as a data URL"):
        read_truth({**truth_record(image), "clean": "https://example.org/x.png"})
    answers = AnswerTruth(("a", "b"), ("a", "c"))
    assert read_truth(json.loads(json.dumps(truth_record(answers)))) == answers
    with pytest.raises(InvalidData, match="masks, boxes, points, answers or an image"):
        read_truth({"type": "rumour"})
    with pytest.raises(InvalidData, match="record of an episode"):
        Ended.read({"record": {"outcome": {}, "truth": {}}})


def test_the_command_line_evaluates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["eval", "RefSeg-v0", "--policy", "oracle", "-n", "4", "--out", "run"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.stderr
    for word in ("mIoU", "4 of 4 episodes ended: 4 answer", "trajectories a minute", "without archiving"):
        assert word in " ".join(shown.stdout.split())
    report = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert report["metrics"]["cIoU"] == 1.0
    assert report["settings"]["policy"] == "oracle"
    other = CliRunner().invoke(app, [*words[:-1], "run", "--seed", "3"])
    assert other.exit_code == 2
    assert "--overwrite" in other.stderr


def test_the_page_of_an_evaluation_is_built_anew(finished):
    folder, _ = finished
    page = (folder / "index.html").read_bytes()
    (folder / "index.html").unlink()
    shown = CliRunner().invoke(app, ["view", str(folder)])
    assert shown.exit_code == 0, shown.stderr
    assert (folder / "index.html").read_bytes() == page


def test_progress_has_the_running_metric_and_the_time_left(tmp_path):
    command = [
        sys.executable,
        "-m",
        "visenv",
        "eval",
        "RefSeg-v0",
        "--policy",
        "oracle",
        "-n",
        "4",
        "--out",
        str(tmp_path),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "gIoU 1.000" in ended.stderr
    assert "left" in ended.stderr
    assert "4/4" in ended.stderr


def test_an_answer_that_says_nothing_is_a_miss_not_invalid(tmp_path, monkeypatch):
    class Silent(OraclePolicy):
        def act(self, episode):
            return Answer("nothing there")

    monkeypatch.setitem(policies._entries, "silent", Entry("silent", "builtins:object"))
    monkeypatch.setattr(Entry, "load", lambda entry: Silent if entry.name == "silent" else _load(entry))
    report = evaluate(EvalConfig("VisHarness/RefSeg-v0", "silent", 3), tmp_path)
    assert report["ends"] == {"answer": 3}
    assert report["metrics"]["gIoU"] == 0.0
    assert report["reward"]["mean"] == -3.0


_load = Entry.load


@pytest.mark.slow
def test_workers_that_find_nothing_left_end_quietly(tmp_path):
    # They end at different times: none of them may be taken for one that died.
    report = evaluate(EvalConfig("VisHarness/DenseDet-v0", "oracle", 30, env={"difficulty": 0}), tmp_path, workers=4)
    assert report["finished"] == 30


@pytest.mark.slow
def test_a_trained_policy_is_evaluated_from_its_folder(tmp_path):
    from visenv.training import TrainConfig, train

    env = {"difficulty": 0, "experts": "oracle", "max_turns": 4}
    train(TrainConfig("VisHarness/RefSeg-v0", steps=64, n_envs=2, env=env, hyperparameters={"n_steps": 16}), tmp_path)
    config = EvalConfig("VisHarness/RefSeg-v0", str(tmp_path), 6, env=env)
    assert config.keywords["action_mode"] == "discrete"
    report = evaluate(config, tmp_path / "eval", workers=2)
    assert report["finished"] == 6
    assert report["problems"] == {}
