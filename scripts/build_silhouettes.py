"""Build the bank of silhouettes that ``visenv.experts.classical`` recognises objects by.

Draws every kind of the ``scenes`` data set alone, a few times with other proportions and sizes, and stores the
log-polar maps of its silhouettes. Run it again when the drawings change::

    python -m scripts.build_silhouettes
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from visenv.datasets.scenes.kinds import KINDS, draw_object
from visenv.experts.classical import lexicon
from visenv.experts.classical.shape import BANK_FILE, polar_map

SIZES = (16.0, 24.0, 64.0)
VARIANTS = 2
CUT_SIZE = 64.0
CUT_DIRECTIONS = 8
CUT_SHARES = (0.17, 0.34)
"""Shares of a silhouette that are hidden in the bank's cut drawings."""
SEED = 20240601


def cuts(mask: np.ndarray) -> list[np.ndarray]:
    """A silhouette with a part hidden behind a straight edge, from each of some directions."""
    ys, xs = np.nonzero(mask)
    pieces = []
    for angle in np.arange(CUT_DIRECTIONS) * (2 * np.pi / CUT_DIRECTIONS):
        along = xs * np.cos(angle) + ys * np.sin(angle)
        for share in CUT_SHARES:
            piece = np.zeros_like(mask)
            seen = along >= np.quantile(along, share)
            piece[ys[seen], xs[seen]] = True
            pieces.append(piece)
    return pieces


def build() -> dict[str, np.ndarray]:
    """The bank's arrays, as they are stored."""
    rng = np.random.default_rng(SEED)
    maps, owners, free, cut, names = [], [], [], [], []
    for kind in KINDS.values():
        (name,), _ = lexicon.noun_at(kind.name.split(), 0)
        names.append(name)
        for size in SIZES:
            for variant in range(VARIANTS):
                mask = draw_object(kind.name, size, rng=rng if variant else None, with_parts=False).mask
                pieces = cuts(mask) if size == CUT_SIZE and not variant else []
                for index, silhouette in enumerate([mask, *pieces]):
                    maps.append(np.rint(polar_map(silhouette) * 255).astype(np.uint8))
                    owners.append(len(names) - 1)
                    free.append(kind.free_rotation)
                    cut.append(index > 0)
    return {
        "maps": np.stack(maps),
        "owners": np.array(owners, dtype=np.uint8),
        "free": np.array(free),
        "cut": np.array(cut),
        "names": np.array(names),
    }


def main() -> None:
    """Write the bank beside the experts that read it."""
    path = Path(__file__).parents[1] / "experts" / "classical" / BANK_FILE
    np.savez_compressed(path, **build())
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
