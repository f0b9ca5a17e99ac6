"""What RefCOCO and gRefCOCO share: references to annotations of COCO, each with sentences that mean them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from visenv.datasets.files import (
    FolderDataset,
    Picture,
    existing_folder,
    expect,
    is_query,
    resolve_inside,
)
from visenv.datasets.instances import Instances
from visenv.datasets.pickles import read_pickle
from visenv.datasets.streams import json_elements
from visenv.errors import DatasetError
from visenv.types import MaskTruth, Sample

FAMILIES = ("reasonseg", "grefseg", "refseg")
VOCABULARY = ("person", "man", "woman", "car", "dog", "cat", "chair", "food", "bottle", "table", "red shirt", "horse")
"""Simple phrases for the discrete action mode."""
PICTURES = ("images/mscoco/images/train2014", "images/train2014", "train2014", "images", ".")
"""Where the pictures of COCO's ``train2014`` are looked for."""


class References(FolderDataset):
    """The samples of one split, one a sentence.

    The references are read once, and of ``instances.json`` an index is made; outlines and pictures are read when they
    are asked for. An identifier is ``SPLIT/REF-K``, REF the ``ref_id`` and K the number of the sentence in it, from 0.

    Args:
        folder: the folder that holds the references, or the one above it.
        split: which part.
        split_by: who parted it, as in ``refs(unc).p``.
        subfolder: the name of the inner folder, where the outer one is given.
        stem: of the file of references, ``refs`` or ``grefs``.
        name: the data set's name in messages.
        targets_only: whether to leave out sentences that mean nothing in the picture.
        pictures: a folder of pictures elsewhere; looked for inside ``folder`` if left out.

    Raises:
        DatasetError: if a file is missing or broken, or the split is missing or empty.
    """

    layout: ClassVar[str]

    def __init__(
        self,
        folder: str | Path,
        *,
        split: str,
        split_by: str,
        subfolder: str,
        stem: str,
        name: str,
        targets_only: bool = False,
        pictures: str | Path | None = None,
    ) -> None:
        self._root = existing_folder(folder, name, self.layout)
        inner = self._root / subfolder
        self._folder = inner if inner.is_dir() else self._root
        self._pictures = None if pictures is None else existing_folder(pictures, name, "a folder of pictures")
        file = self._find_references(name, stem, split_by)
        self._instances = Instances(self._find("instances.json"))
        self._sentences: list[str] = []
        self._refs: list[int] = []
        """The place of each sentence's reference in the lists below."""
        self._images: list[int] = []
        self._targets: list[tuple[int, ...]] = []
        keys: list[str] = []
        splits: dict[str, None] = {}
        for number, reference in enumerate(_references(file)):
            where = f"reference {number} of {str(file)!r}"
            found = expect(expect(reference, dict, where).get("split"), str, f"'split' of {where}")
            splits[found] = None
            if found != split:
                continue
            targets = _target_ids(reference, where)
            if targets_only and not targets:
                continue
            ref_id, image_id = (_id(reference, key, where) for key in ("ref_id", "image_id"))
            for place, sentence in enumerate(_sentences(reference, where)):
                keys.append(f"{ref_id}-{place}")
                self._sentences.append(sentence)
                self._refs.append(len(self._images))
            self._images.append(image_id)
            self._targets.append(targets)
        if not keys and split not in splits:
            raise DatasetError(
                f"The data set {name!r} has the splits {', '.join(splits) or '(none)'} in {file.name!r}, "
                f"but {split!r} was asked for."
            )
        super().__init__(name=name, split=split, vocabulary=VOCABULARY, keys=keys)

    @property
    def counts(self) -> dict[str, int]:
        """Sentences as ``samples``, ``refs``, and ``pictures``."""
        return {"samples": len(self), "refs": len(self._images), "pictures": len(set(self._images))}

    @abstractmethod
    def _kept(self, places: Sequence[int]) -> list[int]:
        """Which of a reference's annotations make its target."""

    def _load(self, key: str, rng: np.random.Generator | None = None) -> Sample:
        place = self._places[key]
        ref = self._refs[place]
        image_id = self._images[ref]
        where = f"sample {self._sample_id(key)}"
        file = self._picture_path(self._instances.frame(image_id).file_name)
        picture = Picture(file, where)
        annotations = self._kept([int(each) for each in self._instances.places(self._targets[ref])])
        if self._targets[ref] and not annotations:
            raise DatasetError(f"All annotations of {where} are crowds, which have no outline of their own.")
        query = self._sentences[place]
        if not is_query(query):
            raise DatasetError(f"Expected a sentence in {where}, but it is empty or broken.")
        target = self._instances.masks(annotations, image_id, picture)
        names = [self._instances.categories.get(int(self._instances.category_ids[each])) for each in annotations]
        return Sample(
            sample_id=self._sample_id(key),
            images=(picture.pixels,),
            query=query.strip(),
            truth=MaskTruth(target),
            task="segmentation",
            metadata={
                "dataset": self.name,
                "original_size": list(picture.original_size),
                "categories": [name for name in names if name is not None],
                "ref_id": int(key.rpartition("-")[0]),
            },
        )

    def _find(self, name: str) -> Path:
        path = resolve_inside(self._folder, name)
        if not path.is_file():
            raise DatasetError(f"There is no {name!r} in {str(self._folder)!r}. Layout: {self.layout}.")
        return path

    def _find_references(self, name: str, stem: str, split_by: str) -> Path:
        for suffix in (".json", ".p"):
            path = resolve_inside(self._folder, f"{stem}({split_by}){suffix}")
            if path.is_file():
                return path
        there = sorted(file.name for file in self._folder.glob(f"{stem}(*).*"))
        hint = f" There is {', '.join(there)}: choose with {name}:PATH?by=NAME." if there else ""
        raise DatasetError(f"There is no '{stem}({split_by}).p' in {str(self._folder)!r}.{hint} Layout: {self.layout}.")

    def _picture_path(self, file_name: str) -> Path:
        if self._pictures is not None:
            path = resolve_inside(self._pictures, file_name)
            if path.is_file():
                return path
            raise DatasetError(f"There is no picture {file_name!r} in {str(self._pictures)!r}.")
        for folder in dict.fromkeys((self._root, self._folder)):
            for inner in PICTURES:
                path = resolve_inside(folder, f"{inner}/{file_name}")
                if path.is_file():
                    return path
        raise DatasetError(
            f"There is no picture {file_name!r} in {str(self._root)!r} ({', '.join(PICTURES)}): "
            f"say where they are with {self.name}:PATH?images=FOLDER."
        )


