"""Pictures that can be damaged and mended."""

import numpy as np


def picture(seed=0, height=40, width=48):
    """A few bright boxes on a grey ground."""
    rng = np.random.default_rng(seed)
    pixels = np.full((height, width, 3), 90, np.uint8)
    for _ in range(6):
        x, y = rng.integers(0, width - 10), rng.integers(0, height - 10)
        pixels[y : y + 9, x : x + 9] = rng.integers(0, 256, 3)
    return pixels
