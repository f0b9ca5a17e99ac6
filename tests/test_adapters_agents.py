"""VipAct's agents as agents: who acts when, what each sees, and PettingZoo's own tests."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from pettingzoo.test import api_test, seed_test

from visenv.adapters.agents import CAPTIONER, COMPARER, MARK_READER, ORCHESTRATOR, SILENCE, SpecialistsEnv, play
from visenv.capabilities import Description
from visenv.errors import EpisodeOver, InvalidData
from visenv.images import letterbox

ENV_ID = "VisHarness/Blink-v0"


def make(index=None, **keywords):
    env = SpecialistsEnv(ENV_ID, split="val", difficulty=0, **keywords)
    if index is not None:
        env.reset(seed=0, options={"index": index})
    return env


def ask(name, **arguments):
    return {"name": name, "arguments": arguments}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pettingzoos_tests_pass(capsys):
    api_test(make(), num_cycles=60)
    seed_test(make, num_cycles=20)


def test_a_specialist_sees_what_it_was_given_and_nothing_else():
    env = make(4)
    shown = env.env.episode.get_state().sample.images
    assert env.agent_selection == ORCHESTRATOR
    assert env.observe(CAPTIONER)["count"] == 0
    env.step(ask("ImageComparison", images=["img_0", "img_2"], focus="the kite"))
    assert env.agent_selection == COMPARER
    seen = env.observe(COMPARER)
    assert seen in env.observation_space(COMPARER)
    assert seen["text"] == "compare\nthe kite"
    assert env.env.episode.query not in str(seen)
    assert seen["count"] == 2
    for place, number in enumerate((0, 2)):
        np.testing.assert_array_equal(seen["images"][place], letterbox(shown[number], 128)[0])
    assert not seen["images"][2:].any()
    assert set(env.infos[COMPARER]) == {"task", "focus", "images"}
    assert env.infos[CAPTIONER] == env.infos[MARK_READER] == {}
    assert env.observe(CAPTIONER)["text"] == ""
    env.step("They differ in the kite.")
    assert env.agent_selection == ORCHESTRATOR
    assert "img_0, img_2: They differ in the kite." in env.infos[ORCHESTRATOR]["reply"]
    assert env.infos[ORCHESTRATOR]["turn"] == 1


def test_all_are_paid_what_the_episode_pays():
    env = make(1)
    env.step(ask("VisualPromptDescribe", image="img_0"))
    assert env.agent_selection == MARK_READER
    env.step("Two circles.")
    env.step(ask("Answer", text=env.env.episode.truth.answers[0]))
    assert set(env.rewards.values()) == {1.0}
    assert all(env.terminations.values())
    while env.agents:
        env.step(None)
    with pytest.raises(EpisodeOver):
        env.step(None)


def test_what_asks_nobody_comes_back_to_the_orchestrator():
    env = make(1)
    for action in (ask("DepthEstimation", image="img_0"), ask("ImageCaptioning", image="img_7", focus="x"), "nonsense"):
        env.step(action)
        assert env.agent_selection == ORCHESTRATOR
    assert env.infos[ORCHESTRATOR]["turn"] == 3
    env.step(ask("ImageCaptioning", image="img_0", focus="x"))
    env.step(None)
    assert SILENCE in env.infos[ORCHESTRATOR]["reply"]


def test_in_one_block_several_specialists_are_asked_in_order():
    env = make(4, action_mode="text", dialect="vipact")
    calls = 'image_captioning(image="img_0", focus="a")\nimage_comparison(images=["img_0", "img_1"], focus="b")'
    env.step(f"Thought: both\nAction Input:\n```python\n{calls}\n```")
    asked = []
    while env.agent_selection != ORCHESTRATOR:
        asked.append(env.agent_selection)
        env.step(f"said by {env.agent_selection}")
    assert asked == [CAPTIONER, COMPARER]
    reply = env.infos[ORCHESTRATOR]["reply"]
    assert "said by captioning" in reply
    assert "said by comparison" in reply


class Parrot:
    name = fingerprint = "parrot"
    capabilities, max_batch, per_sample = ("Describe",), 4, False

    def run(self, requests):
        return [Description(f"parrot: {request.focus}") for request in requests]


def test_a_specialist_may_be_an_expert():
    env = make(1, experts_for={CAPTIONER: Parrot()})
    assert env.possible_agents == [ORCHESTRATOR, COMPARER, MARK_READER]
    env.step(ask("ImageCaptioning", image="img_0", focus="hello"))
    assert env.agent_selection == ORCHESTRATOR
    assert "parrot: hello" in env.infos[ORCHESTRATOR]["reply"]
    with pytest.raises(InvalidData, match="captioning"):
        make(experts_for={"painter": Parrot()})


def test_it_plays_as_the_environment_does():
    """With the specialists' own words, every step gives what the environment gives."""
    env, plain = make(1), gym.make(ENV_ID, split="val", difficulty=0).unwrapped
    plain.reset(seed=0, options={"index": 1})
    action = ask("ImageCaptioning", image="img_0", focus="everything")
    *_, info = plain.step(action)
    said = info["reply"].partition("img_0: ")[2].splitlines()[0]
    env.step(action)
    env.step(said)
    assert env.infos[ORCHESTRATOR] == info
    assert pickle.loads(pickle.dumps(env.infos[ORCHESTRATOR])) == info


class AsksThenAnswers:
    name = "asks"

    def reset(self, env, seed):
        assert env.episode.turns == 0

    def act(self, episode):
        if not episode.transcript:
            return ask("VisualPromptDescribe", image="img_0")
        return ask("Answer", text="A" if "A is nearer" in episode.transcript[-1].reply else "none")


def test_each_agent_has_a_player_of_its_own():
    """The orchestrator a policy, a specialist a function around an endpoint, another an expert."""
    seen = []

    def endpoint(messages):
        seen.append(messages)
        return "A is nearer."

    env = make(experts_for={CAPTIONER: Parrot()})
    players = {ORCHESTRATOR: AsksThenAnswers(), COMPARER: endpoint, MARK_READER: endpoint}
    paid = play(env, players, seed=0, index=1)
    assert paid == float(env.env.episode.truth.answers[0] == "A")
    ((message,),) = seen
    text, image = message["content"]
    assert "circles" in text["text"]
    np.testing.assert_array_equal(image["image"], env.env.episode.workspace.root.pixels)
    assert env.messages(COMPARER) == []
    assert env.messages(ORCHESTRATOR)[0]["role"] == "system"
    with pytest.raises(InvalidData, match="comparison"):
        play(env, {ORCHESTRATOR: AsksThenAnswers()})
