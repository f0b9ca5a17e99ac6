"""Text observations and recording, with any loop."""

import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from tests.stubs import BrightExpert, SquareDataset
from visenv.errors import InvalidData
from visenv.wrappers import RecordTrajectories, TextObservation

FIND = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "square"}}
MERGE = {"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}}
ANSWER = {"name": "Answer", "arguments": {"text": "one"}}


def make(**keywords):
    return gym.make("VisHarness/ReasonSeg-v0", dataset=SquareDataset(), experts=BrightExpert(), **keywords)


def play(env, index=0, calls=(FIND, MERGE, ANSWER)):
    env.reset(seed=0, options={"index": index})
    for call in calls:
        env.step(call)


@pytest.mark.parametrize("mode", ["structured", "text", "discrete"])
def test_text_observation_passes_the_env_checker(mode):
    env = TextObservation(make(action_mode=mode, render_mode="rgb_array"))
    check_env(env, skip_render_check=True)
    assert env.observation_space == pickle.loads(pickle.dumps(env.observation_space))


def test_text_observation_shows_what_is_in_view_at_full_size():
    env = TextObservation(make())
    observation, info = env.reset(options={"index": 1})
    assert observation["query"] == info["query"]
    assert observation["reply"] == ""
    np.testing.assert_array_equal(observation["images"][0], env.unwrapped.episode.workspace.root.pixels)
    observation, _, _, _, info = env.step(FIND)
    assert observation["reply"] == info["reply"]
    assert len(observation["images"]) == 1
    observation, *_ = env.step(MERGE)
    assert observation["images"] == ()
    assert env.observation_space.contains(observation)


def test_text_observation_pickles_in_the_middle_of_an_episode():
    env = TextObservation(make())
    play(env, calls=(FIND,))
    twin = pickle.loads(pickle.dumps(env))
    assert twin.step(MERGE)[4]["reply"] == env.step(MERGE)[4]["reply"]


def test_wrappers_want_an_environment_of_visenv(tmp_path):
    other = gym.make("CartPole-v1")
    with pytest.raises(InvalidData, match="VisionToolEnv"):
        TextObservation(other)
    with pytest.raises(InvalidData, match="VisionToolEnv"):
        RecordTrajectories(other, tmp_path)


def test_every_finished_episode_is_one_line_at_once(tmp_path):
    env = RecordTrajectories(make(), tmp_path)
    lines = []
    for index in range(2):
        play(env, index)
        lines = (tmp_path / "trajectories.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == index + 1
    record = json.loads(lines[1])
    episode = env.unwrapped.episode
    assert record["episode"] == 1
    assert record["sample_id"] == "squares/1"
    assert [turn["name"] for turn in record["turns"]] == ["PhraseToBoxMask", "MergeBoxMask", "Answer"]
    assert record["turns"][0]["arguments"] == FIND["arguments"]
    assert record["turns"][0]["reply"] == episode.transcript[0].reply
    assert record["turns"][0]["archived"] == ["img_0"]
    assert record["reward"] == pytest.approx(sum(sum(turn["reward_terms"].values()) for turn in record["turns"]))
    assert record["metrics"]["gIoU"] == 1.0
    assert record["outcome"]["masks"] == episode.outcome.detections.masks.to_coco_rles()
    assert record["truth"]["target"] == episode.truth.target.to_coco_rles()
    paths = record["pictures"] + record["turns"][0]["pictures"] + list(record["result_pictures"].values())
    assert len(paths) == 4
    assert all((tmp_path / path).read_bytes()[:2] == b"\xff\xd8" for path in paths)
    env.close()
    env.close()
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["episodes"] == 2
    assert summary["metrics"]["gIoU"] == 1.0
    assert summary["metrics"]["gIoU_n"] == 2
    assert summary["terminations"] == {"answer": 2}
    assert summary["tools"] == {"Answer": 2, "MergeBoxMask": 2, "PhraseToBoxMask": 2}
    assert summary["settings"]["env_id"] == "VisHarness/ReasonSeg-v0"
    assert (tmp_path / "index.html").is_file()


def test_an_episode_that_did_not_end_is_left_out(tmp_path):
    env = RecordTrajectories(make(), tmp_path, page=None)
    play(env, 2, calls=(FIND,))
    play(env, 0)
    env.close()
    records = [json.loads(line) for line in (tmp_path / "trajectories.jsonl").read_text().splitlines()]
    assert [record["sample_id"] for record in records] == ["squares/0"]
    assert len(list((tmp_path / "pictures").rglob("*.jpg"))) == 4
    assert not (tmp_path / "index.html").exists()


def test_a_run_is_not_overwritten_by_accident(tmp_path):
    env = RecordTrajectories(make(), tmp_path)
    play(env)
    play(env, 1)
    env.close()
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidData, match="a run in"):
        RecordTrajectories(make(), tmp_path)
    again = RecordTrajectories(make(), tmp_path, overwrite=True, pictures=False)
    play(again)
    again.close()
    assert len((tmp_path / "trajectories.jsonl").read_text().splitlines()) == 1
    assert not list((tmp_path / "pictures").rglob("*.jpg"))
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidData, match="Cannot write to"):
        RecordTrajectories(make(), tmp_path / "file" / "run")


def test_faults_and_hostile_text_are_recorded(tmp_path):
    env = RecordTrajectories(make(action_mode="text", max_turns=2), tmp_path)
    env.reset(seed=0)
    env.step("<think>\ud800</think> nonsense")
    env.step(b"\xff\xfe")
    env.close()
    record = json.loads((tmp_path / "trajectories.jsonl").read_text(encoding="utf-8"))
    assert record["termination"] == "max_turns"
    assert all(turn["error"]["code"] for turn in record["turns"])
    assert json.loads((tmp_path / "summary.json").read_text())["totals"]["errors"] == 2


def test_record_video_takes_the_frames(tmp_path):
    env = gym.wrappers.RecordVideo(make(render_mode="rgb_array"), str(tmp_path), episode_trigger=lambda _: True)
    play(env)
    env.close()
    videos = list(tmp_path.glob("*.mp4"))
    assert len(videos) == 1
    assert videos[0].stat().st_size > 500
