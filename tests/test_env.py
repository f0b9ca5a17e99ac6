import copy
import pickle
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from stubs import BrightExpert, BrokenExpert, CountingReward, SquareDataset

import visenv  # noqa: F401 - registers the ids
from visenv.envs.reasonseg import ReasonSegEnv
from visenv.errors import DatasetError, EpisodeOver, InvalidData, UnknownName
from visenv.spaces import PHRASES, SLOTS, observation_space, phrase_candidates, token_ids, words
from visenv.tools.visharness import MergeBoxMask, PhraseToPoint, PointToBoxMask
from visenv.types import Answer, ToolCall
from visenv.wrappers import StackableInfo

GROUND = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "square"}}
MERGE = {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}
SPLIT = {"name": "SplitImageIntoPatches", "arguments": {"patch_configs": {"img_0": 48}}}


def make(**keywords):
    defaults = {"dataset": SquareDataset(), "experts": BrightExpert(), "reward": CountingReward()}
    return gym.make("VisHarness/ReasonSeg-v0", **(defaults | keywords))


@pytest.mark.parametrize("mode", ["structured", "text", "discrete"])
@pytest.mark.parametrize("obs", ["full", "features"])
def test_gymnasium_accepts_it(mode, obs):
    env = make(action_mode=mode, obs=obs, render_mode="rgb_array")
    check_env(env.unwrapped)
    pickle.loads(pickle.dumps(env)).reset(seed=1)
    copy.deepcopy(env).reset(seed=1)


def test_an_episode_through_gymnasium():
    env = make()
    obs, info = env.reset(seed=0, options={"index": 1})
    assert obs in env.observation_space
    assert info == {
        "sample_id": "squares/1",
        "turn": 0,
        "query": "the bright square on the left",
        "reply": "",
        "tool": None,
        "error": None,
        "reward_terms": {},
        "visual_tokens": 6,
    }
    obs, reward, terminated, truncated, info = env.step(GROUND)
    assert (reward, terminated, truncated) == (-0.25, False, False)
    assert info["tool"] == "PhraseToBoxMask"
    assert obs["detections"][0, :4].tolist() == pytest.approx([11 / 96, 10 / 64, 31 / 96, 30 / 64])
    assert obs["detections"][0, 4:].tolist() == pytest.approx([0.9, 0])
    assert obs["detections"][1:].sum() == 0
    env.step(MERGE)
    obs, reward, terminated, truncated, info = env.step(Answer("found"))
    assert (reward, terminated, truncated) == (0.75, True, False)
    assert obs["detections"][0, 5] == 1
    assert obs["progress"].tolist() == pytest.approx([0.3])
    assert info["termination"] == "answer"
    assert info["metrics"]["gIoU"] == 1.0
    assert info["metrics"]["turns"] == 3.0
    assert info["outcome"]["count"] == 1
    assert info["outcome"]["masks"][0]["size"] == [64, 96]


def test_the_memory_state_has_the_columns_that_the_docs_name():
    env = make()
    env.reset(seed=0, options={"index": 0})
    env.step(SPLIT)
    state = env.step(GROUND)[0]["memory_state"]
    assert state.shape == (SLOTS, 11)
    valid, visible, scale = state[:, 0], state[:, 1], state[:, 2]
    assert valid.tolist() == [1] * 5 + [0] * 11
    assert visible.sum() == 0  # only a visualisation is in view
    assert scale.tolist() == [0] * 16
    np.testing.assert_allclose(state[1, 3:7], [0, 0, 57 / 96, 57 / 64])
    np.testing.assert_allclose(state[0, 7:], [0, 1, np.log(2), 2 / 10], rtol=1e-6)
    np.testing.assert_allclose(state[1, 7:], [0, 0, 0, 1 / 10], rtol=1e-6)


def test_the_picture_is_the_newest_in_view_and_zeros_where_none_is():
    env = make()
    obs, _ = env.reset(seed=0)
    assert obs["image"].any()
    obs = env.step({"name": "SuperResolution", "arguments": {"images": ["img_0"]}})[0]
    assert not obs["image"].any()
    assert obs["memory_images"].any()


