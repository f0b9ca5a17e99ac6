"""Sandboxes that are kept ready, each for one program at a time."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from visenv.experts.sandbox.backends import Backend
from visenv.experts.sandbox.limits import Limits
from visenv.experts.sandbox.worker import Answer, SandboxLost, Worker

_TOKENS = itertools.count()


class SandboxPool:
    """Up to so many sandboxes at the same time, started when they are needed and used again where they can be.

    Args:
        backend: starts them.
        limits: of each program.
        count: the most of them.
    """

    def __init__(self, backend: Backend, limits: Limits, count: int) -> None:
        self.backend, self.limits, self.count = backend, limits, count
        self.owner = os.getpid()
        """The process whose sandboxes these are."""
        self._free = threading.Semaphore(count)
        self._lock = threading.Lock()
        self._idle: list[Worker] = []
        self._spares: list[Future[Worker]] = []
        self._all: set[Worker] = set()
        self._closed = False
        # Sandboxes end with the thread that has started them, so that none outlives a process that was killed: this
        # thread stays as long as the pool.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="visenv-sandbox")

    def run(self, code: str, source: str, image: bytes, target: str) -> Answer:
        """Run a program, in a sandbox that is free; waits for one. May be called on several threads.

        Raises:
            SandboxLost: if the sandbox is lost over it, or none can be started.
        """
        with self._free, self._worker() as worker:
            return worker.run(code, source, image, target)

    def versions(self) -> dict[str, str]:
        """Of Python and of the modules, in a sandbox.

        Raises:
            SandboxLost: if none can be started.
        """
        with self._free, self._worker() as worker:
            return worker.versions

    def close(self) -> None:
        """End them all."""
        with self._lock:
            self._closed = True
            spares, self._spares = self._spares, []
            self._idle = []
        if os.getpid() == self.owner:
            for spare in spares:
                spare.cancel()
            self._starter.shutdown(wait=True)
        for worker in list(self._all):
            worker.close()
        self._all.clear()

    @contextlib.contextmanager
    def _worker(self) -> Iterator[Worker]:
        worker = self._taken()
        before = worker.served
        good = False
        try:
            worker.wait()
            yield worker
            good = True
        finally:
            used_up = 0 < self.backend.uses <= worker.served
            with self._lock:
                keep = good and not used_up and not self._closed
                if keep:
                    self._idle.append(worker)
                elif worker.served > before and used_up and not self._closed:
                    self._spares.append(self._starter.submit(self._start))
            if not keep:
                worker.close()
                self._all.discard(worker)

    def _taken(self) -> Worker:
        with self._lock:
            if self._closed:
                raise SandboxLost("the sandboxes were closed")
            if self._idle:
                return self._idle.pop()
            spare = self._spares.pop(0) if self._spares else self._starter.submit(self._start)
        return spare.result()

    def _start(self) -> Worker:
        worker = Worker(self.backend, self.limits, os.getpid() * 1000 + next(_TOKENS) % 1000)
        self._all.add(worker)
        return worker
