"""The expert set ``oracle``: exact in every view of a sample."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visenv.capabilities import Expert, GroundPhrase, PointPhrase, Prompt, SegmentPrompts, Upscale
from visenv.datasets.scenes.dataset import ScenesDataset
from visenv.errors import InvalidData
from visenv.experts.oracle import make
from visenv.experts.truth_view import RecentSamples, interior_point
from visenv.masks import Masks
from visenv.tools.merge import SourceDetections, merge_detections
from visenv.tools.split import split_windows
from visenv.types import AnswerTruth, BoxesTruth, MaskTruth, PointsTruth, Sample
from visenv.workspace import Workspace

HEIGHT, WIDTH = 60, 90


def discs():
    ys, xs = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(xs - x) ** 2 + (ys - y) ** 2 <= r * r for x, y, r in ((20, 20, 12), (60, 30, 17), (84, 55, 6))])


def sample_of(truth, task="segmentation"):
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Sample("s/1", (pixels,), "the discs", truth, task)


def setup(truth, task="segmentation"):
    sample = sample_of(truth, task)
    (oracle,) = make({"s/1": sample}.__getitem__)
    return oracle, Workspace(sample.images)


def patches(workspace, size):
    root = workspace.root
    return [
        root.patch(f"img_0_r{w.row}_c{w.column}", (w.x0, w.y0, w.x1, w.y1), 1) for w in split_windows(*root.size, size)
    ]


def view(image):
    workspace = Workspace([image.pixels])
    workspace.images = {image.name: image}
    return workspace.view(image.name, "s/1")


def merged(oracle, images):
    found = oracle.run([GroundPhrase(view(image), "anything") for image in images])
    sources = [
        SourceDetections(image.name, each, image.to_root, image.split, image.depth)
        for image, each in zip(images, found, strict=True)
    ]
    return merge_detections(sources, (WIDTH, HEIGHT))


def test_follows_the_contract():
    oracle, _ = setup(MaskTruth(Masks.from_dense(discs())))
    assert isinstance(oracle, Expert)
    assert set(oracle.capabilities) == {
        "GroundPhrase",
        "PointPhrase",
        "SegmentPrompts",
        "Upscale",
        "RunCode",
        "FindVisualPrompts",
    }
    assert oracle.per_sample


def test_root_is_the_truth_whatever_the_phrase():
    oracle, workspace = setup(MaskTruth(Masks.from_dense(discs())))
    result = merged(oracle, [workspace.root])
    by_size = [1, 0, 2]
    np.testing.assert_array_equal(result.masks.to_dense(), discs()[by_size])
    np.testing.assert_array_equal(result.boxes, Masks.from_dense(discs()).boxes[by_size])


def test_patches_and_their_enlargements_show_the_truth_exactly():
    oracle, workspace = setup(MaskTruth(Masks.from_dense(discs())))
    for patch in patches(workspace, 40):
        (seen,) = oracle.run([GroundPhrase(view(patch), "")])
        x0, y0, x1, y1 = patch.window.astype(int)
        crop = discs()[:, y0:y1, x0:x1]
        np.testing.assert_array_equal(seen.masks.to_dense(), crop[crop.any(axis=(1, 2))])
        (large,) = oracle.run([Upscale(view(patch))])
        enlarged = patch.upscaled(f"{patch.name}_4x", large.pixels, 4, large.fingerprint, 2)
        np.testing.assert_array_equal(large.pixels[::4, ::4], patch.pixels)
        (seen,) = oracle.run([GroundPhrase(view(enlarged), "")])
        np.testing.assert_array_equal(
            seen.masks.to_dense(), crop[crop.any(axis=(1, 2))].repeat(4, axis=1).repeat(4, axis=2)
        )


@pytest.mark.parametrize("size", [40, 60, 90])
@pytest.mark.parametrize("enlarge", [False, True])
def test_split_upscale_merge_gives_the_truth_back(size, enlarge):
    oracle, workspace = setup(MaskTruth(Masks.from_dense(discs())))
    images = patches(workspace, size)
    if enlarge:
        large = oracle.run([Upscale(view(image)) for image in images])
        images = [i.upscaled(f"{i.name}_4x", u.pixels, 4, u.fingerprint, 2) for i, u in zip(images, large, strict=True)]
    result = merged(oracle, images)
    np.testing.assert_array_equal(result.masks.union().to_dense()[0], discs().any(axis=0))
    assert len(result) == 3


def test_boxes_keep_fractions_and_labels():
    boxes = np.array([[3.25, 4.5, 20.75, 30.0], [50.0, 10.0, 88.0, 59.0]])
    oracle, workspace = setup(BoxesTruth(boxes, labels=("a", "b")), "detection")
    (seen,) = oracle.run([GroundPhrase(view(workspace.root), "x")])
    np.testing.assert_array_equal(seen.boxes, boxes)
    assert seen.labels == ("a", "b")
    patch = workspace.root.patch("img_0_r1_c1", (10, 0, 50, 60), 1)
    (seen,) = oracle.run([GroundPhrase(view(patch), "x")])
    np.testing.assert_array_equal(seen.boxes, [[0.0, 4.5, 10.75, 30.0]])
    assert seen.labels == ("a",)


def test_each_point_becomes_one_detection():
    points = np.array([[5.0, 6.0], [5.0, 6.0], [89.9, 59.9], [0.0, 0.0]])
    oracle, workspace = setup(PointsTruth(points), "counting")
    result = merged(oracle, [workspace.root])
    assert len(result) == 4
    assert [4, 5, 7, 8] in result.boxes.tolist()


def test_points_lie_on_their_objects():
    oracle, workspace = setup(MaskTruth(Masks.from_dense(discs())))
    (points,) = oracle.run([PointPhrase(view(workspace.root), "x")])
    columns, rows = np.floor(points.points).astype(int).T
    assert discs()[[0, 1, 2], rows, columns].all()
    np.testing.assert_allclose(points.points[0], (20.5, 20.5), atol=1)


def test_prompts_choose_the_target_under_or_nearest_to_them():
    oracle, workspace = setup(MaskTruth(Masks.from_dense(discs())))
    prompts = (
        Prompt(points=np.array([[60.0, 30.0]])),
        Prompt(points=np.array([[0.0, 0.0]])),
        Prompt(box=np.array([77.0, 48.0, 90.0, 60.0])),
        Prompt(points=np.array([[84.0, 55.0], [60.0, 30.0]]), labels=np.array([1, 0])),
    )
    (result,) = oracle.run([SegmentPrompts(view(workspace.root), prompts)])
    for masks, scores, target in zip(result.masks, result.scores, (1, 0, 2, 2), strict=True):
        assert len(masks) == len(scores) == 3
        for each in masks.to_dense():
            np.testing.assert_array_equal(each, discs()[target])


def test_nothing_to_show_gives_empty_results():
    oracle, workspace = setup(MaskTruth(Masks.empty((HEIGHT, WIDTH))))
    root = view(workspace.root)
    found, points, candidates = oracle.run(
        [GroundPhrase(root, "x"), PointPhrase(root, "x"), SegmentPrompts(root, (Prompt(points=np.ones((1, 2))),))]
    )
    assert len(found) == len(points.points) == 0
    assert candidates.masks[0].areas.tolist() == candidates.scores[0].tolist() == [0, 0, 0]
    assert found.masks.shape == (HEIGHT, WIDTH)


def test_an_answer_has_no_place_in_the_image():
    oracle, workspace = setup(AnswerTruth(("a",)))
    with pytest.raises(InvalidData, match="without what its images show"):
        oracle.run([GroundPhrase(view(workspace.root), "x")])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_deepest_pixel_is_inside(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((int(rng.integers(1, 12)), int(rng.integers(1, 12)))) < 0.4
    mask[0, 0] = True
    x, y = interior_point(mask)
    assert mask[y, x]


def test_a_sample_that_is_asked_about_again_is_not_looked_up_again():
    sample, sought = sample_of(MaskTruth(Masks.from_dense(discs()))), []

    def find(sample_id):
        sought.append(sample_id)
        return sample

    recent = RecentSamples(find, limit=2 * sample.image.nbytes)
    assert [recent(name) is sample for name in "aabab"] == [True] * 5
    assert sought == ["a", "b"]
    recent("c")
    recent("b")
    recent("a")  # the least recently used was dropped
    assert sought == ["a", "b", "c", "a"]


def test_copies_look_samples_up_for_themselves():
    data = ScenesDataset("reasonseg", "val", 0)
    recent = RecentSamples(data.find)
    sample = recent("scenes/reasonseg/d0/val/0")
    for twin in (pickle.loads(pickle.dumps(recent)), copy.deepcopy(recent)):
        again = twin(sample.sample_id)
        assert again is not sample
        np.testing.assert_array_equal(again.image, sample.image)
