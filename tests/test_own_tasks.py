"""What an environment with a task of its own can say: its job, tools that end it, candidates, programs, plans."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from jsonschema import Draft202012Validator
from stubs import BrightExpert, SquareDataset

from visenv.capabilities import Ran, RunCode
from visenv.env import VisionToolEnv
from visenv.masks import Masks
from visenv.observation import phrase_tokens
from visenv.policies import make_policy
from visenv.protocol.schema import json_schema
from visenv.protocol.signatures import as_method
from visenv.records import truth_record
from visenv.tools.arguments import MAX_POINTS, validate
from visenv.tools.base import ToolError, expect
from visenv.types import Argument, Detections, ImageTruth, ToolCall, ToolSpec
from visenv.workspace import Candidate, Effect, NamedImage, Picture


class Outline:
    """A candidate of a square around the first point."""

    spec = ToolSpec(
        "Outline",
        "Outline something.",
        (Argument("image", "image", "which image"), Argument("points", "points", "[x, y, 1 on it or 0 beside it]")),
    )

    def run(self, arguments, context):
        (x, y, on), *_ = arguments["points"]
        height, width = context.workspace.root.pixels.shape[:2]
        masks = Masks.from_boxes([[max(0, x - 9), max(0, y - 9), x + 9, y + 9]], (height, width))
        name = f"c{len(context.workspace.candidates) + 1}"
        made = Candidate(name, "img_0", Detections(masks.boxes, masks, np.array([0.5 + on / 2])))
        return Effect((f"{name} at {x:.0f}, {y:.0f}, sign {on:.0f}",), candidates=(made,))


class Compare:
    spec = ToolSpec("Compare", "Compare some.", (Argument("several", "candidates", "which"),), needs="candidates")

    def run(self, arguments, context):
        return Effect((" and ".join(arguments["several"]),))


class Submit:
    """Ends the episode with a candidate."""

    spec = ToolSpec("Submit", "Submit one.", (Argument("candidate", "candidate", "which"),), needs="candidates")

    def run(self, arguments, context):
        name = arguments["candidate"]
        return Effect((f"{name} it is.",), final=context.workspace.candidates[name].detections, answer=name)


class Paint:
    """Asks for a program's picture."""

    spec = ToolSpec(
        "Paint",
        "Paint.",
        (Argument("colours", "choices", "which colours", ("red", "green", "blue")), Argument("code", "text", "Python")),
        asks=("RunCode",),
    )

    def run(self, arguments, context):
        view = context.workspace.view("img_0", context.sample_id)
        (ran,) = expect((yield [RunCode(view, arguments["code"])]))
        image = NamedImage.made(f"out_{context.turn}", ran.pixels, context.turn)
        return Effect((ran.text, Picture(image.name, image)), images=(image,))


class Painter:
    name = fingerprint = "painter"
    capabilities, max_batch, per_sample = ("RunCode",), 8, False

    def run(self, requests):
        return [Ran(np.full((5, 7, 3), len(request.code) % 256, np.uint8), "done") for request in requests]


class Potential:
    """Pays 1 for every candidate and 5 at the end if it was submitted."""

    bounds = (0.0, 20.0)

    def turn(self, turn):
        return {}

    def progress(self, turn, before, after, truth):
        assert not truth.is_null
        return {"progress": len(after.candidates) - len(before.candidates)}

    def final(self, outcome, truth):
        return {"final": 5.0 * (outcome.answer is not None and outcome.detections is not None)}


class OwnEnv(VisionToolEnv):
    """Outlines."""

    job = "Outline it in {max_turns} turns {well}."
    own_experts = {"RunCode": Painter()}
    plans = {"oracle": f"{__name__}:oracle_plan"}

    def seen(self, sample):
        return type(sample)(sample.sample_id, sample.images * 2, sample.query + "!", sample.truth)

    def phrases_of(self, sample):
        return tuple("yes" if i % 2 else "no" for i in range(16))

    def answers_of(self, sample):
        return ("no", "yes")