def _references(file: Path) -> Iterator[Any]:
    if file.suffix == ".json":
        return (element.value for element in json_elements(file))
    references: list[Any] = expect(read_pickle(file), list, str(file))
    return iter(references)


def _target_ids(reference: Mapping[str, Any], where: str) -> tuple[int, ...]:
    """The annotations of a reference; -1, alone or among others, means none."""
    given = reference.get("ann_id")
    ids: list[Any] = given if isinstance(given, list) else [given]
    if not all(isinstance(each, int) and not isinstance(each, bool) and -1 <= each < 2**63 for each in ids):
        raise DatasetError(
            f"Expected an annotation's id, or a list of them, in 'ann_id' of {where}, got {given!r:.60}."
        )
    return tuple(dict.fromkeys(each for each in ids if each != -1))


def _id(reference: Mapping[str, Any], key: str, where: str) -> int:
    value = reference.get(key)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DatasetError(f"Expected a whole number {key!r} in {where}, but got {value!r:.60}.")
    return value


def _sentences(reference: Mapping[str, Any], where: str) -> Iterator[str]:
    for place, sentence in enumerate(expect(reference.get("sentences"), list, f"'sentences' of {where}")):
        text = expect(sentence, dict, f"sentence {place} of {where}").get("sent")
        yield _mended(expect(text, str, f"'sent' of sentence {place} of {where}"))


def _mended(text: str) -> str:
    """A text of Python 2 that was UTF-8 and has been read as Latin-1, as it was written."""
    if text.isascii():
        return text
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
