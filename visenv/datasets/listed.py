"""A data set made of samples that are at hand."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from visenv.errors import DatasetError, InvalidData
from visenv.types import Sample


class SampleList:
    """A finite data set of samples in memory: the shortest way to data of one's own.

    Args:
        name: of the data set.
        samples: at least one, each with an identifier of its own.
        split: which split they are.
        vocabulary: simple phrases (nouns, colours and nouns), at least eight, the candidates of discrete mode. If left
            out, discrete mode has the query and its words alone.

    Raises:
        InvalidData: if there is no sample, something is none, or two share an identifier.

    Example:
        >>> from visenv.masks import Masks
        >>> from visenv.types import MaskTruth
        >>> picture, target = np.full((64, 64, 3), 40, np.uint8), Masks.from_boxes([[8, 8, 24, 24]], (64, 64))
        >>> picture[8:24, 8:24] = 230
        >>> squares = SampleList("squares", [Sample("squares/0", (picture,), "the square", MaskTruth(target))])
        >>> squares.size, squares.find("squares/0").query
        (1, 'the square')
    """

    def __init__(
        self, name: str, samples: Iterable[Sample], *, split: str = "train", vocabulary: Sequence[str] = ()
    ) -> None:
        self.name, self.split, self.vocabulary = name, split, tuple(vocabulary)
        self.samples = tuple(samples)
        self._places: dict[str, int] = {}
        for place, sample in enumerate(self.samples):
            if not isinstance(sample, Sample):
                raise InvalidData(f"Expected samples[{place}] to be a visenv.types.Sample, but got {sample!r:.80}.")
            if sample.sample_id in self._places:
                raise InvalidData(
                    f"Expected every sample to have an identifier of its own, but samples "
                    f"{self._places[sample.sample_id]} and {place} are both {sample.sample_id!r}."
                )
            self._places[sample.sample_id] = place
        if not self.samples:
            raise InvalidData(f"Expected at least one sample for the data set {name!r}, but got none.")

    @property
    def size(self) -> int:
        """How many samples there are."""
        return len(self.samples)

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0.

        Raises:
            IndexError: if there is none.
        """
        if not 0 <= index < self.size:
            raise IndexError(f"Expected a number from 0 to {self.size - 1}, but got {index}.")
        return self.samples[index]

    def find(self, sample_id: str) -> Sample:
        """The sample with that identifier.

        Raises:
            DatasetError: if there is none.
        """
        if sample_id not in self._places:
            raise DatasetError(f"The data set {self.name!r} has no sample {sample_id!r:.80}.")
        return self.samples[self._places[sample_id]]

    def draw(self, rng: np.random.Generator) -> Sample:
        """Any of them, all alike likely."""
        return self.samples[int(rng.integers(self.size))]
