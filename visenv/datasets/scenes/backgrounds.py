"""What objects stand in front of: textures, clutter, light and noise.

Textures and noise are drawn once, from a fixed seed, as tiles that repeat without a seam; a scene takes a window of one
at an offset of its own. That is as varied as drawing them anew, and thousands of times cheaper.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from visenv.datasets.scenes.profiles import Profile
from visenv.types import FloatArray, Pixels

_TILE = 512
_SEED = 20_260
_NOISE_SIGMA = 36.0


def background(rng: np.random.Generator, profile: Profile) -> Pixels:
    """An empty scene, (H, W, 3) uint8 RGB: a base tone, a texture, and clutter."""
    width, height = profile.canvas
    grey = rng.uniform(120, 225)
    tone = grey * (1 + profile.saturation * rng.uniform(-1, 1, 3))
    contrast = rng.uniform(*profile.texture)
    texture = _window(rng, _texture(int(rng.integers(len(_TEXTURES))), (height, width)), (height, width))
    scale = contrast / 40.0
    channels = [cv2.convertScaleAbs(texture, alpha=scale, beta=level - 128 * scale) for level in tone.tolist()]
    image = _pixels(cv2.merge(channels))
    _scatter(rng, image, tone, contrast, profile)
    return image


def _scatter(rng: np.random.Generator, image: Pixels, tone: FloatArray, contrast: float, profile: Profile) -> None:
    """Draw strokes, blots and corners of a slightly different tone."""
    height, width = image.shape[:2]
    number = int(rng.integers(profile.clutter[0], profile.clutter[1] + 1))
    if not number:
        return
    low, high = profile.size
    places = rng.integers(0, (width, height), (number, 2))
    reach = rng.uniform(-0.8, 0.8, (number, 3, 2)) * rng.uniform(low, high, (number, 1, 1))
    shifts = np.copysign(rng.uniform(1.0, 2.2, number), rng.uniform(-1, 1, number)) * contrast
    colours = np.clip(tone * (1 + profile.saturation * rng.uniform(-1, 1, (number, 3))) + shifts[:, None], 0, 255)
    shapes = rng.integers(0, 3, number)
    corners = np.round(places[:, None, :] + reach).astype(np.int32)
    for place, corner, colour, shape in zip(places.tolist(), corners, colours.tolist(), shapes.tolist(), strict=True):
        if shape == 0:
            cv2.line(image, place, corner[0].tolist(), colour, 2, cv2.LINE_AA)
        elif shape == 1:
            cv2.circle(image, place, int(low * 0.2) + 1, colour, -1, cv2.LINE_AA)
        else:
            cv2.polylines(image, [corner], False, colour, 1, cv2.LINE_AA)


def finish(rng: np.random.Generator, image: Pixels, profile: Profile) -> Pixels:
    """Light the finished drawing from one side, blur it, and add noise."""
    height, width = image.shape[:2]
    if profile.lighting:
        angle, strength = rng.uniform(0, 2 * math.pi), rng.uniform(0, profile.lighting)
        across, down = math.cos(angle), math.sin(angle)
        fall = strength * 64 / (abs(across) + abs(down))
        columns = 64 - strength * 16 + np.linspace(-across * fall, across * fall, width)
        rows = 64 - strength * 16 + np.linspace(-down * fall, down * fall, height)
        gain = np.rint(rows).astype(np.uint8)[:, None] + np.rint(columns).astype(np.uint8)
        image = _pixels(cv2.multiply(image, cv2.merge((gain,) * 3), scale=1 / 128))
    sigma = rng.uniform(*profile.blur)
    if sigma >= 0.3:
        image = _pixels(cv2.GaussianBlur(image, (3, 3) if sigma < 0.7 else (5, 5), sigma))
    sigma = rng.uniform(*profile.noise)
    if sigma >= 0.5:
        weight = sigma / _NOISE_SIGMA
        grain = _window(rng, _noise((height, width)), (height, width))
        image = _pixels(cv2.addWeighted(image, 1.0, grain, weight, -128 * weight))
    return image


def _pixels(array: NDArray[Any]) -> Pixels:
    """What OpenCV returns for bytes is bytes, though its annotations leave it open."""
    return array.astype(np.uint8, copy=False)


def _window(rng: np.random.Generator, field: Pixels, size: tuple[int, int]) -> Pixels:
    y, x = rng.integers(0, _TILE, 2).tolist()
    window = field[y : y + size[0], x : x + size[1]]
    return _pixels(cv2.flip(window, 1)) if rng.random() < 0.5 else window


def _spread(tile: Pixels, size: tuple[int, int]) -> Pixels:
    """Repeat a tile until a window of the given height and width fits at every offset."""
    down, across = (-(-(side + _TILE) // _TILE) for side in size)
    return np.tile(tile, (down, across) + (1,) * (tile.ndim - 2))


@lru_cache(maxsize=4)
def _noise(size: tuple[int, int]) -> Pixels:
    rng = np.random.default_rng(np.random.SeedSequence(_SEED, spawn_key=(0,)))
    luma = rng.normal(0, 0.8 * _NOISE_SIGMA, (_TILE, _TILE, 1))
    chroma = rng.normal(0, 0.6 * _NOISE_SIGMA, (_TILE, _TILE, 3))
    return _spread(np.clip(np.round(128 + luma + chroma), 0, 255).astype(np.uint8), size)


@lru_cache(maxsize=64)
def _texture(number: int, size: tuple[int, int]) -> Pixels:
    """(H, W) uint8: a texture of mean 128 and standard deviation 40."""
    rng = np.random.default_rng(np.random.SeedSequence(_SEED, spawn_key=(1, number)))
    field = _TEXTURES[number](rng)
    field = (field - field.mean()) / (field.std() + 1e-9)
    return _spread(np.clip(np.round(128 + 40 * field), 0, 255).astype(np.uint8), size)


def _cloud(rng: np.random.Generator, sigma: float, stretch: float = 1.0) -> NDArray[np.float64]:
    field = ndimage.gaussian_filter(rng.normal(size=(_TILE, _TILE)), (sigma, sigma * stretch), mode="wrap")
    return field / field.std()


def _plaster(rng: np.random.Generator) -> NDArray[np.float64]:
    return _cloud(rng, 24) + 0.25 * _cloud(rng, 2)


def _mottled(rng: np.random.Generator) -> NDArray[np.float64]:
    return _cloud(rng, 32) + 0.7 * _cloud(rng, 9) + 0.3 * _cloud(rng, 1.5)


def _grass(rng: np.random.Generator) -> NDArray[np.float64]:
    return 0.6 * _cloud(rng, 5.0, 0.16) + 0.8 * _cloud(rng, 20)


def _planks(rng: np.random.Generator) -> NDArray[np.float64]:
    rows = np.arange(_TILE) // 64
    boards = rng.normal(size=_TILE // 64)[rows][:, None]
    seams = np.where(np.arange(_TILE) % 64 < 2, -3.0, 0.0)[:, None]
    return 0.7 * boards + seams + 0.5 * _cloud(rng, 0.8, 24)


def _tiles(rng: np.random.Generator) -> NDArray[np.float64]:
    index = np.arange(_TILE) // 32
    shades = rng.normal(size=(_TILE // 32, _TILE // 32))[index][:, index]
    seam = np.arange(_TILE) % 32 < 2
    return 0.5 * shades + np.where(seam[:, None] | seam[None, :], -2.0, 0.0) + 0.2 * _cloud(rng, 2)


def _cloth(rng: np.random.Generator) -> NDArray[np.float64]:
    wave = np.sin(np.arange(_TILE) * 2 * np.pi / 8)
    return 0.6 * wave[:, None] + 0.6 * wave[None, :] + 0.5 * _cloud(rng, 30)


def _paper(rng: np.random.Generator) -> NDArray[np.float64]:
    return _cloud(rng, 60) + 0.12 * _cloud(rng, 1)


_TEXTURES = (_plaster, _mottled, _grass, _planks, _tiles, _cloth, _paper)
