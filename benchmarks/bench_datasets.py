"""Opening annotations of the size of RefCOCO, and a sample of them: ``python -m benchmarks.bench_datasets``.

A data set in the exact layout of RefCOCO is written: 50,000 references with 140,000 sentences in a pickle as Python 2
wrote it, 200,000 annotations of 20,000 pictures in ``instances.json``. Each way of opening it runs in a process of its
own, which says what processor time it took and the most memory that the whole process ever held, Python and its
packages included.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np

from benchmarks._timing import Row, amount_row, print_rows, row
from scripts.fixture_coco import Python2Pickler
from visenv.datasets.refcoco import RefCoco
from visenv.images import load_image

ROOT = Path(__file__).resolve().parent.parent
SENTENCES = 140_000
DRAWN = 200
PICTURES = 40
"""Different pictures; all others are links to them."""
SIZE = (640, 480)
WORDS = ("left", "man", "in", "red", "shirt", "woman", "with", "the", "umbrella", "second", "from", "right", "dog")


def write_refcoco(folder: Path, sentences: int) -> None:
    """Write the data set.

    Args:
        folder: to write to.
        sentences: how many; there are seven of them to a picture, as in RefCOCO, and ten annotations.
    """
    rng = np.random.default_rng(0)
    pictures, per_reference = max(sentences // 7, PICTURES), (3, 3, 3, 3, 2)
    inner, train = folder / "refcoco", folder / "images" / "train2014"
    inner.mkdir(parents=True)
    train.mkdir(parents=True)
    for number in range(pictures):
        file = train / f"COCO_train2014_{number:012d}.jpg"
        if number < PICTURES:
            coarse = rng.integers(0, 255, (SIZE[1] // 16, SIZE[0] // 16, 3), dtype=np.uint8)
            cv2.imwrite(str(file), cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC))
        else:
            os.link(train / f"COCO_train2014_{number % PICTURES:012d}.jpg", file)
    annotations = _write_instances(inner / "instances.json", pictures, rng)
    references: list[dict[str, Any]] = []
    written = 0
    while written < sentences:
        number = len(references)
        annotation = int(annotations[(number * 4) % len(annotations)])
        count = min(per_reference[number % len(per_reference)], sentences - written)
        tokens = [[WORDS[word] for word in rng.integers(0, len(WORDS), 4).tolist()] for _ in range(count)]
        texts = [" ".join(words) for words in tokens]
        references.append(
            {
                "sent_ids": list(range(written, written + count)),
                "file_name": f"COCO_train2014_{annotation // 10:012d}_{number}.jpg",
                "ann_id": annotation,
                "ref_id": number,
                "image_id": annotation // 10,
                "split": "train",
                "sentences": [
                    {"tokens": words, "raw": text, "sent_id": written + place, "sent": text}
                    for place, (words, text) in enumerate(zip(tokens, texts, strict=True))
                ],
                "category_id": 1,
            }
        )
        written += count
    with open(inner / "refs(unc).p", "wb") as file:
        Python2Pickler(file, protocol=2).dump(references)


def _write_instances(path: Path, pictures: int, rng: np.random.Generator) -> np.ndarray:
    """Ten annotations a picture, with outlines of 20 to 60 points; returns their ids."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outlines = []
    for _ in range(500):
        chosen = angles[np.sort(rng.choice(60, int(rng.integers(20, 61)), replace=False))]
        radius = rng.uniform(20, 90) * rng.uniform(0.8, 1.2, len(chosen))
        points = np.stack([np.cos(chosen), np.sin(chosen)], axis=1) * radius[:, None]
        points = np.clip(points + rng.uniform(80, 400, 2), 0, np.array(SIZE)).round(2)
        low, high = points.min(axis=0), points.max(axis=0)
        box = [*low.tolist(), *(high - low).round(2).tolist()]
        outlines.append((json.dumps([points.ravel().tolist()]), json.dumps(box)))
    with open(path, "w", encoding="utf-8") as file:
        file.write('{"info": {"description": "as COCO 2014"}, "images": [')
        for number in range(pictures):
            image = {
                "license": 1,
                "file_name": f"COCO_train2014_{number:012d}.jpg",
                "coco_url": f"http://mscoco.org/images/{number}",
                "height": SIZE[1],
                "width": SIZE[0],
                "date_captured": "2013-11-14 17:02:52",
                "flickr_url": f"http://farm7.staticflickr.com/6116/{number}_b000_z.jpg",
                "id": number,
            }
            file.write((", " if number else "") + json.dumps(image))
        file.write('], "licenses": [], "annotations": [')
        for number in range(10 * pictures):
            outline, box = outlines[number % len(outlines)]
            file.write(
                f'{", " if number else ""}{{"segmentation": {outline}, "area": 702.1, "iscrowd": 0, '
                f'"image_id": {number // 10}, "bbox": {box}, "category_id": 1, "id": {number}}}'
            )
        file.write('], "categories": [{"supercategory": "person", "id": 1, "name": "person"}]}')
    return np.arange(10 * pictures)


