"""Interactive segmentation: candidates from points and boxes, refined, compared and submitted."""

import gymnasium as gym
import numpy as np
import pytest
from stubs import BrightExpert, BrokenExpert, SquareDataset

from visenv.capabilities import Candidates
from visenv.masks import Masks
from visenv.policies import make_policy, rollout
from visenv.rewards.functional import mask_iou
from visenv.types import Answer, ToolCall

ENV_ID = "VisHarness/InteractiveSeg-v0"


class Halves:
    """Segments the 20-pixel cell of a grid under a prompt; the surest candidate is all of it, the least a quarter."""

    name = fingerprint = "halves"
    capabilities, max_batch, per_sample = ("SegmentPrompts", "PointPhrase"), 8, False

    def __init__(self):
        self.prompts = []

    def run(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        masks, scores = [], []
        for prompt in request.prompts:
            self.prompts.append(prompt)
            x, y = prompt.points[0] if len(prompt.points) else prompt.box[:2]
            x0, y0 = 20 * (x // 20), 20 * (y // 20)
            shape = request.view.pixels.shape[:2]
            masks.append(Masks.from_boxes([[x0, y0, x0 + 20, y0 + 20], [x0, y0, x0 + 10, y0 + 10]], shape))
            scores.append(np.array([0.9, 0.5]))
        return Candidates(tuple(masks), tuple(scores))


@pytest.fixture
def env():
    env = gym.make(ENV_ID, dataset=SquareDataset(), experts=Halves(), max_turns=12).unwrapped
    env.reset(options={"index": 0})
    return env


def call(env, name, **arguments):
    return env.step(ToolCall(name, arguments))[4]


def mask_of(env, name):
    return env.episode.workspace.candidates[name].detections.masks


def boxes(env, name):
    return mask_of(env, name).boxes.tolist()


def test_points_make_a_candidate(env):
    info = call(env, "SegmentPoints", image="img_0", points=[[25, 25, 1], [70, 50, 0]])
    assert info["reply"].startswith("c1: box [208, 312, 417, 625] of img_0, 6.5% of it, score 0.90.")
    assert boxes(env, "c1") == [[20, 20, 40, 40]]
    (prompt,) = env.pool.experts["SegmentPrompts"].prompts
    assert prompt.points.tolist() == [[25, 25], [70, 50]]
    assert prompt.labels.tolist() == [1, 0]
    assert env.episode.visible()[-1].is_visualisation


def test_a_box_makes_a_candidate(env):
    call(env, "SegmentBox", image="img_0", box=[41, 21, 59, 39])
    assert boxes(env, "c1") == [[40, 20, 60, 40]]
    call(env, "SegmentBox", image="img_0", box=[-5, -5, 500, 9])
    width = env.episode.workspace.root.size[0]
    assert env.pool.experts["SegmentPrompts"].prompts[1].box.tolist() == [0, 0, width, 9], (
        "Experts see no side outside."
    )


def test_what_is_segmented_in_a_region_stands_in_the_frame_of_the_input(env):
    info = call(env, "ZoomRegion", image="img_0", box=[30, 10, 80, 60])
    assert "img_0_z1 (50x50, [312, 156, 833, 938] of img_0):" in info["reply"]
    call(env, "ZoomRegion", image="img_0_z1", box=[10.4, 0, 40, 39.2])
    image = env.episode.workspace.images["img_0_z1_z1"]
    assert image.size == (30, 40)
    assert image.pixels.base is not None
    call(env, "SegmentPoints", image="img_0_z1_z1", points=[[5, 5, 1]])
    assert boxes(env, "c1") == [[40, 10, 60, 30]]
    assert env.episode.workspace.candidates["c1"].prompt.inside.tolist() == [[45, 15]]
    call(env, "ZoomRegion", image="img_0", box=[0, 0, 20, 20])
    assert "img_0_z2" in env.episode.workspace.images


def test_refining_adds_and_takes_away(env):
    call(env, "SegmentPoints", image="img_0", points=[[25, 25, 1], [70, 50, 0]])
    info = call(env, "RefineCandidate", candidate="c1", image="img_0", points=[[50, 30, 1], [25, 25, 0]])
    assert "made from c1" in info["reply"]
    mask = mask_of(env, "c2").to_dense()[0]
    assert mask.sum() == 2 * 400 - 100, "A cell was added, and the least that the other point means taken away."
    assert not mask[20:30, 20:30].any()
    assert mask[20:40, 40:60].all()
    added = env.pool.experts["SegmentPrompts"].prompts[1]
    assert added.points.tolist() == [[50, 30], [25, 25], [70, 50]], "Earlier points beside it still count."
    assert added.labels.tolist() == [1, 0, 0]
    assert env.episode.workspace.candidates["c2"].made_from == "c1"
    assert boxes(env, "c1") == [[20, 20, 40, 40]], "The old candidate is still there."


def test_refining_works_on_a_region_too(env):
    call(env, "SegmentPoints", image="img_0", points=[[25, 25, 1]])
    call(env, "ZoomRegion", image="img_0", box=[40, 20, 90, 60])
    call(env, "RefineCandidate", candidate="c1", image="img_0_z1", points=[[5, 5, 1]])
    assert boxes(env, "c2") == [[20, 20, 60, 40]]


def test_candidates_are_compared(env):
    call(env, "SegmentPoints", image="img_0", points=[[25, 25, 1]])
    call(env, "RefineCandidate", candidate="c1", image="img_0", points=[[50, 30, 1]])
    info = call(env, "CompareCandidates", candidates=["c1", "c2"])
    assert "IoU of the two: 0.50." in info["reply"]
    assert "0% of c1 is not in the other." in info["reply"]
    assert "50% of c2 is not in the other." in info["reply"]
    assert "[image c1_c2_visual]" in info["reply"]
    assert call(env, "CompareCandidates", candidates=["c1"])["error"]["code"] == "not_two"


def test_a_candidate_is_shown_over_a_region(env):
    call(env, "SegmentPoints", image="img_0", points=[[25, 25, 1]])
    call(env, "ZoomRegion", image="img_0", box=[30, 10, 80, 60])
    call(env, "ShowCandidate", candidate="c1", image="img_0_z1")
    picture = env.episode.visible()[-1]
    assert picture.size == (50, 50)
    assert picture.overlay.detections.boxes.tolist() == [[0, 10, 10, 30]]


def test_submitting_ends_the_episode(env):
    call(env, "SegmentPoints", image="img_0", points=[[25, 25, 1]])
    target = env.episode.truth.target
    iou = mask_iou(mask_of(env, "c1"), target)
    info = call(env, "SubmitCandidate", candidate="c1")
    assert info["termination"] == "answer"
    assert info["outcome"]["answer"] == "c1"
    assert info["metrics"]["gIoU"] == pytest.approx(iou)
    assert info["reward_terms"] == pytest.approx({"format": 0, "process": 0, "final": iou})


def test_what_is_not_submitted_does_not_count(env):
    paid = env.step(ToolCall("SegmentPoints", {"image": "img_0", "points": [[25, 25, 1]]}))[1]
    iou = mask_iou(mask_of(env, "c1"), env.episode.truth.target)
    assert paid == pytest.approx(0.5 * iou), "The improvement is paid as it is made."
    _, reward, _, _, info = env.step(Answer("done"))
    assert reward == 0
    assert info["metrics"]["gIoU"] == 0


def test_bad_calls_are_turns_that_say_what_is_right(env):
    for code, name, arguments in (
        ("missing_candidate", "SubmitCandidate", {"candidate": "c1"}),
        ("no_point_inside", "SegmentPoints", {"image": "img_0", "points": [[5, 5, 0]]}),
        ("outside", "SegmentPoints", {"image": "img_0", "points": [[5, 500, 1]]}),
        ("outside", "SegmentBox", {"image": "img_0", "box": [900, 900, 990, 990]}),
        ("outside", "SegmentBox", {"image": "img_0", "box": [-9, 5, 0, 20]}),
        ("too_small", "ZoomRegion", {"image": "img_0", "box": [0, 0, 5, 5]}),
        ("too_small", "ZoomRegion", {"image": "img_0", "box": [900, 900, 990, 990]}),
        ("missing_image", "ShowCandidate", {"candidate": "c1", "image": "img_7"}),
    ):
        info = call(env, name, **arguments)
        expected = "missing_candidate" if name == "ShowCandidate" else code
        assert info["error"]["code"] == expected, name
    call(env, "SegmentPoints", image="img_0", points=[[25, 25, 1]])
    info = call(env, "RefineCandidate", candidate="c1", image="img_0", points=[[25, 25, 0], [35, 35, 0]])
    assert info["error"] is None
    assert env.episode.turns == 10


def test_nothing_left_is_no_candidate():
    class Whole(Halves):
        def answer(self, request):
            found = super().answer(request)
            return Candidates(tuple(masks[[0, 0]] for masks in found.masks), found.scores)

    env = gym.make(ENV_ID, dataset=SquareDataset(), experts=Whole()).unwrapped
    env.reset(options={"index": 0})
    call(env, "SegmentPoints", image="img_0", points=[[25, 25, 1]])
    info = call(env, "RefineCandidate", candidate="c1", image="img_0", points=[[25, 25, 0]])
    assert info["error"]["code"] == "nothing_there"
    assert list(env.episode.workspace.candidates) == ["c1"]


def test_an_expert_that_fails_makes_the_episode_invalid():
    env = gym.make(ENV_ID, dataset=SquareDataset(), experts=BrokenExpert()).unwrapped
    env.reset(options={"index": 0})
    _, reward, terminated, truncated, info = env.step(
        ToolCall("PhraseToPoint", {"images": ["img_0"], "phrase": "fail"})
    )
    assert (reward, terminated, truncated) == (0, False, True)
    assert info["invalid"]


def test_discrete_clicks_walk_through_the_points_that_were_found():
    env = gym.make(ENV_ID, split="val", difficulty=2, experts="oracle", action_mode="discrete").unwrapped
    tools = [spec.name for spec in env.specs]

    def act(name, mode=0):
        return env.step(np.array([tools.index(name), 0, 0, mode, 0, 0]))[4]

    several = next(i for i in range(50) if len(env.dataset.get(i).truth.target or ()) == 3)
    env.reset(options={"index": several})
    act("PhraseToPoint")
    act("SegmentPoints", mode=2)
    for _ in range(2):
        act("RefineCandidate", mode=2)
    info = act("SubmitCandidate")
    assert info["metrics"]["gIoU"] == 1


@pytest.mark.slow
def test_several_turns_beat_one_prompt():
    """Over the pixels alone: refining by at least 0.1 gIoU, where it is hard."""
    means = {}
    for name in ("single", "scripted"):
        env = gym.make(ENV_ID, split="val", difficulty=2, obs="features")
        ends = list(rollout(env, make_policy(name), episodes=100, seed=0))
        means[name] = np.mean([end.metrics["gIoU"] for end in ends])
    assert means["scripted"] > means["single"] + 0.1


def test_text_turns_play_it():
    env = gym.make(ENV_ID, dataset=SquareDataset(), experts=BrightExpert(), action_mode="text").unwrapped
    env.reset(options={"index": 0})
    system = env.episode.messages()[0]["content"][0]["text"]
    assert "submit the best one" in system
    assert "You have 10 turns" in system
    call = '{"name": "SegmentBox", "arguments": {"image": "img_0", "box": [0, 0, 1000, 1000]}}'
    *_, info = env.step(f"<think></think><tool_call>{call}</tool_call>")
    assert info["error"] is None
    assert list(env.episode.workspace.candidates) == ["c1"]
