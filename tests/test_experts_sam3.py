"""SAM 3 at a tiny size, saved as facebook/sam3 is, against its own package, in batches, and as files."""

import json
import pickle
import shutil
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
import transformers
from tiny_models import owlv2, sam3, view
from tiny_sam3 import close, points

from visenv.capabilities import GroundPhrase, Prompt, SegmentPrompts
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.presets import load_preset
from visenv.experts.sam3 import Sam3Expert, Sam3Parts
from visenv.experts_checks import check_result

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


def count_calls(module):
    """How many inputs each call of a network got, and what ends the counting."""
    calls = []
    handle = module.register_forward_hook(lambda _, inputs, kw, out: calls.append(len(out[0])), with_kwargs=True)
    return calls, handle


def mixed():
    first, second, third = view(40, 30), view(25, 60), view(41, 30, seed=3)
    return [
        GroundPhrase(first, "red cat"),
        SegmentPrompts(second, (points((3, 4)), points((9, 9), (2, 2), labels=[1, 0]))),
        GroundPhrase(second, "a dog"),
        GroundPhrase(first, "car"),
        SegmentPrompts(first, (Prompt(box=np.array([4.0, 5, 30, 20])), points((20, 20)))),
        GroundPhrase(third, "red cat"),
    ]


# --- against transformers itself --------------------------------------------------------------------------------------


def test_phrases_are_answered_as_transformers_answers_them(folder, expert):
    asked = view(40, 30)
    processor = transformers.Sam3Processor.from_pretrained(folder)
    model = transformers.Sam3Model.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = processor(images=asked.pixels, text="red cat", return_tensors="pt", input_data_format="channels_last")
    with torch.inference_mode():
        outputs = model(**inputs)
    theirs = processor.post_process_instance_segmentation(outputs, 0.1, 0.5, target_sizes=[(30, 40)])[0]
    order = np.argsort(-theirs["scores"].numpy(), kind="stable")
    (ours,) = expert.run([GroundPhrase(asked, "red cat")])
    assert len(ours) > 2
    np.testing.assert_allclose(ours.scores, theirs["scores"].numpy()[order], atol=1e-5)
    np.testing.assert_allclose(ours.boxes, theirs["boxes"].numpy()[order].clip(0, [40, 30, 40, 30]), atol=1e-3)
    assert ours.masks.areas.min() > 0
    assert (ours.masks.to_dense() != theirs["masks"].numpy()[order].astype(bool)).mean() < 1e-3


@pytest.mark.parametrize(
    "prompt",
    [points((3, 4)), points((30, 2), (5, 20), labels=[1, 0]), Prompt(box=np.array([4.0, 5, 30, 20]))],
    ids=["point", "points", "box"],
)
def test_prompts_are_answered_as_transformers_answers_them(folder, expert, prompt):
    asked = view(40, 30)
    processor = transformers.Sam3TrackerProcessor.from_pretrained(folder)
    model = transformers.Sam3TrackerModel.from_pretrained(folder, dtype=torch.float32).eval()
    keywords = {}
    if len(prompt.points):
        labels = np.ones(len(prompt.points), int) if prompt.labels is None else prompt.labels
        keywords = {"input_points": [[prompt.points.tolist()]], "input_labels": [[labels.tolist()]]}
    if prompt.box is not None:
        keywords = {"input_boxes": [[prompt.box.tolist()]]}
    inputs = processor(images=asked.pixels, return_tensors="pt", input_data_format="channels_last", **keywords)
    with torch.inference_mode():
        outputs = model(**inputs)
    theirs = processor.post_process_masks(outputs.pred_masks, inputs["original_sizes"])[0][0]
    (ours,) = expert.run([SegmentPrompts(asked, (prompt,))])
    np.testing.assert_allclose(ours.scores[0], outputs.iou_scores[0, 0].numpy(), atol=1e-4)
    assert (ours.masks[0].to_dense() != theirs.numpy()).mean() < 1e-3


def test_the_embedding_for_no_memory_lies_on_the_coarsest_level_that_is_used(folder):
    expert = Sam3Expert(folder)
    ask = [SegmentPrompts(view(), (points((3, 4)),))]
    before = expert.run(ask)[0].scores[0]
    expert.load().tracker.no_memory_embedding.data.fill_(1.0)
    assert not np.allclose(before, expert.run(ask)[0].scores[0], atol=1e-4)


# --- one look for all -------------------------------------------------------------------------------------------------


