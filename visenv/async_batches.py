"""The asynchronous driver: expert requests of many coroutines, gathered into batches.

A coroutine that needs experts waits; those that ask within a few milliseconds are answered by one call of the pool, on
a thread, so that the event loop goes on. Calls of one expert follow one another, those of different experts overlap.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar

from visenv.capabilities import Expert, ExpertFailure, Request, Result
from visenv.driving import Steps
from visenv.errors import InvalidData
from visenv.experts_pool import ExpertPool

T = TypeVar("T")
WINDOW = 0.005
"""Seconds for which requests are gathered."""


class ExpertThreads:
    """The threads on which experts run: as many an expert as calls of it may run at the same time.

    That is one, unless the expert has an attribute ``concurrent_calls`` that says more.
    """

    def __init__(self) -> None:
        self._threads: dict[int, tuple[Expert | None, ThreadPoolExecutor]] = {}

    def of(self, expert: Expert | None) -> ThreadPoolExecutor:
        """The threads of an expert; None stands for requests that no expert answers."""
        if id(expert) not in self._threads:
            made = ThreadPoolExecutor(concurrent_calls(expert), thread_name_prefix="visenv-experts")
            # Kept with the expert, whose id nobody else gets as long as it lives.
            self._threads[id(expert)] = (expert, made)
        return self._threads[id(expert)][1]

    def close(self) -> None:
        """Wait for calls that are under way, and end the threads."""
        for _, threads in self._threads.values():
            threads.shutdown(wait=True, cancel_futures=True)
        self._threads.clear()


def concurrent_calls(expert: Expert | None) -> int:
    """How many calls of an expert may run at the same time: its ``concurrent_calls``, one if it has none."""
    return max(1, int(getattr(expert, "concurrent_calls", 1)))


@dataclass(eq=False)
class _Ask:
    """What one coroutine waits for."""

    answers: list[Any]
    future: asyncio.Future[None]
    missing: int


_Place: TypeAlias = tuple[_Ask, int, Request]
"""A request, and where its answer belongs."""


@dataclass(eq=False)
class _Queue:
    """What waits for an expert: of one capability, as batches are, unless the expert mixes them."""

    expert: Expert | None
    waiting: list[_Place] = field(default_factory=list)
    since: float = 0.0
    """When the oldest request came, by the loop's clock."""
    timer: asyncio.TimerHandle | None = None
    due: bool = False
    """Whether the oldest request has waited for a whole window."""

    def ready(self, everybody_waits: bool) -> bool:
        """Whether there is a reason to wait no longer."""
        if not self.waiting:
            return False
        return everybody_waits or self.due or self.expert is None or len(self.waiting) >= self.expert.max_batch


