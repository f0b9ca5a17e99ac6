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

SIZES = (22.0, 72.0)
VARIANTS = 4
SEED = 20240601


def build() -> dict[str, np.ndarray]:
    """The bank's arrays, as they are stored."""
    rng = np.random.default_rng(SEED)
    maps, owners, free, names = [], [], [], []
    for kind in KINDS.values():
        (name,), _ = lexicon.noun_at(kind.name.split(), 0)
        names.append(name)
        for size in SIZES:
            for variant in range(VARIANTS):
                mask = draw_object(kind.name, size, rng=rng if variant else None, with_parts=False).mask
                maps.append(np.rint(polar_map(mask) * 255).astype(np.uint8))
                owners.append(len(names) - 1)
                free.append(kind.free_rotation)
    return {
        "maps": np.stack(maps),
        "owners": np.array(owners, dtype=np.uint8),
        "free": np.array(free),
        "names": np.array(names),
    }


def main() -> None:
    """Write the bank beside the experts that read it."""
    path = Path(__file__).parents[1] / "experts" / "classical" / BANK_FILE
    np.savez_compressed(path, **build())
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
