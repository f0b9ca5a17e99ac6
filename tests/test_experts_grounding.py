"""Open-vocabulary detectors at a tiny size, against their own packages and with outputs planted by hand."""

import json
import pickle
import shutil

import gymnasium as gym
import numpy as np
import pytest
import test_experts_sam2
import torch
import transformers
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from stubs import BrightExpert
from tiny_models import florence2, grounding_dino, owlv2, view

from visenv.capabilities import Candidates, ExpertFailure, GroundPhrase, Prompt, SegmentPrompts, View
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.classical import Classical
from visenv.experts.grounding import GroundingExpert, GroundingModel
from visenv.experts.grounding.finder import at_least, at_most
from visenv.experts.presets import load_preset, preset_text
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks

TOLERANCE = 1e-3
"""Of boxes (in shares of the sides) and scores between one batch and another, in fp32."""
ODD_SIZES = [(1, 1), (1, 300), (300, 1), (333, 7), (3, 3), (64, 48), (2000, 1)]
KINDS = ["grounding-dino", "mm-grounding-dino", "owlv2", "florence2"]
MAKERS = {"owlv2": owlv2, "florence2": florence2}
sam2_files = test_experts_sam2.files
"""A tiny SAM 2: its checkpoint and its configuration."""


@pytest.fixture(scope="module", autouse=True)
def small():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visenv.experts.grounding.florence2.MOST_WORDS", 10)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    made = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = MAKERS[kind](folder) if kind in MAKERS else grounding_dino(folder, kind)
    return made


@pytest.fixture(scope="module")
def loaded(folders):
    loose = {"score_threshold": 0.0, "text_threshold": 0.0, "nms_threshold": 1.0}
    return {kind: GroundingExpert(folder, **loose) for kind, folder in folders.items()}


@pytest.fixture(params=KINDS)
def expert(request, loaded):
    loaded[request.param]._forget()
    return loaded[request.param]


def mixed():
    first, second, third = view(40, 30), view(25, 60), view(60, 45, seed=3)
    asked = [(first, "red cat"), (second, "a small dog"), (first, "car"), (third, "thing"), (second, "Blue. Circle?")]
    return [GroundPhrase(*each) for each in asked]


def close(one, other, size):
    """Whether two results of one request agree."""
    assert len(one) == len(other)
    np.testing.assert_allclose(one.scores, other.scores, atol=TOLERANCE)
    sides = np.array([*size, *size])
    np.testing.assert_allclose(one.boxes / sides, other.boxes / sides, atol=TOLERANCE)
    check_result(GroundPhrase(view(*size), ""), one)


# --- against transformers itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["grounding-dino", "mm-grounding-dino", "owlv2"])
def test_detectors_answer_as_transformers_does(folders, loaded, kind):
    asked, phrase = view(40, 30), "red cat"
    processor = transformers.AutoProcessor.from_pretrained(folders[kind])
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folders[kind], dtype=torch.float32).eval()
    texts, more = ["red cat."], {}
    if kind == "owlv2":
        texts, more = [["a photo of a red cat"]], {"padding": "max_length"}
    inputs = processor(images=asked.pixels, text=texts, return_tensors="pt", input_data_format="channels_last", **more)
    with torch.inference_mode():
        outputs = model(**inputs)
    more = {} if kind == "owlv2" else {"input_ids": inputs.input_ids, "text_threshold": 0.0}
    (theirs,) = processor.post_process_grounded_object_detection(
        outputs, threshold=0.0, target_sizes=[(30, 40)], **more
    )
    (ours,) = loaded[kind].run([GroundPhrase(asked, phrase)])
    boxes = theirs["boxes"].double().numpy().clip(0, [40, 30, 40, 30])
    inside = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    order = np.argsort(-theirs["scores"].double().numpy()[inside], kind="stable")
    assert len(ours) == inside.sum() > 5
    np.testing.assert_allclose(ours.scores, theirs["scores"].numpy()[inside][order], atol=1e-5)
    np.testing.assert_allclose(ours.boxes, boxes[inside][order], atol=1e-3)


@pytest.mark.parametrize("task", ["<OPEN_VOCABULARY_DETECTION>", "<CAPTION_TO_PHRASE_GROUNDING>"])
def test_florence_writes_what_transformers_writes(folders, task):
    asked = [view(40, 30), view(25, 60)]
    phrases = ["red cat", "a small dog on the left"]
    processor = transformers.AutoProcessor.from_pretrained(folders["florence2"])
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(folders["florence2"]).float().eval()
    theirs = []
    for each, phrase in zip(asked, phrases, strict=True):
        inputs = processor(
            images=each.pixels, text=task + phrase, return_tensors="pt", input_data_format="channels_last"
        )
        with torch.inference_mode():
            written = model.generate(**inputs, max_new_tokens=10, num_beams=1, do_sample=False)
        theirs.append(processor.batch_decode(written, skip_special_tokens=False)[0].replace("<pad>", ""))
    expert = GroundingExpert(folders["florence2"], task=task)
    texts = spy(expert)
    expert.run([GroundPhrase(each, phrase) for each, phrase in zip(asked, phrases, strict=True)])
    assert [text.replace("<pad>", "") for text in texts] == theirs
    assert len(set(theirs)) == 2


