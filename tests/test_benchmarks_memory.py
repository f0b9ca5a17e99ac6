"""An episode holds little beyond its input: patches are views, and what is drawn is not kept."""

import numpy as np
import pytest

from benchmarks import bench_memory
from visenv.images import Provenance, RootPixels
from visenv.workspace import NamedImage, Overlay, Picture

BOUND_MB = 12 / 4
"""What an episode on 1920x1080 may take, for a picture of a quarter of the pixels."""
ENLARGED_MB = 16 * 3 * (270 + 315) * 270 / 1e6
"""The pixels of two enlarged patches, 270x270 and 315x270 with their overlaps."""


@pytest.fixture(scope="module")
def rows():
    return bench_memory.run(quick=True)


def test_ten_turns_stay_within_the_bound(rows):
    assert rows[0]["benchmark"] == "memory of 10 turns"
    assert rows[0]["ours_mb"] < BOUND_MB
    assert rows[0]["alternative_mb"] > 4 * BOUND_MB  # so much was cut out or drawn on the way
    assert rows[0]["ratio"] == rows[0]["alternative_mb"] / rows[0]["ours_mb"]


def test_enlarged_patches_take_their_own_pixels_and_little_else(rows):
    assert rows[1]["benchmark"] == "memory of 10 turns, 2 patches enlarged"
    assert ENLARGED_MB < rows[1]["ours_mb"] < ENLARGED_MB + BOUND_MB


def test_drawn_pixels_live_as_long_as_somebody_holds_them():
    pixels = np.zeros((40, 60, 3), np.uint8)
    image = NamedImage("img_0", pixels, Provenance(RootPixels(pixels)))
    picture = Picture("img_0_visual", image, Overlay(points=np.array([[10.0, 10.0]])))
    first = picture.pixels
    assert picture.pixels is first
    as_drawn = first.copy()
    first[:] = 0  # which a picture drawn anew does not show
    del first
    np.testing.assert_array_equal(picture.pixels, as_drawn)
