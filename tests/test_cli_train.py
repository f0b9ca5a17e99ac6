"""``visenv train``, and ``visenv rollout`` with what it trained."""

import json
import shutil
import sys
from pathlib import Path

import gymnasium as gym
import pytest
from typer.testing import CliRunner

import visenv.cli.training as command
from visenv.cli import app
from visenv.training import TrainConfig

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
STEPS = 32
QUICK = ["--experts", "oracle", "--workers", "0", "--n-envs", "2", "--eval-episodes", "2"]
SHORT = ["--steps", STEPS, "--set", "n_steps=16", "--set", "batch_size=32", "--set", "n_epochs=1", *QUICK]
pytestmark = pytest.mark.usefixtures("one_thread")


def call(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def cli(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, and what the command said."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    done = call("train", "refseg-v0", *SHORT, "--out", folder, "--json")
    assert done.exit_code == 0, done.stderr
    return folder, done


@pytest.fixture
def run(trained, tmp_path):
    """A copy of that run."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def steps_of(folder):
    return [json.loads(line)["steps"] for line in (folder / "curve.jsonl").read_text().splitlines()]


def stop_at(monkeypatch, steps):
    """Let Ctrl-C come when so many steps have been taken."""
    train = command.run_training

    def interrupted(config, folder, *, progress, **keywords):
        def told(taken, line):
            progress(taken, line)
            if taken >= steps:
                raise KeyboardInterrupt

        return train(config, folder, progress=told, **keywords)

    monkeypatch.setattr(command, "run_training", interrupted)


def test_a_policy_to_imitate_is_named_on_the_command_line_and_on_the_page(cli):
    done = cli("train", "refseg-v0", *SHORT, "--imitate", "scripted", "--demonstrations", "4", "--out", "run")
    assert done.exit_code == 0, done.stderr
    config = TrainConfig.load("run")
    assert (config.imitate, config.demonstrations) == ("scripted", 4)
    assert "<i>imitate</i>scripted" in Path("run/index.html").read_text(encoding="utf-8")
    assert "watching scripted" in done.stderr
    refused = cli("train", "refseg-v0", *SHORT, "--imitate", "scriptd", "--out", "other")
    assert refused.exit_code == 2
    assert "Did you mean 'scripted'" in refused.stderr
    assert not Path("other").exists()


def test_a_run_prints_one_document_and_writes_a_folder(trained):
    folder, done = trained
    document = json.loads(done.stdout)
    assert document["folder"] == str(folder)
    assert document["split"] == "val"
    assert list(document["policies"]) == ["random", "single", "scripted", "trained"]
    assert {result["episodes"] for result in document["policies"].values()} == {2}
    assert list(document["by_difficulty"]) == ["0", "1", "2", "3"]
    assert "trained" in done.stderr
    page = Path(document["page"])
    assert page == folder / "index.html"
    assert "scripted" in page.read_text(encoding="utf-8")
    assert steps_of(folder) == [STEPS]
    config = TrainConfig.load(folder)
    assert config.env == {"experts": "oracle", "expert_workers": 0}
    assert (config.algo, config.steps, config.seed, config.n_envs) == ("ppo", STEPS, 0, 2)
    assert config.ppo["n_steps"] == 16
    assert isinstance(config.ppo["n_steps"], int)
    assert config.ppo["gamma"] == 0.99


def test_a_complete_run_is_only_judged_again_and_shown_to_people(cli, run):
    weights = (run / "policy.pt").read_bytes()
    done = cli("train", "RefSeg-v0", *SHORT, "--out", run)
    assert done.exit_code == 0, done.stderr
    assert (run / "policy.pt").read_bytes() == weights
    assert steps_of(run) == [STEPS]
    for shown in ("On val", "gIoU", "random", "single", "scripted", "trained", "of the gap", str(run / "index.html")):
        assert shown in done.stdout


def test_the_same_command_goes_on_where_ctrl_c_stopped_it(cli, monkeypatch, tmp_path):
    longer = ("train", "RefSeg-v0", *SHORT, "--steps", 3 * STEPS, "--out", tmp_path / "run", "--json")
    with monkeypatch.context() as patch:
        stop_at(patch, STEPS + 8)
        done = cli(*longer)
    assert done.exit_code == 130
    assert done.stdout == ""
    assert f"--out {tmp_path / 'run'} goes on" in done.stderr
    assert steps_of(tmp_path / "run") == [STEPS]
    assert not (tmp_path / "run" / "evaluation.json").exists()
    assert call(*longer).exit_code == 0
    assert steps_of(tmp_path / "run") == [STEPS, 2 * STEPS, 3 * STEPS]
    assert (tmp_path / "run" / "evaluation.json").is_file()


def test_ctrl_c_in_the_evaluation_loses_no_training(cli, monkeypatch, run):
    (run / "evaluation.json").unlink()

    def interrupted(folder, progress):
        progress("random", 1, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "evaluate", interrupted)
    assert cli("train", "RefSeg-v0", *SHORT, "--out", run).exit_code == 130
    assert steps_of(run) == [STEPS]
    assert not (run / "evaluation.json").exists()


def test_other_settings_are_refused_or_replace_the_run(cli, monkeypatch, run):
    refused = cli("train", "RefSeg-v0", *SHORT, "--seed", 4, "--out", run)
    assert refused.exit_code == 2
    assert "seed" in refused.stderr
    assert TrainConfig.load(run).seed == 0
    stop_at(monkeypatch, 2)
    assert cli("train", "RefSeg-v0", *SHORT, "--seed", 4, "--out", run, "--overwrite").exit_code == 130
    assert TrainConfig.load(run).seed == 4
    assert steps_of(run) == []


def test_runs_get_folders_of_their_own(cli, monkeypatch, tmp_path):
    stop_at(monkeypatch, 0)
    for _ in range(2):
        assert cli("train", "RefSeg-v0", *SHORT, "--seed", 7).exit_code == 130
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["RefSeg-v0-ppo-7", "RefSeg-v0-ppo-7-2"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("RefSec-v0",), "Did you mean 'VisHarness/RefSeg-v0'"),
        (("CartPole-v1",), "'CartPole-v1' is none"),
        (("no_such_module:Mine/Coins-v0",), "MODULE:ID"),
        (("RefSeg-v0", "--algo", "dqn"), "ppo, maskable_ppo"),
        (("RefSeg-v0", "--set", "n_steps"), "NAME=NUMBER"),
        (("RefSeg-v0", "--set", "momentum=0.9"), "momentum"),
        (("RefSeg-v0", "--set", "n_steps=1.5"), "whole number"),
        (("RefSeg-v0", "--set", "n_steps=inf"), "whole number"),
        (("RefSeg-v0", "--set", "learning_rate=-1"), "learning_rate"),
        (("RefSeg-v0", "--experts", "oracel"), "Did you mean 'oracle'"),
        (("RefSeg-v0", "--difficulty", "9"), "difficulty"),
        (("RefSeg-v0", "--reward", "nothing"), "Unknown reward"),
        (("RefSeg-v0", "--reward", "grounding", "--step-cost", "0.1"), "--step-cost"),
        (("RefSeg-v0", "--tasks", "reasonseg"), "no --tasks"),
        (("Mixed-v0", "--tasks", "reasonseg,refcuont"), "refcount"),
        (("Mixed-v0", "--tasks", "reasonseg=3,refcount=many"), "NAME=WEIGHT"),
        (("RefSeg-v0", "--toolset", "ful"), "Did you mean 'full'"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(cli, tmp_path, words, hint):
    done = cli("train", *words)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("Error: ")
    assert hint in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("--steps", "0"), ("--n-envs", "0"), ("--seed", "-1"), ("--no-such-option",)])
def test_options_out_of_range_are_exit_code_2(cli, words):
    assert cli("train", "RefSeg-v0", *words).exit_code == 2


def settings_of(cli, monkeypatch, *words):
    """The settings that a command trains with."""
    seen = []

    def take(config, folder, *, overwrite, progress, **keywords):
        seen.append(config)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "run_training", take)
        done = cli("train", *words)
    assert done.exit_code == 130, done.stderr
    return seen[0]


def test_options_become_keywords_of_the_environment(cli, monkeypatch):
    options = ["--difficulty", 2, "--max-turns", 4, "--memory", "last_k:2", "--step-cost", 0.02, "--token-budget", 900]
    config = settings_of(cli, monkeypatch, "RefSeg-v0", *options, "--toolset", "full", "--dataset", "scenes")
    assert config.env == {
        "dataset": "scenes",
        "difficulty": 2,
        "reward": "visharness:step_cost=0.02",
        "max_turns": 4,
        "token_budget": 900,
        "memory": "last_k:2",
        "toolset": "full",
        "expert_workers": 2,
    }
    config = settings_of(cli, monkeypatch, "Mixed-v0", "--tasks", "reasonseg=3,refcount=1", "--algo", "maskable_ppo")
    assert config.env == {"tasks": {"reasonseg": 3.0, "refcount": 1.0}, "expert_workers": 2}
    assert (config.env_id, config.algo) == ("VisHarness/Mixed-v0", "maskable_ppo")


def test_a_mix_of_tasks_trains(cli, tmp_path):
    done = cli("train", "Mixed-v0", "--tasks", "refseg,refcount", *SHORT, "--out", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["headline"] == "reward"
    assert list(document["by_difficulty"]) == ["0", "1", "2", "3"]
    trained = document["policies"]["trained"]
    assert trained["metrics"]["reward"] == trained["reward_mean"]


@pytest.fixture
def coins(monkeypatch):
    """An environment of the examples, by a name that imports its module."""
    monkeypatch.syspath_prepend(EXAMPLES)
    yield "own_env:Mine/Coins-v0"
    sys.modules.pop("own_env", None)
    gym.registry.pop("Mine/Coins-v0", None)


def test_an_environment_of_ones_own_trains_with_its_own_keywords(cli, monkeypatch, tmp_path, coins):
    config = settings_of(cli, monkeypatch, coins)
    # Nothing overrides the data set and the turns that the id is registered with.
    assert config.env == {"expert_workers": 2}
    classical = ["--steps", STEPS, "--set", "n_steps=16", "--workers", 0, "--n-envs", 2, "--eval-episodes", 1]
    done = cli("train", coins, *classical, "--out", tmp_path / "run", "--json")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["headline"] == "MAE"
    assert (document["split"], document["by_difficulty"]) == ("train", {}), "Its data set has no other."
    assert document["policies"]["random"]["turns_mean"] <= 4


def test_a_trained_policy_is_rolled_out_by_its_folder(cli, run, tmp_path):
    options = ("--experts", "oracle", "--episodes", "2", "--json")
    done = cli("rollout", "RefSeg-v0", "--policy", run, *options, "--out", tmp_path / "one")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["settings"]["policy"] == str(run)
    assert document["settings"]["action_mode"] == "discrete"
    assert document["episodes"] == 2
    assert cli("rollout", "RefSeg-v0", "--policy", run, *options).exit_code == 0
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["RefSeg-v0-scenes-trained-0"]


@pytest.mark.parametrize(
    ("words", "hint"),
    [(("--toolset", "full"), "action space"), (("--action-mode", "text"), "action_mode='discrete'")],
)
def test_a_trained_policy_is_not_rolled_out_elsewhere(cli, run, words, hint):
    done = cli("rollout", "RefSeg-v0", "--policy", run, "--experts", "oracle", *words)
    assert done.exit_code == 2
    assert hint in done.stderr


def test_a_folder_that_is_no_run_is_no_policy(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    done = cli("rollout", "RefSeg-v0", "--policy", tmp_path / "empty")
    assert done.exit_code == 2
    assert "Unknown polic" in done.stderr
