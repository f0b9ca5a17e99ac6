"""Training: settings, the folder of a run, going on with one, playing and judging what was trained."""

import copy
import json
import math
import pickle
import shutil
from contextlib import closing
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from visenv.builtin import ENVIRONMENTS
from visenv.errors import DatasetError, InvalidData
from visenv.policies import make_policy, rollout, rollout_batch
from visenv.training import TrainConfig, TrainedPolicy, evaluate, train
from visenv.training.config import HYPERPARAMETERS
from visenv.training.evaluation import BASELINES, differences, gap_closed, headline_of, interval

ID = "VisHarness/RefSeg-v0"
ENV = {"experts": "oracle", "max_turns": 4}
SHORT = {"n_steps": 16, "batch_size": 32, "n_epochs": 1}
ROLLOUT = 32
"""Steps between two lines of the curve, with two environments."""
pytestmark = pytest.mark.usefixtures("one_thread")


def settings(steps=2 * ROLLOUT, **changes):
    values = {"n_envs": 2, "eval_episodes": 3, "env": ENV, "hyperparameters": SHORT}
    return TrainConfig(ID, **{"steps": steps, **values, **changes})


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


def make(**keywords):
    return gym.make(ID, **{"split": "val", "obs": "features", "action_mode": "discrete", **ENV, **keywords}).unwrapped


def make_vec(n_envs, **keywords):
    given = {"split": "val", "obs": "features", "action_mode": "discrete", **ENV, **keywords}
    return gym.make_vec(ID, num_envs=n_envs, **given)


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


# --- playing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["random", "scripted", "trained", "trained by chance"])
def test_a_batch_plays_the_episodes_that_a_single_environment_plays(finished, who):
    policy = TrainedPolicy(finished, greedy=who == "trained") if "trained" in who else make_policy(who)
    single = list(rollout(make(), policy, episodes=7, seed=3))
    with closing(make_vec(3)) as envs:
        players = [copy.copy(policy) for _ in envs.envs]
        batch = []
        for end, env in rollout_batch(envs.envs, players, envs.pool, episodes=7, seed=3):
            assert env.episode.done
            assert env.episode.sample_id == end.sample_id
            batch.append(end)
    batch.sort(key=lambda end: end.index)
    assert [end.index for end in batch] == list(range(7))
    for one, other in zip(batch, single, strict=True):
        for name in ("sample_id", "query", "reward", "metrics", "calls"):
            assert getattr(one, name) == getattr(other, name), name
        assert one.outcome.termination == other.outcome.termination
    assert len({end.sample_id for end in single}) == 7


def test_batches_are_checked():
    with closing(make_vec(2)) as envs:
        player = make_policy("random")
        for players, episodes, seed, message in (
            ([player], 3, 0, "2 environments, but got 1"),
            ([player] * 2, 0, 0, "at least 1 episode"),
            ([player] * 2, 3, -1, "seed"),
        ):
            with pytest.raises(InvalidData, match=message):
                next(rollout_batch(envs.envs, players, envs.pool, episodes=episodes, seed=seed))


def test_greedy_play_repeats_itself_and_play_by_chance_follows_its_seed(finished):
    def calls(policy, seed):
        return [end.calls for end in rollout(make(), policy, episodes=4, seed=seed)]

    by_chance = TrainedPolicy(finished, greedy=False)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert calls(by_chance, 3) == calls(by_chance, 3) != calls(by_chance, 4)
    assert torch.rand(1) == expected, "The global stream is left alone."
    assert calls(TrainedPolicy(finished), 3) == calls(TrainedPolicy(finished), 3)


def test_a_trained_policy_plays_with_pictures_too(finished):
    seen = [
        [end.calls for end in rollout(make(obs=obs), TrainedPolicy(finished), episodes=2, seed=0)]
        for obs in ("features", "full")
    ]
    assert seen[0] == seen[1]


