"""How near things are, from where they stand."""

from __future__ import annotations

import numpy as np

from visenv.experts.classical.perception import Perception
from visenv.types import FloatArray


def nearness(perception: Perception) -> FloatArray:
    """How near everything is, as on a plain that is seen from above it: what stands lower is nearer.

    The ground is as near as its row is low; a thing is as near, all of it, as the row that it stands on.

    Args:
        perception: what is perceived in a view.

    Returns:
        (H, W) float32 in [0, 1].
    """
    height, width = perception.masks.shape
    rows = np.linspace(0, 1, height, dtype=np.float32) if height > 1 else np.zeros(1, np.float32)
    found = np.repeat(rows[:, None], width, axis=1)
    feet = [int(box[3]) for box in perception.masks.boxes.tolist()]
    # Nearer things are drawn last: where two overlap, the nearer one is seen.
    for index in sorted(range(len(feet)), key=lambda i: feet[i]):
        crop, (x, y) = np.asarray(perception.masks.crops[index]), perception.masks.offsets[index].tolist()
        window = found[y : y + crop.shape[0], x : x + crop.shape[1]]
        window[crop] = rows[min(feet[index], height) - 1]
    return found