def open_ours(folder: Path) -> int:
    """Open it, and say how many sentences there are."""
    return len(RefCoco(folder, split="train"))


def open_published(folder: Path) -> int:
    """Load both files whole and index them by id, as the published code does."""
    import pickle

    with open(folder / "refcoco" / "refs(unc).p", "rb") as pickled:
        references = pickle.load(pickled, encoding="latin1")
    with open(folder / "refcoco" / "instances.json", encoding="utf-8") as file:
        instances = json.load(file)
    annotations = {annotation["id"]: annotation for annotation in instances["annotations"]}
    images = {image["id"]: image for image in instances["images"]}
    sentences = {sentence["sent_id"]: reference for reference in references for sentence in reference["sentences"]}
    assert len(annotations) >= len(images)
    return len(sentences)


OPENERS = {"ours": open_ours, "published": open_published}


def measure(folder: Path, opener: str) -> dict[str, float]:
    """Open the data set in a new process.

    Returns:
        ``seconds`` of processor time, and ``megabytes`` (10^6 bytes): the most that the process ever held.
    """
    command = [sys.executable, "-m", "benchmarks.bench_datasets", opener, str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def run(repeats: int = 1, quick: bool = False) -> list[Row]:
    """Measure opening the data set, and drawing samples of it.

    Args:
        repeats: runs of each, of which the shortest counts.
        quick: whether to make do with a twentieth of the sentences.
    """
    sentences = SENTENCES // 20 if quick else SENTENCES
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_refcoco(folder, sentences)
        runs = {name: [measure(folder, name) for _ in range(repeats)] for name in OPENERS}
        seconds = {name: min(each["seconds"] for each in found) for name, found in runs.items()}
        memory = {name: max(each["megabytes"] for each in found) for name, found in runs.items()}
        data = RefCoco(folder, split="train")
        rng = np.random.default_rng(0)
        drawn = [_processor_time(data.draw, rng) for _ in range(DRAWN)]
        files = sorted((folder / "images" / "train2014").iterdir())
        decoded = [_processor_time(load_image, files[int(rng.integers(len(files)))]) for _ in range(DRAWN)]
    detail = f"{sentences:,} sentences, {10 * max(sentences // 7, PICTURES):,} annotations"
    other = "both files loaded whole, as published"
    return [
        row("opening RefCOCO's annotations", seconds["ours"], other, seconds["published"], f"{detail}; processor time"),
        amount_row(
            "memory of opening them", memory["ours"], other, memory["published"], f"{detail}; the whole process"
        ),
        row(
            "a random sample",
            median(drawn),
            "its picture alone",
            median(decoded),
            f"{SIZE[0]}x{SIZE[1]}; processor time, median of {DRAWN}; the slowest took {max(drawn) * 1e3:.1f} ms",
        ),
    ]


def _processor_time(action: Callable[[Any], object], argument: Any) -> float:
    before = time.process_time()
    action(argument)
    return time.process_time() - before


def _peak_bytes() -> int:
    """The most memory that this process has held.

    What ``getrusage`` says of a process on Linux is at least what the one that started it held then.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Print the report; or, in a process of its own, open a data set."""
    if len(sys.argv) == 3:
        seconds = _processor_time(OPENERS[sys.argv[1]], Path(sys.argv[2]))
        print(json.dumps({"seconds": seconds, "megabytes": _peak_bytes() / 1e6}))
        return
    print_rows(run())


if __name__ == "__main__":
    main()
