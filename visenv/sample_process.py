"""A process that draws samples, so that drawing them takes no time from the program that asks for them."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import signal
import subprocess
import weakref
from typing import Any

import cloudpickle
import numpy as np

from visenv.datasets.base import Dataset
from visenv.types import Sample
from visenv.worker_process import GRACE_SECONDS, claim_streams, launch, receive, send

NICE = 5
"""How much the process gives way to others, in the system's terms: what it does is not urgent."""


class SampleProcess:
    """Draws samples of one data set in another process: the same as the data set itself.

    Whatever goes wrong there is left behind, and the data set itself is asked. One thread may draw at a time.

    Args:
        dataset: any; one that does not say that it is ``replicable`` draws in this process.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._owner = os.getpid()
        self._running: list[tuple[subprocess.Popen[bytes], io.BufferedWriter, io.BufferedReader]] = []
        self._useful = bool(getattr(dataset, "replicable", False))
        self._end = weakref.finalize(self, _end, self._running, self._owner)

    def draw(self, rng: np.random.Generator) -> tuple[Sample, np.random.Generator]:
        """A sample by chance, and the generator as it is after that.

        Raises:
            Exception: what the data set raises.
        """
        if self._useful and self._owner == os.getpid():
            try:
                return self._draw_there(rng)
            except Exception:
                self._useful = False
                self.close()
        return self._dataset.draw(rng), rng

    def _draw_there(self, rng: np.random.Generator) -> tuple[Sample, np.random.Generator]:
        if not self._running:
            dataset = cloudpickle.dumps(self._dataset)
            self._running.append(launch(__name__))
            receive(self._running[0][2])  # until it listens, what is written is lost
            send(self._running[0][1], dataset)
        _, requests, replies = self._running[0]
        send(requests, rng)
        drawn: tuple[Sample, np.random.Generator] = receive(replies)
        return drawn

    def close(self) -> None:
        """End the process."""
        _end(self._running, self._owner)


def _end(running: list[tuple[subprocess.Popen[bytes], io.BufferedWriter, io.BufferedReader]], owner: int) -> None:
    """End the process, unless it is that of the process that this one was forked from."""
    while running and owner == os.getpid():
        process, requests, replies = running.pop()
        with contextlib.suppress(OSError):
            requests.close()
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        replies.close()


def serve() -> None:
    """Be the process: draw until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    replies, requests = claim_streams()
    with contextlib.suppress(AttributeError, OSError):
        os.nice(NICE)
    send(replies, None)
    import cv2

    cv2.setNumThreads(1)
    with contextlib.suppress(EOFError, OSError):
        dataset: Any = pickle.loads(receive(requests))
        while True:
            rng = receive(requests)
            sample = dataset.draw(rng)
            send(replies, (sample, rng))
