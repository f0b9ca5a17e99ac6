"""Coordinates as model families write them, to and from pixels.

In the code, coordinates are pixels of a named image. Models write them in frames of their own; a dialect converts at
the border, and every observation says which frame its numbers are in (``CoordinateFrame.describe``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visenv.errors import InvalidData, UnknownName


@dataclass(frozen=True)
class CoordinateFrame:
    """One way of writing points and boxes.

    Example:
        >>> THOUSAND.from_pixels([[320, 120]], size=(640, 480)).tolist()
        [[500.0, 250.0]]
        >>> THOUSAND.to_pixels([250, 250, 500, 500], size=(640, 480)).tolist()
        [160.0, 120.0, 320.0, 240.0]
    """

    name: str
    extent: float | None
    """What the image's right and bottom sides are written as; None for pixels of the image as it was shown."""
    whole: bool
    """Whether numbers are rounded to integers when they are written."""

    def to_pixels(
        self, values: ArrayLike, size: tuple[int, int], shown: tuple[int, int] | None = None
    ) -> NDArray[np.float64]:
        """From a model's numbers to pixels.

        Args:
            values: (..., 2) points xy or (..., 4) boxes xyxy in this frame.
            size: (width, height) of the image, pixels.
            shown: (width, height) at which the model saw it, for a frame in pixels; ``size`` if left out.

        Returns:
            float64 of the same shape, pixels of the image. Numbers beyond the image stay beyond it.

        Raises:
            InvalidData: if the shape is another, a number is not finite, or a size is not positive.
        """
        return self._scaled(values, self._units(size, shown), _positive(size))

    def from_pixels(
        self, values: ArrayLike, size: tuple[int, int], shown: tuple[int, int] | None = None
    ) -> NDArray[np.float64]:
        """From pixels to the numbers of this frame; the inverse of ``to_pixels``, up to rounding where ``whole``.

        Args:
            values: (..., 2) points xy or (..., 4) boxes xyxy, pixels of the image.
            size: (width, height) of the image, pixels.
            shown: (width, height) at which the model sees it, for a frame in pixels; ``size`` if left out.

        Returns:
            float64 of the same shape; whole numbers where ``whole``.

        Raises:
            InvalidData: as ``to_pixels``.
        """
        result = self._scaled(values, _positive(size), self._units(size, shown))
        return np.rint(result) if self.whole else result

    def write(
        self, values: ArrayLike, size: tuple[int, int], shown: tuple[int, int] | None = None
    ) -> list[list[float]]:
        """The numbers that an observation shows: as ``from_pixels``, with three decimals where not ``whole``.

        Args:
            values: (N, 2) points xy or (N, 4) boxes xyxy, pixels of the image.
            size: (width, height) of the image, pixels.
            shown: (width, height) at which the model sees it, for a frame in pixels; ``size`` if left out.

        Returns:
            N lists of 2 or 4 numbers, int where ``whole``.

        Raises:
            InvalidData: as ``to_pixels``.

        Example:
            >>> THOUSAND.write([[320, 120]], size=(640, 480)), UNIT.write([[320, 160]], size=(640, 480))
            ([[500, 250]], [[0.5, 0.333]])
        """
        if np.size(values) == 0:
            return []
        numbers = self.from_pixels(values, size, shown)
        rows: list[list[float]] = (numbers.astype(int) if self.whole else numbers.round(3)).tolist()
        return rows

    def describe(self, size: tuple[int, int], shown: tuple[int, int] | None = None) -> str:
        """What an observation says of its numbers: their frame, and the size that they refer to.

        Example:
            >>> THOUSAND.describe((640, 480)), ABSOLUTE.describe((640, 480), shown=(644, 476))
            ('x and y from 0 to 1000 across 640x480', 'pixels at 644x476')
        """
        if self.extent is None:
            width, height = shown or size
            return f"pixels at {width}x{height}"
        width, height = size
        return f"x and y from 0 to {self.extent:g} across {width}x{height}"

    def _units(self, size: tuple[int, int], shown: tuple[int, int] | None) -> tuple[float, float]:
        return _positive(shown or size) if self.extent is None else (self.extent, self.extent)

    def _scaled(
        self, values: ArrayLike, source: tuple[float, float], target: tuple[float, float]
    ) -> NDArray[np.float64]:
        try:
            numbers = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise InvalidData(
                f"Expected numbers of the frame {self.name!r}, but got {type(values).__name__}."
            ) from error
        if numbers.ndim == 0 or numbers.shape[-1] not in (2, 4):
            raise InvalidData(f"Expected points (..., 2) or boxes (..., 4), but got the shape {numbers.shape}.")
        if not np.isfinite(numbers).all():
            raise InvalidData("Expected finite coordinates, but got NaN or infinity.")
        factors = (target[0] / source[0], target[1] / source[1])
        return numbers * (factors * (numbers.shape[-1] // 2))


def _positive(size: tuple[int, int]) -> tuple[float, float]:
    try:
        width, height = (float(side) for side in size)
    except (TypeError, ValueError):
        width = height = 0.0
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise InvalidData(f"Expected a size (width, height) of positive numbers, but got {size!r}.")
    return width, height


ABSOLUTE = CoordinateFrame("absolute", extent=None, whole=True)
"""Pixels of the image as it was shown, that is after the model's own resizing."""
NINES = CoordinateFrame("0-999", extent=999.0, whole=True)
THOUSAND = CoordinateFrame("0-1000", extent=1000.0, whole=True)
UNIT = CoordinateFrame("0-1", extent=1.0, whole=False)

FRAMES: Mapping[str, CoordinateFrame] = MappingProxyType(
    {frame.name: frame for frame in (ABSOLUTE, NINES, THOUSAND, UNIT)}
)

FAMILIES: Mapping[str, CoordinateFrame] = MappingProxyType(
    {
        "qwen2_5_vl": ABSOLUTE,
        "qwen3_vl": THOUSAND,
        "qwen3_5": THOUSAND,
        "internvl": THOUSAND,
        "deepseek_vl2": NINES,
        "openai": ABSOLUTE,
    }
)
"""The frame in which each model family was taught to write coordinates."""


def frame_of(family: str) -> CoordinateFrame:
    """The frame of a model family, or the frame of that name.

    Raises:
        UnknownName: if it is neither.

    Example:
        >>> frame_of("qwen2_5_vl").name
        'absolute'
    """
    known: dict[str, Any] = {**FAMILIES, **FRAMES}
    if family not in known:
        raise UnknownName(f"Unknown model family or coordinate frame {family!r}. Known: {', '.join(known)}.")
    frame: CoordinateFrame = known[family]
    return frame
