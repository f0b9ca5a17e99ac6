"""Training: settings, the folder of a run, going on with one, and its weights."""

import json
import math
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from short_runs import ENV, ID, ROLLOUT, SHORT, settings

from visenv.errors import DatasetError, InvalidData
from visenv.training import TrainConfig, TrainedPolicy, train
from visenv.training.config import HYPERPARAMETERS

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two rollouts; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    train(settings(), folder)
    return folder


@pytest.fixture
def run(finished, tmp_path):
    """A copy of that run."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def weights(folder):
    return torch.load(folder / "policy.pt", weights_only=True)


def same(one, other):
    return all(torch.equal(value, other["policy"][name]) for name, value in one["policy"].items())


def curve(folder):
    return [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algo": "dqn"}, "ppo, maskable_ppo"),
        ({"steps": 0}, "steps to be a whole number of at least 1, but got 0"),
        ({"steps": 1.5}, "steps"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"seed": True}, "seed"),
        ({"n_envs": 0}, "n_envs"),
        ({"eval_episodes": 0}, "eval_episodes"),
        ({"env": [1]}, "env to be a mapping"),
        ({"env": {"experts": object()}}, "JSON"),
        ({"hyperparameters": 3}, "hyperparameters to be a mapping"),
        ({"hyperparameters": {"momentum": 0.9}}, "momentum"),
        ({"hyperparameters": {"n_steps": 2.5}}, "n_steps to be a whole number"),
        ({"hyperparameters": {"batch_size": 1}}, "batch_size"),
        ({"hyperparameters": {"gamma": 1.5}}, "gamma to be a finite number from 0 to 1"),
        ({"hyperparameters": {"learning_rate": -1e-3}}, "learning_rate"),
        ({"hyperparameters": {"ent_coef": math.nan}}, "ent_coef"),
        ({"n_envs": 1, "hyperparameters": {"n_steps": 1}}, "at least 2 steps"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(InvalidData, match=message):
        settings(**changes)


def test_settings_survive_json(tmp_path):
    config = settings(seed=3, algo="maskable_ppo", env={"tasks": ("reasonseg", "refcount")})
    config.save(tmp_path)
    read = TrainConfig.load(tmp_path)
    assert read.to_json() == config.to_json() == json.loads((tmp_path / "config.json").read_text())
    assert read.same_run == config.same_run
    assert read.ppo == {**HYPERPARAMETERS, **SHORT}
    assert read.env_keywords["obs"] == "features"


def test_the_evaluation_is_500_episodes_or_fewer_in_short_runs():
    evaluated = [TrainConfig(ID, steps=steps).evaluated for steps in (1, 320, 15_999, 16_000, 10**6)]
    assert evaluated == [1, 10, 499, 500, 500]
    assert TrainConfig(ID, steps=320, eval_episodes=7).evaluated == 7


@pytest.mark.parametrize("text", ["", "{", "[]", '{"env_id": "a"}', '{"env_id": "a", "algo": "ppo", "colour": 1}'])
def test_a_folder_without_settings_is_no_run(tmp_path, text):
    with pytest.raises(InvalidData, match="training run"):
        TrainConfig.load(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InvalidData, match="training run"):
        TrainConfig.load(tmp_path)


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_run_writes_its_settings_its_curve_and_its_weights(finished):
    files = {str(path.relative_to(finished)) for path in finished.rglob("*") if path.is_file()}
    assert files == {"config.json", "curve.jsonl", "policy.pt", "untrained/config.json", "untrained/policy.pt"}
    assert TrainConfig.load(finished).to_json() == settings().to_json()
    lines = curve(finished)
    assert [line["steps"] for line in lines] == [ROLLOUT, 2 * ROLLOUT]
    for line in lines:
        assert line["seconds"] > 0
        assert line["steps_per_second"] > 0
        assert line["episodes"] > 0
        assert -3 <= line["reward"] <= 5
        assert 1 <= line["turns"] <= ENV["max_turns"]
        assert 0 <= line["metrics"]["gIoU"] <= 1
        assert sum(line["calls"].values()) == pytest.approx(1)
        assert 0 <= line["errors"] <= 1
    assert weights(finished)["steps"] == 2 * ROLLOUT
    assert weights(finished / "untrained")["steps"] == 0
    assert not same(weights(finished), weights(finished / "untrained"))


def test_a_run_can_begin_with_the_policy_of_another(finished, tmp_path):
    config = settings(steps=ROLLOUT, start=str(finished), env={**ENV, "reward": "visharness:step_cost=0.1"})
    assert train(config, tmp_path / "next") == ROLLOUT
    assert same(weights(finished), weights(tmp_path / "next" / "untrained"))
    assert not same(weights(finished), weights(tmp_path / "next"))
    assert [line["steps"] for line in curve(tmp_path / "next")] == [ROLLOUT]
    assert TrainConfig.load(tmp_path / "next").start == str(finished)


def test_a_run_that_is_to_begin_with_nothing_leaves_what_is_there(run, tmp_path):
    before = weights(run)
    with pytest.raises(InvalidData, match="to start from"):
        train(settings(start=str(tmp_path / "nowhere")), run, overwrite=True)
    assert same(before, weights(run))


def test_equal_seeds_give_equal_weights_and_others_give_others(finished, tmp_path):
    told = []
    taken = train(settings(), tmp_path / "again", progress=lambda steps, line: told.append((steps, line)))
    assert taken == 2 * ROLLOUT
    assert same(weights(finished), weights(tmp_path / "again"))
    timeless = [
        [{name: value for name, value in line.items() if "second" not in name} for line in curve(folder)]
        for folder in (finished, tmp_path / "again")
    ]
    assert timeless[0] == timeless[1]
    assert told[0] == (0, None)
    assert [line for _, line in told if line] == curve(tmp_path / "again")
    assert [steps for steps, line in told[1:] if line is None] == list(range(2, 2 * ROLLOUT + 1, 2))
    train(settings(ROLLOUT, seed=1), tmp_path / "other")
    assert not same(weights(finished / "untrained"), weights(tmp_path / "other" / "untrained"))


def test_a_run_that_was_killed_goes_on_from_its_newest_weights(tmp_path):
    # With a rate of 0 the weights stay as they are, so that one that was set by hand tells whether they were read.
    still = {**SHORT, "learning_rate": 0}

    def kill(steps, line):
        if steps == ROLLOUT + 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings(10 * ROLLOUT, hyperparameters=still), tmp_path, progress=kill)
    assert [line["steps"] for line in curve(tmp_path)] == [ROLLOUT]
    state = weights(tmp_path)
    assert state["steps"] == ROLLOUT
    state["policy"]["value_net.bias"] += 7
    torch.save(state, tmp_path / "policy.pt")
    with (tmp_path / "curve.jsonl").open("a") as file:
        file.write(json.dumps({**curve(tmp_path)[0], "steps": 2 * ROLLOUT}) + "\n" + '{"steps": 96, "rew')
    told = []
    taken = train(
        settings(3 * ROLLOUT, hyperparameters=still), tmp_path, progress=lambda steps, line: told.append(steps)
    )
    assert taken == 3 * ROLLOUT
    assert told[:2] == [ROLLOUT, ROLLOUT + 2]
    assert [line["steps"] for line in curve(tmp_path)] == [ROLLOUT, 2 * ROLLOUT, 3 * ROLLOUT]
    seconds = [line["seconds"] for line in curve(tmp_path)]
    assert seconds == sorted(seconds)
    assert weights(tmp_path)["steps"] == 3 * ROLLOUT
    assert same(weights(tmp_path), state)


def test_each_part_of_a_run_draws_other_actions(run):
    train(settings(3 * ROLLOUT), run)
    calls = [line["calls"] for line in curve(run)]
    assert calls[0] != calls[2]


def test_a_run_that_is_complete_is_left_alone(run):
    (run / "evaluation.json").write_text("{}")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert train(settings(), run) == 2 * ROLLOUT
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_the_evaluation_of_fewer_steps_does_not_outlive_them(run):
    (run / "evaluation.json").write_text("{}")
    train(settings(3 * ROLLOUT), run)
    assert not (run / "evaluation.json").exists()


def test_other_settings_do_not_go_on_with_a_run(run):
    before = weights(run)
    other = settings(seed=5, env={**ENV, "difficulty": 0})
    with pytest.raises(InvalidData, match=r"other settings \(seed, env\).*overwrite"):
        train(other, run)
    assert same(weights(run), before)
    (run / "config.json").unlink()
    with pytest.raises(InvalidData, match=r"without its config\.json"):
        train(other, run)
    assert same(weights(run), before)


def test_a_run_is_replaced_if_asked_for_but_not_by_settings_of_nothing(run):
    with pytest.raises(DatasetError, match="difficulty"):
        train(settings(env={**ENV, "difficulty": 9}), run, overwrite=True)
    assert weights(run)["steps"] == 2 * ROLLOUT
    other = settings(ROLLOUT, seed=5)
    assert train(other, run, overwrite=True) == ROLLOUT
    assert TrainConfig.load(run).seed == TrainConfig.load(run / "untrained").seed == 5
    assert [line["steps"] for line in curve(run)] == [ROLLOUT]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidData, match="Cannot write"):
        train(settings(), tmp_path / "file")


# --- weights ----------------------------------------------------------------------------------------------------------


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_weights_execute_nothing(run, tmp_path):
    touched = tmp_path / "touched"
    older = pickle.dumps(Touch(touched), protocol=2)
    for write in (
        lambda path: path.write_bytes(older),
        lambda path: torch.save(Touch(touched), path),
    ):
        write(run / "policy.pt")
        with pytest.raises(InvalidData, match="cannot be used"):
            TrainedPolicy(run)
        assert not touched.exists()


@pytest.mark.parametrize("damage", ["cut", "text", "foreign", "shapes"])
def test_weights_that_are_none_are_a_clear_error(run, damage):
    path = run / "policy.pt"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    elif damage == "text":
        path.write_text("weights")
    elif damage == "foreign":
        torch.save({"policy": {}, "optimizer": {}, "steps": 3}, path)
    else:
        settings(env={**ENV, "toolset": "full"}).save(run)
    with pytest.raises(InvalidData, match=r"policy\.pt.*cannot be used") as caught:
        TrainedPolicy(run)
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidData, match="cannot be used"):
        train(TrainConfig.load(run), run)


def test_a_run_without_weights_has_no_policy(run):
    (run / "policy.pt").unlink()
    with pytest.raises(InvalidData, match=r"holds no policy\.pt"):
        TrainedPolicy(run)
