"""One body over every registered environment."""

import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import RecordVideo
from stubs import BrightExpert, CornerExpert, FewSamples

import visenv  # noqa: F401 - registers the ids
from visenv.builtin import ENVIRONMENTS
from visenv.protocol.messages import check_messages

MODES = ("structured", "text", "discrete")
IDS = sorted(ENVIRONMENTS)


def test_the_five_ids_are_registered():
    names = ("DenseDet", "GRefSeg", "ReasonSeg", "RefCount", "RefSeg")
    assert {f"VisHarness/{name}-v0" for name in names} <= {spec.id for spec in gym.registry.values()}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_gymnasiums_checker_passes(env_id, mode):
    check_env(gym.make(env_id, action_mode=mode, experts=BrightExpert(), render_mode="rgb_array").unwrapped)


@pytest.mark.filterwarnings("ignore:Your observation:UserWarning")
@pytest.mark.parametrize("env_id", IDS)
def test_stable_baselines_checker_passes(env_id):
    from stable_baselines3.common.env_checker import check_env as check_for_sb3

    check_for_sb3(gym.make(env_id, action_mode="discrete", experts=BrightExpert()))


@pytest.mark.parametrize("env_id", IDS)
def test_an_environment_pickles_in_mid_episode(env_id):
    env = gym.make(env_id, action_mode="discrete").unwrapped
    env.reset(seed=4)
    env.step(np.array([0, 0, 0, 0, 0, 0]))
    twin = pickle.loads(pickle.dumps(env))
    for action in ([1, 0, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0], [6, 0, 0, 0, 0, 0]):
        ours, theirs = env.step(np.array(action)), twin.step(np.array(action))
        assert ours[1:] == theirs[1:]
        for key, value in ours[0].items():
            np.testing.assert_array_equal(value, theirs[0][key])


def solve(env, index):
    """What the oracle policy does."""
    _, info = env.reset(options={"index": index})
    call = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": info["query"]}}
    info = env.step(call)[4]
    if env.unwrapped.episode.workspace.detections:
        env.step({"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}})
    return env.step({"name": "Answer", "arguments": {"text": "done"}})


@pytest.mark.parametrize("difficulty", [0, 1, 2, 3])
@pytest.mark.parametrize("env_id", IDS)
def test_every_task_can_be_solved(env_id, difficulty):
    env = gym.make(env_id, split="val", difficulty=difficulty, experts="oracle")
    highest = env.unwrapped.config.reward.bounds[1]
    for index in range(6):
        reward = solve(env, index)[1]
        assert reward == pytest.approx(highest), env.unwrapped.episode.sample_id


@pytest.mark.parametrize("env_id", IDS)
def test_an_empty_answer_is_right_only_where_nothing_is_due(env_id):
    env = gym.make(env_id, split="val")
    for index in range(30):
        env.reset(options={"index": index})
        _, reward, _, _, info = env.step({"name": "Answer", "arguments": {"text": "nothing there"}})
        null = env.unwrapped.episode.truth.is_null
        assert reward == (5.0 if null else -3.0)
        if "gIoU" in info["metrics"]:
            assert info["metrics"]["gIoU"] == float(null)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_random_actions_never_raise_and_stay_in_the_space(env_id, mode):
    play_at_random(env_id, mode, steps=340, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_many_random_actions(env_id, mode):
    play_at_random(env_id, mode, steps=6_700, seed=2)


def play_at_random(env_id, mode, steps, seed):
    """With a stub expert and few scenes: it is the core that is tried."""
    scenes = FewSamples(gym.make(env_id).unwrapped.dataset, 4)
    env = gym.make(
        env_id,
        dataset=scenes,
        action_mode=mode,
        experts=CornerExpert(),
        toolset="full",
        memory="last_k:3",
        max_turns=25,
    )
    env.action_space.seed(seed)
    obs, _ = env.reset(seed=seed)
    for _ in range(steps):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert obs in env.observation_space
        assert not truncated
        assert np.isfinite(reward)
        assert len(info["reply"]) < 20_000
        if terminated:
            low, high = env.unwrapped.config.reward.bounds
            assert low <= reward <= high
            check_messages(env.unwrapped.episode.messages())
            env.reset()


PLAY = """
import hashlib
import gymnasium as gym, visenv
from visenv.builtin import ENVIRONMENTS
for env_id in ENVIRONMENTS:
    env = gym.make(env_id, action_mode="discrete")
    env.action_space.seed(3)
    digest = hashlib.sha256(repr(env.reset(seed=3)[1]).encode())
    for _ in range(12):
        obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
        digest.update(b"".join(array.tobytes() for array in obs.values()) + repr((reward, terminated, info)).encode())
        if terminated or truncated:
            digest.update(repr(env.reset()[1]).encode())
    print(env_id, digest.hexdigest())
"""


def test_two_processes_give_the_same_bytes():
    outputs = [subprocess.run([sys.executable, "-c", PLAY], capture_output=True, text=True, check=True) for _ in "ab"]
    assert outputs[0].stdout == outputs[1].stdout
    assert len(outputs[0].stdout.splitlines()) == len(ENVIRONMENTS)


def test_gymnasium_records_a_video(tmp_path):
    env = gym.make("VisHarness/ReasonSeg-v0", render_mode="rgb_array", experts="oracle", split="val")
    env = RecordVideo(env, str(tmp_path / "videos"), episode_trigger=lambda episode: True, disable_logger=True)
    solve(env, 0)
    env.close()
    assert list(tmp_path.glob("videos/*.mp4"))
