"""Write small data sets in the exact layouts of the published ones, made of generated scenes and of photographs.

For tests and for trying things out without a download; every oddity that the loaders document is in them::

    python -m scripts.make_fixtures FOLDER [NAME]...
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from scripts.fixture_coco import write_coco, write_cocojson, write_referring
from scripts.fixture_scenery import PER_SPLIT, save, scenery, write_json
from visenv.datasets import photos
from visenv.datasets.scenes import make as make_scenes
from visenv.datasets.visdrone import CATEGORIES
from visenv.errors import DatasetError
from visenv.images import load_image, to_png_bytes
from visenv.masks import Masks
from visenv.types import MaskTruth, PointsTruth, Sample

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


# --- tables -------------------------------------------------------------------------------------------------------


def write_table(root: Path) -> None:
    """Parquet as Hugging Face has it, a picture, a text and a mask a row; one row is about nothing."""
    for offset, name in enumerate(("train", "validation")):
        rows = []
        for number in range(PER_SPLIT):
            view = scenery(10 * offset + number)
            query, targets = view.queries[0]
            mask = Masks.from_polygons([view.things[index].outline for index in targets], view.pixels.shape[:2]).union()
            drawn = np.repeat(mask.to_dense()[0][:, :, None].astype(np.uint8) * 255, 3, axis=2)
            rows.append(
                {
                    "image": {"bytes": to_png_bytes(view.pixels), "path": None},
                    "text": query,
                    "mask": {"bytes": to_png_bytes(drawn), "path": None} if targets else None,
                }
            )
        _write_parquet(rows, root / "data" / f"{name}-00000-of-00001.parquet")


def write_visharness(root: Path) -> None:
    """The training Parquet of VisHarness, with paths of where it was made."""
    for offset, split in enumerate(("train", "val")):
        rows = []
        for number in range(PER_SPLIT):
            for kind, family in (("GRES", "grefseg"), ("ReasonSeg", "reasonseg"), ("REC8K", "refcount")):
                sample = make_scenes(family=family, split="val", difficulty=1).get(20 * offset + number)
                height, width = sample.image.shape[:2]
                name = f"{kind}-{split}_{number}"
                save(sample.image, root / "images" / f"{name}.jpg")
                rows.append(
                    {
                        "data_source": f"visharness/{kind.lower()}",
                        "agent_name": "visharness_agent",
                        "prompt": [{"role": "user", "content": f"<image>{sample.query}"}],
                        "images": [{"image": f"/made/elsewhere/images/{name}.jpg"}],
                        "reward_model": {"style": "rule", "ground_truth": json.dumps(_ground_truth(kind, sample))},
                        "extra_info": {
                            "index": len(rows),
                            "split": split,
                            "item_id": f"GRES-{number}" if kind == "GRES" else name,
                            "question": sample.query,
                            "image_height": height,
                            "image_width": width,
                        },
                    }
                )
        _write_parquet(rows, root / f"{split}.parquet")


def _ground_truth(kind: str, sample: Sample) -> dict[str, Any]:
    """What VisHarness's reward is given of a sample."""
    truth = sample.truth
    if isinstance(truth, PointsTruth):
        return {"type": "point", "data": truth.points.tolist()}
    assert isinstance(truth, MaskTruth)
    assert truth.target is not None
    rle = truth.target.union().to_coco_rles()[0]
    if kind == "GRES":
        return {"type": "gres_rle_mask", "data": None if truth.is_null else rle}
    ignore = Masks.empty(truth.target.shape).union().to_coco_rles()[0]
    return {"type": "reasonseg_rle_mask", "data": {"target_rle": rle, "ignore_rle": ignore}}


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


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
    "hf": write_table,
    "visharness": write_visharness,
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
