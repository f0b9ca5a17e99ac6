"""YOLO experts: built tiny, saved as users have them, read back without running anything, right in every frame."""

import os
import pickle
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stubs import BrightExpert, SquareDataset

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import ExpertFailure, GroundPhrase, PointPhrase, View
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.yolo import YoloExpert, save_yolo
from visenv.experts.yolo.checkpoints import Checkpoint, build, check_plan, checkpoint_of
from visenv.experts.yolo.frames import Frame
from visenv.experts.yolo.quiet import import_tasks
from visenv.experts.yolo.vocabulary import SYNONYMS, ClassMatcher
from visenv.experts_checks import check_result
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks
from visenv.types import ToolCall

SIDE = 64
NAMES = ("person", "car", "truck", "dog", "hot dog", "cup")
KINDS = {
    "detect": ("DetectionModel", "yolo11n.yaml"),
    "segment": ("SegmentationModel", "yolov8n-seg.yaml"),
    "end-to-end": ("SegmentationModel", "yolo26n-seg.yaml"),
    "world": ("WorldModel", "yolov8s-worldv2.yaml"),
    "yoloe": ("YOLOESegModel", "yoloe-11s-seg.yaml"),
}


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def encode(texts):
    """A text encoder: unit vectors that depend on the text alone."""
    return np.stack([np.random.default_rng(list(text.encode())).normal(size=512) for text in texts])