@pytest.mark.parametrize("keywords", [{"action_mode": "structured"}, {"toolset": "full"}])
def test_other_actions_than_those_trained_on_are_refused(finished, keywords):
    with pytest.raises(InvalidData, match="action space"):
        next(rollout(make(**keywords), TrainedPolicy(finished), episodes=1, seed=0))


def test_a_trained_policy_needs_a_reset(finished):
    env = make()
    env.reset(seed=0)
    with pytest.raises(InvalidData, match=r"reset\(\)"):
        TrainedPolicy(finished).act(env.episode)


def test_a_folder_is_told_from_a_name(finished, tmp_path):
    assert TrainedPolicy.is_one(finished)
    assert not TrainedPolicy.is_one(tmp_path)
    assert not TrainedPolicy.is_one("scripted")


def test_a_masked_policy_takes_what_makes_sense_only(tmp_path):
    train(settings(ROLLOUT, algo="maskable_ppo"), tmp_path)
    policy, env = TrainedPolicy(tmp_path, greedy=False), make()
    tools = env.action_space.nvec[0]
    taken = 0
    for index in range(6):
        env.reset(options={"index": index})
        policy.reset(env, np.random.SeedSequence(index))
        while not env.episode.done:
            action, masks = policy.act(env.episode), env.action_masks()
            assert masks[:tools][action[0]]
            assert masks[tools:][action[1]]
            env.step(action)
            taken += 1
    assert taken >= 6


# --- judging ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judged(finished, tmp_path_factory):
    """An evaluated run, what was returned, and what was told on the way."""
    folder = Path(shutil.copytree(finished, tmp_path_factory.mktemp("judged") / "run"))
    told = []
    report = evaluate(folder, difficulties=(0, 1), shown=2, progress=lambda *words: told.append(words))
    return folder, report, told


def test_an_evaluation_compares_policies_on_the_same_samples(judged):
    folder, report, told = judged
    assert json.loads((folder / "evaluation.json").read_text()) == report
    assert (report["split"], report["headline"], report["higher_is_better"]) == ("val", "gIoU", True)
    assert list(report["policies"]) == [*BASELINES, "trained"]
    for name, result in report["policies"].items():
        policy = TrainedPolicy(folder) if name == "trained" else make_policy(name)
        ends = list(rollout(make(), policy, episodes=3, seed=0))
        assert result["episodes"] == 3
        assert result["metrics"]["gIoU"] == pytest.approx(np.mean([end.metrics["gIoU"] for end in ends]))
        assert result["reward_mean"] == pytest.approx(np.mean([end.reward for end in ends]))
        assert result["turns_mean"] == pytest.approx(np.mean([len(end.calls) for end in ends]))
        assert result["calls_by_turn"][0] == {
            call: sum(end.calls[0] == call for end in ends) for call in {end.calls[0] for end in ends}
        }
        assert sum(sum(turn.values()) for turn in result["calls_by_turn"]) == sum(len(end.calls) for end in ends)
        assert result["interval"][0] <= result["metrics"]["gIoU"] <= result["interval"][1]
        assert 0 <= result["errors"] <= 1
        assert result["tokens_read"] > 0
    assert [words for words in told if words[0] == "trained"] == [("trained", done, 3) for done in (1, 2, 3)]


def test_the_gap_is_that_between_random_and_scripted(judged):
    report = judged[1]
    low, high, own = (report["policies"][who]["metrics"]["gIoU"] for who in ("random", "scripted", "trained"))
    assert high == 1.0
    assert report["gap_closed"] == pytest.approx((own - low) / (high - low))


def test_differences_are_between_the_same_samples(judged):
    folder, report, _ = judged
    own, other = (
        [end.reward for end in rollout(make(), policy, episodes=3, seed=0)]
        for policy in (TrainedPolicy(folder), make_policy("scripted"))
    )
    assert list(report["differences"]) == list(BASELINES)
    found = report["differences"]["scripted"]["reward"]
    assert found["mean"] == pytest.approx(np.mean(np.subtract(own, other)))
    assert found["interval"][0] <= found["mean"] <= found["interval"][1]


