"""The merge: each rule by hand, and any scene the same as on full frames."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bench_merge import crowded_scene
from benchmarks.full_frame_merge import merge_full_frames
from visenv.errors import InvalidData
from visenv.geometry import compose, scaling, translation
from visenv.masks import Masks
from visenv.tools.merge import SourceDetections, merge_detections
from visenv.tools.split import split_windows
from visenv.types import Detections

PATCH = (20, 25)
"""(height, width) of the patches below: the left one at x = 0, the right one at x = 15 of a root 40 wide."""


def source(boxes, name="left", x=0, y=0, frame=PATCH, split=True, depth=1, factor=1, **fields):
    """Detections that fill their boxes, in an image at (x, y) of the root that is enlarged ``factor`` times."""
    masks = Masks.from_boxes(boxes, frame)
    found = Detections(np.asarray(boxes, float), masks, **fields)
    return SourceDetections(name, found, compose(scaling(1 / factor), translation(x, y)), split, depth)


def assert_same(ours, expected):
    assert ours.masks == expected.masks
    assert np.array_equal(ours.boxes, expected.boxes)
    assert np.array_equal(ours.scores, expected.scores)
    assert ours.labels == expected.labels


def merge_both(sources, size, **options):
    merged = merge_detections(sources, size, **options)
    assert_same(merged, merge_full_frames(sources, size, **options))
    return merged


# --- mapping --------------------------------------------------------------------------------------------------------


def test_nothing_in_nothing_out():
    for sources in ([], [source([])]):
        merged = merge_detections(sources, (40, 20))
        assert len(merged) == 0
        assert merged.boxes.shape == (0, 4)
        assert merged.masks.shape == (20, 40)


def test_boxes_and_masks_are_mapped_and_clipped():
    upscaled = source([[8, 8, 48, 32]], x=30, y=2, frame=(80, 80), factor=4, depth=2)
    merged = merge_both([upscaled], (40, 20))
    # 4x: the box is (2, 2, 12, 8) in the patch, so (32, 4, 42, 10) in the root, which is 40 wide.
    assert merged.boxes.tolist() == [[32, 4, 40, 10]]
    assert merged.masks.boxes.tolist() == [[32, 4, 40, 10]]
    assert merged.masks.areas.tolist() == [8 * 6]


def test_what_lies_outside_or_has_no_area_is_dropped():
    outside = source([[20, 3, 24, 8]], "outside", x=30)
    thin = source([[1, 1, 3, 3]], "thin", frame=(80, 80), factor=4)
    nan = source([[2, 2, 8, 8]], "nan")
    broken = dataclasses.replace(nan.detections, boxes=np.array([[2, 2, np.nan, 8]]))
    empty = dataclasses.replace(nan.detections, masks=Masks.from_boxes([[0, 0, 0, 0]], PATCH))
    sources = [outside, thin, dataclasses.replace(nan, detections=broken)]
    assert len(merge_detections(sources, (40, 20))) == 0
    assert len(merge_both([dataclasses.replace(nan, detections=empty)], (40, 20))) == 0


# --- duplicates -----------------------------------------------------------------------------------------------------


def test_of_two_duplicates_the_deeper_is_kept():
    shallow = source([[5, 5, 15, 15]], "img_0", frame=(20, 40), split=False, depth=0, scores=[0.9])
    deep = source([[5, 5, 15, 14]], "img_0_4x", frame=(20, 40), split=False, depth=1, scores=[0.3])
    merged = merge_both([shallow, deep], (40, 20))
    assert merged.boxes.tolist() == [[5, 5, 15, 14]]
    assert merged.scores.tolist() == [0.3]


def test_of_two_duplicates_at_one_depth_the_larger_is_kept():
    small, large = source([[5, 5, 14, 15]], "a", split=False), source([[5, 5, 15, 15]], "b", split=False)
    for sources in ([small, large], [large, small]):
        assert merge_both(sources, (40, 20)).boxes.tolist() == [[5, 5, 15, 15]]


def test_an_iou_of_exactly_the_threshold_is_no_duplicate():
    whole, four_fifths = source([[0, 0, 10, 10]], "a", split=False), source([[0, 0, 8, 10]], "b", split=False)
    assert len(merge_both([whole, four_fifths], (40, 20))) == 2
    assert len(merge_both([whole, four_fifths], (40, 20), iou_threshold=0.79)) == 1


def test_one_image_has_no_duplicates():
    assert len(merge_both([source([[5, 5, 15, 15], [5, 5, 15, 15]])], (40, 20))) == 2


def test_what_was_dropped_drops_nothing():
    # b duplicates a and c duplicates b, but c is no duplicate of a.
    a, b, c = (source([[0, 0, 20 - cut, 10]], name, split=False) for name, cut in (("a", 0), ("b", 3), ("c", 5)))
    merged = merge_both([a, b, c], (40, 20))
    assert merged.boxes.tolist() == [[0, 0, 20, 10], [0, 0, 15, 10]]


def test_ties_keep_the_order_given():
    left, right = source([[2, 2, 6, 6]], "left"), source([[12, 2, 16, 6], [12, 12, 16, 16]], "right", x=15)
    assert merge_both([left, right], (40, 20)).boxes[:, 0].tolist() == [2, 27, 27]
    assert merge_both([right, left], (40, 20)).boxes[:, :2].tolist() == [[27, 2], [27, 12], [2, 2]]


def test_of_two_sources_with_one_name_the_later_counts():
    first, second = source([[2, 2, 6, 6]], "left"), source([[8, 8, 12, 12]], "left")
    assert merge_detections([first, second], (40, 20)).boxes.tolist() == [[8, 8, 12, 12]]


# --- fragments ------------------------------------------------------------------------------------------------------


def test_fragments_at_a_border_are_joined():
    left, right = source([[20, 3, 25, 13]], scores=[0.4]), source([[0, 3, 10, 13]], "right", x=15, scores=[0.7])
    merged = merge_both([left, right], (40, 20))
    assert merged.boxes.tolist() == [[15, 3, 25, 13]]
    assert merged.masks.areas.tolist() == [100]
    assert merged.scores.tolist() == [0.7]


def test_it_is_enough_that_one_of_the_two_was_cut():
    left, right = source([[20, 3, 25, 13]]), source([[5, 3, 15, 13]], "right", x=15)
    assert len(merge_both([left, right], (40, 20))) == 1


def test_an_overlap_away_from_borders_joins_nothing():
    left, right = source([[8, 5, 16, 15]]), source([[5, 5, 13, 15]], "right", x=5)
    assert len(merge_both([left, right], (40, 20))) == 2


def test_a_border_of_the_root_cuts_nothing():
    # Both touch the top of their patches, which is the top of the root.
    left, right = source([[14, 0, 21, 6]]), source([[3, 0, 10, 6]], "right", x=15)
    assert len(merge_both([left, right], (40, 20))) == 2


def test_the_overlap_has_to_be_more_than_a_fifth_of_the_smaller():
    left = source([[5, 3, 25, 8]])
    four_fifths, one_fifth = source([[6, 3, 16, 8]], "right", x=15), source([[8, 3, 18, 8]], "right", x=15)
    assert len(merge_both([left, four_fifths], (40, 20))) == 1
    assert len(merge_both([left, one_fifth], (40, 20))) == 2
    assert len(merge_both([left, one_fifth], (40, 20), fragment_overlap=0.19)) == 1


def test_the_margin_is_two_pixels_of_the_patch_or_three_hundredths():
    # The right patch begins at 15: an overlap that begins at 17 is at its border, one that begins at 18 is not.
    left = source([[12, 3, 22, 13]])
    assert len(merge_both([left, source([[2, 3, 12, 13]], "right", x=15)], (40, 20))) == 1
    assert len(merge_both([left, source([[3, 3, 13, 13]], "right", x=15)], (40, 20))) == 2
    # The left patch ends at 25: an overlap whose last pixel is 23 is at its border, one whose last is 22 is not.
    right = source([[0, 3, 10, 13]], "right", x=15)
    assert len(merge_both([source([[19, 3, 24, 13]]), right], (40, 20))) == 1
    assert len(merge_both([source([[18, 3, 23, 13]]), right], (40, 20))) == 2
    assert len(merge_both([source([[18, 3, 23, 13]]), right], (40, 20), edge_margin=0.12)) == 1


def test_the_margin_of_an_enlarged_patch_is_taken_in_the_root():
    # Of 100 pixels, 3 % are 3, which are 0.75 in the root; the first common pixel is 15 or 16.
    left = source([[48, 12, 88, 52]], frame=(80, 100), factor=4)
    near, far = (source([[x, 12, x + 40, 52]], "right", 15, 0, (80, 100), factor=4) for x in (0, 2))
    assert merge_both([left, near], (40, 20)).boxes.tolist() == [[12, 3, 25, 13]]
    assert len(merge_both([left, far], (40, 20))) == 2


def test_images_that_come_from_no_split_have_no_fragments():
    left = source([[20, 3, 25, 13]])
    for split in ((True, False), (False, True), (False, False)):
        sides = dataclasses.replace(left, split=split[0]), source([[0, 3, 10, 13]], "right", x=15, split=split[1])
        assert len(merge_both(sides, (40, 20))) == 2


def test_two_views_of_one_region_have_no_fragments():
    patch = source([[17, 3, 25, 13]])
    upscaled = source([[80, 12, 100, 52]], "left_4x", frame=(80, 100), factor=4, depth=2)
    assert len(merge_both([patch, upscaled], (40, 20))) == 2


def test_no_object_gets_two_detections_of_one_image():
    left = source([[20, 2, 25, 8], [20, 12, 25, 18]])
    right = source([[5, 2, 15, 18]], "right", x=15)
    merged = merge_both([left, right], (40, 20))
    assert len(merged) == 2
    assert merged.masks.areas.tolist() == [160, 30]


def test_the_strongest_overlap_is_joined_first():
    # The lower left fragment lies inside the right mask altogether, the upper one by three fifths.
    left = source([[15, 2, 25, 8], [20, 12, 25, 18]])
    right = source([[4, 2, 15, 18]], "right", x=15)
    merged = merge_both([left, right], (40, 20))
    assert merged.boxes.tolist() == [[19, 2, 30, 18], [15, 2, 25, 8]]


def test_four_fragments_make_one_object():
    frame = (25, 25)
    corners = [
        source([[20, 20, 25, 25]], "r1_c1", 0, 0, frame),
        source([[0, 20, 10, 25]], "r1_c2", 15, 0, frame),
        source([[20, 0, 25, 10]], "r2_c1", 0, 15, frame),
        source([[0, 0, 10, 10]], "r2_c2", 15, 15, frame),
    ]
    merged = merge_both(corners, (40, 40))
    assert merged.boxes.tolist() == [[15, 15, 25, 25]]


def test_the_box_is_the_hull_of_boxes_not_of_the_mask():
    left, right = source([[20, 3, 25, 13]]), source([[0, 3, 10, 13]], "right", x=15)
    loose = dataclasses.replace(right.detections, boxes=np.array([[0.5, 2.0, 12.25, 14.5]]))
    merged = merge_both([left, dataclasses.replace(right, detections=loose)], (40, 20))
    assert merged.boxes.tolist() == [[15.5, 2, 27.25, 14.5]]
    assert merged.masks.boxes.tolist() == [[15, 3, 25, 13]]


def test_labels():
    def pair(first, second):
        left = source([[20, 3, 25, 13], [2, 2, 6, 6]], labels=first)
        return [left, source([[0, 3, 10, 13]], "right", x=15, labels=second)]

    assert merge_both(pair(("car", "bus"), ("car",)), (40, 20)).labels == ("car", "bus")
    # The larger fragment comes first, and decides where they disagree.
    assert merge_both(pair(("car", "bus"), ("van",)), (40, 20)).labels == ("van", "bus")
    assert merge_both(pair(None, ("van",)), (40, 20)).labels is None


# --- any scene ------------------------------------------------------------------------------------------------------


@st.composite
def scenes(draw):
    """Boxes and blobs in a root, seen in overlapping, perhaps enlarged patches and in the root itself, with errors."""
    width, height = draw(st.integers(12, 60)), draw(st.integers(12, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    objects = []
    for _ in range(draw(st.integers(0, 8))):
        x, y = rng.integers(0, width), rng.integers(0, height)
        crop = rng.random((rng.integers(2, 24), rng.integers(2, 24))) < rng.choice([0.7, 1.0])
        objects.append((crop, (int(x), int(y))))
    crops, offsets = [crop for crop, _ in objects], [offset for _, offset in objects]
    truth = Masks.from_crops(crops, offsets, (height, width))
    views = [("img_0", (0, 0, width, height), 1, False, 0)] if draw(st.booleans()) else []
    for window in split_windows(width, height, draw(st.integers(10, 40)))[:9]:
        name = f"img_0_r{window.row}_c{window.column}"
        factor = draw(st.sampled_from([1, 1, 2, 4]))
        views.append((name, window.box, factor, True, 1 + (factor > 1)))
    return (width, height), [_seen(truth, rng, *view) for view in views]


def _seen(truth, rng, name, box, factor, split, depth):
    x0, y0, x1, y1 = box
    frame = (y1 - y0, x1 - x0)
    masks = truth.translate(-x0 + int(rng.integers(-1, 2)), -y0 + int(rng.integers(-1, 2)), frame)
    masks = masks[(masks.areas > 0) & (rng.random(len(masks)) < 0.9)]
    large = (frame[0] * factor, frame[1] * factor)
    masks = masks.resize_nearest(large)
    if rng.random() < 0.3:
        masks = Masks.from_coco_rles(masks.to_coco_rles(), large)
    boxes = masks.boxes + (rng.integers(-2, 3, (len(masks), 4)) if rng.random() < 0.3 else 0)
    labels = tuple(rng.choice(["cat", "dog"], len(masks)).tolist()) if rng.random() < 0.8 else None
    found = Detections(boxes, masks, rng.random(len(masks)), labels)
    to_root = compose(scaling(1 / factor), translation(x0, y0))
    return SourceDetections(name, found, to_root, split, depth)


@settings(max_examples=200)
@given(
    scenes(), st.sampled_from([0.0, 0.5, 0.8, 1.0]), st.sampled_from([0.0, 0.2, 0.6]), st.sampled_from([0.0, 0.03, 0.3])
)
def test_any_scene_is_merged_as_on_full_frames(scene, iou_threshold, fragment_overlap, edge_margin):
    size, sources = scene
    merge_both(sources, size, iou_threshold=iou_threshold, fragment_overlap=fragment_overlap, edge_margin=edge_margin)


@given(scenes(), st.floats(0.3, 2.5), st.floats(0.3, 2.5), st.floats(-5, 5))
def test_transforms_that_hit_no_pixels_are_merged_as_on_full_frames(scene, sx, sy, shift):
    (width, height), sources = scene
    bent = [
        dataclasses.replace(item, transform=compose(item.transform, scaling(sx, sy), translation(shift, -shift)))
        for item in sources
    ]
    merge_both(bent, (width, height))


@given(scenes())
def test_what_holds_for_any_merge(scene):
    size, sources = scene
    merged = merge_detections(sources, size)
    assert len(merged) <= sum(len(item.detections) for item in sources)
    assert merged.masks.shape == size[::-1]
    assert (merged.masks.areas > 0).all()
    again = merge_detections([SourceDetections("img_0", merged, np.eye(3), split=False, depth=0)], size)
    assert sorted(again.masks.areas.tolist()) == sorted(merged.masks.areas.tolist())


@pytest.mark.parametrize("encoded", [False, True])
def test_a_crowded_scene_is_merged_as_on_full_frames(encoded):
    sources = crowded_scene((480, 270), patch_size=112, detections=140, encoded=encoded)
    assert len(sources) == 12
    merged = merge_both(sources, (480, 270))
    assert 40 < len(merged) < 140


def test_the_inputs_stay_as_they_are():
    sources = crowded_scene((320, 180), patch_size=80, detections=40)
    before = [(item.detections.boxes.copy(), item.masks.to_dense()) for item in sources]
    merge_detections(sources, (320, 180))
    for item, (boxes, dense) in zip(sources, before, strict=True):
        assert np.array_equal(item.detections.boxes, boxes)
        assert np.array_equal(item.masks.to_dense(), dense)


# --- bad input ------------------------------------------------------------------------------------------------------


def test_arguments_that_do_not_fit():
    with pytest.raises(InvalidData, match="Masks.from_boxes"):
        SourceDetections("a", Detections([[0, 0, 1, 1]]), np.eye(3), split=False, depth=0)
    with pytest.raises(InvalidData, match="transform"):
        SourceDetections("a", source([[0, 0, 1, 1]]).detections, np.eye(2), split=False, depth=0)
    for option in ("iou_threshold", "fragment_overlap", "edge_margin"):
        with pytest.raises(InvalidData, match=option):
            merge_detections([], (4, 4), **{option: 1.5})
        with pytest.raises(InvalidData, match=option):
            merge_detections([], (4, 4), **{option: float("nan")})
    for size in ((0, 4), (4, -1), (10**9, 10**9)):
        for sources in ([], [source([[0, 0, 1, 1]])]):
            with pytest.raises(InvalidData, match="frame"):
                merge_detections(sources, size)


@pytest.mark.parametrize("others", [0, 1])
def test_boxes_that_are_not_finite_are_dropped(others):
    masks = Masks.from_boxes([[0, 0, 9, 5], [1, 1, 4, 4], [0, 2, 9, 5]], (10, 10))
    found = Detections([[0, 0, np.inf, 5], [1, 1, 4, 4], [np.nan, 2, 9, 5]], masks)
    nothing = Detections(np.zeros((0, 4)), Masks.empty((10, 10)))
    images = [SourceDetections("img_0", found, np.eye(3), split=False, depth=0)]
    images += [SourceDetections("img_0_r1_c1", nothing, np.eye(3), split=True, depth=1)] * others
    assert merge_detections(images, (10, 10)).boxes.tolist() == [[1, 1, 4, 4]]