def make_network(name, seed=0):
    """A network of a kind, with random weights whose scores spread."""
    tasks = import_tasks()
    kind, plan = KINDS[name]
    plan = tasks.yaml_model_load(plan) | {"nc": len(NAMES), "scale": "t", "scales": {"t": [0.33, 0.25, 128]}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = getattr(tasks, kind)(plan, nc=len(NAMES), verbose=False)
        head = network.model[-1]
        for branch in (*head.cv3, *(getattr(head, "one2one_cv3", None) or ())):
            branch[-1].weight.data.normal_(0, 0.3)
        for branch in (*head.cv2, *(getattr(head, "one2one_cv2", None) or ())):
            # Near distances are the likeliest, so that boxes are small.
            branch[-1].weight.data.normal_(0, 0.3)
            branch[-1].bias.data.copy_((1.0 - torch.arange(head.reg_max)).repeat(4))
        for contrast in head.cv4 if name in ("world", "yoloe") else ():
            contrast.bias.data.fill_(-1)
        # With the statistics of a batch of noise, no layer dies out.
        norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1
        with torch.no_grad():
            network.train()(torch.rand(4, 3, SIDE, SIDE))
        for norm in norms:
            norm.momentum = 0.03
        if name == "end-to-end":
            head.end2end = True
    network.names = dict(enumerate(NAMES))
    return network.eval()


@pytest.fixture(scope="module")
def networks():
    return {name: make_network(name) for name in KINDS}


@pytest.fixture(scope="module")
def folders(networks, tmp_path_factory):
    return {
        name: save_yolo(network, tmp_path_factory.mktemp(name.replace("-", "")), SIDE)
        for name, network in networks.items()
    }


def options(name, **keywords):
    text = {"text_encoder": encode} if name in ("world", "yoloe") else {}
    return {"score_threshold": 0.01, "max_detections": 20, "image_size": SIDE} | text | keywords


def view(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


VIEWS = [view(48, 64), view(1, 1, 1), view(1, 300, 2), view(333, 7, 3), view(97, 61, 4)]


def ground(phrase, index=0):
    return GroundPhrase(VIEWS[index], phrase)


def assert_same(found, expected, tolerance=1e-3):
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=tolerance)
    np.testing.assert_allclose(found.scores, expected.scores, atol=tolerance)
    assert found.labels == expected.labels
    union = np.maximum(found.masks.areas, expected.masks.areas)
    assert (np.abs(found.masks.areas - expected.masks.areas) <= 0.02 * union + 1).all()


# --- reading and writing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_folder_a_file_and_a_built_model_find_the_same(name, networks, folders, tmp_path):
    network = networks[name]
    file = tmp_path / "model.pt"
    network.args = {"imgsz": SIDE}
    torch.save({"model": network, "ema": None, "train_args": {"imgsz": SIDE}, "date": "2026"}, file)
    requests = [ground("people"), ground("red cars", 4)]
    expected = YoloExpert(network, **options(name)).run(requests)
    assert sum(len(each) for each in expected)
    for source in (folders[name], file):
        expert = YoloExpert(source, **options(name))
        assert expert.load().image_size == SIDE
        for request, found, wanted in zip(requests, expert.run(requests), expected, strict=True):
            check_result(request, found)
            assert_same(found, wanted, 1e-6)


def test_a_network_in_16_bits_is_read(networks, tmp_path):
    half = make_network("detect").half()
    torch.save({"model": None, "ema": half, "train_args": {}}, tmp_path / "model.pt")
    found = YoloExpert(tmp_path / "model.pt", **options("detect")).run([ground("people")])[0]
    expected = YoloExpert(make_network("detect"), **options("detect")).run([ground("people")])[0]
    assert_same(found, expected, 0.2)


def test_an_object_of_the_package_is_taken(networks):
    class YOLO(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

    expert = YoloExpert(YOLO(networks["detect"]), **options("detect"))
    assert len(expert.run([ground("people")])[0])


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "hostile")


class Reduced:
    """Calls a class of ultralytics while it is unpickled."""

    def __init__(self, made, *arguments):
        self.made, self.arguments = made, arguments

    def __reduce__(self):
        return self.made, self.arguments


def test_a_hostile_checkpoint_is_refused_and_does_not_run(networks, tmp_path):
    sentinel, file = tmp_path / "sentinel", tmp_path / "model.pt"
    torch.save({"model": networks["detect"], "extra": Reduced(os.system, f"touch {sentinel}")}, file)
    with pytest.raises(InvalidData, match="it was not read"):
        YoloExpert(file)
    torch.save({"model": networks["detect"], "extra": Payload(sentinel)}, file)
    with pytest.raises(InvalidData, match="it was not read"):
        YoloExpert(file).load()
    assert not sentinel.exists()


def test_a_class_of_ultralytics_is_not_made_by_a_checkpoint(networks, tmp_path):
    sentinel, file = tmp_path / "sentinel", tmp_path / "model.pt"
    plan = {**networks["detect"].yaml, "activation": f"open({str(sentinel)!r}, 'w')"}
    torch.save({"model": networks["detect"], "extra": Reduced(import_tasks().DetectionModel, plan)}, file)
    with pytest.raises(InvalidData, match="Expected a checkpoint of one model|cannot be read"):
        raise_if_read(file)
    assert not sentinel.exists()


def raise_if_read(file):
    """Reads a checkpoint whose class is named more than once in a way that cannot be told apart."""
    YoloExpert(file).load()
    raise InvalidData("cannot be read: nothing was called")


@pytest.mark.parametrize(
    "change",
    [
        {"activation": "__import__('os').system('touch {}')"},
        {"activation": "nn.SiLU(open('{}', 'w'))"},
        {"head": [[-1, 1, "check_file", ["https://example.org/x"]]]},
        {"head": [[-1, 1, "torch_safe_load", ["x.pt"]]]},
        {"head": [[-1, 1, "TorchVision", [512, "resnet18", "DEFAULT"]]]},
        {"head": [[-1, 1, "nn.Module.register_module", []]]},
        {"head": [[-1, 1, "DetectionModel", []]]},
        {"head": [[-1, 1]]},
        {"head": "Detect"},
        {"channels": 4},
    ],
    ids=str,
)
def test_a_plan_names_layers_and_nothing_else(change, networks, tmp_path):
    checkpoint = checkpoint_of(networks["detect"])
    changed = {key: value.format(tmp_path / "x") if isinstance(value, str) else value for key, value in change.items()}
    plan = {**checkpoint.plan, **changed}
    with pytest.raises(InvalidData, match="Expected"):
        build(Checkpoint(checkpoint.kind, plan, checkpoint.names, checkpoint.tensors))
    assert not (tmp_path / "x").exists()


def test_honest_activations_are_taken(networks):
    for activation in ("nn.SiLU()", "torch.nn.LeakyReLU(0.1)", "nn.ReLU(inplace=True)"):
        check_plan({**networks["detect"].yaml, "activation": activation}, import_tasks())


def test_files_that_are_something_else_are_refused(networks, folders, tmp_path):
    (tmp_path / "text.pt").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "empty.pt", "w"):
        pass
    torch.save({"weights": torch.zeros(3)}, tmp_path / "tensors.pt")
    for name in ("text.pt", "empty.pt", "tensors.pt"):
        with pytest.raises(InvalidData, match="Expected a checkpoint of"):
            YoloExpert(tmp_path / name)
    with pytest.raises(InvalidData, match="a built model of ultralytics"):
        YoloExpert(torch.nn.Linear(2, 2))
    other = tmp_path / "other"
    save_yolo(networks["detect"], other)
    (other / "yolo.safetensors").write_bytes((folders["segment"] / "yolo.safetensors").read_bytes())
    with pytest.raises(InvalidData, match="they do not fit"):
        YoloExpert(other).load()
    (other / "yolo.safetensors").unlink()
    with pytest.raises(MissingWeights, match=r"yolo\.safetensors beside"):
        YoloExpert(other)
    (other / "yolo.yaml").write_text("kind: DetectionModel")
    (other / "yolo.safetensors").write_bytes(b"x")
    with pytest.raises(InvalidData, match="as save_yolo writes it"):
        YoloExpert(other)


