"""The data set ``scenes``: numbered samples, each drawn from its number alone."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from visenv.builtin import GENERATED
from visenv.datasets.base import FAMILIES, Dataset
from visenv.datasets.scenes.kinds import KINDS
from visenv.datasets.scenes.numbered import SPLITS, NumberedDataset
from visenv.datasets.scenes.profiles import DENSE_KINDS, profile
from visenv.datasets.scenes.programs import Select
from visenv.datasets.scenes.questions import Question, ask
from visenv.datasets.scenes.render import RenderedScene, render_scene
from visenv.errors import DatasetError
from visenv.masks import Masks
from visenv.registration import Entry
from visenv.types import BoxesTruth, MaskTruth, PointsTruth, Sample, TaskKind, Truth

_ENTROPY = 0x5CE7E5
_DRAW, _NULLS = 0, 1
_NULL_PERIOD = {"reasonseg": 20, "grefseg": 5}
"""One sample in so many is about nothing; the other families have none.

Counting has none: no tool of VisHarness can set a result with nothing in it, so a count of zero could not be said."""
_ATTEMPTS = 200
_TASKS: dict[str, TaskKind] = {"densedet": "detection", "refcount": "counting"}

_VOCABULARY = {
    "densedet": (*DENSE_KINDS, "red apple", "yellow star", "blue car", "green tree", "orange house", "purple kite"),
}
_COMMON = (*(kind.name for kind in KINDS.values()), "red car", "blue fish", "yellow star", "green tree")


class ScenesDataset(NumberedDataset):
    """Generated scenes of one family, split and difficulty.

    A sample depends on its identifier and on nothing else: neither on what was drawn before, nor on the process.
    Samples that are about nothing come once in every run of 20 (``reasonseg``) or of 5 (``grefseg``).

    Args:
        family: one of ``FAMILIES``.
        split: ``train``, ``val`` or ``test``; the three share no sample.
        difficulty: 0 to 3.

    Raises:
        DatasetError: for any other family, split or difficulty.

    Example:
        >>> data = ScenesDataset("reasonseg", "val", 1)
        >>> sample = data.get(0)
        >>> sample.sample_id, sample.image.shape, data.size
        ('scenes/reasonseg/d1/val/0', (256, 256, 3), 500)
        >>> data.find(sample.sample_id).query == sample.query
        True
    """

    def __init__(self, family: str, split: str, difficulty: int) -> None:
        if family not in FAMILIES:
            raise DatasetError(f"Expected a family out of {', '.join(FAMILIES)}, but got {family!r}.")
        super().__init__(family, split, difficulty)
        self.vocabulary = _VOCABULARY.get(family, _COMMON)
        self._key = (FAMILIES.index(family), self.difficulty, SPLITS.index(split))

    def __repr__(self) -> str:
        return f"ScenesDataset({self.family!r}, {self.split!r}, {self.difficulty})"

    def get(self, index: int) -> Sample:
        """The sample with that number, from 0; ``train`` has one for every number.

        Raises:
            IndexError: for a negative number, or one that ``val`` and ``test`` do not have.
        """
        number = operator.index(index)
        rendered, question = self.explain(number)
        return Sample(
            sample_id=f"{self._prefix}{number}",
            images=(rendered.image,),
            query=question.text,
            truth=_truth(self.family, rendered, question),
            task=_TASKS.get(self.family, "segmentation"),
            metadata=self._metadata(rendered, question),
        )

    def _metadata(self, rendered: RenderedScene, question: Question) -> dict[str, Any]:
        program = question.program
        described = {
            "family": self.family,
            "difficulty": self.difficulty,
            "program": repr(program),
            "form": type(program).__name__,
            "objects": len(rendered.scene.objects),
            "targets": len(question.targets),
        }
        if self.family == "densedet" and isinstance(program, Select):
            described["category"] = " ".join(word for word in (program.colour, program.kind) if word is not None)
        return described

    def explain(self, index: int) -> tuple[RenderedScene, Question]:
        """What the sample with that number is made of: the scene with its objects, and the query as a program.

        Raises:
            IndexError: as ``get``.
        """
        number = self._number(index)
        null = self._is_null(number)
        look = profile(self.family, self.difficulty)
        for attempt in range(_ATTEMPTS):
            rng = self._rng(_DRAW, attempt, number)
            rendered = render_scene(rng, look)
            question = ask(rng, rendered.scene, self.family, self.difficulty, null)
            if question is not None:
                return rendered, question
        raise RuntimeError(f"No query was found for {self._prefix}{number} in {_ATTEMPTS} scenes.")

    def _is_null(self, number: int) -> bool:
        period = _NULL_PERIOD.get(self.family)
        if period is None:
            return False
        block, place = divmod(number, period)
        return int(self._rng(_NULLS, 0, block).integers(period)) == place

    def _rng(self, role: int, attempt: int, number: int) -> np.random.Generator:
        key = (role, *self._key, attempt, number)
        return np.random.default_rng(np.random.SeedSequence(_ENTROPY, spawn_key=key))


def _truth(family: str, rendered: RenderedScene, question: Question) -> Truth:
    width, height = rendered.scene.size
    if family == "densedet":
        boxes = [rendered.scene.objects[i].box for i in question.targets]
        return BoxesTruth(np.array(boxes, dtype=np.float64).reshape(-1, 4))
    if family == "refcount":
        points = [_point(rendered, i) for i in question.targets]
        return PointsTruth(np.array(points, dtype=np.float64).reshape(-1, 2))
    seen = [rendered.visible(i) for i in question.targets]
    return MaskTruth(Masks.from_crops([crop for crop, _ in seen], [place for _, place in seen], (height, width)))


def _point(rendered: RenderedScene, index: int) -> tuple[float, float]:
    """The middle of the visible pixel nearest to the middle of the object's box."""
    crop, (x0, y0) = rendered.visible(index)
    rows, columns = np.nonzero(crop)
    away = (columns + 0.5 - crop.shape[1] / 2) ** 2 + (rows + 0.5 - crop.shape[0] / 2) ** 2
    nearest = int(away.argmin())
    return x0 + float(columns[nearest]) + 0.5, y0 + float(rows[nearest]) + 0.5


def make(*, path: str | None = None, family: str = "reasonseg", split: str = "train", difficulty: int = 1) -> Dataset:
    """The data set ``scenes``.

    Args:
        path: must be None: scenes are drawn, not read.
        family: one of ``FAMILIES``, or one that is generated in a module of its own (``visenv.builtin.GENERATED``).
        split: ``train``, ``val`` or ``test``.
        difficulty: 0 to 3.

    Raises:
        DatasetError: for a path, or a family, split or difficulty that does not exist.
    """
    if path is not None:
        raise DatasetError(f"Expected dataset='scenes' without a path, since scenes are generated, but got {path!r}.")
    if family in GENERATED:
        made: Dataset = Entry(family, GENERATED[family]).load()(split=split, difficulty=difficulty)
        return made
    return ScenesDataset(family, split, difficulty)
