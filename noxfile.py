"""Trainers whose packages cannot share an environment with the others' are tested in one of their own, a session each.

``nox`` runs all of them, ``nox -s verl`` one, ``nox -R -s verl -- -k loop`` one again, without installing anew.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "uv"

TOOLS = ("coverage[toml]>=7.6", "hypothesis>=6.100", "pytest>=8.2", "pytest-cov>=6.0", "pytest-timeout>=2.3")

TRAINERS: dict[str, str | None] = {
    "gem": "3.11",
    "nemo_gym": "3.12",
    "openenv": None,
    "rllib": None,
    "skyrl": None,
    "verifiers": None,
    "verl": None,
}
"""What is tested: ``tests_trainers/test_NAME*.py`` with the extra ``NAME``; and the Python it needs, None for any."""


def _test(session: nox.Session) -> None:
    name = session.name
    session.install("-c", "constraints.txt", "-e", f".[{name}]", *TOOLS)
    env = {"COVERAGE_FILE": f".coverage.{name}", "HF_HUB_OFFLINE": "1"}
    files = sorted(map(str, Path("tests_trainers").glob(f"test_{name}*.py")))
    session.run("pytest", "--cov", "--cov-report=", *files, *session.posargs, env=env)


for _name, _python in TRAINERS.items():
    nox.session(name=_name, python=_python)(_test)