def test_the_same_seed_gives_the_same_bytes():
    def play():
        env = make()
        env.action_space.seed(5)
        record = [env.reset(seed=3)]
        for _ in range(60):
            *step, done, cut, info = env.step(env.action_space.sample())
            record.append((*step, done, cut, info))
            if done or cut:
                record.append(env.reset())
        return pickle.dumps(record)

    assert play() == play()


def test_options_ask_for_a_sample():
    env = make()
    assert env.reset(options={"index": 2})[1]["sample_id"] == "squares/2"
    assert env.reset(options={"sample_id": "squares/0"})[1]["sample_id"] == "squares/0"
    for bad in (
        {"index": 3},
        {"index": -1},
        {"index": "1"},
        {"index": True},
        {"nope": 1},
        {"index": 1, "sample_id": "a"},
        {"sample_id": 5},
        {1: 2, "index": 1},
        ["index"],
    ):
        with pytest.raises(InvalidData, match="Expected options"):
            env.reset(options=bad)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"dataset": "scense"}, UnknownName, "Did you mean 'scenes'"),
        ({"dataset": 5}, InvalidData, "Expected dataset"),
        ({"dataset": "scenes", "split": "tset"}, DatasetError, "tset"),
        ({"dataset": "scenes", "difficulty": 9}, DatasetError, "9"),
        ({"experts": "sam9"}, UnknownName, "Known"),
        ({"toolset": "all"}, UnknownName, "Known"),
        ({"toolset": []}, InvalidData, "at least one tool"),
        ({"reward": "vis"}, UnknownName, "visharness"),
        ({"action_mode": "words"}, InvalidData, "'structured', 'text', 'discrete'"),
        ({"obs": "all"}, InvalidData, "obs"),
        ({"memory": "first"}, InvalidData, "memory"),
        ({"dialect": "qwen9"}, UnknownName, "qwen3_vl"),
        ({"vlm": "gpt"}, UnknownName, "Known"),
        ({"max_turns": 0}, InvalidData, "max_turns"),
        ({"max_turns": None}, InvalidData, "max_turns"),
        ({"reward": None}, InvalidData, "Expected reward"),
        ({"toolset": None}, InvalidData, "Expected toolset"),
        ({"toolset": [int]}, InvalidData, "Expected a tool"),
        ({"memory": None}, InvalidData, "Expected memory"),
        ({"memory": "last_k:" + "9" * 5000}, InvalidData, "Expected memory"),
        ({"experts": BrightExpert}, InvalidData, "Expected an expert"),
        ({"dataset": SquareDataset}, InvalidData, "Expected dataset"),
    ],
)
def test_bad_arguments_are_refused_at_once(keywords, error, message):
    with pytest.raises(error, match=message):
        make(**keywords)


def test_a_render_mode_that_does_not_exist_is_refused():
    with pytest.raises(InvalidData, match="rgb_array"):
        ReasonSegEnv(render_mode="ascii")


def test_stepping_needs_an_episode():
    env = make().unwrapped
    with pytest.raises(EpisodeOver, match="reset"):
        env.step(GROUND)
    env.reset(seed=0)
    env.step(Answer(""))
    with pytest.raises(EpisodeOver, match="ended"):
        env.step(GROUND)


def test_a_broken_expert_truncates_and_says_so():
    env = make(experts=BrokenExpert())
    env.reset(seed=0)
    call = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "fail"}}
    _, reward, terminated, truncated, info = env.step(call)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert "no more memory" in info["invalid"]
    assert info["termination"] == "invalid"


# --- structured mode ----------------------------------------------------------------------------------------------


def test_structured_actions_name_images_by_slot():
    env = make()
    env.reset(seed=0)
    slots = np.zeros(SLOTS, np.int8)
    slots[[0, 9]] = 1  # there is no image in slot 9
    info = env.step((0, {"images": slots, "phrase": "square"}))[4]
    assert (info["tool"], info["error"]) == ("PhraseToBoxMask", None)
    info = env.step((3, {"patch_configs": {"images": slots, "size": 48}}))[4]
    assert info["error"] is None
    assert len(env.unwrapped.episode.workspace.images) == 5
    assert env.step((0, {"images": np.zeros(SLOTS, np.int8), "phrase": "a"}))[4]["error"]["code"] == "wrong_argument"
    assert env.step((6, {"text": "done"}))[4]["termination"] == "answer"


