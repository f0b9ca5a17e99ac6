"""Published rewards on recorded episodes: by hand, replayed, and as the script compares them."""

import importlib.util
import json
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

import visenv  # noqa: F401 - registers the environments
from visenv.errors import InvalidData
from visenv.evaluation.published import REWARDS, Played, published_rewards, rank_correlations, read_played, replay
from visenv.masks import Masks
from visenv.policies import make_policy, rollout
from visenv.types import AnswerTruth, BoxesTruth, Detections, MaskTruth, Outcome
from visenv.wrappers.recording import RecordTrajectories
from visenv.wrappers.text import vision_env

ROOT = Path(__file__).resolve().parent.parent
SIZE = (100, 50)
TRUTH = MaskTruth(Masks.from_boxes([[0, 0, 40, 40]], SIZE[::-1]))
NOTHING = MaskTruth(None)


def turn(name="PhraseToBoxMask", error=None):
    return {"name": name, "arguments": {}, "error": error}


def masks(*boxes):
    return Detections(np.array(boxes, float), Masks.from_boxes(boxes, SIZE[::-1]))


def played(detections=None, truth=TRUTH, turns=(), answer="done", termination="answer", sample="a", **keywords):
    return Played(sample, Outcome(detections, answer, termination, len(turns)), truth, SIZE, list(turns), **keywords)


def test_a_region_by_hand():
    # 40 x 30 of 40 x 40: an IoU of 0.75.
    half = played(
        masks([0, 0, 40, 30]), turns=[turn(), turn("MergeBoxMask"), turn("Answer")], ious=(0, 0.75, 0.75), made=(0.75,)
    )
    (paid,) = published_rewards([half])
    base = (0.75 + 1.5 / 1.75) / 2
    assert paid == pytest.approx(
        {
            "VisHarness": 3.0,
            "RSAgent-style": 0.75 + 0.5 * 0.75,
            "MedSAM-Agent": 0.2 + 0.8 * (base - 0.01),
            # In the 840 x 840 frame the lower side is 168 pixels off: 42 on average.
            "Seg-Zero (boxes)": 1.0,
            # 2.5 pixels on average, and the middles 5 pixels apart.
            "VisionReasoner (match)": 3.0,
            "VLM-R1": 0.6,  # IoU 0.75 reaches six of ten thresholds.
            "DeepEyes": 2.0,
            "Pixel-Reasoner": 1.0 - 0.05,
            "IMAgent-style": 1.0,
        }
    )


def test_nothing_there_by_hand():
    right, silent = (
        played(truth=NOTHING, turns=[turn("Answer")], ious=(0.0,), made=()),
        played(truth=NOTHING, answer=None, termination="max_turns", turns=[turn()], ious=(0.0,), made=(), sample="b"),
    )
    said, unsaid = published_rewards([right, silent])
    assert said == pytest.approx(
        {
            "VisHarness": 5.0, "RSAgent-style": 1.0, "MedSAM-Agent": 0.1, "VisionReasoner (match)": 0.0, "VLM-R1": 1.0,
            "DeepEyes": 0.8, "Pixel-Reasoner": 1.0, "IMAgent-style": 1.0,
        }
    )  # fmt: skip
    assert unsaid == pytest.approx(
        {"VisHarness": -3.0} | {name: 0.0 for name in said if name != "VisHarness"} | {"MedSAM-Agent": 0.0}
    )


def test_malformed_and_failed_turns_are_told_apart():
    wrong = {"code": "no_boxes", "message": "…"}
    episode = played(
        masks([0, 0, 40, 40]), turns=[turn(None, wrong), turn(error=wrong), turn("Answer")], ious=(0, 0, 1), made=(1,)
    )
    assert (episode.calls, episode.malformed, episode.broken) == (0, 1, True)
    (paid,) = published_rewards([episode])
    assert paid["RSAgent-style"] == pytest.approx(1.0 + 0.5 - 0.1)
    assert paid["DeepEyes"] == pytest.approx(0.8 - 0.2), "A call that failed is no use of a tool."
    assert paid["Pixel-Reasoner"] == 0.0
    assert not played(turns=[turn(error=wrong), turn(), turn("Answer")]).broken, "Mended."


