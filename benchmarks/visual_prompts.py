"""How many visual prompts are found and read? ``python -m benchmarks.visual_prompts`` prints a table of docs/vipact.md.

Circles, boxes and arrows with a letter are drawn on generated pictures of all difficulties, one each, and looked for as
drawn and after JPEG at quality 90, their letters read by templates and by networks.
"""

from __future__ import annotations

import argparse
import io
import string

import numpy as np
from PIL import Image

from visenv.datasets.perceptual import PerceptualDataset
from visenv.datasets.perceptual.marks import INK, KINDS, Mark, draw_marks
from visenv.experts.sight.letters import ReadByNetworks, ReadWord, read_by_templates
from visenv.experts.sight.marks import find_marks
from visenv.types import Pixels

SIZE = (50, 40)
"""Width and height of the boxes, pixels."""
NEAR = 4.0
"""Pixels by which a mark that counts as found may be off."""


def marked(number: int) -> tuple[Pixels, Mark, tuple[float, float]]:
    """A picture with one mark, the mark, and what it marks."""
    rng = np.random.default_rng(number)
    data = PerceptualDataset("val", number % 4)
    # The first of every eight questions is about counting: its picture has no marks of its own.
    pixels = data.get(8 * (number % 60)).image
    height, width = pixels.shape[:2]
    kind, ink = KINDS[number % 3], list(INK)[int(rng.integers(3))]
    letter = string.ascii_uppercase[int(rng.integers(26))]
    x, y = int(rng.integers(40, width - 60)), int(rng.integers(40, height - 50))
    if kind == "box":
        mark = Mark(kind, letter, (x, y, x + SIZE[0], y + SIZE[1]), ink)
        return draw_marks(pixels, [mark]), mark, (x + SIZE[0] / 2, y + SIZE[1] / 2)
    mark = Mark(kind, letter, (x, y), ink)
    return draw_marks(pixels, [mark]), mark, (x, y)


def compressed(pixels: Pixels) -> Pixels:
    """The picture after JPEG at quality 90."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    return np.asarray(Image.open(data))


def measure(count: int, read: ReadWord, jpeg: bool) -> tuple[int, int]:
    """How many of so many marks are found, and how many of these with the right letter."""
    found = right = 0
    for number in range(count):
        pixels, mark, middle = marked(number)
        seen = find_marks(compressed(pixels) if jpeg else pixels, read)
        near = [one for one in seen if one.kind == mark.kind and np.hypot(*np.subtract(one.point, middle)) < NEAR]
        found += bool(near)
        right += any(one.letter == mark.letter for one in near)
    return found, right


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=240, help="pictures")
    count = parser.parse_args().count
    readers: dict[str, ReadWord] = {"templates": read_by_templates, "rapidocr": ReadByNetworks()}
    print("| letters by | found | read | found after JPEG | read |")
    print("|---|---|---|---|---|")
    for name, read in readers.items():
        cells = [*measure(count, read, False), *measure(count, read, True)]
        print(f"| {name} | {' | '.join(f'{cell / count:.1%}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