def spy(expert):
    """What a Florence-2 writes from now on."""
    processor, texts = expert.load().processor, []
    parse = processor.post_process_generation

    def listening(text, **keywords):
        texts.append(text)
        return parse(text=text, **keywords)

    processor.post_process_generation = listening
    return texts


# --- one look for all -------------------------------------------------------------------------------------------------


def test_a_batch_of_n_equals_n_batches_of_one_and_remembering_changes_nothing(expert):
    requests = mixed()
    together, again = expert.run(requests), expert.run(requests)
    for request, one, other in zip(requests, together, again, strict=True):
        close(one, other, request.view.size)
        expert._forget()
        close(one, expert.run([request])[0], request.view.size)


def test_florence_writes_the_same_in_a_batch_and_alone(loaded):
    expert = loaded["florence2"]
    texts = spy(expert)
    expert.run(mixed())
    for request in mixed():
        expert._forget()
        expert.run([request])
    together, alone = texts[:5], texts[5:]
    assert [text.replace("<pad>", "") for text in together] == [text.replace("<pad>", "") for text in alone]


def test_each_image_is_looked_at_once(loaded):
    for kind, part in (
        ("grounding-dino", lambda model: model.model.backbone.conv_encoder),
        ("owlv2", lambda model: model.owlv2.vision_model),
        ("florence2", lambda model: model.model.vision_tower),
    ):
        expert, calls = loaded[kind], []
        expert._forget()
        end = part(expert.load().model).register_forward_hook(
            lambda module, inputs, out, calls=calls: calls.append(len(inputs[0]) if inputs else 1)
        )
        expert.run(mixed())
        before = sum(calls)
        expert.run([GroundPhrase(each.view, "car") for each in mixed()])
        end.remove()
        assert 1 <= len(calls) <= 3
        assert before == sum(calls)
        if kind != "owlv2":
            assert before == 3


def test_what_is_remembered_fits_the_budget(folders, monkeypatch):
    spare = GroundingExpert(folders["grounding-dino"], memory_mb=2).spare_bytes
    assert 0 < spare < 2e6
    assert GroundingExpert(folders["grounding-dino"], memory_mb=2)._cache().limit == spare
    monkeypatch.setattr("visenv.experts.grounding.expert.CACHE_BYTES", 6000)
    for kind in KINDS:
        tight = GroundingExpert(folders[kind], score_threshold=0.0, text_threshold=0.0, nms_threshold=1.0)
        for request in mixed():
            close(tight.run([request])[0], tight.run([request])[0], request.view.size)
        assert tight._cache().size <= 6000


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


def replace_output(outputs, **changes):
    for name, value in changes.items():
        outputs[name] = value
    return outputs


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


# --- masks ------------------------------------------------------------------------------------------------------------


class Outliner(BrightExpert):
    """Three candidates a box: the second is the best, and fills the left half of the box."""

    capabilities, max_batch, fingerprint = ("SegmentPrompts",), 16, "outliner-1"

    def answer(self, request):
        assert isinstance(request, SegmentPrompts)
        shape = request.view.size[::-1]
        masks = []
        for prompt in request.prompts:
            x0, y0, x1, y1 = prompt.box
            three = [[x0, y0, x1, y1], [x0, y0, (x0 + x1) / 2, y1], [0, 0, 1, 1]]
            masks.append(Masks.from_boxes(np.array(three), shape))
        return Candidates(tuple(masks), tuple(np.array([0.5, 0.9, 0.1]) for _ in masks))


def plant_boxes(expert):
    """Let Grounding DINO find the upper left and the lower right quarter of images that are not higher than wide."""

    def planted(module, args, keywords, outputs):
        boxes = torch.tensor([0.25, 0.25, 0.5, 0.5]).expand_as(outputs.pred_boxes).clone()
        boxes[:, 1] = 0.75
        boxes[:, 1, 2:] = 0.5
        logits = torch.full_like(outputs.logits, -50.0)
        if keywords["pixel_values"].shape[-1] >= keywords["pixel_values"].shape[-2]:
            logits[:, 0, 1], logits[:, 1, 1] = 2.0, 1.0
        return replace_output(outputs, pred_boxes=boxes, logits=logits)

    expert.load().model.register_forward_hook(planted, with_kwargs=True)
    return expert


