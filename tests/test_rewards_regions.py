"""Overlap of regions, by hand, against pycocotools, and by its properties."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco

from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.rewards.functional import dice, mask_intersection_union, mask_iou

FRAME = st.tuples(st.integers(1, 9), st.integers(1, 9))


def sets_of_masks(shape):
    return st.integers(1, 3).flatmap(lambda n: hnp.arrays(bool, (n, *shape)))


PAIRS = FRAME.flatmap(lambda shape: st.tuples(sets_of_masks(shape), sets_of_masks(shape)))
TRIPLES = FRAME.flatmap(lambda shape: st.tuples(sets_of_masks(shape), sets_of_masks(shape), sets_of_masks(shape)))


def rles(masks):
    return [coco.encode(np.asfortranarray(mask.astype(np.uint8))) for mask in masks]


def corner(height, width, size=8):
    mask = np.zeros((size, size), bool)
    mask[:height, :width] = True
    return mask


def test_counts_pixels_by_hand():
    # 16 and 12 pixels, 8 in common: 20 in all.
    assert mask_intersection_union(corner(4, 4), corner(2, 6)) == (8, 20)
    assert mask_iou(corner(4, 4), corner(2, 6)) == 8 / 20
    assert dice(corner(4, 4), corner(2, 6)) == 16 / 28


def test_unites_the_masks_of_each_side():
    halves = np.stack([corner(4, 2), corner(4, 4) & ~corner(4, 2)])
    assert mask_iou(halves, corner(4, 4)) == 1.0
    assert mask_iou(Masks.from_dense(halves), rles([corner(4, 4)])) == 1.0


def test_removes_ignored_pixels_from_both_sides():
    # Columns 4 and 5 of the truth and row 2 and 3 of the prediction are ignored.
    ignore = corner(8, 8) & ~corner(2, 4)
    assert mask_intersection_union(corner(4, 4), corner(2, 6), ignore) == (8, 8)
    assert mask_iou(corner(4, 4), corner(2, 6), ignore) == 1.0


def test_two_empty_regions_agree_unless_it_is_said_otherwise():
    nothing = corner(0, 0)
    assert mask_iou(nothing, nothing) == 1.0
    assert dice(nothing, nothing) == 1.0
    assert mask_iou(nothing, nothing, empty=0.0) == 0.0
    assert mask_iou(corner(2, 2), corner(2, 2), corner(8, 8)) == 1.0
    assert mask_iou(nothing, corner(1, 1)) == 0.0


def test_empty_list_is_an_empty_region():
    assert mask_intersection_union([], rles([corner(2, 2)])) == (0, 4)
    assert mask_intersection_union(corner(2, 2), [], ignore=[]) == (0, 4)
    with pytest.raises(InvalidData, match="at least one side"):
        mask_iou([], [])


def test_refuses_other_frames_and_other_things():
    with pytest.raises(InvalidData):
        mask_iou(corner(2, 2), corner(2, 2, size=9))
    with pytest.raises(InvalidData):
        mask_iou("a mask", corner(2, 2))
    with pytest.raises(InvalidData):
        mask_iou(corner(2, 2), corner(2, 2) * 0.5)


def test_compares_encodings_without_decoding_them(monkeypatch):
    first, second = rles([corner(4, 4), corner(1, 8)]), rles([corner(2, 6)])

    def decode(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(Masks, "crops", property(decode))
    # 16 + 4 more of the first row, of which 8 + 2 are in the other's 12.
    assert mask_intersection_union(first, second) == (10, 22)


@given(PAIRS)
def test_agrees_with_pycocotools(pair):
    first, second = (coco.merge(rles(masks)) for masks in pair)
    expected = coco.iou([first], [second], [0])[0, 0]
    if coco.area(first) or coco.area(second):
        assert mask_iou(*pair) == pytest.approx(expected)


@given(TRIPLES)
def test_agrees_with_the_definition(triple):
    pred, target, ignore = (masks.any(axis=0) for masks in triple)
    intersection = int((pred & target & ~ignore).sum())
    union = int(((pred | target) & ~ignore).sum())
    assert mask_intersection_union(*triple) == (intersection, union)
    encoded = [rles(masks) for masks in triple]
    assert mask_intersection_union(*encoded) == (intersection, union)
    assert mask_intersection_union(Masks.from_dense(triple[0]), encoded[1], triple[2]) == (intersection, union)


@given(TRIPLES)
def test_is_symmetric_bounded_and_tied_to_dice(triple):
    pred, target, ignore = triple
    iou = mask_iou(pred, target, ignore)
    assert 0.0 <= iou <= 1.0
    assert iou == mask_iou(target, pred, ignore)
    assert mask_iou(pred, pred, ignore) == 1.0
    assert dice(pred, target, ignore) == pytest.approx(2 * iou / (1 + iou))
