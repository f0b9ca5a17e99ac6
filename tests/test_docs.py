"""The Python examples of the README, of CONTRIBUTING and of docs/ run, and print what they say."""

import doctest
import platform
import re
from pathlib import Path

import gymnasium as gym
import pytest

import visenv  # noqa: F401 - registered before the first page, whose registrations are undone

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(?:python|pycon)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SANDBOXED = ("sandbox.md", "mending.md")
"""Pages that run programs in a sandbox, which is Linux's."""
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    """Blocks with prompts are doctests, others are run; a page's blocks share their names."""
    if page.name in SANDBOXED and platform.system() != "Linux":
        pytest.skip("there is no sandbox")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gymnasium.envs.registration.registry", dict(gym.registry))
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {"__name__": "__main__"}
    for block in FENCE.finditer(text):
        code, line = block.group(1), text[: block.start(1)].count("\n")
        if ">>>" in code:
            report: list[str] = []
            test = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), line)
            runner = doctest.DocTestRunner(optionflags=OPTIONS)
            runner.run(test, out=report.append, clear_globs=False)
            assert not report, "".join(report)
            names.update(test.globs)
        else:
            exec(compile("\n" * line + code, str(page), "exec"), names)
