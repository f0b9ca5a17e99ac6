"""What is installed is what is in the checkout, however it gets there."""

import ast
import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOP = {"visenv": "visenv", "envs": "visenv.envs", "experts": "visenv.experts", "rewards": "visenv.rewards"}
HEAVY = (
    "torch",
    "stable_baselines3",
    "sb3_contrib",
    "matplotlib",
    "trl",
    "verl",
    "ray",
    "skimage",
    "sklearn",
    "ultralytics",
)

IMPORT_ALL = """
import importlib, pkgutil, sys
import visenv
names = ["visenv", *(m.name for m in pkgutil.walk_packages(visenv.__path__, "visenv.")if m.name != "visenv.__main__")]
adapters = [name for name in names if name.startswith("visenv.adapters.")]
for name in names:
    if name not in adapters:
        importlib.import_module(name)
print(visenv.__file__)
print(*names)
print(*(name for name in sys.argv[1:] if name in sys.modules))
"""


@pytest.fixture(scope="module")
def config():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def folders_with_code():
    """Every folder of the checkout that holds Python files, and the package that it is."""
    for top, package in TOP.items():
        for folder, subfolders, files in os.walk(ROOT / top):
            subfolders[:] = [name for name in subfolders if name != "__pycache__"]
            if any(name.endswith(".py") for name in files):
                inner = Path(folder).relative_to(ROOT / top).parts
                yield ".".join((package, *inner)), Path(folder)


def python(code, *arguments, path, cwd):
    """Run code in a new interpreter that finds packages in ``path`` first; its lines of output."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "COV_"))}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(
        command, cwd=cwd, env={**environment, "PYTHONPATH": str(path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_packages_listed_are_the_folders_on_disk(config):
    listed = config["options"]["packages"].split()
    found = dict(folders_with_code())
    assert sorted(listed) == sorted(found)
    assert [name for name, folder in found.items() if not (folder / "__init__.py").is_file()] == []


def test_the_links_lead_to_the_folders_of_the_top_level():
    for folder in ("envs", "experts", "rewards"):
        link = ROOT / "visenv" / folder
        if link.is_symlink():
            assert os.readlink(link) == f"../{folder}"
        else:
            assert not link.is_dir(), "a copy would be edited in vain"


def test_the_lower_bounds_are_the_ones_tested(config):
    bounds = dict(line.split(">=") for line in config["options"]["install_requires"].split())
    pins = (ROOT / ".ci" / "oldest.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in pins if line and not line.startswith("#"))
    assert bounds.keys() == pinned.keys()
    for name, bound in bounds.items():
        assert (pinned[name] + ".").startswith(bound + "."), name


def test_the_version_is_one_literal(config):
    assert config["metadata"]["version"] == "attr: visenv.__version__"
    tree = ast.parse((ROOT / "visenv" / "__init__.py").read_text(encoding="utf-8"))
    values = [
        node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__version__"
    ]
    assert len(values) == 1


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution, from a copy of what is packaged."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    shutil.copytree(ROOT / "visenv", source / "visenv", symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("envs", "experts", "rewards"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(source)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (folder / "dist").glob("*.whl")
    assert len(list((folder / "dist").glob("*.tar.gz"))) == 1
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    done = subprocess.run([*command, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


def test_the_wheel_holds_every_module_and_data_file(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = set()
    for package, folder in folders_with_code():
        expected |= {f"{package.replace('.', '/')}/{path.name}" for path in folder.glob("*.py")}
    data = {name for name in held if not name.endswith(".py")}
    assert held - data == expected
    assert data == {"visenv/py.typed", *data_files()}


def data_files():
    """What stands in the packages' folders besides code, under its name in the wheel."""
    for top, package in TOP.items():
        for path in (ROOT / top).rglob("*"):
            inner = path.relative_to(ROOT / top)
            linked = top == "visenv" and inner.parts[0] in TOP
            if path.is_file() and path.suffix not in (".py", ".pyc") and not linked:
                yield f"{package.replace('.', '/')}/{inner.as_posix()}"


def test_every_module_of_a_clean_install_imports_without_heavy_packages(installed, tmp_path):
    file, names, *heavy = python(IMPORT_ALL, *HEAVY, path=installed, cwd=tmp_path)
    assert Path(file).is_relative_to(installed)
    listed = {package for package, _ in folders_with_code()}
    assert listed <= set(names.split())
    assert heavy in ([], [""])


def test_importing_the_package_loads_neither_torch_nor_a_trainer(tmp_path):
    (loaded,) = python(
        "import sys, visenv; print(*(name for name in sys.argv[1:] if name in sys.modules))",
        *HEAVY,
        path=ROOT,
        cwd=tmp_path,
    )
    assert loaded == ""


def test_a_checkout_without_links_finds_the_folders_of_the_top_level(tmp_path):
    clone = tmp_path / "clone"
    command = ["git", "-c", "safe.directory=*", "-c", "core.symlinks=false", "clone", "--quiet", str(ROOT), str(clone)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (clone / "visenv" / "envs").is_dir()
    code = "import visenv.envs, visenv.experts, visenv.rewards as r; print(visenv.envs.__file__); print(r.__file__)"
    lines = python(code, path=clone, cwd=tmp_path)
    assert lines == [str(clone / "envs" / "__init__.py"), str(clone / "rewards" / "__init__.py")]
