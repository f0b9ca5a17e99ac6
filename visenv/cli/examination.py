"""What a machine has of what visenv can use."""

from __future__ import annotations

import configparser
import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import visenv
from visenv.errors import VisenvError

if TYPE_CHECKING:
    from visenv.experts.presets import Preset

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

_ULTRALYTICS_BUILDS = ("ultralytics", "ultralytics-opencv-headless")
_ALSO = {
    "opencv-python-headless": ("opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python"),
    "ultralytics-opencv-headless": ("ultralytics",),
}
"""What else brings the same package."""
_HEADLESS = (
    "Mend it: pip uninstall -y ultralytics ultralytics-opencv-headless opencv-python opencv-contrib-python "
    "opencv-contrib-python-headless opencv-python-headless, then pip install opencv-python-headless (and "
    '"visenv[yolo]", which takes the build of ultralytics without windows): these need no libGL.'
)


def examine() -> list[Finding]:
    """Look at Python, the packages, the devices, the weights of presets, and whether files can be written.

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
    findings += [_torch(), *_presets(), _writable(Path.cwd()), _writable(Path(tempfile.gettempdir()))]
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
    """Of what is installed under that name, or under another one of the same package."""
    for name in (package, *_ALSO.get(package, ())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
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
        return _finding("cv2", "problem", f"{type(error).__name__}: {error}. {_HEADLESS}")
    for family in (_OPENCV_BUILDS, _ULTRALYTICS_BUILDS):
        builds = [name for name in family if _installed(name)]
        if len(builds) > 1:
            detail = f"{' and '.join(builds)} write into one folder, and the last one installed wins. {_HEADLESS}"
            return _finding("cv2", "problem", detail)
    return _finding("cv2", "ok", f"{cv2.__version__} works")


def _installed(name: str) -> bool:
    """Whether there is a distribution of exactly that name."""
    return next(iter(importlib.metadata.distributions(name=name)), None) is not None


def _presets() -> list[Finding]:
    """For each preset, whether the weights of its experts are there; what is missing says how to get it."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("yaml") is None:
        return [_finding("presets", "missing", 'needed by neural experts alone: pip install "visenv[neural]"')]
    from visenv.experts.presets import load_preset, preset_names

    return [_preset(load_preset(name)) for name in preset_names()]


def _preset(preset: Preset) -> Finding:
    """Make each expert of a preset alone, so that all that is missing is said; none of them is loaded for it."""
    there, missing = [], []
    for spec in preset.experts:
        try:
            replace(preset, experts=(replace(spec, segmenter=None),), rest=None).make()
            there.append(f"{spec.expert} ({spec.keywords.get('model')})")
        except (VisenvError, ImportError) as error:
            missing.append(f"{spec.expert}: {error}")
    name = f"preset: {preset.name}"
    return _finding(name, "missing", " ".join(missing)) if missing else _finding(name, "ok", ", ".join(there))


def _torch() -> Finding:
    """PyTorch and its devices; imported only where it is installed."""
    if importlib.util.find_spec("torch") is None:
        return _finding("torch", "missing", "needed by neural experts alone")
    try:
        torch = importlib.import_module("torch")
        if torch.cuda.is_available():
            devices = ", ".join(
                f"cuda:{index} {torch.cuda.get_device_name(index)}, "
                f"{torch.cuda.get_device_properties(index).total_memory / 1e9:.0f} GB"
                for index in range(torch.cuda.device_count())
            )
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
