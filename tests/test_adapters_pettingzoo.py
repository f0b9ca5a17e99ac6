"""PettingZoo's own tests on the environment of an actor and a verifier."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
from pettingzoo.test import (
    api_test,
    max_cycles_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
)
from stubs import BrightExpert, SquareDataset

from visenv.adapters.pettingzoo import ACCEPT, SEND_BACK, SENT_BACK, ActorVerifierEnv, aec_env
from visenv.errors import EpisodeOver, InvalidData

ENV_ID = "VisHarness/RefSeg-v0"
FIND = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "square"}}
MERGE = {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}
ANSWER = {"name": "Answer", "arguments": {"text": "There it is."}}


def make(**keywords):
    return ActorVerifierEnv(ENV_ID, **{"dataset": SquareDataset(), "experts": BrightExpert(), **keywords})


def step(env, actor, verifier=ACCEPT):
    return env.step({"actor": actor, "verifier": verifier})


def test_pettingzoos_tests_pass(capsys):
    parallel_api_test(make(), num_cycles=60)
    parallel_seed_test(make, num_cycles=20)
    api_test(aec_env(ENV_ID, dataset=SquareDataset(), experts=BrightExpert()), num_cycles=60)
    seed_test(lambda: aec_env(ENV_ID, dataset=SquareDataset(), experts=BrightExpert()), num_cycles=20)
    render_test(lambda render_mode: aec_env(ENV_ID, dataset=SquareDataset(), render_mode=render_mode))


def test_pettingzoos_test_of_cycles_passes():
    """With texts by chance, which are no answer, an episode lasts as many cycles as it has turns."""
    keywords = {"dataset": SquareDataset(), "experts": BrightExpert(), "action_mode": "text"}
    max_cycles_test(
        SimpleNamespace(
            env=lambda max_cycles: aec_env(ENV_ID, max_turns=max_cycles, **keywords),
            parallel_env=lambda max_cycles: ActorVerifierEnv(ENV_ID, max_turns=max_cycles, **keywords),
        )
    )


def test_an_accepted_answer_ends_the_episode_and_pays_both():
    env = make()
    env.reset(options={"index": 0})
    step(env, FIND)
    step(env, MERGE)
    observations, rewards, terminations, _, infos = step(env, ANSWER)
    assert rewards == {"actor": 0.0, "verifier": 0.0}
    assert not any(terminations.values())
    assert infos["verifier"]["answer"] == "There it is."
    assert observations["verifier"]["phase"] == 1
    assert observations["verifier"]["answer"].any()
    _, rewards, terminations, truncations, infos = step(env, FIND)
    assert rewards == {"actor": 5.0, "verifier": 5.0}
    assert terminations == {"actor": True, "verifier": True}
    assert not any(truncations.values())
    assert infos["actor"]["termination"] == "answer"
    assert env.agents == []
    with pytest.raises(EpisodeOver):
        step(env, FIND)


def test_an_answer_that_is_sent_back_costs_a_turn_and_the_actor_goes_on():
    env = make(max_turns=3)
    env.reset(options={"index": 0})
    step(env, ANSWER)
    _, _, terminations, _, infos = step(env, ANSWER, SEND_BACK)
    assert not any(terminations.values())
    assert SENT_BACK in infos["actor"]["reply"]
    assert infos["actor"]["phase"] == "act"
    assert infos["actor"]["turn"] == 1
    step(env, ANSWER)
    step(env, ANSWER, SEND_BACK)
    step(env, ANSWER)
    _, _, terminations, _, infos = step(env, ANSWER, SEND_BACK)
    assert all(terminations.values())
    assert infos["actor"]["termination"] == "max_turns", "A verifier that never accepts does not go on for ever."


def test_texts_of_a_model_are_read():
    env = make(action_mode="text")
    env.reset(options={"index": 0})
    _, _, _, _, infos = step(env, "<think>It is plain.</think><answer>Here.</answer>")
    assert infos["verifier"]["answer"] == "Here."
    _, _, terminations, _, _ = step(env, "")
    assert all(terminations.values())


def test_what_is_missing_or_wrong_is_said():
    env = make()
    env.reset(seed=0)
    with pytest.raises(InvalidData, match="none of verifier"):
        env.step({"actor": FIND})
    with pytest.raises(InvalidData, match="by agent"):
        env.step(None)
    step(env, ANSWER)
    for decision in (2, -1, 0.5, True, None, "1", float("nan"), [1], 10**40):
        with pytest.raises(InvalidData, match="0 or 1"):
            step(env, ANSWER, decision)
    assert all(step(env, ANSWER, np.int64(ACCEPT))[2].values())


@pytest.mark.parametrize("arguments", [5, "ab", [1], None, {"text": 5}, {"text": "x" * 10**6}])
def test_an_answer_that_is_none_is_a_turn_of_the_actor(arguments):
    env = make()
    env.reset(seed=0)
    *_, infos = step(env, {"name": "Answer", "arguments": arguments})
    assert infos["actor"]["error"]["code"] in ("bad_arguments", "long_answer")
    assert (infos["actor"]["turn"], infos["actor"]["phase"]) == (1, "act")


def test_a_seed_that_is_none_is_refused_before_anything_is_changed():
    env = make()
    env.reset(seed=0)
    for seed in (-1, "x"):
        with pytest.raises(gym.error.Error, match="Seed"):
            env.reset(seed=seed)
    assert env.agents


def test_observations_are_those_of_the_environment():
    env = make()
    observations, _ = env.reset(seed=3)
    own, _ = env.env.reset(seed=3)
    for name, value in own.items():
        np.testing.assert_array_equal(observations["actor"][name], value)
    assert env.observation_space("actor").contains(observations["actor"])
