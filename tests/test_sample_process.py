import gymnasium as gym
import numpy as np
import pytest
from stubs import SquareDataset

import visenv  # noqa: F401 - registers the ids
from visenv.datasets.scenes import make
from visenv.errors import DatasetError
from visenv.sample_process import SampleProcess


@pytest.fixture
def drawing():
    """Makes processes that draw, and ends them."""
    made = []

    def begin(dataset):
        made.append(SampleProcess(dataset))
        return made[-1]

    yield begin
    for process in made:
        process.close()


def test_another_process_draws_the_same_samples(drawing):
    scenes = make(split="train")
    process, here, there = drawing(scenes), np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(3):
        expected = scenes.draw(here)
        sample, there = process.draw(there)
        assert (sample.sample_id, sample.query, sample.metadata) == (
            expected.sample_id,
            expected.query,
            expected.metadata,
        )
        assert np.array_equal(sample.images[0], expected.images[0])
        assert sample.truth.target.to_coco_rles() == expected.truth.target.to_coco_rles()
    assert here.integers(2**60) == there.integers(2**60)
    assert process._running, "it was another process"


def test_a_data_set_that_does_not_say_that_it_can_draws_here(drawing):
    dataset = SquareDataset()
    process, rng = drawing(dataset), np.random.default_rng(0)
    sample, after = process.draw(rng)
    assert after is rng
    assert sample.sample_id == dataset.draw(np.random.default_rng(0)).sample_id
    assert not process._running


class Failing(SquareDataset):
    replicable = True

    def draw(self, rng):
        raise DatasetError("no disk")


class Unpicklable(SquareDataset):
    replicable = True

    def __reduce__(self):
        raise TypeError("not to be copied")


def test_what_goes_wrong_there_is_tried_here(drawing):
    with pytest.raises(DatasetError, match="no disk"):
        drawing(Failing()).draw(np.random.default_rng(0))
    rng = np.random.default_rng(5)
    sample, _ = drawing(Unpicklable()).draw(rng)
    assert sample.sample_id == SquareDataset().draw(np.random.default_rng(5)).sample_id


def test_a_process_that_dies_loses_no_sample(drawing):
    scenes = make(split="train")
    process, rng = drawing(scenes), np.random.default_rng(1)
    first, rng = process.draw(rng)
    process._running[0][0].kill()
    process._running[0][0].wait()
    second, rng = process.draw(rng)
    expected = np.random.default_rng(1)
    assert [first.sample_id, second.sample_id] == [scenes.draw(expected).sample_id for _ in range(2)]


def test_environments_with_processes_draw_in_one_and_end_it():
    envs = gym.make_vec("VisHarness/RefSeg-v0", num_envs=2, expert_workers=1)
    others = gym.make_vec("VisHarness/RefSeg-v0", num_envs=2)
    _, infos = envs.reset(seed=3)
    _, expected = others.reset(seed=3)
    assert infos["sample_id"].tolist() == expected["sample_id"].tolist()
    process = envs._samples._running[0][0]
    assert process.poll() is None
    envs.close()
    others.close()
    assert process.poll() is not None
