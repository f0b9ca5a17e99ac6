"""Experts in processes of their own: several at the same time, and none that can hang or take the program with it."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import cloudpickle

from visenv.capabilities import Expert, ExpertFailure, Request, Result, View, foresees
from visenv.errors import ExpertError, InvalidData
from visenv.worker_asking import SENDING, Asking, ImageWork
from visenv.worker_pixels import Glance, Later, Ledger
from visenv.worker_process import Foreseen, ProcessLost, RemoteError, Reply, WorkerProcess

REMEMBERED = 4096
"""Images whose worker is remembered."""
FORESEEN = 256
"""Images to look at ahead that are remembered; of more, the first are forgotten."""


class ExpertProcesses:
    """Some processes, each of which holds the same experts.

    They start when they are first asked. A copy (``copy``, ``pickle``, a fork) starts its own.

    Args:
        experts: what each process holds a copy of.
        workers: how many processes.
        timeout: seconds that a process may take for its part of a batch, then it is killed; None for no limit. What
            starting takes is not counted.

    Raises:
        InvalidData: if a number is out of range, or an expert cannot be sent to another process.
    """

    def __init__(self, experts: Sequence[Expert], workers: int = 2, timeout: float | None = None) -> None:
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise InvalidData(f"Expected workers to be a whole number of at least 1, but got {workers!r}.")
        _check_timeout("timeout", timeout)
        self.experts, self.workers, self.timeout = tuple(experts), workers, timeout
        self.replaced = 0
        """How many processes were lost and replaced."""
        self.foreseeing = any(foresees(expert) for expert in self.experts)
        """Whether any of them can look at images before it is asked about them."""
        self._pickled = _pickled(self.experts)
        self._reset()

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.RLock()
        self._processes: list[WorkerProcess | None] = [None] * self.workers
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._seen: OrderedDict[str, int] = OrderedDict()
        """By an image's provenance key, the worker that looked at it last."""
        self._ahead: OrderedDict[str, Later] = OrderedDict()
        """Images that will likely be asked about, by provenance key."""
        self._ahead_lock = threading.Lock()
        self._looking_ahead = [0] * self.workers
        """How many images each process was given to look at ahead, and has not."""
        self.ledgers = [Ledger() for _ in range(self.workers)]
        """What pixels each process holds."""
        weakref.finalize(self, _end, self._processes, self._owner)

    def __getstate__(self) -> dict[str, Any]:
        """What new processes need; those that run stay behind."""
        return {"experts": self.experts, "workers": self.workers, "timeout": self.timeout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        ExpertProcesses.__init__(self, **state)

    def close(self) -> None:
        """End the processes; they start again if they are asked again."""
        with self._lock:
            _end(self._processes, self._owner)
            self._seen.clear()
            self._looking_ahead = [0] * self.workers
            with self._ahead_lock:
                self._ahead.clear()

    def run(self, expert: int, requests: Sequence[Request]) -> list[Result | ExpertFailure | ExpertError]:
        """Have a batch answered, part by part at the same time.

        Args:
            expert: the index of who answers.
            requests: in any order.

        Returns:
            In order, what ``Asking.collect`` gives.
        """
        with self.asking() as asking:
            tickets, answers = asking.ask(expert, requests), dict[int, Any]()
            while asking.pending:
                answers |= asking.collect()
            answers |= asking.collect()
        return [answers[ticket] for ticket in tickets]

    @contextlib.contextmanager
    def asking(self) -> Iterator[Asking]:
        """Ask, and go on asking as answers come; nobody else does meanwhile. Answers that nobody waits for are lost."""
        if self._owner != os.getpid():
            self._reset()
        with self._lock:
            asking = Asking(self)
            try:
                try:
                    yield asking
                except Exception:
                    asking.abandon()
                    raise
                asking.abandon()
            except BaseException as error:
                # Somebody stopped waiting: an answer that comes later must not be taken for the next one's.
                if asking.pending or not isinstance(error, Exception):
                    self._end_all()
                raise
            asking.leave()

    def foresee(self, views: Iterable[View]) -> None:
        """Have images looked at that will likely be asked about, by processes that nobody asks anything.

        For experts that can; may be called on any thread. Images that nobody holds any more are left out. What an
        expert enlarges needs no foreseeing: its process looks at it by itself, if nobody asks it anything.
        """
        if self.foreseeing:
            new = {view.provenance.key: Later(view) for view in views}
            with self._ahead_lock:
                self._ahead |= new
                while len(self._ahead) > FORESEEN:
                    self._ahead.popitem(last=False)

    def _end_all(self) -> None:
        for worker, process in enumerate(self._processes):
            if process is not None:
                self.lose(worker)

    # --- for whom it is that asks -------------------------------------------------------------------------------------

    def start(self, workers: Iterable[int]) -> None:
        """Replace processes of some workers that have died, and start those that are missing, at the same time."""
        for worker in workers:
            process = self._processes[worker]
            if process is not None and not process.alive:
                self.lose(worker)
        for worker, process in enumerate(self._processes):
            if process is None:
                self._processes[worker] = WorkerProcess(self._pickled, self._bell)
                self.ledgers[worker] = Ledger()
        for process in self._processes:
            if process is not None:
                with contextlib.suppress(ProcessLost):  # who asks it will find out
                    process.greet()

    def process(self, worker: int) -> WorkerProcess | ProcessLost | RemoteError:
        """The process of a worker, started if it is missing, once its experts are loaded; or why there is none."""
        if self._processes[worker] is None:
            self.start([])
        process = self._processes[worker]
        assert process is not None
        try:
            process.greet()
            process.await_ready()
        except (ProcessLost, RemoteError) as error:
            self.lose(worker)
            return error
        return process

    def heard(self, worker: int) -> Reply | None:
        """What a worker's process has said next, if anything.

        Raises:
            ProcessLost: if it has died.
        """
        process = self._processes[worker]
        said = process.reply() if process is not None and process.ready else None
        if isinstance(said, Foreseen):
            self._looking_ahead[worker] -= 1
        return said

    def wait(self, seconds: float | None) -> None:
        """Wait until a process says something; for so long at most."""
        with contextlib.suppress(queue.Empty):
            self._bell.get(timeout=seconds)
            while True:
                self._bell.get_nowait()

    def lose(self, worker: int) -> None:
        """Take note that a worker's process has gone, and with it what it knew."""
        if (process := self._processes[worker]) is not None:
            process.kill()
            self._processes[worker] = None
            self.replaced += 1
        for key in [key for key, where in self._seen.items() if where == worker]:
            del self._seen[key]
        self._looking_ahead[worker] = 0

    def look_ahead(self, worker: int, most: int) -> None:
        """Give a process images to look at once nothing is asked, up to so many at a time."""
        process = self._processes[worker]
        while process is not None and process.ready and self._looking_ahead[worker] < most:
            view = self._next_ahead(worker)
            if view is None:
                return
            with contextlib.suppress(ProcessLost):  # who asks it will find out
                process.foresee(self.ledgers[worker].parcel([Glance(view)]))
            self.remember(view.provenance.key, worker)
            self._looking_ahead[worker] += 1

    def _next_ahead(self, worker: int) -> View | None:
        """The first image that no other process holds."""
        with self._ahead_lock:
            for key in list(self._ahead):
                view = self._ahead[key].view()
                if view is None or key in self._seen:
                    del self._ahead[key]
                elif key in self.ledgers[worker] or not any(key in ledger for ledger in self.ledgers):
                    del self._ahead[key]
                    return view
        return None

    def assign(self, requests: Sequence[Request], loads: list[float]) -> list[list[ImageWork]]:
        """Which worker answers which requests, as images, the largest first.

        Requests about one image stay together, and go where that image was before, unless it is quicker elsewhere.

        Args:
            requests: what is asked.
            loads: what each worker has to do already.
        """
        images: dict[str, ImageWork] = {}
        for place, request in enumerate(requests):
            images.setdefault(request.view.provenance.key, ImageWork(request)).add(place, request)
        assigned: list[list[ImageWork]] = [[] for _ in range(self.workers)]
        for key, image in sorted(images.items(), key=lambda item: -item[1].side):
            before = self._seen.get(key)
            costs = [
                image.cost(worker == before) + SENDING * (key not in self.ledgers[worker])
                for worker in range(self.workers)
            ]
            ends = [load + cost for load, cost in zip(loads, costs, strict=True)]
            worker = ends.index(min(ends))
            loads[worker] = ends[worker]
            image.share, image.fresh = costs[worker], image.looked_at and worker != before
            assigned[worker].append(image)
            if (looked := worker if image.looked_at else before) is not None:
                self.remember(key, looked)
        return assigned

    def remember(self, key: str, worker: int) -> None:
        """Take note that a worker looks at an image."""
        self._seen[key] = worker
        self._seen.move_to_end(key)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)


