"""The pictures that fixtures are made of, with their objects and queries: generated scenes, and photographs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from visenv.datasets import photos
from visenv.datasets.scenes import make as make_scenes
from visenv.errors import DatasetError
from visenv.types import BoolArray, Pixels

PER_SPLIT = 3
"""Pictures of scenes in each split."""


@dataclass
class Thing:
    """An object in a picture."""

    category: str
    outline: list[list[float]]
    """COCO polygons."""
    box: tuple[float, float, float, float]
    """xyxy, half-open."""


@dataclass
class Scenery:
    """A picture with its objects, and what can be asked about it."""

    pixels: Pixels
    things: list[Thing]
    queries: list[tuple[str, list[int]]] = field(default_factory=list)
    """A query and the objects that it means."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.pixels.shape[1], self.pixels.shape[0]


def outline(mask: BoolArray, corner: tuple[int, int]) -> list[list[float]]:
    """The outline of a mask as COCO polygons."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    moved = [contour[:, 0].astype(float) + corner + 0.5 for contour in contours if len(contour) > 5]
    return [points.ravel().tolist() for points in moved]


def scenery(number: int, family: str = "grefseg", split: str = "val", difficulty: int = 1) -> Scenery:
    """A generated scene, with its own query."""
    rendered, question = make_scenes(family=family, split=split, difficulty=difficulty).explain(number)
    things: list[Thing] = []
    places: dict[int, int] = {}
    for index, thing in enumerate(rendered.scene.objects):
        polygons = outline(*rendered.visible(index))
        if polygons:
            places[index] = len(things)
            things.append(Thing(thing.kind, polygons, thing.box))
    targets = [places[index] for index in question.targets if index in places]
    return Scenery(rendered.image, things, [(question.text, targets)])


@lru_cache
def photographs(split: str, count: int = 2) -> list[Scenery]:
    """Annotated photographs, as far as the packages that bring them are installed."""
    try:
        data = photos.make(path=None, family="refseg", split=split, difficulty=0)
    except DatasetError:
        return []
    found: dict[str, Scenery] = {}
    for index, sample_id in enumerate(data.sample_ids):  # type: ignore[attr-defined]
        name = sample_id.partition("/")[2].partition("#")[0].partition("-")[0]
        if name not in found and len(found) == count:
            break
        sample = data.get(index)
        view = found.setdefault(name, Scenery(sample.image, []))
        for mask in sample.truth.target.union():  # type: ignore[union-attr]
            polygons = outline(np.asarray(mask.crops[0]), tuple(mask.offsets[0].tolist()))
            view.things.append(Thing("thing", polygons, tuple(mask.boxes[0].tolist())))
        view.queries.append((sample.query, [len(view.things) - 1]))
    return list(found.values())


def save(pixels: Pixels, path: Path, orientation: int | None = None) -> None:
    """Write a picture; with an EXIF orientation, so that it is upright again once that is applied."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
        pixels = {3: np.rot90(pixels, 2), 6: np.rot90(pixels, 1), 8: np.rot90(pixels, -1)}[orientation]
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, quality=92, exif=exif)


def write_json(value: Any, path: Path) -> None:
    """Write a JSON file, without spaces, as the published ones are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
