"""Make docs/images/scenes.png: samples of the generated data set with their queries, and their truth drawn in.

Run from the repository root: ``python scripts/make_scenes_figure.py``.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from visenv.datasets.scenes import COLOURS, make
from visenv.datasets.scenes.kinds import MATERIALS
from visenv.types import BoxesTruth, MaskTruth, Pixels, PointsTruth, Sample

TILE = 272
CAPTION = 24
GAP = 6
MARK = (220, 0, 90)
SHOWN = (
    (("reasonseg", 0, 75), ("reasonseg", 1, 100), ("reasonseg", 2, 67), ("reasonseg", 3, 26)),
    (("grefseg", 1, 52), ("refseg", 1, 20), ("refcount", 1, 22), ("densedet", 1, 4)),
)
"""Rows of (family, difficulty, number in ``val``)."""


def tile(sample: Sample) -> Pixels:
    """A sample at the figure's size, its truth in white, its query above it."""
    truth, picture = sample.truth, sample.image
    if isinstance(truth, BoxesTruth):
        picture = np.ascontiguousarray(picture[:420, :420])
    scale = TILE / picture.shape[0]
    resized = cv2.resize(picture, (TILE, TILE), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    picture = resized.astype(np.uint8, copy=False)
    if isinstance(truth, MaskTruth) and truth.target is not None:
        for mask in truth.target.to_dense():
            large = cv2.resize(mask.astype(np.uint8), (TILE, TILE), interpolation=cv2.INTER_NEAREST)
            outlines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(picture, outlines, -1, (255, 255, 255), 3)
            cv2.drawContours(picture, outlines, -1, MARK, 1)
    elif isinstance(truth, PointsTruth):
        for x, y in np.round(truth.points * scale).astype(int).tolist():
            cv2.circle(picture, (x, y), 4, (255, 255, 255), -1, cv2.LINE_AA)
            cv2.circle(picture, (x, y), 3, MARK, -1, cv2.LINE_AA)
    elif isinstance(truth, BoxesTruth):
        for x0, y0, x1, y1 in np.round(truth.boxes * scale).astype(int).tolist():
            cv2.rectangle(picture, (x0 - 1, y0 - 1), (x1, y1), MARK, 1)
    caption = np.full((CAPTION, TILE, 3), 255, dtype=np.uint8)
    size = min(0.42, 0.42 * TILE / max(cv2.getTextSize(sample.query, cv2.FONT_HERSHEY_SIMPLEX, 0.42, 1)[0][0] + 8, 1))
    cv2.putText(caption, sample.query, (2, 16), cv2.FONT_HERSHEY_SIMPLEX, size, (20, 20, 20), 1, cv2.LINE_AA)
    return np.concatenate([caption, picture])


def figure() -> Pixels:
    """All tiles, with white between them."""
    rows = []
    for row in SHOWN:
        tiles = [tile(make(family=family, split="val", difficulty=difficulty).get(n)) for family, difficulty, n in row]
        framed = [cv2.copyMakeBorder(t, GAP, 0, 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255)) for t in tiles]
        rows.append(np.concatenate(framed, axis=1))
    return np.concatenate(rows)


def main() -> None:
    """Write the figure, with few enough colours to stay small."""
    path = Path(__file__).parent / "images" / "scenes.png"
    path.parent.mkdir(exist_ok=True)
    picture = Image.fromarray(figure())
    common = picture.quantize(100, method=Image.Quantize.MEDIANCUT).getpalette() or []
    vivid = [round(level * shade) for shade in (1, 0.75, 0.3) for rgb in COLOURS.values() for level in rgb]
    palette = Image.new("P", (1, 1))
    palette.putpalette(common + vivid + [level for rgb in MATERIALS.values() for level in rgb] + [255, 255, 255, *MARK])
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
