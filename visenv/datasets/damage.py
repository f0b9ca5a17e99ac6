"""Damaging pictures: what programs are to put right."""

from __future__ import annotations

import cv2
import numpy as np

from visenv.errors import InvalidData
from visenv.tools.coding import PROBLEMS
from visenv.types import Pixels

ROTATIONS = ("rotation90", "rotation180")
DAMAGES = tuple(name for name in PROBLEMS if name != "none")

_MAX_FRAME = 1600


def damage(pixels: Pixels, problems: tuple[str, ...], rng: np.random.Generator, strength: int = 1) -> Pixels:
    """A picture with one damage after another.

    - ``rotation90``: turned by a quarter, clockwise; ``rotation180``: by half;
    - ``dark``: every value times 0.35 to 0.22; ``overexposure``: what is lacking to white, times as much;
    - ``blur``: Gaussian, of 1 to 2.2 pixels; ``noise``: Gaussian, of 18 to 42 grey levels;
    - ``crop``: the picture lies somewhere in a grey frame, 1.5 to 2.2 times as large.

    Args:
        pixels: (H, W, 3) uint8.
        problems: of ``DAMAGES``, in the order in which it is damaged.
        rng: draws how much.
        strength: 0 to 3; the more, the worse.

    Raises:
        InvalidData: for a damage that does not exist.

    Example:
        >>> picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
        >>> damage(picture, ("rotation180",), np.random.default_rng(0)).tolist() == picture[::-1, ::-1].tolist()
        True
    """
    for name in problems:
        if name not in DAMAGES:
            raise InvalidData(f"Expected a damage out of {', '.join(DAMAGES)}, but got {name!r:.40}.")
        pixels = np.ascontiguousarray(_DAMAGE[name](pixels, rng, strength))
    return pixels


def _between(rng: np.random.Generator, strength: int, mild: float, strong: float) -> float:
    """A value nearer to the strong end the more strength there is, with some chance."""
    part = (strength + float(rng.uniform(0, 1))) / 4
    return mild + (strong - mild) * part


def _dark(pixels: Pixels, rng: np.random.Generator, strength: int) -> Pixels:
    return np.rint(pixels * _between(rng, strength, 0.35, 0.22)).astype(np.uint8)


def _overexposed(pixels: Pixels, rng: np.random.Generator, strength: int) -> Pixels:
    return np.asarray(255 - _dark(255 - pixels, rng, strength), np.uint8)


def _blurred(pixels: Pixels, rng: np.random.Generator, strength: int) -> Pixels:
    deviation = _between(rng, strength, 1.0, 2.2)
    return np.asarray(cv2.GaussianBlur(pixels, (0, 0), deviation, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def _noisy(pixels: Pixels, rng: np.random.Generator, strength: int) -> Pixels:
    noise = rng.normal(0, _between(rng, strength, 18, 42), pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def _framed(pixels: Pixels, rng: np.random.Generator, strength: int) -> Pixels:
    height, width = pixels.shape[:2]
    factor = _between(rng, strength, 1.5, 2.2)
    tall, wide = (min(max(side, _MAX_FRAME), round(side * factor)) for side in (height, width))
    grey = int(rng.integers(40, 216))
    frame = np.full((tall, wide, 3), grey, np.uint8)
    y, x = int(rng.integers(0, tall - height + 1)), int(rng.integers(0, wide - width + 1))
    frame[y : y + height, x : x + width] = pixels
    return frame


_DAMAGE = {
    "rotation90": lambda pixels, rng, strength: np.rot90(pixels, -1),
    "rotation180": lambda pixels, rng, strength: np.rot90(pixels, 2),
    "dark": _dark,
    "overexposure": _overexposed,
    "blur": _blurred,
    "noise": _noisy,
    "crop": _framed,
}
