"""Expert calls: which expert answers what, in batches, with failures kept to the request that caused them."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Generator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from visenv.capabilities import Expert, ExpertFailure, Request, Result
from visenv.errors import ExpertError, InvalidData, boundary
from visenv.experts_checks import check_result, result_bytes

logger = logging.getLogger(__name__)

T = TypeVar("T")

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
        self._cache = ResultCache(cache_bytes)
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
        keys = [self._key(request) for request in requests]
        answers, wanted = self._known(keys, requests)
        for capability, group in wanted.items():
            asked = self._ask(capability, list(group.values()))
            with self._lock:
                for key, answer in zip(group, asked, strict=True):
                    answers[key] = answer
                    if not isinstance(answer, ExpertFailure):
                        self._cache.put(key, answer)
        return [answers[key] for key in keys]

    def _known(
        self, keys: Sequence[Hashable], requests: Sequence[Request]
    ) -> tuple[dict[Hashable, Result | ExpertFailure], dict[str, dict[Hashable, Request]]]:
        """What is remembered, and by (the first) capability what is to be asked, once each."""
        answers: dict[Hashable, Result | ExpertFailure] = {}
        wanted: dict[str, dict[Hashable, Request]] = {}
        with self._lock:
            self.counters.requests += len(requests)
            for key, request in zip(keys, requests, strict=True):
                same = wanted.setdefault(self._together.get(request.capability, request.capability), {})
                if key in answers or key in same:
                    self.counters.duplicates += 1
                elif (known := self._cache.get(key)) is not None:
                    self.counters.cache_hits += 1
                    answers[key] = known
                else:
                    same[key] = request
        return answers, wanted

    def _count(self, *, batches: int = 0, retries: int = 0, failures: int = 0) -> None:
        with self._lock:
            self.counters.batches += batches
            self.counters.retries += retries
            self.counters.failures += failures

    def _key(self, request: Request) -> Hashable:
        expert, view = self.experts.get(request.capability), request.view
        if expert is None:
            return (request.capability, None)
        sample = (view.sample_id, view.root) if expert.per_sample else None
        who = (expert.name, expert.fingerprint)
        return (request.capability, who, view.provenance.key, request.arguments, sample)

    def _ask(self, capability: str, requests: list[Request]) -> list[Result | ExpertFailure]:
        expert = self.experts.get(capability)
        if expert is None:
            self._count(failures=len(requests))
            return [ExpertFailure(capability, f"no expert answers {capability}: pass one in experts=")] * len(requests)
        answers: list[Result | ExpertFailure] = []
        while len(answers) < len(requests):
            size = self._limits.get(expert.name, max(1, expert.max_batch))
            answers += self._batch(expert, requests[len(answers) : len(answers) + size], RETRIES)
        return answers

    def _batch(self, expert: Expert, requests: list[Request], retries: int) -> list[Result | ExpertFailure]:
        """Run one batch; halve what failed of it until the bad request is alone, and try that one again."""
        self._count(batches=1)
        done: dict[int, Result | ExpertFailure] = {}
        errors: dict[int, ExpertError] = {}
        for place, answer in enumerate(_run(expert, requests)):
            if isinstance(answer, ExpertError):
                errors[place] = answer
            else:
                done[place] = answer
        given_up = [answer for answer in done.values() if isinstance(answer, ExpertFailure)]
        self._count(failures=len(given_up))
        for failure in given_up:
            self._report(failure.to_error())
        if errors:
            failed = [requests[place] for place in errors]
            again = self._again(expert, failed, next(iter(errors.values())), len(requests), retries)
            done |= zip(errors, again, strict=True)
        return [done[place] for place in range(len(requests))]

    def _again(
        self, expert: Expert, requests: list[Request], error: ExpertError, batch: int, retries: int
    ) -> list[Result | ExpertFailure]:
        """What comes of the requests of a batch that failed."""
        if batch > 1:
            half = max(1, len(requests) // 2)
            halves = [requests[:half], requests[half:]]
            parts = [answer for part in halves if part for answer in self._batch(expert, part, retries)]
            # One request that fits nowhere says nothing about how many others fit together.
            if _out_of_memory(error) and not any(isinstance(part, ExpertFailure) for part in parts):
                self._limits[expert.name] = min(half, self._limits.get(expert.name, half))
            return parts
        if retries:
            self._count(retries=1)
            return self._batch(expert, requests, retries - 1)
        self._count(failures=1)
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
            answers: list[Any] = list(expert.run(requests))
            if len(answers) != len(requests):
                raise InvalidData(f"expected {len(requests)} results, but got {len(answers)}")
            for place, (request, answer) in enumerate(zip(requests, answers, strict=True)):
                if not isinstance(answer, (ExpertFailure, ExpertError)):
                    check_result(request, answer)
                    answers[place] = _read_only(answer)
            return answers
    except ExpertError as error:
        return [error] * len(requests)


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


class ResultCache:
    """Results by key, the least recently used dropped once they take more than so many bytes.

    Args:
        limit: in bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self._results: OrderedDict[Hashable, tuple[Result, int]] = OrderedDict()

    def get(self, key: Hashable) -> Result | None:
        """The result of a key, which counts as used now; None if it is not remembered."""
        found = self._results.get(key)
        if found is None:
            return None
        self._results.move_to_end(key)
        return found[0]

    def put(self, key: Hashable, result: Result) -> None:
        """Remember a result; one that is larger than the whole cache is not."""
        size = result_bytes(result)
        if size > self.limit:
            return
        self.size += size - self._results.pop(key, (result, 0))[1]
        self._results[key] = (result, size)
        while self.size > self.limit:
            _, (_, dropped) = self._results.popitem(last=False)
            self.size -= dropped

    def __len__(self) -> int:
        return len(self._results)

    def __getstate__(self) -> dict[str, Any]:
        """What is remembered stays behind: it can be had again."""
        return {"limit": self.limit, "size": 0, "_results": OrderedDict()}


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


def drive_all(steps: Sequence[Steps[T]], pool: ExpertPool) -> list[T]:
    """The batched driver: run many steps to their ends side by side.

    Each round gathers what all of them ask, has it answered together, and resumes them all; a step that asks twice
    takes part in two rounds.

    Args:
        steps: what ``Episode.step`` returned, of different episodes.
        pool: who answers.

    Returns:
        What each step came to, in order.

    Raises:
        Exception: what a step raised; those that wait for results then are closed and never taken, those that had come
            to their end before stay taken.
    """
    ended: dict[int, T] = {}
    asked: dict[int, list[Request]] = {}

    def resume(index: int, results: Sequence[Result | ExpertFailure] | None) -> None:
        try:
            asked[index] = next(steps[index]) if results is None else steps[index].send(results)
        except StopIteration as stop:
            ended[index] = stop.value

    try:
        for index in range(len(steps)):
            resume(index, None)
        while asked:
            waiting, asked = asked, {}
            answers = iter(pool.answer([request for requests in waiting.values() for request in requests]))
            for index, requests in waiting.items():
                resume(index, [next(answers) for _ in requests])
    finally:
        for step in steps:
            step.close()
    return [ended[index] for index in range(len(steps))]
