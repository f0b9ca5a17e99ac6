"""Experts in processes of their own, and what became of these."""

import os
import time
from contextlib import contextmanager

import numpy as np
from process_stubs import ObedientExpert

from visenv.capabilities import ExpertFailure
from visenv.experts_workers import WorkerExpert
from visenv.workspace import Workspace


def eight_views():
    """Of eight different pictures."""
    pictures = [np.full((32, 48, 3), 20 * number, np.uint8) for number in range(8)]
    return [Workspace((picture,)).view("img_0", "") for picture in pictures]


@contextmanager
def worker_experts(log):
    """Makes obedient experts in processes, and ends these."""
    made = []

    def make(kind=ObedientExpert, **keywords):
        made.append(WorkerExpert(kind(log), **keywords))
        return made[-1]

    yield make
    for expert in made:
        expert.close()


def processes(answers):
    """The process that gave each answer."""
    return [int(answer.points[0, 0]) for answer in answers]


def exists(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid, seconds=10):
    """Whether a process ends in time."""
    for _ in range(int(seconds / 0.05)):
        if not exists(pid):
            return True
        time.sleep(0.05)
    return False


def asked(log):
    """The phrases of each batch, in the order of the log."""
    return [line.split(" ", 1)[1].split(",") for line in log.read_text().splitlines()]


def failures(answers):
    return [answer.message if isinstance(answer, ExpertFailure) else None for answer in answers]
