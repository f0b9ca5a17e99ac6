"""Playing with what was trained, and judging it."""

import copy
import json
import math
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from short_runs import ROLLOUT, make, make_vec, settings

from visenv.builtin import ENVIRONMENTS
from visenv.errors import InvalidData
from visenv.policies import make_policy, rollout, rollout_batch
from visenv.training import TrainedPolicy, evaluate, train
from visenv.training.evaluation import BASELINES, differences, gap_closed, headline_of, interval

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of two rollouts; not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    train(settings(), folder)
    return folder


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
