"""Several environments at once over a stub of a data set, and what they are told to do."""

import gymnasium as gym
from stubs import BrightExpert, CountingReward, SquareDataset

import visenv  # noqa: F401 - registers the ids

GROUND = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "square"}}
MERGE = {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}
FAIL = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "fail"}}


def make(num_envs=3, **keywords):
    defaults = {"dataset": SquareDataset(), "experts": BrightExpert(), "reward": CountingReward()}
    return gym.make_vec("VisHarness/ReasonSeg-v0", num_envs=num_envs, **(defaults | keywords))


def single(**keywords):
    defaults = {"dataset": SquareDataset(), "experts": BrightExpert(), "reward": CountingReward()}
    return gym.make("VisHarness/ReasonSeg-v0", disable_env_checker=True, **(defaults | keywords))
