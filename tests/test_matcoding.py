"""Mending pictures by programs: what is damaged and asked, what programs do, and what is paid for it."""

import json
import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandbox_programs import needs_bubblewrap
from stubs import SquareDataset

from visenv.capabilities import Ran
from visenv.datasets.damage import DAMAGES, damage
from visenv.datasets.damaged_scenes import ANSWERS, DamagedPictures, DamagedScenes
from visenv.datasets.matcoding import MatCoding
from visenv.envs.mending import STEPS, discrete_programs, program, repair
from visenv.errors import DatasetError, InvalidData
from visenv.images import to_png_bytes
from visenv.policies import make_policy
from visenv.policies.plans.matcoding import diagnose
from visenv.rewards import visual_arft
from visenv.rewards.functional import colour_error, edge_error, likeness, mending
from visenv.rewards.matcoding import MATCodingReward
from visenv.rewards.metrics import MendedPictures
from visenv.rewards.visual_arft import ArftCodingReward
from visenv.tools import coding
from visenv.types import AnswerTruth, ImageTruth, MaskTruth, Outcome, ToolCall, Turn
from visenv.workspace import Effect, NamedImage, Workspace

ID = "VisHarness/MATCoding-v0"


def picture(seed=0, height=40, width=48):
    """A few bright boxes on a grey ground."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 90, np.uint8)
    for _ in range(6):
        x, y = rng.integers(0, width - 10), rng.integers(0, height - 10)
        pixels[y : y + 9, x : x + 9] = rng.integers(0, 256, 3)
    return pixels


# --- how near a picture is --------------------------------------------------------------------------------------------


def test_colour_error_is_a_mean_difference():
    assert colour_error(np.full((2, 2, 3), 51, np.uint8), np.zeros((2, 2, 3), np.uint8)) == pytest.approx(0.2)
    half = np.zeros((2, 2, 3), np.uint8)
    half[0] = 255
    assert colour_error(half, np.zeros((2, 2, 3), np.uint8)) == pytest.approx(0.5)
    assert colour_error(np.zeros((9, 3, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)) == 0


def test_edge_error_is_what_lacks_to_full_correlation():
    clean = picture()
    assert edge_error(clean, clean) == 0
    assert edge_error(np.full_like(clean, 7), clean) == 1
    assert edge_error(np.full_like(clean, 7), np.full_like(clean, 9)) == 0
    assert edge_error((clean * 0.5 + 60).astype(np.uint8), clean) < 0.05
    assert edge_error(255 - clean, clean) == 1
    # By hand: of two steps of one height, one is missing; the gradients are (a, a) and (a, 0), their correlation 1/√2.
    two, one = np.zeros((16, 32, 3), np.uint8), np.zeros((16, 32, 3), np.uint8)
    two[:, 8:16] = 100
    one[:, 8:] = 100
    assert edge_error(one, two) == pytest.approx(np.sqrt(2 - np.sqrt(2)), abs=1e-6)


def test_mending_is_the_lesser_of_two_relative_reductions():
    clean = np.zeros((16, 16, 3), np.uint8)
    clean[:, 8:] = 200
    dark = clean // 4  # a colour error of 75/255, edges as they were
    assert mending(dark, dark, clean) == 0
    assert mending(clean, dark, clean) == 1
    brighter = (clean * 0.625).astype(np.uint8)  # a colour error of 37.5/255: 33.5 above the floor, after 71
    assert mending(brighter, dark, clean) == pytest.approx(1 - 33.5 / 71)
    # Nothing was wrong: an error of 6/255 is above the floor by half of it.
    assert mending(clean + np.uint8(6), clean, clean) == pytest.approx(0.5)
    assert mending(clean + np.uint8(4), clean, clean) == 1
    assert mending(clean, clean, clean) == 1


@pytest.mark.parametrize("problem", [(name,) for name in DAMAGES] + [("rotation90", "dark"), ("rotation180", "noise")])
def test_what_looks_like_nothing_earns_next_to_nothing(problem):
    """Pictures that are near to everything, and nothing in particular."""
    for index in range(4):
        clean = DamagedScenes("val", 1).get(index).truth.clean
        damaged = damage(clean, problem, np.random.default_rng(index), 1)
        turns = [np.rot90(damaged, k) for k in range(4)]
        side = min(damaged.shape[:2])
        average = np.mean([each[:side, :side] for each in turns], axis=0).astype(np.uint8)
        flat = np.full_like(clean, np.median(clean.reshape(-1, 3), axis=0).astype(np.uint8))
        for guess in (
            flat,
            average,
            np.zeros_like(clean),
            np.random.default_rng(0).integers(0, 256, clean.shape, np.uint8),
        ):
            assert mending(guess, damaged, clean) < 0.1


@given(st.integers(0, 10**6), st.sampled_from(DAMAGES))
@settings(max_examples=25, deadline=None)
def test_nearness_stays_in_its_bounds(seed, problem):
    rng = np.random.default_rng(seed)
    clean = picture(seed)
    damaged = damage(clean, (problem,), rng, int(rng.integers(4)))
    guess = rng.integers(0, 256, (int(rng.integers(1, 60)), int(rng.integers(1, 60)), 3), dtype=np.uint8)
    for value in (mending(guess, damaged, clean), likeness(guess, clean), edge_error(guess, clean)):
        assert 0 <= value <= 1
    assert mending(clean, damaged, clean) == 1
    assert likeness(clean, clean) == 1


def test_no_picture_is_refused():
    with pytest.raises(InvalidData, match="Expected pictures"):
        mending(np.zeros((3, 3), np.uint8), picture(), picture())


# --- what is paid -----------------------------------------------------------------------------------------------------


def outcome(answer="red", image=None, tools=(), turns=None, termination="answer"):
    turns = len(tools) + (termination == "answer") if turns is None else turns
    return Outcome(None, answer, termination, turns, image, tools)


def played(reward, damaged, truth, images):
    """What an episode pays whose programs make these images, in all."""
    workspace, total = Workspace((damaged,)), 0.0
    for index, pixels in enumerate(images, start=1):
        made = NamedImage.made(f"out_{index}", pixels, index)
        after = workspace.after(Effect(("made",), images=(made,)))
        turn = Turn(index, ToolCall("RunCode", {"code": "", "image": "img_0"}), "")
        total += sum(reward.progress(turn, workspace, after, truth).values())
        workspace = after
    return total + sum(reward.final(outcome("wrong", images[-1] if images else None), truth).values())


@given(st.lists(st.integers(0, 5), max_size=6), st.sampled_from([(), ("dark",), ("blur",), ("rotation90",)]))
@settings(max_examples=30, deadline=None)
def test_only_the_last_picture_counts_however_it_came_to_be(choices, problems):
    clean = picture(3)
    damaged = damage(clean, problems, np.random.default_rng(0), 2)
    images = [clean, damaged, np.zeros_like(clean), picture(4), np.rot90(damaged), damaged // 2 + 60]
    made = [np.ascontiguousarray(images[choice]) for choice in choices]
    reward, truth = MATCodingReward(), ImageTruth(clean, problems, ("red",))
    total = played(reward, damaged, truth, made)
    assert total == pytest.approx(played(reward, damaged, truth, made[-1:]))
    assert -1e-9 <= total <= 1 + 1e-9
    if made and choices[-1] == 0:
        assert total == pytest.approx(1)
    if not made or choices[-1] == 1:
        assert total == pytest.approx(0 if problems else 1)


def test_a_slight_damage_pays_nothing_for_being_left():
    clean = picture()
    slight = np.clip(clean.astype(int) + 6, 0, 255).astype(np.uint8)
    truth = ImageTruth(clean, ("overexposure",), ("red",))
    assert 0 < mending(slight, slight, clean) < 1
    assert played(MATCodingReward(), slight, truth, [slight]) == pytest.approx(0)
    assert played(MATCodingReward(), slight, truth, [clean]) == pytest.approx(1)
    # Below every floor there is nothing to tell.
    assert played(MATCodingReward(), clean + np.uint8(0), truth, []) == pytest.approx(0)
    assert played(MATCodingReward(), clean + np.uint8(0), truth, [clean]) == pytest.approx(1)


def test_the_answer_is_paid_if_it_is_exact_and_given():
    reward, truth = MATCodingReward(picture=2, answer=0.5), ImageTruth(picture(), (), ("red",))
    assert reward.final(outcome("The red."), truth) == {"kept": 2.0, "answer": 0.5}
    assert reward.final(outcome("red or blue"), truth)["answer"] == 0
    assert reward.final(outcome(None, termination="max_turns"), truth)["answer"] == 0
    unasked = ImageTruth(picture(), ("dark",))
    assert reward.final(outcome("whatever"), unasked) == {"kept": 0.0, "answer": 0.5}
    assert reward.bounds == (0, 2.5)
    assert repr(reward) == "MATCodingReward(picture=2.0, answer=0.5)"


@pytest.mark.parametrize("wrong", [-1, "x", float("nan"), True, None])
def test_coefficients_are_checked(wrong):
    with pytest.raises(InvalidData, match="Expected argument `answer`"):
        MATCodingReward(answer=wrong)


@pytest.mark.parametrize("reward", [MATCodingReward(), ArftCodingReward()])
def test_other_truths_are_refused(reward):
    with pytest.raises(InvalidData, match="ImageTruth"):
        reward.final(outcome(), MaskTruth(None))


def test_the_published_reward_pays_for_any_program_and_ours_for_what_it_did():
    clean = picture()
    damaged, truth = damage(clean, ("dark",), np.random.default_rng(0)), ImageTruth(clean, ("dark",), ("red",))
    published = ArftCodingReward()
    named = Turn(1, ToolCall("NameProblems", {"problems": ["dark"]}), "")
    workspace = Workspace((damaged,))
    assert published.progress(named, workspace, workspace, truth) == {"problems": 1.0}
    useless = outcome("red", None, ("NameProblems", "RunCode"))
    assert published.final(useless, truth) == {"code": 0.9, "answer": 1.0, "format": 1.0}
    assert MATCodingReward().final(useless, truth) == {"kept": 0.0, "answer": 1.0}
    faulty = outcome("blue", None, (), turns=3)
    assert published.final(faulty, truth) == {"code": 0.0, "answer": 0.0, "format": 0.0}
    half = Turn(1, ToolCall("NameProblems", {"problems": "rotation90"}), "")
    two = ImageTruth(clean, ("rotation90", "dark"))
    assert published.progress(half, workspace, workspace, two) == {"problems": 0.5}
    nothing = Turn(1, ToolCall("NameProblems", {"problems": ["none"]}), "")
    assert published.progress(nothing, workspace, workspace, ImageTruth(clean, ())) == {"problems": 1.0}


def test_problems_have_the_same_names_everywhere():
    assert coding.PROBLEMS == visual_arft.PROBLEMS == (*DAMAGES, "none")


def test_the_metric_is_a_mean_over_pictures_and_over_questions():
    clean, metric = picture(), MendedPictures()
    metric.update(outcome("red", clean), ImageTruth(clean, ("dark",), ("red",)))
    metric.update(outcome("a red car", None), ImageTruth(clean, ("dark",), ("red",)))
    metric.update(outcome("done", None), ImageTruth(clean, ()))
    figures = metric.compute()
    assert (figures["likeness"], figures["EM"], figures["token_F1"]) == (
        pytest.approx(2 / 3),
        0.5,
        pytest.approx(5 / 6),
    )
    assert metric.values.tolist() == [1, 0, 1]
    with pytest.raises(InvalidData):
        metric.update(outcome(), AnswerTruth(("red",)))


# --- what is damaged, and asked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_the_same_from_the_same_seed_and_harms(name):
    clean = DamagedScenes("val", 1).get(0).truth.clean
    for strength in range(4):
        one, two = (damage(clean, (name,), np.random.default_rng(3), strength) for _ in range(2))
        assert np.array_equal(one, two)
        assert mending(one, one, clean) < 0.2
    with pytest.raises(InvalidData, match="a damage out of"):
        damage(clean, ("rust",), np.random.default_rng(0))


@pytest.mark.parametrize("difficulty", range(4))
def test_scenes_are_asked_about_what_they_show(difficulty):
    data, other = DamagedScenes("val", difficulty), DamagedScenes("test", difficulty)
    kinds = set()
    for index in range(12):
        sample = data.get(index)
        again = data.find(sample.sample_id)
        assert np.array_equal(sample.image, again.image)
        assert sample.truth.answers[0] in ANSWERS[sample.metadata["asked"]]
        assert len(sample.truth.damage) <= (1 if difficulty < 2 else 2)
        assert np.array_equal(sample.image, sample.truth.clean) == (not sample.truth.damage)
        assert not np.array_equal(sample.truth.clean, other.get(index).truth.clean)
        kinds |= set(sample.truth.damage)
    assert len(kinds) >= 3
    assert data.size == 500
    assert DamagedScenes("train", difficulty).size is None


def test_what_does_not_exist_is_refused():
    with pytest.raises(DatasetError, match="split out of"):
        DamagedScenes("dev", 1)
    with pytest.raises(DatasetError, match="difficulty"):
        DamagedScenes("val", 4)
    with pytest.raises(IndexError):
        DamagedScenes("val", 1).get(500)
    with pytest.raises(DatasetError, match="identifier"):
        DamagedScenes("val", 1).find("scenes/matcoding/d1/val/500")
    with pytest.raises(DatasetError, match="difficulty"):
        DamagedPictures(SquareDataset(), 7)


def test_pictures_of_other_data_sets_can_be_damaged():
    data = DamagedPictures(SquareDataset(), 3)
    sample = data.get(1)
    assert np.array_equal(data.find(sample.sample_id).image, sample.image)
    assert np.array_equal(sample.truth.clean, SquareDataset().get(1).image)
    assert sample.truth.answers == ()
    assert data.draw(np.random.default_rng(0)).task == "restoration"
    assert data.size == 3


@pytest.mark.parametrize("difficulty", [1, 3])
def test_a_rule_finds_what_is_wrong(difficulty):
    right = 0
    for index in range(20):
        sample = DamagedScenes("val", difficulty).get(index)
        seen = {name for name in sample.truth.damage if not name.startswith("rotation")}
        right += set(diagnose(sample.image)) == seen
    assert right >= 18


# --- the data set of the publication ----------------------------------------------------------------------------------


def folder(tmp_path, **changes):
    for name in ("ori.png", "sub/bad.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(to_png_bytes(picture(len(name))))
    record = {
        "id": 7,
        "question": "What colour?",
        "answers": ["red", "dark red"],
        "ori_image_path": "ori.png",
        "processed_image_path": "sub/bad.png",
        "type": "rotation90+dark",
        "split": "hard",
    }
    records = [record | changes, record | {"id": "b", "split": "simple", "answers": "blue", "type": ["none"]}]
    (tmp_path / "MAT-Coding.json").write_text(json.dumps(records))
    return tmp_path


def test_a_folder_in_the_published_layout_is_read(tmp_path):
    data = MatCoding(folder(tmp_path), split="hard")
    sample = data.get(0)
    assert (data.size, sample.sample_id, sample.query) == (1, "hard/7", "What colour?")
    assert np.array_equal(sample.image, picture(len("sub/bad.png")))
    assert np.array_equal(sample.truth.clean, picture(len("ori.png")))
    assert (sample.truth.damage, sample.truth.answers) == (("rotation90", "dark"), ("red", "dark red"))
    easy = MatCoding(tmp_path, split="simple").get(0).truth
    assert (easy.damage, easy.answers) == ((), ("blue",))
    env = gym.make(ID, dataset=f"matcoding:{tmp_path}", split="hard", experts="oracle")
    assert env.reset(seed=0)[1]["query"] == "What colour?"
    (tmp_path / "MAT-Coding.json").rename(tmp_path / "mat.json")
    assert MatCoding(tmp_path, split="hard").size == 1


@pytest.mark.parametrize("name", ["../out.png", "/etc/passwd", "sub/../../out.png", "link.png", "nothing.png", 5, None])
def test_paths_that_lead_outside_are_refused(tmp_path, name):
    (tmp_path / "out.png").write_bytes(to_png_bytes(picture()))
    inside = tmp_path / "data"
    inside.mkdir()
    (inside / "link.png").symlink_to(tmp_path / "out.png")
    for field in ("ori_image_path", "processed_image_path"):
        data = MatCoding(folder(inside, **{field: name}), split="hard")
        with pytest.raises(DatasetError):
            data.get(0)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "rust"},
        {"type": None},
        {"answers": []},
        {"answers": [""]},
        {"answers": {"a": 1}},
        {"question": " "},
        {"question": ["x"]},
        {"answers": ["x"] * 101},
    ],
)
def test_broken_records_are_refused_when_they_are_asked_for(tmp_path, change):
    data = MatCoding(folder(tmp_path, **change), split="hard")
    with pytest.raises(DatasetError):
        data.get(0)


def test_broken_files_are_refused_at_once(tmp_path):
    with pytest.raises(DatasetError, match="no split 'train': there are 'hard', 'simple'"):
        MatCoding(folder(tmp_path), split="train")
    with pytest.raises(DatasetError, match="there twice"):
        MatCoding(folder(tmp_path, id="b", split="simple"), split="simple")
    for text in ("{}", "[1]", "[{}]", "not JSON", '[{"split": 3}]'):
        (tmp_path / "MAT-Coding.json").write_text(text)
        with pytest.raises(DatasetError):
            MatCoding(tmp_path, split="hard")
    (tmp_path / "MAT-Coding.json").unlink()
    with pytest.raises(DatasetError, match="one other JSON file"):
        MatCoding(tmp_path, split="hard")


# --- the environment --------------------------------------------------------------------------------------------------


class Returns:
    """Runs nothing, and returns what it was given."""

    name = fingerprint = "returns"
    capabilities, max_batch, per_sample = ("RunCode",), 8, False

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def run(self, requests):
        self.asked += requests
        return [self.answers.pop(0) for _ in requests]


def call(env, name, **arguments):
    return env.step({"name": name, "arguments": arguments})


def test_a_turn_names_runs_and_answers():
    data = DamagedScenes("val", 1)
    index = next(i for i in range(50) if data.get(i).truth.damage == ("dark",))
    clean = data.get(index).truth.clean
    expert = Returns(Ran(None, "", "line 1: 1 / 0\nZeroDivisionError"), Ran(clean, "mended"), Ran(clean[:3], ""))
    env = gym.make(ID, split="val", experts=expert).unwrapped
    env.reset(options={"index": index})
    assert "{max_turns}" not in env.episode.messages()[0]["content"][0]["text"]
    _, reward, _, _, info = call(env, "NameProblems", problems=["dark"])
    assert reward == 0
    assert info["reply"].startswith("You say that this is wrong with it: dark.")
    _, reward, _, _, info = call(env, "RunCode", code="1 / 0", image="img_0")
    assert (reward, info["error"]) == (0, None)
    assert info["reply"].startswith("Error: line 1: 1 / 0\nZeroDivisionError\noutput.png was not written; img_0 is")
    assert [seen.name for seen in env.episode.visible()] == ["img_0"]
    _, reward, _, _, info = call(env, "RunCode", code="mend", image="img_0")
    assert reward == pytest.approx(1)
    assert info["reply"].startswith("Printed: mended\nout_3 (256x256):\n[image out_3]")
    assert np.array_equal(env.episode.outcome.image, clean)
    *_, info = call(env, "RunCode", code="tiny", image="out_3")
    assert "256x3, which is no picture to look at; out_3 is as it was" in info["reply"]
    assert expert.asked[-1].view.name == "out_3"
    _, reward, ended, _, info = call(env, "Answer", text=data.get(index).truth.answers[0])
    assert ended
    assert reward == 1
    assert info["metrics"]["likeness"] == info["metrics"]["EM"] == 1


def test_what_is_wrong_is_said_once_and_first():
    env = gym.make(ID, split="val", experts="oracle").unwrapped
    env.reset(options={"index": 0})
    call(env, "NameProblems", problems=["blur", "noise"])
    *_, info = call(env, "NameProblems", problems=["dark"])
    assert info["error"]["code"] == "too_late"
    *_, info = call(env, "NameProblems", problems=["rust"])
    assert info["error"]["code"] == "wrong_argument"


def test_a_huge_picture_is_shrunk_and_says_so():
    env = gym.make(ID, split="val", experts=Returns(Ran(np.zeros((3000, 4000, 3), np.uint8)))).unwrapped
    env.reset(options={"index": 0})
    *_, info = call(env, "RunCode", code="x", image="img_0")
    assert "out_1 (1920x1440), shrunk from 4000x3000:" in info["reply"]


def test_discrete_actions_choose_programs_and_answers():
    env = gym.make(ID, split="val", experts="oracle", action_mode="discrete").unwrapped
    env.reset(options={"index": 0})
    assert len(set(env.phrases)) == 16
    assert env.phrases == discrete_programs()
    env.step(np.array([1, 0, 3, 0, 0, 0]))
    assert env.episode.transcript[-1].action.arguments["code"] == discrete_programs()[3]
    *_, info = env.step(np.array([2, 0, 5, 0, 0, 0]))
    assert env.episode.query.startswith("How many")
    assert info["outcome"]["answer"] == "6"


def test_programs_say_what_they_do():
    assert program([]).startswith("# as it is\n")
    assert "ROTATE_180" in repair(["rotation180"])
    order = repair(["rotation90", "crop", "dark"])
    assert order.startswith("# crop, brighten, turn left\n")
    assert all(step in "".join(discrete_programs()) for step in STEPS.values())


@needs_bubblewrap
def test_programs_really_mend():
    """Each in the sandbox, on what it is made for; a share of what is wrong that leaves no doubt."""
    least = dict.fromkeys(DAMAGES, 0.85) | {"noise": 0.4, "blur": 0.15}
    clean = [DamagedScenes("val", 1).get(index).truth.clean for index in range(2)]
    from sandbox_programs import ask

    from visenv.experts.sandbox import make

    (sandbox,) = make()
    for problem in DAMAGES:
        damaged = [damage(each, (problem,), np.random.default_rng(5), 1) for each in clean]
        found = sandbox.run([ask(repair([problem]), each) for each in damaged])
        for ran, before, after in zip(found, damaged, clean, strict=True):
            assert ran.error == ""
            assert mending(ran.pixels, before, after) > least[problem], problem


@needs_bubblewrap
@pytest.mark.parametrize(("name", "least"), [("single", 0.2), ("scripted", 1.3), ("oracle", 1.6)])
def test_policies_earn_what_they_know(name, least):
    env = gym.make(ID, split="val", difficulty=1).unwrapped
    policy, total, count = make_policy(name), 0.0, 6
    for index in range(count):
        env.reset(options={"index": index})
        policy.reset(env, np.random.SeedSequence(index))
        ended = False
        while not ended:
            _, reward, ended, _, info = env.step(policy.act(env.episode))
            assert info["error"] is None
            total += reward
    assert total / count > least
    env.close()


@needs_bubblewrap
def test_a_model_writes_a_program_in_its_dialect():
    env = gym.make(ID, split="val", difficulty=0, action_mode="text").unwrapped
    data = env.dataset
    index = next(i for i in range(50) if data.get(i).truth.damage == ("rotation180",))
    env.reset(options={"index": index})
    *_, info = env.step("<think>Upside down.</think><problem>['rotation180']</problem>")
    assert info["error"] is None
    _, reward, *_ = env.step(f"<think>So.</think><code>\n```python\n{repair(['rotation180'])}```\n</code>")
    assert reward == pytest.approx(1)
    _, reward, ended, *_ = env.step(f"<think>So.</think><answer>{data.get(index).truth.answers[0]}</answer>")
    assert ended
    assert reward == 1
    assert "<information>" in json.dumps(env.episode.messages()[3]["content"][0])


@needs_bubblewrap
def test_many_environments_run_their_programs_in_one_batch():
    envs = gym.make_vec(ID, num_envs=3, split="val", action_mode="structured")
    envs.reset(seed=[1, 2, 3])
    _, rewards, *_ = envs.step([{"name": "RunCode", "arguments": {"code": program([]), "image": "img_0"}}] * 3)
    assert np.abs(rewards).max() < 1e-6
    assert all("out_1" in env.episode.workspace.images for env in envs.envs)
    envs.close()


def test_without_a_sandbox_the_environment_refuses_to_start(tmp_path):
    code = f"""
import gymnasium as gym, visenv
from visenv.errors import MissingDependency
try:
    gym.make({ID!r})
except MissingDependency as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert "needs a sandbox" in done.stdout
    assert "unsafe=True" in done.stdout


def test_the_page_of_a_run_shows_programs_line_by_line(tmp_path):
    from typer.testing import CliRunner

    from visenv.cli import app

    command = ["rollout", ID, "--policy", "oracle", "--episodes", "4", "--split", "val", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "run" / "index.html").read_text(encoding="utf-8")
    assert '<pre class="code"' in page
    assert "\nimage = cv2.imread(" in page
