"""Models that find what a phrase names: planted outputs, in the frame of any image, and how they are asked."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_grounding import KINDS, ODD_SIZES, all_found, replace_output, saved
from tiny_models import view

from visenv.capabilities import GroundPhrase, View
from visenv.experts.grounding import GroundingExpert, GroundingModel
from visenv.experts.grounding.finder import at_least, at_most
from visenv.experts_checks import check_result
from visenv.images import Provenance, RootPixels

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def few_words():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visenv.experts.grounding.florence2.MOST_WORDS", 10)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return saved(tmp_path_factory)


@pytest.fixture(scope="module")
def loaded(folders):
    return all_found(folders)


@pytest.fixture(params=KINDS)
def expert(request, loaded):
    loaded[request.param]._forget()
    return loaded[request.param]


# --- planted outputs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("kind", ["grounding-dino", "mm-grounding-dino"])
def test_boxes_of_grounding_dino_are_shares_of_the_image(loaded, kind, size):
    expert, (width, height) = loaded[kind], size

    def planted(module, args, keywords, outputs):
        boxes = torch.tensor([0.5, 0.75, 0.5, 0.5]).expand_as(outputs.pred_boxes).clone()
        boxes[:, 1] = torch.tensor([0.25, 0.25, 0.5, 0.5])
        logits = torch.full_like(outputs.logits, -50.0)
        logits[:, 0, 1], logits[:, 1, 2] = 1.0, 2.0
        return replace_output(outputs, pred_boxes=boxes, logits=logits)

    end = expert.load().model.register_forward_hook(planted, with_kwargs=True)
    other = GroundingExpert(GroundingModel(expert.load().model, expert.load().processor), score_threshold=0.5)
    try:
        (found,) = other.run([GroundPhrase(view(width, height), "red cat")])
    finally:
        end.remove()
    np.testing.assert_allclose(found.scores, 1 / (1 + np.exp([-2.0, -1.0])), atol=1e-6)
    expected = [[0, 0, width / 2, height / 2], [width / 4, height / 2, width * 3 / 4, height]]
    np.testing.assert_allclose(found.boxes, expected, rtol=1e-6)


@pytest.mark.parametrize("size", ODD_SIZES)
def test_the_square_that_owlv2_pads_to_is_undone(folders, size):
    """Boxes are shares of a square with the image in its upper left corner; outside of the image there is nothing."""
    width, height = size
    side = max(size)
    shares = np.array([width, height, width, height]) / side
    inside, beyond = shares * [0.25, 0.5, 0.75, 1.0], np.array([0.0, height / side + 0.001, 1.0, 1.1])
    expert = GroundingExpert(folders["owlv2"], score_threshold=0.5)
    model = expert.load().model
    corners = torch.from_numpy(np.stack([inside, beyond])).float()
    centred = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)
    boxes = torch.zeros(1, 16, 4)
    boxes[:, :2] = centred
    logits = torch.full((1, 16, 1), -9.0)
    logits[:, 0], logits[:, 1] = 1.0, 2.0
    model.box_predictor = lambda patches, grid: boxes
    model.class_predictor = lambda patches, words: (logits, None)
    (found,) = expert.run([GroundPhrase(view(width, height), "cat")])
    assert len(found) == 1
    np.testing.assert_allclose(found.boxes[0], [width / 4, height / 2, width * 3 / 4, height], rtol=1e-4)
    np.testing.assert_allclose(found.scores[0], 1 / (1 + np.exp(-1)), atol=1e-6)


@pytest.mark.parametrize("size", ODD_SIZES)
def test_places_that_florence_writes_are_thousandths_of_the_image(folders, size):
    width, height = size
    expert = GroundingExpert(folders["florence2"])
    parts = expert.load()
    text = "</s><s>red cat<loc_0><loc_499><loc_499><loc_999>a dog<loc_250><loc_0><loc_750><loc_300></s>"
    tokens = parts.processor.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
    parts.model.generate = lambda **keywords: tokens
    (found,) = expert.run([GroundPhrase(view(width, height), "red cat")])
    assert found.scores.tolist() == [1, 1]
    expected = np.array([[0.5, 499.5, 499.5, 999.5], [250.5, 0.5, 750.5, 300.5]]) / 1000
    np.testing.assert_allclose(found.boxes, expected * [width, height, width, height], rtol=1e-5)


def test_florence_answers_by_outlines_and_by_nothing(folders):
    expert = GroundingExpert(folders["florence2"])
    parts = expert.load()
    for text, boxes in (
        ("cat<poly><loc_100><loc_200><loc_500><loc_200><loc_500><loc_700></poly>", [[10.05, 20.05, 50.05, 70.05]]),
        ("no such thing", []),
        ("cat<loc_1><loc_2>", []),
        ("cat<loc_500><loc_500><loc_100><loc_100>", []),
    ):
        tokens = parts.processor.tokenizer(
            f"</s><s>{text}</s>", add_special_tokens=False, return_tensors="pt"
        ).input_ids
        parts.model.generate = lambda tokens=tokens, **keywords: tokens
        (found,) = expert.run([GroundPhrase(view(100, 100), "cat")])
        np.testing.assert_allclose(found.boxes, np.reshape(boxes, (-1, 4)), atol=1e-6)


def test_near_duplicates_are_left_out_and_the_best_comes_first(folders):
    boxes = torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.5, 0.5, 0.41, 0.41], [0.2, 0.2, 0.1, 0.1], [0.5, 0.5, 0.2, 0.2]])
    planted = torch.zeros(1, 16, 4)
    planted[:, :4] = boxes
    logits = torch.full((1, 16, 1), -9.0)
    logits[0, :4, 0] = torch.tensor([1.0, 3.0, 2.0, 0.5])
    for keywords, widths in (
        ({}, [41, 10, 20]),
        ({"nms_threshold": 1}, [41, 10, 40, 20]),
        ({"score_threshold": 0.85}, [41, 10]),
    ):
        expert = GroundingExpert(folders["owlv2"], **keywords)
        expert.load().model.box_predictor = lambda patches, grid: planted
        expert.load().model.class_predictor = lambda patches, words: (logits, None)
        (found,) = expert.run([GroundPhrase(view(100, 100), "cat")])
        np.testing.assert_allclose(found.boxes[:, 2] - found.boxes[:, 0], widths, atol=1e-4)


def test_boxes_for_no_word_of_the_phrase_are_left_out(folders):
    expert = GroundingExpert(folders["grounding-dino"], score_threshold=0.3, text_threshold=0.4)

    def planted(module, args, keywords, outputs):
        logits = torch.full_like(outputs.logits, -50.0)
        # [CLS] red cat . [SEP]; the best token of each: a word, the full stop, a mark, a word that is too weak.
        for query, (token, share) in enumerate(((2, 0.9), (3, 0.9), (4, 0.9), (1, 0.35))):
            logits[:, query, token] = float(np.log(share / (1 - share)))
        return replace_output(outputs, logits=logits)

    expert.load().model.register_forward_hook(planted, with_kwargs=True)
    (found,) = expert.run([GroundPhrase(view(), "red cat")])
    np.testing.assert_allclose(found.scores, [0.9], atol=1e-6)


# --- how they are asked -----------------------------------------------------------------------------------------------


def test_each_model_is_asked_by_its_own_convention(folders):
    def asked(kind, phrase, **keywords):
        expert, heard = GroundingExpert(folders[kind], **keywords), []
        processor = expert.load().processor
        tokenizer = processor.tokenizer

        class Listening:
            def __getattr__(self, name):
                return getattr(tokenizer, name)

            def __call__(self, texts, **more):
                heard.append(texts)
                return tokenizer(texts, **more)

        processor.tokenizer = Listening()
        expert.run([GroundPhrase(view(), phrase)])
        return heard[-1][0]

    assert asked("grounding-dino", " Red  Cat") == "red cat."
    assert asked("mm-grounding-dino", "Bus No. 5.") == "bus no 5."
    assert asked("owlv2", "Red cat ") == "a photo of a Red cat"
    assert asked("owlv2", "{cat}", template="{}") == "{cat}"
    image = "<image>" * 2 + "<s>"
    assert asked("florence2", "red <loc_5> cat") == f"{image}Locate red loc_5 cat in the image.</s>"
    caption = f"{image}Locate the phrases in the caption: red cat</s>"
    assert asked("florence2", "red cat", task="<CAPTION_TO_PHRASE_GROUNDING>") == caption


def test_the_empty_phrase_names_nothing_and_a_long_one_is_cut_off(expert):
    long = "a small red cat on the left of the blue car " * 12
    assert len(long) > 500
    requests = [
        GroundPhrase(view(), phrase) for phrase in ("", " ", long, "猫🐈" * 250, "<image> [SEP] <|endoftext|>", ".?")
    ]
    results = expert.run(requests)
    assert [len(result) for result in results[:2]] == [0, 0]
    for request, found in zip(requests, results, strict=True):
        check_result(request, found)


def test_images_of_odd_sizes_and_of_8k(expert):
    pixels = np.zeros((4320, 7680, 3), np.uint8)
    pixels[1000:3000, 2000:6000] = 255
    views = [view(*size) for size in ODD_SIZES] + [View(pixels, Provenance(RootPixels(pixels)))]
    requests = [GroundPhrase(each, "red cat") for each in views]
    for request, found in zip(requests, expert.run(requests), strict=True):
        check_result(request, found)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(8, 300), st.floats(1, 100))
@settings(max_examples=50)
def test_images_are_made_smaller_or_less_narrow_and_else_left_alone(width, height, longest, aspect):
    pixels = np.zeros((height, width, 3), np.uint8)
    smaller, wider = at_most(pixels, longest), at_least(pixels, aspect)
    assert max(smaller.shape[:2]) == min(longest, max(width, height))
    high, wide = wider.shape[:2]
    assert max(high, wide) <= aspect * min(high, wide) + 1e-6
    assert max(high, wide) == max(height, width)
    for changed, alike in ((smaller, max(width, height) <= longest), (wider, (high, wide) == (height, width))):
        assert (changed is pixels) == alike
