"""Programs in sandboxes that are kept ready, and in new ones: ``python -m benchmarks.bench_sandbox``.

Each program turns an image of 256x256 pixels upside down. It runs in the expert's sandboxes, where interpreter and
libraries are there already; in a ``bwrap`` that is started for it; and in a plain subprocess, without any protection.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from benchmarks._timing import Row, print_rows, row, timed
from visenv.capabilities import Ran, RunCode, View
from visenv.experts.sandbox import Bubblewrap, Limits, Sandbox
from visenv.images import Provenance, RootPixels

CODE = "import cv2\ncv2.imwrite('output.png', cv2.rotate(cv2.imread('input.png'), cv2.ROTATE_180))\n"


def request(seed: int) -> RunCode:
    """A program and its image."""
    pixels = np.random.default_rng(seed).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    return RunCode(View(pixels, Provenance(RootPixels(pixels))), CODE)


def in_subprocess(asked: RunCode) -> np.ndarray:
    """The same without protection: a new interpreter, in a folder that is deleted afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        cv2.imwrite(str(Path(folder, "input.png")), asked.view.pixels[..., ::-1])
        subprocess.run([sys.executable, "-c", asked.code], cwd=folder, check=True)
        return cv2.imread(str(Path(folder, "output.png")))[..., ::-1]


def in_new_sandbox(asked: RunCode) -> np.ndarray:
    """A new bwrap around a new interpreter, with the same things bound as the expert binds."""
    command = Bubblewrap().command(Limits(), os.getpid())
    end = command.index("--")
    with tempfile.TemporaryDirectory() as folder:
        cv2.imwrite(str(Path(folder, "input.png")), asked.view.pixels[..., ::-1])
        subprocess.run(
            [*_bound(command[:end], folder), "--", command[end + 1], "-s", "-S", "-B", "-c", asked.code],
            env=Bubblewrap().environment(),
            check=True,
        )
        return cv2.imread(str(Path(folder, "output.png")))[..., ::-1]


def _bound(options: list[str], folder: str) -> list[str]:
    """The expert's options with a folder of the machine in the place of one in memory."""
    place = options.index("--remount-ro")
    after = ["/folder" if word == "/" and options[at - 1] == "--chdir" else word for at, word in enumerate(options)]
    return [*options[:place], "--bind", folder, "/folder", *after[place:]]


def each(asked: list[RunCode], answer: Callable[[RunCode], object]) -> float:
    """The median of what single calls take."""
    return median(timed(answer, one)[0] for one in asked)


def run(repeats: int = 3, quick: bool = False) -> list[Row]:
    """Return the rows of the report."""
    count = 4 if quick else 20 * repeats
    asked = [request(seed) for seed in range(count)]
    sandbox = Sandbox("bubblewrap")
    first, _ = timed(sandbox.run, asked[:1])
    assert all(
        isinstance(ran, Ran) and np.array_equal(ran.pixels, one.view.pixels[::-1, ::-1])
        for ran, one in zip(sandbox.run(asked), asked, strict=True)
    ), "a program did not do what it was to do"
    warm = each(asked, lambda one: sandbox.run([one]))
    batch = timed(sandbox.run, asked)[0] / count
    few = asked[: max(3, count // 6)]
    cold, plain = each(few, in_new_sandbox), each(few, in_subprocess)
    sandbox.close()
    detail = f"256x256 pixels turned with OpenCV; {sandbox.workers} at once in a batch of {count}"
    return [
        row("one program", warm, "a new bwrap with Python", cold, detail),
        row("one program", warm, "a plain subprocess", plain, detail),
        row("a program of a batch", batch, "a new bwrap with Python", cold, detail),
        row("the first program", first, "a new bwrap with Python", cold, json.dumps(sandbox.versions).strip("{}")),
    ]


if __name__ == "__main__":
    print_rows(run())
