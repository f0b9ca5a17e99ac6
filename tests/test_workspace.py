import copy
import pickle

import numpy as np
import pytest

from visenv.capabilities import Points
from visenv.errors import InvalidData
from visenv.geometry import scaling
from visenv.masks import Masks
from visenv.types import Detections
from visenv.workspace import Effect, NamedImage, Overlay, Picture, Workspace, usable, usable_points


@pytest.fixture
def workspace():
    pixels = np.arange(60 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(60, 80, 3)
    return Workspace([pixels])


def test_a_patch_is_a_view_of_its_parents_pixels(workspace):
    patch = workspace.root.patch("img_0_r1_c1", (10, 20, 40, 50), 1)
    assert np.shares_memory(patch.pixels, workspace.root.pixels)
    assert patch.size == (30, 30)
    np.testing.assert_array_equal(patch.window, [10, 20, 40, 50])


def test_pictures_cannot_be_written_to_and_patches_stay_views_of_them(workspace):
    patch = workspace.root.patch("p", (10, 20, 40, 50), 1)
    large = patch.upscaled("p_4x", np.zeros((120, 120, 3), np.uint8), 4, "f", 2)
    inner = large.patch("p_4x_r1_c1", (40, 0, 80, 70), 3)
    for image in (workspace.root, patch, large, inner, pickle.loads(pickle.dumps(inner))):
        with pytest.raises(ValueError, match="read-only"):
            image.pixels[:] = 0
    after = workspace.after(Effect((), images=(patch, large, inner)))
    for twin in (pickle.loads(pickle.dumps(after)), copy.deepcopy(after)):
        assert np.shares_memory(twin.images["p"].pixels, twin.root.pixels)
        for name, image in after.images.items():
            np.testing.assert_array_equal(twin.images[name].pixels, image.pixels)
    assert (
        len(pickle.dumps((workspace.root.provenance.root.pixels, after)))
        < 2 * workspace.root.pixels.nbytes + 120**2 * 3
    )


@pytest.mark.parametrize(
    "pixels", [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), "a"]
)
def test_pictures_must_be_rgb(pixels):
    with pytest.raises(InvalidData, match="img_0 as uint8"):
        Workspace([pixels])


def test_points_outside_of_a_picture_are_not_stored():
    found = Points([[0, 0], [80, 60], [-1, 5], [5, 61], [1e300, 5]], [0.1, 0.2, 0.3, 0.4, 0.5])
    assert usable_points(found, (80, 60)).points.tolist() == [[0, 0], [80, 60]]
    assert usable_points(found, (80, 60)).scores.tolist() == [0.1, 0.2]


def test_lineage_composes_down_to_the_root(workspace):
    patch = workspace.root.patch("p", (10, 20, 40, 50), 1)
    large = patch.upscaled("p_4x", np.zeros((120, 120, 3), np.uint8), 4, "f", 2)
    inner = large.patch("p_4x_r1_c1", (40, 40, 80, 80), 3)
    np.testing.assert_allclose(inner.to_root @ [0, 0, 1], [20, 30, 1])
    np.testing.assert_allclose(inner.window, [20, 30, 30, 40])
    assert (inner.depth, inner.split, large.split, workspace.root.split) == (3, True, True, False)
    assert inner.root is workspace.root


def test_how_an_image_lies_in_its_root_as_observations_hold_it(workspace):
    patch = workspace.root.patch("p", (10, 20, 40, 50), 1)
    large = patch.upscaled("p_4x", np.zeros((120, 120, 3), np.uint8), 4, "f", 2)
    assert workspace.root.place == (0.0, 0.0, 0.0, 1.0, 1.0)
    assert large.place == (2.0, 10 / 80, 20 / 60, 40 / 80, 50 / 60)
    scale, shift = large.to_parts
    np.testing.assert_allclose([0, 0, 120, 120] * scale + shift, large.place[1:])


def test_a_coarser_image_counts_as_no_finer_than_its_root(workspace):
    coarse = NamedImage(
        "half", np.zeros((30, 40, 3), np.uint8), workspace.root.provenance, "upscaled", workspace.root, scaling(2)
    )
    assert coarse.place == (0.0, 0.0, 0.0, 1.0, 1.0)


def test_provenance_follows_the_pixels_and_what_was_done_to_them(workspace):
    twin = Workspace([workspace.root.pixels.copy()])
    assert twin.root.provenance.key == workspace.root.provenance.key
    one, other = (workspace.root.patch("p", box, 1).provenance.key for box in ((0, 0, 9, 9), (0, 0, 9, 8)))
    assert one != other
    ups = [workspace.root.upscaled("u", np.zeros((240, 320, 3), np.uint8), 4, f, 1).provenance.key for f in "ab"]
    assert ups[0] != ups[1]