def oracle_plan(episode):
    yield ToolCall("Outline", {"image": "img_0", "points": [[20, 20, 1]]})
    assert list(episode.workspace.candidates) == ["c1"]
    yield ToolCall("Submit", {"candidate": "c1"})


TOOLS = (Outline, Compare, Submit, Paint)
RULES = {"dataset": SquareDataset(), "experts": BrightExpert(), "toolset": TOOLS, "reward": Potential()}


def call(env, name, **arguments):
    return env.step({"name": name, "arguments": arguments})


@pytest.mark.parametrize("mode", ["structured", "discrete", "text"])
def test_checkers_pass_with_every_kind_of_argument(mode):
    check_env(OwnEnv(action_mode=mode, render_mode="rgb_array", **RULES))


@pytest.mark.parametrize("mode", ["structured", "discrete"])
def test_random_actions_stay_within_the_bounds(mode):
    env = OwnEnv(action_mode=mode, **RULES)
    env.action_space.seed(0)
    env.reset(seed=0)
    total, submitted = 0.0, 0
    for _ in range(400):
        obs, reward, ended, truncated, info = env.step(env.action_space.sample())
        assert obs in env.observation_space
        assert not truncated
        total += reward
        if ended:
            submitted += info["outcome"]["boxes"] is not None
            assert 0 <= total <= 20
            total = 0.0
            env.reset()
    assert submitted


def test_a_tool_can_end_the_episode_and_is_paid_for_progress():
    env = OwnEnv(**RULES)
    env.reset(options={"index": 0})
    assert env.episode.query.endswith("!")
    assert list(env.episode.workspace.images) == ["img_0", "img_1"]
    assert env.episode.messages()[0]["content"][0]["text"].startswith("Outline it in 10 turns {well}.")
    *_, info = call(env, "Submit", candidate="c1")
    assert info["error"]["code"] == "missing_candidate"
    assert "none yet" in info["reply"]
    _, reward, *_ = call(env, "Outline", image="img_0", points=[[20, 20, 1], [0, 0, 0]])
    assert reward == 1
    obs, *_ = call(env, "Outline", image="img_0", points=[[40, 30, 0]])
    rows = obs["detections"][obs["detections"][:, 4] > 0]
    assert rows[:, 4].tolist() == [0.5, 1.0], "Candidates are seen, the newest first."
    *_, info = call(env, "Compare", several=["c2", "c1", "c2"])
    assert info["reply"].startswith("c2 and c1")
    _, reward, ended, _, info = call(env, "Submit", candidate="c2")
    assert ended
    assert (reward, info["termination"], info["outcome"]["answer"]) == (5, "answer", "c2")
    assert info["outcome"]["boxes"] == [[31, 21, 49, 39]]
    assert env.episode.outcome.tools == ("Outline", "Outline", "Compare", "Submit")


def test_points_that_a_model_writes_are_in_its_frame():
    env = OwnEnv(action_mode="text", **RULES)
    env.reset(options={"index": 0})
    text = '<think></think><tool_call>{"name": "Outline", "arguments": {"image": "img_0", "points": [[500, 500, 1]]}}'
    *_, info = env.step(f"{text}</tool_call>")
    assert info["reply"].startswith("c1 at 48, 32, sign 1")


def test_an_image_that_a_program_made_is_the_outcomes():
    env = OwnEnv(**RULES)
    env.reset(options={"index": 0})
    assert env.episode.outcome.image is None
    *_, info = call(env, "Paint", colours=["red", "red"], code="12345")
    assert info["reply"].startswith("done\n[image out_1]")
    call(env, "Paint", colours="blue", code="123")
    assert (env.episode.outcome.image == 3).all()
    image = env.episode.workspace.images["out_2"]
    assert image.root is image
    assert env.episode.workspace.made is image
    *_, info = call(env, "Paint", colours=["mauve"], code="x")
    assert info["error"]["code"] == "wrong_argument"


def test_discrete_answers_are_the_environments():
    env = OwnEnv(action_mode="discrete", **RULES)
    env.reset(options={"index": 0})
    *_, info = env.step(np.array([len(TOOLS), 0, 3, 0, 0, 0]))
    assert info["outcome"]["answer"] == "yes"


