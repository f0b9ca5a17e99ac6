"""The expert set ``noisy``: the truth, spoiled by a stated error model.

The model (ours; pixels are those of the view that is asked about, so enlarging a patch makes its objects easier):

- a target of side s = sqrt(mask area) is missed with probability
  ``miss_large + (miss_small - miss_large) * exp(-s / miss_side)``;
- each side of a found target's box moves by a normal deviate of standard deviation ``box_jitter * s``;
- its mask is grown or shrunk by round(normal deviate of standard deviation ``mask_jitter * s``) pixels;
- a phrase brings Poisson(``false_positives``) ellipses that are nothing, with sides of 4 % to 20 % of the view's;
- scores are uniform in [0.6, 1] for targets and in [0.4, 0.8] for false positives.

Which of this happens is drawn from a digest of the request (pixels' provenance, sample, arguments) and the seed, so a
request is answered the same whenever, in whatever order and in whatever batch it comes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from visenv.capabilities import (
    Candidates,
    FindVisualPrompts,
    GroundPhrase,
    PointPhrase,
    Points,
    Request,
    Result,
    SegmentPrompts,
    Upscale,
    Upscaled,
    not_answered,
)
from visenv.errors import InvalidData
from visenv.experts.truth_view import (
    FindSample,
    RecentSamples,
    choose_masks,
    enlarge,
    interior_points,
    truth_for,
)
from visenv.masks import Masks
from visenv.types import BoolArray, Detections, FloatArray


@dataclass(frozen=True)
class ErrorModel:
    """How far from the truth the answers are; the module's docstring has the formulas.

    Raises:
        InvalidData: if a value is out of its range.
    """

    miss_small: float = 0.9
    """Probability of missing a vanishingly small target, in [0, 1]."""
    miss_large: float = 0.02
    """Probability of missing a very large one, in [0, 1]."""
    miss_side: float = 10.0
    """Pixels over which that probability falls by a factor of e, above 0."""
    box_jitter: float = 0.03
    """Standard deviation of a box side's shift, in sides of the target, at least 0."""
    mask_jitter: float = 0.03
    """Standard deviation of a mask's growth, in sides of the target, at least 0."""
    false_positives: float = 0.2
    """Mean number of false detections a phrase and view, at least 0."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            highest = 1.0 if name in ("miss_small", "miss_large") else np.inf
            lowest_ok = value > 0 if name == "miss_side" else value >= 0
            if not (lowest_ok and value <= highest and np.isfinite(value)):
                bound = "above 0" if name == "miss_side" else f"between 0 and {highest}"
                raise InvalidData(f"Expected {name} {bound} and finite, but got {value!r}.")

    def miss_probability(self, side: FloatArray) -> FloatArray:
        """Probability of missing targets of the given sides, in pixels of the view.

        Example:
            >>> model = ErrorModel(miss_small=1.0, miss_large=0.0, miss_side=10.0)
            >>> model.miss_probability(np.array([0.0, 10.0, 100.0])).round(4).tolist()
            [1.0, 0.3679, 0.0]
        """
        return self.miss_large + (self.miss_small - self.miss_large) * np.exp(-np.asarray(side) / self.miss_side)


class Noisy:
    """Knows every sample's truth, and errs as its error model says; what a phrase means is as ``oracle`` has it.

    Args:
        find: from a sample's identifier to the sample.
        model: how much it errs.
        seed: which errors it makes, at least 0.

    Raises:
        InvalidData: if the seed is negative.
    """

    name = "noisy"
    capabilities = ("GroundPhrase", "PointPhrase", "SegmentPrompts", "Upscale", "FindVisualPrompts")
    max_batch = 256
    per_sample = True

    def __init__(self, find: FindSample, model: ErrorModel, seed: int = 0) -> None:
        if seed < 0:
            raise InvalidData(f"Expected a seed of at least 0, but got {seed}.")
        self.find = RecentSamples(find)
        self.model = model
        self.seed = seed
        digest = hashlib.blake2b(repr((asdict(model), seed)).encode(), digest_size=8).hexdigest()
        self.fingerprint = f"noisy-1-{digest}"

    def run(self, requests: Sequence[Request]) -> Sequence[Result]:
        """Answer a batch; result ``i`` belongs to request ``i``.

        Returns:
            ``GroundPhrase``: the targets found, then the false ones. ``PointPhrase``: a point on each of them.
            ``SegmentPrompts``: the target under, or nearest to, each prompt, spoiled three times, the better masks
            scored higher. ``FindVisualPrompts``: the marks found, their letters right. ``Upscale``: every pixel
            repeated.
        """
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Result:
        if isinstance(request, Upscale):
            return Upscaled(enlarge(request.view.pixels, request.factor), self.fingerprint)
        if not isinstance(request, (GroundPhrase, PointPhrase, SegmentPrompts, FindVisualPrompts)):
            raise not_answered(self.name, request)
        rng = self._generator(request)
        truth = truth_for(self.find, request)
        if isinstance(request, FindVisualPrompts):
            return self._found(truth, rng)
        if isinstance(request, SegmentPrompts):
            return self._candidates(truth, request, rng)
        found = self._false_positives(self._found(truth, rng), request, rng)
        if isinstance(request, GroundPhrase):
            return found
        assert found.masks is not None
        assert found.scores is not None
        return Points(interior_points(found.masks), found.scores)

    def _generator(self, request: Request) -> np.random.Generator:
        view = request.view
        key = (view.provenance.key, view.sample_id, view.root, request.capability, request.arguments, self.seed)
        digest = hashlib.blake2b(repr(key).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        return np.random.default_rng(np.random.SeedSequence(int.from_bytes(digest, "big")))

    def _found(self, truth: Detections, rng: np.random.Generator) -> Detections:
        masks = _masks(truth)
        sides = np.sqrt(masks.areas)
        kept = np.flatnonzero(rng.random(len(masks)) >= self.model.miss_probability(sides))
        shifts = rng.normal(size=(len(masks), 4)) * self.model.box_jitter * sides[:, None]
        spoiled = self._spoil(masks[kept], rng)
        height, width = masks.shape
        boxes = np.clip(truth.boxes[kept] + shifts[kept], 0, [width, height, width, height])
        crossed = (boxes[:, 2] - boxes[:, 0] < 1) | (boxes[:, 3] - boxes[:, 1] < 1)
        boxes[crossed] = truth.boxes[kept][crossed]
        labels = None if truth.labels is None else tuple(truth.labels[index] for index in kept)
        return Detections(boxes, masks=spoiled, scores=rng.uniform(0.6, 1.0, len(kept)), labels=labels)

    def _spoil(self, masks: Masks, rng: np.random.Generator) -> Masks:
        """Masks grown or shrunk; one that would vanish stays as it is."""
        growth = np.rint(rng.normal(size=len(masks)) * self.model.mask_jitter * np.sqrt(masks.areas)).astype(int)
        crops: list[BoolArray] = []
        offsets: list[tuple[int, int]] = []
        for index in range(len(masks)):
            crop, offset = _grow(np.asarray(masks.crops[index]), masks.offsets[index], int(growth[index]), masks.shape)
            crops.append(crop)
            offsets.append(offset)
        return Masks.from_crops(crops, np.asarray(offsets, dtype=np.int64).reshape(-1, 2), masks.shape)

    def _false_positives(
        self, found: Detections, request: GroundPhrase | PointPhrase, rng: np.random.Generator
    ) -> Detections:
        height, width = _masks(found).shape
        count = int(rng.poisson(self.model.false_positives))
        if count == 0 or min(height, width) < 2:
            return found
        centres = rng.uniform(0, [width, height], (count, 2))
        radii = np.maximum(rng.uniform(0.02, 0.1, (count, 2)) * [width, height], 1.0)
        crops, offsets = zip(*[_ellipse(c, r, width, height) for c, r in zip(centres, radii, strict=True)], strict=True)
        extra = Masks.from_crops(list(crops), np.asarray(offsets, dtype=np.int64), (height, width))
        labels = None if found.labels is None else (*found.labels, *(request.phrase,) * count)
        assert found.scores is not None
        return Detections(
            np.concatenate([found.boxes, extra.boxes]),
            masks=Masks.concatenate([_masks(found), extra]),
            scores=np.concatenate([found.scores, rng.uniform(0.4, 0.8, count)]),
            labels=labels,
        )

    def _candidates(self, truth: Detections, request: SegmentPrompts, rng: np.random.Generator) -> Candidates:
        exact = choose_masks(_masks(truth), request.prompts)
        if len(truth) == 0:
            return exact
        masks: list[Masks] = []
        scores: list[FloatArray] = []
        for each in exact.masks:
            spoiled = self._spoil(each, rng)
            overlap = spoiled.iou(each[:1])[:, 0]
            masks.append(spoiled)
            scores.append(np.clip(overlap + rng.normal(size=len(each)) * 0.05, 0.0, 1.0))
        return Candidates(tuple(masks), tuple(scores))


def make(
    find: FindSample,
    *,
    seed: int = 0,
    miss_small: float = ErrorModel.miss_small,
    miss_large: float = ErrorModel.miss_large,
    miss_side: float = ErrorModel.miss_side,
    box_jitter: float = ErrorModel.box_jitter,
    mask_jitter: float = ErrorModel.mask_jitter,
    false_positives: float = ErrorModel.false_positives,
) -> list[Noisy]:
    """The expert set ``noisy``.

    Args:
        find: from a sample's identifier to the sample, such as a data set's ``find``.
        seed: which errors are made, at least 0.
        miss_small: probability of missing a vanishingly small target.
        miss_large: probability of missing a very large one.
        miss_side: pixels over which that probability falls by a factor of e.
        box_jitter: standard deviation of a box side's shift, in sides of the target.
        mask_jitter: standard deviation of a mask's growth, in sides of the target.
        false_positives: mean number of false detections a phrase and view.

    Returns:
        One expert that answers every capability.

    Raises:
        InvalidData: if a value is out of its range.
    """
    model = ErrorModel(
        miss_small=miss_small,
        miss_large=miss_large,
        miss_side=miss_side,
        box_jitter=box_jitter,
        mask_jitter=mask_jitter,
        false_positives=false_positives,
    )
    return [Noisy(find, model, seed)]


def _masks(detections: Detections) -> Masks:
    assert detections.masks is not None
    return detections.masks


def _grow(
    crop: BoolArray, offset: Sequence[int], growth: int, shape: tuple[int, int]
) -> tuple[BoolArray, tuple[int, int]]:
    """A mask's crop dilated (growth above 0) or eroded (below) by a disc, clipped to the image."""
    x, y = int(offset[0]), int(offset[1])
    if growth == 0:
        return crop, (x, y)
    radius = abs(growth)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    padded = np.pad(crop, radius).astype(np.uint8)
    changed = cv2.dilate(padded, disc) if growth > 0 else cv2.erode(padded, disc)
    x0, y0 = max(x - radius, 0), max(y - radius, 0)
    x1 = min(x + crop.shape[1] + radius, shape[1])
    y1 = min(y + crop.shape[0] + radius, shape[0])
    left, top = x - radius, y - radius
    inside = changed[y0 - top : y1 - top, x0 - left : x1 - left] > 0
    return (inside, (x0, y0)) if inside.any() else (crop, (x, y))


def _ellipse(centre: FloatArray, radii: FloatArray, width: int, height: int) -> tuple[BoolArray, tuple[int, int]]:
    x0, y0 = np.maximum(np.floor(centre - radii), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(centre + radii), [width, height]).astype(int)
    ys, xs = np.mgrid[y0:y1, x0:x1] + 0.5
    inside = ((xs - centre[0]) / radii[0]) ** 2 + ((ys - centre[1]) / radii[1]) ** 2 <= 1
    inside[(y1 - y0) // 2, (x1 - x0) // 2] = True
    return inside, (int(x0), int(y0))
