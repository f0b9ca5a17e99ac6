"""Every example runs as it says, in seconds and with nothing downloaded, and prints what it says."""

import ast
import doctest
import os
import runpy
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

FOLDER = Path(__file__).resolve().parent.parent / "examples"
ELSEWHERE = {
    "grpo_trl.py": "tests/test_adapters_trl.py",
    "rllib_ppo.py": "tests_trainers/test_rllib.py",
    "verifiers_eval.py": "tests_trainers/test_verifiers.py",
}
"""Examples that need what cannot be downloaded or an environment of their own, and the tests that run them."""
EXAMPLES = [path for path in sorted(FOLDER.glob("*.py")) if path.name not in ELSEWHERE]
COMMANDS = {"unit_test_a_reward.py": ["-m", "pytest", "-q", "-p", "no:cacheprovider"]}
"""What stands between ``python`` and the file, where it is not run as a program."""
ARGUMENTS = {
    "ppo.py": "--steps 256 --envs 4 --rollout 32 --experts oracle --workers 0".split(),
    "sb3_ppo.py": "--masked --steps 256 --envs 4 --episodes 4 --experts oracle --workers 0".split(),
    "torchrl_ppo.py": "--steps 256 --envs 4 --frames 64 --experts oracle".split(),
    "train_yolo.py": ["--quick"],
}
"""What follows the file, where an example has a short form."""
HERE = ("minari_record.py", "ppo.py", "sb3_ppo.py", "torchrl_ppo.py", "train_yolo.py")
"""Examples whose imports take longer than what they do: they are run in the process of the tests."""
SECONDS = 180


def run(path, tmp_path):
    """What an example prints, as a program of its own in an empty folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    paths = [str(FOLDER.parent), environment.get("PYTHONPATH", "")]
    environment |= {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONWARNINGS": "error::UserWarning"}
    command = [sys.executable, *COMMANDS.get(path.name, []), str(path), *ARGUMENTS.get(path.name, [])]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_here(path, tmp_path, monkeypatch, capsys):
    """What an example prints in this process, in an empty folder, and with only what was registered before it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(path), *ARGUMENTS.get(path.name, [])])
    monkeypatch.setattr("gymnasium.envs.registration.registry", dict(gym.registry))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


def promised(path):
    """What an example's docstring says that it prints."""
    _, _, rest = ast.get_docstring(ast.parse(path.read_text("utf-8"))).partition("It prints:\n\n")
    lines = rest.splitlines()
    end = next((i for i, line in enumerate(lines) if line and not line.startswith("    ")), len(lines))
    return textwrap.dedent("\n".join(lines[:end])).strip() + "\n"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path, tmp_path, monkeypatch, capsys):
    here = path.name in HERE
    printed, says = run_here(path, tmp_path, monkeypatch, capsys) if here else run(path, tmp_path), promised(path)
    assert says.strip(), f"The docstring of {path.name} has to show, after 'It prints:', what it prints."
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(says, printed, flags), printed
    assert list(tmp_path.iterdir()) == [], "An example leaves no files behind."


def test_the_list_of_examples_is_complete():
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert [path.name for path in sorted(FOLDER.glob("*.py")) if f"]({path.name})" not in readme] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_how_to_run_it(path):
    assert f"examples/{path.name}" in ast.get_docstring(ast.parse(path.read_text("utf-8")))


@pytest.fixture
def ppo():
    return runpy.run_path(str(FOLDER / "ppo.py"), run_name="ppo")


def test_ppo_sees_no_further_than_the_end_of_an_episode(ppo):
    gamma, decay = ppo["GAMMA"], ppo["GAMMA"] * ppo["LAMBDA"]
    rewards, values, ended, after = (
        torch.tensor(rows, dtype=torch.float64)
        for rows in ([[1, 1], [2, 2], [4, 4]], [[10, 10], [20, 20], [30, 30]], [[0, 0], [0, 1], [0, 0]], [40, 40])
    )
    last = 4 + gamma * 40 - 30
    middle = 2 + gamma * 30 - 20 + decay * last
    whole = [1 + gamma * 20 - 10 + decay * middle, middle, last]
    cut = [1 + gamma * 20 - 10 + decay * (2 - 20), 2 - 20, last]
    found = ppo["advantages"](rewards, values, ended, after)
    assert found.T.tolist() == [pytest.approx(whole), pytest.approx(cut)]


@pytest.mark.parametrize("limit", [{"max_turns": 1}, {"max_episode_steps": 1}], ids=["terminated", "truncated"])
def test_ppo_adds_what_would_have_come_where_an_episode_was_truncated(ppo, limit):
    settings = {"experts": "oracle", "action_mode": "discrete", "obs": "features", "autoreset_mode": "same_step"}
    envs = gym.make_vec("VisHarness/RefSeg-v0", num_envs=3, **settings, **limit)
    steps, step = [], envs.step

    def noted(actions):
        observations, rewards, *rest = step(actions)
        steps.append((rewards.copy(), *rest))
        return observations, rewards, *rest

    envs.step = noted
    torch.manual_seed(0)
    agent = ppo["Agent"](envs.single_observation_space, envs.single_action_space)
    _, batch, returns, _ = ppo["Collector"](envs, agent, seed=0).collect(2)
    envs.close()
    expected = []
    for rewards, terminated, truncated, infos in steps:
        last = {name: np.stack([one[name] for one in infos["final_obs"]]) for name in infos["final_obs"][0]}
        with torch.no_grad():
            value = agent(ppo["tensors"](last))[1].numpy()
        expected += (rewards + ppo["GAMMA"] * value * (truncated & ~terminated)).tolist()
    assert batch["rewards"].tolist() == pytest.approx(expected, rel=1e-5)
    assert returns == pytest.approx(np.concatenate([rewards for rewards, *_ in steps]))
    assert batch["ended"].tolist() == [1] * 6
    assert any(truncated.any() for _, _, truncated, _ in steps) == ("max_episode_steps" in limit)
