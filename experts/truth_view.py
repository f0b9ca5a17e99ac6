"""The truth of a sample as one named image of its episode shows it: shared by ``oracle`` and ``noisy``.

The truth of a question is an answer. Where its pictures were drawn, it also says what each of them shows: then a phrase
means the things that it describes, as the classical experts read phrases, but without their doubts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

from visenv.byte_cache import ByteCache
from visenv.capabilities import Candidates, FindVisualPrompts, GroundPhrase, PointPhrase, Prompt, Request, View
from visenv.contents import ImageContent
from visenv.errors import InvalidData
from visenv.experts.classical.lexicon import COLOUR_WORDS, PATTERN_WORDS
from visenv.experts.classical.parser import parse
from visenv.experts.classical.pointer import resolve
from visenv.masks import Masks
from visenv.types import (
    AnswerTruth,
    BoolArray,
    BoxesTruth,
    Detections,
    FloatArray,
    ImageTruth,
    IntArray,
    MaskTruth,
    Pixels,
    PointsTruth,
    Sample,
)

FindSample: TypeAlias = Callable[[str], Sample]
"""From a sample's identifier to the sample: a data set's ``find``."""

POINT_RADIUS = 1
"""Half the side, in root pixels and without the middle one, of the box that stands for a point truth."""


class RecentSamples:
    """A data set's ``find`` that keeps what it has found last: an episode is asked about again and again.

    Args:
        find: from a sample's identifier to the sample.
        limit: of what is kept, in bytes of the samples' images.
    """

    def __init__(self, find: FindSample, limit: int = 1 << 26) -> None:
        self._find = find
        self._lock = threading.Lock()
        self._kept: ByteCache[Sample] = ByteCache(limit)

    def __call__(self, sample_id: str) -> Sample:
        """The sample with that identifier."""
        with self._lock:
            sample = self._kept.get(sample_id)
        if sample is None:
            sample = self._find(sample_id)
            with self._lock:
                self._kept.put(sample_id, sample, sum(image.nbytes for image in sample.images))
        return sample

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())


def truth_for(find: FindSample, request: Request) -> Detections:
    """What a request asks for, of what its view shows.

    Args:
        find: where the sample comes from.
        request: of a phrase, of prompts, or for visual prompts.

    Returns:
        As ``truth_in_view``, of a question of what its phrase means; the marks of a view, labelled as ``circle A``,
        where these are asked for.

    Raises:
        InvalidData: if the sample does not say it.
    """
    view = request.view
    if isinstance(request, FindVisualPrompts):
        return marks_in_view(find, view)
    return truth_in_view(find, view, request.phrase if isinstance(request, (GroundPhrase, PointPhrase)) else None)


def truth_in_view(find: FindSample, view: View, phrase: str | None = None) -> Detections:
    """The targets of a view's sample that the view shows, in the view's own frame.

    A pixel of the view belongs to a target if the root pixel under its centre does. So cropping keeps masks as they
    are, and enlarging by a whole factor repeats each pixel: taking every n-th pixel gives the truth back exactly.

    Args:
        find: where the sample comes from.
        view: the image; its ``to_root`` may scale, shift, mirror and rotate.
        phrase: what is looked for among the things of a question's picture; all of them if None. Where the truth is
            what is to be found, that is meant, whatever the phrase.

    Returns:
        One detection a target that has a pixel in the view, in the truth's order, with score 1.

    Raises:
        InvalidData: if the sample does not say what its image shows, or if ``to_root`` is no invertible (3, 3) matrix.
    """
    sample = find(view.sample_id)
    if isinstance(sample.truth, AnswerTruth):
        content = _content(sample, view)
        shown, kept = _in_view(content.masks, view)
        return shown if phrase is None else _meant_by(phrase, content, shown, kept)
    if view.root != "img_0":
        return no_detections(*view.size[::-1])
    masks, boxes = root_targets(sample)
    shown, kept = _in_view(masks, view)
    if boxes is None:
        return shown
    return Detections(_boxes_in_view(boxes[kept], view), masks=shown.masks, labels=_labels(sample, kept))


def marks_in_view(find: FindSample, view: View) -> Detections:
    """The visual prompts that are drawn on a view's picture and whose middle the view shows, in order of their labels.

    Raises:
        InvalidData: if the sample does not say what its image shows.
    """
    width, height = view.size
    marks = _content(find(view.sample_id), view).marks
    boxes = _mapped(np.array([mark.box for mark in marks], dtype=np.float64).reshape(-1, 4), view)
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((middles >= 0) & (middles < (width, height))).all(axis=1)
    order = sorted(np.flatnonzero(inside).tolist(), key=lambda index: marks[index].label.rpartition(" ")[2])
    kept = np.clip(boxes[order], 0, [width, height, width, height])
    labels = tuple(marks[index].label for index in order)
    return Detections(kept, Masks.from_boxes(kept, (height, width)), np.ones(len(kept)), labels)


def _in_view(masks: Masks, view: View) -> tuple[Detections, list[int]]:
    """Those of some masks over a view's root that the view shows, and which they are."""
    width, height = view.size
    columns, rows = _root_grid(view)
    crops: list[BoolArray] = []
    offsets: list[tuple[int, int]] = []
    kept: list[int] = []
    for index, (crop, offset) in enumerate(zip(masks.crops, masks.offsets, strict=True)):
        found = _resample(np.asarray(crop), np.asarray(offset), columns, rows)
        if found is not None:
            crops.append(found[0])
            offsets.append(found[1])
            kept.append(index)
    seen = Masks.from_crops(crops, np.asarray(offsets, dtype=np.int64).reshape(-1, 2), (height, width))
    return Detections(seen.boxes, masks=seen), kept


