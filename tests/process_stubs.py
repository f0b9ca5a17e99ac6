"""Experts for processes of their own: what they do is written in the phrase that they are asked for."""

import os
import signal
import time

import numpy as np
from stubs import BrightExpert

from visenv.capabilities import PointPhrase, Points


class ObedientExpert(BrightExpert):
    """Points at (its process, the size of its batch), after doing what the phrase says.

    Args:
        log: a file to which each batch adds a line: its process and its phrases.
    """

    name = "obedient"
    max_batch = 8

    def __init__(self, log=None):
        super().__init__()
        self.log = log

    def run(self, requests):
        phrases = [getattr(request, "phrase", "") for request in requests]
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{os.getpid()} {','.join(phrases)}\n")
        for phrase in phrases:
            what, _, argument = phrase.partition(" ")
            if what == "hang":
                time.sleep(3600)
            elif what == "die":
                os._exit(3)
            elif what == "crash":
                os.kill(os.getpid(), signal.SIGSEGV)
            elif what == "raise":
                raise RuntimeError("no")
            elif what == "memory" and len(requests) > 1:
                raise MemoryError
            elif what == "print":
                print("not an answer", flush=True)
            elif what == "nap":
                time.sleep(float(argument))
            elif what == "meet":
                meet(argument)
        points = Points(np.array([[os.getpid(), len(requests)]]), np.ones(1))
        return [points if isinstance(request, PointPhrase) else self.answer(request) for request in requests]


class DivisibleExpert(ObedientExpert):
    """The same, gaining nothing from large batches."""

    divisible = True


class ForeseeingExpert(ObedientExpert):
    """The same, noting in its log what it looks at ahead: the size and the brightness of images."""

    def foresee(self, views):
        with open(self.log, "a") as file:
            for view in views:
                file.write(f"{os.getpid()} ahead {view.size[0]} {view.pixels.max()} {view.to_root[0, 0]}\n")


class MeetingExpert(ForeseeingExpert):
    """The same; whoever is first to look ahead waits until the other process does, too."""

    def foresee(self, views):
        super().foresee(views)
        folder = f"{self.log}-meeting"
        os.makedirs(folder, exist_ok=True)
        meet(folder)


def meet(folder):
    """Wait until two processes are here at the same time."""
    open(os.path.join(folder, str(os.getpid())), "w").close()
    for _ in range(1000):
        if len(os.listdir(folder)) == 2:
            return
        time.sleep(0.02)
    raise TimeoutError("nobody else came")
