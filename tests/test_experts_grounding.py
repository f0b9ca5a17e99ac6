"""Open-vocabulary detectors at a tiny size, against their own packages, in batches, and as files."""

import json
import pickle
import shutil

import gymnasium as gym
import numpy as np
import pytest
import torch
import transformers
from tiny_grounding import KINDS, all_found, close, mixed, saved
from tiny_models import view

from visenv.capabilities import GroundPhrase
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.grounding import GroundingExpert, GroundingModel
from visenv.experts_checks import check_result

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
    monkeypatch.setattr("visenv.experts.models.remembering.CACHE_BYTES", 6000)
    for kind in KINDS:
        tight = GroundingExpert(folders[kind], score_threshold=0.0, text_threshold=0.0, nms_threshold=1.0)
        for request in mixed():
            close(tight.run([request])[0], tight.run([request])[0], request.view.size)
        assert tight._cache().size <= 6000


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