def test_a_fused_model_is_not_saved(tmp_path):
    fused = make_network("detect").fuse(verbose=False)
    with pytest.raises(InvalidData, match="fused"):
        save_yolo(fused, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_weights_say_what_fetches_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingWeights, match=r"curl -L -o yolo11n\.pt https://github\.com/ultralytics/.*/yolo11n\.pt"):
        YoloExpert("yolo11n.pt")


# --- batches and frames -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_is_so_many_batches_of_one(name, networks):
    """Within 0.005 pixels and of score: the sums of a batch are added in another order."""
    expert = YoloExpert(networks[name], **options(name))
    requests = [ground(phrase, index) for index in range(len(VIEWS)) for phrase in ("man", "red cars", "hot dog")]
    together = expert.run(requests)
    assert sum(len(each) for each in together) >= 5
    for request, found in zip(requests, together, strict=True):
        check_result(request, found)
        assert_same(found, expert.run([request])[0], 5e-3)


class Planted:
    """What a network says, made by hand: ``rows`` of (x, y, width, height) in the square, a score and a class."""

    def __init__(self, rows, prototypes=None, coefficients=()):
        self.columns = torch.zeros(4 + len(NAMES), len(rows))
        for index, (*box, score, kind) in enumerate(rows):
            self.columns[:4, index] = torch.tensor(box)
            self.columns[4 + kind, index] = score
        if prototypes is not None:
            self.columns = torch.cat([self.columns, torch.tensor(coefficients, dtype=torch.float32).T])
        self.prototypes, self.batches = prototypes, []

    def __call__(self, batch, **keywords):
        self.batches.append(len(batch))
        predicted = self.columns[None].repeat(len(batch), 1, 1)
        if self.prototypes is None:
            return predicted, {}
        return (predicted, self.prototypes[None].repeat(len(batch), 1, 1, 1)), {}


def planted_expert(monkeypatch, rows, name="detect", **keywords):
    network = make_network(name)
    plant = Planted(rows, **{key: keywords.pop(key) for key in ("prototypes", "coefficients") if key in keywords})
    monkeypatch.setattr(network, "forward", plant)
    return YoloExpert(network, **options(name, **keywords)), plant


def test_boxes_lie_in_the_frame_of_the_image(monkeypatch):
    # 100x50 is fitted to 64x32, with 16 rows of grey above: x = x' / 0.64, y = (y' - 16) / 0.64.
    rows = [(32, 32, 32, 16, 0.9, 1), (16, 16, 8, 8, 0.8, 3), (4, 4, 8, 8, 0.7, 3)]
    expert, _ = planted_expert(monkeypatch, rows)
    request = GroundPhrase(view(50, 100), "a car")
    found = expert.run([request])[0]
    np.testing.assert_allclose(found.boxes, [[25, 12.5, 75, 37.5]])
    np.testing.assert_allclose(found.scores, [0.9], rtol=1e-6)
    assert found.labels == ("car",)
    check_result(request, found)
    cut = expert.run([GroundPhrase(view(50, 100), "dogs")])[0]
    np.testing.assert_allclose(cut.boxes, [[18.75, 0, 31.25, 6.25]], err_msg="What lies on the grey is cut off.")