@pytest.mark.parametrize(
    "action",
    [
        None,
        3,
        (99, {}),
        (float("inf"), {}),
        (0, 5),
        ("a", {}),
        (0, {"images": None}),
        (2, {"mode": 9}),
        (2, {"mode": -1}),
        (2, {"mode": float("inf")}),
        (3, {"patch_configs": {"images": np.ones(SLOTS), "size": float("nan")}}),
        (1,),
    ],
)
def test_a_bad_structured_action_is_a_transition(action):
    env = make()
    env.reset(seed=0)
    info = env.unwrapped.step(action)[4]
    assert info["error"]["code"] in ("bad_action", "missing_argument", "wrong_argument")


# --- discrete mode ------------------------------------------------------------------------------------------------


@pytest.fixture
def discrete():
    env = make(action_mode="discrete").unwrapped
    env.reset(seed=0, options={"index": 0})
    return env


def test_discrete_actions_ignore_what_the_tool_does_not_use(discrete):
    a = discrete.step(np.array([0, 0, 0, 0, 0, 0]))[4]["reply"]
    discrete.reset(seed=0, options={"index": 0})
    b = discrete.step(np.array([0, 15, 0, 1, 3, 0]))[4]["reply"]  # slot 15 modulo one image is slot 0
    assert a == b


def test_phrases_are_the_query_its_ends_its_words_and_a_fixed_vocabulary(discrete):
    assert len(discrete.phrases) == PHRASES
    assert discrete.phrases[0] == "the bright square on the left"
    ends = ("bright square on the left", "square on the left", "on the left", "the left", "left")
    assert discrete.phrases[1:6] == ends
    assert discrete.phrases[6:11] == ("bright", "square", "left", "bright", "square")
    assert discrete.phrases[11:] == SquareDataset.vocabulary[:5]
    obs, _ = discrete.reset(seed=0)
    for row, phrase in zip(obs["phrases"], discrete.phrases, strict=True):
        np.testing.assert_array_equal(row, token_ids(phrase, len(row)))


def test_a_slot_of_one_patch_means_the_patches_of_its_split(discrete):
    discrete.step(np.array([3, 0, 0, 0, 0, 0]))  # 96 pixels in halves: 2 x 2 patches, the last row under 0.3 taken in
    patches = [name for name in discrete.episode.workspace.images if name != "img_0"]
    discrete.step(np.array([0, 1, 0, 0, 0, 0]))
    assert list(discrete.episode.transcript[-1].action.arguments["images"]) == patches
    discrete.step(np.array([5, 7, 0, 0, 0, 0]))
    assert list(discrete.episode.transcript[-1].action.arguments["images"]) == [
        name for name in patches if name in discrete.episode.workspace.detections
    ]
    assert discrete.episode.workspace.final is not None


def test_action_masks_follow_the_episode(discrete):
    nvec = discrete.action_space.nvec
    masks = discrete.action_masks()
    assert masks.shape == (nvec.sum(),)
    assert masks.dtype == bool
    assert masks[:7].tolist() == [True, True, False, True, True, False, True]
    assert masks[7 : 7 + SLOTS].tolist() == [True] + [False] * 15
    discrete.step(np.array([1, 0, 0, 0, 0, 0]))
    assert discrete.action_masks()[2]
    discrete.step(np.array([2, 0, 0, 0, 0, 0]))
    assert discrete.action_masks()[5]
    with pytest.raises(InvalidData, match="discrete"):
        make().unwrapped.action_masks()


@pytest.mark.parametrize(
    "action", [None, [1, 2], [1, [2, 3]], np.zeros(6), np.array([9, 0, 0, 0, 0, 0]), "a", np.full(6, -1)]
)
def test_a_bad_discrete_action_is_a_transition(discrete, action):
    assert discrete.step(action)[4]["error"]["code"] == "bad_action"


