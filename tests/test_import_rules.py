"""Imports point down only, as pyproject.toml lists the layers."""

import sys
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def in_checkout(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])


@pytest.mark.usefixtures("in_checkout")
def test_imports_point_down(capsys):
    failed = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert not failed, capsys.readouterr().out


@pytest.mark.usefixtures("in_checkout")
def test_the_rules_see_the_folders_of_the_top_level():
    modules = grimp.build_graph("visenv", cache_dir=None).modules
    for folder in ("envs", "experts", "rewards"):
        paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / folder).rglob("[!_]*.py")]
        assert paths, folder
        assert {".".join(("visenv", *path.parts)) for path in paths} <= modules
