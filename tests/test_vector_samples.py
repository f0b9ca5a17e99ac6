"""Several environments at once: which samples they play, their seeds, and draws that fail or take their time."""

import threading

import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError
from stubs import SquareDataset
from vector_envs import GROUND, MERGE, make, single

import visenv  # noqa: F401 - registers the ids
from visenv.errors import DatasetError, InvalidData
from visenv.types import Answer


def test_a_group_shares_its_samples():
    envs = make(4, group_size=2)
    _, infos = envs.reset(seed=1)
    assert envs.seeds[0] == envs.seeds[1] != envs.seeds[2] == envs.seeds[3]
    seen = [[name] for name in infos["sample_id"]]
    plans = [[Answer()] * 9, [GROUND, Answer()] * 9, [Answer()] * 9, [GROUND, MERGE, Answer()] * 9]
    for turn in range(12):
        _, _, _, _, infos = envs.step([plan[turn % len(plan)] for plan in plans])
        for index in range(4):
            if infos["turn"][index] == 0:
                seen[index].append(infos["sample_id"][index])
    assert len(seen[0]) > len(seen[1]) > 2
    assert seen[0][: len(seen[1])] == seen[1]
    assert seen[2][: len(seen[3])] == seen[3]
    with pytest.raises(InvalidData, match="multiple of group_size"):
        make(4, group_size=3)
    envs.close()


def test_seeds_are_spawned_or_used_as_given():
    envs = make(3)
    envs.reset(seed=7)
    first = envs.seeds
    assert len(set(first)) == 3
    envs.reset(seed=8)
    assert not set(first) & set(envs.seeds)
    envs.reset(seed=[4, 5, 4])
    assert envs.seeds == (4, 5, 4)
    _, infos = envs.reset(seed=[None, 9, None])
    assert envs.seeds == (4, 9, 4)
    env = single()
    env.reset(seed=4)
    assert infos["sample_id"][0] == infos["sample_id"][2] == env.reset()[1]["sample_id"]
    with pytest.raises(InvalidData, match="3 of them"):
        envs.reset(seed=[1, 2])
    envs.close()


class Unlucky(SquareDataset):
    """Cannot draw one of its samples."""

    def __init__(self, bad):
        super().__init__()
        self.bad, self.drawn, self.failed = bad, 0, threading.Event()

    def draw(self, rng):
        self.drawn += 1
        sample = super().draw(rng)
        if self.drawn == self.bad:
            self.failed.set()
            raise DatasetError("This file is broken.")
        return sample


def test_a_draw_that_fails_is_an_error_where_the_sample_is_due_and_is_passed():
    envs, env = make(1, dataset=Unlucky(2)), single(dataset=Unlucky(2))
    envs.reset(seed=[3])
    env.reset(seed=3)
    for each in (envs, env):
        with pytest.raises(DatasetError, match="broken"):
            each.reset()
    assert envs.reset()[1]["sample_id"][0] == env.reset()[1]["sample_id"]
    envs.close()


def test_a_draw_that_fails_during_a_step_leaves_everything_as_it_was():
    for mode, before in (("next_step", [1, 0]), ("same_step", [0, 0])):
        envs = make(2, dataset=Unlucky(2), autoreset_mode=mode, group_size=2)
        envs.reset(seed=0)
        if mode == "next_step":
            envs.step([Answer(), {"name": "Nope"}])
            before = [1, 1]
        with pytest.raises(DatasetError, match="broken"):
            envs.step([Answer(), GROUND])
        assert [episode.turns for episode in envs.episodes] == before
        _, rewards, terminations, _, infos = envs.step([Answer(), GROUND])
        assert rewards.tolist() == [0 if mode == "next_step" else -0.25, -0.25]
        assert terminations.tolist() == [mode == "same_step", False]
        assert infos["turn"].tolist() == [0, before[1] + 1]
        envs.close()