def test_without_a_segmenter_boxes_are_filled(folders):
    expert = plant_boxes(GroundingExpert(folders["grounding-dino"]))
    (found, nothing) = expert.run([GroundPhrase(view(40, 30), "cat"), GroundPhrase(view(30, 40), "cat")])
    np.testing.assert_array_equal(found.masks.boxes, [[0, 0, 20, 15], [20, 15, 40, 30]])
    assert found.masks.areas.tolist() == [300, 300]
    assert (len(nothing), nothing.masks.shape) == (0, (40, 30))


def test_a_segmenter_is_called_once_and_its_best_candidate_taken(folders):
    outliner = Outliner()
    expert = plant_boxes(GroundingExpert(folders["grounding-dino"], outliner))
    requests = [GroundPhrase(view(*size), "cat") for size in ((40, 30), (30, 40), (80, 20), (40, 31))]
    first, nothing, third, _ = expert.run(requests)
    assert outliner.batches == [3]
    np.testing.assert_array_equal(first.masks.boxes, [[0, 0, 10, 15], [20, 15, 30, 30]])
    np.testing.assert_array_equal(first.boxes, [[0, 0, 20, 15], [20, 15, 40, 30]])
    np.testing.assert_array_equal(third.masks.boxes[0], [0, 0, 20, 10])
    assert len(nothing) == len(nothing.masks) == 0
    outliner.max_batch = 2
    expert.run(requests)
    assert outliner.batches == [3, 2, 1]


def test_what_a_segmenter_fails_on_fails_alone(folders):
    class Failing(Outliner):
        def answer(self, request):
            return ExpertFailure("outliner", "too wide") if request.view.size[0] > 60 else super().answer(request)

    expert = plant_boxes(GroundingExpert(folders["grounding-dino"], Failing()))
    pool = ExpertPool({"GroundPhrase": expert})
    good, bad = pool.answer([GroundPhrase(view(40, 30), "cat"), GroundPhrase(view(80, 20), "cat")])
    assert len(good) == 2
    assert bad.message == "too wide"


def test_the_segmenter_is_part_of_what_the_expert_is(folders):
    class PerSample(Outliner):
        per_sample = True

    folder = folders["owlv2"]
    other = Outliner()
    other.fingerprint = "outliner-2"
    prints = {GroundingExpert(folder, segmenter).fingerprint for segmenter in (None, Outliner(), other)}
    assert len(prints) == 3
    assert GroundingExpert(folder, PerSample()).per_sample
    assert not GroundingExpert(folder, Outliner()).per_sample
    with pytest.raises(InvalidData, match="Expected a segmenter that answers SegmentPrompts"):
        GroundingExpert(folder, GroundingExpert(folder))


# --- weights ----------------------------------------------------------------------------------------------------------


def test_fingerprints_unloading_and_copies(folders, expert):
    kind = next(kind for kind, folder in folders.items() if folder == expert._source[0])
    changes = [{}, {"score_threshold": 0.3}, {"text_threshold": 0.3}, {"nms_threshold": 0.5}, {"template": "{}"}]
    changes += [{"task": "<CAPTION_TO_PHRASE_GROUNDING>"}, {"precision": "bf16"}]
    prints = {GroundingExpert(folders[kind], **keywords).fingerprint for keywords in changes}
    assert len(prints) == len(changes)
    (before,) = expert.run(mixed()[:1])
    twin = pickle.loads(pickle.dumps(expert))
    assert len(pickle.dumps(expert)) < 10_000
    assert twin.fingerprint == expert.fingerprint
    expert.unload()
    for each in (twin, expert):
        close(before, each.run(mixed()[:1])[0], (40, 30))
    expert.warm_up()
    assert len(expert._cache()) == 0


def test_bf16_runs(folders):
    for kind in KINDS:
        expert = GroundingExpert(folders[kind], precision="bf16", score_threshold=0.0, text_threshold=0.0)
        for request, found in zip(mixed(), expert.run(mixed()), strict=True):
            check_result(request, found)


def test_a_built_model_is_taken_as_it_is(folders, loaded):
    for kind in KINDS:
        parts = loaded[kind].load()
        loose = {"score_threshold": 0.0, "text_threshold": 0.0, "nms_threshold": 1.0}
        given = GroundingExpert(GroundingModel(parts.model, parts.processor), **loose)
        close(loaded[kind].run(mixed()[:1])[0], given.run(mixed()[:1])[0], (40, 30))
    with pytest.raises(
        InvalidData, match="Expected a Florence2Processor for the model in the given model, but got a Owl"
    ):
        GroundingExpert(GroundingModel(loaded["florence2"].load().model, loaded["owlv2"].load().processor))
    with pytest.raises(InvalidData, match="Expected a model of the type grounding-dino or"):
        GroundingExpert(GroundingModel(transformers.BertModel(transformers.BertConfig(num_hidden_layers=0)), None))
    with pytest.raises(InvalidData, match="Expected model to be a folder"):
        GroundingExpert(3)


