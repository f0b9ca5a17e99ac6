"""Write small data sets in the exact layouts of the published ones, made of generated scenes and of photographs.

For tests and for trying things out without a download; every oddity that the loaders document is in them::

    python -m scripts.make_fixtures FOLDER [NAME]...
"""

from __future__ import annotations

import argparse
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from visenv.datasets import photos
from visenv.datasets.scenes import make as make_scenes
from visenv.datasets.visdrone import CATEGORIES
from visenv.errors import DatasetError
from visenv.images import load_image
from visenv.masks import Masks
from visenv.types import BoolArray, Pixels

PER_SPLIT = 3
"""Pictures of scenes in each split."""
CROWD_ID = 990_000
"""Annotations from here on are crowds."""


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


# --- ReasonSeg, REC-8K, FSC-147 -----------------------------------------------------------------------------------


def write_reasonseg(root: Path) -> None:
    """The layout of ReasonSeg: flags, regions to ignore, several texts, cp1252, EXIF."""
    for offset, split in enumerate(("train", "val", "test")):
        for number in range(PER_SPLIT):
            view = scenery(10 * offset + number, "reasonseg")
            query, targets = view.queries[0]
            shapes = [
                {"label": "target", "points": np.reshape(polygon, (-1, 2)).tolist()}
                for index in targets
                for polygon in view.things[index].outline
            ]
            shapes.append({"label": "flag", "points": [[0, 0], [9, 0], [9, 9]]})
            if number == 1:
                shapes.append({"label": "ignore region", "points": [[0, 0], [20, 0], [20, 20], [0, 20]]})
            texts = [query, f"“{query}” – à côté"] if number == 0 else [query]
            annotation = {"text": texts, "is_sentence": number % 2 == 0, "shapes": shapes}
            stem = root / split / f"{split}_{number}"
            save(view.pixels, stem.with_suffix(".jpg"), orientation=6 if number == 2 else None)
            encoded = json.dumps(annotation, ensure_ascii=False).encode("cp1252" if number == 0 else "utf-8")
            stem.with_suffix(".json").write_bytes(encoded)
    bundled = Path(photos.__file__).parent / "photos_data" / "reasonseg"
    for split in ("train", "val", "test"):
        for name, path in installed_photographs().items():
            for file in sorted((bundled / split).glob(f"{name}-*.json"))[:1]:
                shutil.copy(file, root / split / file.name)
                save(load_image(path), root / split / f"{file.stem}.jpg")


def installed_photographs() -> dict[str, Path]:
    """The files of photographs that other packages bring."""
    try:
        return photos.installed()
    except DatasetError:
        return {}


def write_rec8k(root: Path) -> None:
    """The layout of REC-8K."""
    annotations: dict[str, dict[str, Any]] = {}
    splits: dict[str, list[list[str]]] = {}
    for offset, split in enumerate(("train", "val", "test")):
        splits[split] = []
        for number in range(PER_SPLIT):
            sample = make_scenes(family="refcount", split="val", difficulty=1).get(10 * offset + number)
            name = f"{split}-scene-{number}.jpg"
            points = sample.truth.points.tolist()  # type: ignore[union-attr]
            annotations[name] = {sample.query: {"points": points, "class": "object", "attribute": [], "type": "test"}}
            splits[split].append([name, sample.query])
            save(sample.image, root / "rec-8k" / name)
    bundled = Path(photos.__file__).parent / "photos_data" / "rec8k" / "anno"
    known = json.loads((bundled / "annotations.json").read_text(encoding="utf-8"))
    there = installed_photographs()
    for split, pairs in json.loads((bundled / "splits.json").read_text(encoding="utf-8")).items():
        for name, phrase in [pair for pair in pairs if pair[0] in there][:2]:
            file = f"{name}.jpg"
            annotations.setdefault(file, {})[phrase] = known[name][phrase]
            splits[split].append([file, phrase])
            save(load_image(there[name]), root / "rec-8k" / file)
    write_json(annotations, root / "anno" / "annotations.json")
    write_json(splits, root / "anno" / "splits.json")


