"""Policies and the loop that runs them, on generated scenes."""

import gymnasium as gym
import numpy as np
import pytest

from visenv.errors import InvalidData, UnknownName
from visenv.policies import make_policy, rollout
from visenv.policies.phrases import is_simple, needs_whole_image, target_phrase
from visenv.policies.scripted import patch_size
from visenv.tools.split import count_windows
from visenv.types import ToolCall
from visenv.wrappers.summary import RunSummary

IDS = ["ReasonSeg", "GRefSeg", "RefSeg", "DenseDet", "RefCount"]


def make(family, **keywords):
    settings = {"split": "val", "obs": "features"} | keywords
    return gym.make(f"VisHarness/{family}-v0", **settings)


def run(env, policy, episodes, seed=0):
    summary = RunSummary()
    ends = []
    for end in rollout(env, make_policy(policy), episodes=episodes, seed=seed):
        summary.add(env.unwrapped, end.reward)
        ends.append(end)
    return ends, summary.figures()


@pytest.mark.parametrize("family", IDS)
def test_the_oracle_gets_the_maximum(family):
    env = make(family, experts="oracle")
    ends, _ = run(env, "oracle", 2 if family == "DenseDet" else 6)
    assert [end.reward for end in ends] == pytest.approx([env.unwrapped.config.reward.bounds[1]] * len(ends))


@pytest.mark.parametrize("policy", ["random", "single", "scripted", "oracle"])
def test_a_policy_repeats_itself(policy):
    def actions(seed):
        env = make("ReasonSeg", difficulty=0)
        taken = []
        for _ in rollout(env, make_policy(policy), episodes=2, seed=seed):
            taken += [(turn.action, turn.reply) for turn in env.unwrapped.episode.transcript]
        return taken

    first = actions(3)
    assert first == actions(3)
    assert first != actions(4)


@pytest.mark.parametrize("mode", ["structured", "text", "discrete"])
def test_random_samples_every_action_mode_and_leaves_the_space_alone(mode):
    env = make("ReasonSeg", action_mode=mode, experts="oracle", max_turns=4)
    env.action_space.seed(7)
    expected = str(env.action_space.sample())
    env.action_space.seed(7)
    ends, figures = run(env, "random", 3)
    assert len(ends) == 3
    assert sum(figures["terminations"].values()) == 3
    assert str(env.action_space.sample()) == expected


def test_random_needs_a_reset():
    with pytest.raises(InvalidData, match=r"reset\(\)"):
        make_policy("random").act(None)


def test_scripted_uses_points_for_complex_phrases_and_boxes_for_simple_ones():
    env = make("ReasonSeg", experts="oracle")
    policy = make_policy("scripted")
    used = {}
    for end in rollout(env, policy, episodes=8, seed=0):
        used[end.query] = [turn.action.name for turn in env.unwrapped.episode.transcript[:-1]]
    for query, tools in used.items():
        expected = "PhraseToBoxMask" if is_simple(target_phrase(query)) else "PhraseToPoint"
        assert tools[0] == expected, query
    assert {tools[0] for tools in used.values()} == {"PhraseToBoxMask", "PhraseToPoint"}


def test_scripted_cuts_and_enlarges_a_picture_full_of_small_things():
    env = make("DenseDet", experts="oracle")
    ends, figures = run(env, "scripted", 1)
    tools = [turn.action.name for turn in env.unwrapped.episode.transcript if isinstance(turn.action, ToolCall)]
    assert tools == ["SplitImageIntoPatches", "SuperResolution", "PhraseToBoxMask", "MergeBoxMask"]
    assert figures["metrics"]["F1@0.50"] > 0.9
    assert ends[0].outcome.termination == "answer"


@pytest.mark.parametrize("max_turns", [3, 4, 6, 7, 10])
def test_scripted_has_a_result_at_any_number_of_turns_that_allows_one(max_turns):
    env = make("RefCount", experts="oracle", difficulty=3, max_turns=max_turns)
    ends, figures = run(env, "scripted", 2)
    assert figures["faults"] == {}
    assert all(end.outcome.turns <= max_turns for end in ends)
    assert all(end.outcome.detections is not None for end in ends)