def test_a_figure_that_does_not_apply_to_both_is_left_out_of_their_difference():
    nan = float("nan")
    found = differences({"gIoU": [0.5, nan, 0.25]}, {"gIoU": [0.25, 0.5, nan]})
    assert found == {"gIoU": {"mean": 0.25, "interval": None}}
    assert differences({"gIoU": [nan]}, {"gIoU": [nan]}) == {"gIoU": {"mean": None, "interval": None}}


def test_other_difficulties_are_judged_too(judged):
    report = judged[1]
    assert list(report["by_difficulty"]) == ["0", "1"]
    assert report["by_difficulty"]["1"] == report["policies"]["trained"]
    assert report["by_difficulty"]["0"]["episodes"] == 1


def test_episodes_before_and_after_are_recorded(judged):
    folder, report, _ = judged
    recorded = {}
    for name in ("before", "after"):
        lines = (folder / name / "trajectories.jsonl").read_text().splitlines()
        recorded[name] = [json.loads(line) for line in lines]
        assert (folder / name / "summary.json").is_file()
    before, after = recorded["before"], recorded["after"]
    assert len(after) == 2
    assert [episode["sample_id"] for episode in before] == [episode["sample_id"] for episode in after]
    firsts = sorted(end.sample_id for end in rollout(make(), make_policy("single"), episodes=2, seed=0))
    assert sorted(episode["sample_id"] for episode in after) == firsts


def test_a_folder_without_a_policy_cannot_be_judged(tmp_path):
    with pytest.raises(InvalidData, match="training run"):
        evaluate(tmp_path)


def test_intervals_are_those_of_a_mean():
    values = np.random.default_rng(5).normal(3.0, 2.0, 400)
    low, high = interval(values)
    margin = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - margin, values.mean() + margin), abs=0.1 * margin)
    assert interval([0.25] * 5) == [0.25, 0.25]
    assert interval([0.5, math.nan, 0.5]) == [0.5, 0.5]
    assert interval([1.0]) is interval([math.nan, math.nan]) is interval([]) is None


def test_the_gap_counts_in_the_direction_of_the_figure():
    def figures(**values):
        return {who: {"metrics": {"MAE": value}} for who, value in values.items()}

    assert gap_closed(figures(random=10.0, scripted=2.0, trained=4.0), "MAE") == pytest.approx(0.75)
    assert gap_closed(figures(random=0.0, scripted=1.0, trained=-0.5), "MAE") == pytest.approx(-0.5)
    assert gap_closed(figures(random=1.0, scripted=1.0, trained=4.0), "MAE") is None
    assert gap_closed(figures(random=1.0, trained=4.0), "MAE") is None
    assert gap_closed(figures(random=1.0, scripted=1.0, trained=4.0), "gIoU") is None


def test_every_environment_has_a_figure_to_compare_by():
    assert {env_id: headline_of(env_id) for env_id in ENVIRONMENTS} == {
        "VisHarness/ReasonSeg-v0": ("gIoU", True),
        "VisHarness/GRefSeg-v0": ("gIoU", True),
        "VisHarness/RefSeg-v0": ("gIoU", True),
        "VisHarness/DenseDet-v0": ("F1@0.50:0.95", True),
        "VisHarness/RefCount-v0": ("MAE", False),
        "VisHarness/Mixed-v0": ("reward", True),
        "VisHarness/InteractiveSeg-v0": ("gIoU", True),
        "VisHarness/MultiImage-v0": ("EM", True),
        "VisHarness/Blink-v0": ("subtask_acc", True),
        "VisHarness/MMVP-v0": ("pair_acc", True),
        "VisHarness/MATCoding-v0": ("likeness", True),
        "VisHarness/MATSearch-v0": ("EM", True),
    }
