"""Recognising a silhouette: log-polar maps, compared with a bank at every rotation at once.

A silhouette is sampled on rings around its centroid, in units of its own size, so that position and scale drop out; a
turn is then a cyclic shift along the angle, and the correlation at all shifts is one product in the Fourier domain
(Reddy and Chatterji 1996 use the same maps for registration). Each kind is scored by its best drawing at its best turn.
Drawings that stand upright in the bank are compared at turns of up to ``UPRIGHT_DEGREES`` alone. So few frequencies and
turns are needed that matrix products are several times as fast as fast Fourier transforms.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

import cv2
import numpy as np

from visenv.types import BoolArray, FloatArray, IntArray

RINGS = 12
ANGLES = 64
REACH = 2.6
"""Radius of the outermost ring, in radii of the disc of the same area."""
HARMONICS = 16
"""Angular frequencies that are kept: finer detail is noise at the working resolution."""
UPRIGHT_DEGREES = 40.0
BLOCK = 12
"""Silhouettes compared at once: few enough that linear algebra libraries start no threads for any of the products."""
BANK_FILE = "silhouettes.npz"


@dataclass(frozen=True, eq=False)
class _Group:
    """Drawings that are compared at the same turns, those of one kind side by side."""

    spectra: FloatArray
    """(HARMONICS, 2 * RINGS, B) float32: real parts of the rings, then imaginary ones."""
    kinds: IntArray
    """(G,) the kinds that have drawings here."""
    starts: IntArray
    """(G,) where the drawings of each begin."""
    even: FloatArray
    """(T, HARMONICS) float32: what real parts add to the correlation at each turn, and at its opposite."""
    odd: FloatArray
    """(T, HARMONICS) float32: what imaginary parts take from it, and add at the opposite turn."""


@dataclass(frozen=True, eq=False)
class Bank:
    """Silhouettes to compare with."""

    names: tuple[str, ...]
    """K kinds, in the lexicon's words."""
    spectra: FloatArray
    """(B, RINGS, HARMONICS) complex64: unit-norm log-polar maps of the drawings, along the angle in Fourier space."""
    owners: IntArray
    """(B,) index of each drawing's kind."""
    free: BoolArray
    """(B,) whether a drawing may be seen at any turn; any other stands upright."""

    def only(self, chosen: BoolArray) -> Bank:
        """The bank with some of its drawings."""
        return Bank(self.names, self.spectra[chosen], self.owners[chosen], self.free[chosen])

    @cached_property
    def groups(self) -> tuple[_Group, ...]:
        """The drawings as they are compared: upright ones, and those at any turn."""
        upright = int(UPRIGHT_DEGREES * ANGLES / 360)
        choices = ((~self.free, upright), (self.free, ANGLES // 2))
        return tuple(_group(self.only(chosen), furthest) for chosen, furthest in choices if chosen.any())


@dataclass(frozen=True, eq=False)
class Banks:
    """What silhouettes are compared with."""

    whole: Bank
    """Drawings that show all of the object: for what stands alone."""
    cut: Bank
    """Drawings of which a part is hidden behind an edge: besides, for what touches something else or the border."""


def polar_map(mask: BoolArray) -> FloatArray:
    """A silhouette on rings around its centroid.

    Args:
        mask: (h, w), with at least one pixel set.

    Returns:
        (RINGS, ANGLES) float32 in [0, 1].
    """
    filled = mask.view(np.uint8)
    moments = cv2.moments(filled, binaryImage=True)
    area = moments["m00"]
    radius = math.sqrt(area / math.pi) * REACH
    smoothing = max(radius / RINGS / 2.5, 0.3)
    pad = math.ceil(3 * smoothing)
    padded = cv2.copyMakeBorder(filled, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
    soft = cv2.GaussianBlur(padded.astype(np.float32), (0, 0), smoothing)
    columns, rows = _rings()
    map_x = (moments["m10"] / area + pad + radius * columns).astype(np.float32)
    map_y = (moments["m01"] / area + pad + radius * rows).astype(np.float32)
    return np.asarray(cv2.remap(soft, map_x, map_y, cv2.INTER_LINEAR, borderValue=0.0))


@cache
def _rings() -> tuple[FloatArray, FloatArray]:
    """The columns and rows of the samples on rings of radius up to 1 around the origin, each (RINGS, ANGLES)."""
    angles = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    # Rings are closer together outside of the middle, where silhouettes differ: the square root spreads area evenly.
    radii = np.sqrt((np.arange(RINGS) + 0.5) / RINGS)[:, None]
    return radii * np.cos(angles), radii * np.sin(angles)


def spectrum(maps: FloatArray) -> FloatArray:
    """Unit-norm maps without their mean, in Fourier space along the angle.

    Args:
        maps: (N, RINGS, ANGLES).

    Returns:
        (N, RINGS, HARMONICS) complex64.
    """
    centred = np.asarray(maps - maps.mean(axis=(1, 2), keepdims=True), dtype=np.float32)
    waves = centred @ _waves()
    norms = np.sqrt(((waves * waves) @ _WEIGHTS).sum(axis=1) / ANGLES)
    waves /= np.maximum(norms, 1e-9)[:, None, None]
    return waves.view(np.complex64)


_WEIGHTS = np.repeat([1.0, *[2.0] * (HARMONICS - 1)], 2).astype(np.float32)
"""(2 * HARMONICS,) how often each part of a frequency counts: all but the constant stand for their conjugates too."""


@cache
def _waves() -> FloatArray:
    """(ANGLES, 2 * HARMONICS) float32: real and imaginary part of each frequency's wave, by turns."""
    phases = np.outer(np.arange(ANGLES), np.arange(HARMONICS)) * (-2j * np.pi / ANGLES)
    return np.exp(phases).astype(np.complex64).view(np.float32)


@cache
def bank_digest() -> str:
    """A digest of the banks' file: it changes with what is recognised."""
    data = resources.files("visenv.experts.classical").joinpath(BANK_FILE).read_bytes()
    return hashlib.blake2b(data, digest_size=6).hexdigest()


@cache
def load_banks() -> Banks:
    """The banks that ship with the package."""
    path = resources.files("visenv.experts.classical") / BANK_FILE
    with path.open("rb") as file, np.load(file, allow_pickle=False) as data:
        maps = data["maps"].astype(np.float32) / 255
        cut = data["cut"]
        names = tuple(str(name) for name in data["names"])
        bank = Bank(names, spectrum(maps), data["owners"].astype(np.int64), data["free"])
    return Banks(bank.only(~cut), bank.only(cut))


def _group(bank: Bank, furthest: int) -> _Group:
    """The drawings of a bank, compared at up to so many steps of a turn to either side."""
    order = np.argsort(bank.owners, kind="stable")
    kinds, starts = np.unique(bank.owners[order], return_index=True)
    rings = bank.spectra[order].transpose(2, 1, 0)
    phases = np.outer(np.arange(furthest + 1), np.arange(HARMONICS)) * (2 * np.pi / ANGLES)
    weights = _WEIGHTS[::2] / ANGLES
    return _Group(
        np.concatenate([rings.real, rings.imag], axis=1),
        kinds,
        starts,
        (np.cos(phases) * weights).astype(np.float32),
        (np.sin(phases) * weights).astype(np.float32),
    )


def correlate(maps: FloatArray, bank: Bank) -> FloatArray:
    """The best correlation of each silhouette with each kind.

    Args:
        maps: (N, RINGS, ANGLES).
        bank: what to compare with.

    Returns:
        (N, K) in [-1, 1]; -1 for a kind of which the bank has no drawing.
    """
    result = np.full((len(maps), len(bank.names)), -1.0)
    for start in range(0, len(maps), BLOCK):
        spectra = spectrum(maps[start : start + BLOCK]).transpose(2, 0, 1)
        # Multiplied with the stacked real and imaginary parts of a drawing, these give those of the product of the one
        # spectrum with the other's conjugate.
        for_real = np.concatenate([spectra.real, spectra.imag], axis=2)
        for_imaginary = np.concatenate([spectra.imag, -spectra.real], axis=2)
        parts = np.stack([for_real, for_imaginary], axis=1)
        for group in bank.groups:
            best = _best_turns(parts, group)
            rows = result[start : start + BLOCK]
            rows[:, group.kinds] = np.maximum(rows[:, group.kinds], np.maximum.reduceat(best, group.starts, axis=1))
    return result


def _best_turns(parts: FloatArray, group: _Group) -> FloatArray:
    """The correlations (N, B) of silhouettes with drawings at the best turn.

    Args:
        parts: (HARMONICS, 2, N, 2 * RINGS) float32.
        group: B drawings.
    """
    harmonics, _, count, rings = parts.shape
    products = np.matmul(parts.reshape(harmonics, 2 * count, rings), group.spectra)
    products = products.reshape(harmonics, 2, count, -1).transpose(1, 2, 0, 3)
    scores = np.abs(np.matmul(group.odd, products[1]))
    scores += np.matmul(group.even, products[0])
    return np.asarray(scores.max(axis=1))