def test_scripted_looks_at_the_whole_picture_where_it_cannot_cut_it():
    for keywords in ({"toolset": "basic"}, {"max_turns": 5}):
        env = make("DenseDet", experts="oracle", **keywords)
        _, figures = run(env, "scripted", 1)
        assert figures["faults"] == {}
        assert figures["metrics"]["F1@0.50"] == 1.0


def test_using_the_tools_well_pays():
    """The figures of docs/baselines.md, on few episodes and with wide margins."""
    single = run(make("ReasonSeg", difficulty=2), "single", 16)[1]["metrics"]["gIoU"]
    scripted = run(make("ReasonSeg", difficulty=2), "scripted", 16)[1]["metrics"]["gIoU"]
    assert scripted > single + 0.2
    assert run(make("ReasonSeg", difficulty=1), "scripted", 16)[1]["metrics"]["gIoU"] > 0.5


def test_a_finite_split_is_gone_through_without_repetition():
    env = make("RefSeg", experts="oracle")
    first, second = ([end.sample_id for end in run(env, "single", 12, seed)[0]] for seed in (0, 1))
    assert len(set(first)) == 12
    assert first != second
    assert [end.sample_id for end in run(env, "single", 12, 0)[0]] == first


def test_an_endless_split_gives_new_samples():
    ends, _ = run(make("RefSeg", experts="oracle", split="train"), "single", 6)
    assert len({end.sample_id for end in ends}) == 6


@pytest.mark.parametrize(("episodes", "seed"), [(0, 0), (1, -1)])
def test_rollout_refuses_nonsense(episodes, seed):
    with pytest.raises(InvalidData, match="at least"):
        next(rollout(make("RefSeg"), make_policy("single"), episodes=episodes, seed=seed))


def test_unknown_policies_get_a_hint():
    with pytest.raises(UnknownName, match="Did you mean 'scripted'"):
        make_policy("script")
    with pytest.raises(InvalidData, match="a policy"):
        make_policy(42)


@pytest.mark.parametrize(
    ("query", "phrase", "simple", "whole"),
    [
        ("Segment all the red cars.", "red cars", True, False),
        ("Where is the second chair from the left?", "second chair from the left", False, True),
        ("How many yellow leaves are there?", "yellow leaves", True, False),
        ("Is there a dotted clock? Mark it.", "dotted clock", False, False),
        ("Segment a kite, if there is one.", "kite", True, False),
        ("I need something that keeps the rain off.", "something that keeps the rain off", False, False),
        ("Can you please find the traffic light in this photo?", "traffic light", True, False),
        ("red", "red", False, False),
        ("???", "???", False, False),
        ("  ", "object", False, False),
        ("the the the", "the", True, False),
    ],
)
def test_queries_are_read(query, phrase, simple, whole):
    assert target_phrase(query) == phrase
    assert is_simple(phrase) is simple
    assert needs_whole_image(phrase) is whole


def test_reading_a_huge_query_is_quick_and_bounded():
    text = "find the " * 100_000
    assert target_phrase(text)
    assert not is_simple(text)


@pytest.mark.parametrize(("width", "height", "cells"), [(1280, 960, 64), (512, 512, 9), (1, 1, 1), (7, 3000, 4)])
def test_patch_size_is_the_smallest_that_fits(width, height, cells):
    size = patch_size(width, height, cells)
    assert count_windows(width, height, size) <= cells
    assert size == 1 or all(count_windows(width, height, other) > cells for other in range(max(1, size - 3), size))


def test_the_same_seed_seeds_every_episode_apart():
    env = make("RefSeg", experts="oracle", action_mode="discrete", max_turns=3)
    taken = []
    for _ in rollout(env, make_policy("random"), episodes=4, seed=np.int64(5)):
        taken.append(str([turn.action for turn in env.unwrapped.episode.transcript]))
    assert len(set(taken)) > 1