class WorkerExpert:
    """An expert that runs in other processes, in as many at a time as there are workers.

    It gives the results of the expert itself. Requests about one image go to one process, so that an expert that
    remembers images does its work on each once. A part of a batch that takes longer than ``timeout`` costs its process,
    which is replaced: its requests are then asked one at a time, and who times out alone fails. The same happens to a
    part whose process dies. Once two requests of a part have failed so, the others of it that were not answered yet
    fail without being asked; so no batch loses more than three times ``timeout`` for each process, and the parts of
    other workers are not concerned.

    Args:
        expert: who answers. It is copied to every process, by cloudpickle, with what it refers to.
        workers: how many processes.
        timeout: seconds that a process may take for its part of a batch; None for no limit.
        processes: shared ones, which hold ``expert``; of its own if left out.

    Raises:
        InvalidData: if a number is out of range, or the expert cannot be copied to another process.

    Example:
        >>> from visenv.experts.classical import Classical
        >>> expert = WorkerExpert(Classical(), workers=2, timeout=30)
        >>> expert.name, expert.fingerprint == Classical().fingerprint
        ('classical', True)
        >>> expert.close()
    """

    mixes_capabilities = True
    """A batch may hold requests of several capabilities; a process asks the expert for one at a time."""

    def __init__(
        self,
        expert: Expert,
        workers: int = 2,
        timeout: float | None = None,
        *,
        processes: ExpertProcesses | None = None,
    ) -> None:
        self.processes = ExpertProcesses([expert], workers, timeout) if processes is None else processes
        self.expert = expert
        self._index = next(index for index, held in enumerate(self.processes.experts) if held is expert)
        self.name, self.fingerprint = expert.name, expert.fingerprint
        self.capabilities, self.per_sample = expert.capabilities, expert.per_sample
        self.max_batch = max(1, expert.max_batch) * self.processes.workers

    def run(self, requests: Sequence[Request]) -> list[Result | ExpertFailure | ExpertError]:
        """Answer a batch; see ``ExpertProcesses.run`` for what stands in the place of a result that is none."""
        return self.processes.run(self._index, requests)

    @property
    def index(self) -> int:
        """Which of the experts of its processes it is."""
        return self._index

    def close(self) -> None:
        """End the processes; they start again if they are asked again."""
        self.processes.close()