def clean_picture(find: FindSample, view: View) -> Pixels:
    """What a view's sample was before it was damaged.

    Raises:
        InvalidData: if the sample's truth is none of a damaged picture.
    """
    truth = find(view.sample_id).truth
    if not isinstance(truth, ImageTruth):
        raise InvalidData(
            f"Expected the truth of a damaged picture, but {view.sample_id!r} has {type(truth).__name__}."
        )
    return truth.clean


def root_targets(sample: Sample) -> tuple[Masks, FloatArray | None]:
    """A sample's targets over ``img_0``: their masks, and their boxes where the truth states them.

    Raises:
        InvalidData: if the truth has no place in the image.
    """
    height, width = sample.image.shape[:2]
    truth = sample.truth
    if isinstance(truth, MaskTruth):
        target = Masks.empty((height, width)) if truth.target is None else truth.target
        return target[np.flatnonzero(target.areas)], None
    if isinstance(truth, BoxesTruth):
        boxes = np.asarray(truth.boxes, dtype=np.float64).reshape(-1, 4)
        return _box_masks(boxes, (height, width)), boxes
    if isinstance(truth, PointsTruth):
        pixels = np.floor(np.asarray(truth.points, dtype=np.float64).reshape(-1, 2))
        pixels = np.clip(pixels, 0, [width - 1, height - 1])
        boxes = np.concatenate([pixels - POINT_RADIUS, pixels + POINT_RADIUS + 1], axis=1)
        return _box_masks(boxes, (height, width)), None
    raise _unknown(sample)


def interior_point(mask: BoolArray) -> tuple[int, int]:
    """The pixel of a mask that lies deepest inside it, as (x, y); ties go to the first in reading order.

    Args:
        mask: (h, w), with at least one pixel set.
    """
    depth = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return int(x) - 1, int(y) - 1


def interior_points(masks: Masks) -> FloatArray:
    """The deepest pixel's centre of each mask: (N, 2) xy."""
    points = np.zeros((len(masks), 2))
    for index, (crop, offset) in enumerate(zip(masks.crops, masks.offsets, strict=True)):
        points[index] = np.add(interior_point(np.asarray(crop)), offset) + 0.5
    return points


