"""The samples that seeds give, drawn before anybody asks for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from gymnasium.utils.seeding import np_random

from visenv.episode import EpisodeState
from visenv.types import Sample


class SampleStream:
    """The episodes that one seed gives, in order, for one or several environments that all start at the first.

    The next sample is drawn, and its episode prepared, on another thread before anybody asks for it.

    Args:
        draw: draws a sample with a generator, and gives that as it is afterwards; called on the other thread.
        prepare: says what an episode about a sample begins with, on the other thread too.
        seed: of the stream; the samples are those that one environment draws after ``reset(seed=seed)``.
        readers: the environments that read it.
        workers: who draws ahead.
    """

    def __init__(
        self,
        draw: Callable[[np.random.Generator], tuple[Sample, np.random.Generator]],
        prepare: Callable[[Sample], EpisodeState],
        seed: int | None,
        readers: Iterable[int],
        workers: ThreadPoolExecutor,
    ) -> None:
        self._sample, self._prepare, self._workers = draw, prepare, workers
        self._rng = np_random(seed)[0]
        self._places = dict.fromkeys(readers, 0)
        self._drawn: dict[int, Future[EpisodeState]] = {}
        self._count = 0
        self._draw_ahead()

    def _draw_ahead(self) -> None:
        # One worker thread draws for everybody, in the order of submission: a stream's samples come in order.
        self._drawn[self._count] = self._workers.submit(self._draw)
        self._count += 1

    def _draw(self) -> EpisodeState:
        sample, self._rng = self._sample(self._rng)
        return self._prepare(sample)

    def peek(self, reader: int) -> EpisodeState:
        """What one reader's next episode begins with.

        The reader stays where it is, unless the sample cannot be drawn: then it is passed.

        Raises:
            Exception: what the data set raised.
        """
        try:
            return self._drawn[self._places[reader]].result()
        except Exception:
            self.advance(reader)
            raise

    def advance(self, reader: int) -> None:
        """Move one reader on to the sample after its next."""
        self._places[reader] += 1
        if self._places[reader] == self._count:
            self._draw_ahead()
        self._forget_before(min(self._places.values()))

    def leave(self, reader: int) -> None:
        """One reader reads no more: nothing is kept for it."""
        del self._places[reader]
        self._forget_before(min(self._places.values(), default=self._count))

    def _forget_before(self, place: int) -> None:
        for passed in [number for number in self._drawn if number < place]:
            self._drawn.pop(passed).cancel()
