"""What a machine has of what visenv can use."""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.util
import os
import platform
import re
import tempfile
from pathlib import Path

import visenv

Finding = dict[str, str]
"""``name``, ``status`` (``ok``, ``missing``, ``problem``) and ``detail``."""

_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)")
_EXTRA = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")
_OPENCV_BUILDS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)


def examine() -> list[Finding]:
    """Look at Python, the packages, the devices, and whether files can be written.

    Example:
        >>> [finding["status"] for finding in examine() if finding["name"] == "python"]
        ['ok']
    """
    core, extras = requirements()
    findings = [
        _finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        _finding("visenv", "ok", f"{visenv.__version__}, {os.cpu_count()} CPU cores"),
    ]
    findings += [_package(name, needed=True) for name in core]
    findings.append(_opencv())
    findings += [_extra(extra, names) for extra, names in extras.items()]
    findings += [_torch(), _writable(Path.cwd()), _writable(Path(tempfile.gettempdir()))]
    return findings


def requirements() -> tuple[list[str], dict[str, list[str]]]:
    """The packages that visenv needs, and those that each extra brings: from its metadata, or from its checkout."""
    try:
        lines = importlib.metadata.requires("visenv") or []
    except importlib.metadata.PackageNotFoundError:
        lines = _checkout_requirements()
    core: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in lines:
        match, extra = _REQUIREMENT.match(line), _EXTRA.search(line)
        if match and extra:
            extras.setdefault(extra[1], []).append(match[1])
        elif match:
            core.append(match[1])
    return core, extras


def _checkout_requirements() -> list[str]:
    """What ``setup.cfg`` says, in the form of installed metadata; nothing where there is no such file."""
    parser = configparser.ConfigParser()
    parser.read(Path(visenv.__file__).resolve().parent.parent / "setup.cfg", encoding="utf-8")
    lines = parser.get("options", "install_requires", fallback="").split("\n")
    if parser.has_section("options.extras_require"):
        for extra, packages in parser.items("options.extras_require"):
            lines += [f'{line}; extra == "{extra}"' for line in packages.split("\n") if line.strip()]
    return lines


def _finding(name: str, status: str, detail: str) -> Finding:
    return {"name": name, "status": status, "detail": detail}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(name: str, needed: bool) -> Finding:
    version = _version(name)
    if version is not None:
        return _finding(name, "ok", version)
    return _finding(name, "problem" if needed else "missing", f"pip install {name}")


def _extra(extra: str, packages: list[str]) -> Finding:
    missing = [name for name in packages if _version(name) is None]
    if not missing:
        return _finding(f"extra: {extra}", "ok", ", ".join(f"{name} {_version(name)}" for name in packages))
    return _finding(f"extra: {extra}", "missing", f'without {", ".join(missing)}: pip install "visenv[{extra}]"')


def _opencv() -> Finding:
    """Whether cv2 can be loaded (builds with windows need libGL) and is the only one of its name."""
    try:
        import cv2
        import numpy as np

        cv2.resize(np.zeros((2, 2, 3), np.uint8), (4, 4))
    except Exception as error:
        detail = f"{type(error).__name__}: {error}. Install opencv-python-headless, which needs no libGL."
        return _finding("cv2", "problem", detail)
    builds = [name for name in _OPENCV_BUILDS if _version(name) is not None]
    if len(builds) > 1:
        return _finding(
            "cv2", "problem", f"{' and '.join(builds)} share one folder: uninstall all but one, reinstall it."
        )
    return _finding("cv2", "ok", f"{cv2.__version__} works")


def _torch() -> Finding:
    """PyTorch and its devices; imported only where it is installed."""
    if importlib.util.find_spec("torch") is None:
        return _finding("torch", "missing", "needed by neural experts alone")
    try:
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            devices = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        else:
            devices = "Apple GPU" if torch.backends.mps.is_available() else "CPU only"
        return _finding("torch", "ok", f"{torch.__version__}: {devices}")
    except Exception as error:
        return _finding("torch", "problem", f"installed, but cannot be used: {type(error).__name__}: {error}")


def _writable(folder: Path) -> Finding:
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"visenv")
    except OSError as error:
        return _finding(f"write {folder}", "problem", f"{error.strerror}: run elsewhere, or name --out")
    return _finding(f"write {folder}", "ok", "files can be written")