def test_a_batch_of_n_equals_n_batches_of_one_and_remembering_changes_nothing(expert):
    requests = mixed()
    together = expert.run(requests)
    again = expert.run(requests)
    expert._forget()
    for request, one, other in zip(requests, together, again, strict=True):
        check_result(request, one)
        expert._forget()
        close(one, expert.run([request])[0], request.view.size)
        close(one, other, request.view.size)


def test_an_image_is_looked_at_once_for_all_phrases_and_prompts_and_a_phrase_is_read_once(expert):
    parts = expert.load()
    assert parts.shares
    looks, end = count_calls(parts.detector.vision_encoder.backbone)
    reads, end_reading = count_calls(parts.detector.text_encoder)
    fused, end_fusing = count_calls(parts.detector.detr_encoder)
    try:
        expert.run(mixed())
        assert (looks, reads, fused) == ([3], [3], [4])
        expert.run([GroundPhrase(view(40, 30), "thing"), *mixed()[:3]])
        assert (looks, reads) == ([3], [3, 1])
        new = view(77, 20), view(20, 77)
        expert.run([SegmentPrompts(new[0], (points((1, 1)),)), *(GroundPhrase(each, "car") for each in new)])
        assert (looks, reads) == ([3, 2], [3, 1])
    finally:
        for each in (end, end_reading, end_fusing):
            each.remove()


def test_networks_that_do_not_share_a_backbone_look_each_for_itself(folder):
    detector = transformers.Sam3Model.from_pretrained(folder, dtype=torch.float32)
    tracker = transformers.Sam3TrackerModel.from_pretrained(folder, dtype=torch.float32)
    processor = transformers.Sam3Processor.from_pretrained(folder)
    expert = Sam3Expert(Sam3Parts(processor, detector, tracker), score_threshold=0.1)
    looks, end = count_calls(tracker.vision_encoder.backbone)
    shared = Sam3Expert(folder, score_threshold=0.1).run(mixed())
    for request, one, other in zip(mixed(), expert.run(mixed()), shared, strict=True):
        close(one, other, request.view.size)
    end.remove()
    assert looks == [2]
    assert Sam3Expert(Sam3Parts(processor, detector)).capabilities == ("GroundPhrase",)
    assert Sam3Expert(Sam3Parts(processor, tracker=tracker)).capabilities == ("SegmentPrompts",)


def test_what_is_remembered_fits_the_budget(folder):
    weights = Sam3Expert(folder, memory_mb=100)
    spare = weights.spare_bytes
    tight = Sam3Expert(folder, memory_mb=(100e6 - spare) / 1e6 + 0.01)
    for request in mixed():
        tight.run([request])
    assert tight._cache().size <= 10_000 + 1
    assert 0 < len(tight._cache()) < 6
    with pytest.raises(InvalidData, match="fit into memory_mb=1, but they take"):
        Sam3Expert(folder, memory_mb=1).load()


# --- weights ----------------------------------------------------------------------------------------------------------


def test_fingerprints_unloading_and_copies(folder, expert):
    prints = {
        Sam3Expert(folder, **keywords).fingerprint
        for keywords in ({}, {"score_threshold": 0.41}, {"mask_threshold": 0.4})
    }
    assert len(prints) == 3
    assert Sam3Expert(folder).fingerprint in prints
    request = GroundPhrase(view(), "red cat")
    (before,) = expert.run([request])
    twin = pickle.loads(pickle.dumps(expert))
    assert len(pickle.dumps(expert)) < 10_000
    assert twin.fingerprint == expert.fingerprint
    expert.unload()
    for each in (twin, expert):
        close(before, each.run([request])[0], (40, 30))
    expert.warm_up()
    assert len(expert._cache()) == 0


def test_bf16_is_near_fp32(folder, expert):
    request = SegmentPrompts(view(), (points((3, 4)), Prompt(box=np.array([4.0, 5, 30, 20]))))
    exact, near = expert.run([request])[0], Sam3Expert(folder, precision="bf16").run([request])[0]
    assert np.abs(np.stack(exact.scores) - np.stack(near.scores)).mean() < 0.05
    found = Sam3Expert(folder, precision="bf16", score_threshold=0.1).run([GroundPhrase(view(), "red cat")])[0]
    check_result(GroundPhrase(view(), "red cat"), found)


