"""Imports point down only, as pyproject.toml lists the layers."""

import subprocess
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parent.parent
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"


def test_imports_point_down():
    # In a process of its own: import-linter switches off all loggers that exist.
    done = subprocess.run([sys.executable, "-c", LINT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_see_the_folders_of_the_top_level(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    modules = grimp.build_graph("visenv", cache_dir=None).modules
    for folder in ("envs", "experts", "rewards"):
        paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / folder).rglob("[!_]*.py")]
        assert paths, folder
        assert {".".join(("visenv", *path.parts)) for path in paths} <= modules
