"""Minari reads back what was recorded."""

import json
import os
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from minari import MinariDataset
from stubs import BrightExpert
from typer.testing import CliRunner

from visenv.adapters.flat import FlatEnv
from visenv.adapters.minari import PATH, Collector, datasets_folder, load, make_collector, steps_of, texts_of
from visenv.cli import app
from visenv.datasets.listed import SampleList
from visenv.envs.refseg import RefSegEnv
from visenv.errors import InvalidData
from visenv.export.offline import LEFT_OUT, to_minari
from visenv.export.runs import RecordedRun
from visenv.policies import make_policy
from visenv.records import action_record
from visenv.types import Answer
from visenv.wrappers import RecordTrajectories

ID = "VisHarness/RefSeg-v0"
pytestmark = pytest.mark.filterwarnings("ignore:.*is set to None:UserWarning")


@pytest.fixture(autouse=True)
def _not_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(PATH, raising=False)
    yield
    assert not (tmp_path / "home").exists()


def collector(folder, **keywords):
    return make_collector(ID, folder=folder, **{"experts": "oracle", "split": "val", "obs": "features", **keywords})


def play(env, index, policy="scripted"):
    """One episode of a policy in flat actions: what it was paid, and what was seen."""
    actor = make_policy(policy)
    observation, _ = env.reset(seed=index, options={"index": index})
    actor.reset(env.unwrapped, np.random.SeedSequence(index))
    seen, rewards, ended = [observation], [], False
    while not ended:
        action = env.flat_action(action_record(actor.act(env.unwrapped.episode)))
        observation, reward, terminated, truncated, _ = env.step(action)
        seen.append(observation)
        rewards.append(reward)
        ended = terminated or truncated
    return rewards, seen


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_what_was_collected_is_read_back(tmp_path, data_format):
    env = collector(tmp_path, obs="full", data_format=data_format)
    played = [play(env, index) for index in range(3)]
    made = env.create_dataset("refseg/scripted-v0", author="a", algorithm_name="scripted")
    env.close()
    dataset = load("refseg/scripted-v0", tmp_path)
    assert made.total_episodes == dataset.total_episodes == 3
    for (rewards, seen), episode in zip(played, dataset.iterate_episodes(), strict=True):
        assert episode.rewards.tolist() == pytest.approx(rewards)
        assert episode.terminations.tolist() == [False] * (len(rewards) - 1) + [True]
        assert not episode.truncations.any()
        # Pictures too, to the last bit.
        for found, expected in zip(steps_of(episode.observations), seen, strict=True):
            assert data_equivalence(found, expected)
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["refseg"]


def test_the_environment_is_recovered_and_plays_the_same(tmp_path):
    env = collector(tmp_path, reward="visharness:step_cost=0.1", padding={"pictures": 1, "side": 32, "text": 64})
    for index in range(2):
        play(env, index)
    env.create_dataset("refseg/scripted-v0")
    env.close()
    dataset = load("refseg/scripted-v0", tmp_path)
    again = dataset.recover_environment()
    assert isinstance(again, FlatEnv)
    assert (again.observation_space, again.action_space) == (dataset.observation_space, dataset.action_space)
    metadata = list(dataset.storage.get_episode_metadata([0, 1]))
    for episode, facts in zip(dataset, metadata, strict=True):
        _, info = again.reset(seed=int(facts["seed"]), options={"sample_id": facts["sample_id"]})
        steps = [again.step(action) for action in steps_of(episode.actions)]
        assert [step[1] for step in steps] == pytest.approx(episode.rewards.tolist())
        assert info["query"] == texts_of(episode.infos["query"])[0]
        assert facts["termination"] == "answer"
        assert facts["rewards_sum"] == pytest.approx(episode.rewards.sum())