def test_structured_candidates_count_from_the_newest():
    env = OwnEnv(**RULES)
    env.reset(options={"index": 0})
    places = np.zeros((4, 2), np.float32)
    places[1] = 0.5
    one = (0, {"image": 0, "points": {"places": places, "signs": np.array([0, 2, 0, 0])}})
    *_, info = env.step(one)
    assert info["reply"].startswith("c1 at 48, 32, sign 0")
    env.step(one)
    *_, info = env.step((2, {"candidate": 0}))
    assert info["outcome"]["answer"] == "c2"


def test_policies_follow_the_plans_of_an_environment():
    env = OwnEnv(**RULES)
    env.reset(options={"index": 0})
    policy = make_policy("oracle")
    policy.reset(env, np.random.SeedSequence(0))
    env.step(policy.act(env.episode))
    assert env.step(policy.act(env.episode))[2]
    ordinary = gym.make("VisHarness/RefSeg-v0", dataset=SquareDataset(), experts=BrightExpert()).unwrapped
    ordinary.reset(options={"index": 0})
    policy.reset(ordinary, np.random.SeedSequence(0))
    assert policy.act(ordinary.episode).name == "PhraseToBoxMask"


def test_inputs_can_be_held_back():
    env = OwnEnv(show_inputs=False, **RULES)
    obs, info = env.reset(options={"index": 0})
    assert info["visual_tokens"] == 0
    assert not obs["image"].any()
    text = env.episode.messages()[1]["content"][-1]["text"]
    assert text == "img_0 (96x64)\nimg_1 (96x64)\n"
    assert env.episode.newest_picture().name == "img_0"


def test_schemas_say_what_is_taken():
    schema = json_schema(Outline.spec)
    check = Draft202012Validator(schema)
    assert check.is_valid({"image": "img_0", "points": [[1, 2, 1]]})
    assert not check.is_valid({"image": "img_0", "points": [[1, 2]]})
    assert not check.is_valid({"image": "img_0", "points": []})
    painted = Draft202012Validator(json_schema(Paint.spec))
    assert painted.is_valid({"colours": ["red", "blue"], "code": "x"})
    assert not painted.is_valid({"colours": ["mauve"], "code": "x"})
    method = as_method(Paint.spec, lambda *_: None, "A picture.")
    assert "colours: list[typing.Literal['red', 'green', 'blue']]" in str(vars(method)["__signature__"])


@pytest.mark.parametrize("points", [[], [[1, 2]], [[1, 2, 3]], [1, 2, 1], "x", [[1, 2, 1]] * (MAX_POINTS + 1), None])
def test_wrong_points_are_refused_with_what_is_right(points):
    env = OwnEnv(**RULES)
    env.reset(options={"index": 0})
    with pytest.raises(ToolError, match="points") as refused:
        validate(Outline.spec, {"image": "img_0", "points": points}, env.episode.workspace)
    assert refused.value.code == "wrong_argument"


def test_what_is_derived_keeps_its_frame_and_what_is_made_pickles():
    env = OwnEnv(**RULES)
    env.reset(options={"index": 0})
    root = env.episode.workspace.root
    depth = root.derived("img_0_depth", 255 - root.pixels, "depth:x", 1)
    assert depth.root is root
    assert (depth.to_root == np.eye(3)).all()
    assert depth.provenance.key == f"{root.provenance.key}/depth:x"
    with pytest.raises(ValueError, match="as img_0 has"):
        root.derived("small", root.pixels[:3], "x", 1)


def test_the_truth_of_an_image_is_recorded_without_its_pixels():
    truth = ImageTruth(np.zeros((3, 4, 3), np.uint8), ("blur",), ("red",))
    assert truth_record(truth) == {"type": "image", "width": 4, "height": 3, "damage": ["blur"], "answers": ["red"]}
    assert not truth.is_null


def test_phrases_are_observed():
    env = OwnEnv(**RULES)
    obs, _ = env.reset(options={"index": 0})
    assert (obs["phrases"] == phrase_tokens(["no", "yes"] * 8)).all()
