"""What the figures of a page were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import visenv


def describe(*packages: str) -> str:
    """One sentence: processor, cores, system, Python, and the versions of packages."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = ", ".join(f"{name} {version(name)}" for name in ("numpy", "opencv-python-headless", *packages))
    return (
        f"{_processor()}, {cores} cores in use, {platform.system()}, Python {platform.python_version()}, "
        f"{versions}, visenv {visenv.__version__}."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
