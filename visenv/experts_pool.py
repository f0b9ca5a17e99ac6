"""Expert calls: which expert answers what, in batches, with failures kept to the request that caused them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from visenv.byte_cache import ByteCache
from visenv.capabilities import Expert, ExpertFailure, Request, Result, View
from visenv.errors import ExpertError, InvalidData, boundary
from visenv.experts_checks import check_result, result_bytes
from visenv.experts_workers import ExpertProcesses, WorkerExpert
from visenv.worker_asking import Asking

logger = logging.getLogger(__name__)

RETRIES = 1
"""How often a failed request is tried again, alone."""
CACHE_BYTES = 128 * 2**20
"""What a pool remembers of results."""


@dataclass
class PoolCounters:
    """What a pool has done so far."""

    requests: int = 0
    duplicates: int = 0
    """Requests that were the same as another of their list."""
    cache_hits: int = 0
    """Requests answered from the cache."""
    batches: int = 0
    retries: int = 0
    failures: int = 0

    @property
    def mean_batch(self) -> float:
        """How many requests a batch held on average; 0 before the first."""
        return (self.requests - self.duplicates - self.cache_hits) / max(1, self.batches)


class ExpertPool:
    """Answers the requests of any number of episodes: without duplicates, from a cache, in batches.

    Requests are the same if expert, fingerprint, pixels and arguments are, and for experts that are keyed by the sample
    also the sample and which of its images it is. A batch that fails is halved until the bad request is alone, which is
    tried again once; one that runs out of memory, but not in halves, makes its expert's batches smaller from then on.
    What still fails is a failure in its own place. An expert that works in parts may put, in the place of a result, an
    ``ExpertError``, and only those requests are tried again; or an ``ExpertFailure``, where it has tried all itself.
    Arrays of results are read-only: several episodes get the same.
    A call of an expert in this process cannot be interrupted: one that hangs hangs its caller. Several threads may ask
    at the same time.

    Args:
        experts: which expert answers which capability.
        cache_bytes: about how many bytes of results are remembered, the least recently used go first; 0 for none.
    """

    def __init__(self, experts: Mapping[str, Expert], cache_bytes: int = CACHE_BYTES) -> None:
        self.experts = dict(experts)
        self._together = {
            capability: next(first for first, other in self.experts.items() if other is expert)
            for capability, expert in self.experts.items()
            if getattr(expert, "mixes_capabilities", False)
        }
        """Which capabilities are asked in one batch: those of an expert that says that it takes them so."""
        self.counters = PoolCounters()
        self._cache: ByteCache[Result] = ByteCache(cache_bytes)
        self._limits: dict[str, int] = {}
        self._reported: set[str] = set()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """All but the lock, which cannot be copied."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    def check(self, capabilities: Iterable[str]) -> None:
        """Make sure that somebody answers each of some capabilities.

        Raises:
            InvalidData: naming those that nobody answers.
        """
        missing = sorted(set(capabilities) - set(self.experts))
        if missing:
            raise InvalidData(
                f"Expected experts for all that the tools ask, but nobody answers {', '.join(missing)}: add an expert "
                'for it, or take the rest from a set with {"*": "classical", …}, or leave the tools out that ask it.'
            )

    def answer(self, requests: Sequence[Request]) -> list[Result | ExpertFailure]:
        """Answer requests, in order; whatever fails is a failure in its own place and harms no other."""
        with self.asking() as asking:
            keys = asking.ask(requests)
            missing = set(keys) - asking.answers.keys()
            while missing:
                missing.difference_update(asking.work())
        return [asking.answers[key] for key in keys]

    @contextmanager
    def asking(self) -> Iterator[PoolAsking]:
        """Ask, and go on asking as answers come."""
        with ExitStack() as opened:
            yield PoolAsking(self, opened)

    def foresee(self, views: Sequence[View]) -> None:
        """Have experts look at images that will likely be asked about, if they can meanwhile: in other processes.

        May be called on any thread.
        """
        for processes in self.processes:
            processes.foresee(views)

    @property
    def processes(self) -> list[ExpertProcesses]:
        """Where experts run that run in other processes, in an order that is the same for every pool."""
        used = {id(each.processes): each.processes for each in self.experts.values() if isinstance(each, WorkerExpert)}
        return [used[number] for number in sorted(used)]

    def known(self, key: Hashable) -> Result | None:
        """What is remembered under a key."""
        with self._lock:
            found = self._cache.get(key)
            self.counters.cache_hits += found is not None
            return found

    def keep(self, key: Hashable, answer: Result | ExpertFailure) -> None:
        """Remember an answer, unless it is a failure."""
        if not isinstance(answer, ExpertFailure):
            with self._lock:
                self._cache.put(key, answer, result_bytes(answer))

    def count(
        self, *, requests: int = 0, duplicates: int = 0, batches: int = 0, retries: int = 0, failures: int = 0
    ) -> None:
        """Count what was done."""
        with self._lock:
            self.counters.requests += requests
            self.counters.duplicates += duplicates
            self.counters.batches += batches
            self.counters.retries += retries
            self.counters.failures += failures

    def batched_with(self, capability: str) -> str:
        """With which capability's requests those of another are asked: its own, unless an expert mixes them."""
        return self._together.get(capability, capability)

    def key(self, request: Request) -> Hashable:
        """Equal for requests that have the same answer."""
        expert, view = self.experts.get(request.capability), request.view
        if expert is None:
            return (request.capability, None)
        sample = (view.sample_id, view.root) if expert.per_sample else None
        who = (expert.name, expert.fingerprint)
        return (request.capability, who, view.provenance.key, request.arguments, sample)

    def ask(self, capability: str, requests: list[Request]) -> list[Result | ExpertFailure]:
        """Ask the expert of a capability, in batches, and try again what fails."""
        expert = self.experts.get(capability)
        if expert is None:
            self.count(failures=len(requests))
            return [ExpertFailure(capability, f"no expert answers {capability}: pass one in experts=")] * len(requests)
        return [answer for batch in self.cut(expert, requests) for answer in self._batch(expert, batch, RETRIES)]

    def cut(self, expert: Expert, requests: list[Request]) -> Iterator[list[Request]]:
        """Batches of no more than an expert takes, or has turned out to take."""
        done = 0
        while done < len(requests):
            size = self._limits.get(expert.name, max(1, expert.max_batch))
            yield requests[done : done + size]
            done += size

    def _batch(self, expert: Expert, requests: list[Request], retries: int) -> list[Result | ExpertFailure]:
        """Run one batch; halve what failed of it until the bad request is alone, and try that one again."""
        self.count(batches=1)
        answers = _run(expert, requests)
        self.note(answers)
        errors = {place: answer for place, answer in enumerate(answers) if isinstance(answer, ExpertError)}
        if errors:
            failed = [requests[place] for place in errors]
            again = self.again(expert, failed, next(iter(errors.values())), len(requests), retries)
            for place, answer in zip(errors, again, strict=True):
                answers[place] = answer
        return [answer for answer in answers if not isinstance(answer, ExpertError)]

    def note(self, answers: Sequence[Result | ExpertFailure | ExpertError]) -> None:
        """Count and report what an expert has given up itself."""
        for answer in answers:
            if isinstance(answer, ExpertFailure):
                self.count(failures=1)
                self._report(answer.to_error())

    def again(
        self, expert: Expert, requests: list[Request], error: ExpertError, batch: int, retries: int = RETRIES
    ) -> list[Result | ExpertFailure]:
        """What comes of the requests of a batch that failed.

        Args:
            expert: who failed.
            requests: those that have no answer.
            error: how it failed.
            batch: how many requests the batch held.
            retries: how often one is tried again alone.
        """
        if batch > 1:
            half = max(1, len(requests) // 2)
            halves = [requests[:half], requests[half:]]
            parts = [answer for part in halves if part for answer in self._batch(expert, part, retries)]
            # One request that fits nowhere says nothing about how many others fit together.
            if _out_of_memory(error) and not any(isinstance(part, ExpertFailure) for part in parts):
                self._limits[expert.name] = min(half, self._limits.get(expert.name, half))
            return parts
        if retries:
            self.count(retries=1)
            return self._batch(expert, requests, retries - 1)
        self.count(failures=1)
        self._report(error)
        return [ExpertFailure(error.expert, error.message)]

    def _report(self, error: ExpertError) -> None:
        """Log an expert's first failure with its traceback: who writes one needs it. The others are counted only."""
        if error.expert not in self._reported:
            self._reported.add(error.expert)
            logger.warning("%s", error, exc_info=error.__cause__)


def _run(expert: Expert, requests: list[Request]) -> list[Result | ExpertFailure | ExpertError]:
    """What an expert answers to a batch; if it raises, the same error for each request."""
    try:
        with boundary(expert.name):
            answers = list(expert.run(requests))
            if len(answers) != len(requests):
                raise InvalidData(f"expected {len(requests)} results, but got {len(answers)}")
            return [_accepted(request, answer) for request, answer in zip(requests, answers, strict=True)]
    except ExpertError as error:
        return [error] * len(requests)


def _accepted(request: Request, answer: Result | ExpertFailure | ExpertError) -> Result | ExpertFailure | ExpertError:
    """An answer that was checked, and cannot be changed any more.

    Raises:
        InvalidData: if it is no answer to the request.
    """
    if isinstance(answer, (ExpertFailure, ExpertError)):
        return answer
    check_result(request, answer)
    return _read_only(answer)


def _read_only(result: Result) -> Result:
    """The same result, through arrays that cannot be written to; the expert's own stay as they are."""
    return replace(result, **{field.name: _locked(getattr(result, field.name)) for field in fields(result)})


def _locked(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_locked(part) for part in value)
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def _out_of_memory(error: ExpertError) -> bool:
    """Whether an expert ran out of memory, its own or a device's (whose errors say so in words)."""
    return isinstance(error.__cause__, MemoryError) or "out of memory" in error.message.lower()


class PoolAsking:
    """What is asked of a pool, from the first request to the last answer.

    Requests are gathered, without duplicates, until ``work`` is called. Experts in this process get batches of all that
    was gathered; those in other processes work meanwhile, and their answers are there as soon as they come. A request
    that was answered before is a duplicate, and gets the same answer, be it a failure.

    Args:
        pool: who answers.
        opened: closes what is opened here.
    """

    def __init__(self, pool: ExpertPool, opened: ExitStack) -> None:
        self.answers: dict[Hashable, Result | ExpertFailure] = {}
        """What has been answered, by the keys that ``ask`` gave."""
        self._pool, self._opened = pool, opened
        self._gathered: dict[str, dict[Hashable, Request]] = {}
        """What nobody was asked yet, by the (first) capability."""
        self._keys: set[Hashable] = set()
        self._lines: dict[int, Asking] = {}
        """Ways to other processes, by the id of these."""
        self._under_way: dict[tuple[int, int], _UnderWay] = {}
        """What is asked there, by the way and its ticket."""
        self._failed: list[tuple[_UnderWay, ExpertError]] = []
        self._first = True

    def ask(self, requests: Sequence[Request]) -> list[Hashable]:
        """Ask more; the keys under which their answers will be in ``answers``, or are already."""
        keys = [self._pool.key(request) for request in requests]
        duplicates = 0
        for key, request in zip(keys, requests, strict=True):
            if key in self._keys:
                duplicates += 1
                continue
            self._keys.add(key)
            known = self._pool.known(key)
            if known is None:
                self._gathered.setdefault(self._pool.batched_with(request.capability), {})[key] = request
            else:
                self.answers[key] = known
        self._pool.count(requests=len(requests), duplicates=duplicates)
        return keys

    def work(self) -> list[Hashable]:
        """Have requests answered until some of them are; their keys."""
        self._send()
        first, self._first = self._first, False
        if self._gathered and (first or not self._under_way):
            # At first, while others work; then no more until all have answered, so that batches do not fall apart.
            return self._answer_here()
        if self._under_way:
            return self._collect()
        return self._try_again()

    def _send(self) -> None:
        """Ask the processes."""
        for capability, requests in list(self._gathered.items()):
            expert = self._pool.experts.get(capability)
            if not isinstance(expert, WorkerExpert):
                continue
            for processes in self._pool.processes if not self._lines else ():
                # All of them at once, in one order: two threads must not wait for each other.
                self._lines[id(processes)] = self._opened.enter_context(processes.asking())
            del self._gathered[capability]
            line, keys = id(expert.processes), iter(requests)
            for batch in self._pool.cut(expert, list(requests.values())):
                self._pool.count(batches=1)
                for ticket, request in zip(self._lines[line].ask(expert.index, batch), batch, strict=True):
                    self._under_way[line, ticket] = _UnderWay(next(keys), request, expert, len(batch))

    def _answer_here(self) -> list[Hashable]:
        answered = []
        gathered, self._gathered = self._gathered, {}
        for capability, requests in gathered.items():
            for key, answer in zip(requests, self._pool.ask(capability, list(requests.values())), strict=True):
                answered.append(self._answered(key, answer))
        return answered

    def _collect(self) -> list[Hashable]:
        """What processes have answered; where several groups of them are asked, one at least is waited for."""
        answered = []
        for line, asking in self._lines.items():
            for ticket, answer in asking.collect().items():
                asked = self._under_way.pop((line, ticket))
                try:
                    with boundary(asked.expert.name):
                        answer = _accepted(asked.request, answer)
                except ExpertError as error:
                    answer = error
                if isinstance(answer, ExpertError):
                    self._failed.append((asked, answer))
                else:
                    self._pool.note([answer])
                    answered.append(self._answered(asked.key, answer))
        return answered

    def _try_again(self) -> list[Hashable]:
        """Try again what has failed, once nothing else is under way."""
        answered = []
        failed, self._failed = self._failed, []
        while failed:
            (first, error) = failed[0]
            alike = [asked for asked, _ in failed if asked.expert is first.expert]
            failed = [(asked, other) for asked, other in failed if asked.expert is not first.expert]
            requests = [asked.request for asked in alike]
            answers = self._pool.again(first.expert, requests, error, max(asked.batch for asked in alike))
            for asked, answer in zip(alike, answers, strict=True):
                answered.append(self._answered(asked.key, answer))
        return answered

    def _answered(self, key: Hashable, answer: Result | ExpertFailure) -> Hashable:
        self._pool.keep(key, answer)
        self.answers[key] = answer
        return key


@dataclass(frozen=True, eq=False)
class _UnderWay:
    """A request that another process was asked."""

    key: Hashable
    request: Request
    expert: WorkerExpert
    batch: int
    """How many were asked together."""
