"""SAM 2 and where things are: prompts of every kind, in images of any size, and masks in their frames."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_sam2 import POINT, SIDE, ask, batches, built, differing, expert, saved, view

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import Candidates, ExpertFailure, GroundPhrase, Prompt, SegmentPrompts, View
from visenv.errors import InvalidData
from visenv.experts.sam2 import Sam2Expert
from visenv.experts.sam2.prompts import square_prompt
from visenv.experts_checks import check_result
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("sam2"))


@pytest.fixture(scope="module")
def shared(files):
    return expert(files, max_images=4)


# --- frames -----------------------------------------------------------------------------------------------------------


class PlantedDecoder(torch.nn.Module):
    """Answers a rectangle of cells for every prompt, whatever the image shows; surer with every candidate."""

    def __init__(self, cells):
        super().__init__()
        self.cells = cells
        self.conv_s0, self.conv_s1 = torch.nn.Conv2d(64, 8, 1), torch.nn.Conv2d(64, 16, 1)

    def forward(self, image_embeddings, sparse_prompt_embeddings, **_):
        x0, y0, x1, y1 = self.cells
        logits = torch.full((len(sparse_prompt_embeddings), 3, SIDE // 4, SIDE // 4), -1.0)
        logits[:, :, y0:y1, x0:x1] = 1.0
        return logits, torch.tensor([[-0.5, 0.5, 1.5]]).expand(len(logits), 3), None, None


def planted(files, cells):
    model = built(files[1])
    model.sam_mask_decoder = PlantedDecoder(cells)
    return Sam2Expert(model, device="cpu")


@pytest.mark.parametrize(
    ("size", "box"),
    [((320, 64), [50, 20, 150, 50]), ((32, 32), [5, 10, 15, 25]), ((64, 3200), [10, 1000, 30, 2500])],
)
def test_masks_lie_in_the_frame_of_the_image_asked_about(files, size, box):
    answer = planted(files, (5, 10, 15, 25)).run([ask(POINT, size=size)])[0]
    assert answer.masks[0].boxes.tolist() == [box] * 3
    whole = Masks.from_boxes([box], size[::-1])
    assert (answer.masks[0].iou(whole) > 0.95).all(), "its corners are rounded"
    assert answer.scores[0].tolist() == [0.0, 0.5, 1.0], "predicted IoUs are cut to what scores may be"


def test_prompts_are_carried_into_the_square(files):
    made, seen = planted(files, (0, 0, 4, 4)), []
    made.load().sam_prompt_encoder.register_forward_pre_hook(
        lambda _, __, keywords: seen.append(keywords["points"]), with_kwargs=True
    )
    inside = Prompt(points=np.array([[160.0, 16.0], [400, -3]]), labels=np.array([1, 0]), box=np.array([-9, 8, 80, 99]))
    made.run([ask(inside, size=(320, 64))])
    ((points, labels),) = seen
    assert points[0].tolist() == [[0, 16], [32, 128], [64, 32], [128, 0]]
    assert labels[0].tolist() == [2, 3, 1, 0]


@given(
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    st.lists(st.tuples(st.floats(width=32), st.floats(width=32), st.integers(0, 1)), max_size=6),
    st.none() | st.tuples(*[st.floats(-50, 5000) | st.just(float("nan"))] * 4),
)
def test_no_prompt_leaves_the_square(size, points, box):
    prompt = Prompt(
        points=np.array([point[:2] for point in points]).reshape(-1, 2),
        labels=np.array([point[2] for point in points]),
        box=None if box is None else np.array(box),
    )
    made = square_prompt(prompt, size, 1024, 256)
    if made is None:
        assert not any(label and np.isfinite((x, y)).all() for x, y, label in points)
        return
    assert made.points.shape == (len(made.labels), 2)
    assert ((made.points >= 0) & (made.points <= 1024)).all()
    assert set(made.labels.tolist()) <= {0, 1, 2, 3}


def test_a_mask_to_be_refined_is_laid_on_the_coarse_grid():
    mask = Masks.from_boxes([[0, 0, 32, 16]], (64, 64))
    logits = square_prompt(Prompt(mask=mask), (64, 64), SIDE, 16).mask
    assert logits.shape == (16, 16)
    assert (logits[:4, :8] == 10).all()
    assert (logits[4:] == -10).all()
    assert (logits[:, 8:] == -10).all()
    half = square_prompt(Prompt(mask=Masks.from_boxes([[0, 0, 2, 4]], (64, 64))), (64, 64), SIDE, 16).mask
    assert abs(half[0, 0]) < 0.1, "half of a cell"


@pytest.mark.parametrize("size", [(1, 1), (500, 1), (1, 500), (7, 333), (7680, 4320)])
def test_images_of_any_size_are_taken(shared, size):
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    pixels.flags.writeable = False
    seen = View(pixels, Provenance(RootPixels(pixels)))
    centre = Prompt(points=np.array([[size[0] / 2, size[1] / 2]]))
    request = SegmentPrompts(seen, (centre, Prompt(box=np.array([0.0, 0, *size]))))
    (answer,) = shared.run([request])
    check_result(request, answer)
    assert [len(masks) for masks in answer.masks] == [3, 3]


def test_a_patch_is_a_view_of_its_parent(files):
    parent = view(size=(200, 100)).pixels
    patch = parent[20:70, 30:110]
    request = SegmentPrompts(View(patch, Provenance(RootPixels(parent)).then("patch")), (POINT,))
    (answer,) = expert(files).run([request])
    (same,) = expert(files).run([SegmentPrompts(View(patch.copy(), Provenance(RootPixels(patch.copy()))), (POINT,))])
    assert differing(answer, same) == (0.0, 0.0)


# --- prompts that say little ------------------------------------------------------------------------------------------


def test_prompts_that_say_nothing_get_nothing(files):
    made = expert(files)
    seen = batches(made)
    nothing = [
        Prompt(),
        Prompt(points=np.array([[np.nan, 3.0]])),
        Prompt(points=np.array([[5.0, 5.0]]), labels=np.array([0])),
        Prompt(box=np.array([np.nan, 0, 5, 5])),
        Prompt(box=np.array([90.0, 0, 120, 5])),
        Prompt(mask=Masks.from_crops([np.zeros((1, 1), bool)], [[0, 0]], (48, 80))),
    ]
    empty, answer, mixed = made.run([ask(), ask(*nothing), ask(nothing[0], POINT)])
    assert empty == Candidates((), ())
    assert seen == [1], "only one of the requests needs the image"
    for masks, scores in zip(answer.masks, answer.scores, strict=True):
        assert masks.areas.tolist() == [0, 0, 0]
        assert scores.tolist() == [0, 0, 0]
    assert mixed.masks[0].areas.tolist() == [0, 0, 0]
    (alone,) = made.run([ask(POINT)])
    assert differing(alone, Candidates(mixed.masks[1:], mixed.scores[1:])) == (0.0, 0.0)


def test_what_is_not_finite_is_left_out(shared):
    noisy = Prompt(points=np.array([[10.0, 20.0], [np.inf, 3], [np.nan, 3]]), labels=np.array([1, 1, 0]))
    a, b = shared.run([ask(POINT), ask(noisy)])
    assert differing(a, b) == (0.0, 0.0)


def test_a_bad_prompt_fails_its_request_alone(shared):
    wrong = Prompt(mask=Masks.from_boxes([[0, 0, 5, 5]], (10, 10)))
    good, bad, unlabelled = shared.run([ask(POINT), ask(wrong), ask(Prompt(POINT.points, labels=np.array([1, 1])))])
    assert isinstance(good, Candidates)
    assert isinstance(bad, ExpertFailure)
    assert "one mask over the image's (height, width) (48, 80)" in bad.message
    assert "1 points and 2 labels" in unlabelled.message
    with pytest.raises(InvalidData, match="sam2"):
        shared.run([GroundPhrase(view(), "car")])
