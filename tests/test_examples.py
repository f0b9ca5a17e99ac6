"""Every example runs as it says, in seconds and with nothing downloaded, and prints what it says."""

import ast
import doctest
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
COMMANDS = {"unit_test_a_reward.py": ["-m", "pytest", "-q", "-p", "no:cacheprovider"]}
"""What stands between ``python`` and the file, where it is not run as a program."""
ARGUMENTS = {
    "ppo.py": "--steps 256 --envs 4 --rollout 32 --experts oracle --workers 0".split(),
    "sb3_ppo.py": "--masked --steps 256 --envs 4 --episodes 4 --experts oracle --workers 0".split(),
}
"""What follows the file, where an example has a short form."""
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


def promised(path):
    """What an example's docstring says that it prints."""
    _, _, rest = ast.get_docstring(ast.parse(path.read_text("utf-8"))).partition("It prints:\n\n")
    lines = rest.splitlines()
    end = next((i for i, line in enumerate(lines) if line and not line.startswith("    ")), len(lines))
    return textwrap.dedent("\n".join(lines[:end])).strip() + "\n"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path, tmp_path):
    printed, says = run(path, tmp_path), promised(path)
    assert says.strip(), f"The docstring of {path.name} has to show, after 'It prints:', what it prints."
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.OutputChecker().check_output(says, printed, flags), printed
    assert list(tmp_path.iterdir()) == [], "An example leaves no files behind."


def test_the_list_of_examples_is_complete():
    readme = (FOLDER / "README.md").read_text("utf-8")
    assert [path.name for path in EXAMPLES if f"]({path.name})" not in readme] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_says_how_to_run_it(path):
    assert f"examples/{path.name}" in ast.get_docstring(ast.parse(path.read_text("utf-8")))
