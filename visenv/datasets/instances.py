"""An ``instances.json`` as COCO writes it, indexed: numbers in memory, outlines on disk until they are asked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visenv.datasets.files import Picture, expect
from visenv.datasets.streams import json_elements, read_element
from visenv.errors import DatasetError, InvalidData
from visenv.images import MAX_PIXELS
from visenv.masks import Masks
from visenv.types import FloatArray

_ASPECT_TOLERANCE = 0.01
_FEWEST_NUMBERS = 6


class Frame(NamedTuple):
    """A picture as ``images`` describes it."""

    file_name: str
    width: int
    height: int


class Instances:
    """The index of one ``instances.json``: some 40 bytes an annotation, whatever its outline takes in the file.

    Args:
        path: the file. Its ``annotations`` are read once and forgotten; each is read again when it is asked for.

    Attributes:
        path: as given.
        frames: the pictures by their id.
        categories: names by their id, in the order of the file.
        ids: (N,) int64, the annotations' ids, ascending; the other arrays are in the same order.
        image_ids: (N,) int64.
        category_ids: (N,) int64.
        crowd: (N,) bool.

    Raises:
        DatasetError: if the file is missing or broken, or an id occurs twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.frames: dict[int, Frame] = {}
        self.categories: dict[int, str] = {}
        rows, seen = array("q"), set()
        for key, value, start, length in json_elements(path, hollow=("annotations",)):
            seen.add(key)
            if key == "annotations":
                rows.extend(self._row(value, start, length))
            elif key == "images":
                self.frames[_whole(value, "id", self, start)] = self._frame(value, start)
            elif key == "categories":
                name = expect(expect(value, dict, self.where(start)).get("name"), str, f"'name' {self.where(start)}")
                self.categories[_whole(value, "id", self, start)] = name
        if not {"images", "annotations"} <= seen:
            raise DatasetError(f"Expected lists 'images' and 'annotations' with anything in them in {str(path)!r}.")
        table = np.array(rows, np.int64).reshape(-1, 6)
        table = table[np.argsort(table[:, 0], kind="stable")]
        self.ids, self.image_ids, self.category_ids, crowd, self._starts, self._lengths = table.T.copy()
        self.crowd = crowd.astype(bool)
        repeated = self.ids[1:][self.ids[1:] == self.ids[:-1]]
        if len(repeated):
            raise DatasetError(f"Two annotations of {str(path)!r} have the id {repeated[0]}: remove one.")

    def where(self, start: int) -> str:
        """How messages call a value of the file."""
        return f"in {str(self.path)!r} at byte {start}"

    def frame(self, image_id: int) -> Frame:
        """A picture's entry.

        Raises:
            DatasetError: if there is none.
        """
        if image_id not in self.frames:
            raise DatasetError(f"There is no picture with the id {image_id} in {str(self.path)!r}.")
        return self.frames[image_id]

    def places(self, annotation_ids: Sequence[int]) -> NDArray[np.int64]:
        """Where annotations stand in the arrays.

        Raises:
            DatasetError: if there is no such annotation.
        """
        wanted = np.asarray(annotation_ids, np.int64)
        found = np.searchsorted(self.ids, wanted)
        there = found < len(self.ids)
        there[there] = self.ids[found[there]] == wanted[there]
        if not there.all():
            missing = wanted[~there][0]
            raise DatasetError(f"There is no annotation with the id {missing} in {str(self.path)!r}.")
        return found

    def annotation(self, place: int) -> dict[str, Any]:
        """An annotation as it stands in the file.

        Raises:
            DatasetError: if the file has changed since it was indexed.
        """
        start = int(self._starts[place])
        value = read_element(self.path, start, int(self._lengths[place]))
        return dict(expect(value, dict, self.where(start)))

    def masks(self, places: Sequence[int], image_id: int, picture: Picture) -> Masks:
        """Annotations as masks over a picture as it is shown, one each, an annotation's parts united.

        Args:
            places: of annotations, as ``places`` gives them.
            image_id: of the picture they lie in.
            picture: the picture, loaded.

        Raises:
            DatasetError: if an outline is missing or broken, lies in another picture, or the picture has another shape
                than the file says.
        """
        frame = self.check_picture(image_id, picture)
        size = (frame.height, frame.width)
        found = []
        for place in places:
            if self.image_ids[place] != image_id:
                raise DatasetError(
                    f"Annotation {self.ids[place]} of {str(self.path)!r} lies in picture {self.image_ids[place]}, but "
                    f"{image_id} refers to it."
                )
            where = f"'segmentation' of annotation {self.ids[place]} of {str(self.path)!r}"
            found.append(outline_mask(self.annotation(place).get("segmentation"), size, where))
        return picture.scale_masks(Masks.concatenate(found, size))

    def boxes(self, places: Sequence[int], image_id: int, picture: Picture) -> FloatArray:
        """Annotations' ``bbox`` as (N, 4) xyxy over a picture as it is shown.

        Raises:
            DatasetError: if a box is missing or broken, or the picture has another shape than the file says.
        """
        frame = self.check_picture(image_id, picture)
        rows = [self.annotation(place).get("bbox") for place in places]
        boxes = xywh_boxes(rows, f"'bbox' of an annotation of picture {image_id} in {str(self.path)!r}")
        return picture.scale_boxes(boxes, (frame.width, frame.height))

    def check_picture(self, image_id: int, picture: Picture) -> Frame:
        """The picture's entry, if the picture has that shape; the same shape in another size will do.

        Raises:
            DatasetError: if it has not.
        """
        frame = self.frame(image_id)
        (width, height), (wide, high) = picture.original_size, frame[1:]
        if abs(width * high / (height * wide) - 1) > _ASPECT_TOLERANCE and (width, height) != (wide, high):
            turned = ", turned as its EXIF orientation says" if (width, height) == (high, wide) else ""
            raise DatasetError(
                f"Expected picture {frame.file_name!r} to be {wide}x{high}, as {str(self.path)!r} has it, but it is "
                f"{width}x{height}{turned}."
            )
        return frame

    def _row(self, value: Any, start: int, length: int) -> Iterable[int]:
        """Six whole numbers, of which the first four are the annotation's own."""
        try:
            ids = value["id"], value["image_id"], value["category_id"]
            return array("q", (*ids, 1 if value.get("iscrowd") else 0, start, length))
        except (KeyError, TypeError, OverflowError):
            ids = (
                _whole(value, "id", self, start),
                _whole(value, "image_id", self, start),
                _whole(value, "category_id", self, start, default=0),
            )
            return (*ids, 1 if value.get("iscrowd") else 0, start, length)

    def _frame(self, value: Any, start: int) -> Frame:
        name = expect(expect(value, dict, self.where(start)).get("file_name"), str, f"'file_name' {self.where(start)}")
        width, height = (_whole(value, side, self, start) for side in ("width", "height"))
        if width < 1 or height < 1 or width * height > MAX_PIXELS:
            raise DatasetError(
                f"Expected 'width' and 'height' in pixels {self.where(start)}, but got {width}x{height}."
            )
        return Frame(name, width, height)


