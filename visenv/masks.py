"""Sets of binary masks over one frame, stored as tight crops or as COCO RLEs, never as full frames.

A mask of a 20-pixel object on a 1920x1080 image is 400 bytes here instead of two million, and what compares or joins
masks looks only where their boxes overlap. Masks that came as RLEs stay RLEs until their pixels are asked for: areas,
boxes and IoU are taken from the runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco

from visenv import rle as codec
from visenv._crops import as_crop, covered, fitted, flat_polygon, holding, united
from visenv._resampling import nearest_sources, resized, strided, warped, whole_stride
from visenv._stored_masks import Rle, Size, StoredMasks
from visenv.errors import InvalidData
from visenv.geometry import as_boxes, check_transform
from visenv.types import BoolArray

__all__ = ["Masks", "Rle", "Size", "as_masks"]

_LONGEST_OUTLINE = 4e6
"""In pixels: pycocotools allocates five points for each, inside the frame or not."""


class Masks(StoredMasks):
    """An immutable set of N binary masks over one frame of (H, W) pixels.

    Build one with a ``from_*`` constructor or with :func:`as_masks`. Indexing with an int, a slice, or an array of
    indices or booleans gives another ``Masks``; iterating gives N sets of one.

    Example:
        >>> masks = Masks.from_boxes([[1, 0, 3, 2], [2, 1, 4, 3]], (3, 4))
        >>> masks
        Masks(2 of 3x4, areas [4, 4])
        >>> masks.iou(masks)[0].round(3).tolist()
        [1.0, 0.143]
        >>> int(masks.union().areas[0])
        7
    """

    __slots__ = ()

    # --- constructors ---------------------------------------------------------------------------------------------

    @classmethod
    def empty(cls, size: Size) -> Masks:
        """No masks at all over a frame.

        Args:
            size: (H, W) of the frame.

        Raises:
            InvalidData: if ``size`` is no frame.

        Example:
            >>> len(Masks.empty((3, 4)))
            0
        """
        return cls._of_crops(codec.check_frame(size), (), ())

    @classmethod
    def from_dense(cls, array: ArrayLike) -> Masks:
        """Masks from full frames.

        Args:
            array: (N, H, W), or (H, W) for one mask; bool, or integers where anything but 0 is set.

        Raises:
            InvalidData: if the array has another number of axes, no pixels, or values of another type.

        Example:
            >>> Masks.from_dense(np.eye(3, dtype=bool)).boxes.tolist()
            [[0.0, 0.0, 3.0, 3.0]]
        """
        frames = np.asarray(array)
        if frames.ndim not in (2, 3):
            raise InvalidData(f"Expected masks as an array (N, H, W) or (H, W), but got the shape {frames.shape}.")
        if frames.dtype.kind not in "biu":
            raise InvalidData(
                f"Expected masks of bool or integers, but got {frames.dtype}: threshold it first, as in `scores > 0.5`."
            )
        frames = frames[None] if frames.ndim == 2 else frames
        shape = codec.check_frame(frames.shape[1:])
        frames = frames if frames.dtype == np.bool_ else frames != 0
        return cls._of_placed(shape, (fitted(frame, (0, 0), shape) for frame in frames))

    @classmethod
    def from_crops(cls, crops: Sequence[ArrayLike], offsets: ArrayLike, size: Size) -> Masks:
        """Masks from parts of the frame; what sticks out of the frame is cut off.

        Args:
            crops: N arrays (h, w), bool or integers; not necessarily tight.
            offsets: (N, 2) ints, the x and y of each crop's upper left pixel in the frame.
            size: (H, W) of the frame.

        Raises:
            InvalidData: if crops and offsets differ in number, or have another shape or type.

        Example:
            >>> Masks.from_crops([np.ones((2, 2), bool)], [[3, 1]], (5, 4)).boxes.tolist()
            [[3.0, 1.0, 4.0, 3.0]]
        """
        shape = codec.check_frame(size)
        places = np.asarray(offsets)
        if places.size == 0:
            places = np.zeros((0, 2), np.int64)
        if places.ndim != 2 or places.shape[1] != 2 or places.dtype.kind not in "iu" or len(places) != len(crops):
            raise InvalidData(
                f"Expected an (N, 2) array of whole x, y offsets for {len(crops)} crops, "
                f"but got the shape {places.shape} of {places.dtype}."
            )
        placed = zip(crops, places.tolist(), strict=True)
        return cls._of_placed(shape, (fitted(as_crop(crop), (x, y), shape) for crop, (x, y) in placed))

    @classmethod
    def from_coco_rles(cls, rles: Mapping[str, Any] | Sequence[Mapping[str, Any]], size: Size | None = None) -> Masks:
        """Masks from COCO run-length encodings, kept encoded until their pixels are needed.

        Args:
            rles: one RLE or a list of them, each ``{"size": [H, W], "counts": …}`` with compressed counts (``str`` or
                ``bytes``) or plain ones (a list of ints).
            size: (H, W) of the frame; needed for an empty list, checked otherwise.

        Raises:
            InvalidData: if an RLE is broken, the sizes differ, or the frame of an empty list is not given.

        Example:
            >>> Masks.from_coco_rles({"size": [3, 4], "counts": "327"}).areas.tolist()
            [2]
        """
        items = [rles] if isinstance(rles, Mapping) else rles
        if isinstance(items, (str, bytes)) or not isinstance(items, (Sequence, np.ndarray)):
            raise InvalidData(f"Expected an RLE or a list of RLEs, but got a {type(rles).__name__}.")
        shape = None if size is None else codec.check_frame(size)
        shape, counts = codec.check_rles(items, shape)
        if shape is None:
            raise InvalidData("Expected the frame of an empty list of RLEs as `size=(height, width)`, but got none.")
        return cls(shape, len(counts), counts=counts)

    @classmethod
    def from_polygons(cls, polygons_per_object: Sequence[Sequence[ArrayLike]], size: Size) -> Masks:
        """Masks from outlines, filled as the COCO API fills them.

        Coordinates are continuous, (0, 0) the upper left corner of the upper left pixel, so that the rectangle from
        (1, 1) to (3, 3) covers four pixels. An object's polygons are united; what sticks out of the frame is cut off.

        Args:
            polygons_per_object: for each object its polygons, each (K, 2) xy points or the same numbers in a flat list
                (COCO's ``segmentation``), K at least 3.
            size: (H, W) of the frame.

        Raises:
            InvalidData: if a polygon has fewer than three points, or an outline that is endless.

        Example:
            >>> Masks.from_polygons([[[1, 1, 3, 1, 3, 3, 1, 3]]], (4, 4)).areas.tolist()
            [4]
        """
        height, width = shape = codec.check_frame(size)
        encoded = []
        for polygons in polygons_per_object:
            flat = [flat_polygon(polygon, _LONGEST_OUTLINE) for polygon in polygons]
            parts = coco.frPyObjects(flat, height, width) if flat else []
            encoded.append(coco.merge(parts) if parts else {"size": [height, width], "counts": [height * width]})
        return cls.from_coco_rles(encoded, shape)

    @classmethod
    def from_boxes(cls, boxes: ArrayLike, size: Size) -> Masks:
        """Masks of filled boxes: every pixel whose centre lies inside.

        Args:
            boxes: (N, 4) xyxy pixels, half-open, or one such row; a box without area gives an empty mask.
            size: (H, W) of the frame; what sticks out is cut off.

        Raises:
            InvalidData: if the boxes have another shape or are not finite.

        Example:
            >>> Masks.from_boxes([[0.6, 0, 2.4, 1]], (2, 3)).to_dense().astype(int).tolist()
            [[[0, 1, 0], [0, 0, 0]]]
        """
        height, width = shape = codec.check_frame(size)
        corners = as_boxes(boxes)
        if not np.isfinite(corners).all():
            raise InvalidData("Expected boxes as finite (N, 4) xyxy pixels, but got NaN or infinity.")
        limits = np.array([width, height, width, height])
        pixels = np.clip(np.ceil(corners - 0.5), 0, limits).astype(np.int64)
        pixels[~((pixels[:, 2:] > pixels[:, :2]).all(axis=1))] = 0
        crops = [np.ones((y1 - y0, x1 - x0), bool) for x0, y0, x1, y1 in pixels.tolist()]
        return cls._of_crops(shape, crops, [(x0, y0) for x0, y0, _, _ in pixels.tolist()])

    @classmethod
    def concatenate(cls, parts: Sequence[Masks], size: Size | None = None) -> Masks:
        """All masks of several sets over one frame, in order.

        Args:
            parts: sets of the same frame.
            size: (H, W) of the frame; needed where ``parts`` is empty.

        Raises:
            InvalidData: if the frames differ, or none is given.

        Example:
            >>> one = Masks.from_boxes([[0, 0, 1, 1]], (2, 2))
            >>> len(Masks.concatenate([one, one]))
            2
        """
        if size is None and not parts:
            raise InvalidData("Expected the frame of an empty concatenation as `size=(height, width)`, but got none.")
        shape = parts[0].shape if size is None else codec.check_frame(size)
        for part in parts:
            if part.shape != shape:
                raise InvalidData(f"Expected masks over the frame {shape}, but got one over {part.shape}.")
        length = sum(len(part) for part in parts)
        if parts and all(part._crops is None for part in parts):
            return cls(shape, length, counts=tuple(runs for part in parts for runs in part._runs()))
        crops = [crop for part in parts for crop in part.crops]
        return cls._of_crops(shape, crops, [tuple(offset) for part in parts for offset in part.offsets.tolist()])

    def __reduce__(self) -> tuple[Callable[..., Masks], tuple[Size, tuple[bytes, ...]]]:
        return _unpickle, (self._shape, self._encoded())

    # --- what they have in common with others ---------------------------------------------------------------------

    def iou(self, other: Masks) -> NDArray[np.float64]:
        """Intersection over union of every pair.

        Sets that are stored as RLEs are compared run by run, without decoding; others crop by crop, only where boxes
        overlap.

        Args:
            other: M masks over the same frame.

        Returns:
            (N, M) float64 in [0, 1]; 0 where both masks are empty (whether that counts as agreement is the metric's to
            decide).

        Raises:
            InvalidData: if the frames differ.
        """
        if self._crops is None and other._crops is None:
            self._check_same_frame(other)
            if not len(self) or not len(other):
                return np.zeros((len(self), len(other)))
            return np.asarray(coco.iou(self._pycoco(), other._pycoco(), [0] * len(other)), np.float64)
        common = self.intersection_areas(other)
        union = self.areas[:, None] + other.areas[None, :] - common
        return common / np.maximum(union, 1)

    def intersection_areas(self, other: Masks) -> NDArray[np.int64]:
        """Pixels in common for every pair.

        Args:
            other: M masks over the same frame.

        Returns:
            (N, M) int64 pixels.

        Raises:
            InvalidData: if the frames differ.

        Example:
            >>> Masks.from_boxes([[0, 0, 2, 2]], (3, 3)).intersection_areas(Masks.from_boxes([[1, 1, 3, 3]], (3, 3)))
            array([[1]])
        """
        self._check_same_frame(other)
        common = np.zeros((len(self), len(other)), np.int64)
        if not common.size:
            return common
        if self._crops is None and other._crops is None:
            # With `iscrowd`, pycocotools divides the intersection by the first mask's area alone.
            shares = np.asarray(coco.iou(self._pycoco(), other._pycoco(), [1] * len(other)))
            return np.rint(shares * self.areas[:, None]).astype(np.int64)
        a, b = self._int_boxes(), other._int_boxes()
        for i, box in enumerate(a):
            low, high = np.maximum(box[:2], b[:, :2]), np.minimum(box[2:], b[:, 2:])
            near = np.flatnonzero((low < high).all(axis=1))
            windows = np.concatenate((low[near], high[near]), axis=1).tolist()
            for j, window in zip(near.tolist(), windows, strict=True):
                common[i, j] = np.count_nonzero(self.window(i, *window) & other.window(j, *window))
        return common

    def covers(self, points: ArrayLike) -> BoolArray:
        """Which of some points lie on any of the masks.

        Args:
            points: (K, 2) xy pixels.

        Returns:
            (K,) bool; False for points outside of the frame.

        Example:
            >>> Masks.from_boxes([[2, 1, 4, 3]], (5, 6)).covers([[2.5, 1.5], [4, 1], [-1, 0]]).tolist()
            [True, False, False]
        """
        return holding(self._placed(), points)

    def union(self) -> Masks:
        """One mask of all pixels that are set in any; an empty mask if there are none.

        Example:
            >>> Masks.empty((3, 4)).union()
            Masks(1 of 3x4, areas [0])
        """
        return self._of_placed(self._shape, [united(self._placed())])

    def minus(self, other: Masks) -> Masks:
        """The same masks without the pixels that are set in any mask of ``other`` (an ignore region, say).

        Raises:
            InvalidData: if the frames differ.

        Example:
            >>> Masks.from_boxes([[0, 0, 2, 2]], (3, 3)).minus(Masks.from_boxes([[1, 1, 3, 3]], (3, 3))).areas.tolist()
            [3]
        """
        return self._combine(other, keep_common=False)

    def intersect(self, other: Masks) -> Masks:
        """The same masks, cut down to the pixels that are set in any mask of ``other``.

        Raises:
            InvalidData: if the frames differ.

        Example:
            >>> masks = Masks.from_boxes([[0, 0, 2, 2], [1, 1, 3, 3]], (3, 3))
            >>> masks[0].intersect(masks[1]).areas.tolist()
            [1]
        """
        return self._combine(other, keep_common=True)

    # --- moved and resized ----------------------------------------------------------------------------------------

    def translate(self, dx: int, dy: int, size: Size | None = None) -> Masks:
        """Move every mask by whole pixels, onto a frame of the same or another size; what leaves it is cut off.

        Args:
            dx: pixels to the right.
            dy: pixels down.
            size: (H, W) of the new frame; the same as before if left out.

        Example:
            >>> Masks.from_boxes([[0, 0, 2, 2]], (2, 2)).translate(3, 1, (4, 4)).boxes.tolist()
            [[3.0, 1.0, 4.0, 3.0]]
        """
        shape = self._shape if size is None else codec.check_frame(size)
        if dx == dy == 0 and shape == self._shape:
            return self
        limits = np.array([shape[1], shape[0]] * 2)
        boxes = self._int_boxes() + np.array([dx, dy, dx, dy], np.int64)
        crops, offsets = list(self.crops), boxes[:, :2].copy()
        cut = np.flatnonzero((boxes < 0).any(axis=1) | (boxes > limits).any(axis=1) | (self.areas == 0))
        for i in cut.tolist():
            crops[i], offsets[i] = fitted(crops[i], tuple(offsets[i].tolist()), shape)
        return self._of_crops(shape, crops, offsets.tolist())

    def resize_nearest(self, size: Size) -> Masks:
        """Stretch to another frame by nearest neighbour, as OpenCV's ``INTER_NEAREST`` does.

        Args:
            size: (H, W) of the new frame.

        Example:
            >>> Masks.from_boxes([[1, 1, 2, 2]], (2, 2)).resize_nearest((4, 6)).boxes.tolist()
            [[3.0, 2.0, 6.0, 4.0]]
        """
        shape = codec.check_frame(size)
        if shape == self._shape:
            return self
        sources = tuple(nearest_sources(old, new) for old, new in zip(self._shape, shape, strict=True))
        return self._of_placed(shape, (fitted(*resized(placed, *sources), shape) for placed in self._placed()))

    def warp(self, transform: ArrayLike, size: Size) -> Masks:
        """Map every mask through an affine transform by linear interpolation; a pixel is set above 0.5.

        The result is that of ``cv2.warpAffine(mask, transform[:2], (W, H), flags=cv2.INTER_LINEAR) > 0.5`` on full
        frames (VisHarness, MergeBoxMask). A move by whole pixels and a reduction by a whole factor hit pixels exactly
        and are done by slicing the crop; any other transform is handed to OpenCV.

        Args:
            transform: (3, 3) from pixels of this frame to pixels of the new one, its last row (0, 0, 1).
            size: (H, W) of the new frame.

        Raises:
            InvalidData: if the transform is not affine, not finite, or cannot be inverted.

        Example:
            >>> quarter = np.diag([0.25, 0.25, 1.0])
            >>> Masks.from_boxes([[4, 0, 12, 8]], (8, 16)).warp(quarter, (2, 4)).boxes.tolist()
            [[1.0, 0.0, 3.0, 2.0]]
        """
        shape = codec.check_frame(size)
        matrix = check_transform(transform)
        stride = whole_stride(matrix)
        if stride is None:
            frames = (mask.to_dense()[0] for mask in self)
            return self._of_placed(shape, (fitted(warped(frame, matrix, shape), (0, 0), shape) for frame in frames))
        if stride.step_x == stride.step_y == 1:
            return self.translate(-stride.from_x, -stride.from_y, shape)
        return self._of_placed(shape, (fitted(*strided(placed, stride), shape) for placed in self._placed()))

    # --- inside ---------------------------------------------------------------------------------------------------

    def _combine(self, other: Masks, keep_common: bool) -> Masks:
        self._check_same_frame(other)
        region = united(other._placed())
        parts = ((crop, offset, covered(crop, offset, region)) for crop, offset in self._placed())
        kept = ((crop & (inside if keep_common else ~inside), offset) for crop, offset, inside in parts)
        return self._of_placed(self._shape, (fitted(crop, offset, self._shape) for crop, offset in kept))

    def _check_same_frame(self, other: Masks) -> None:
        if self._shape != other._shape:
            raise InvalidData(
                f"Expected masks over the same frame, but got (height, width) {self._shape} and {other._shape}: "
                "map one with `warp`, `translate` or `resize_nearest` first."
            )


def as_masks(
    value: Masks | ArrayLike | Mapping[str, Any] | Sequence[Mapping[str, Any]], size: Size | None = None
) -> Masks:
    """Return anything that describes masks as ``Masks``.

    Args:
        value: ``Masks``; an array (N, H, W) or (H, W) of bool or integers; one COCO RLE, or a list of them.
        size: (H, W) of the frame; needed for an empty list, checked otherwise.

    Raises:
        InvalidData: if it is none of these, is broken, or has another frame than ``size``.

    Example:
        >>> as_masks({"size": [3, 4], "counts": [3, 2, 7]})
        Masks(1 of 3x4, areas [2])
        >>> as_masks([], size=(3, 4))
        Masks(0 of 3x4, areas [])
    """
    if isinstance(value, Mapping) or (isinstance(value, (list, tuple)) and all(isinstance(v, Mapping) for v in value)):
        return Masks.from_coco_rles(value, size)
    if isinstance(value, Masks):
        masks = value
    elif isinstance(value, np.ndarray) or hasattr(value, "__array__") or isinstance(value, (list, tuple)):
        try:
            masks = Masks.from_dense(np.asarray(value))
        except (TypeError, ValueError) as error:
            raise InvalidData(f"Expected masks as Masks, an array or COCO RLEs: {error}") from error
    else:
        raise InvalidData(f"Expected masks as Masks, an array or COCO RLEs, but got a {type(value).__name__}.")
    if size is not None and masks.shape != codec.check_frame(size):
        raise InvalidData(f"Expected masks over the frame {tuple(size)}, but got {masks.shape}.")
    return masks


def _unpickle(shape: Size, texts: tuple[bytes, ...]) -> Masks:
    return Masks(shape, len(texts), texts=texts)
