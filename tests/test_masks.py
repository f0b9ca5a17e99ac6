"""Masks: every form agrees with full frames, and nothing that comes from outside reaches C code unchecked."""

import copy
import json
import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from visenv.errors import InvalidData
from visenv.masks import Masks, as_masks
from visenv.rle import canonical, compress, decompress

SIDES = st.integers(1, 12)


@st.composite
def frames(draw, shape=None):
    height, width = shape or (draw(SIDES), draw(SIDES))
    return draw(hnp.arrays(bool, (draw(st.integers(0, 4)), height, width), elements=st.booleans(), fill=st.just(False)))


@st.composite
def two_sets(draw):
    shape = draw(SIDES), draw(SIDES)
    return draw(frames(shape=shape)), draw(frames(shape=shape))


def stored(dense):
    """The same masks as run lengths whose pixels were never decoded."""
    return Masks.from_coco_rles(Masks.from_dense(dense).to_coco_rles(), dense.shape[1:])


def frame_iou(a, b):
    common = (a[:, None] & b[None]).sum((2, 3))
    union = (a[:, None] | b[None]).sum((2, 3))
    return np.where(union > 0, common / np.maximum(union, 1), 0.0)


# --- by hand --------------------------------------------------------------------------------------------------------


def test_a_mask_by_hand():
    dense = np.array([[0, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], bool)
    masks = Masks.from_dense(dense)
    assert (masks.shape, len(masks)) == ((3, 4), 1)
    assert masks.areas.tolist() == [3]
    assert masks.areas.dtype == np.int64
    assert masks.boxes.tolist() == [[1, 0, 3, 2]]
    assert masks.boxes.dtype == np.float64
    assert masks.crops[0].tolist() == [[True, True], [True, False]]
    assert masks.offsets.tolist() == [[1, 0]]
    # Columns 0 to 3, top to bottom: 000 110 100 000, so runs of 3, 2, 1, 1 and 5.
    assert masks.to_coco_rles() == [{"size": [3, 4], "counts": compress(np.array([3, 2, 1, 1, 5]), (3, 4)).decode()}]
    assert Masks.from_coco_rles({"size": [3, 4], "counts": [3, 2, 1, 1, 5]}) == masks


def test_iou_by_hand():
    masks = Masks.from_boxes([[0, 0, 4, 2], [2, 0, 6, 2], [5, 5, 6, 6], [0, 0, 0, 0]], (6, 6))
    expected = [[1, 4 / 12, 0, 0], [4 / 12, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    assert masks.iou(masks).tolist() == expected
    assert stored(masks.to_dense()).iou(stored(masks.to_dense())).tolist() == expected
    assert masks.intersection_areas(masks)[0].tolist() == [8, 4, 0, 0]


def test_polygons_follow_the_coco_convention():
    square = [[1, 1, 3, 1, 3, 3, 1, 3]]
    two_parts = [[[0, 0], [1, 0], [1, 1], [0, 1]], [[3, 3], [4, 3], [4, 4], [3, 4]]]
    masks = Masks.from_polygons([square, two_parts, []], (4, 4))
    assert masks.areas.tolist() == [4, 2, 0]
    assert masks.boxes.tolist() == [[1, 1, 3, 3], [0, 0, 4, 4], [0, 0, 0, 0]]
    assert Masks.from_polygons([[[-50, -50, 80, -50, 80, 80, -50, 80]]], (4, 4)).areas.tolist() == [16]


def test_boxes_cover_the_pixels_whose_centres_are_inside():
    masks = Masks.from_boxes([[0.5, 0, 2.5, 1], [-3, -3, 2, 2], [2, 2, 1, 1], [9, 9, 12, 12]], (3, 4))
    assert masks.boxes.tolist() == [[0, 0, 2, 1], [0, 0, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_crops_are_cut_to_the_frame_and_trimmed():
    crop = np.zeros((4, 4), bool)
    crop[1:3, 1:3] = True
    masks = Masks.from_crops([crop, crop, crop], [[-2, 0], [1, 1], [40, 40]], (5, 5))
    assert masks.boxes.tolist() == [[0, 1, 1, 3], [2, 2, 4, 4], [0, 0, 0, 0]]
    crop[:] = True
    assert masks.areas.tolist() == [2, 4, 0]


def test_what_ignore_regions_need():
    masks = Masks.from_boxes([[0, 0, 4, 4], [6, 6, 8, 8]], (8, 8))
    ignore = Masks.from_boxes([[2, 0, 8, 4], [0, 2, 8, 3]], (8, 8))
    assert masks.minus(ignore).areas.tolist() == [2 * 4 - 2, 4]
    assert masks.intersect(ignore).areas.tolist() == [8 + 2, 0]
    assert masks.minus(Masks.empty((8, 8))) == masks
    assert masks.intersect(Masks.empty((8, 8))).areas.tolist() == [0, 0]


def test_the_union_is_one_mask_even_of_none():
    assert len(Masks.empty((3, 3)).union()) == 1
    assert Masks.empty((3, 3)).union().areas.tolist() == [0]
    both = Masks.from_boxes([[0, 0, 2, 2], [1, 1, 3, 3]], (4, 4)).union()
    assert both.areas.tolist() == [7]
    assert both.boxes.tolist() == [[0, 0, 3, 3]]


def test_indexing():
    masks = Masks.from_boxes([[0, 0, 1, 1], [0, 0, 2, 1], [0, 0, 3, 1]], (1, 3))
    assert [part.areas.tolist() for part in masks] == [[1], [2], [3]]
    assert masks[-1].areas.tolist() == [3]
    assert masks[1:].areas.tolist() == [2, 3]
    assert masks[::-1].areas.tolist() == [3, 2, 1]
    assert masks[[2, 0, 0]].areas.tolist() == [3, 1, 1]
    assert masks[np.array([True, False, True])].areas.tolist() == [1, 3]
    assert len(masks[[]]) == 0
    with pytest.raises(IndexError, match="3"):
        masks[3]
    with pytest.raises(InvalidData, match="index"):
        masks[[0.5]]


def test_concatenation():
    one, two = Masks.from_boxes([[0, 0, 1, 1]], (2, 2)), stored(np.ones((1, 2, 2), bool))
    assert Masks.concatenate([one, two, one]).areas.tolist() == [1, 4, 1]
    assert Masks.concatenate([two, two]) == two[[0, 0]]
    assert Masks.concatenate([], (3, 3)).shape == (3, 3)
    with pytest.raises(InvalidData, match="empty concatenation"):
        Masks.concatenate([])
    with pytest.raises(InvalidData, match="frame"):
        Masks.concatenate([one, Masks.empty((3, 3))])


def test_masks_do_not_change():
    dense = np.ones((1, 2, 2), bool)
    masks = Masks.from_dense(dense)
    dense[:] = False
    assert masks.areas.tolist() == [4]
    for array in (masks.crops[0], masks.offsets, masks.areas):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(AttributeError, match="read-only"):
        masks.shape = (1, 1)
    masks.boxes[:] = 9
    assert masks.boxes.tolist() == [[0, 0, 2, 2]]
    assert copy.deepcopy(masks) is copy.copy(masks) is masks


def test_a_pickle_holds_no_frames():
    masks = Masks.from_boxes([[100, 100, 200, 200]] * 20, (4000, 4000))
    data = pickle.dumps(masks)
    assert len(data) < 20 * 600
    assert pickle.loads(data) == masks
    assert pickle.loads(pickle.dumps(pickle.loads(data))).areas.tolist() == [10_000] * 20


def test_equality_looks_at_pixels_not_at_form():
    dense = np.array([[[0, 1], [1, 0]]], bool)
    assert stored(dense) == Masks.from_dense(dense)
    assert hash(stored(dense)) == hash(Masks.from_dense(dense))
    assert Masks.from_dense(dense) != Masks.from_dense(~dense)
    assert stored(dense) != stored(~dense)
    assert Masks.empty((2, 2)) != Masks.empty((2, 3))
    assert Masks.from_dense(dense) != "masks"


def test_repr_is_short():
    assert repr(Masks.from_boxes([[0, 0, 1, 1]] * 20, (3, 4))).count("1") == 8
    assert repr(Masks.empty((3, 4))) == "Masks(0 of 3x4, areas [])"


# --- against full frames --------------------------------------------------------------------------------------------


@given(frames())
def test_all_forms_agree_with_the_frames(dense):
    fortran = np.asfortranarray(dense.transpose(1, 2, 0).astype(np.uint8))
    expected = [code["counts"].decode() for code in coco.encode(fortran)] if len(dense) else []
    for masks in (Masks.from_dense(dense), stored(dense), pickle.loads(pickle.dumps(Masks.from_dense(dense)))):
        assert masks.areas.tolist() == dense.sum((1, 2)).tolist()
        assert [code["counts"] for code in masks.to_coco_rles()] == expected
        for frame, (x0, y0, x1, y1) in zip(dense, masks.boxes.astype(int), strict=True):
            rows, columns = np.nonzero(frame)
            tight = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) if rows.size else (0, 0, 0, 0)
            assert (x0, y0, x1, y1) == tight
        assert np.array_equal(masks.to_dense(), dense)
        assert json.loads(json.dumps(masks.to_coco_rles())) == masks.to_coco_rles()


@given(two_sets())
def test_pairs_agree_with_the_frames(sets):
    a, b = sets
    for first, second in (
        (Masks.from_dense(a), Masks.from_dense(b)),
        (stored(a), stored(b)),
        (stored(a), Masks.from_dense(b)),
    ):
        assert np.array_equal(first.intersection_areas(second), (a[:, None] & b[None]).sum((2, 3)))
        assert np.array_equal(first.iou(second), frame_iou(a, b))
    assert np.array_equal(stored(a).minus(stored(b)).to_dense(), a & ~b.any(axis=0))
    assert np.array_equal(stored(a).intersect(stored(b)).to_dense(), a & b.any(axis=0))
    assert np.array_equal(stored(a).union().to_dense()[0], a.any(axis=0))


def test_iou_of_stored_rles_decodes_nothing(monkeypatch):
    masks, other = stored(np.ones((2, 50, 60), bool)), stored(np.eye(50, 60, dtype=bool)[None])

    def refuse(*_):
        raise AssertionError("a mask was decoded")

    monkeypatch.setattr("visenv.rle.crop_of_counts", refuse)
    monkeypatch.setattr("pycocotools.mask.decode", refuse)
    assert masks.iou(other).tolist() == [[50 / 3000], [50 / 3000]]
    assert masks.areas.tolist() == [3000, 3000]
    assert other.boxes.tolist() == [[0, 0, 50, 50]]


@given(frames(), SIDES, SIDES)
def test_resizing_is_that_of_opencv(dense, height, width):
    frame_by_frame = [
        cv2.resize(frame.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) for frame in dense
    ]
    expected = np.array(frame_by_frame, bool).reshape(-1, height, width)
    assert np.array_equal(stored(dense).resize_nearest((height, width)).to_dense(), expected)


@pytest.mark.parametrize(("old", "new"), [((480, 640), (1080, 1440)), ((1079, 1917), (333, 771)), ((7, 1000), (70, 3))])
def test_resizing_large_masks_is_that_of_opencv(old, new):
    dense = np.random.default_rng(0).random((1, *old)) < 0.5
    expected = cv2.resize(dense[0].astype(np.uint8), new[::-1], interpolation=cv2.INTER_NEAREST) > 0
    assert np.array_equal(Masks.from_dense(dense).resize_nearest(new).to_dense()[0], expected)


@given(frames(), SIDES, SIDES, st.integers(-15, 15), st.integers(-15, 15))
def test_translation_moves_and_cuts(dense, height, width, dx, dy):
    moved = Masks.from_dense(dense).translate(dx, dy, (height, width)).to_dense()
    for old, new in zip(dense, moved, strict=True):
        expected = {(y + dy, x + dx) for y, x in np.argwhere(old).tolist()}
        assert {tuple(p) for p in np.argwhere(new).tolist()} == {
            (y, x) for y, x in expected if 0 <= y < height and 0 <= x < width
        }


def warped_frames(dense, matrix, size):
    maps = [
        cv2.warpAffine(frame.astype(np.float32), matrix[:2], size[::-1], flags=cv2.INTER_LINEAR) > 0.5
        for frame in dense
    ]
    return np.array(maps, bool).reshape(-1, *size)


@given(frames(), SIDES, SIDES, st.integers(1, 5), st.integers(1, 5), st.integers(-20, 20), st.integers(-20, 20))
def test_whole_reductions_are_what_opencv_gives(dense, height, width, fx, fy, tx, ty):
    matrix = np.array([[1 / fx, 0, tx / fx], [0, 1 / fy, ty / fy], [0, 0, 1]])
    expected = warped_frames(dense, matrix, (height, width))
    assert np.array_equal(stored(dense).warp(matrix, (height, width)).to_dense(), expected)


@given(frames(), SIDES, SIDES, st.floats(0.1, 3), st.floats(0.1, 3), st.floats(-0.5, 0.5), st.floats(-9, 9))
def test_any_other_transform_is_what_opencv_gives(dense, height, width, sx, sy, shear, shift):
    matrix = np.array([[sx, shear / 10, shift], [shear / 10, sy, -shift / 2], [0, 0, 1]])
    expected = warped_frames(dense, matrix, (height, width))
    assert np.array_equal(Masks.from_dense(dense).warp(matrix, (height, width)).to_dense(), expected)


@pytest.mark.parametrize("factor", [2, 3, 4, 16])
def test_reductions_of_large_frames_are_what_opencv_gives(factor):
    dense = np.random.default_rng(factor).random((1, 900, 1600)) < 0.5
    matrix = np.array([[1 / factor, 0, 37 / factor], [0, 1 / factor, 501 / factor], [0, 0, 1]])
    expected = warped_frames(dense, matrix, (700, 800))
    assert np.array_equal(Masks.from_dense(dense).warp(matrix, (700, 800)).to_dense(), expected)


@pytest.mark.parametrize(
    "transform", [np.zeros((3, 3)), np.eye(2), np.full((3, 3), np.nan), [[1, 0, 0], [0, 1, 0], [1, 0, 1]], "abc"]
)
def test_transforms_that_cannot_be_used(transform):
    with pytest.raises(InvalidData, match="transform"):
        Masks.empty((3, 3)).warp(transform, (3, 3))


# --- run lengths ----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=40).filter(lambda counts: sum(counts) > 0))
def test_compressed_counts_come_back(counts):
    total = sum(counts)
    code = compress(np.array(counts), (1, total))
    assert decompress(code).tolist() == counts
    runs = canonical(np.array(counts))
    assert runs.sum() == total
    assert runs[1:].all()
    plain = coco.decode([coco.frPyObjects({"size": [1, total], "counts": counts}, 1, total)])[..., 0]
    assert np.array_equal(Masks.from_coco_rles({"size": [1, total], "counts": code}).to_dense()[0], plain > 0)


def test_runs_of_no_length_change_nothing():
    odd = {"size": [2, 4], "counts": [1, 0, 1, 2, 0, 1, 3, 0]}
    even = {"size": [2, 4], "counts": [2, 3, 3]}
    masks, same = Masks.from_coco_rles(odd), Masks.from_coco_rles(even)
    assert masks == same
    assert masks.to_coco_rles() == same.to_coco_rles()
    assert masks.iou(same).tolist() == [[1.0]]


def test_sizes_given_as_whole_floats_or_arrays():
    code = {"size": np.array([3.0, 4.0]), "counts": np.array([3, 2, 7])}
    assert Masks.from_coco_rles([code, {"size": (3, 4), "counts": bytearray(b"327")}]).areas.tolist() == [2, 2]


HOSTILE = {
    "not a dict": "327",
    "no counts": {"size": [3, 4]},
    "no size": {"counts": "327"},
    "size of one number": {"size": [12], "counts": "327"},
    "size as text": {"size": "34", "counts": "327"},
    "no pixels": {"size": [0, 4], "counts": "0"},
    "negative side": {"size": [-3, -4], "counts": [12]},
    "half a pixel": {"size": [3.5, 4], "counts": [14]},
    "NaN": {"size": [float("nan"), 4], "counts": [12]},
    "true": {"size": [True, 12], "counts": [12]},
    "absurd size": {"size": [10**9, 10**9], "counts": [10**18]},
    "endless size": {"size": [10**5000, 1], "counts": [10**5000]},
    "endless negative size": {"size": [-(10**5000), 1], "counts": [1]},
    "endless count": {"size": [3, 4], "counts": [10**5000]},
    "too short": {"size": [3, 4], "counts": [3, 2]},
    "too long": {"size": [3, 4], "counts": [3, 2, 8]},
    "sides swapped and short": {"size": [4, 4], "counts": "327"},
    "negative count": {"size": [3, 4], "counts": [3, -2, 11]},
    "negative compressed count": {"size": [3, 4], "counts": b"3N9"},
    "count beyond 64 bits": {"size": [3, 4], "counts": [2**70]},
    "sum that wraps around": {"size": [3, 4], "counts": [2**63, 2**63, 12]},
    "nested counts": {"size": [3, 4], "counts": [[3], [2], [7]]},
    "ragged counts": {"size": [3, 4], "counts": [[3], 2, 7]},
    "float counts": {"size": [3, 4], "counts": [3.0, 2.0, 7.0]},
    "text counts": {"size": [3, 4], "counts": ["3", "2", "7"]},
    "no list": {"size": [3, 4], "counts": 12},
    "none": {"size": [3, 4], "counts": None},
    "empty text": {"size": [3, 4], "counts": ""},
    "empty list": {"size": [3, 4], "counts": []},
    "space in it": {"size": [3, 4], "counts": "3 27"},
    "not ASCII": {"size": [3, 4], "counts": "3\N{SNOWMAN}7"},
    "not UTF-8": {"size": [3, 4], "counts": b"\xff\xfe\x80"},
    "lone surrogate": {"size": [3, 4], "counts": "\udc80"},
    "unfinished number": {"size": [3, 4], "counts": "32P"},
    "number without end": {"size": [3, 4], "counts": "o" * 5000 + "0"},
    "a million runs": {"size": [3, 4], "counts": [0] * 1_000_000},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_rles_are_refused(name):
    with pytest.raises(InvalidData, match="Expected") as caught:
        as_masks(HOSTILE[name] if isinstance(HOSTILE[name], dict) else [HOSTILE[name]])
    assert len(str(caught.value)) < 500


@given(st.binary(max_size=40), SIDES, SIDES)
def test_random_bytes_are_refused_or_fill_the_frame(data, height, width):
    try:
        masks = Masks.from_coco_rles({"size": [height, width], "counts": data})
    except InvalidData:
        return
    assert np.array_equal(masks.to_dense(), coco.decode(masks.to_coco_rles()).transpose(2, 0, 1) > 0)


# --- other bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 2)), np.zeros(4, bool), np.zeros((1, 1, 2, 2), bool), np.zeros((1, 0, 5), bool), np.array("a")],
)
def test_arrays_that_are_no_masks(array):
    with pytest.raises(InvalidData, match="Expected"):
        Masks.from_dense(array)


@pytest.mark.parametrize(
    "polygon",
    [
        [0, 0, 1, 1],
        [0, 0, 1, 1, 2],
        [0, 0, float("nan"), 1, 2, 2],
        [0, 0, 3e6, 3e6, 0, 3e6],
        [0, 0, 1e12, 1, 2, 2],
        "abcdef",
        [[0], 1],
    ],
)
def test_polygons_that_cannot_be_drawn(polygon):
    with pytest.raises(InvalidData, match="polygon"):
        Masks.from_polygons([[polygon]], (4, 4))


def test_other_arguments_that_do_not_fit():
    masks = Masks.from_boxes([[0, 0, 1, 1]], (2, 2))
    with pytest.raises(InvalidData, match="same frame"):
        masks.iou(Masks.empty((3, 3)))
    with pytest.raises(InvalidData, match="same frame"):
        stored(masks.to_dense()).iou(stored(np.ones((1, 3, 3), bool)))
    with pytest.raises(InvalidData, match="boxes"):
        Masks.from_boxes([[0, 0, float("inf"), 1]], (2, 2))
    with pytest.raises(InvalidData, match="offsets"):
        Masks.from_crops([np.ones((1, 1), bool)], [[0, 0], [1, 1]], (2, 2))
    with pytest.raises(InvalidData, match="offsets"):
        Masks.from_crops([np.ones((1, 1), bool)], [[0.5, 0]], (2, 2))
    with pytest.raises(InvalidData, match="crop"):
        Masks.from_crops([np.ones((1, 1))], [[0, 0]], (2, 2))
    with pytest.raises(InvalidData, match="size"):
        Masks.empty((2, -2))
    with pytest.raises(InvalidData, match="size"):
        Masks.from_coco_rles([])
    with pytest.raises(InvalidData, match="RLE 1"):
        Masks.from_coco_rles([{"size": [3, 4], "counts": "327"}, {"size": [4, 3], "counts": "327"}])
    with pytest.raises(InvalidData, match="list of RLEs"):
        Masks.from_coco_rles("327")


def test_frames_that_opencv_cannot_warp():
    long = Masks.from_boxes([[0, 0, 40_000, 1]], (1, 40_000))
    assert long.warp(np.diag([0.25, 1, 1]), (1, 10_000)).areas.tolist() == [10_000]
    with pytest.raises(InvalidData, match="OpenCV"):
        long.warp(np.diag([0.3, 1, 1]), (1, 10_000))


def test_as_masks_takes_every_form():
    masks = Masks.from_boxes([[0, 0, 1, 1]], (2, 2))
    dense = masks.to_dense()
    for value in (masks, dense, dense[0], dense.astype(np.uint8), dense.tolist(), masks.to_coco_rles()):
        assert as_masks(value, (2, 2)) == masks
    assert as_masks(masks.to_coco_rles()[0]) == masks
    assert as_masks([], (2, 2)) == Masks.empty((2, 2))
    assert as_masks(np.zeros((0, 2, 2), bool)) == Masks.empty((2, 2))
    for value in (masks, dense, masks.to_coco_rles()):
        with pytest.raises(InvalidData, match="frame|size"):
            as_masks(value, (3, 3))
    for value in (None, 3, "327", [None], [[1, 2], [3]], [dense[0], {"size": [2, 2], "counts": [4]}]):
        with pytest.raises(InvalidData, match="Expected"):
            as_masks(value)
