"""Expert calls: which expert answers what, in batches, with failures kept to the request that caused them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
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

T = TypeVar("T")
ExpertsLike: TypeAlias = "str | Expert | Iterable[Expert] | Mapping[str, Any]"

RETRIES = 1
"""How often a failed request is tried again, alone."""


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
    batches: int = 0
    retries: int = 0
    failures: int = 0


class ExpertPool:
    """Answers lists of requests, grouped into batches an expert.

    Args:
        experts: which expert answers which capability.
    """

    def __init__(self, experts: Mapping[str, Expert]) -> None:
        self.experts = dict(experts)
        self.counters = PoolCounters()

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
        results: list[Result | ExpertFailure | None] = [None] * len(requests)
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(request.capability, []).append(index)
        self.counters.requests += len(requests)
        for capability, indices in groups.items():
            expert = self.experts.get(capability)
            if expert is None:
                failure = ExpertFailure(capability, f"no expert answers {capability}: pass one in experts=")
                answers: list[Result | ExpertFailure] = [failure] * len(indices)
                self.counters.failures += len(indices)
            else:
                answers = self._run(expert, [requests[index] for index in indices])
            for index, answer in zip(indices, answers, strict=True):
                results[index] = answer
        return [result for result in results if result is not None]

    def _run(self, expert: Expert, requests: list[Request]) -> list[Result | ExpertFailure]:
        answers: list[Result | ExpertFailure] = []
        size = max(1, expert.max_batch)
        for start in range(0, len(requests), size):
            answers += self._batch(expert, requests[start : start + size], RETRIES)
        return answers

    def _batch(self, expert: Expert, requests: list[Request], retries: int) -> list[Result | ExpertFailure]:
        """Run one batch; if it fails, halve it until the bad request is alone, and try that one again."""
        self.counters.batches += 1
        try:
            with boundary(expert.name):
                results: list[Result | ExpertFailure] = list(expert.run(requests))
                if len(results) != len(requests):
                    raise InvalidData(f"expected {len(requests)} results, but got {len(results)}")
                for request, result in zip(requests, results, strict=True):
                    check_result(request, result)
                return results
        except ExpertError as error:
            if len(requests) > 1:
                half = len(requests) // 2
                return self._batch(expert, requests[:half], retries) + self._batch(expert, requests[half:], retries)
            if retries:
                self.counters.retries += 1
                return self._batch(expert, requests, retries - 1)
            self.counters.failures += 1
            return [ExpertFailure(error.expert, error.message)]


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


def drive(steps: Generator[list[Request], Sequence[Result | ExpertFailure], T], pool: ExpertPool) -> T:
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