def write_fsc147(root: Path) -> None:
    """The layout of FSC-147."""
    annotations: dict[str, Any] = {}
    splits: dict[str, list[str]] = {}
    classes: list[str] = []
    for offset, split in enumerate(("train", "val", "test")):
        splits[split] = []
        for number in range(PER_SPLIT):
            view = scenery(10 * offset + number, "refcount")
            counted = [view.things[index] for index in view.queries[0][1]]
            name = f"{100 * offset + number}.jpg"
            corners = [
                [[thing.box[0], thing.box[1]], [thing.box[0], thing.box[3]]]
                + [[thing.box[2], thing.box[3]], [thing.box[2], thing.box[1]]]
                for thing in counted[:3]
            ]
            centres = [[(thing.box[0] + thing.box[2]) / 2, (thing.box[1] + thing.box[3]) / 2] for thing in counted]
            annotations[name] = {
                "H": view.size[1],
                "W": view.size[0],
                "box_examples_coordinates": corners,
                "points": centres,
                "ratio_h": 1.0,
                "ratio_w": 1.0,
            }
            splits[split].append(name)
            classes.append(f"{name}\t{view.queries[0][0]}")
            save(view.pixels, root / "images_384_VarV2" / name)
    splits["val_coco"] = splits["val"][:1]
    write_json(annotations, root / "annotation_FSC147_384.json")
    write_json(splits, root / "Train_Test_Val_FSC_147.json")
    (root / "ImageClasses_FSC147.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")


# --- COCO and what refers to it -----------------------------------------------------------------------------------


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


# --- dense detection ----------------------------------------------------------------------------------------------


def write_visdrone(root: Path) -> None:
    """The native layout of VisDrone-DET: ignored rows, others, commas at ends, boxes without an area."""
    for offset, folder in enumerate(("VisDrone2019-DET-train", "VisDrone2019-DET-val", "VisDrone2019-DET-test-dev")):
        for number in range(2):
            view = scenery(10 * offset + number, "densedet")
            kinds = sorted({thing.category for thing in view.things})
            rows = []
            for thing in view.things:
                x0, y0, x1, y1 = (int(side) for side in thing.box)
                category = kinds.index(thing.category) % len(CATEGORIES) + 1
                rows.append(f"{x0},{y0},{x1 - x0},{y1 - y0},1,{category},0,0")
            rows += ["0,0,40,30,0,0,0,0", "60,0,9,9,0,4,1,1", "80,0,9,9,1,11,0,0", "611,158,4,0,1,4,0,0"]
            text = "\n".join(f"{row}," if number else row for row in rows)
            name = f"{9_999_900 + number:07d}_00000_d_{number:07d}"
            path = root / folder / "annotations" / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="ascii")
            save(view.pixels, root / folder / "images" / f"{name}.jpg")


def write_lines(root: Path, stem: str) -> None:
    """The layout that VisHarness has for VisDrone and Dense200."""
    lines = []
    for number in range(2):
        view = scenery(40 + number, "densedet")
        boxes: dict[str, list[list[float]]] = {"awning tricycle": []}
        for thing in view.things:
            boxes.setdefault(thing.category, []).append(list(thing.box))
        save(view.pixels, root / "images" / f"{stem.lower()}_{number}.jpg")
        lines.append(json.dumps({"image_path": f"images/{stem.lower()}_{number}.jpg", "gt": boxes}))
    (root / f"{stem}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


UNC = {"unc": ("train", "val", "testA", "testB")}
WRITERS: dict[str, Callable[[Path], None]] = {
    "reasonseg": write_reasonseg,
    "refcoco": lambda root: write_referring(root, "refcoco", UNC | {"google": ("train", "val", "test")}),
    "refcoco+": lambda root: write_referring(root, "refcoco+", UNC),
    "refcocog": lambda root: write_referring(
        root, "refcocog", {"umd": ("train", "val", "test"), "google": ("train", "val")}
    ),
    "grefcoco": lambda root: write_referring(root, "grefcoco", UNC, generalized=True),
    "coco": write_coco,
    "cocojson": write_cocojson,
    "rec8k": write_rec8k,
    "fsc147": write_fsc147,
    "visdrone": write_visdrone,
    "visdrone-lines": lambda root: write_lines(root, "VisDrone"),
    "dense200": lambda root: write_lines(root, "Dense200"),
}
"""By the name of the folder that each is written to."""


def write(folder: Path, names: Sequence[str] = ()) -> dict[str, Path]:
    """Write the fixtures.

    Args:
        folder: gets one folder a data set.
        names: which; all if none is named.

    Returns:
        Where each lies.
    """
    places = {name: folder / name for name in names or WRITERS}
    for name, place in places.items():
        place.mkdir(parents=True, exist_ok=True)
        WRITERS[name](place)
    return places


def main() -> None:
    """Write what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", choices=[[], *WRITERS], metavar="NAME", help=", ".join(WRITERS))
    arguments = parser.parse_args()
    for name, place in write(arguments.folder, arguments.names).items():
        print(f"{name}: {place}")


if __name__ == "__main__":
    main()
