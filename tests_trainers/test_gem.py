"""GEM: its own registry, wrappers and vector environments play the environments."""

import pickle
import random

import gem
import gymnasium as gym
import numpy as np
import pytest
from gem.envs.registration import ENV_REGISTRY
from gem.utils.debug import run_and_print_episode, run_and_print_episode_with_selective_step
from gem.wrappers.episode_tracking_wrapper import EpisodeTrackingWrapper
from gem.wrappers.observation_wrapper import ObservationWrapper
from pages import failures_of
from stubs import BrightExpert, BrokenExpert, SquareDataset
from text_turns import ANSWER, FAIL, FIND, MERGE, PLAYED, SPLIT

from visenv.adapters.gem import GemEnv, register
from visenv.errors import EpisodeOver, InvalidData

ENV_ID = "VisHarness/RefSeg-v0"


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """What a test registers is gone after it."""
    monkeypatch.setattr("gem.envs.registration.ENV_REGISTRY", dict(ENV_REGISTRY))


def registered(expert=BrightExpert, **keywords):
    return register(ENV_ID, **{"dataset": SquareDataset(), "experts": expert(), **keywords})


def local(**keywords):
    settings = {"dataset": SquareDataset(), "experts": BrightExpert(), "action_mode": "text", "memory": "keep_all"}
    return gym.make(ENV_ID, **{**settings, **keywords}).unwrapped


def test_an_episode_is_what_the_local_environment_comes_to():
    env, other = gem.make(registered()), local()
    assert isinstance(env, gem.Env)
    assert env.env_id == ENV_ID
    observation, info = env.reset(seed=3)
    _, expected = other.reset(seed=3)
    assert info == expected
    assert observation.startswith("You find, segment and count objects")
    assert "PhraseToBoxMask" in observation
    assert observation.endswith("Task: the bright square on the left\nimg_0 (96x64):\n[image img_0]")
    for action in PLAYED:
        observation, *came, info = env.step(action)
        _, *expected, expected_info = other.step(action)
        assert came == expected
        assert info == expected_info
        assert info["reply"].rstrip() in observation
    assert came == [5.0, True, False]
    with pytest.raises(EpisodeOver):
        env.step(ANSWER)


def test_pictures_come_as_gems_visual_environments_give_them():
    env, other = gem.make(registered(), pictures=True), local()
    observations = [env.reset(seed=1)[0]]
    other.reset(seed=1)
    for action in (FIND, SPLIT, MERGE, ANSWER):
        observations.append(env.step(action)[0])
        other.step(action)
    seen = [np.asarray(image) for observation in observations for image in observation["images"]]
    shown = [shown.picture.pixels for shown in other.episode.pictures()]
    assert len(shown) > 3
    for one, expected in zip(seen, shown, strict=True):
        assert np.array_equal(one, expected)
    for observation in observations:
        assert observation["problem"].count("[image ") == len(observation["images"])


def test_gems_wrappers_wrap_it():
    concatenated = ObservationWrapper(gem.make(registered(), seed=0), include_chat_template=False)
    env = EpisodeTrackingWrapper(concatenated)
    first, _ = env.reset()
    env.step(FIND)
    last, _, _, _, info = env.step(MERGE)
    assert last.startswith(first)
    assert last.index(FIND) < last.index("1 box with a mask") < last.index(MERGE) < last.index("Merged:")
    assert (info["step_counter"], info["cumulative_rewards"]) == (2, 0.0)
    env.step(ANSWER)
    _, info = env.reset()
    assert (info["prev_ep_step_counter"], info["prev_ep_cumulative_rewards"]) == (3, 5.0)
    assert info["prev_ep_metrics"]["gIoU"] == 1.0
    _, info = env.reset()
    assert "prev_ep_metrics" not in info, "The episode before had no end."


