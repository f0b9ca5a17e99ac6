"""The letters beside visual prompts: read by templates, or by the networks of RapidOCR."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from visenv.experts.ocr import OcrExpert
from visenv.types import BoolArray, FloatArray

GreyArray: TypeAlias = NDArray[np.uint8]

_GLYPH = 24
_LIKE = 0.55
"""The least likeness for which a shape is taken for a letter."""
_HEIGHT, _BESIDE = 32, 12
"""Pixels of a word's height as networks read it, and of the blank around it."""
_AROUND = 2
"""Pixels around a word in which ink that was smeared by compression still belongs to it."""
_SURE = 0.5
"""The least score of a word that networks have read."""
_AS_LETTER = {"0": "O", "1": "I"}
"""Marks are named by letters: what stands alone and looks like both is one."""
_WORD = re.compile(r"[A-Z0-9]{1,4}")


@dataclass(frozen=True, eq=False)
class Shape:
    """Connected pixels of one ink."""

    box: tuple[int, int, int, int]
    """xyxy pixels, half-open."""
    mask: BoolArray
    """(h, w) over the box."""

    @property
    def side(self) -> int:
        """The longer side, pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


ReadWord: TypeAlias = Callable[[Sequence[Shape], GreyArray], str]
"""From the shapes of a word, left to right, and (H, W) uint8, how much of its ink is in each pixel of the image, to
what is written; empty if that cannot be read."""


def read_by_templates(word: Sequence[Shape], strength: GreyArray) -> str:
    """The capitals that shapes look like, as OpenCV draws them; no package is needed."""
    return "".join(_likest(shape.mask) for shape in word)


class ReadByNetworks:
    """Reads a word as a line of text, in any typeface; needs ``pip install "visenv[ocr]"``.

    Raises:
        MissingDependency: if ``rapidocr`` or ``onnxruntime`` is not installed.
    """

    def __init__(self) -> None:
        self._expert = OcrExpert()
        self.fingerprint = self._expert.fingerprint
        """Of the networks."""

    def __call__(self, word: Sequence[Shape], strength: GreyArray) -> str:
        """See ``ReadWord``."""
        boxes = np.array([shape.box for shape in word])
        (x0, y0), (x1, y1) = np.maximum(boxes[:, :2].min(axis=0) - _AROUND, 0), boxes[:, 2:].max(axis=0) + _AROUND
        own = np.zeros(strength.shape, np.uint8)
        for shape in word:
            left, top, right, bottom = shape.box
            own[top:bottom, left:right] |= shape.mask.astype(np.uint8)
        near = cv2.dilate(own[y0:y1, x0:x1], np.ones((3, 3), np.uint8), iterations=_AROUND)
        # Without the mark itself, which may come as near as that.
        crop = strength[y0:y1, x0:x1] * (near > 0)
        scale = _HEIGHT / crop.shape[0]
        size = (max(1, round(crop.shape[1] * scale)), _HEIGHT)
        grey = 255 - cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC)
        line = cv2.copyMakeBorder(grey, _BESIDE, _BESIDE, _BESIDE, _BESIDE, cv2.BORDER_CONSTANT, value=255)
        text, score = self._expert.read_line(np.repeat(np.asarray(line, np.uint8)[..., None], 3, axis=2))
        text = text.strip().upper()
        text = _AS_LETTER.get(text, text)
        return text if score >= _SURE and _WORD.fullmatch(text) else ""


def _likest(mask: BoolArray) -> str:
    """The letter that a shape looks like; empty if it looks like none."""
    glyph = _normal(mask)
    scores = {letter: max(float((glyph * form).sum()) for form in forms) for letter, forms in _templates().items()}
    best = max(scores, key=lambda letter: scores[letter])
    return best if scores[best] >= _LIKE else ""


@cache
def _templates() -> dict[str, list[FloatArray]]:
    """Letters as OpenCV draws them, thin to bold."""
    templates: dict[str, list[FloatArray]] = {}
    for letter in string.ascii_uppercase:
        for scale, thickness in ((0.5, 1), (0.6, 2), (0.9, 2), (0.9, 3), (1.2, 3)):
            canvas = np.zeros((64, 64), np.uint8)
            cv2.putText(canvas, letter, (8, 48), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_8)
            rows, columns = np.nonzero(canvas)
            glyph = canvas[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] > 0
            templates.setdefault(letter, []).append(_normal(glyph))
    return templates


def _normal(mask: BoolArray) -> FloatArray:
    """A shape at a fixed size, its proportions kept, as a vector of length 1 around its mean."""
    height, width = mask.shape
    scale = (_GLYPH - 2) / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    canvas = np.zeros((_GLYPH, _GLYPH), np.float32)
    x, y = (_GLYPH - size[0]) // 2, (_GLYPH - size[1]) // 2
    canvas[y : y + size[1], x : x + size[0]] = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    values = canvas - canvas.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-9))