@pytest.mark.parametrize("size", [(1, 1), (300, 1), (7, 333), (61, 97), (7680, 4320)])
def test_a_box_around_everything_is_the_whole_image(size, monkeypatch):
    frame = Frame(*size, SIDE)
    (x, y), (width, height) = frame.corner, frame.fitted
    box = (x + width / 2, y + height / 2, width, height)
    prototypes = torch.ones(32, SIDE // 4, SIDE // 4)
    expert, _ = planted_expert(
        monkeypatch, [(*box, 0.9, 0)], "segment", prototypes=prototypes, coefficients=[[1.0] * 32]
    )
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    found = expert.run([GroundPhrase(View(pixels, Provenance(RootPixels(pixels))), "man")])[0]
    np.testing.assert_allclose(found.boxes, [[0, 0, *size]], atol=1e-3 * max(size))
    assert found.masks.areas.tolist() == [size[0] * size[1]]


def test_letterboxes_are_those_of_ultralytics():
    from ultralytics.data.augment import LetterBox

    for size in [(1, 1), (300, 1), (7, 333), (61, 97), (640, 479), (64, 64)]:
        frame = Frame(*size, SIDE)
        square = LetterBox((SIDE, SIDE), auto=False, padding_value=0)(
            image=np.full((size[1], size[0], 3), 255, np.uint8)
        )
        rows, columns = np.nonzero(square[..., 0])
        corner, fitted = (columns.min(), rows.min()), (np.ptp(columns) + 1, np.ptp(rows) + 1)
        assert (frame.corner, frame.fitted) == (corner, fitted), size


def test_masks_are_those_of_the_prototypes_inside_their_boxes(monkeypatch):
    # The square is 64x64 and a cell of a prototype 4x4; the image, 64x32, begins 16 rows down. The object fills the
    # cells of rows 5 to 9 and columns 2 to 7, and its box is a little too small on the right.
    prototypes = torch.full((32, 16, 16), -1 / 32)
    prototypes[:, 5:10, 2:8] = 1 / 32
    rows = [(18, 30, 20, 20, 0.9, 0)]
    expert, _ = planted_expert(monkeypatch, rows, "segment", prototypes=prototypes, coefficients=[[1.0] * 32])
    found = expert.run([GroundPhrase(view(32, 64), "man")])[0]
    assert found.boxes.tolist() == [[8, 4, 28, 24]]
    # Between cells values are interpolated, which rounds the two corners off that are the object's own.
    expected = Masks.from_boxes([[8, 4, 28, 24]], (32, 64)).to_dense()
    expected[0, [4, 23], 8] = False
    np.testing.assert_array_equal(found.masks.to_dense(), expected)


def test_hundreds_of_objects_in_a_large_picture(monkeypatch):
    rows = [(2 * x + 1, 15 + y, 1.0, 0.6, 0.9 - 0.001 * (x + y), 0) for x in range(32) for y in range(30)]
    expert, _ = planted_expert(monkeypatch, rows, max_detections=1000)
    pixels = np.zeros((4320, 7680, 3), np.uint8)
    found = expert.run([GroundPhrase(View(pixels, Provenance(RootPixels(pixels))), "people")])[0]
    assert len(found) == 960
    assert found.masks.shape == (4320, 7680)
    assert (np.diff(found.scores) <= 0).all()
    np.testing.assert_allclose(found.boxes[0], [60, 32.4 * 2.6, 180, 32.4 * 2.6 + 72], rtol=0.1)


def test_of_two_boxes_of_one_object_the_better_is_kept_whichever_class_is_asked_for(monkeypatch):
    rows = [(32, 32, 30, 30, 0.9, 2), (32, 33, 30, 30, 0.8, 2), (33, 32, 30, 30, 0.7, 1), (10, 10, 8, 8, 0.2, 1)]
    expert, plant = planted_expert(monkeypatch, rows, score_threshold=0.25)
    request = {phrase: GroundPhrase(VIEWS[0], phrase) for phrase in ("truck", "car", "vehicle", "tree")}
    trucks, cars, vehicles, nothing = expert.run(list(request.values()))
    assert [len(each) for each in (trucks, cars, vehicles, nothing)] == [1, 1, 1, 0]
    assert vehicles.labels == ("truck",)
    assert nothing.masks.shape == (48, 64)
    assert plant.batches == [1], "Phrases about one image share one pass."
    expert.run([request["tree"]])
    assert plant.batches == [1], "Where no class is asked for, nothing is computed."


def test_a_batch_is_as_large_as_it_may_be(monkeypatch):
    expert, plant = planted_expert(monkeypatch, [(32, 32, 10, 10, 0.9, 0)], max_batch=2)
    expert.run([ground("man", index) for index in range(5)])
    assert plant.batches == [2, 2, 1]


def test_boxes_without_a_segmenter_are_filled_and_with_one_outlined(monkeypatch):
    rows = [(32, 32, 20, 20, 0.9, 0), (10, 20, 8, 8, 0.8, 0)]
    alone, _ = planted_expert(monkeypatch, rows)
    assert alone.run([ground("man")])[0].masks.areas.tolist() == [400, 64]
    bright = BrightExpert()
    chained, _ = planted_expert(monkeypatch, rows, segmenter=bright)
    found = chained.run([ground("man"), ground("tree"), ground("man", 4)])
    assert found[0].masks.areas.tolist() == [256, 256], "the best-scored of three: a quarter of the image's width"
    assert bright.batches == [2]
    assert len(found[1]) == 0
    assert alone.fingerprint != chained.fingerprint


class FailingSegmenter(BrightExpert):
    def run(self, requests):
        return [
            ExpertFailure(self.name, "no") if request.view is VIEWS[4] else self.answer(request) for request in requests
        ]


def test_what_a_segmenter_fails_on_fails_alone(monkeypatch):
    expert, _ = planted_expert(monkeypatch, [(32, 32, 20, 20, 0.9, 0)], segmenter=FailingSegmenter())
    found = expert.run([ground("man"), ground("man", 4)])
    assert len(found[0]) == 1
    assert found[1] == ExpertFailure("bright", "no")


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


# --- living with it ---------------------------------------------------------------------------------------------------


def test_it_is_unloaded_copied_and_told_apart(folders):
    expert = YoloExpert(folders["segment"], **options("segment"))
    first = expert.run([ground("people")])[0]
    expert.unload()
    assert_same(expert.run([ground("people")])[0], first, 1e-6)
    twin = pickle.loads(pickle.dumps(expert))
    assert twin.fingerprint == expert.fingerprint
    assert_same(twin.run([ground("people")])[0], first, 1e-6)
    prints = {
        YoloExpert(folders["segment"], **options("segment", **change)).fingerprint
        for change in ({}, {"score_threshold": 0.5}, {"iou_threshold": 0.5}, {"image_size": 96}, {"precision": "bf16"})
    }
    assert len(prints) == 5
    expert.warm_up()
    with pytest.raises(InvalidData, match="yolo does not answer PointPhrase"):
        expert.run([PointPhrase(VIEWS[0], "dog")])


def test_a_built_model_is_copied_with_its_weights(networks):
    expert = YoloExpert(networks["segment"], **options("segment"))
    twin = pickle.loads(pickle.dumps(expert))
    assert_same(twin.run([ground("people")])[0], expert.run([ground("people")])[0], 1e-6)


def test_in_16_bits_boxes_stay_exact():
    """The head computes in fp32: in bf16, boxes would be multiples of a quarter of a pixel here, and of 4 in 640."""
    exact = YoloExpert(make_network("detect"), **options("detect", iou_threshold=1.0))
    short = YoloExpert(make_network("detect"), **options("detect", iou_threshold=1.0, precision="bf16"))
    network = short.load().network
    assert next(network.model[0].parameters()).dtype is torch.bfloat16
    assert {parameter.dtype for parameter in network.model[-1].parameters()} == {torch.float32}
    asked = max((ground(name) for name in NAMES), key=lambda each: len(exact.run([each])[0]))
    expected, found = exact.run([asked])[0], short.run([asked])[0]
    np.testing.assert_allclose(found.scores[0], expected.scores[0], atol=0.05)
    assert (np.abs(found.boxes * 4 - np.round(found.boxes * 4)) > 1e-3).any(), "finer than bf16 can say"
    twin = pickle.loads(pickle.dumps(short))
    assert_same(twin.run([asked])[0], found, 1e-6)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"score_threshold": 1.5}, "Expected score_threshold to be a number from 0 to 1"),
        ({"iou_threshold": True}, "Expected iou_threshold"),
        ({"image_size": 100}, "Expected image_size to be a positive multiple of 32"),
        ({"max_detections": 0}, "Expected max_detections"),
        ({"segmenter": 3}, "Expected segmenter to be an expert"),
    ],
)
def test_values_out_of_range_are_refused_at_once(keywords, message, networks):
    with pytest.raises(InvalidData, match=message):
        YoloExpert(networks["detect"], **keywords)


