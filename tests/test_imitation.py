"""Calls as discrete actions, and learning from policies by rule."""

from contextlib import closing

import gymnasium as gym
import numpy as np
import pytest
import torch

from visenv.builtin import ENVIRONMENTS
from visenv.capabilities import ExpertFailure
from visenv.envs.questions import question_phrases
from visenv.errors import InvalidData, UnknownName
from visenv.experts.oracle import Oracle
from visenv.spaces import PHRASES
from visenv.training import TrainConfig, TrainedPolicy, train
from visenv.training.evaluation import play
from visenv.training.imitation import demonstrate
from visenv.types import Answer, ToolCall

pytestmark = pytest.mark.usefixtures("one_thread")
ID = "VisHarness/RefSeg-v0"
ENV = {"experts": "oracle", "difficulty": 0, "max_turns": 4}


def make(env_id, **keywords):
    return gym.make(env_id, split="val", action_mode="discrete", obs="features", **keywords).unwrapped


def settings(**changes):
    values = {"steps": 32, "n_envs": 2, "eval_episodes": 3, "imitate": "scripted", "demonstrations": 16, "env": ENV}
    return TrainConfig(ID, **{**values, "hyperparameters": {"n_steps": 16, "batch_size": 32}, **changes})


# --- calls as discrete actions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", list(ENVIRONMENTS))
def test_what_a_discrete_action_means_is_encoded_as_one_that_means_the_same(env_id):
    env = make(env_id)
    env.reset(seed=0, options={"index": 1})
    env.action_space.seed(0)
    rng = np.random.default_rng(0)
    for _ in range(60):
        action = env.interpret(env.action_space.sample())
        element, used = env.encode(action)
        assert env.action_space.contains(element)
        assert env.interpret(element) == action
        # What is said not to matter does not.
        other = np.where(used, element, rng.integers(env.action_space.nvec))
        assert env.interpret(other) == action
    env.close()


def test_what_no_discrete_action_means_has_no_encoding():
    env = make("VisHarness/MultiImage-v0", difficulty=0)
    env.reset(options={"index": 2})
    names = ["img_0", "img_1"]
    assert env.encode(ToolCall("PhraseToBoxMask", {"images": names, "phrase": "a phrase of one's own"})) is None
    assert env.encode(ToolCall("PhraseToBoxMask", {"images": ["img_1"], "phrase": env.phrases[1]})) is None
    assert env.encode(ToolCall("Fly", {})) is None
    assert env.encode(ToolCall("Reflect", {"image": "img_1"})) is None, "A discrete action always names a region."
    assert env.encode(ToolCall("Reflect", {"image": "img_1", "box": [0.0, 0.0, 32.0, 32.0]})) is not None
    assert env.encode(Answer("a hundred")) is None
    element, used = env.encode(ToolCall("PhraseToBoxMask", {"images": names, "phrase": env.phrases[1]}))
    assert (element.tolist(), used.tolist()) == ([0, 0, 1, 0, 0, 0], [True, True, True, False, False, False])
    element, used = env.encode(Answer("5"))
    assert (element.tolist(), used.tolist()) == ([6, 0, 5, 0, 0, 0], [True, False, True, False, False, False])
    with pytest.raises(InvalidData, match="action_mode='discrete'"):
        gym.make("VisHarness/MultiImage-v0").unwrapped.encode(Answer("5"))


def test_where_there_is_one_answer_it_stands_for_any():
    env = make(ID, experts="oracle")
    env.reset(seed=0)
    element, used = env.encode(Answer("It is the left one."))
    assert (element[0], used.tolist()) == (6, [True, False, False, False, False, False])


def test_one_input_means_all_inputs():
    env = make("VisHarness/MultiImage-v0", difficulty=1)
    env.reset(options={"index": 1})
    inputs = ["img_0", "img_1", "img_2"]
    for slot in range(3):
        assert env.interpret([0, slot, 0, 0, 0, 0]).arguments["images"] == inputs
    env.step(ToolCall("ZoomRegion", {"image": "img_1", "box": [0, 0, 128, 128]}))
    assert env.interpret([0, 3, 0, 0, 0, 0]).arguments["images"] == ["img_1_z1"]
    assert env.interpret([0, 0, 0, 0, 0, 0]).arguments["images"] == inputs


