"""The formats in which vision-language models write points, from their answers to pixels.

The formats are those that the models were taught, as their cards and papers show them: Molmo (arXiv 2409.17146) and
Molmo 2 (arXiv 2601.10611), Qwen2-VL (arXiv 2409.12191), Qwen2.5-VL (arXiv 2502.13923) and Qwen3-VL (arXiv 2511.21631).
Reading never fails: what is no point, or was cut off in the middle of one, is passed over.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from visenv.errors import InvalidData, UnknownName
from visenv.protocol.coordinates import ABSOLUTE, THOUSAND, CoordinateFrame
from visenv.types import FloatArray

PERCENT = CoordinateFrame("0-100", extent=100.0, whole=False)
"""Of the first Molmo's ``x`` and ``y``."""

Found = Iterator[tuple[float, float, CoordinateFrame]]
"""Points x, y, and the frame that they are in."""

_NUMBER = r"[-+]?\d{1,12}(?:\.\d{0,12})?"
_TAG = re.compile(r"<points?\b([^<>]*)>?", re.IGNORECASE)
_PAIR = re.compile(
    rf"""\bx(\d*)\s*=\s*["']\s*({_NUMBER})\s*["']\s*y\1\s*=\s*["']\s*({_NUMBER})\s*["']""", re.IGNORECASE
)
_COORDS = re.compile(r"""<(?:points|tracks)\b[^<>]*?\bcoords\s*=\s*["']([^"'<>]*)(["']?)""", re.IGNORECASE)
_KEY = re.compile(r"""["'](points?|bbox(?:es)?|box)(?:_2d)?["']\s*:\s*(\[(?:[^\[\]]|\[[^\[\]]*\])*\])""", re.IGNORECASE)
_ROW = re.compile(r"\[([^\[\]]*)\]")
_CELL = re.compile(_NUMBER)
_BRACKETS = re.compile(rf"\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\)(?:\s*,\s*\(\s*({_NUMBER})\s*,\s*({_NUMBER})\s*\))?")


@dataclass(frozen=True)
class PointFormat:
    """How a family of models is asked for points, and how it writes them."""

    name: str
    prompt: str
    """What the model is asked, with ``{phrase}``."""
    find: Callable[[str], Found]
    """From an answer to its points."""
    model_types: tuple[str, ...]
    """What ``model_type`` in ``config.json`` says for models of the family."""

    def points(self, text: str, size: tuple[int, int], shown: tuple[int, int] | None = None) -> FloatArray:
        r"""The points in an answer.

        Args:
            text: what the model wrote; anything.
            size: (width, height) of the image that it was given, pixels.
            shown: (width, height) to which its processor resized that, for formats in pixels; ``size`` if left out.

        Returns:
            (P, 2) float64 xy pixels of the image given, in the order written, each once. Points beyond the image are
            left out; those on its right or lower side are moved to the middle of its last pixel.

        Example:
            >>> POINT_FORMATS["molmo"].points('<point x="50.0" y="25.5" alt="cat">cat</point>', (200, 100)).tolist()
            [[100.0, 25.5]]
            >>> POINT_FORMATS["molmo"].points('<points coords="1 1 500 255 2 250 990">cats', (200, 100)).tolist()
            [[100.0, 25.5], [50.0, 99.0]]
            >>> POINT_FORMATS["qwen3_vl"].points('```json\n[{"point_2d": [500, 255]}, {"point', (200, 100)).tolist()
            [[100.0, 25.5]]
            >>> POINT_FORMATS["qwen2_5_vl"].points('[{"bbox_2d": [10, 20, 30, 40]}]', (200, 100), (400, 200)).tolist()
            [[10.0, 15.0]]
        """
        width, height = size
        kept: dict[tuple[float, float], None] = {}
        for x, y, frame in self.find(text):
            if not (math.isfinite(x) and math.isfinite(y)):
                continue
            px, py = frame.to_pixels([x, y], size, shown).tolist()
            if 0 <= px <= width and 0 <= py <= height:
                kept[min(px, width - 0.5), min(py, height - 0.5)] = None
        return np.array(list(kept), np.float64).reshape(-1, 2)


def molmo_points(text: str) -> Found:
    """Molmo's ``<point x= y=>`` and ``<points x1= y1= …>`` in per cent, and Molmo 2's ``coords`` in per mille."""
    for coords in _COORDS.finditer(text):
        for point in _numbered(coords[1], whole=bool(coords[2])):
            yield (*point, THOUSAND)
    yield from _tags(text, PERCENT)


