"""VipAct's agents as agents: who acts when, what each sees, and PettingZoo's own tests."""

import pickle
from collections import Counter
from functools import cache

import gymnasium as gym
import numpy as np
import pytest
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test, render_test, seed_test
from pettingzoo.utils.conversions import aec_to_parallel, turn_based_aec_to_parallel

from visenv.adapters.agents import CAPTIONER, COMPARER, MARK_READER, ORCHESTRATOR, SILENCE, SpecialistsEnv, play
from visenv.capabilities import Description
from visenv.datasets.listed import SampleList
from visenv.datasets.perceptual import PerceptualDataset
from visenv.errors import EpisodeOver, InvalidData, UnknownName
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
    render_test(make)


@pytest.mark.filterwarnings("error")
def test_pettingzoos_tests_of_parallel_environments_pass_for_agents_that_take_turns(capsys):
    """All give an action, and that of the agent whose turn it is counts. Acting at once is not what they do."""
    parallel_api_test(turn_based_aec_to_parallel(make()), num_cycles=60)
    parallel_seed_test(lambda: turn_based_aec_to_parallel(make()), num_cycles=20)
    with pytest.raises(AssertionError, match="is_parallelizable"):
        aec_to_parallel(make())


@cache
def drawn():
    """A few samples that are drawn once."""
    return SampleList("scenes", [PerceptualDataset("val", 0).get(index) for index in range(6)], split="val")


BROKEN = "no turn of any grammar"
ALL_ASKED = """Thought: all
Action Input:
```python
image_captioning(image="img_0", focus="a")
visual_prompt_describe(image="img_0")
image_comparison(images=["img_0", "img_1"], focus="b")
```"""


def cycle(env, seed, choose, index=None):
    """Play an episode as PettingZoo's loop does, and check at every step what its cycle tests claim.

    Returns the turns of each agent, the last one, which is none, not counted.
    """
    env.reset(seed=seed, options={} if index is None else {"index": index})
    turns, ended = Counter(), set()
    for agent in env.agent_iter(max_iter=500):
        assert agent not in ended, "No agent acts after its end."
        observation, _, terminated, truncated, info = env.last()
        assert env.observation_space(agent).contains(observation)
        assert set(env.agents) == set(env.infos) == set(env.rewards) == set(env.terminations) == set(env.truncations)
        if terminated or truncated:
            ended.add(agent)
            assert env.step(None) is None
            assert agent not in env.agents
            continue
        assert not ended, "All end at once."
        turns[agent] += 1
        assert turns[ORCHESTRATOR] <= env.env.config.max_turns
        assert env.step(choose(agent)) is None
    assert env.agents == []
    assert ended == set(env.possible_agents), "Every agent gets its last step."
    assert env.env.episode.done
    assert turns[ORCHESTRATOR] == env.env.episode.turns
    with pytest.raises(EpisodeOver):
        env.step(None)
    return turns


@pytest.mark.parametrize("mode", ["structured", "discrete", "text"])
def test_cycles_of_random_agents_end_with_every_agent(mode):
    env = make(dataset=drawn(), action_mode=mode, max_turns=6)
    ends = {}
    for seed in range(40):
        turns = cycle(env, seed, lambda agent: env.action_space(agent).sample())
        ends[seed] = (turns, env.env.episode.outcome.termination)
    early = [turns for turns, why in ends.values() if why == "answer"]
    assert bool(early) == (mode != "text"), "Letters by chance are no answer, tools by chance are now and then."
    assert all(turns[ORCHESTRATOR] == 6 for turns, why in ends.values() if why == "max_turns")
    turns = cycle(env, 3, lambda agent: env.action_space(agent).sample())
    assert (turns, env.env.episode.outcome.termination) == ends[3], "A seed is a game."


def test_cycles_last_as_long_as_the_orchestrator_has_turns():
    env = make(action_mode="text", dialect="vipact", max_turns=4)
    words = {ORCHESTRATOR: BROKEN}
    assert cycle(env, 0, words.get) == {ORCHESTRATOR: 4}
    words = {ORCHESTRATOR: ALL_ASKED, CAPTIONER: "a", COMPARER: "b", MARK_READER: "c"}
    assert cycle(env, 0, words.get, index=4) == dict.fromkeys(words, 4), "Each is asked once in each of four turns."
    words = {ORCHESTRATOR: "Thought: so\nFinal Answer: A"}
    assert cycle(env, 0, words.get) == {ORCHESTRATOR: 1}


def test_a_cycle_that_an_expert_breaks_ends_for_all():
    env = make(experts={"*": "classical", "EstimateDepth": BrokenDepth()}, max_turns=4)
    assert cycle(env, 0, lambda agent: ask("DepthEstimation", image="img_0")) == {ORCHESTRATOR: 1}
    assert env.env.episode.problem
    env.reset(seed=0)
    env.step(ask("DepthEstimation", image="img_0"))
    assert set(env.truncations.values()) == {True}
    assert set(env.terminations.values()) == {False}
    assert set(env.rewards.values()) == {0.0}


class BrokenDepth:
    name = fingerprint = "broken-depth"
    capabilities, max_batch, per_sample = ("EstimateDepth",), 4, False

    def run(self, requests):
        raise RuntimeError("out of order")


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


def test_who_plays_a_specialist_is_looked_at_when_the_environment_is_made():
    env = make(1, experts_for={CAPTIONER: "sight"})
    env.step(ask("ImageCaptioning", image="img_0", focus="hello"))
    assert env.infos[ORCHESTRATOR]["error"] is None
    for wrong in (BrokenDepth(), Parrot, object(), None):
        with pytest.raises(InvalidData, match="expert"):
            make(experts_for={CAPTIONER: wrong})
    with pytest.raises(InvalidData, match="experts by name"):
        make(experts_for=[CAPTIONER])
    with pytest.raises(UnknownName):
        make(experts_for={CAPTIONER: "sihgt"})


def test_nobody_else_is_an_agent():
    env = make(1)
    for look in (env.observe, env.messages):
        with pytest.raises(InvalidData, match="orchestrator, captioning"):
            look("painter")
    for seed in (-1, "x"):
        with pytest.raises(gym.error.Error, match="Seed"):
            env.reset(seed=seed)
    unbegun = make()
    with pytest.raises(EpisodeOver):
        unbegun.observe(ORCHESTRATOR)
    assert unbegun.observe(CAPTIONER)["count"] == 0


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