@pytest.mark.parametrize(
    "query", ["", " \n ", "?", "(A) the hat", "Which?\n(A) a\n(B) " + "x" * 900, "中文 問題", "the the the"]
)
def test_there_are_always_as_many_phrases_and_none_is_empty(query):
    for vocabulary in ([], ["cup"]):
        phrases = question_phrases(query, vocabulary)
        assert len(phrases) == PHRASES
        assert all(len(phrase) <= 512 for phrase in phrases)
        assert all(phrases) or not query


# --- imitation --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def imitated(tmp_path_factory):
    folder, told = tmp_path_factory.mktemp("runs") / "imitated", []
    train(settings(demonstrations=80), folder, imitating=lambda *each: told.append(each))
    return folder, told


def test_demonstrations_are_the_turns_of_the_policy_and_what_they_led_to():
    shown = demonstrate(settings(demonstrations=3))
    assert shown.skipped == 0
    count = len(shown.actions)
    assert {len(part) for part in shown.observations.values()} == {count}
    assert shown.used.shape == shown.actions.shape == (count, 6)
    # Two calls and an answer: find, merge, done; the last turn's value is what the episode paid.
    ends = np.flatnonzero(shown.actions[:, 0] == 6)
    assert len(ends) == 3
    assert shown.values[ends[0]] == pytest.approx(5.0)
    assert shown.values[ends[0] - 1] == pytest.approx(5.0 * 0.99)
    again = demonstrate(settings(demonstrations=3))
    assert (again.actions == shown.actions).all()
    assert all((again.observations[name] == part).all() for name, part in shown.observations.items())


def test_nothing_is_learned_from_episodes_in_which_an_expert_failed(monkeypatch):
    whole, run, batches = demonstrate(settings(demonstrations=6)), Oracle.run, []

    def fails_at_first(expert, requests):
        batches.append(requests)
        return run(expert, requests) if len(batches) > 4 else [ExpertFailure("no memory") for _ in requests]

    monkeypatch.setattr(Oracle, "run", fails_at_first)
    shown = demonstrate(settings(demonstrations=6))
    # What is left is a part of what there was, turn by turn.
    assert 0 < len(shown.actions) < len(whole.actions)
    assert (shown.actions[:, 0] == 6).sum() < 6
    assert (shown.values > 0).all()
    monkeypatch.setattr(Oracle, "run", lambda expert, requests: [ExpertFailure("no memory") for _ in requests])
    with pytest.raises(InvalidData, match="without a failure of experts"):
        demonstrate(settings(demonstrations=2))


def test_a_policy_learns_to_play_as_it_was_shown(imitated):
    folder, told = imitated
    with closing(gym.make_vec(ID, num_envs=2, split="val", action_mode="discrete", obs="features", **ENV)) as envs:
        players = [TrainedPolicy(folder) for _ in range(2)]
        judged, _ = play(envs, players, 20, "gIoU")
    assert judged["metrics"]["gIoU"] > 0.9
    assert judged["errors"] == 0
    assert told[0] == ("watching scripted", 1, 80)
    assert told[79] == ("watching scripted", 80, 80)
    assert told[-1][0] == "imitating scripted"
    assert told[-1][1] == told[-1][2]


def test_a_run_that_imitates_is_the_same_again_and_goes_on_without_imitating_again(imitated, tmp_path):
    folder, _ = imitated
    before = torch.load(folder / "untrained" / "policy.pt", weights_only=True)
    after = torch.load(folder / "policy.pt", weights_only=True)
    assert before["steps"] == 0
    assert after["steps"] == 32
    config = settings()
    assert train(config, tmp_path / "one") == train(config, tmp_path / "other") == 32
    one, other = (torch.load(tmp_path / name / "policy.pt", weights_only=True) for name in ("one", "other"))
    assert all(torch.equal(value, other["policy"][name]) for name, value in one["policy"].items())
    told = []
    longer = settings(steps=64)
    assert train(longer, tmp_path / "one", imitating=lambda *each: told.append(each)) == 64
    assert told == []
    with pytest.raises(InvalidData, match="other settings \\(imitate\\)"):
        train(settings(imitate=None), tmp_path / "one")


def test_policies_that_cannot_be_imitated_are_refused(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'scripted'"):
        train(settings(imitate="scriptd"), tmp_path / "run")
    with pytest.raises(InvalidData, match="imitate to be the name"):
        settings(imitate=3)
    with pytest.raises(InvalidData, match="demonstrations to be a whole number of at least 1, but got 0"):
        settings(demonstrations=0)
    with pytest.raises(InvalidData, match="the settings name none"):
        demonstrate(settings(imitate=None))