@pytest.mark.parametrize("threads", [False, True])
def test_vector_environments_come_to_the_same(threads):
    """Also with every sub-environment in an episode of its own length, and actions for some of them only."""
    expert = BrightExpert()
    envs = gem.make_vec([registered(lambda: expert)] * 4, async_mode=threads, seed=7, max_turns=4)
    singles = [gem.make(ENV_ID, seed=7 + index, max_turns=4) for index in range(4)]
    assert envs.envs[0].inner.pool is singles[3].inner.pool
    observations, infos = envs.reset()
    for index, single in enumerate(singles):
        assert (observations[index], infos[index]) == single.reset()
    for turn in range(12):
        actions = {index: PLAYED[(turn + 2 * index) % len(PLAYED)] for index in range(4) if (turn + index) % 3}
        observations, rewards, terminations, truncations, infos = envs.step(actions)
        for place, (index, action) in enumerate(actions.items()):
            observation, reward, terminated, truncated, info = singles[index].step(action)
            if terminated or truncated:
                observation, info = singles[index].reset()
                assert "gIoU" in info["prev_ep_metrics"]
            assert observations[place] == observation
            assert infos[place] == info
            assert (rewards[place], terminations[place], truncations[place]) == (reward, terminated, truncated)
    assert sum(expert.batches) <= 3, "All share what the pool remembers, and there are three samples."


def test_each_environment_of_a_vector_has_samples_of_its_own_unless_they_share_a_seed():
    name = registered()
    envs = gem.make_vec([name] * 8, seed=0)
    assert len({info["sample_id"] for info in envs.reset()[1]}) > 1
    group = gem.make_vec([name] * 4, vec_kwargs=[{"seed": 5} for _ in range(4)])
    for _ in range(5):
        assert len({info["sample_id"] for info in group.reset()[1]}) == 1


def test_gems_own_runs_play_to_the_end(capsys):
    registered(max_turns=5)
    random.seed(0)
    np.random.seed(0)
    env = gem.make(ENV_ID, seed=1)
    run_and_print_episode(env, lambda _: env.sample_random_action(), max_steps=50)
    assert env.inner.episode.done
    envs = gem.make_vec([ENV_ID] * 3, seed=1, async_mode=True)

    def policy(_):
        return [env.sample_random_action() for env in envs.envs]

    run_and_print_episode_with_selective_step(envs, policy, ignore_done=True, max_steps=20)
    assert "Step 20" in capsys.readouterr().out


def test_random_actions_are_calls_and_come_from_the_seed():
    name = registered()
    first, second = gem.make(name), gem.make(name)
    first.reset(seed=4)
    second.reset(seed=4)
    drawn = [first.sample_random_action() for _ in range(20)]
    assert drawn == [second.sample_random_action() for _ in range(20)]
    assert len({text.partition('"name": ')[2][:12] for text in drawn}) > 3
    carried_out = 0
    for action in drawn:
        if first.inner.episode.done:
            first.reset()
        carried_out += first.step(action)[4]["error"] is None
    assert carried_out


def test_an_episode_is_spawned_from_where_it_stands():
    env = gem.make(registered(), seed=2)
    assert env.spawn(same_state=True).reset()[1]["sample_id"] == env.reset()[1]["sample_id"]
    env.step(FIND)
    copy, other = env.spawn(same_state=True), env.spawn(seed=2, max_turns=1)
    restored = env.spawn()
    restored.set_state(pickle.loads(pickle.dumps(env.get_state())))
    for one in (env, copy, restored):
        one.step(MERGE)
        assert one.step(ANSWER)[1:4] == (5.0, True, False)
        assert one.inner.pool is env.inner.pool
    assert copy.reset()[1]["sample_id"] == restored.reset()[1]["sample_id"] == env.reset()[1]["sample_id"]
    other.reset()
    assert other.step("so")[2]
    with pytest.raises(InvalidData, match="get_state"):
        env.set_state({})


def test_an_invalid_episode_is_cut_short_and_flagged():
    env = gem.make(registered(BrokenExpert), seed=0)
    env.reset()
    _, reward, terminated, truncated, info = env.step(FAIL)
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert "no more memory" in info["invalid"]
    assert "no more memory" in env.reset()[1]["prev_ep_invalid"]


def test_global_generators_are_left_alone():
    env = gem.make(registered())
    random.seed(1)
    np.random.seed(1)
    expected = random.random(), np.random.random()
    random.seed(1)
    np.random.seed(1)
    env.reset(seed=3)
    assert (random.random(), np.random.random()) == expected


def test_misuse_is_said():
    name = registered()
    with pytest.raises(ValueError, match="already registered"):
        registered()
    env = gem.make(name)
    assert isinstance(env.unwrapped, GemEnv)
    for misused in (env.sample_random_action, env.get_state, lambda: env.step(ANSWER)):
        with pytest.raises(EpisodeOver, match="reset"):
            misused()
    with pytest.raises(InvalidData, match="data and experts are those of all"):
        gem.make(name, split="val")


def test_the_examples_of_the_page_run():
    assert failures_of("gem") == ""
