"""Mending pictures by programs: turns, programs that really run, and policies."""

import json
import os
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from sandbox_programs import needs_bubblewrap

from visenv.capabilities import Ran
from visenv.datasets.damage import DAMAGES, damage
from visenv.datasets.damaged_scenes import DamagedScenes
from visenv.envs.mending import STEPS, discrete_programs, program, repair
from visenv.policies import make_policy
from visenv.rewards.functional import mending

ID = "VisHarness/MATCoding-v0"


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
