"""What is asked of processes, first request to last answer: who gets what when, and what if a process is lost."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from visenv.capabilities import ExpertFailure, Request, Result, Upscale
from visenv.errors import ExpertError
from visenv.worker_process import Foreseen, ProcessLost, RemoteError, WorkerProcess

if TYPE_CHECKING:
    from visenv.experts_workers import ExpertProcesses

LOST_ALONE = 2
"""How many single requests may each cost one worker its process, in a row, before it is asked no more."""
DEPTH = 2
"""How many parts a process is given at a time, so that it need not wait for the next one."""
AHEAD = 2
"""How many images a process is given to look at when nothing more is asked."""
KNOWN = 10.0
"""What a request costs about an image that a worker was asked about before, in pixels of the side of a new image."""
SENDING = 4.0
"""What sending an image costs, likewise."""
LIGHT = 150.0
"""What requests about several images may cost to be put into one part, likewise."""

Answer: TypeAlias = "Result | ExpertFailure | ExpertError"


class ImageWork:
    """What is asked about one image, and about what it costs: looking at a new one is most of it, and enlarging one."""

    def __init__(self, request: Request) -> None:
        self.key = request.view.provenance.key
        self.side = math.sqrt(math.prod(request.view.size))
        self.places: list[int] = []
        self.looked_at = False
        self.share = 0.0
        """What it costs the worker that it is assigned to."""
        self.fresh = False
        """Whether that worker looks at it for the first time."""
        self._work = 0.0

    def add(self, place: int, request: Request) -> None:
        """One more request; ``place`` is its position among those that are asked."""
        enlarged = isinstance(request, Upscale)
        self.places.append(place)
        self.looked_at |= not enlarged
        self._work += self.side / 2 if enlarged else KNOWN

    def cost(self, known: bool) -> float:
        """What it costs a worker that looked at the image before, or did not."""
        return self._work + self.side * (self.looked_at and not known)


@dataclass(frozen=True, eq=False)
class Part:
    """What a process is given to do at a time: requests of one expert."""

    expert: int
    tickets: list[int]
    cost: float
    image: str | None = None
    """The provenance key of the one image that it is about, if another process could as well look at it."""


class Asking:
    """Requests under way to some processes.

    Every process has a few parts at a time, and the next ones wait. One that has nothing left to do takes over what
    waits for another, if that is about an image that nobody has looked at.

    Args:
        processes: who is asked; nobody else asks them meanwhile.
    """

    def __init__(self, processes: ExpertProcesses) -> None:
        self._processes = processes
        workers = range(processes.workers)
        self._requests: list[Request] = []
        """By ticket."""
        self._answers: dict[int, Answer] = {}
        """Those that nobody has collected yet, by ticket."""
        self._waiting: list[deque[Part]] = [deque() for _ in workers]
        self._flying: list[deque[Part]] = [deque() for _ in workers]
        """What each process was given, in this order."""
        self._since = [0.0 for _ in workers]
        """When each process began with the first of these, at the latest."""
        self._lost: list[Counter[int]] = [Counter() for _ in workers]
        """How many single requests of each expert have cost a worker its process; it is asked one at a time then."""

    def ask(self, expert: int, requests: Sequence[Request]) -> list[int]:
        """Ask more.

        Args:
            expert: the index of who answers.
            requests: in any order; those about one image go to one process.

        Returns:
            A ticket for each request, under which ``collect`` gives the answer.
        """
        first = len(self._requests)
        self._requests += requests
        for worker, images in enumerate(self._processes.assign(requests, [self._load(each) for each in self._workers])):
            self._waiting[worker] += self._parts(expert, first, images)
        self._processes.start(worker for worker in self._workers if self._waiting[worker] and not self._flying[worker])
        self._feed()
        return list(range(first, len(self._requests)))

    def collect(self) -> dict[int, Answer]:
        """The answers that have come since the last time, by ticket; waits for one if there is none yet.

        Returns:
            Results; an ``ExpertError`` for each request of a part in which the expert raised; and an ``ExpertFailure``
            where all has been tried. Nothing, if nothing is under way.
        """
        self._listen()
        while self.pending and not self._answers:
            self._processes.wait(self._seconds_left())
            self._listen()
            self._expire()
        answers, self._answers = self._answers, {}
        return answers

    @property
    def pending(self) -> bool:
        """Whether there are requests under way."""
        return any(self._flying) or any(self._waiting)

    def abandon(self) -> None:
        """Ask no more, and wait until the processes are through with what they were given."""
        for waiting in self._waiting:
            waiting.clear()
        while self.pending:
            self.collect()

    def leave(self) -> None:
        """Let the processes look ahead until they are asked again."""
        for worker in self._workers:
            self._processes.look_ahead(worker, AHEAD)

    # --- handing out --------------------------------------------------------------------------------------------------

    @property
    def _workers(self) -> range:
        return range(self._processes.workers)

    def _load(self, worker: int) -> float:
        return sum(part.cost for part in (*self._flying[worker], *self._waiting[worker]))

    def _parts(self, expert: int, first: int, images: list[ImageWork]) -> list[Part]:
        """The parts of one worker: small ones, the costly first, for an expert that gains nothing from larger ones."""
        held = self._processes.experts[expert]
        most = max(1, held.max_batch)
        divisible = bool(getattr(held, "divisible", False))
        groups: list[list[ImageWork]] = [[]]
        for image in sorted(images, key=lambda image: -image.share) if divisible else images:
            if divisible and sum(each.share for each in (*groups[-1], image)) > LIGHT:
                groups.append([])
            groups[-1].append(image)
        parts = []
        for group in groups:
            tickets = sorted(first + place for image in group for place in image.places)
            movable = (
                group[0].key if divisible and len(group) == 1 and len(tickets) <= most and group[0].fresh else None
            )
            cost = sum(image.share for image in group) / max(1, len(tickets))
            cuts = [tickets[start : start + most] for start in range(0, len(tickets), most)]
            parts += [Part(expert, cut, cost * len(cut), movable) for cut in cuts]
        return parts

    def _feed(self) -> None:
        for worker in self._workers:
            while len(self._flying[worker]) < (1 if self._lost[worker] else DEPTH):
                part = self._next(worker)
                if part is None:
                    break
                self._give(worker, part)
            if not self._flying[worker] and not self._lost[worker] and self.pending:
                self._processes.look_ahead(worker, 1)

    def _next(self, worker: int) -> Part | None:
        """What a worker does next: what waits for it, or else the last that waits for another."""
        if self._waiting[worker]:
            return self._waiting[worker].popleft()
        if self._flying[worker] or self._lost[worker]:
            return None
        others = sorted(self._workers, key=self._load, reverse=True)
        for other in others:
            for part in () if self._lost[other] else reversed(self._waiting[other]):
                if part.image is not None:
                    self._waiting[other].remove(part)
                    self._processes.remember(part.image, worker)
                    return part
        return None

    def _give(self, worker: int, part: Part) -> None:
        process = self._processes.process(worker)
        if not isinstance(process, WorkerProcess):
            self._give_up(worker, part.expert, [part], str(process))
            return
        if not self._flying[worker]:
            self._since[worker] = time.monotonic()
        self._flying[worker].append(part)
        try:
            process.ask(part.expert, self._processes.ledgers[worker].parcel(self._of(part)))
        except ProcessLost as error:
            self._after_loss(worker, str(error))

    def _of(self, part: Part) -> list[Request]:
        return [self._requests[ticket] for ticket in part.tickets]

    # --- answers ------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Take what the processes have said, and give them more to do."""
        for worker in self._workers:
            try:
                while (said := self._processes.heard(worker)) is not None:
                    if not isinstance(said, Foreseen):
                        self._take(worker, said)
            except ProcessLost as error:
                self._after_loss(worker, str(error))
        self._feed()

    def _take(self, worker: int, said: list[Answer] | RemoteError) -> None:
        part = self._flying[worker].popleft()
        self._since[worker] = time.monotonic()
        if isinstance(said, RemoteError):
            failed = ExpertError(self._name(part.expert), str(said))
            failed.__cause__ = MemoryError() if said.memory else said
            self._answers |= dict.fromkeys(part.tickets, failed)
        else:
            self._answers |= zip(part.tickets, said, strict=True)
            for key in self._processes.ledgers[worker].note(self._of(part), said):
                if self._processes.foreseeing:
                    self._processes.remember(key, worker)

    def _name(self, expert: int) -> str:
        return self._processes.experts[expert].name

    def _seconds_left(self) -> float | None:
        timeout = self._processes.timeout
        if timeout is None:
            return None
        ends = [self._since[worker] + timeout for worker in self._workers if self._flying[worker]]
        return max(0.0, min(ends) - time.monotonic())

    def _expire(self) -> None:
        """Kill the processes that have taken too long."""
        timeout, now = self._processes.timeout, time.monotonic()
        for worker in self._workers:
            if timeout is not None and self._flying[worker] and now >= self._since[worker] + timeout:
                process = self._processes.process(worker)
                if isinstance(process, WorkerProcess):
                    self._after_loss(worker, str(process.late(timeout)))
        self._feed()

    # --- losses -------------------------------------------------------------------------------------------------------

    def _after_loss(self, worker: int, why: str) -> None:
        """Ask each request alone from now on, and none of the expert any more once some have failed alone."""
        self._processes.lose(worker)
        flying, self._flying[worker] = list(self._flying[worker]), deque()
        if not flying:
            return
        guilty, lost = flying[0], self._lost[worker]
        # It may as well have been lost by looking at something that nobody had asked about.
        doubtful = self._processes.foreseeing and guilty.expert not in lost
        lost[guilty.expert] += 0
        if len(guilty.tickets) > 1 or doubtful:
            again = [*flying, *self._waiting[worker]]
            self._waiting[worker] = deque(
                Part(part.expert, [ticket], part.cost / len(part.tickets)) for part in again for ticket in part.tickets
            )
            return
        self._waiting[worker].extendleft(reversed(flying[1:]))
        self._answers[guilty.tickets[0]] = ExpertFailure(self._name(guilty.expert), why)
        lost[guilty.expert] += 1
        if lost[guilty.expert] == LOST_ALONE:
            self._give_up(worker, guilty.expert, [], f"not asked, after {LOST_ALONE} others of its batch: {why}")

    def _give_up(self, worker: int, expert: int, parts: list[Part], why: str) -> None:
        """Fail what one worker was given or is still to do for one expert."""
        waiting = self._waiting[worker]
        failed = [*parts, *(part for part in waiting if part.expert == expert)]
        self._waiting[worker] = deque(part for part in waiting if part.expert != expert)
        self._lost[worker].pop(expert, None)
        failure = ExpertFailure(self._name(expert), why)
        self._answers |= {ticket: failure for part in failed for ticket in part.tickets}