def choose_masks(masks: Masks, prompts: tuple[Prompt, ...]) -> Candidates:
    """For each prompt the mask it means, three times over with score 1; an empty mask with score 0 where there is none.

    A box means the mask of the best overlap with it; points mean the mask nearest to all the positive ones
    (under them, if one is), the smallest of several.
    """
    there = masks if len(masks) else masks.union()
    chosen = tuple(there[np.repeat(_meant(there, prompt.located) if len(masks) else [0], 3)] for prompt in prompts)
    return Candidates(chosen, tuple(np.full(3, float(len(masks) > 0)) for _ in chosen))


def enlarge(pixels: Pixels, factor: int) -> Pixels:
    """Every pixel repeated ``factor`` times along both axes.

    Raises:
        InvalidData: if the factor is below 1.
    """
    if factor < 1:
        raise InvalidData(f"Expected an upscaling factor of at least 1, but got {factor}.")
    return np.ascontiguousarray(pixels.repeat(factor, axis=0).repeat(factor, axis=1))


def no_detections(height: int, width: int) -> Detections:
    """Nothing found in an image of that size."""
    return Detections(np.zeros((0, 4)), masks=Masks.empty((height, width)), scores=np.zeros(0))


@dataclass(frozen=True, eq=False)
class _Certain:
    """A thing as the classical pointer knows things, but without doubt."""

    box: tuple[float, float, float, float]
    area: float
    kinds: dict[str, float]
    colours: dict[str, float]
    patterns: dict[str, float]


def _meant_by(phrase: str, content: ImageContent, shown: Detections, kept: list[int]) -> Detections:
    """Those of the things in view that a phrase describes; none where nothing of it is understood."""
    assert shown.masks is not None
    seen = []
    for box, area, index in zip(shown.boxes.tolist(), shown.masks.areas, kept, strict=True):
        kind, colour, pattern = content.things[index].words
        # The words of drawings are not all those by which phrases are read: cyan is one of several for a colour.
        words = ({kind: 1.0}, {COLOUR_WORDS.get(colour, colour): 1.0}, {PATTERN_WORDS.get(pattern, pattern): 1.0})
        seen.append(_Certain((box[0], box[1], box[2], box[3]), float(area), *words))
    meant = list(resolve(parse(phrase), seen, shown.masks.shape))
    masks = shown.masks[meant]
    return Detections(masks.boxes, masks=masks)


def _content(sample: Sample, view: View) -> ImageContent:
    """What the root of a view shows.

    Raises:
        InvalidData: if the sample does not say it.
    """
    truth, place = sample.truth, view.root.removeprefix("img_")
    contents = truth.contents if isinstance(truth, AnswerTruth) else None
    if contents is None or not place.isdecimal() or int(place) >= len(contents):
        raise _unknown(sample)
    return contents[int(place)]


def _unknown(sample: Sample) -> InvalidData:
    return InvalidData(
        f"Expected a truth that says where things are, but {sample.sample_id!r} has {type(sample.truth).__name__} "
        "alone, without what its images show, which only questions about generated pictures have: give experts that "
        "look at pixels, such as 'classical' or 'sight', for what is asked."
    )


def _meant(masks: Masks, prompt: Prompt) -> IntArray:
    if prompt.box is not None:
        overlap = masks.iou(Masks.from_boxes(np.asarray(prompt.box, dtype=np.float64).reshape(1, 4), masks.shape))[:, 0]
        if overlap.max() > 0:
            return np.array([int(np.argmax(overlap))])
        positives = np.asarray(prompt.box, dtype=np.float64).reshape(2, 2).mean(axis=0, keepdims=True)
    else:
        labels = np.ones(len(prompt.points)) if prompt.labels is None else np.asarray(prompt.labels)
        positives = np.asarray(prompt.points, dtype=np.float64).reshape(-1, 2)[labels.reshape(-1) > 0]
    distances = np.zeros(len(masks))
    for index, (crop, offset) in enumerate(zip(masks.crops, masks.offsets, strict=True)):
        ys, xs = np.nonzero(np.asarray(crop))
        for x, y in np.floor(positives) - np.asarray(offset):
            distances[index] += float(np.hypot(xs - x, ys - y).min())
    order = np.lexsort((np.arange(len(masks)), masks.areas, distances))
    return order[:1]