def test_only_those_that_a_mask_names_get_new_seeds():
    envs, env = make(2, group_size=2), single()
    envs.reset(seed=[4, 4])
    env.reset(seed=4)
    envs.reset(seed=9, options={"reset_mask": np.array([True, False])})
    assert envs.seeds[1] == 4 != envs.seeds[0]
    for _ in range(6):
        _, infos = envs.reset(options={"reset_mask": np.array([False, True])})
        assert infos["sample_id"][1] == env.reset()[1]["sample_id"]
    stream = envs._streams[1]
    assert len(stream._drawn) == 1
    envs.close()


def test_bad_seeds_change_nothing():
    envs = make(2)
    envs.reset(seed=[1, 2])
    for seed in ([3, -1], [3, "4"], -1, 1.5, True, "12"):
        with pytest.raises(InvalidData, match="Expected a seed"):
            envs.reset(seed=seed)
        assert envs.seeds == (1, 2)
    envs.reset(seed=np.array([5, 6]))
    assert envs.seeds == (5, 6)
    with pytest.raises(InvalidData, match="index"):
        envs.reset(seed=7, options={"index": 99})
    assert envs.seeds == (5, 6)
    envs.close()
    with pytest.raises(ClosedEnvironmentError, match="closed"):
        envs.reset()
    with pytest.raises(ClosedEnvironmentError, match="closed"):
        envs.step([GROUND, GROUND])


@pytest.mark.parametrize("mode", ["same_step", "next_step"])
def test_asking_for_samples_does_not_lose_a_place_in_the_stream(mode):
    envs = make(4, group_size=2, autoreset_mode=mode)
    envs.reset(seed=2)
    singles = [single() for _ in range(4)]
    for env, seed in zip(singles, envs.seeds, strict=True):
        env.reset(seed=seed)
    chance = np.random.default_rng(0)
    for _ in range(30):
        mask = chance.random(4) < 0.5
        if mask.any():
            asked = chance.random() < 0.5
            _, infos = envs.reset(options={"reset_mask": mask} | ({"index": 1} if asked else {}))
            for index in np.flatnonzero(mask):
                _, info = singles[index].reset(options={"index": 1} if asked else None)
                assert infos["sample_id"][index] == info["sample_id"]
        infos = envs.step([Answer() if chance.random() < 0.5 else GROUND for _ in range(4)])[-1]
        for index in np.flatnonzero(infos["turn"] == 0):
            assert infos["sample_id"][index] == singles[index].reset()[1]["sample_id"]
    envs.close()


class Slow(SquareDataset):
    """Draws its second sample only when it is told to."""

    def __init__(self):
        super().__init__()
        self.go, self.drawn = threading.Event(), 0

    def draw(self, rng):
        self.drawn += 1
        if self.drawn == 2:
            assert self.go.wait(10)
        return super().draw(rng)


def test_new_seeds_do_not_mind_a_draw_that_is_under_way():
    slow = Slow()
    envs, env = make(1, dataset=slow), single()
    envs.reset(seed=np.array([1]))
    timer = threading.Timer(0.05, slow.go.set)
    timer.start()
    _, infos = envs.reset(seed=[2])
    assert slow.go.is_set()
    assert infos["sample_id"][0] == env.reset(seed=2)[1]["sample_id"]
    for _ in range(4):
        assert envs.reset()[1]["sample_id"][0] == env.reset()[1]["sample_id"]
    timer.join()
    envs.close()


def test_an_error_of_a_draw_that_nobody_needs_is_nobodys():
    dataset = Unlucky(2)
    envs = make(1, dataset=dataset)
    envs.reset(seed=[3])
    assert dataset.failed.wait(timeout=30)
    for index in (0, 2, 1):
        assert envs.reset(options={"index": index})[1]["sample_id"][0] == f"squares/{index}"
    assert envs.reset(seed=[4])[1]["turn"][0] == 0
    envs.close()