class AsyncPool:
    """An ``ExpertPool`` for coroutines of one event loop.

    Requests wait for others until the window is over, until they fill a batch of their expert, or until all members
    wait: then nobody is left who might ask. While an expert works, what is asked of it is gathered for its next call.

    Args:
        pool: who answers.
        threads: where experts run; own ones if left out.
        window: for how many seconds requests are gathered.

    Example:
        >>> import asyncio, gymnasium as gym, visenv
        >>> env = gym.make("VisHarness/RefSeg-v0", experts="oracle", split="val").unwrapped
        >>> _ = env.reset(options={"index": 0})
        >>> async def turn():
        ...     call = {"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "cat"}}
        ...     return env.finish(await drive_async(env.stepping(call), AsyncPool(env.pool)))
        >>> asyncio.run(turn()).turn.error is None
        True
    """

    def __init__(self, pool: ExpertPool, threads: ExpertThreads | None = None, window: float = WINDOW) -> None:
        self._pool, self._threads, self._window = pool, threads or ExpertThreads(), window
        self._queues: dict[tuple[int, str], _Queue] = {}
        self._under_way: Counter[int] = Counter()
        """Calls, by the expert's id."""
        self._asking: set[_Ask] = set()
        self._calls: set[asyncio.Future[list[Result | ExpertFailure]]] = set()
        self._members = 0
        self._closed = False

    @contextmanager
    def member(self) -> Iterator[None]:
        """For as long as this is entered, one more coroutine may ask, and others wait for it within the window."""
        self._members += 1
        try:
            yield
        finally:
            self._members -= 1
            self._dispatch()

    async def answer(self, requests: Sequence[Request]) -> list[Result | ExpertFailure]:
        """Answer requests, in order; whatever fails is a failure in its own place and harms no other.

        Raises:
            InvalidData: after ``close``.
        """
        if self._closed:
            raise InvalidData("The pool is closed: make a new one.")
        if not requests:
            return []
        loop = asyncio.get_running_loop()
        ask = _Ask([None] * len(requests), loop.create_future(), len(requests))
        for place, request in enumerate(requests):
            expert = self._pool.experts.get(request.capability)
            kind = "" if getattr(expert, "mixes_capabilities", False) else request.capability
            queue = self._queues.setdefault((id(expert), kind), _Queue(expert))
            queue.since = queue.since if queue.waiting else loop.time()
            queue.waiting.append((ask, place, request))
        self._asking.add(ask)
        self._dispatch()
        try:
            await ask.future
        finally:
            self._withdraw(ask)
        return ask.answers

    def close(self) -> None:
        """Begin no more calls, and wait for none: whoever waits for answers is cancelled."""
        self._closed = True
        for queue in self._queues.values():
            if queue.timer is not None:
                queue.timer.cancel()
        for call in self._calls:
            call.cancel()
        for ask in self._asking:
            ask.future.cancel()

    def _withdraw(self, ask: _Ask) -> None:
        """Wait no longer for what was asked; what experts are at work on comes to its end, for the cache."""
        if ask in self._asking:
            self._asking.discard(ask)
            for queue in self._queues.values():
                queue.waiting = [place for place in queue.waiting if place[0] is not ask]

    def _dispatch(self) -> None:
        """Begin the calls that should begin now, and set the timers of those that wait for company."""
        if self._closed:
            return
        everybody_waits = 0 < self._members <= len(self._asking)
        for queue in sorted(self._queues.values(), key=lambda queue: queue.since):
            free = self._under_way[id(queue.expert)] < concurrent_calls(queue.expert)
            if free and queue.ready(everybody_waits):
                self._call(queue)
            if queue.waiting and queue.timer is None and not queue.due:
                loop = asyncio.get_running_loop()
                queue.timer = loop.call_later(self._window, self._window_over, queue)

    def _window_over(self, queue: _Queue) -> None:
        queue.timer, queue.due = None, bool(queue.waiting)
        self._dispatch()

    def _call(self, queue: _Queue) -> None:
        if queue.timer is not None:
            queue.timer.cancel()
        places, queue.waiting, queue.timer, queue.due = queue.waiting, [], None, False
        self._under_way[id(queue.expert)] += 1
        requests = [request for _, _, request in places]
        threads = self._threads.of(queue.expert)
        call = asyncio.get_running_loop().run_in_executor(threads, self._pool.answer, requests)
        self._calls.add(call)
        call.add_done_callback(partial(self._ended, queue, places))

    def _ended(self, queue: _Queue, places: list[_Place], call: asyncio.Future[list[Result | ExpertFailure]]) -> None:
        self._calls.discard(call)
        self._under_way[id(queue.expert)] -= 1
        if self._closed:
            return
        error = InvalidData("The experts' threads have been closed.") if call.cancelled() else call.exception()
        if error is not None:
            for ask, _, _ in places:
                if ask in self._asking:
                    self._withdraw(ask)
                    ask.future.set_exception(error)
        else:
            for (ask, place, _), answer in zip(places, call.result(), strict=True):
                ask.answers[place] = answer
                ask.missing -= 1
                if not ask.missing and ask in self._asking:
                    # Not at its own waking up: until then it would count among those that wait.
                    self._asking.discard(ask)
                    ask.future.set_result(None)
        self._dispatch()


async def drive_async(steps: Steps[T], pool: AsyncPool) -> T:
    """The asynchronous driver: run a step to its end, awaiting the answers to its requests.

    A step that is cancelled while it waits has not been taken: its episode is as it was.

    Args:
        steps: what ``Episode.step`` returned.
        pool: who answers.
    """
    try:
        requests = next(steps)
        while True:
            requests = steps.send(await pool.answer(requests))
    except StopIteration as stop:
        value: T = stop.value
        return value
    finally:
        steps.close()
