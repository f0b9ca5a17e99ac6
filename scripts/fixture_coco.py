"""Fixtures in the layouts of COCO, RefCOCO, gRefCOCO, and of a COCO-style JSON of one's own."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.fixture_scenery import PER_SPLIT, Scenery, Thing, photographs, save, scenery, write_json
from visenv.masks import Masks

CROWD_ID = 990_000
"""Annotations from here on are crowds."""


class Python2Pickler(pickle._Pickler):
    """Writes texts as Python 2 wrote its byte strings, which is what RefCOCO's files hold."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_str(self, text: str) -> None:
        """Write one text."""
        data = text.encode("utf-8")
        head = b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<i", len(data))
        self.write(head + data)
        self.memoize(text)

    dispatch[str] = save_str


def write_pickle(value: Any, path: Path) -> None:
    """Write a pickle as Python 2 would."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        Python2Pickler(file, protocol=2).dump(value)


class CocoWriter:
    """Collects pictures and annotations as ``instances.json`` has them."""

    def __init__(self) -> None:
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []
        self.categories: dict[str, int] = {}
        self._next = 100

    def add(self, view: Scenery, file_name: str) -> tuple[int, list[int]]:
        """Add a picture; returns its id, and those of its objects' annotations."""
        image_id = 581_000 + len(self.images)
        width, height = view.size
        self.images.append({"license": 1, "file_name": file_name, "height": height, "width": width, "id": image_id})
        ids = []
        for thing in view.things:
            self._next += 7
            ids.append(self._next)
            self._annotate(self._next, image_id, thing.category, thing.outline, thing.box, crowd=False)
        return image_id, ids

    def add_crowd(self, image_id: int, category: str, box: tuple[float, float, float, float]) -> int:
        """Add a crowd, a plain run-length encoding as COCO writes it; returns its id."""
        image = next(image for image in self.images if image["id"] == image_id)
        dense = Masks.from_boxes([box], (image["height"], image["width"])).to_dense()[0]
        flat = dense.ravel(order="F")
        ends = np.flatnonzero(np.diff(flat)) + 1
        counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
        counts = [0, *counts] if flat[0] else counts
        crowd_id = CROWD_ID + len(self.annotations)
        rle = {"counts": counts, "size": [image["height"], image["width"]]}
        self._annotate(crowd_id, image_id, category, rle, box, crowd=True)
        return crowd_id

    def write(self, path: Path) -> None:
        """Write the file, annotations in no particular order."""
        categories = [{"supercategory": "object", "id": id_, "name": name} for name, id_ in self.categories.items()]
        document = {
            "info": {"description": "a fixture", "version": "1.0"},
            "images": self.images,
            "licenses": [{"id": 1, "name": "Apache-2.0"}],
            "annotations": self.annotations[::-1],
            "categories": categories,
        }
        write_json(document, path)

    def _annotate(
        self, id_: int, image_id: int, category: str, segmentation: Any, box: Sequence[float], crowd: bool
    ) -> None:
        x0, y0, x1, y1 = box
        self.annotations.append(
            {
                "segmentation": segmentation,
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": int(crowd),
                "image_id": image_id,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "category_id": self.categories.setdefault(category, 3 * len(self.categories) + 1),
                "id": id_,
            }
        )


def write_referring(root: Path, variant: str, partings: dict[str, tuple[str, ...]], generalized: bool = False) -> None:
    """The layout of RefCOCO and its kin, or of gRefCOCO, with pictures of ``train2014``.

    Args:
        root: the outer folder.
        variant: the name of the inner one.
        partings: the splits of each parting.
        generalized: whether references are lists that may be empty.
    """
    coco = CocoWriter()
    sentence_id = 0
    pictures: list[tuple[Scenery, int, list[int]]] = []
    views = [scenery(number) for number in range(4 * PER_SPLIT)]
    views += [view for split in ("train", "val") for view in photographs(split)]
    for view in views:
        file_name = f"COCO_train2014_{581_000 + len(coco.images):012d}.jpg"
        image_id, ids = coco.add(view, file_name)
        pictures.append((view, image_id, ids))
        save(view.pixels, root / "images" / "train2014" / file_name)
    crowd = coco.add_crowd(pictures[0][1], pictures[0][0].things[0].category, (3, 3, 60, 40))
    for split_by, splits in partings.items():
        references: list[dict[str, Any]] = []
        for number, (view, image_id, ids) in enumerate(pictures):
            for query, targets in view.queries:
                meant = [ids[index] for index in targets]
                if not generalized and len(meant) != 1:
                    query, meant = f"the {view.things[0].category}", ids[:1]
                texts = [query, f"{query} – là"]
                sentences = [
                    {"tokens": text.split(), "raw": text, "sent_id": sentence_id + place, "sent": text}
                    for place, text in enumerate(texts)
                ]
                sentence_id += len(texts)
                if generalized and number == 0:
                    meant = [*ids[:2], crowd]
                reference = {
                    "sent_ids": [sentence["sent_id"] for sentence in sentences],
                    "file_name": f"COCO_train2014_{image_id:012d}_{number}.jpg",
                    "ann_id": (meant or [-1]) if generalized else meant[0],
                    "ref_id": 40_000 + len(references),
                    "image_id": image_id,
                    "split": splits[number % len(splits)],
                    "sentences": sentences,
                    "category_id": 1,
                }
                references.append({**reference, "no_target": not meant} if generalized else reference)
        if generalized:
            write_json(references, root / variant / f"grefs({split_by}).json")
        else:
            write_pickle(references, root / variant / f"refs({split_by}).p")
    coco.write(root / variant / "instances.json")


def write_coco(root: Path) -> None:
    """The layout of COCO 2017, with crowds."""
    for offset, split in enumerate(("train", "val")):
        coco = CocoWriter()
        for number in range(PER_SPLIT):
            view = scenery(20 * offset + number)
            file_name = f"{581_000 + number:012d}.jpg"
            image_id, _ = coco.add(view, file_name)
            save(view.pixels, root / f"{split}2017" / file_name)
            if number == 0:
                coco.add_crowd(image_id, view.things[0].category, (2, 2, 30, 30))
                coco.add_crowd(image_id, "only crowds", (40, 2, 60, 30))
        coco.write(root / "annotations" / f"instances_{split}2017.json")


def write_cocojson(root: Path) -> None:
    """A COCO-style JSON of one's own, one file a split, a large picture in it."""
    for offset, split in enumerate(("train", "val")):
        coco = CocoWriter()
        for number in range(2):
            view = scenery(30 + 5 * offset + number)
            if number == 1:
                view = enlarged(view, 5)
            coco.add(view, f"own {number}.png")
            save(view.pixels, root / "images" / split / f"own {number}.png")
        coco.write(root / f"{split}.json")


def enlarged(view: Scenery, factor: int) -> Scenery:
    """The same scene with every pixel repeated."""
    pixels = np.ascontiguousarray(view.pixels.repeat(factor, axis=0).repeat(factor, axis=1))
    things = [
        Thing(
            thing.category,
            [(np.array(polygon) * factor).tolist() for polygon in thing.outline],
            tuple(side * factor for side in thing.box),  # type: ignore[arg-type]
        )
        for thing in view.things
    ]
    return Scenery(pixels, things, view.queries)
