"""Embedding images and texts: tiny models with random weights."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from tiny_models import view
from tiny_pairs import clip, siglip, siglip2

from visenv.capabilities import Embed, ReadText, View
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.embed import EmbedExpert
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels

MAKERS = {"clip": clip, "siglip": siglip, "siglip2": siglip2}
SHAPES = ((40, 30), (61, 97), (1, 1), (3, 200), (300, 2), (32, 32))
TEXTS = ("a photo of the cat", "", "red", "the small red car, left of the dog " * 20, "ünïcode ☃", "RED")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in MAKERS.items()}


@pytest.fixture(scope="module")
def experts(folders):
    return {name: EmbedExpert(folder, device="cpu") for name, folder in folders.items()}


def embed(expert, asked_view, *texts):
    request = Embed(asked_view, texts)
    (found,) = expert.run([request])
    check_result(request, found)
    return found


@pytest.mark.parametrize("name", MAKERS)
def test_a_batch_is_as_many_of_one_with_and_without_texts(experts, name):
    requests = [Embed(view(*shape, seed=seed), TEXTS[:seed]) for seed, shape in enumerate(SHAPES)]
    together = ExpertPool({"Embed": experts[name]}).answer(requests)
    for request, found in zip(requests, together, strict=True):
        check_result(request, found)
        alone = embed(experts[name], request.view, *request.texts)
        assert np.abs(found.image - alone.image).max() < 1e-5
        assert found.texts.shape == alone.texts.shape == (len(request.texts), len(found.image))
        assert not len(alone.texts) or np.abs(found.texts - alone.texts).max() < 1e-5
        assert found.image.dtype == np.float32


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_as_by_the_packages_own_way(folders, experts, name):
    from PIL import Image
    from transformers import AutoModel, AutoProcessor

    model, processor = AutoModel.from_pretrained(folders[name]).eval(), AutoProcessor.from_pretrained(folders[name])
    asked = view(61, 97)
    texts = ["a photo of the cat", "red"]
    inputs = processor.image_processor(images=Image.fromarray(asked.pixels), return_tensors="pt")
    cut = {"padding": "max_length", "max_length": 16, "truncation": True}
    inputs.update(processor.tokenizer(texts, **cut, return_tensors="pt"))
    with torch.inference_mode():
        output = model(**inputs)
    found = embed(experts[name], asked, *texts)
    assert np.allclose(found.image, output.image_embeds[0], atol=1e-5)
    assert np.allclose(found.texts, output.text_embeds, atol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_images_and_texts_are_told_apart_and_equal_ones_are_not(experts, name):
    one, other = view(40, 30), view(40, 30, seed=1)
    found = embed(experts[name], one, "red", "blue", "red")
    assert np.array_equal(found.texts[0], found.texts[2])
    assert found.texts[0] @ found.texts[1] < 0.999
    assert found.image @ embed(experts[name], other).image < 0.99999
    assert np.array_equal(found.image, embed(experts[name], view(40, 30)).image)


def test_texts_too_long_are_cut_where_the_model_stops_reading(experts):
    for name in MAKERS:
        long = "red " * 100
        cut = embed(experts[name], view(), long, long + "car")
        assert np.array_equal(cut.texts[0], cut.texts[1])


def test_texts_of_all_requests_are_read_once_each(experts, monkeypatch):
    expert = experts["clip"]
    model, _ = expert.load()
    asked = []
    real = model.get_text_features
    monkeypatch.setattr(
        model, "get_text_features", lambda **inputs: asked.append(len(inputs["input_ids"])) or real(**inputs)
    )
    expert.run([Embed(view(seed=seed), ("red", "blue", str(seed))) for seed in range(4)])
    assert asked == [6]
    expert.run([Embed(view(), tuple(str(number) for number in range(300)))])
    assert asked[1:] == [256, 44]


def test_large_images_and_slivers_stay_bounded(experts):
    for shape in ((8000, 1), (1, 8000), (8000, 5)):
        for name in MAKERS:
            embed(experts[name], view(*shape))
    pixels = np.zeros((4320, 7680, 3), np.uint8)
    embed(experts["clip"], View(pixels, Provenance(RootPixels(pixels))))
    # The middle of a sliver is what CLIP's own cut of a square leaves of it.
    sliver = view(900, 30)
    middle = np.ascontiguousarray(sliver.pixels[:, 390:510])
    same = embed(experts["clip"], View(middle, Provenance(RootPixels(middle)))).image
    assert np.allclose(embed(experts["clip"], sliver).image, same, atol=1e-6)


def test_given_copied_and_reloaded_ones_answer_alike(experts):
    for expert in experts.values():
        expected = embed(expert, view(), "red")
        given = EmbedExpert(expert.load(), device="cpu")
        twin, copied = pickle.loads(pickle.dumps(expert)), pickle.loads(pickle.dumps(given))
        assert (twin.fingerprint, copied.fingerprint) == (expert.fingerprint, given.fingerprint)
        for other in (given, twin, copied):
            other.unload()
            found = embed(other, view(), "red")
            assert np.allclose(found.image, expected.image, atol=1e-6)
            assert np.allclose(found.texts, expected.texts, atol=1e-6)


def test_bf16_and_warming_up(folders, experts):
    expert = EmbedExpert(folders["siglip2"], device="cpu", precision="bf16")
    expert.warm_up()
    exact, rough = embed(experts["siglip2"], view(), "red"), embed(expert, view(), "red")
    assert exact.image @ rough.image > 0.99
    assert expert.fingerprint != experts["siglip2"].fingerprint


def test_missing_and_wrong_files_are_said_at_once(folders, tmp_path):
    with pytest.raises(MissingWeights, match="hf download google/siglip2-base-patch16-256"):
        EmbedExpert("google/siglip2-base-patch16-256")
    copy = shutil.copytree(folders["clip"], tmp_path / "copy")
    (copy / "config.json").write_text('{"model_type": "owlv2"}')
    with pytest.raises(InvalidData, match="Expected a model of the type clip or siglip or siglip2 in .*'owlv2'"):
        EmbedExpert(copy)
    copy = shutil.copytree(folders["clip"], tmp_path / "mixed")
    shutil.copy(folders["siglip"] / "model.safetensors", copy / "model.safetensors")
    with pytest.raises(InvalidData, match="Expected all weights|cannot be read"):
        EmbedExpert(copy).load()
    with pytest.raises(InvalidData, match="embed does not answer ReadText"):
        EmbedExpert(folders["clip"], device="cpu").run([ReadText(view())])
    with pytest.raises(InvalidData, match="a built model of embed"):
        EmbedExpert(EmbedExpert(folders["clip"], device="cpu").load()[0])


def test_a_preset_names_it(folders):
    from visenv.experts.presets import load_preset

    (expert,) = load_preset({"experts": [{"expert": "embed", "model": str(folders["clip"]), "device": "cpu"}]}).make()
    assert isinstance(expert, EmbedExpert)
