"""YOLO experts and words: which classes a phrase names, and vocabularies that are open."""

import pickle

import numpy as np
import pytest
import torch
from tiny_yolo import assert_same, encode, ground, made_networks, make_network, options, saved

import visenv  # noqa: F401 - registers the ids
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.yolo import YoloExpert, save_yolo
from visenv.experts.yolo.vocabulary import SYNONYMS, ClassMatcher

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def networks():
    return made_networks()


@pytest.fixture(scope="module")
def folders(networks, tmp_path_factory):
    return saved(networks, tmp_path_factory)


# --- open vocabularies ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "passes"), [("world", 3), ("yoloe", 2)])
def test_an_open_vocabulary_is_asked_for_phrases(name, passes, networks):
    expert = YoloExpert(networks[name], **options(name))
    sizes = []
    hook = networks[name].model[0].register_forward_hook(lambda module, arguments, output: sizes.append(len(output)))
    found = expert.run([ground("a purple  thing"), ground("Dogs"), ground("dogs", 4), ground(" ")])
    hook.remove()
    assert sizes == [passes]
    assert found[0].labels == ("a purple  thing",) * len(found[0])
    assert len(found[0])
    assert not np.array_equal(found[0].scores, found[1].scores)
    assert len(found[3]) == 0


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A CLIP model in the layout of transformers, as tiny as can be."""
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("clip")
    letters = [chr(ord("a") + index) for index in range(26)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    CLIPTokenizer(vocab={word: index for index, word in enumerate(words)}, merges=[]).save_pretrained(folder)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    tokens = {"vocab_size": len(words), "bos_token_id": 52, "eos_token_id": 53, "pad_token_id": 53}
    config = CLIPConfig(text_config=small | tokens, vision_config=small | {"image_size": 32, "patch_size": 16})
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_yolo_world_embeds_phrases_by_clip(clip, networks, folders):
    expert = YoloExpert(folders["world"], **options("world", text_encoder=clip))
    found = expert.run([ground("a red car"), ground("dogs")])
    assert all(len(each) for each in found)
    assert not np.array_equal(found[0].scores, found[1].scores)
    twin = pickle.loads(pickle.dumps(expert))
    for one, other in zip(twin.run([ground("a red car"), ground("dogs")]), found, strict=True):
        assert_same(one, other, 1e-6)
    assert YoloExpert(folders["world"], **options("world")).fingerprint != expert.fingerprint
    with pytest.raises(InvalidData, match=r"\(1, 512\) for one phrase, but got \(1, 3\)"):
        YoloExpert(networks["world"], text_encoder=lambda texts: np.zeros((len(texts), 3))).run([ground("dogs")])


def test_a_text_encoder_that_is_not_there_is_asked_for_at_once(networks, folders, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match="hf download openai/clip-vit-base-patch32"):
        YoloExpert(folders["world"])
    with pytest.raises(InvalidData, match="text_encoder for a YOLOE"):
        YoloExpert(networks["yoloe"])


@pytest.mark.parametrize("name", ["world", "yoloe"])
def test_classes_that_were_set_are_a_fixed_vocabulary(name, tmp_path):
    network = make_network(name)
    vectors = torch.from_numpy(encode(["cat", "bus", "cup"])).float()[None]
    vectors = vectors / vectors.norm(dim=-1, keepdim=True)
    if name == "world":
        network.txt_feats = vectors
    else:
        network.pe = network.model[-1].get_tpe(vectors).detach()
    network.names = {0: "cat", 1: "bus", 2: "cup"}
    network.model[-1].nc = 3
    save_yolo(network, tmp_path)
    closed = options(name, text_encoder=None, score_threshold=0.0)
    expert = YoloExpert(tmp_path, **closed)
    found = expert.run([ground("the mugs"), ground("tree")])
    assert set(found[0].labels) == {"cup"}
    assert len(found[1]) == 0
    built = YoloExpert(network, **closed)
    assert_same(built.run([ground("mug")])[0], found[0], 1e-6)
    kept = "txt_feats" if name == "world" else "pe"
    setattr(network, kept, getattr(network, kept).flip(1))
    assert YoloExpert(network, **closed).fingerprint != built.fingerprint


def test_an_open_vocabulary_without_classes_needs_an_encoder(networks):
    with pytest.raises(InvalidData, match="no classes were set"):
        YoloExpert(make_network("yoloe"), text_encoder=None)


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phrase", "names"),
    [
        ("person", "person"),
        ("the women", "person"),
        ("people in red", "person"),
        ("a man riding a horse", "person"),
        ("red car", "car"),
        ("the red cars left of the house", "car"),
        ("a group of people next to a bus", "person"),
        ("a pair of scissors", "scissors"),
        ("one of the dogs", "dog"),
        ("hot dogs", "hot dog"),
        ("a car that is parked on the street", "car"),
        ("Dining-Tables", "dining table"),
        ("the man's umbrella", "umbrella"),
        ("cups of coffee", "cup"),
        ("pieces of fruit", "apple banana orange"),
        ("vehicles", "airplane bicycle boat bus car motorcycle train truck"),
        ("skis", "skis"),
        ("wine glasses", "wine glass"),
        ("knives and forks", "knife"),
        ("buses", "bus"),
        ("car keys", ""),
        ("something that keeps the rain off", ""),
        ("", ""),
        ("of", ""),
        ("日本", ""),
    ],
)
def test_a_phrase_names_the_classes_of_its_noun(phrase, names):
    matcher = ClassMatcher(tuple(SYNONYMS))
    found = sorted(matcher.names[index].replace(" ", "_") for index in matcher(phrase))
    assert found == [name for name in ([names.replace(" ", "_")] if names in SYNONYMS else names.split())]


@pytest.mark.parametrize("name", SYNONYMS)
def test_each_class_of_coco_is_found_by_its_name_and_by_all_its_other_names(name):
    matcher = ClassMatcher(tuple(SYNONYMS))
    index = matcher.names.index(name)
    plurals = {"mouse": "mice", "knife": "knives", "bus": "buses", "wine glass": "wine glasses"}
    uncountable = ("sheep", "skis", "broccoli", "scissors")
    plural = name if name in uncountable else plurals.get(name, name + "s")
    assert matcher(name) == matcher(f"many {plural}") == (index,)
    for other in SYNONYMS[name]:
        assert index in matcher(f"the {other}"), other


def test_users_add_words(networks):
    expert = YoloExpert(networks["detect"], **options("detect", synonyms={"truck": ["rig"]}))
    assert_same(expert.run([ground("big rigs")])[0], expert.run([ground("truck")])[0])
    assert expert.fingerprint != YoloExpert(networks["detect"], **options("detect")).fingerprint
    with pytest.raises(InvalidData, match="synonyms for classes of the model"):
        YoloExpert(networks["detect"], synonyms={"lorry": ["truck"]})
    with pytest.raises(InvalidData, match="a list of words"):
        YoloExpert(networks["detect"], synonyms={"truck": "rig"})
