"""Recognising a silhouette: log-polar maps, compared with a bank at every rotation at once.

A silhouette is sampled on rings around its centroid, in units of its own size, so that position and scale drop out; a
turn is then a cyclic shift along the angle, and the correlation at all shifts is one product in the Fourier domain
(Reddy and Chatterji 1996 use the same maps for registration). Each kind is scored by its best drawing at its best turn.
Drawings that stand upright in the bank are compared at turns of up to ``UPRIGHT_DEGREES`` alone.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
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
SAMPLED_SIDE = 48.0
"""Pixels to which the square root of a silhouette's area is brought before sampling."""
PRODUCT = 30_000
"""Multiplications in one matrix product at most: few enough that linear algebra libraries start no threads for it."""
BANK_FILE = "silhouettes.npz"


@dataclass(frozen=True, eq=False)
class Bank:
    """Silhouettes to compare with."""

    names: tuple[str, ...]
    """K kinds, in the lexicon's words."""
    spectra: FloatArray
    """(B, RINGS, HARMONICS) complex64: unit-norm log-polar maps of the drawings, along the angle in Fourier space."""
    owners: IntArray
    """(B,) index of each drawing's kind."""
    turns: BoolArray
    """(B, ANGLES) turns at which a drawing may be seen."""

    def only(self, chosen: BoolArray) -> Bank:
        """The bank with some of its drawings."""
        return Bank(self.names, self.spectra[chosen], self.owners[chosen], self.turns[chosen])


@dataclass(frozen=True, eq=False)
class Banks:
    """What silhouettes are compared with."""

    whole: Bank
    """Drawings that show all of the object: for what stands alone."""
    cut: Bank
    """These and drawings of which a part is hidden behind an edge: for what touches something else or the border."""


def polar_map(mask: BoolArray) -> FloatArray:
    """A silhouette on rings around its centroid.

    Args:
        mask: (h, w), with at least one pixel set.

    Returns:
        (RINGS, ANGLES) float32 in [0, 1].
    """
    filled = mask.astype(np.uint8)
    moments = cv2.moments(filled, binaryImage=True)
    area = moments["m00"]
    centre = np.array([moments["m10"], moments["m01"]]) / area
    radius = float(np.sqrt(area / np.pi)) * REACH
    angles = np.arange(ANGLES) * (2 * np.pi / ANGLES)
    # Rings are closer together outside of the middle, where silhouettes differ: the square root spreads area evenly.
    radii = np.sqrt((np.arange(RINGS) + 0.5) / RINGS) * radius
    smoothing = max(radius / RINGS / 2.5, 0.3)
    pad = int(np.ceil(3 * smoothing))
    soft = cv2.GaussianBlur(np.pad(filled, pad).astype(np.float32), (0, 0), smoothing)
    map_x = (centre[0] + pad + radii[:, None] * np.cos(angles)).astype(np.float32)
    map_y = (centre[1] + pad + radii[:, None] * np.sin(angles)).astype(np.float32)
    return np.asarray(cv2.remap(soft, map_x, map_y, cv2.INTER_LINEAR, borderValue=0.0))


def spectrum(maps: FloatArray) -> FloatArray:
    """Unit-norm maps without their mean, in Fourier space along the angle.

    Args:
        maps: (N, RINGS, ANGLES).

    Returns:
        (N, RINGS, HARMONICS) complex64.
    """
    centred = maps - maps.mean(axis=(1, 2), keepdims=True)
    spectra = np.fft.rfft(centred, axis=2)[:, :, :HARMONICS]
    weights = np.full(HARMONICS, 2.0)
    weights[0] = 1.0
    norms = np.sqrt((np.abs(spectra) ** 2 * weights).sum(axis=(1, 2), keepdims=True) / ANGLES)
    return np.asarray(spectra / np.maximum(norms, 1e-9), dtype=np.complex64)


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
        free = data["free"]
        owners = data["owners"].astype(np.int64)
        cut = data["cut"]
        names = tuple(str(name) for name in data["names"])
    degrees = np.arange(ANGLES) * (360 / ANGLES)
    upright = np.minimum(degrees, 360 - degrees) <= UPRIGHT_DEGREES
    bank = Bank(names, spectrum(maps), owners, free[:, None] | upright)
    return Banks(bank.only(~cut), bank)


def correlate(maps: FloatArray, bank: Bank) -> FloatArray:
    """The best correlation of each silhouette with each kind.

    Args:
        maps: (N, RINGS, ANGLES).
        bank: what to compare with.

    Returns:
        (N, K) in [-1, 1].
    """
    few = max(1, PRODUCT // (RINGS * len(bank.owners)))
    parts = [_correlate_few(maps[start : start + few], bank) for start in range(0, len(maps), few)]
    return np.concatenate(parts) if parts else np.zeros((0, len(bank.names)))


def _correlate_few(maps: FloatArray, bank: Bank) -> FloatArray:
    spectra = spectrum(maps)
    product = np.matmul(spectra.transpose(2, 0, 1), bank.spectra.conj().transpose(2, 1, 0))
    scores = np.fft.irfft(product.transpose(1, 2, 0), n=ANGLES, axis=2)
    best = np.where(bank.turns, scores, -1.0).max(axis=2)
    result = np.full((len(maps), len(bank.names)), -1.0)
    for kind in range(len(bank.names)):
        result[:, kind] = best[:, bank.owners == kind].max(axis=1)
    return result
