"""Tries that differ: the policy whose choices change by chance, screening, and runs that go on where they were."""

import json
from collections import Counter
from dataclasses import asdict
from itertools import pairwise

import datasets
import gymnasium as gym
import pytest
from typer.testing import CliRunner

import visenv.policies.endpoint as endpoint
from tests.chat_server import good, saying, serving
from visenv.builtin import ENVIRONMENTS
from visenv.cli import app
from visenv.errors import InvalidData, UnknownName
from visenv.evaluation import EvalConfig, Run
from visenv.export import Filters, export_run, load_set
from visenv.export.formats import FORMS
from visenv.policies import make_policy, rollout
from visenv.policies.varied import VariedPolicy
from visenv.protocol import parse_turn
from visenv.synth import Screening, synth_config, synthesize
from visenv.types import Answer, ToolCall

datasets.disable_progress_bars()

ENV_ID = "VisHarness/RefSeg-v0"
ORACLE = {"experts": "oracle", "split": "val"}


def records(folder):
    return [json.loads(line) for line in (folder / "trajectories.jsonl").read_text().splitlines()]


def calls(record):
    return [(turn["name"], turn["arguments"]) for turn in record["turns"]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synth") / "run"
    config = synth_config(ENV_ID, samples=4, tries=8, noise=0.6, env={"split": "val", "difficulty": 0})
    return folder, config, synthesize(config, folder)


def test_every_sample_is_tried_several_times_in_different_ways(run):
    folder, _, _ = run
    played = records(folder)
    samples = [record["sample_id"] for record in played]
    assert all(len(set(samples[start : start + 8])) == 1 for start in range(0, 32, 8))
    assert len(set(samples)) == 4
    ways = {sample: {str(calls(record)) for record in played if record["sample_id"] == sample} for sample in samples}
    assert all(len(each) > 2 for each in ways.values())
    assert all(record["invalid"] is None for record in played)
    assert all(turn["thought"] for record in played for turn in record["turns"])


def test_what_is_screened_is_what_the_records_say(run):
    """Counted once more, from the metrics that the run itself has written."""
    folder, _, screening = run
    good = Counter()
    for record in records(folder):
        good[record["sample_id"]] += record["metrics"]["mIoU"] >= 0.7
    assert 0 < sum(good.values()) < 32, "Some tries fail."
    assert (screening.samples, screening.tries, screening.good) == (4, 32, sum(good.values()))
    assert screening.always_right == sum(count == 8 for count in good.values())
    assert screening.always_wrong == sum(count == 0 for count in good.values())
    distinct = {(each["sample_id"], str(calls(each))) for each in records(folder) if each["metrics"]["mIoU"] >= 0.7}
    assert screening.kept == len(distinct)
    assert screening.kept + sum(screening.why.values()) == 32


def test_the_best_of_n_and_mixed_samples(run, tmp_path):
    folder, _, screening = run
    best = export_run(folder, tmp_path / "best", filters=Filters(per_sample=1))
    kept = {each["sample_id"]: each["score"] for each in best["kept"]}
    highest = {}
    for record in records(folder):
        highest[record["sample_id"]] = max(highest.get(record["sample_id"], 0), record["metrics"]["mIoU"])
    assert kept == pytest.approx({sample: score for sample, score in highest.items() if score >= 0.7}, abs=1e-6)
    mixed = export_run(folder, tmp_path / "mixed", to="grpo", filters=Filters(mixed_only=True))
    assert mixed["rows"] == 4 - screening.always_right - screening.always_wrong


def test_faulty_calls_are_mended_and_only_the_mending_is_learned(run, tmp_path):
    played = records(run[0])
    faulty = [pair for record in played for pair in pairwise(record["turns"]) if pair[0]["error"]]
    assert faulty
    assert all(after["name"] == before["name"] and after["error"] is None for before, after in faulty)
    made = export_run(run[0], tmp_path / "set")
    texts = [row["completion"][0]["content"][0]["text"] for row in load_set(made["folder"])]
    assert all(isinstance(parse_turn(text), (ToolCall, Answer)) for text in texts)
    assert not any("img_9" in text for text in texts)
    assert made["why"]["turns"]["faulty_turn"] > 0


def test_the_same_seed_gives_the_same_bytes_however_it_is_played(run, tmp_path):
    folder, config, screening = run
    again = synthesize(config, tmp_path / "again", concurrency=5)
    assert again == screening
    assert (tmp_path / "again" / "trajectories.jsonl").read_bytes() == (folder / "trajectories.jsonl").read_bytes()
    other = EvalConfig(**{**asdict(config), "seed": 1})
    synthesize(other, tmp_path / "other")
    assert records(tmp_path / "other") != records(folder)


def test_a_run_that_was_stopped_goes_on(run, tmp_path):
    folder, config, screening = run
    there = Run.open(tmp_path / "run", config.settings(), 32, json.loads((folder / "run.json").read_text())["facts"])
    for block in (0, 3):
        content = (folder / "episodes" / f"{block:06d}.jsonl").read_bytes()
        there.path(block).write_bytes(content[: len(content) - 50 * block])
    assert 0 < there.missing() < 32
    assert synthesize(config, tmp_path / "run") == screening
    assert (tmp_path / "run" / "trajectories.jsonl").read_bytes() == (folder / "trajectories.jsonl").read_bytes()
    with pytest.raises(InvalidData, match="other settings"):
        synthesize(synth_config(ENV_ID, samples=4, tries=2, env={"split": "val"}), tmp_path / "run")


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_every_environment(tmp_path, env_id):
    """Whatever is done in it, it is played again to the same end, and its turns become rows of every form."""
    dense = env_id.endswith("DenseDet-v0")
    # Cutting large pictures up takes the script seconds.
    env = {"split": "val"} | ({"experts": "oracle"} if dense else {})
    policy = "single" if dense else "scripted"
    config = synth_config(env_id, policy=policy, samples=1, tries=2, noise=0.8, env=env)
    screening = synthesize(config, tmp_path / "run")
    assert screening.tries == 2
    assert "invalid" not in screening.why
    every = Filters(min_iou=0, max_count_error=1e9, min_reward=-1e9, faulty="keep")
    for form in FORMS:
        made = export_run(tmp_path / "run", tmp_path / form, to=form, filters=every)
        # In the first picture to be mended, the script sees nothing wrong: it says so, and answers.
        turns = 2 if "MATCoding" in env_id else 3
        assert made["rows"] >= (turns if FORMS[form].turns else 1)


def test_an_endpoint_is_asked_for_several_tries(tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    wrong = saying(content="<think>Nothing there.</think><answer>nothing</answer>")
    with serving(wrong, otherwise=good) as server:
        config = synth_config(
            ENV_ID,
            policy="openai:tiny",
            samples=2,
            tries=3,
            env=ORACLE,
            options={"base_url": server.url, "retries": 1, "timeout": 10.0},
        )
        screening = synthesize(config, tmp_path / "run", concurrency=3)
    assert (screening.tries, screening.good, screening.always_right) == (6, 5, 1)
    assert screening.why == {"duplicate_episode": 3, "low_score": 1}
    assert {body["temperature"] for _, _, body in server.requests} == {1.0}
    assert not any("tools" in body for _, _, body in server.requests)
    rows = load_set(export_run(tmp_path / "run", tmp_path / "set")["folder"])
    assert len(rows) == 6
    assert rows[0]["completion"][0]["content"][0]["text"].startswith("<think>Look.</think><tool_call>")


def test_the_command_asks_an_endpoint(tmp_path):
    words = ["synth", "RefSeg-v0", "--policy", "openai:tiny", "-n", "1", "--tries", "2", "--split", "val", "--json"]
    with serving(otherwise=good) as server:
        words += ["--experts", "oracle", "--base-url", server.url, "--out", str(tmp_path / "run"), "--to", "sft"]
        told = CliRunner().invoke(app, [*words, "--tools", "native", "--temperature", "0.7"])
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["set"]["dialect"] == "qwen3_vl", "Calls beside the text are written as text."
    assert json.loads(told.stdout)["set"]["rows"] == 3
    assert {body["temperature"] for _, _, body in server.requests} == {0.7}
    assert all("tools" in body for _, _, body in server.requests)


def test_without_noise_it_plays_what_is_varied():
    def turns(policy):
        env = gym.make(ENV_ID, obs="features", experts="classical", split="val")
        return [end.calls for end in rollout(env, make_policy(policy), episodes=5, seed=0)]

    assert turns("varied:noise=0") == turns("scripted")
    assert turns("varied:noise=0,inner=single") == turns("single")
    assert turns("varied:noise=1") != turns("scripted")


def test_what_is_asked_for_is_checked(tmp_path):
    for noise in (-0.1, 1.5, True):
        with pytest.raises(InvalidData, match="noise"):
            VariedPolicy(noise=noise)
        with pytest.raises(InvalidData, match="noise"):
            synth_config(ENV_ID, noise=noise)
    with pytest.raises(InvalidData, match="varied:argument=value"):
        make_policy("varied:nois=0.3")
    with pytest.raises(InvalidData, match="noise"):
        make_policy("varied:noise=much")
    with pytest.raises(UnknownName):
        make_policy("varied:inner=nobody")
    with pytest.raises(InvalidData, match="tries"):
        synth_config(ENV_ID, tries=0)
    assert "tries" not in EvalConfig(ENV_ID).settings(), "Runs of before go on."
    assert EvalConfig.from_settings(synth_config(ENV_ID, tries=3).settings()).tries == 3
    assert synth_config(ENV_ID, noise=0).policy == "scripted"


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["synth", "RefSeg-v0", "-n", "2", "--tries", "3", "--split", "val", "--experts", "oracle", "--out", "run"]
    told = CliRunner().invoke(app, [*words, "--to", "sharegpt", "--json"])
    assert told.exit_code == 0, told.output
    document = json.loads(told.stdout)
    assert document["screening"]["tries"] == 6
    assert document["set"]["folder"] == str(tmp_path / "run-sharegpt")
    assert document["set"]["form"] == "sharegpt"
    shown = CliRunner().invoke(app, words)
    assert "always right" in shown.output
    assert "Run: run" in shown.output
    for wrong in (["--to", "sharegpt"], ["--to", "nothing"], ["--faulty", "maybe"], ["--tries", "4"]):
        assert CliRunner().invoke(app, [*words, *wrong]).exit_code == 2


def test_screening_counts_nothing_twice():
    from visenv.export.selecting import Selection

    assert Screening.of(Selection()) == Screening(0, 0, 0, 0, 0, 0, {})