def test_episodes_about_one_sample_are_a_group():
    with_tool = [played(masks([0, 0, 40, 40]), turns=[turn(), turn("Answer")])]
    without = [played(turns=[turn("Answer")]) for _ in range(4)]
    paid = published_rewards([*with_tool, *without])
    # 1 of 1 with, 0 of 4 without; a fifth used it: (0.3 - 0.2) / 2 / 0.2 · 0.25.
    assert [terms["IMAgent-style"] for terms in paid] == [1.5, 0, 0, 0, 0]
    assert paid[0]["Pixel-Reasoner"] == pytest.approx(1.0625)
    apart = published_rewards([*with_tool, played(turns=[turn("Answer")], sample="b")])
    assert apart[0]["IMAgent-style"] == apart[0]["Pixel-Reasoner"] == 1.0


def test_boxes_and_texts_by_hand():
    boxes = played(Detections([[0, 0, 10, 10]], labels=("car",)), truth=BoxesTruth([[0, 0, 10, 10]], ("car",)))
    searched = [turn("Search"), turn("ImageSearch"), turn("Answer")]
    text = played(truth=AnswerTruth(("red tower",)), answer="tower", turns=searched, sample="b")
    exact = played(truth=AnswerTruth(("red tower",)), answer="Red tower.", turns=searched, sample="c")
    found, partly, whole = published_rewards([boxes, text, exact])
    assert found["VLM-R1"] == 1.0
    assert found["VisionReasoner (match)"] == 3.0
    assert "Seg-Zero (boxes)" not in found
    assert partly["Visual-ARFT (search)"] == pytest.approx(2 / 3 + 1)
    assert partly["MMSearch-R1"] == pytest.approx(0.1)
    assert whole["MMSearch-R1"] == pytest.approx(0.81 + 0.1)
    assert whole["DeepEyes"] == pytest.approx(2.0)


def test_a_search_that_was_not_carried_out_is_none_and_bad_form():
    turns = [turn("Search", {"code": "wrong_argument", "message": "…"}), turn("Answer")]
    (paid,) = published_rewards([played(truth=AnswerTruth(("red",)), answer="red", turns=turns)])
    assert paid["Visual-ARFT (search)"] == 1.0
    assert paid["MMSearch-R1"] == pytest.approx(0.9)


def test_calls_in_one_block_are_calls(tmp_path):
    """Or a model of VipAct's grammar would be charged for one, however many it makes."""
    env_id, calls = "VisHarness/Blink-v0", 'recall_image(image="img_0")'
    env = RecordTrajectories(gym.make(env_id, split="val", action_mode="text", dialect="vipact"), tmp_path)
    for block in (f"{calls}\n{calls}\n{calls}", f'{calls}\nrecall_image(image="img_9")'):
        env.reset(options={"index": 1})
        env.step(f"Thought: a\nAction Input:\n```python\n{block}\n```")
        env.step(f"Thought: b\nFinal Answer: {env.unwrapped.episode.truth.answers[0]}")
    env.close()
    records = [json.loads(line) for line in (tmp_path / "trajectories.jsonl").read_text().splitlines()]
    several, single = (read_played(record) for record in records)
    assert (several.calls, several.clean, single.calls) == (3, True, 1)
    paid = published_rewards([several, single])
    assert [terms["Pixel-Reasoner"] for terms in paid] == pytest.approx([1 - 2 * 0.05, 1.0])