def test_merging_in_discrete_mode_leaves_other_inputs_out():
    class Pairs(SquareDataset):
        def get(self, index):
            sample = super().get(index)
            return replace(sample, images=sample.images * 2)

    env = make(dataset=Pairs(), action_mode="discrete").unwrapped
    env.reset(seed=0)
    env.step({"name": "PhraseToBoxMask", "arguments": {"images": ["img_1"], "phrase": "square"}})
    assert list(env.episode.workspace.detections) == ["img_1"]
    assert not env.action_masks()[5]
    env.step(np.array([0, 1, 0, 0, 0, 0]))  # the slot of one input means all of them
    assert sorted(env.episode.workspace.detections) == ["img_0", "img_1"]
    assert env.action_masks()[5]
    assert env.step(np.array([5, 0, 0, 0, 0, 0]))[4]["error"] is None
    assert env.episode.transcript[-1].action.arguments["images"] == ["img_0"]


# --- text mode ----------------------------------------------------------------------------------------------------


def test_text_mode_takes_any_text_and_tool_calls():
    env = make(action_mode="text")
    env.reset(seed=0)
    answer = '<think></think><tool_call>{"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}</tool_call>'
    assert env.step(answer)[4]["error"]["code"] == "no_boxes"
    assert env.step("naïve \ud800 \x00")[4]["error"]
    assert env.step(ToolCall(**GROUND))[4]["error"] is None
    assert env.unwrapped.step(7)[4]["error"]["code"] == "bad_action"
    assert env.step("<think></think><answer>none</answer>")[4]["termination"] == "answer"


# --- rendering ----------------------------------------------------------------------------------------------------


def test_frames_have_one_size_and_show_the_results():
    env = make(render_mode="rgb_array")
    env.reset(seed=0, options={"index": 0})
    before = env.render()
    env.step(GROUND)
    after = env.render()
    assert before.shape == after.shape == (512, 512, 3)
    assert (before != after).any()
    env.step(MERGE)
    env.step(Answer(""))
    assert (env.render() != before).any()


def test_human_mode_prints_the_turn(capsys):
    env = make(render_mode="human")
    env.reset(seed=0)
    env.step(GROUND)
    out = capsys.readouterr().out
    assert "PhraseToBoxMask" in out
    assert "reward -0.250" in out
    assert env.render() is None


# --- spaces -------------------------------------------------------------------------------------------------------


def test_words_and_tokens():
    assert words("The 2nd red-ish car's wheel!") == ["the", "2nd", "red-ish", "car's", "wheel"]
    left, right = token_ids("left of right", 8), token_ids("right of left", 8)
    assert sorted(left.tolist()) == sorted(right.tolist())
    assert left.tolist() != right.tolist()
    assert token_ids("a b c", 2).tolist() == token_ids("a b", 2).tolist()


def test_calls_say_what_worked_when_and_whether_the_last_turn_was_faulty(discrete):
    ground, merge, points_to_boxes = (np.array([tool, 0, 0, 0, 0, 0]) for tool in (0, 5, 2))
    first, *_ = discrete.step(ground)
    assert first["calls"].tolist() == [1, 0, 0, 0, 0, 0, 0]
    second, *_ = discrete.step(merge)
    assert second["calls"].tolist() == [0.5, 0, 0, 0, 0, 1, 0]
    third, *_ = discrete.step(points_to_boxes)  # There are no points.
    assert third["calls"].tolist() == pytest.approx([1 / 3, 0, 0, 0, 0, 0.5, 1])
    fourth, *_ = discrete.step(ground)
    assert fourth["calls"].tolist() == pytest.approx([1, 0, 0, 0, 0, 1 / 3, 0])
    fresh, _ = discrete.reset(seed=1)
    assert not fresh["calls"].any()


def test_a_query_without_words_still_has_candidates():
    assert set(phrase_candidates("?!", ["car"])) == {"?!", "car"}
    assert set(phrase_candidates("car", [])) == {"car"}


