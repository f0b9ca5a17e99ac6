"""Environments without spaces that trainers of arrays cannot take."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env, data_equivalence
from hypothesis import given
from hypothesis import strategies as st

from visenv.adapters.flat import FlatEnv, FlatVectorEnv, flat_space, from_flat, to_flat
from visenv.builtin import ENVIRONMENTS
from visenv.errors import InvalidData
from visenv.policies import make_policy
from visenv.records import action_record
from visenv.spaces import PRINTABLE
from visenv.tools.toolsets import VISHARNESS
from visenv.types import Argument, Malformed, ToolCall, ToolSpec
from visenv.workspace import Effect
from visenv.wrappers import TextObservation

ID = "VisHarness/RefSeg-v0"
MODES = ("structured", "text", "discrete")


class Everything:
    """A tool with an argument of each kind that the usual tools lack."""

    spec = ToolSpec(
        "Everything",
        "Does nothing.",
        (
            Argument("image", "image", "an image"),
            Argument("box", "box", "a box"),
            Argument("point", "point", "a point"),
            Argument("points", "points", "points"),
            Argument("many", "integer", "a number", low=1, high=5),
            Argument("some", "choices", "some of them", choices=("a", "b")),
        ),
    )

    def run(self, arguments, context):
        return Effect((f"{arguments['many']}",))


KINDS = (Everything, *VISHARNESS)


def flat(mode="structured", padding=None, **keywords):
    settings = {"experts": "oracle", "split": "val", "obs": "features", "action_mode": mode, **keywords}
    return FlatEnv(gym.make(ID, **settings), padding)


@given(st.text(PRINTABLE, max_size=20), st.integers(5, 7))
def test_values_come_back_as_they_were(text, number):
    space = spaces.Dict({"n": spaces.Discrete(3, start=5), "text": spaces.Text(20, min_length=0, charset=PRINTABLE)})
    there = to_flat(space, {"n": number, "text": text})
    assert flat_space(space).contains(there)
    assert from_flat(space, there) == {"n": number, "text": text}


@pytest.mark.parametrize("text", ["\N{SNOWMAN}", "a" * 21])
def test_a_text_that_the_space_lacks_is_refused(text):
    with pytest.raises(InvalidData, match="Expected a text of at most 20 printable characters"):
        to_flat(spaces.Text(20, charset=PRINTABLE), text)


@pytest.mark.parametrize("padding", [None, {"pictures": 2, "side": 32, "text": 64}], ids=["numbers", "padded"])
@pytest.mark.parametrize("mode", MODES)
def test_flat_environments_pass_the_checker(mode, padding):
    env = flat(mode, padding)
    check_env(env, skip_render_check=True)
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(30):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        if terminated or truncated:
            env.reset()


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_every_environment_is_flat(env_id):
    env = FlatEnv(gym.make(env_id, obs="features"))
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(5):
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        assert env.observation_space.contains(observation)
        if terminated or truncated:
            env.reset()


def leaves(space):
    return [leaf for part in space.spaces.values() for leaf in leaves(part)] if hasattr(space, "spaces") else [space]


@pytest.mark.parametrize("mode", MODES)
def test_no_space_is_left_that_trainers_cannot_take(mode):
    kinds = (spaces.Box, spaces.Discrete, spaces.MultiBinary, spaces.MultiDiscrete)
    env = flat(mode)
    assert all(isinstance(leaf, kinds) for space in (env.action_space, env.observation_space) for leaf in leaves(space))


def test_a_scripted_episode_is_the_same_in_flat_actions():
    env, plain = flat(), gym.make(ID, experts="oracle", split="val", obs="features")
    for index in range(3):
        policies = make_policy("scripted"), make_policy("scripted")
        for each, policy in zip((env, plain), policies, strict=True):
            each.reset(options={"index": index})
            policy.reset(each.unwrapped, np.random.SeedSequence(0))
        ended = False
        while not ended:
            actions = [policy.act(e.unwrapped.episode) for policy, e in zip(policies, (env, plain), strict=True)]
            action = env.flat_action(action_record(actions[0]))
            assert env.action_space.contains(action)
            _, reward, terminated, truncated, info = env.step(action)
            expected = plain.step(actions[1])
            assert (reward, terminated, truncated, info) == expected[1:]
            ended = terminated or truncated
        assert info["error"] is None


def test_masks_say_which_tools_and_images_make_sense():
    env = flat()
    observation, _ = env.reset(options={"index": 0})
    names = env.tools
    tools, slots = observation["action_mask"][: len(names)], observation["action_mask"][len(names) :]
    ready = [name for name, can in zip(names, tools, strict=True) if can]
    assert {"PhraseToBoxMask", "Answer"} <= set(ready)
    assert "MergeBoxMask" not in ready
    assert slots.tolist() == [1] + [0] * 15
    observation, *_ = env.step({"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "car"}})
    assert observation["action_mask"][names.index("MergeBoxMask")] == 1
    assert "action_mask" not in flat("text").observation_space.spaces
    discrete = flat("discrete")
    observation, _ = discrete.reset(options={"index": 0})
    assert observation["action_mask"].tolist() == discrete.unwrapped.action_masks().tolist()


@pytest.mark.parametrize(
    "action",
    [{"tool": 99}, {"tool": -1}, {"tool": 0}, {"tool": "x"}, {"tool": 6, "Answer": {"text": [-1]}}, None, (1, 2, 3)],
)
def test_what_is_no_flat_action_is_a_turn_that_says_so(action):
    env = flat()
    env.reset(options={"index": 0})
    _, _, terminated, _, info = env.step(action)
    assert info["error"]["code"] == "bad_action"
    assert not terminated


@pytest.mark.parametrize(
    "call",
    [
        {"name": "Fly", "arguments": {}},
        {"name": None, "arguments": {}},
        {"name": "MergeBoxMask", "arguments": {}},
        {"name": "MergeBoxMask", "arguments": {"images": ["img_7"]}},
        {"name": "MergeBoxMask", "arguments": {"images": 3}},
        {
            "name": "PhraseToBoxMask",
            "arguments": {"images": ["img_0"], "phrase": "\N{SNOWMAN}"},
        },
        {"name": "Answer", "arguments": {"text": "a" * 257}},
    ],
)
def test_a_call_that_the_space_lacks_is_refused(call):
    env = flat()
    env.reset(options={"index": 0})
    with pytest.raises(InvalidData):
        env.flat_action(call)


@pytest.mark.parametrize("toolset", ["visharness", KINDS], ids=["visharness", "every kind"])
def test_every_element_is_found_again_from_the_call_that_it_means(toolset):
    env = flat(toolset=toolset)
    vision = env.unwrapped
    env.reset(options={"index": 0})
    env.step(ToolCall("SplitImageIntoPatches", {"patch_configs": {"img_0": 128}}))
    space = vision.action_space
    space.seed(0)
    found = 0
    for _ in range(200):
        call = vision.interpret(space.sample())
        try:
            action = env.flat_action(action_record(call))
        except InvalidData:
            # It names an image, or a candidate, that is not there.
            assert "slot" in repr(call) or "number" in repr(call)
            continue
        assert env.action_space.contains(action)
        name = env.tools[action["tool"]]
        members = dict(zip(env.tools, space.spaces, strict=True))
        again = vision.interpret((int(action["tool"]), from_flat(members[name], action[name])))
        assert type(again) is type(call)
        assert data_equivalence(plain(again), plain(call))
        found += 1
    assert found > 50


def plain(action):
    """A record in which coordinates are rounded to what single precision tells apart."""
    return json.loads(json.dumps(action_record(action)), parse_float=lambda text: round(float(text), 2))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("many", 1.5), ("many", 1e300), ("many", "x"), ("many", None), ("box", [1, 2, 3]), ("box", ["a"] * 4), ("box", 7)],
)
def test_a_value_of_another_kind_is_refused(argument, value):
    env = flat(toolset=KINDS)
    env.reset(options={"index": 0})
    arguments = {
        "image": "img_0",
        "box": [0, 0, 9, 9],
        "point": [1, 2],
        "points": [[3, 4, 1]],
        "many": 2,
        "some": ["a"],
    }
    assert env.flat_action({"name": "Everything", "arguments": arguments})["tool"] == 0
    with pytest.raises(InvalidData):
        env.flat_action({"name": "Everything", "arguments": {**arguments, argument: value}})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", [None, {"pictures": 1, "side": 16, "text": 32}], ids=["numbers", "padded"])
def test_batches_are_what_single_ones_are(mode, padding):
    keywords = {"experts": "oracle", "split": "val", "obs": "features", "action_mode": mode}
    envs = FlatVectorEnv(gym.make_vec(ID, num_envs=2, autoreset_mode="disabled", **keywords), padding)
    observations, _ = envs.reset(seed=3)
    singles = [FlatEnv(gym.make(ID, **keywords), padding) for _ in range(2)]
    firsts = [single.reset(seed=seed)[0] for single, seed in zip(singles, envs.vision.seeds, strict=True)]
    assert envs.observation_space.contains(observations)
    envs.action_space.seed(1)
    for as_rows in (False, True):
        for index, first in enumerate(firsts):
            for name, value in first.items():
                np.testing.assert_array_equal(observations[name][index], value)
        actions = envs.action_space.sample()
        rows = list(gym.vector.utils.iterate(envs.action_space, actions))
        observations, rewards, *_ = envs.step(rows if as_rows else actions)
        steps = [single.step(row) for single, row in zip(singles, rows, strict=True)]
        firsts = [step[0] for step in steps]
        assert rewards.tolist() == pytest.approx([step[1] for step in steps])
    envs.close()


def test_others_are_refused():
    with pytest.raises(InvalidData, match="VisionToolEnv"):
        FlatEnv(gym.make("CartPole-v1"))
    with pytest.raises(InvalidData, match="VisionToolVectorEnv"):
        FlatVectorEnv(gym.make_vec("CartPole-v1", num_envs=2))
    with pytest.raises(InvalidData, match="same_step"):
        FlatVectorEnv(gym.make_vec(ID, num_envs=2, experts="oracle", autoreset_mode="same_step"))


def test_what_a_wrapper_has_made_of_the_observation_stays():
    env = FlatEnv(TextObservation(gym.make(ID, experts="oracle", action_mode="discrete")))
    observation, _ = env.reset(seed=0)
    assert sorted(observation) == ["action_mask", "images", "query", "reply"]
    assert env.observation_space.contains(observation)
    with pytest.raises(InvalidData, match="Dict"):
        FlatEnv(gym.wrappers.FlattenObservation(gym.make(ID, experts="oracle")))


def test_the_specification_makes_the_same_environment_again():
    env = flat(padding={"pictures": 2, "side": 32, "text": 64})
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again, FlatEnv)
    assert again.observation_space == env.observation_space
    assert again.action_space == env.action_space


def test_whatever_the_environment_takes_is_handed_on():
    env = flat("text")
    env.reset(options={"index": 0})
    *_, info = env.step(Malformed("cut", "The text was cut."))
    assert info["error"]["code"] == "cut"
    call = ToolCall("MergeBoxMask", {"images": ["img_0"]})
    *_, info = env.step(env.unwrapped.episode.dialect.render(call))
    assert info["tool"] == "MergeBoxMask"
