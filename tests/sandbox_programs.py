"""How the tests of the sandbox ask for programs, and look at its processes from outside."""

import os
import platform
import shutil
import struct
import subprocess
import time
import zlib

import numpy as np
import pytest

from visenv.capabilities import RunCode, View
from visenv.experts.sandbox import Limits
from visenv.experts_checks import check_result
from visenv.images import Provenance, RootPixels

# Where bubblewrap can be, it is a part of what the tests need: .ci/run installs it.
needs_bubblewrap = pytest.mark.skipif(platform.system() != "Linux", reason="namespaces are Linux's")
CONFINED = Limits(
    seconds=20, cpu_seconds=1, memory_mb=128, processes=8, folder_mb=8, files=50, text_chars=500, image_mb=4
)
"""Of the programs that try to get out."""
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
    """The processes below one."""
    return _below(process, _processes()[1])


def sandboxed():
    """The processes of the sandboxes of this process, which has others too."""
    names, children = _processes()
    roots = [child for child in children.get(os.getpid(), []) if names[child] == "bwrap"]
    return sorted(process for root in roots for process in (root, *_below(root, children)))


def idle_servers():
    """The processes of all sandboxes, while nothing runs in them."""
    looks = []
    for _ in range(20):
        looks.append(sandboxed())
        time.sleep(0.02)  # the programs with which they were tried out are just leaving
    return min(looks, key=len)


def assert_nothing_is_left(servers):
    """After every program there are the servers' processes, and no other: they have met nothing."""
    deadline = time.monotonic() + 3
    while sandboxed() != servers and time.monotonic() < deadline:
        time.sleep(0.01)  # the one that has answered is just leaving
    assert sandboxed() == servers


def _below(process, children):
    found = []
    for child in children.get(process, []):
        found += [child, *_below(child, children)]
    return sorted(found)


def _processes():
    """The names and the children of all processes, by their numbers."""
    names, children = {}, {}
    for process in os.listdir("/proc"):
        if process.isdigit():
            try:
                with open(f"/proc/{process}/stat", errors="replace") as file:
                    text = file.read()
            except OSError:
                continue
            head, _, tail = text.rpartition(")")
            names[int(process)] = head.partition("(")[2]
            children.setdefault(int(tail.split()[1]), []).append(int(process))
    return names, children


def png_head(width, height):
    """A PNG that says that it is so large, with a few bytes of pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def works(command):
    """Whether a command can be run."""
    return shutil.which(command) is not None and subprocess.run([command, "--version"], check=False).returncode == 0