def qwen2_5_points(text: str) -> Found:
    """JSON or tags in pixels of the image as the processor resized it."""
    yield from _json(text, ABSOLUTE)
    yield from _tags(text, ABSOLUTE)


def thousand_points(text: str) -> Found:
    """JSON or tags from 0 to 1000 over the image."""
    yield from _json(text, THOUSAND)
    yield from _tags(text, THOUSAND)


def qwen2_points(text: str) -> Found:
    """``(x, y)``, and the middles of boxes ``(x1, y1), (x2, y2)``, from 0 to 1000 over the image; or JSON in these."""
    yield from thousand_points(text)
    for found in _BRACKETS.finditer(text):
        numbers = [float(number) for number in found.groups() if number is not None]
        yield (*_middle(numbers), THOUSAND)


def _tags(text: str, frame: CoordinateFrame) -> Found:
    for tag in _TAG.finditer(text):
        for pair in _PAIR.finditer(tag[1]):
            yield float(pair[2]), float(pair[3]), frame


def _numbered(coords: str, whole: bool) -> Iterator[tuple[float, float]]:
    """Molmo 2's groups, one an image: the image's number, then for each point its own number, x and y.

    Args:
        coords: what stands in the attribute.
        whole: whether it was closed; if not, the answer was cut off, maybe in the middle of a number.
    """
    groups = re.split(r"[\t:,;]", coords)
    for place, group in enumerate(groups):
        cells = group.split()
        cut = not whole and place == len(groups) - 1
        if cut and not group[-1:].isspace():
            cells = cells[:-1]
        if len(cells) % 3 == 1 or cut:
            cells = cells[1:]
        for start in range(0, len(cells) - 2, 3):
            x, y = cells[start + 1 : start + 3]
            if _CELL.fullmatch(x) and _CELL.fullmatch(y):
                yield float(x), float(y)


def _json(text: str, frame: CoordinateFrame) -> Found:
    """The points under ``point_2d`` and its like; where there are none, the middles of the boxes under ``bbox_2d``.

    Read entry by entry and not as one document, since the end is often missing.
    """
    points, boxes = [], []
    for key, value in _KEY.findall(text):
        rows = _ROW.findall(value[1:-1]) or [value[1:-1]]
        for row in rows:
            cells = row.split(",")
            if all(_CELL.fullmatch(cell.strip()) for cell in cells) and len(cells) in (2, 4):
                numbers = [float(cell) for cell in cells]
                if len(cells) == 2 and key.lower().startswith("point"):
                    points.append(numbers)
                elif len(cells) == 4:
                    boxes.append(numbers)
    for numbers in points or boxes:
        yield (*_middle(numbers), frame)


def _middle(numbers: list[float]) -> tuple[float, float]:
    if len(numbers) == 2:
        return numbers[0], numbers[1]
    return (numbers[0] + numbers[2]) / 2, (numbers[1] + numbers[3]) / 2


_ASK_JSON = (
    "Locate {phrase} in the image. Answer with a JSON list of one point for each instance, at its centre: "
    '[{"point_2d": [x, y], "label": "…"}, …], and with [] if there is none.'
)
POINT_FORMATS: Mapping[str, PointFormat] = MappingProxyType(
    {
        made.name: made
        for made in (
            PointFormat("molmo", "Point to {phrase}.", molmo_points, ("molmo", "molmo2")),
            PointFormat("qwen3_vl", _ASK_JSON, thousand_points, ("qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")),
            PointFormat("qwen2_5_vl", _ASK_JSON, qwen2_5_points, ("qwen2_5_vl",)),
            PointFormat("qwen2_vl", _ASK_JSON, qwen2_points, ("qwen2_vl",)),
        )
    }
)
"""By name."""


def point_format(name: str, model_type: str = "") -> PointFormat:
    """A format by its name, or the one of a model.

    Args:
        name: one of ``POINT_FORMATS``, or ``auto``: the one of the model.
        model_type: what ``config.json`` says the model is.

    Raises:
        UnknownName: if there is no such format.
        InvalidData: if no format is known for the model.

    Example:
        >>> point_format("auto", "molmo2").name
        'molmo'
    """
    if name != "auto":
        if name not in POINT_FORMATS:
            raise UnknownName(f"Unknown point format {name!r}. Known: auto, {', '.join(POINT_FORMATS)}.")
        return POINT_FORMATS[name]
    for known in POINT_FORMATS.values():
        if model_type in known.model_types:
            return known
    raise InvalidData(
        f"Expected a model that is known to point (Molmo 1 and 2, Qwen2-VL to Qwen3.5), but got the type "
        f"{model_type!r}: say how it writes points, point_format= one of {', '.join(POINT_FORMATS)}."
    )
