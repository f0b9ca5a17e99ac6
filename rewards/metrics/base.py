"""What every metric is: a list of what was measured on each sample, and a figure over it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np

from visenv.errors import InvalidData
from visenv.rewards.metrics.bootstrap import CONFIDENCE, RESAMPLES, SEED, percentile_interval, resampling_weights
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
    counts: ClassVar[frozenset[str]] = frozenset()
    """Figures that only count something: they have no interval."""
    resamples: ClassVar[int] = RESAMPLES
    """How many resampled data sets an interval is taken of, unless another number is asked for."""
    shares_records: ClassVar[bool] = False
    """Whether all metrics with the same ``_measure`` remember the same of a sample, whatever their settings."""

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
        self._add(self._measure(outcome, truth), failed(outcome, truth))

    def compute(self) -> dict[str, float]:
        """Return the figures over all samples so far: flat, floats; NaN where there is no sample to average over."""
        figures = self._summarize(self._records)
        samples = list(zip(self._records, self._failed, strict=True))
        for name in self._covering():
            failures = [bad for record, bad in samples if self._covers(name, record)]
            figures |= {f"{name}_n": float(len(failures)), f"{name}_failed": float(sum(failures))}
        return figures

    def intervals(
        self, resamples: int | None = None, confidence: float = CONFIDENCE, seed: int = SEED
    ) -> dict[str, tuple[float, float]]:
        """Return the bootstrap interval of each figure: samples are drawn anew, not values, also of ratios of sums.

        Args:
            resamples: how often as many samples as there are get drawn, with replacement; ``self.resamples`` if left
                out.
            confidence: the share of the resamples' figures that lies inside, between 0 and 1.
            seed: of the draws; two metrics of as many samples are drawn alike.

        Returns:
            By figure its ends, of the percentiles; without figures that only count, and those that are defined on no
            resample. Empty for less than two samples.

        Source:
            Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3.

        Raises:
            InvalidData: if there is no resample, or no such confidence.
        """
        figures = self.resampled(resamples, seed) if len(self) > 1 else {}
        ends = {name: percentile_interval(values, confidence) for name, values in figures.items()}
        return {name: interval for name, interval in ends.items() if interval is not None}

    def resampled(self, resamples: int | None = None, seed: int = SEED) -> dict[str, FloatArray]:
        """Return the figures of resampled data sets, (R,) each, as ``intervals`` is taken of.

        Raises:
            InvalidData: if there is no sample, or no resample.
        """
        count = self.resamples if resamples is None else resamples
        parts = [self._weighted(weights) for weights in resampling_weights(len(self), count, seed)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name not in self.counts}

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

    def _add(self, record: Record, failed: bool) -> None:
        self._records.append(record)
        self._failed.append(failed)

    def _weighted(self, weights: FloatArray) -> dict[str, FloatArray]:
        """Return the figures over samples that count several times or not at all.

        Args:
            weights: (R, N) whole numbers; how often each sample counts.

        Returns:
            (R,) of each figure.
        """
        indices = np.arange(len(self))
        rows = [
            self._summarize([self._records[index] for index in np.repeat(indices, row.astype(np.int64))])
            for row in weights
        ]
        return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]}

    def _covering(self) -> tuple[str, ...]:
        """Return the figures to say the coverage of: one for each choice of samples that a figure is taken over."""
        return (self.name,)

    def _covers(self, figure: str, record: Record) -> bool:
        """Whether a record is one of those that a figure is taken over."""
        return True

    def _settings(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key not in ("name", "_records", "_failed")}


class SummedMetric(Metric[Record]):
    """A metric whose figures follow from sums over samples, so that many resamples of them are one product."""

    width: int
    """K, how many numbers are summed."""

    @abstractmethod
    def _tally(self, record: Record) -> Sequence[float]:
        """Return the K numbers of a record that are summed."""

    @abstractmethod
    def _figures(self, totals: FloatArray) -> dict[str, FloatArray]:
        """Return the figures that follow from sums.

        Args:
            totals: (K, R) sums of the tallies over the samples of each of R data sets.

        Returns:
            (R,) of each figure, NaN where one is not defined.
        """

    def _tallies(self, records: Sequence[Record]) -> FloatArray:
        """Return (K, N) float64: the tallies of some records."""
        return np.array([self._tally(record) for record in records], dtype=np.float64).T.copy()

    def _summarize(self, records: Sequence[Record]) -> dict[str, float]:
        tallies = self._tallies(records) if records else np.zeros((self.width, 0))
        figures = self._figures(tallies.sum(axis=1, keepdims=True))
        return {name: float(values[0]) for name, values in figures.items()}

    def _weighted(self, weights: FloatArray) -> dict[str, FloatArray]:
        return self._figures(self._tallies(self._records) @ weights.T)


def update_all(metrics: Iterable[Metric[Any]], outcome: Outcome, truth: Truth) -> None:
    """Add a sample to several metrics; what some of them measure alike is measured once.

    Args:
        metrics: of any kinds.
        outcome: what an episode ended with.
        truth: what is right.

    Raises:
        InvalidData: as ``Metric.update`` does.
    """
    measured: dict[Any, Any] = {}
    for metric in metrics:
        key = type(metric)._measure
        if key in measured:
            metric._add(measured[key], failed(outcome, truth))
            continue
        metric.update(outcome, truth)
        if metric.shares_records:
            measured[key] = metric._records[-1]


def failed(outcome: Outcome, truth: Truth) -> bool:
    """Whether an episode came to no proper end: it is invalid or still running, or ran out with nothing to show."""
    if outcome.termination in (None, "invalid"):
        return True
    shown = outcome.answer if isinstance(truth, AnswerTruth) else outcome.detections
    return outcome.termination != "answer" and shown is None


def ratios(part: FloatArray, whole: FloatArray, otherwise: float = float("nan")) -> FloatArray:
    """Shares, element by element; something else where there is nothing to have a share of."""
    return np.divide(part, whole, out=np.full(np.shape(part), otherwise), where=whole != 0)


def ratio(part: float, whole: float) -> float:
    """A share, NaN of nothing."""
    return float(part) / float(whole) if whole else float("nan")
