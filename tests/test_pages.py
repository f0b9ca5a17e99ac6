"""The pages are in step with the code, and their links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import visenv  # noqa: F401 - registers what the README has to name
from visenv import registration
from visenv.builtin import ENVIRONMENTS
from visenv.images import load_image
from visenv.tools.toolsets import make_toolset

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("[CR]*.md")), ROOT / "examples" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub(lambda code: code.group().strip("`"), page.read_text("utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_pages_are_in_step_with_the_code():
    command = [sys.executable, str(ROOT / "scripts" / "make_docs.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name} links to {link}"
        assert target.is_relative_to(ROOT), f"{page.name} links out of the repository: {link}"
        assert not anchor or anchor in anchors(target), f"{page.name} links to {link}"


def test_every_page_is_on_the_map():
    listed = set(LINK.findall((ROOT / "docs" / "index.md").read_text("utf-8")))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages <= listed
    environments = set(LINK.findall((ROOT / "docs" / "environments" / "index.md").read_text("utf-8")))
    assert {path.name for path in (ROOT / "docs" / "environments").glob("*.md")} - {"index.md"} <= environments


def test_the_readme_names_all_there_is():
    readme = (ROOT / "README.md").read_text("utf-8")
    names = [*ENVIRONMENTS, *make_toolset("full"), *registration.experts.names(), *registration.rewards.names()]
    assert [name for name in names if f"`{name}`" not in readme] == []
    assert [name for name in registration.datasets.names() if not re.search(rf"`{name}(:PATH)?`", readme)] == []


def test_the_readme_picture_is_small_and_can_be_drawn_again(tmp_path):
    command = [sys.executable, str(ROOT / "scripts" / "make_readme_figure.py"), "--out", str(tmp_path / "again.png")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    for path in (ROOT / "docs" / "images" / "trajectory.png", tmp_path / "again.png"):
        assert path.stat().st_size < 400_000
        assert min(load_image(path).shape[:2]) >= 400
