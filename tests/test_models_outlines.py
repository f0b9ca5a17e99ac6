"""Masks from coarse maps are what enlarging each map to the full frame gives."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from visenv.experts.models.outlines import letterbox_scale, masks_from_logits
from visenv.masks import Masks


def full_frame(maps, size, content=None, threshold=0.0):
    maps = torch.from_numpy(maps)[:, None]
    if content is not None:
        maps = maps[:, :, : content[1], : content[0]]
    width, height = size
    grown = torch.nn.functional.interpolate(maps, size=(height, width), mode="bilinear", align_corners=False)
    return grown[:, 0].numpy(), (grown[:, 0] > threshold).numpy()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 90), st.integers(1, 90), st.booleans())
def test_they_are_those_of_torch(seed, width, height, padded):
    rng = np.random.default_rng(seed)
    maps = rng.normal(-1.5, 1, (3, 16, 16)).astype(np.float32)
    content = (int(rng.integers(1, 17)), int(rng.integers(1, 17))) if padded else None
    values, expected = full_frame(maps, (width, height), content)
    made = masks_from_logits(maps, (width, height), content=content)
    certain = np.abs(values) > 1e-4
    np.testing.assert_array_equal(made.to_dense()[certain], expected[certain])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(1, 60))
def test_the_image_may_begin_inside_a_map_and_masks_end_at_their_boxes(seed, width, height):
    rng = np.random.default_rng(seed)
    maps = rng.normal(-0.5, 1, (3, 16, 16)).astype(np.float32)
    (left, top), (wide, high) = rng.uniform(0, 7, 2), rng.uniform(1, 8, 2)
    boxes = rng.uniform(-5, 60, (3, 4))
    boxes[:, 2:] = boxes[:, :2] + rng.uniform(0, 40, (3, 2))
    # The same by scipy: each pixel's place in the map, no further than the cells that the image touches.
    y = np.clip(top + (np.arange(height) + 0.5) * high / height - 0.5, math.floor(top), math.ceil(top + high) - 1)
    x = np.clip(left + (np.arange(width) + 0.5) * wide / width - 0.5, math.floor(left), math.ceil(left + wide) - 1)
    places = np.meshgrid(y, x, indexing="ij")
    values = np.stack([ndimage.map_coordinates(each, places, order=1) for each in maps])
    expected = (values > 0) & Masks.from_boxes(boxes, (height, width)).to_dense()
    made = masks_from_logits(maps, (width, height), content=(wide, high), origin=(left, top), boxes=boxes).to_dense()
    certain = np.abs(values) > 1e-4
    np.testing.assert_array_equal(made[certain], expected[certain])


def test_a_map_that_is_nowhere_above_is_an_empty_mask():
    made = masks_from_logits(np.full((2, 8, 8), -1.0), (33, 17))
    assert len(made) == 2
    assert made.areas.tolist() == [0, 0]
    assert made.shape == (17, 33)


def test_no_maps_are_no_masks():
    assert len(masks_from_logits(np.zeros((0, 8, 8)), (5, 6))) == 0


def test_a_small_thing_in_a_large_image_takes_a_small_crop():
    maps = np.full((1, 256, 256), -4.0)
    maps[0, 100:104, 50:53] = 4.0
    made = masks_from_logits(maps, (7680, 4320))
    # One cell is 30 by 16.875 pixels; half-way from 4 to -4 lies on the border between two cells.
    np.testing.assert_allclose(made.boxes[0], [1500, 1687.5, 1590, 1755], atol=0.5)
    assert made.crops[0].size < 200 * 150


@pytest.mark.parametrize(("size", "expected"), [((640, 480), (1.6, 1024, 768)), ((1, 5000), (0.2048, 1, 1024))])
def test_a_letterbox_keeps_the_shape(size, expected):
    assert letterbox_scale(size, 1024) == pytest.approx(expected)