def test_thresholds_are_the_families_own_where_none_are_given(folders):
    assert [GroundingExpert(folders[kind]).score_threshold for kind in KINDS] == [0.35, 0.35, 0.1, 0.0]
    assert GroundingExpert(folders["owlv2"], score_threshold=0.0).score_threshold == 0.0


def test_missing_and_mismatched_files_are_named(tmp_path, folders, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingWeights, match="hf download IDEA-Research/grounding-dino-base"):
        GroundingExpert()
    with pytest.raises(MissingWeights, match="hf download"):
        gym.make("VisHarness/ReasonSeg-v0", experts="grounded-sam2")
    own = shutil.copytree(folders["grounding-dino"], tmp_path / "own")
    for file in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folders["owlv2"] / file, own / file)
    with pytest.raises(InvalidData, match="Expected a GroundingDinoProcessor for the model in .*, but got a Owlv2"):
        GroundingExpert(own).load()
    settings = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(settings | {"model_type": "detr"}))
    with pytest.raises(InvalidData, match="of the type grounding-dino or mm-grounding-dino or owlv2 or florence2 in"):
        GroundingExpert(own)
    (own / "config.json").write_text(json.dumps({"model_type": "florence2", "auto_map": {"AutoConfig": "x.Y"}}))
    with pytest.raises(InvalidData, match="hf download florence-community/Florence-2"):
        GroundingExpert(own)
    for keywords, message in (
        ({"score_threshold": 35}, "Expected score_threshold to be a number from 0 to 1, but got 35"),
        ({"task": "detect"}, "Expected task to be <OPEN_VOCABULARY_DETECTION> or"),
        ({"template": "a photo"}, "Expected a template with one {} for the phrase"),
    ):
        with pytest.raises(InvalidData, match=message):
            GroundingExpert(folders["owlv2"], **keywords)


# --- in an environment ------------------------------------------------------------------------------------------------


def play(env):
    env.reset(seed=0)
    *_, info = env.step({"name": "PhraseToBoxMask", "arguments": {"images": ["img_0"], "phrase": "red square"}})
    assert info["error"] is None, info["error"]
    *_, info = env.step({"name": "MergeBoxMask", "arguments": {"images": ["img_0"]}})
    assert info["error"] is None, info["error"]
    return env.unwrapped.episode.outcome.detections


def test_an_episode_is_played_with_boxes_outlined_by_the_classical_segmenter(folders):
    expert = plant_boxes(GroundingExpert(folders["grounding-dino"], segmenter=Classical()))
    env = gym.make("VisHarness/ReasonSeg-v0", experts={"*": "classical", "GroundPhrase": expert})
    assert len(play(env)) >= 1


def test_the_preset_chains_sam2(folders, sam2_files):
    content = yaml.safe_load(preset_text("grounded-sam2"))
    sam2, grounding = content["experts"]
    assert (grounding["segmenter"], grounding["score_threshold"]) == ("sam2", 0.35)
    sam2["model"], sam2["config"] = (str(file) for file in sam2_files)
    grounding["model"] = str(folders["grounding-dino"])
    experts = load_preset(content).using(device="cpu").make()
    assert experts[1].segmenter is experts[0]
    plant_boxes(experts[1])
    asked = GroundPhrase(view(80, 48), "cat")
    (found,) = experts[1].run([asked])
    check_result(asked, found)
    (outlined,) = experts[0].run([SegmentPrompts(asked.view, tuple(Prompt(box=box) for box in found.boxes))])
    for mask, masks, scores in zip(found.masks, outlined.masks, outlined.scores, strict=True):
        assert float(mask.iou(masks)[0, int(np.argmax(scores))]) == 1 or mask.areas[0] == 0


def test_the_preset_plays_an_episode_with_another_segmenter(folders):
    content = yaml.safe_load(preset_text("grounded-sam2"))
    grounding = {**content["experts"][1], "model": str(folders["grounding-dino"]), "segmenter": "classical"}
    experts = load_preset({"experts": [grounding], "rest": "classical"}).using(device="cpu").make()
    assert isinstance(experts[0].segmenter, Classical)
    plant_boxes(experts[0])
    assert len(play(gym.make("VisHarness/ReasonSeg-v0", experts=experts))) >= 1
