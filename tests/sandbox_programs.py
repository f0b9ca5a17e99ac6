"""How the tests of the sandbox ask for programs, and look at its processes from outside."""

import os
import platform
import shutil
import struct
import subprocess
import zlib

import numpy as np
import pytest

from visenv.capabilities import RunCode, View
from visenv.experts_checks import check_result
from visenv.images import Provenance, RootPixels

# Where bubblewrap can be, it is a part of what the tests need: .ci/run installs it.
needs_bubblewrap = pytest.mark.skipif(platform.system() != "Linux", reason="namespaces are Linux's")
ENDLESS = "import time\nwhile True: time.sleep(0.01)"


def ask(code, pixels=None, **names):
    pixels = np.zeros((4, 6, 3), np.uint8) if pixels is None else pixels
    return RunCode(View(pixels, Provenance(RootPixels(pixels))), code, **names)


def run(sandbox, code, pixels=None, **names):
    """What came of one program."""
    request = ask(code, pixels, **names)
    (ran,) = sandbox.run([request])
    check_result(request, ran)
    return ran


def descendants(process):
    """The processes below one, by name."""
    found = []
    for child in _children().get(process, []):
        found += [child, *descendants(child)]
    return sorted(found)


def listed_processes(sandbox):
    """The processes of a sandbox's servers, which are there as long as it is."""
    return descendants(os.getpid())


def _children():
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    text = file.read()
            except OSError:
                continue
            state, parent = text.rpartition(")")[2].split()[:2]
            children.setdefault(int(parent), []).append(int(name))
    return children


def png_head(width, height):
    """A PNG that says that it is so large, with a few bytes of pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def works(command):
    """Whether a command can be run."""
    return shutil.which(command) is not None and subprocess.run([command, "--version"], check=False).returncode == 0