def test_an_episode_asks_it(networks):
    network = make_network("detect")
    network.forward = Planted([(32, 32, 40, 30, 0.9, 0)])
    expert = YoloExpert(network, **options("detect"))
    env = gym.make("VisHarness/RefSeg-v0", dataset=SquareDataset(), experts={"*": "classical", "GroundPhrase": expert})
    env.reset(seed=0)
    _, _, _, _, info = env.step(ToolCall("PhraseToBoxMask", {"images": ["img_0"], "phrase": "the people"}))
    assert info["error"] is None
    assert "1" in info["reply"]
    *_, info = env.step(ToolCall("MergeBoxMask", {"images": ["img_0"]}))
    assert info["error"] is None
    # 96x64 is fitted to 64x43, with 10 rows of grey above.
    found = env.unwrapped.episode.workspace.final
    np.testing.assert_allclose(found.boxes, [[18, (17 - 10) / (43 / 64), 78, (47 - 10) / (43 / 64)]], atol=1e-3)


ALONE = """
    import os, sys

    seen, writing = [], set("wax+")
    allowed = (os.environ["TMPDIR"], "/dev/")

    def watch(event, arguments):
        if event.startswith("socket.") or event in ("subprocess.Popen", "os.system"):
            seen.append((event, str(arguments)[:200]))
        path = str(arguments[0]) if arguments else ""
        made = event == "os.mkdir" or (event == "open" and writing & set(str(arguments[1])))
        if made and path.startswith("/") and not path.startswith(allowed):
            seen.append((event, path))

    import cv2, numpy as np, torch, torchvision
    from PIL import Image
    from visenv.capabilities import GroundPhrase, View
    from visenv.images import Provenance, RootPixels
    from visenv.experts.yolo import YoloExpert

    def state():
        return (dict(os.environ), cv2.getNumThreads(), np.get_printoptions(), Image.open, torch.save,
                repr(torch._tensor_str.PRINT_OPTS), torch.get_rng_state().sum().item())

    before, left = state(), set(os.listdir(os.environ["TMPDIR"]))
    sys.addaudithook(watch)
    expert = YoloExpert(sys.argv[1], image_size=64, score_threshold=0.01)
    pixels = np.zeros((20, 30, 3), np.uint8)
    expert.run([GroundPhrase(View(pixels, Provenance(RootPixels(pixels))), "people")])
    expert.unload()
    assert "ultralytics" in sys.modules
    assert before == state(), "something was changed"
    print(seen, os.listdir(os.environ["HOME"]), sorted(set(os.listdir(os.environ["TMPDIR"])) - left))
"""


def test_neither_network_nor_home_nor_other_packages_are_touched(folders, tmp_path):
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("YOLO_", "XDG_"))}
    environment = kept | {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", textwrap.dedent(ALONE), str(folders["segment"])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "[] [] []"), done.stdout + done.stderr
    assert done.stderr == ""
