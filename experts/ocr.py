"""Reading text by RapidOCR: PaddleOCR's networks on the CPU, whose weights come with the package."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from visenv.capabilities import ReadText, Request, TextLines, View, not_answered
from visenv.errors import InvalidData, MissingDependency, MissingWeights
from visenv.experts.models.weights import files_digest
from visenv.images import Provenance, RootPixels
from visenv.types import FloatArray, Pixels

PARTS = {"Det": "finds lines", "Cls": "tells which way up a line is", "Rec": "reads a line"}
"""RapidOCR's networks and what each does."""
_LEAST_SIDE, _WIDEST = 32, 4
_TURNED = 1.5
"""From this height by width on, RapidOCR reads a line from top to bottom."""


class OcrExpert:
    """Reads what is written in an image, line by line, in reading order.

    It runs on the CPU, through ``onnxruntime``, and needs neither torch nor a download: the networks that the package
    ``rapidocr`` brings along read Chinese, English and other languages in Latin script. Lines may be turned; an image
    is searched at a size of at most ``max_side``, and what is found is read from the image itself.

    Args:
        model: a folder with other networks of PaddleOCR as ``*det*.onnx``, ``*cls*.onnx`` and ``*rec*.onnx`` (with its
            characters in it); or a ``rapidocr.RapidOCR`` that the user has built; None for those of the package.
        score_threshold: lines read with less confidence are left out, 0 to 1.
        max_side: pixels; a larger image is searched for lines at this size. Split it to find small print.
        threads: of onnxruntime; 0 for as many as there are cores.
        max_batch: the most requests in one call. An image is read alone, so that company changes no result.

    ``onnxruntime`` of recent releases reports its use to Microsoft from the moment it is imported; this expert sets
    ``ORT_DISABLE_TELEMETRY=1`` before that, unless the variable is set already.

    Raises:
        MissingDependency: if ``rapidocr`` or ``onnxruntime`` is not installed.
        MissingWeights: if the folder lacks a network.
        InvalidData: if a value is out of range.

    Example:
        >>> import numpy as np
        >>> from visenv.capabilities import ReadText, View
        >>> from visenv.images import Provenance, RootPixels
        >>> page = np.full((40, 200, 3), 255, np.uint8)
        >>> _ = cv2.putText(page, "Hello", (10, 30), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2)
        >>> OcrExpert().run([ReadText(View(page, Provenance(RootPixels(page))))])[0].texts
        ('Hello',)
    """

    family = name = "ocr"
    capabilities: tuple[str, ...] = ("ReadText",)
    per_sample = False

    def __init__(
        self,
        model: Any = None,
        *,
        score_threshold: float = 0.5,
        max_side: int = 2000,
        threads: int = 0,
        max_batch: int = 8,
    ) -> None:
        rapidocr = _import_rapidocr()
        if not 0 <= score_threshold <= 1:
            raise InvalidData(f"Expected score_threshold from 0 to 1, but got {score_threshold!r}.")
        for name, value, least in (("max_side", max_side, 64), ("threads", threads, 0), ("max_batch", max_batch, 1)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidData(f"Expected {name} to be a whole number of at least {least}, but got {value!r}.")
        self.score_threshold, self.max_side, self.threads, self.max_batch = (
            score_threshold,
            max_side,
            threads,
            max_batch,
        )
        self._given = model if isinstance(model, rapidocr.RapidOCR) else None
        self._files: dict[str, Path] = {}
        if self._given is not None:
            digest = hashlib.blake2b(repr(self._given.cfg).encode(), digest_size=8).hexdigest()
        elif model is None or isinstance(model, (str, Path)):
            self._files = _bundled(Path(rapidocr.__file__).parent) if model is None else _in_folder(Path(model))
            digest = files_digest(*self._files.values())
        else:
            raise InvalidData(f"Expected model to be a folder, a RapidOCR or None, but got {type(model).__name__}.")
        version = importlib.metadata.version("rapidocr")
        self.fingerprint = f"ocr-{digest}-{version}-{score_threshold:g}-{max_side}"
        self._engine: Any = None
        self._lock = threading.RLock()

    def run(self, requests: Sequence[Request]) -> list[TextLines]:
        """Answer a batch; result ``i`` belongs to request ``i``."""
        with self._lock:
            return [self._answer(request) for request in requests]

    def read_line(self, pixels: Pixels) -> tuple[str, float]:
        """Read a picture that holds one upright line, such as a word that something else has found.

        Args:
            pixels: (H, W, 3) uint8 RGB.

        Returns:
            The text and its score in [0, 1].
        """
        with self._lock:
            read = self.load().recognize_txt([np.ascontiguousarray(pixels[..., ::-1])])
        return str(read.txts[0]), float(read.scores[0])

    def load(self) -> Any:
        """The RapidOCR; its networks are read now if they were not yet."""
        with self._lock:
            if self._engine is None:
                self._engine = self._given or self._made()
            return self._engine

    def unload(self) -> None:
        """Free the memory of the networks; they are read again when they are next needed."""
        with self._lock:
            self._engine = None

    def warm_up(self) -> None:
        """Load the networks and read a picture with a line, so that the first real one is not slow."""
        pixels = np.full((64, 256, 3), 255, np.uint8)
        cv2.putText(pixels, "warm", (40, 45), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (0, 0, 0), 3)
        self.run([ReadText(View(pixels, Provenance(RootPixels(pixels))))])

    def _made(self) -> Any:
        from rapidocr import RapidOCR

        params: dict[str, Any] = {f"{part}.model_path": str(file) for part, file in self._files.items()}
        params["Global.log_level"] = "critical"
        if self.threads:
            params["EngineConfig.onnxruntime.intra_op_num_threads"] = self.threads
        return RapidOCR(params=params)

    def _answer(self, request: Request) -> TextLines:
        if not isinstance(request, ReadText):
            raise not_answered(self.name, request)
        engine, pixels = self.load(), request.view.pixels
        image = np.ascontiguousarray(pixels[..., ::-1])
        corners = self._found(engine, image)
        crops = [_straightened(image, quad) for quad in corners]
        places = [place for place, crop in enumerate(crops) if crop is not None]
        texts, quads, scores = [], [], []
        for place, (text, score, upside_down) in zip(
            places, _read(engine, [crop for crop in crops if crop is not None]), strict=True
        ):
            if text.strip() and score >= self.score_threshold:
                texts.append(text.strip())
                scores.append(score)
                quads.append(_own_corners(corners[place], upside_down))
        return _lines(texts, quads, scores)

    def _found(self, engine: Any, image: Pixels) -> FloatArray:
        """(L, 4, 2) the corners of lines, in the image's frame, clipped to it."""
        small, scale = _searched(image, self.max_side)
        boxes = engine._load_det_model()(small).boxes
        if boxes is None:
            return np.zeros((0, 4, 2))
        height, width = image.shape[:2]
        return np.clip(np.asarray(boxes, np.float64) * scale, 0, (width, height))

    def __getstate__(self) -> dict[str, Any]:
        if self._given is not None:
            raise TypeError(
                "Expected an OcrExpert of files to be copied, but this one has a RapidOCR built by the user."
            )
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_engine")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _engine=None, _lock=threading.RLock())


def _import_rapidocr() -> Any:
    """The package; onnxruntime below it reports to Microsoft, and writes to the home, unless told not to."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        importlib.import_module("onnxruntime")
        return importlib.import_module("rapidocr")
    except ImportError as error:
        raise MissingDependency('Reading text needs rapidocr: pip install "visenv[ocr]".') from error


def reading_order(boxes: FloatArray) -> list[int]:
    """In which order boxes are read: lines from top to bottom, within a line from left to right.

    A box belongs to a line if its middle is within the height of the line's first box, or the other way round.

    Args:
        boxes: (L, 4) xyxy.

    Returns:
        A permutation of ``range(L)``; the same boxes in the same order, in whatever order they come.

    Example:
        >>> import numpy as np
        >>> reading_order(np.array([[50, 2, 90, 12], [0, 20, 90, 30], [0, 0, 40, 10]]))
        [2, 0, 1]
    """
    values = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    left = sorted(range(len(values)), key=lambda index: (values[index, 1], *values[index]))
    order: list[int] = []
    while left:
        first = values[left[0]]
        line = [index for index in left if _beside(first, values[index])]
        order += sorted(line, key=lambda index: (values[index, 0], *values[index]))
        left = [index for index in left if index not in set(line)]
    return order


def _beside(first: FloatArray, other: FloatArray) -> bool:
    def holds(one: FloatArray, two: FloatArray) -> bool:
        return bool(one[1] <= (two[1] + two[3]) / 2 <= one[3])

    return holds(first, other) or holds(other, first)


def _read(engine: Any, crops: list[NDArray[np.uint8]]) -> list[tuple[str, float, bool]]:
    """The text, the score, and whether it stands upside down, of each crop.

    One that is taken to be upside down is read both ways round, since that guess is often wrong for slanted lines.
    """
    if not crops:
        return []
    turned = engine.cls_and_rotate(crops)[1].img_list
    twice = [place for place, crop in enumerate(crops) if not np.array_equal(crop, turned[place])]
    read = engine.recognize_txt([*turned, *(crops[place] for place in twice)])
    found = [(text, float(score), False) for text, score in zip(read.txts, read.scores, strict=True)]
    for place, other in zip(twice, found[len(crops) :], strict=True):
        text, score, _ = found[place]
        found[place] = other if other[1] >= score else (text, score, True)
    return found[: len(crops)]


def _lines(texts: list[str], quads: list[FloatArray], scores: list[float]) -> TextLines:
    corners = np.array(quads, np.float64).reshape(-1, 4, 2)
    order = reading_order(np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)) if texts else []
    return TextLines(
        tuple(texts[index] for index in order), corners[order], np.clip(np.array(scores, np.float64)[order], 0, 1)
    )


def _searched(image: Pixels, max_side: int) -> tuple[Pixels, FloatArray]:
    """An image as it is searched, and the factors (2,) from its x and y to the image's.

    It is no larger than ``max_side``, and on the right or below padded to at most four times as long as wide: the
    network enlarges its shorter side, so that a strip would become an image of many megapixels.
    """
    height, width = image.shape[:2]
    factor = min(1.0, max_side / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = image if factor == 1 else cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    least = max(_LEAST_SIDE, math.ceil(max(size) / _WIDEST))
    right, below = max(0, least - size[0]), max(0, least - size[1])
    if right or below:
        small = cv2.copyMakeBorder(small, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(small, np.uint8), np.array([width / size[0], height / size[1]])


def _straightened(image: Pixels, corners: FloatArray) -> NDArray[np.uint8] | None:
    """What is within four corners, turned as RapidOCR reads it; None if there is nothing."""
    from rapidocr.utils.process_img import get_rotate_crop_image

    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    if max(sides[0], sides[2]) < 2 or max(sides[1], sides[3]) < 2:
        return None
    crop: NDArray[np.uint8] = get_rotate_crop_image(image, corners.astype(np.float32))
    return crop


def _own_corners(corners: FloatArray, upside_down: bool) -> FloatArray:
    """The corners beginning at the top left of the text itself, which may be turned against the image."""
    width = max(np.linalg.norm(corners[0] - corners[1]), np.linalg.norm(corners[2] - corners[3]))
    height = max(np.linalg.norm(corners[0] - corners[3]), np.linalg.norm(corners[1] - corners[2]))
    turns = int(int(height) / max(1, int(width)) >= _TURNED) + 2 * upside_down
    return np.asarray(np.roll(corners, -turns, axis=0))


def _bundled(package: Path) -> dict[str, Path]:
    """The networks in the package: named, since RapidOCR itself would fetch what it does not find."""
    return _in_folder(package / "models", fetch=" Install it again: pip install --force-reinstall rapidocr.")


def _in_folder(folder: Path, fetch: str = " Fetch networks of PaddleOCR as ONNX files into it.") -> dict[str, Path]:
    files = {}
    for part, purpose in PARTS.items():
        pattern = f"*{part.lower()}*.onnx"
        found = sorted(folder.expanduser().glob(pattern)) if folder.expanduser().is_dir() else []
        if len(found) != 1:
            got = f"it holds {', '.join(file.name for file in found)}" if found else "there is no such file"
            raise MissingWeights(f"Expected one {pattern} (it {purpose}) in {folder}, but {got}.{fetch}")
        files[part] = found[0]
    return files
