"""SAM 3 and where things are: planted outputs and prompts in the frame of any image, and what is at the limits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import sam3, view
from tiny_sam3 import TOLERANCE, points

from visenv.capabilities import GroundPhrase, Prompt, SegmentPrompts, Upscale, View
from visenv.errors import InvalidData
from visenv.experts.sam3 import Sam3Expert, Sam3Parts
from visenv.experts.sam3.prompts import row_of
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks

ODD_SIZES = [(1, 1), (1, 300), (300, 1), (333, 7), (3, 3), (64, 48)]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return sam3(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(scope="module")
def loaded(folder):
    expert = Sam3Expert(folder, score_threshold=0.1)
    expert.load()
    return expert


@pytest.fixture
def expert(loaded):
    loaded._forget()
    return loaded


# --- planted outputs --------------------------------------------------------------------------------------------------


def plant(expert, change):
    """Let the detector answer what was made by hand."""
    return expert.load().detector.register_forward_hook(lambda module, inputs, outputs: change(outputs))


@pytest.mark.parametrize("size", ODD_SIZES)
def test_boxes_and_masks_lie_in_the_frame_of_the_image(expert, size):
    width, height = size

    def planted(outputs):
        rows, queries, high, wide = outputs.pred_masks.shape
        boxes = torch.tensor([0.25, 0.5, 0.75, 1.0]).expand(rows, queries, 4)
        scores = torch.full((rows, queries), -20.0)
        scores[:, 1], scores[:, 4] = 1.0, 2.0
        masks = torch.full((rows, queries, high, wide), -9.0)
        masks[:, 1, : high // 2], masks[:, 4, :, wide // 2 :] = 9.0, 9.0
        return replace(
            outputs, pred_boxes=boxes, pred_logits=scores, presence_logits=torch.full((rows, 1), 30.0), pred_masks=masks
        )

    end = plant(expert, planted)
    try:
        request = GroundPhrase(view(width, height), "thing")
        (found,) = expert.run([request])
    finally:
        end.remove()
    check_result(request, found)
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp([-2.0, -1.0])), atol=1e-6)
    np.testing.assert_allclose(found.boxes, [[width / 4, height / 2, width * 3 / 4, height]] * 2, rtol=1e-6)
    right, upper = found.masks.to_dense()
    # A pixel is set where its centre lies in the half; one whose centre is on the edge may go either way.
    for mask, centres, edge, before in (
        (right, (np.arange(width) + 0.5) / width, 1, False),
        (upper.T, (np.arange(height) + 0.5) / height, 0, True),
    ):
        sure = np.abs(centres - 0.5) > 1e-9
        expected = (centres < 0.5) if before else (centres > 0.5)
        assert (mask[:, sure] == expected[sure]).all(), edge


@pytest.mark.parametrize("size", ODD_SIZES)
def test_prompts_are_scaled_to_the_square_and_masks_back(expert, size):
    width, height = size
    seen = []

    def planted(module, args, keywords, outputs):
        seen.append({name: keywords[name] for name in ("input_points", "input_boxes") if name in keywords})
        masks = torch.full_like(outputs.pred_masks, -9.0)
        side = masks.shape[-1]
        masks[:, :, 0], masks[:, :, 1, :, : side // 2] = 9.0, 9.0
        return replace(outputs, pred_masks=masks, iou_scores=torch.tensor([0.9, 0.5, 0.1]).expand(len(masks), 1, 3))

    end = expert.load().tracker.register_forward_hook(planted, with_kwargs=True)
    prompts = (points((width / 2, height / 4)), Prompt(box=np.array([0.0, 0, width, height / 2])))
    try:
        request = SegmentPrompts(view(width, height), prompts)
        (found,) = expert.run([request])
    finally:
        end.remove()
    check_result(request, found)
    np.testing.assert_allclose(seen[0]["input_points"].numpy(), [[[[56, 28]]]], rtol=1e-6)
    np.testing.assert_allclose(seen[1]["input_boxes"].numpy(), [[[0, 0, 112, 56]]], rtol=1e-6)
    for masks, scores in zip(found.masks, found.scores, strict=True):
        np.testing.assert_allclose(scores, [0.9, 0.5, 0.1], rtol=1e-6)
        assert masks.areas[0] == width * height
        assert masks.areas[2] == 0
        assert abs(masks.areas[1] - width * height / 2) <= height / 2


def test_thresholds_are_those_of_the_published_system_and_can_be_set(folder, expert):
    assert (Sam3Expert(folder).score_threshold, Sam3Expert(folder).mask_threshold) == (0.4, 0.5)

    def planted(outputs):
        logits = torch.logit(torch.tensor([0.39, 0.4001, 0.8, 0.0001, 0.1, 0.2])).expand(len(outputs.pred_logits), 6)
        masks = torch.logit(torch.full_like(outputs.pred_masks, 0.45))
        return replace(outputs, pred_logits=logits, presence_logits=torch.full((1, 1), 40.0), pred_masks=masks)

    for keywords, count, area in (({}, 2, 0), ({"mask_threshold": 0.4, "score_threshold": 0.15}, 4, 1200)):
        other = Sam3Expert(folder, **keywords)
        plant(other, planted)
        (found,) = other.run([GroundPhrase(view(), "thing")])
        assert (len(found), set(found.masks.areas.tolist())) == (count, {area})
    other = Sam3Expert(folder, score_threshold=1.0)
    (nothing,) = other.run([GroundPhrase(view(), "thing")])
    assert (len(nothing), nothing.masks.shape) == (0, (30, 40))


@given(
    st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    st.lists(st.tuples(*[st.floats(-1e5, 1e5)] * 2), max_size=5),
    st.none() | st.tuples(*[st.floats(-1e5, 1e5)] * 4),
    st.integers(1, 2000),
)
def test_whatever_a_prompt_says_lies_in_the_square(size, places, box, side):
    prompt = Prompt(points=np.array(places, float).reshape(-1, 2), box=None if box is None else np.array(box))
    row = row_of(0, 0, prompt, size, side)
    if row is None:
        assert not places
        return
    for values in (row.points, row.box if row.box is not None else np.zeros(0)):
        assert ((values >= 0) & (values <= side * (1 + 1e-9))).all()
    if row.box is not None:
        assert (row.box[:2] < row.box[2:]).all()
    scale = np.array(size) / side
    for given_place, own in zip(places, row.points * scale, strict=True):
        np.testing.assert_allclose(own, np.clip(given_place, 0, size), atol=1e-6)


# --- at the limits ----------------------------------------------------------------------------------------------------


def test_hundreds_of_points_in_one_prompt_and_in_as_many_prompts(expert):
    many = np.random.default_rng(0).uniform(0, 30, (300, 2))
    request = SegmentPrompts(view(), (*(Prompt(points=one[None]) for one in many[:200]), Prompt(points=many)))
    (found,) = expert.run([request])
    check_result(request, found)
    assert [len(masks) for masks in found.masks] == [3] * 201
    (alone,) = expert.run([SegmentPrompts(view(), request.prompts[-1:])])
    np.testing.assert_allclose(found.scores[-1], alone.scores[0], atol=TOLERANCE)


def test_prompts_of_every_kind_and_such_as_say_nothing(expert):
    shape = (30, 40)
    earlier = Masks.from_boxes(np.array([[5.0, 5, 20, 20]]), shape)
    other = Masks.from_boxes(np.array([[25.0, 1, 39, 29]]), shape)
    prompts = (
        Prompt(mask=earlier),
        Prompt(points=np.array([[7.0, 7]]), mask=earlier),
        Prompt(points=np.array([[7.0, 7]]), mask=other),
        Prompt(points=np.array([[7.0, 7]]), box=np.array([5.0, 5, 20, 20])),
        Prompt(points=np.array([[-50.0, 900], [np.nan, 3]])),
        Prompt(),
        Prompt(points=np.array([[np.inf, 3]]), box=np.array([1, 2, np.nan, 9])),
        points((3, 4), labels=[0]),
        Prompt(box=np.array([9.0, 9, 9, 9])),
        Prompt(mask=Masks.from_boxes(np.zeros((1, 4)), shape)),
    )
    request = SegmentPrompts(view(), prompts)
    (found,) = expert.run([request])
    check_result(request, found)
    assert not np.allclose(found.scores[1], found.scores[2], atol=1e-6)
    for masks, scores in list(zip(found.masks, found.scores, strict=True))[5:]:
        assert masks.areas.tolist() == scores.tolist() == [0, 0, 0]
    (none,) = expert.run([SegmentPrompts(view(), ())])
    assert none.masks == ()


def test_the_empty_phrase_and_a_long_one(expert):
    long = "a small red cat on the left of the blue car " * 12
    assert len(long) > 500
    requests = [GroundPhrase(view(), phrase) for phrase in ("", long, " ", "猫 🐈")]
    results = expert.run(requests)
    assert len(results[0]) == len(results[2]) == 0
    for request, found in zip(requests, results, strict=True):
        check_result(request, found)


def test_an_image_of_8k(expert):
    pixels = np.zeros((4320, 7680, 3), np.uint8)
    pixels[1000:3000, 2000:6000] = 255
    large = View(pixels, Provenance(RootPixels(pixels)))
    requests = [GroundPhrase(large, "square"), SegmentPrompts(large, (points((4000, 2000)),))]
    for request, found in zip(requests, expert.run(requests), strict=True):
        check_result(request, found)


def test_what_it_does_not_answer_is_refused(folder, expert):
    pool = ExpertPool({"GroundPhrase": expert, "SegmentPrompts": expert, "Upscale": expert})
    assert "does not answer Upscale" in pool.answer([Upscale(view())])[0].message
    detector = transformers.Sam3Model.from_pretrained(folder, dtype=torch.float32)
    phrases = Sam3Expert(Sam3Parts(transformers.Sam3Processor.from_pretrained(folder), detector))
    with pytest.raises(InvalidData, match="sam3 does not answer SegmentPrompts"):
        phrases.run([SegmentPrompts(view(), (points((3, 4)),))])
