"""What every metric is: a list of what was measured on each sample, and a figure over it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from visenv.errors import InvalidData
from visenv.types import AnswerTruth, FloatArray, Outcome, Truth

Record = TypeVar("Record")
Self = TypeVar("Self", bound="Metric[Any]")


class Metric(ABC, Generic[Record]):
    """A figure over many samples, kept as one small record a sample.

    Metrics are picklable and merge in any order, so that parts of a data set can be scored in several processes. Every
    figure stands beside ``<name>_n``, how many samples it covers, and ``<name>_failed``, how many of these had no
    proper end (see ``failed``): they count as misses and are never left out.
    """

    name: str
    """The key of the headline figure."""
    higher_is_better: ClassVar[bool]
    bounds: ClassVar[tuple[float, float]]
    """The least and the greatest value of the figures."""
    truths: ClassVar[tuple[type, ...]]
    """The kinds of truth that it is defined for."""

    def __init__(self) -> None:
        self.reset()

    def update(self, outcome: Outcome, truth: Truth) -> None:
        """Add a sample.

        Args:
            outcome: what an episode ended with.
            truth: what is right.

        Raises:
            InvalidData: if the metric is not defined for this kind of truth, or the two do not go together.
        """
        if not self.accepts(truth):
            names = " or ".join(kind.__name__ for kind in self.truths)
            raise InvalidData(
                f"Expected a truth of {type(self).__name__} to be a {names}, but got a {type(truth).__name__}: "
                "ask `accepts(truth)` first where a data set mixes tasks."
            )
        self._records.append(self._measure(outcome, truth))
        self._failed.append(failed(outcome, truth))

    def compute(self) -> dict[str, float]:
        """Return the figures over all samples so far: flat, floats; NaN where there is no sample to average over."""
        figures = self._summarize(self._records)
        samples = list(zip(self._records, self._failed, strict=True))
        for name in self._covering():
            failures = [bad for record, bad in samples if self._covers(name, record)]
            figures |= {f"{name}_n": float(len(failures)), f"{name}_failed": float(sum(failures))}
        return figures

    def merge(self: Self, other: Self) -> Self:
        """Add the samples of another metric of the same kind and settings to this one, and return this one.

        Raises:
            InvalidData: if the other metric is of another kind or has other settings.
        """
        if type(other) is not type(self) or other._settings() != self._settings():
            raise InvalidData(f"Expected to merge with {self!r}, but got {other!r}.")
        self._records.extend(other._records)
        self._failed.extend(other._failed)
        return self

    def reset(self) -> None:
        """Forget all samples."""
        self._records: list[Record] = []
        self._failed: list[bool] = []

    def resample(self: Self, indices: Iterable[int]) -> Self:
        """Return a new metric over some of the samples, with repetition where indices repeat: for bootstrap intervals.

        Args:
            indices: positions in the order of ``update``.
        """
        chosen = [int(index) for index in indices]
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._records = [self._records[index] for index in chosen]
        other._failed = [self._failed[index] for index in chosen]
        return other

    @property
    def values(self) -> FloatArray:
        """(N,) float64: the headline figure of each sample alone, NaN where it is not defined for one."""
        return np.array([self._value(record) for record in self._records], dtype=np.float64)

    @classmethod
    def accepts(cls, truth: Truth) -> bool:
        """Whether the metric is defined for this kind of truth."""
        return isinstance(truth, cls.truths)

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self._settings().items())
        return f"{type(self).__name__}({settings})"

    @abstractmethod
    def _measure(self, outcome: Outcome, truth: Any) -> Record:
        """Return what has to be remembered of one sample."""

    @abstractmethod
    def _summarize(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the figures over some records."""

    @abstractmethod
    def _value(self, record: Record) -> float:
        """Return the headline figure of one record alone."""

    def _covering(self) -> tuple[str, ...]:
        """Return the figures to say the coverage of: one for each choice of samples that a figure is taken over."""
        return (self.name,)

    def _covers(self, figure: str, record: Record) -> bool:
        """Whether a record is one of those that a figure is taken over."""
        return True

    def _settings(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("name", "_records", "_failed")}


def failed(outcome: Outcome, truth: Truth) -> bool:
    """Whether an episode came to no proper end: it is invalid or still running, or ran out with nothing to show."""
    if outcome.termination in (None, "invalid"):
        return True
    shown = outcome.answer if isinstance(truth, AnswerTruth) else outcome.detections
    return outcome.termination != "answer" and shown is None


def mean(values: Iterable[float]) -> float:
    """The mean of some numbers, NaN of none."""
    numbers = list(values)
    if len(numbers) == 1:  # An episode's own figures; NumPy takes its time over one number.
        return float(numbers[0])
    return float(np.mean(numbers)) if numbers else float("nan")


def ratio(part: float, whole: float) -> float:
    """A share, NaN of nothing."""
    return float(part) / float(whole) if whole else float("nan")
