"""How many samples the published data sets have, to tell a whole copy from a part of one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """The published numbers of one split."""

    counts: dict[str, int]
    """By what is counted, as ``FolderDataset.counts`` names it: ``samples``, ``refs``, ``pictures``."""
    source: str


_LISA = "LISA, arXiv 2308.00692"
_TFDS = "TensorFlow Datasets, catalog of ref_coco"
_DRONES = "VisDrone-DET 2019, arXiv 2001.06303"
_COUNTING = "Learning To Count Everything, arXiv 2104.08391"
_COCO = "COCO 2017"
_REX = "Rex-Omni, arXiv 2510.12798"


def _refs(**splits: tuple[int, int]) -> dict[str, Size]:
    return {split: Size({"refs": refs, "pictures": pictures}, _TFDS) for split, (refs, pictures) in splits.items()}


SIZES: dict[tuple[str, str], dict[str, Size]] = {
    ("reasonseg", ""): {
        split: Size({"samples": count}, _LISA) for split, count in (("train", 239), ("val", 200), ("test", 779))
    },
    ("refcoco", "unc"): _refs(train=(42404, 16994), val=(3811, 1500), testA=(1975, 750), testB=(1810, 750)),
    ("refcoco", "google"): _refs(train=(40000, 19213), val=(5000, 4559), test=(5000, 4527)),
    ("refcoco+", "unc"): _refs(train=(42278, 16992), val=(3805, 1500), testA=(1975, 750), testB=(1798, 750)),
    ("refcocog", "umd"): _refs(train=(42226, 21899), val=(2573, 1300), test=(5023, 2600)),
    ("refcocog", "google"): _refs(train=(44822, 24698), val=(5000, 4650)),
    ("coco", ""): {split: Size({"pictures": count}, _COCO) for split, count in (("train", 118287), ("val", 5000))},
    ("fsc147", ""): {
        split: Size({"samples": count}, _COUNTING) for split, count in (("train", 3659), ("val", 1286), ("test", 1190))
    },
    ("visdrone", ""): {
        split: Size({"pictures": count}, _DRONES) for split, count in (("train", 6471), ("val", 548), ("test", 1610))
    },
    ("dense200", ""): {"test": Size({"pictures": 200}, _REX)},
}
"""By the data set's name and who parted it. gRefCOCO and REC-8K are counted, but not compared: their publications give
no number for each split in the unit that their files have."""


def published(name: str, by: str, split: str) -> Size | None:
    """The published numbers of a split; None where there are none.

    Args:
        name: of the data set.
        by: who parted it (``unc``), where there are several.
        split: which part.

    Example:
        >>> published("refcoco", "unc", "testA").counts
        {'refs': 1975, 'pictures': 750}
    """
    return SIZES.get((name, by), SIZES.get((name, ""), {})).get(split)
