"""Experts in processes of their own: several at the same time, and none that can hang or take the program with it."""

from __future__ import annotations

import contextlib
import math
import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cloudpickle

from visenv.capabilities import Expert, ExpertFailure, Request, Result, Upscale
from visenv.errors import ExpertError, InvalidData
from visenv.worker_pixels import Ledger
from visenv.worker_process import ProcessLost, RemoteError, WorkerProcess

LOST_ALONE = 2
"""How many single requests may each cost one worker its process, in one batch, before it is asked no more."""
REMEMBERED = 4096
"""Images whose worker is remembered."""
KNOWN = 10.0
"""What a request costs about an image that a worker was asked about before, in pixels of the side of a new image."""
SENDING = 4.0
"""What sending an image costs, likewise."""


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
        self._pickled = _pickled(self.experts)
        self._reset()

    def _reset(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._processes: list[WorkerProcess | None] = [None] * self.workers
        self._seen: OrderedDict[str, int] = OrderedDict()
        """By an image's provenance key, the worker that looked at it last."""
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

    def run(self, expert: int, requests: Sequence[Request]) -> list[Result | ExpertFailure | ExpertError]:
        """Have a batch answered, part by part at the same time.

        Args:
            expert: the index of who answers.
            requests: in any order; those about one image go to one process.

        Returns:
            In order: results; an ``ExpertError`` for each request of a part in which the expert raised; and an
            ``ExpertFailure`` where all has been tried.
        """
        if self._owner != os.getpid():
            self._reset()
        with self._lock:
            try:
                return _Batch(self, expert, requests).run()
            except BaseException:
                # Somebody stopped waiting: an answer that comes later must not be taken for the next one's.
                self._end_all()
                raise

    def _end_all(self) -> None:
        for worker, process in enumerate(self._processes):
            if process is not None:
                self.lose(worker)

    def ready(self, workers: Iterable[int]) -> dict[int, WorkerProcess | ProcessLost | RemoteError]:
        """The processes of some workers, or why there is none; whatever is missing is started, all at the same time."""
        for worker, process in enumerate(self._processes):
            if process is not None and not process.alive:
                self.lose(worker)
            if self._processes[worker] is None:
                self._processes[worker], self.ledgers[worker] = WorkerProcess(self._pickled), Ledger()
        found: dict[int, WorkerProcess | ProcessLost | RemoteError] = {}
        found |= {worker: process for worker in workers if (process := self._processes[worker]) is not None}
        for step in (WorkerProcess.greet, WorkerProcess.await_ready):
            for worker, started in found.items():
                if isinstance(started, WorkerProcess):
                    try:
                        step(started)
                    except (ProcessLost, RemoteError) as error:
                        found[worker] = error
                        self.lose(worker)
        return found

    def lose(self, worker: int) -> None:
        """Take note that a worker's process has gone, and with it what it knew."""
        if (process := self._processes[worker]) is not None:
            process.kill()
            self._processes[worker] = None
            self.replaced += 1
        for key in [key for key, where in self._seen.items() if where == worker]:
            del self._seen[key]

    def assign(self, requests: Sequence[Request]) -> list[list[int]]:
        """Which worker answers which requests, as positions by worker.

        Requests about one image stay together, and go where that image was before, unless it is quicker elsewhere.
        """
        images: dict[str, _Image] = {}
        for place, request in enumerate(requests):
            images.setdefault(request.view.provenance.key, _Image(request)).add(place, request)
        loads, assigned = [0.0] * self.workers, [list[int]() for _ in range(self.workers)]
        for key, image in sorted(images.items(), key=lambda item: -item[1].side):
            before = self._seen.pop(key, None)
            ends = [
                loads[worker] + image.cost(worker == before) + SENDING * (key not in self.ledgers[worker])
                for worker in range(self.workers)
            ]
            worker = ends.index(min(ends))
            loads[worker] = ends[worker]
            assigned[worker] += image.places
            if (looked := worker if image.looked_at else before) is not None:
                self._seen[key] = looked
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return [sorted(places) for places in assigned]


class _Image:
    """What is asked about one image, and about what it costs: looking at a new one is most of it, and enlarging one."""

    def __init__(self, request: Request) -> None:
        self.side = math.sqrt(math.prod(request.view.size))
        self.places: list[int] = []
        self.looked_at = False
        self._work = 0.0

    def add(self, place: int, request: Request) -> None:
        enlarged = isinstance(request, Upscale)
        self.places.append(place)
        self.looked_at |= not enlarged
        self._work += self.side / 2 if enlarged else KNOWN

    def cost(self, known: bool) -> float:
        return self._work + self.side * (self.looked_at and not known)


class _Batch:
    """One call of ``ExpertProcesses.run``."""

    def __init__(self, processes: ExpertProcesses, expert: int, requests: Sequence[Request]) -> None:
        self.processes, self.expert, self.requests = processes, expert, requests
        self.name = processes.experts[expert].name
        most = max(1, processes.experts[expert].max_batch)
        self.waiting = [
            deque(places[start : start + most] for start in range(0, len(places), most))
            for places in processes.assign(requests)
        ]
        self.lost_alone = [0] * processes.workers
        self.answers: dict[int, Result | ExpertFailure | ExpertError] = {}

    def run(self) -> list[Result | ExpertFailure | ExpertError]:
        """Hand every worker its next part, wait for all, and so on."""
        while working := [worker for worker, parts in enumerate(self.waiting) if parts]:
            self._round(working)
        return [self.answers[place] for place in range(len(self.requests))]

    def _round(self, working: list[int]) -> None:
        parts = {worker: self.waiting[worker].popleft() for worker in working}
        begun: dict[int, WorkerProcess] = {}
        for worker, process in self.processes.ready(working).items():
            if isinstance(process, WorkerProcess):
                with self._losses_of(worker, parts[worker]):
                    process.begin(self.expert, self.processes.ledgers[worker].parcel(self._requests(parts[worker])))
                    begun[worker] = process
            else:
                self._give_up(worker, parts[worker], str(process))
        for worker, process in begun.items():
            with self._losses_of(worker, parts[worker]):
                results = process.finish(self.processes.timeout)
                self.answers |= zip(parts[worker], results, strict=True)
                self.processes.ledgers[worker].note(self._requests(parts[worker]), results)

    def _requests(self, part: list[int]) -> list[Request]:
        return [self.requests[place] for place in part]

    @contextlib.contextmanager
    def _losses_of(self, worker: int, part: list[int]) -> Any:
        """What is to be done about a part when its process is lost, or the expert raised there."""
        try:
            yield
        except RemoteError as error:
            for place in part:
                self.answers[place] = failed = ExpertError(self.name, str(error))
                failed.__cause__ = MemoryError() if error.memory else error
        except ProcessLost as error:
            self.processes.lose(worker)
            self._after_loss(worker, part, str(error))

    def _after_loss(self, worker: int, part: list[int], why: str) -> None:
        """Ask each request alone from now on, and none any more once some have failed alone."""
        if len(part) > 1:
            rest = [place for waiting in self.waiting[worker] for place in waiting]
            self.waiting[worker] = deque([place] for place in part + rest)
            return
        self.answers[part[0]] = ExpertFailure(self.name, why)
        self.lost_alone[worker] += 1
        if self.lost_alone[worker] == LOST_ALONE:
            self._give_up(worker, [], f"not asked, after {LOST_ALONE} others of its batch: {why}")

    def _give_up(self, worker: int, part: list[int], why: str) -> None:
        rest = [place for waiting in self.waiting[worker] for place in waiting]
        self.answers |= {place: ExpertFailure(self.name, why) for place in part + rest}
        self.waiting[worker].clear()


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
