"""ReasonSeg: segmentation of what an implicit query means, from a folder in the published layout.

Source: Lai et al., "LISA: Reasoning Segmentation via Large Language Model", arXiv 2308.00692. The published splits hold
239 (train), 200 (val) and 779 (test) pictures::

    ReasonSeg/
      train/ val/ test/
        NAME.jpg
        NAME.json    {"text": [str, …], "is_sentence": bool, "shapes": [{"label": str, "points": [[x, y], …]}, …]}
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visenv.datasets.files import (
    MAX_ANNOTATION_BYTES,
    FolderDataset,
    ImageResolver,
    Picture,
    check_family,
    check_split,
    existing_folder,
    expect,
    find_picture,
    is_query,
    points_array,
    read_json,
    resolve_inside,
)
from visenv.errors import DatasetError
from visenv.masks import Masks
from visenv.types import MaskTruth, Sample

SPLITS = ("train", "val", "test")
FAMILIES = ("reasonseg", "grefseg", "refseg")
VOCABULARY = ("person", "animal", "vehicle", "food", "plant", "clothes", "furniture", "tool", "building")
"""Simple phrases for the discrete action mode."""

_LAYOUT = "SPLIT/NAME.jpg beside SPLIT/NAME.json, SPLIT one of train, val, test"
_TARGET, _IGNORE = 1, 2


class ReasonSeg(FolderDataset):
    """The samples of one split, read when they are asked for.

    A picture has one sample. In ``val`` and ``test`` its query is the first of its texts, as in the published
    evaluation; in ``train``, ``draw`` takes any of them, and the identifier says which (``train/NAME#2``). Pictures
    are turned upright by their EXIF orientation. One larger than 1920x1080 (the long side, the short side) is shrunk to
    fit, and its mask, drawn at full size, with it by nearest neighbour.

    Args:
        folder: the folder that holds ``train``, ``val`` and ``test``.
        split: one of them.
        images: from NAME to its picture; the file beside the annotation if left out.
        names: which samples, in order; all of the split, sorted, if left out.
        name: the data set's name in messages.
        vocabulary: simple phrases, the same for every sample.

    Raises:
        DatasetError: if the folder or the split is missing or empty.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        split: str = "val",
        images: ImageResolver | None = None,
        names: tuple[str, ...] | None = None,
        name: str = "reasonseg",
        vocabulary: tuple[str, ...] = VOCABULARY,
    ) -> None:
        check_split(name, split, SPLITS)
        self._folder = existing_folder(folder, name, _LAYOUT) / split
        self._images = images
        if not self._folder.is_dir():
            raise DatasetError(f"There is no folder {str(self._folder)!r}. Layout: {_LAYOUT}.")
        keys = names if names is not None else tuple(sorted(path.stem for path in self._folder.glob("*.json")))
        super().__init__(name=name, split=split, vocabulary=vocabulary, keys=keys)

    def find(self, sample_id: str) -> Sample:
        """The sample with that identifier; ``#k`` at its end picks the k-th text, from 0.

        Raises:
            DatasetError: if there is none, or its files are missing or broken.
        """
        key = self._key_of(sample_id)
        if key in self._places:
            return self._load(key)
        stem, mark, number = key.rpartition("#")
        if not mark or stem not in self._places or not number.isdecimal():
            raise self._unknown(sample_id)
        return self._read(stem, int(number))

    def every_id(self) -> tuple[str, ...]:
        """The identifiers of all samples that a draw may give: in ``train`` one a text."""
        if self.split != "train":
            return self.sample_ids
        return tuple(f"{self.split}/{key}#{number}" for key in self._keys for number in range(self._texts(key)))

    def _texts(self, key: str) -> int:
        """How many texts a picture has; one where its annotation is broken, which says so when it is asked for."""
        try:
            return len(self._annotation(key)["text"])
        except DatasetError:
            return 1

    def _sample_id(self, key: str) -> str:
        return f"{self.split}/{key}#0" if self.split == "train" else f"{self.split}/{key}"

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        if rng is None or self.split != "train":
            return self._read(key, 0)
        annotation = self._annotation(key)
        return self._read(key, int(rng.integers(len(annotation["text"]))), annotation)

    def _annotation(self, key: str) -> dict[str, Any]:
        path = resolve_inside(self._folder, f"{key}.json")
        where = f"{str(path)!r}"
        annotation: dict[str, Any] = expect(read_json(path, MAX_ANNOTATION_BYTES), dict, where)
        texts = annotation.get("text")
        texts = [texts] if isinstance(texts, str) else expect(texts, list, f"'text' of {where}")
        if not texts or not all(is_query(text) for text in texts):
            raise DatasetError(f"Expected at least one query in 'text' of {where}, and none of them empty or broken.")
        return annotation | {"text": texts, "shapes": expect(annotation.get("shapes"), list, f"'shapes' of {where}")}

    def _read(self, key: str, number: int, annotation: dict[str, Any] | None = None) -> Sample:
        annotation = self._annotation(key) if annotation is None else annotation
        texts = annotation["text"]
        if number >= len(texts):
            raise DatasetError(f"The sample {key!r} has {len(texts)} texts, but text #{number} was asked for.")
        source = find_picture(self._folder, key) if self._images is None else self._images(key)
        picture = Picture(source, f"sample {self.split}/{key}")
        classes = draw_shapes(annotation["shapes"], picture.original_size, f"'shapes' of {self.split}/{key}.json")
        return Sample(
            sample_id=f"{self.split}/{key}#{number}" if self.split == "train" else f"{self.split}/{key}",
            images=(picture.pixels,),
            query=texts[number].strip(),
            truth=_truth(picture, classes),
            task="segmentation",
            metadata={
                "dataset": self.name,
                "is_sentence": bool(annotation.get("is_sentence", False)),
                "original_size": list(picture.original_size),
            },
        )