def test_features_are_the_full_observation_without_the_pictures():
    assert set(observation_space(True, 6)) - set(observation_space(False, 6)) == {"image", "memory_images"}


def test_a_query_that_is_too_long_for_a_phrase_is_cut():
    lengths = {len(phrase) for phrase in phrase_candidates("word " * 1000, ())}
    assert max(lengths) == 512
    assert min(lengths) == len("word")


def test_candidates_that_say_nothing_alone_are_left_out():
    phrases = phrase_candidates("Is there a mug to the left of it?", ["car"])
    assert phrases[1:6] == (
        "there a mug to the left of it",
        "a mug to the left of it",
        "mug to the left of it",
        "to the left of it",
        "the left of it",
    )
    assert set(phrases[6:]) == {"mug", "left", "car"}


@pytest.mark.parametrize(
    "text", ["visharness:cost=1", "visharness:step_cost=much", "visharness:step_cost=-1", "visharness:0.2"]
)
def test_a_reward_with_wrong_arguments_is_refused(text):
    with pytest.raises(InvalidData, match="visharness"):
        gym.make("VisHarness/RefSeg-v0", experts="oracle", reward=text)


def test_a_reward_takes_numbers_by_name():
    env = gym.make("VisHarness/RefSeg-v0", experts="oracle", reward="visharness:step_cost=0.25")
    env.reset(seed=0)
    assert env.step({"name": "Answer"})[1] == pytest.approx(-3.25)


# --- beside others ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("kind", [SyncVectorEnv, AsyncVectorEnv])
def test_infos_of_different_ends_stack_in_vector_environments(kind, first):
    """One of the two does well, the other makes a mistake and answers without a result."""
    plans = [[GROUND, MERGE, Answer()], [GROUND, {"name": "Nope"}, Answer()]]
    order = [first, 1 - first]
    envs = kind([Acting.of(plans[index]) for index in order], autoreset_mode=AutoresetMode.DISABLED)
    envs.reset(seed=0)
    for _ in range(3):
        _, _, terminated, _, infos = envs.step(np.zeros(2, np.int64))
        if "code" in infos["error"]:
            assert infos["error"]["code"][order.index(1)] == "unknown_tool"
            assert infos["error"]["_code"].tolist() == [index == 1 for index in order]
    assert terminated.all()
    assert infos["outcome"]["count"][order.index(0)] == 1
    assert infos["metrics"]["gIoU"][order.index(0)] > 0.9
    envs.close()


class Acting(gym.ActionWrapper):
    """Plays a list of actions, whatever it is told."""

    def __init__(self, env, plan):
        super().__init__(env)
        self.action_space, self.plan = gym.spaces.Discrete(1), list(plan)

    @classmethod
    def of(cls, plan):
        return lambda: StackableInfo(cls(make().unwrapped, plan))

    def action(self, action):
        return self.plan.pop(0)


def test_a_time_limit_truncates_without_a_score():
    env = make(max_episode_steps=2, reward="visharness")
    env.reset(seed=0)
    env.step(GROUND)
    _, reward, terminated, truncated, info = env.step(GROUND)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert not {"metrics", "termination", "invalid"} & set(info)
    assert env.unwrapped.episode.turns == 2


def test_a_cut_text_says_so():
    env = make(action_mode="text")
    env.reset(seed=0)
    text = "<think></think><answer>none</answer>"
    assert env.step({"text": text, "finish_reason": "length"})[4]["error"]["code"] == "cut"
    assert env.step({"text": text, "finish_reason": "stop"})[4]["termination"] == "answer"


def test_tools_need_experts_for_what_they_ask():
    class Pointer(BrightExpert):
        capabilities = ("PointPhrase", "SegmentPrompts")

    with pytest.raises(InvalidData, match="nobody answers GroundPhrase, Upscale"):
        make(experts=Pointer())
    with pytest.raises(InvalidData, match="nobody answers"):
        make(experts={})
    make(experts=Pointer(), toolset=[PhraseToPoint, PointToBoxMask, MergeBoxMask]).reset(seed=0)