def outline_mask(segmentation: Any, size: tuple[int, int], where: str = "'segmentation'") -> Masks:
    """One mask from what COCO calls a segmentation: a list of polygons, or a run-length encoding.

    Args:
        segmentation: polygons as flat lists of coordinates, or ``{"size": [h, w], "counts": …}``. Polygons of fewer
            than three points cover nothing and are left out, unless there is no other.
        size: (H, W) of the picture.
        where: what messages call it.

    Raises:
        DatasetError: if it is neither, is broken, or has another size.

    Example:
        >>> outline_mask([[1, 1, 3, 1, 3, 3, 1, 3]], (4, 4)).areas.tolist()
        [4]
    """
    try:
        if isinstance(segmentation, dict):
            return Masks.from_coco_rles(segmentation, size)
        if isinstance(segmentation, list) and segmentation and all(isinstance(part, list) for part in segmentation):
            polygons = [part for part in segmentation if len(part) >= _FEWEST_NUMBERS]
            if polygons:
                return Masks.from_polygons([polygons], size)
    except (InvalidData, ValueError, TypeError, OverflowError) as error:
        raise DatasetError(f"Expected polygons or an RLE in {where}, but it is broken: {error}") from error
    raise DatasetError(f"Expected polygons or an RLE in {where}, but got {str(segmentation)[:60]!r}.")


def xywh_boxes(rows: Sequence[Any], where: str) -> FloatArray:
    """Boxes [x, y, width, height] as (N, 4) xyxy.

    Raises:
        DatasetError: if one is anything else, is not finite, or has no area.
    """
    try:
        boxes = np.asarray(rows, np.float64).reshape(len(rows), 4)
    except (TypeError, ValueError, OverflowError):
        boxes = np.full((1, 4), np.nan)
    if not (np.isfinite(boxes).all() and (boxes[:, 2:] > 0).all()):
        raise DatasetError(f"Expected [x, y, width, height] with an area in {where}, but got {str(rows)[:80]}.")
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _whole(value: Any, key: str, instances: Instances, start: int, default: int | None = None) -> int:
    """A whole number of an entry."""
    found = value.get(key, default) if isinstance(value, dict) else None
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or not -(2**63) <= found < 2**63:
        raise DatasetError(f"Expected a whole number {key!r} {instances.where(start)}, but got {str(value)[:60]}.")
    return found