def test_mending_by_hand():
    named = {"name": "NameProblems", "arguments": {"problems": ["rotation90"]}, "error": None}
    common = {"truth": AnswerTruth(("a red car",)), "damage": ("rotation90", "dark")}
    half = played(turns=[named, turn("RunCode"), turn("Answer")], answer="car", **common)
    silent = played(turns=[turn(None, {"code": "cut"})], answer=None, termination="max_turns", sample="b", **common)
    fine = played(turns=[turn("Answer")], truth=AnswerTruth(("2",)), damage=(), answer="2", sample="c")
    paid = published_rewards([half, silent, fine])
    # One word of two: an F1 of 2/3. Nothing is named in the others, and nothing run.
    assert [terms["Visual-ARFT (coding)"] for terms in paid] == pytest.approx([0.5 + 0.9 + 2 / 3 + 1, 0.0, 2.0])
    assert not any({"MMSearch-R1", "Visual-ARFT (search)"} & terms.keys() for terms in paid)


def test_what_is_read_of_a_damaged_picture_needs_no_picture():
    truth = {"type": "image", "width": 9, "height": 9, "damage": ["dark"], "answers": []}
    outcome = {"boxes": None, "answer": "done", "termination": "answer", "turns": 1}
    record = {"sample_id": "a", "truth": truth, "outcome": outcome, "images": [{"width": 9, "height": 9}]}
    episode = read_played({**record, "turns": [turn("Answer")]})
    assert episode.damage == ("dark",)
    # Without a question, an answer is right: its F1 and its form.
    assert published_rewards([episode])[0]["Visual-ARFT (coding)"] == 2.0


@pytest.mark.parametrize(
    ("name", "reward", "settings"),
    [
        ("Visual-ARFT (search)", "arft_search", {}),
        ("MMSearch-R1", "mmsearch_r1", {}),
        ("Visual-ARFT (coding)", "arft_coding", {"experts": "oracle"}),
    ],
)
def test_what_is_paid_in_an_environment_is_what_is_computed_afterwards(tmp_path, name, reward, settings):
    env_id = "VisHarness/MATCoding-v0" if reward == "arft_coding" else "VisHarness/MATSearch-v0"
    env = RecordTrajectories(gym.make(env_id, split="val", difficulty=0, reward=reward, **settings), tmp_path)
    for policy in ("random", "scripted"):
        list(rollout(env, make_policy(policy), episodes=3, seed=3))
    env.close()
    records = [json.loads(line) for line in (tmp_path / "trajectories.jsonl").read_text().splitlines()]
    paid = published_rewards([read_played(record) for record in records])
    assert [terms[name] for terms in paid] == pytest.approx([record["reward"] for record in records])
    assert len({round(terms[name], 3) for terms in paid}) > 1


def test_an_invalid_episode_pays_nothing_and_is_in_no_group():
    broken = played(masks([0, 0, 40, 40]), termination="invalid", turns=[turn()])
    paid = published_rewards([broken, played(turns=[turn("Answer")])])
    assert paid[0] == {}
    assert paid[1]["IMAgent-style"] == 0.0


def test_rank_correlations_by_hand():
    rewards = [{"a": 1, "b": 10, "c": 5}, {"a": 2, "b": 30, "c": 5}, {"a": 3, "b": 20, "c": 5}, {"a": 9}]
    found = rank_correlations(rewards, ["a", "b", "c"])
    # Ranks 1 2 3 and 1 3 2: 1 - 6 · 2 / (3 · 8).
    assert found[0, 1] == found[1, 0] == pytest.approx(0.5)
    assert found[0, 0] == 1.0
    assert np.isnan(found[:, 2]).all()
    assert rank_correlations([], ["a"]).shape == (1, 1)


def recorded(folder, actions, index=3):
    env = gym.make("VisHarness/GRefSeg-v0", difficulty=2, experts="oracle", split="val")
    with RecordTrajectories(env, folder, {"policy": "by hand"}, pictures=False, page=None) as recorder:
        recorder.reset(options={"index": index})
        for action in actions:
            recorder.step(action)
        recorder.recorder.close()
    return read_played(json.loads((Path(folder) / "trajectories.jsonl").read_text("utf-8")))


