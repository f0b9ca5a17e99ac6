"""Expert calls: which expert answers what, in batches, with failures kept to the request that caused them."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from visenv.capabilities import (
    CAPABILITIES,
    Candidates,
    Expert,
    ExpertFailure,
    GroundPhrase,
    PointPhrase,
    Points,
    Request,
    Result,
    SegmentPrompts,
    Upscale,
    Upscaled,
)
from visenv.errors import ExpertError, InvalidData, boundary
from visenv.registration import experts as registry
from visenv.types import Detections, FloatArray, Sample

logger = logging.getLogger(__name__)

T = TypeVar("T")
ExpertsLike: TypeAlias = "str | Expert | Iterable[Expert] | Mapping[str, Any]"

RETRIES = 1
"""How often a failed request is tried again, alone."""
CACHE_BYTES = 128 * 2**20
"""What a pool remembers of results."""


def make_experts(value: ExpertsLike, find: Callable[[str], Sample]) -> dict[str, Expert]:
    """The experts of an environment, by capability.

    Args:
        value: the name of a registered set (``"classical"``), an expert, several experts, or a mapping from capability
            to any of these (``{"GroundPhrase": "oracle", "Upscale": my_upscaler}``), where ``"*"`` stands for the rest.
        find: gives a sample by its identifier; handed only to sets that are registered as reading the truth.

    Raises:
        UnknownName: if no set has that name.
        InvalidData: if a capability does not exist, or something is no expert.
    """
    if isinstance(value, Mapping):
        routed = make_experts(value["*"], find) if "*" in value else {}
        for capability, choice in value.items():
            if capability == "*":
                continue
            if capability not in CAPABILITIES:
                raise InvalidData(f"Expected a capability ({', '.join(CAPABILITIES)}), but got {capability!r}.")
            candidates = make_experts(choice, find)
            if capability not in candidates:
                raise InvalidData(
                    f"Expected an expert for {capability}, but {choice!r} answers {', '.join(candidates)}."
                )
            routed[capability] = candidates[capability]
        return routed
    if isinstance(value, str):
        entry = registry.entry(value)
        keywords = dict(entry.options)
        made = entry.load()(find, **keywords) if keywords.pop("reads_truth", False) else entry.load()(**keywords)
    else:
        made = [value] if isinstance(value, Expert) or not isinstance(value, Iterable) else value
    routed = {}
    for expert in made:
        if isinstance(expert, type) or not isinstance(expert, Expert):
            raise InvalidData(f"Expected an expert (an object as visenv.capabilities.Expert), but got {expert!r:.80}.")
        for capability in expert.capabilities:
            routed.setdefault(capability, expert)
    return routed


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


def result_bytes(result: Result) -> int:
    """About how many bytes a result takes in memory."""
    base = 512
    if isinstance(result, Upscaled):
        return base + result.pixels.nbytes
    if isinstance(result, Points):
        return base + result.points.nbytes + result.scores.nbytes
    sets = (result.masks,) if isinstance(result, Detections) else result.masks
    return base + sum(
        128 * len(masks) + sum(crop.nbytes for crop in masks.crops) for masks in sets if masks is not None
    )


_ROUNDING = 1e-6
"""By how much a score may be above 1."""

_RESULTS: dict[type, type] = {
    GroundPhrase: Detections,
    PointPhrase: Points,
    SegmentPrompts: Candidates,
    Upscale: Upscaled,
}


def check_result(request: Request, result: object) -> None:
    """Check that a result is one of its request: experts are somebody else's code.

    Raises:
        InvalidData: saying what is wrong with it.
    """
    expected = _RESULTS[type(request)]
    if not isinstance(result, expected):
        raise InvalidData(f"expected {expected.__name__} for {request.capability}, but got {type(result).__name__}")
    height, width = request.view.pixels.shape[:2]
    if isinstance(result, Detections):
        if result.masks is None:
            raise InvalidData("expected detections with masks, but got boxes alone")
        _check_frame(result.masks.shape, (height, width))
        _check_scores(result.scores)
    elif isinstance(result, Points):
        if not np.isfinite(result.points).all():
            raise InvalidData("expected finite points, but got NaN or infinity")
        _check_scores(result.scores)
    elif isinstance(result, Candidates) and isinstance(request, SegmentPrompts):
        if not len(result.masks) == len(result.scores) == len(request.prompts):
            counts = f"{len(result.masks)} masks and {len(result.scores)} scores"
            raise InvalidData(f"expected candidates for {len(request.prompts)} prompts, but got {counts}")
        for masks, scores in zip(result.masks, result.scores, strict=True):
            _check_frame(masks.shape, (height, width))
            if len(masks) != len(scores) or not len(masks):
                raise InvalidData(f"expected a score a candidate, but got {len(masks)} masks and {len(scores)} scores")
            _check_scores(scores)
    elif isinstance(result, Upscaled) and isinstance(request, Upscale):
        shape = (request.factor * height, request.factor * width, 3)
        if result.pixels.shape != shape or result.pixels.dtype != np.uint8:
            got = f"{result.pixels.dtype} {result.pixels.shape}"
            raise InvalidData(f"expected an enlarged image of uint8 {shape}, but got {got}")


def _check_frame(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    if tuple(shape) != expected:
        raise InvalidData(f"expected masks over the image's (height, width) {expected}, but got {tuple(shape)}")


def _check_scores(scores: FloatArray) -> None:
    values = np.asarray(scores, dtype=np.float64)
    if not ((values >= 0) & (values <= 1 + _ROUNDING)).all():
        raise InvalidData(f"expected scores from 0 to 1, but got {values.min()} to {values.max()}")


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