def test_a_later_result_replaces_the_earlier_one_also_where_it_is_empty(workspace):
    masks = Masks.from_boxes(np.array([[1.0, 1, 5, 5]]), (60, 80))
    found = Detections(masks.boxes, masks)
    before = workspace.after(
        Effect((), detections=(("img_0", found),), points=(("img_0", Points(np.ones((1, 2)), np.ones(1))),))
    )
    nothing = Detections(np.zeros((0, 4)), Masks.empty((60, 80)))
    after = before.after(Effect((), detections=(("img_0", nothing),)))
    assert before.detections["img_0"] is found
    assert "img_0" not in after.detections
    assert "img_0" in after.points
    assert workspace.detections == {}


def test_what_must_not_be_stored_is_dropped():
    masks = Masks.from_dense(np.stack([np.pad(np.ones((3, 3), bool), ((0, 5), (0, 5))), np.zeros((8, 8), bool)] * 2))
    boxes = np.array([[0, 0, 3, 3], [0, 0, 3, 3], [0, np.nan, 3, 3], [3, 0, 3, 3]], dtype=float)
    kept = usable(Detections(boxes, masks, np.array([0.9, 0.8, 0.7, 0.6]), ("a", "b", "c", "d")))
    assert kept.boxes.tolist() == [[0, 0, 3, 3]]
    assert kept.scores.tolist() == [0.9]
    assert kept.labels == ("a",)


def test_slots_hold_the_input_and_the_newest(workspace):
    images = tuple(workspace.root.patch(f"p{i}", (0, 0, 9, 9), 1) for i in range(30))
    many = workspace.after(Effect((), images=images))
    assert [image.name for image in many.slots(4)] == ["img_0", "p27", "p28", "p29"]
    assert len(workspace.slots(4)) == 1


def test_a_workspace_needs_an_image():
    with pytest.raises(InvalidData, match="at least one image"):
        Workspace([])


def test_results_on_an_enlarged_image_are_drawn_at_its_parents_size(workspace):
    large = workspace.root.upscaled("img_0_4x", np.zeros((240, 320, 3), np.uint8), 4, "f", 1)
    masks = Masks.from_boxes(np.array([[40.0, 40, 120, 120]]), (240, 320))
    picture = Picture("v", large, Overlay(detections=Detections(masks.boxes, masks)))
    assert picture.size == (80, 60)
    changed = np.argwhere((picture.pixels != workspace.root.pixels).any(axis=2))
    assert changed.min(axis=0).tolist() >= [0, 0]
    assert {20, 25} <= set(changed[:, 0].tolist())


def test_a_picture_pickles_without_what_was_drawn(workspace):
    picture = Picture("v", workspace.root, Overlay(points=np.array([[5.0, 5.0]])))
    drawn = picture.pixels.copy()
    assert "pixels" not in pickle.loads(pickle.dumps(picture)).__dict__
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(picture)).pixels, drawn)


def test_an_image_that_is_made_anew_is_the_newest(workspace):
    images = [workspace.root.patch(name, (0, 0, 9, 9), 1) for name in ("a", "b")]
    again = workspace.root.patch("a", (5, 5, 9, 9), 2)
    after = workspace.after(Effect((), images=tuple(images))).after(Effect((), images=(again,)))
    assert [image.name for image in after.slots(16)] == ["img_0", "b", "a"]
    assert after.images["a"] is again


@pytest.mark.parametrize("box", [(0, 0, 0, 5), (-1, 0, 5, 5), (0, 0, 81, 5), (5, 5, 4, 9), (0, 59, 5, 61)])
def test_a_patch_lies_inside_of_its_image(workspace, box):
    with pytest.raises(InvalidData, match="a part of img_0"):
        workspace.root.patch("p", box, 1)


def test_what_was_made_from_an_image_goes_when_it_is_made_anew(workspace):
    patch = workspace.root.patch("p", (0, 0, 40, 40), 1)
    large = patch.upscaled("p_4x", np.zeros((160, 160, 3), np.uint8), 4, "f", 2)
    before = workspace.after(Effect((), images=(patch,))).after(Effect((), images=(large,)))
    after = before.after(Effect((), images=(workspace.root.patch("p", (10, 10, 40, 40), 3),)))
    assert list(before.images) == ["img_0", "p", "p_4x"]
    assert list(after.images) == ["img_0", "p"]