def _box_masks(boxes: FloatArray, shape: tuple[int, int]) -> Masks:
    """Whole pixels that the boxes touch, clipped to the image; a box outside of it keeps its place, empty."""
    height, width = shape
    limits = np.array([width, height, width, height])
    outer = np.concatenate([np.floor(boxes[:, :2] + 1e-9), np.ceil(boxes[:, 2:] - 1e-9)], axis=1)
    outer = np.clip(outer, 0, limits).astype(np.int64)
    crops = [np.ones((max(y1 - y0, 0), max(x1 - x0, 0)), dtype=bool) for x0, y0, x1, y1 in outer]
    return Masks.from_crops(crops, outer[:, :2], shape)


def _labels(sample: Sample, kept: list[int]) -> tuple[str, ...] | None:
    labels = sample.truth.labels if isinstance(sample.truth, BoxesTruth) else None
    return None if labels is None else tuple(labels[index] for index in kept)


def _boxes_in_view(boxes: FloatArray, view: View) -> FloatArray:
    width, height = view.size
    return np.clip(_mapped(boxes, view), 0, [width, height, width, height])


def _mapped(boxes: FloatArray, view: View) -> FloatArray:
    """Boxes over the root as boxes over a view, however far they reach out of it."""
    from_root = np.linalg.inv(np.asarray(view.to_root, dtype=np.float64))
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    mapped = corners @ from_root[:2, :2].T + from_root[:2, 2]
    return np.concatenate([mapped.min(axis=1), mapped.max(axis=1)], axis=1)


def _root_grid(view: View) -> tuple[IntArray, IntArray]:
    """Root column and row under the centre of each pixel of a view: broadcastable to (H, W)."""
    to_root = np.asarray(view.to_root, dtype=np.float64)
    if to_root.shape != (3, 3) or not np.isfinite(to_root).all() or abs(np.linalg.det(to_root)) < 1e-12:
        raise InvalidData(f"Expected an invertible (3, 3) transform to the root, but got {to_root!r}.")
    width, height = view.size
    xs = np.arange(width)[None, :] + 0.5
    ys = np.arange(height)[:, None] + 0.5
    if to_root[0, 1] == 0 and to_root[1, 0] == 0:
        columns, rows = to_root[0, 0] * xs + to_root[0, 2], to_root[1, 1] * ys + to_root[1, 2]
    else:
        columns = to_root[0, 0] * xs + to_root[0, 1] * ys + to_root[0, 2]
        rows = to_root[1, 0] * xs + to_root[1, 1] * ys + to_root[1, 2]
    return np.floor(columns).astype(np.int64), np.floor(rows).astype(np.int64)


def _resample(
    crop: BoolArray, offset: IntArray, columns: IntArray, rows: IntArray
) -> tuple[BoolArray, tuple[int, int]] | None:
    """One mask's crop as a view shows it, with its offset there; None if nothing of it is in view."""
    height, width = crop.shape
    in_x = (columns >= offset[0]) & (columns < offset[0] + width)
    in_y = (rows >= offset[1]) & (rows < offset[1] + height)
    if columns.shape[0] == 1:
        hit_x, hit_y = np.flatnonzero(in_x[0]), np.flatnonzero(in_y[:, 0])
        if hit_x.size == 0 or hit_y.size == 0:
            return None
        found = crop[np.ix_(rows[hit_y, 0] - offset[1], columns[0, hit_x] - offset[0])]
    else:
        inside = in_x & in_y
        hit_x, hit_y = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
        if hit_x.size == 0:
            return None
        window = (slice(hit_y[0], hit_y[-1] + 1), slice(hit_x[0], hit_x[-1] + 1))
        at_x = np.clip(columns[window] - offset[0], 0, width - 1)
        at_y = np.clip(rows[window] - offset[1], 0, height - 1)
        found = crop[at_y, at_x] & inside[window]
    return (found, (int(hit_x[0]), int(hit_y[0]))) if found.any() else None