def in_workers(experts: Mapping[str, Expert], workers: int, timeout: float | None = None) -> dict[str, Expert]:
    """The same experts in other processes, all of them in each.

    Args:
        experts: by capability. Those that are in other processes or on a server already stay as they are.
        workers: how many processes; 0 leaves all of them in this one.
        timeout: seconds that a process may take for its part of a batch; None for no limit.

    Raises:
        InvalidData: if a number is out of range, a timeout is asked for without workers, or an expert cannot be copied.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 0:
        raise InvalidData(f"Expected expert_workers to be a whole number of at least 0, but got {workers!r}.")
    _check_timeout("expert_timeout", timeout)
    if timeout is not None and not workers:
        raise InvalidData(
            f"Expected expert_workers of at least 1 with expert_timeout={timeout!r}: an expert in this process cannot "
            "be interrupted."
        )
    here = list({id(expert): expert for expert in experts.values() if not _elsewhere(expert)}.values())
    if not workers or not here:
        return dict(experts)
    processes = ExpertProcesses(here, workers, timeout)
    wrapped: dict[int, Expert] = {id(expert): WorkerExpert(expert, processes=processes) for expert in here}
    return {capability: wrapped.get(id(expert), expert) for capability, expert in experts.items()}


def _elsewhere(expert: Expert) -> bool:
    """Whether an expert runs in other processes, or says that it is remote."""
    return isinstance(expert, WorkerExpert) or bool(getattr(expert, "remote", False))


def _end(processes: list[WorkerProcess | None], owner: int) -> None:
    """End processes, unless they are those of the process that this one was forked from."""
    if owner != os.getpid():
        return
    running = [process for process in processes if process is not None]
    processes[:] = [None] * len(processes)
    for process in running:
        process.stop()
    for process in running:
        process.wait()


def _pickled(experts: Sequence[Expert]) -> bytes:
    try:
        return bytes(cloudpickle.dumps(list(experts)))
    except Exception as error:
        names = ", ".join(expert.name for expert in experts)
        raise InvalidData(
            f"Expected experts that can be copied to another process, but {names} cannot be pickled "
            f"({type(error).__name__}: {error}): leave out what cannot be copied, or use expert_workers=0."
        ) from error


def _check_timeout(name: str, timeout: float | None) -> None:
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if timeout is not None and not (number and 0 < timeout < math.inf):
        raise InvalidData(f"Expected {name} to be seconds above 0, or None, but got {timeout!r}.")
