"""Drivers: whoever runs a step to its end, and has its requests answered meanwhile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import TypeAlias, TypeVar

from visenv.capabilities import ExpertFailure, Request, Result
from visenv.experts_pool import ExpertPool

T = TypeVar("T")

Steps: TypeAlias = "Generator[list[Request], Sequence[Result | ExpertFailure], T]"


def drive(steps: Steps[T], pool: ExpertPool) -> T:
    """The immediate driver: run a step to its end, answering its requests as they come.

    Args:
        steps: what ``Episode.step`` returned.
        pool: who answers.
    """
    try:
        requests = next(steps)
        while True:
            requests = steps.send(pool.answer(requests))
    except StopIteration as stop:
        return stop.value


def drive_all(steps: Sequence[Steps[T]], pool: ExpertPool, ended: Callable[[int, T], None] | None = None) -> list[T]:
    """The batched driver: run many steps to their ends side by side.

    What all of them ask is gathered and answered together. A step goes on as soon as all that it has asked is answered:
    where experts work in this process, that is in rounds, and a step that asks twice takes part in two of them; where
    they work in others, it is while these are at work on what the other steps ask.

    Args:
        steps: what ``Episode.step`` returned, of different episodes.
        pool: who answers.
        ended: called for each step that has come to its end, with its index and what it came to; others may still wait.

    Returns:
        What each step came to, in order.

    Raises:
        Exception: what a step raised; those that wait for results then are closed and never taken, those that had come
            to their end before stay taken.
    """
    results: dict[int, T] = {}
    keys: dict[int, list[Hashable]] = {}
    """What each step has asked."""
    missing: dict[int, int] = {}
    """How many answers each step waits for."""
    waiting: dict[Hashable, list[int]] = {}
    """Which steps wait for an answer."""
    ready: deque[int] = deque(range(len(steps)))
    try:
        with pool.asking() as asking:
            while ready or missing:
                while ready:
                    index = ready.popleft()
                    try:
                        asked = keys.pop(index, None)
                        step = steps[index]
                        requests = next(step) if asked is None else step.send([asking.answers[key] for key in asked])
                    except StopIteration as stop:
                        results[index] = stop.value
                        if ended is not None:
                            ended(index, stop.value)
                        continue
                    keys[index] = asking.ask(requests)
                    unknown = {key for key in keys[index] if key not in asking.answers}
                    for key in unknown:
                        waiting.setdefault(key, []).append(index)
                    if unknown:
                        missing[index] = len(unknown)
                    else:
                        ready.append(index)
                for key in asking.work() if missing else ():
                    for index in waiting.pop(key, ()):
                        missing[index] -= 1
                        if not missing[index]:
                            del missing[index]
                            ready.append(index)
    finally:
        for step in steps:
            step.close()
    return [results[index] for index in range(len(steps))]