def test_infos_say_what_was_called_and_what_was_wrong(tmp_path):
    env = collector(tmp_path)
    env.reset(seed=0, options={"index": 0})
    env.step(env.flat_action({"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}))
    env.step(env.flat_action({"name": "Answer", "arguments": {"text": "?"}}))
    infos = env.create_dataset("x-v0")[0].infos
    env.close()
    assert texts_of(infos["tool"]) == ["", "MergeBoxMask", "Answer"]
    assert [bool(code) for code in texts_of(infos["error"])] == [False, True, False]
    assert texts_of(infos["termination"]) == ["", "", "answer"]


@pytest.mark.parametrize("mode", ["discrete", "text"])
def test_other_action_modes_are_collected(tmp_path, mode):
    env = collector(tmp_path, action_mode=mode)
    env.action_space.seed(0)
    env.reset(seed=0)
    taken = []
    for _ in range(4):
        taken.append(env.action_space.sample())
        if any(env.step(taken[-1])[2:4]):
            break
    episode = env.create_dataset("x-v0")[0]
    env.close()
    np.testing.assert_array_equal(episode.actions, np.stack(taken))


def test_an_environment_that_no_text_can_name_is_refused(tmp_path):
    with pytest.raises(InvalidData, match="keywords are texts and numbers"):
        collector(tmp_path, experts={"*": "oracle", "GroundPhrase": BrightExpert()})
    with pytest.raises(InvalidData, match="not made by gym.make"):
        Collector(FlatEnv(RefSegEnv(experts="oracle")), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_texts_that_a_format_cannot_store_are_mended(tmp_path):
    env = collector(tmp_path)
    sample = env.unwrapped.dataset.get(0)
    env.unwrapped.dataset = SampleList("mended", [replace(sample, query="a\0b\ud800")])
    env.reset(seed=0)
    env.step(env.flat_action({"name": "Answer", "arguments": {"text": ""}}))
    assert texts_of(env.create_dataset("x-v0")[0].infos["query"])[0] == "a\ufffdb?"
    env.close()


def test_minaris_folder_is_pointed_to_only_for_a_while(tmp_path, monkeypatch):
    with datasets_folder(tmp_path / "a"):
        assert os.environ[PATH] == str(tmp_path / "a")
    assert PATH not in os.environ
    monkeypatch.setenv(PATH, "b")
    with datasets_folder(tmp_path / "a"), datasets_folder(None):
        assert os.environ[PATH] == str(tmp_path / "a")
    assert os.environ[PATH] == "b"


# --- runs -----------------------------------------------------------------------------------------------------------


def command(folder, *arguments):
    line = ["rollout", ID, "--experts", "oracle", "-n", "3", "--seed", "1", "--no-pictures", "--out", str(folder)]
    done = CliRunner().invoke(app, [*line, *arguments])
    assert done.exit_code == 0, done.output


def lines_of(folder):
    return [json.loads(line) for line in (Path(folder) / "trajectories.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("mode", ["structured", "discrete"])
def test_a_run_of_calls_becomes_a_data_set(tmp_path, mode):
    policy = {"structured": "scripted", "discrete": "random"}[mode]
    command(tmp_path / "run", "--action-mode", mode, "--policy", policy)
    made = to_minari(tmp_path / "run", "refseg/run-v0", folder=tmp_path / "sets", obs="features", author="me")
    with datasets_folder(tmp_path / "sets"):
        assert list(minari.list_local_datasets()) == ["refseg/run-v0"]
    dataset = load("refseg/run-v0", tmp_path / "sets")
    records = lines_of(tmp_path / "run")
    assert dataset.storage.metadata[LEFT_OUT] == {}
    assert dataset.storage.metadata["algorithm_name"] == policy
    again = made.recover_environment()
    for record, episode in zip(records, dataset.iterate_episodes(), strict=True):
        assert episode.rewards.sum() == pytest.approx(record["reward"])
        assert texts_of(episode.infos["tool"])[1:] == [turn["name"] for turn in record["turns"]]
        again.reset(options={"sample_id": record["sample_id"]})
        for action, turn in zip(steps_of(episode.actions), record["turns"], strict=True):
            info = again.step(action)[4]
            assert info["tool"] == turn["name"]
            assert (info["error"] is None) == (turn["error"] is None)


def test_a_run_of_texts_becomes_a_data_set_of_texts_or_of_calls(tmp_path):
    env = FlatEnv(env=_text_env(tmp_path / "run"))
    for index, texts in enumerate((("nonsense <tool_call>", None), (None,))):
        env.reset(seed=0, options={"index": index})
        for text in texts:
            env.step(text or _render(env, "done"))
    env.close()
    run = RecordedRun(tmp_path / "run", env={"experts": "oracle", "split": "val"})
    dataset = to_minari(run, "texts-v0", folder=tmp_path, obs="features")
    again = dataset.recover_environment()
    again.reset(options={"index": 0})
    infos = [again.step(action)[4] for action in steps_of(dataset[0].actions)]
    assert [info["error"] is None for info in infos] == [False, True]
    # No call says what was malformed.
    with pytest.raises(InvalidData, match="no such action"):
        to_minari(run, "calls-v0", folder=tmp_path, action_mode="structured")
    calls = to_minari(run, "calls-v0", folder=tmp_path, action_mode="structured", skip=True)
    assert calls.total_episodes == 1
    assert list(calls.storage.metadata[LEFT_OUT]) == ["0"]


def _text_env(folder):
    env = gym.make(ID, experts="oracle", split="val", action_mode="text", obs="features")
    return RecordTrajectories(env, folder, pictures=False, page=None)


def _render(env, text):
    return env.unwrapped.episode.dialect.render(Answer(text))


def changed(folder, change):
    path = Path(folder) / "trajectories.jsonl"
    records = lines_of(folder)
    change(records[1])
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record["turns"][-1]["reward_terms"].update(iou=0.123), "at turn .*the rewards"),
        (lambda record: record.update(reward=7.0), "the reward"),
        (lambda record: record.update(query="Where?"), "the query"),
        (lambda record: record["turns"][0].update(name="Fly"), "no such action"),
        (lambda record: record["turns"][0].update(arguments={"images": {"a": 1}}), "no such action"),
        (lambda record: record["turns"].pop(), "its end"),
        (lambda record: record["turns"].append(record["turns"][-1]), "after the end"),
        (lambda record: record.update(invalid="ExpertError"), "an expert failed"),
        (lambda record: record.update(termination="max_turns"), "the termination"),
    ],
)
def test_what_is_not_as_it_was_recorded_is_refused_or_left_out(tmp_path, change, message):
    command(tmp_path / "run")
    changed(tmp_path / "run", change)
    with pytest.raises(InvalidData, match=message):
        to_minari(tmp_path / "run", "x-v0", folder=tmp_path / "sets", obs="features")
    assert list((tmp_path / "sets").iterdir()) == []
    dataset = to_minari(tmp_path / "run", "x-v0", folder=tmp_path / "sets", obs="features", skip=True)
    assert dataset.total_episodes == 2
    assert list(dataset.storage.metadata[LEFT_OUT]) == ["1"]


def test_another_expert_is_found_out(tmp_path):
    command(tmp_path / "run")
    run = RecordedRun(tmp_path / "run", env={"experts": "noisy"})
    with pytest.raises(InvalidData, match=r"is not what was recorded.*RecordedRun\(folder, env="):
        to_minari(run, "x-v0", folder=tmp_path / "sets", obs="features")


def test_a_run_does_not_say_which_modules_are_imported(tmp_path):
    command(tmp_path / "run")
    preset = {"experts": [{"expert": "subprocess:Popen", "args": ["touch", str(tmp_path / "sprung")]}]}
    (tmp_path / "run" / "own.yaml").write_text(json.dumps(preset))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    summary["settings"]["experts"] = str(tmp_path / "run" / "own.yaml")
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(InvalidData, match="only if you name them"):
        to_minari(tmp_path / "run", "x-v0", folder=tmp_path / "sets", obs="features")
    assert not (tmp_path / "sprung").exists()


def test_where_nothing_is_left_no_data_set_is_made(tmp_path):
    command(tmp_path / "run", "-n", "2")
    changed(tmp_path / "run", lambda record: record.update(invalid="ExpertError"))
    path = tmp_path / "run" / "trajectories.jsonl"
    path.write_text(path.read_text().splitlines(keepends=True)[1])
    run = RecordedRun(tmp_path / "run")
    with pytest.raises(InvalidData, match="No episode"):
        to_minari(run, "x-v0", folder=tmp_path / "sets", skip=True)
    assert list((tmp_path / "sets").iterdir()) == []
    with pytest.raises(InvalidData, match="action_mode"):
        to_minari(run, "x-v0", folder=tmp_path / "sets", action_mode="text")


def test_minari_keeps_what_is_there(tmp_path):
    command(tmp_path / "run")
    first = to_minari(tmp_path / "run", "x-v0", folder=tmp_path / "sets", obs="features")
    with pytest.raises(ValueError, match="already exists"):
        to_minari(tmp_path / "run", "x-v0", folder=tmp_path / "sets", obs="features")
    assert isinstance(first, MinariDataset)
    assert load("x-v0", tmp_path / "sets").total_episodes == 3


def test_equal_runs_make_equal_data(tmp_path):
    for name in ("a", "b"):
        command(tmp_path / name)
        to_minari(tmp_path / name, "x-v0", folder=tmp_path / f"sets-{name}", data_format="arrow", obs="features")
    files = [sorted((tmp_path / f"sets-{name}").rglob("*.arrow")) for name in ("a", "b")]
    assert files[0]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def test_the_seed_that_minari_draws_begins_the_same_episode(tmp_path):
    env = collector(tmp_path)
    env.reset()
    sample = env.unwrapped.episode.sample_id
    env.step(env.flat_action({"name": "Answer", "arguments": {"text": ""}}))
    dataset = env.create_dataset("x-v0")
    env.close()
    (facts,) = dataset.storage.get_episode_metadata([0])
    _, info = dataset.recover_environment().reset(seed=int(facts["seed"]))
    assert info["sample_id"] == sample == facts["sample_id"]