def test_folders_of_one_head_answer_what_that_one_can(tmp_path, folder):
    for kind, name, asked in (
        (transformers.Sam3Model, "GroundPhrase", GroundPhrase(view(), "cat")),
        (transformers.Sam3TrackerModel, "SegmentPrompts", SegmentPrompts(view(), (points((3, 4)),))),
    ):
        own = tmp_path / name
        kind.from_pretrained(folder, dtype=torch.float32).save_pretrained(own)
        settings = json.loads((own / "config.json").read_text())
        settings["model_type"] = "sam3" if name == "GroundPhrase" else "sam3_tracker"
        (own / "config.json").write_text(json.dumps(settings))
        for file in ("processor_config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(folder / file, own / file)
        expert = Sam3Expert(own, score_threshold=0.1)
        assert expert.capabilities == (name,)
        check_result(asked, expert.run([asked])[0])


def test_only_what_is_asked_of_it_is_loaded(folder):
    spec = {"expert": "sam3", "model": str(folder), "capabilities": ["SegmentPrompts"], "score_threshold": 0.1}
    (expert,) = load_preset({"experts": [spec]}).make()
    assert expert.load().detector is None
    check_result(mixed()[1], expert.run([mixed()[1]])[0])


def test_the_published_names_of_processors_are_known(tmp_path, folder):
    own = shutil.copytree(folder, tmp_path / "sam3")
    settings = json.loads((own / "processor_config.json").read_text())
    settings["image_processor"]["image_processor_type"] = "Sam3ImageProcessorFast"
    (own / "processor_config.json").write_text(json.dumps(settings))
    assert type(Sam3Expert(own).load().processor).__name__ == "Sam3Processor"


def test_missing_and_mismatched_files_are_named(tmp_path, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingWeights, match=r"hf download facebook/sam3.*gated.*https://huggingface.co/facebook/sam3"):
        Sam3Expert()
    with pytest.raises(MissingWeights, match="hf download facebook/sam3"):
        gym.make("VisHarness/ReasonSeg-v0", experts="sam3")
    with pytest.raises(InvalidData, match="Expected a model of the type sam3_video or sam3 or sam3_tracker"):
        Sam3Expert(owlv2(tmp_path / "owlv2"))
    own = shutil.copytree(folder, tmp_path / "sam3")
    (own / "tokenizer.json").rename(own / "elsewhere.json")
    with pytest.raises(MissingWeights, match="Expected tokenizer.json"):
        Sam3Expert(own)
    (own / "elsewhere.json").rename(own / "tokenizer.json")
    settings = json.loads((own / "processor_config.json").read_text())
    settings["image_processor"]["size"] = {"height": 224, "width": 224}
    (own / "processor_config.json").write_text(json.dumps(settings))
    with pytest.raises(InvalidData, match="images of 112x112 for the Sam3Model of .*, but got one for 224x224"):
        Sam3Expert(own).load()
    shutil.copy(tmp_path / "owlv2" / "processor_config.json", own / "processor_config.json")
    with pytest.raises(InvalidData, match="Expected a Sam3ImageProcessor for the model in .*, but got a Owlv2Image"):
        Sam3Expert(own).load()
    with pytest.raises(InvalidData, match="Expected score_threshold to be a number from 0 to 1, but got 40"):
        Sam3Expert(folder, score_threshold=40)
    with pytest.raises(InvalidData, match="Expected a detector or a tracker"):
        Sam3Parts(transformers.Sam3Processor.from_pretrained(folder))


# --- in an environment ------------------------------------------------------------------------------------------------


def test_an_episode_is_played_with_the_preset(folder):
    preset = load_preset("sam3")
    spec = preset.experts[0]
    assert spec.keywords["score_threshold"] == 0.4
    tiny = replace(
        spec, keywords={**spec.keywords, "model": str(folder), "score_threshold": 0.0, "mask_threshold": 0.2}
    )
    experts = replace(preset, experts=(tiny,)).using(device="cpu").make()
    env = gym.make("VisHarness/ReasonSeg-v0", experts=experts)
    env.reset(seed=0)
    for name in ("PhraseToBoxMask", "MergeBoxMask"):
        arguments = (
            {"images": ["img_0"], "phrase": "red square"} if name == "PhraseToBoxMask" else {"images": ["img_0"]}
        )
        *_, info = env.step({"name": name, "arguments": arguments})
        assert info["error"] is None, info["error"]
    assert env.unwrapped.episode.outcome.detections is not None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_it_runs_on_a_gpu(folder, expert, precision):
    other = Sam3Expert(folder, device="cuda", precision=precision, score_threshold=0.1)
    for request, one in zip(mixed(), other.run(mixed()), strict=True):
        check_result(request, one)