def call(name, **arguments):
    return {"name": name, "arguments": {"images": ["img_0"], **arguments}}


def test_replay_sees_the_result_after_each_turn(tmp_path):
    env = vision_env(gym.make("VisHarness/GRefSeg-v0", difficulty=2, experts="oracle", split="val"))
    for index in range(12):
        env.reset(options={"index": index})
        if not env.episode.truth.is_null:
            break
    actions = [call("PhraseToBoxMask", phrase="it"), call("MergeBoxMask"), "neither", call("Nothing")]
    episode = recorded(tmp_path / "run", [*actions, {"name": "Answer", "arguments": {"text": "done"}}], index)
    again = replay(episode, env)
    assert episode.ious is None
    assert again.ious == (0.0, 1.0, 1.0, 1.0, 1.0)
    assert again.made == (1.0,)
    assert (again.calls, again.malformed) == (2, 1)
    other = vision_env(gym.make("VisHarness/GRefSeg-v0", difficulty=2, experts="oracle", split="val", max_turns=3))
    with pytest.raises(InvalidData, match="as the run's was"):
        replay(episode, other)


@pytest.mark.parametrize(
    "wrong", [{}, {"outcome": None}, {"images": []}, {"turns": [{"name": "Answer"}]}, {"truth": {}}]
)
def test_a_broken_line_is_said_to_be_one(tmp_path, wrong):
    recorded(tmp_path / "run", [{"name": "Answer", "arguments": {"text": "none"}}])
    record = json.loads((tmp_path / "run" / "trajectories.jsonl").read_text("utf-8"))
    with pytest.raises(InvalidData, match="broken"):
        read_played({**record, **wrong} if wrong else {})


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("compare_rewards", ROOT / "scripts" / "compare_rewards.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def play(folder, policy):
    """A folder as `visenv rollout` writes it."""
    settings = {"dataset": "scenes", "split": "val", "difficulty": 2, "experts": "oracle"}
    env = gym.make("VisHarness/GRefSeg-v0", **settings)
    run = {"env_id": "VisHarness/GRefSeg-v0", "policy": policy, **settings, "seed": 0}
    with RecordTrajectories(env, folder, run, pictures=False, page=None) as recorder:
        list(rollout(recorder, make_policy(policy), episodes=6, seed=0))
        recorder.recorder.close()
    return str(folder)


def test_the_script_compares_runs_as_a_table_and_a_plot(script, tmp_path, capsys):
    runs = [play(tmp_path / policy, policy) for policy in ("random", "oracle")]
    script.main([*runs, "--out", str(tmp_path / "plot.svg")])
    first = capsys.readouterr().out
    rows = {line.split(" | ")[0].strip("| "): line for line in first.splitlines() if line.startswith("| ")}
    assert [name for name in rows if name in REWARDS] == list(REWARDS)[:9]
    assert rows["VisHarness"].split(" | ")[3:] == ["5.00", "12", "1.00", "1.00 |"]
    assert "12 episodes about 6 samples; 0 ended as invalid, 0 could not be read." in first
    script.main([*runs, "--out", str(tmp_path / "again.svg")])
    assert capsys.readouterr().out.splitlines()[:-1] == first.splitlines()[:-1]
    assert (tmp_path / "plot.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    assert b"RSAgent-style" in (tmp_path / "plot.svg").read_bytes()
    script.main([*runs, "--no-replay"])
    assert "RSAgent-style" not in capsys.readouterr().out


def test_the_script_says_what_it_cannot_read(script, tmp_path, capsys):
    with pytest.raises(SystemExit, match="Expected a folder that `visenv rollout` wrote"):
        script.main([str(tmp_path)])
    folder = play(tmp_path / "run", "oracle")
    with (tmp_path / "run" / "trajectories.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"episode": 6, "turns": [\n')
    script.main([folder])
    assert "6 episodes about 6 samples; 0 ended as invalid, 1 could not be read." in capsys.readouterr().out
