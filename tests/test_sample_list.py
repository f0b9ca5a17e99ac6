"""A data set made of samples at hand."""

import gymnasium as gym
import numpy as np
import pytest

import visenv  # noqa: F401 - registers the environments
from tests.stubs import SquareDataset
from visenv.datasets.base import Dataset
from visenv.datasets.listed import SampleList
from visenv.errors import DatasetError, InvalidData

SAMPLES = [SquareDataset().get(index) for index in range(3)]


def test_samples_are_found_by_number_identifier_and_chance():
    listed = SampleList("squares", iter(SAMPLES), split="val")
    assert isinstance(listed, Dataset)
    assert (listed.name, listed.split, listed.size) == ("squares", "val", 3)
    assert [listed.get(index) for index in range(3)] == SAMPLES
    assert listed.find("squares/1") is SAMPLES[1]
    rng = np.random.default_rng(0)
    assert {listed.draw(rng).sample_id for _ in range(50)} == {sample.sample_id for sample in SAMPLES}


def test_what_is_not_there_is_said():
    listed = SampleList("squares", SAMPLES)
    for index in (-1, 3):
        with pytest.raises(IndexError, match="from 0 to 2"):
            listed.get(index)
    with pytest.raises(DatasetError, match="'squares' has no sample 'squares/9'"):
        listed.find("squares/9")


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "at least one sample"),
        ([SAMPLES[0], "squares/1"], r"samples\[1\] to be a visenv.types.Sample"),
        ([SAMPLES[0], SAMPLES[1], SAMPLES[0]], "samples 0 and 2 are both 'squares/0'"),
    ],
)
def test_lists_that_are_no_data_set_are_refused(samples, message):
    with pytest.raises(InvalidData, match=message):
        SampleList("squares", samples)


@pytest.mark.parametrize("action_mode", ["structured", "text", "discrete"])
def test_an_environment_takes_it_in_every_action_mode(action_mode):
    env = gym.make("VisHarness/RefSeg-v0", dataset=SampleList("squares", SAMPLES), action_mode=action_mode)
    _, info = env.reset(options={"sample_id": "squares/2"})
    assert info["sample_id"] == "squares/2"
    observation, *_ = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)