def draw_shapes(shapes: list[Any], size: tuple[int, int], where: str = "'shapes'") -> NDArray[np.uint8]:
    """Draw an annotation as the published code does: outline and fill, from the largest shape to the smallest.

    Points are cut to whole pixels. A shape labelled ``flag`` is left out; one whose label contains ``ignore`` writes 2,
    any other 1, each over what was drawn before it. A shape's size is the number of pixels it covers.

    Args:
        shapes: the annotation's ``shapes``: dicts with ``label`` and ``points``.
        size: (width, height) in pixels.
        where: what messages call them.

    Returns:
        (H, W) uint8: 0 outside, 1 target, 2 ignore.

    Raises:
        DatasetError: if a shape has no label or no usable points.

    Example:
        >>> square = {"label": "target", "points": [[1, 1], [2, 1], [2, 2], [1, 2]]}
        >>> draw_shapes([square], (4, 4)).tolist()
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    canvas = np.zeros((size[1], size[0]), np.uint8)
    drawn: list[tuple[int, int, NDArray[np.int32]]] = []
    for number, shape in enumerate(shapes):
        place = f"{where}[{number}]"
        label = expect(expect(shape, dict, place).get("label"), str, f"'label' of {place}").lower()
        if label == "flag":
            continue
        points = points_array(shape.get("points"), f"'points' of {place}").astype(np.int32)
        if not len(points):
            raise DatasetError(f"Expected at least one point in {place}, but it has none.")
        drawn.append((_covered(points, size), _IGNORE if "ignore" in label else _TARGET, points))
    # Of shapes of one size, the published order is that of a stable sort read backwards. A filled polygon of OpenCV has
    # its outline's pixels, so the outline is not drawn again.
    for _, value, points in sorted(drawn, key=lambda item: item[0])[::-1]:
        cv2.fillPoly(canvas, [points], value)
    return canvas


def _covered(points: NDArray[np.int32], size: tuple[int, int]) -> int:
    """How many pixels of the picture a shape covers, drawn in no more than its own window."""
    low = np.clip(points.min(axis=0), 0, size)
    high = np.clip(points.max(axis=0) + 1, 0, size)
    if not (high > low).all():
        return 0
    window = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillPoly(window, [(points - low).astype(np.int32)], 1)
    return int(np.count_nonzero(window))


def _truth(picture: Picture, classes: NDArray[np.uint8]) -> MaskTruth:
    masks = []
    for value in (_TARGET, _IGNORE):
        chosen = (classes == value).astype(np.uint8)
        shown = picture.scale_mask(chosen) if chosen.any() else chosen
        masks.append(Masks.from_dense(shown) if shown.any() else Masks.empty(picture.pixels.shape[:2]))
    return MaskTruth(target=masks[0], ignore=masks[1] if len(masks[1]) else None)


def make(*, path: str | None, family: str, split: str, difficulty: int) -> ReasonSeg:
    """The data set for ``dataset="reasonseg:PATH"``; ``difficulty`` does not apply.

    Raises:
        DatasetError: for a family without masks, a missing folder, or a missing split.
    """
    check_family("reasonseg", family, FAMILIES)
    return ReasonSeg(existing_folder(path, "reasonseg", _LAYOUT), split=split)
