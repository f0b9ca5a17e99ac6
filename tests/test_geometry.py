"""Boxes and transforms: by hand, and properties that any choice of numbers has to keep."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from visenv.errors import InvalidData
from visenv.geometry import (
    as_boxes,
    box_areas,
    box_iou,
    check_transform,
    clip_boxes,
    compose,
    footprint,
    hull,
    identity,
    intersection_boxes,
    invert,
    map_boxes,
    map_points,
    scaling,
    translation,
    valid_boxes,
)
from visenv.masks import Masks

COORDINATES = st.floats(-1000, 1000)
ANY_BOXES = hnp.arrays(float, st.tuples(st.integers(0, 6), st.just(4)), elements=COORDINATES)


@st.composite
def transforms(draw):
    sx, sy = (draw(st.sampled_from([-2.0, 0.25, 0.5, 1.0, 3.0])) for _ in range(2))
    return compose(scaling(sx, sy), translation(draw(COORDINATES), draw(COORDINATES)))


def test_box_iou_by_hand():
    a = [[0, 0, 2, 2], [0, 0, 0, 5], [3, 3, 1, 1]]
    b = [[1, 1, 3, 3], [0, 0, 2, 2], [2, 0, 4, 2], [1, 1, 1, 1]]
    expected = [[1 / 7, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert box_iou(a, b).tolist() == expected
    assert box_iou([], b).shape == (0, 4)
    assert box_iou(a, []).shape == (3, 0)


@given(st.data())
def test_the_iou_of_whole_boxes_is_that_of_their_pixels(data):
    corners = hnp.arrays(int, (3, 4), elements=st.integers(0, 9))
    boxes = np.sort(data.draw(corners).reshape(3, 2, 2), axis=1).reshape(3, 4)
    masks = Masks.from_boxes(boxes, (9, 9))
    assert np.array_equal(box_iou(boxes, boxes), masks.iou(masks))
    assert np.array_equal(box_areas(boxes), masks.areas)


def test_areas_clipping_hull_and_validity_by_hand():
    boxes = [[-2, 1, 3, 4], [5, 5, 5, 9], [8, 8, 6, 6], [0, 0, np.inf, 1]]
    assert box_areas(boxes[:3]).tolist() == [15, 0, 0]
    assert valid_boxes(boxes).tolist() == [True, False, False, False]
    assert clip_boxes(boxes, 4, 3).tolist() == [[0, 1, 3, 3], [4, 3, 4, 3], [4, 3, 4, 3], [0, 0, 4, 1]]
    assert hull(boxes[:2]).tolist() == [-2, 1, 5, 9]
    with pytest.raises(InvalidData, match="hull"):
        hull([])


@given(ANY_BOXES, ANY_BOXES)
def test_intersections_lie_in_both(a, b):
    common = intersection_boxes(a, b)
    assert common.shape == (len(a), len(b), 4)
    assert (common[..., :2] >= a[:, None, :2]).all()
    assert (common[..., 2:] <= b[None, :, 2:]).all()
    iou = box_iou(a, b)
    assert ((iou >= 0) & (iou <= 1 + 1e-9)).all()
    assert np.allclose(iou, box_iou(b, a).T)


def test_boxes_of_other_shapes():
    assert as_boxes([]).shape == (0, 4)
    assert as_boxes([1, 2, 3, 4]).tolist() == [[1, 2, 3, 4]]
    for wrong in ([[10**400, 0, 1, 1]], [[1, 2, 3]], np.zeros((2, 2, 4)), "box", [[1, 2, 3, "x"]], [[1, 2, 3], [4]]):
        with pytest.raises(InvalidData, match="boxes"):
            as_boxes(wrong)


def test_a_patch_of_an_upscaled_patch():
    # A patch at (100, 50), enlarged four times, and of that a patch at (40, 8).
    to_root = compose(translation(40, 8), scaling(1 / 4), translation(100, 50))
    assert map_points(to_root, [[0, 0], [4, 8]]).tolist() == [[110, 52], [111, 54]]
    assert footprint(to_root, 80, 40).tolist() == [110, 52, 130, 62]
    assert np.array_equal(to_root, translation(100, 50) @ scaling(0.25) @ translation(40, 8))


@given(transforms(), transforms(), hnp.arrays(float, (3, 2), elements=COORDINATES))
def test_transforms_compose_and_invert(first, second, points):
    both = map_points(second, map_points(first, points))
    assert np.allclose(map_points(compose(first, second), points), both, atol=1e-6)
    assert np.allclose(map_points(invert(first), map_points(first, points)), points, atol=1e-6)
    assert np.array_equal(map_points(compose(first, identity()), points), map_points(first, points))
    assert invert(first)[2].tolist() == [0, 0, 1]


@given(transforms(), hnp.arrays(float, (4, 2, 2), elements=COORDINATES))
def test_mapped_boxes_hold_their_mapped_corners(transform, corners):
    boxes = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1)
    mapped = map_boxes(transform, boxes)
    for box, where in zip(boxes, mapped, strict=True):
        ends = map_points(transform, [box[:2], box[2:]])
        assert where.tolist() == [*ends.min(axis=0), *ends.max(axis=0)]


def test_a_box_without_an_end_stays_one():
    mapped = map_boxes([[2, 0, 1], [0, 2, 3], [0, 0, 1]], [[0, 0, np.inf, 4]])
    assert mapped.tolist() == [[1, 3, np.inf, 11]]


def test_a_turn_maps_a_box_to_the_box_around_it():
    quarter_turn = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    assert map_boxes(quarter_turn, [[1, 2, 4, 3]]).tolist() == [[-3, 1, -2, 4]]
    eighth = np.array([[1, -1, 0], [1, 1, 0], [0, 0, 1.0]])
    assert footprint(eighth, 2, 2).tolist() == [-2, 0, 2, 4]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.eye(2), "shape"),
        ([[1, 0, 0], [0, np.inf, 0], [0, 0, 1]], "finite"),
        ([[1, 0, 0], [0, 1, 0], [0, 1, 1]], "affine"),
        ([[1, 2, 0], [2, 4, 0], [0, 0, 1]], "inverted"),
        ("turn", "numbers"),
    ],
)
def test_transforms_that_are_none(wrong, message):
    with pytest.raises(InvalidData, match=message):
        check_transform(wrong)


def test_points_of_another_shape():
    with pytest.raises(InvalidData, match="points"):
        map_points(identity(), [1, 2])
    assert map_points(identity(), []).shape == (0, 2)
