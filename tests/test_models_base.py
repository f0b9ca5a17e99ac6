"""What all neural experts share: checked at once, loaded late, placed, counted, pickled by path."""

import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from visenv.capabilities import GroundPhrase, View
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.models.base import ModelExpert
from visenv.experts.models.placing import place
from visenv.experts.models.weights import files_digest, find_file, find_folder, module_digest
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks
from visenv.types import Detections


class MeanExpert(ModelExpert):
    """Finds the whole image if its mean, times a weight, is above a threshold."""

    family, extra, capabilities = "mean", "neural", ("GroundPhrase",)

    def __init__(self, model, *, threshold=0.5, **keywords):
        self.threshold = threshold
        super().__init__(model, settings={"threshold": threshold}, **keywords)

    def _find(self, source):
        return (find_file(source, ("mean.safetensors",)),)

    def _load(self, source):
        made = torch.nn.Linear(1, 1, bias=False)
        made.load_state_dict(load_file(source[0]))
        return made

    def _modules(self, model):
        return [model] if isinstance(model, torch.nn.Module) else []

    def _answer(self, model, requests):
        means = torch.tensor([[request.view.pixels.mean() / 255] for request in requests])
        scores = model(means.to(self.placement.device, self.placement.dtype)).float().clamp(0, 1)[:, 0].tolist()
        return [self._found(request, score) for request, score in zip(requests, scores, strict=True)]

    def _found(self, request, score):
        height, width = request.view.pixels.shape[:2]
        boxes = np.array([[0.0, 0, width, height]])[: int(score > self.threshold)]
        return Detections(boxes, Masks.from_boxes(boxes, (height, width)), np.full(len(boxes), score))


class GreedyExpert(MeanExpert):
    """Runs out of the device's memory when asked for more than two."""

    def _answer(self, model, requests):
        if len(requests) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super()._answer(model, requests)


def linear(weight=0.9):
    made = torch.nn.Linear(1, 1, bias=False)
    made.weight.data.fill_(weight)
    return made


@pytest.fixture
def folder(tmp_path):
    save_file(linear().state_dict(), tmp_path / "mean.safetensors")
    return tmp_path


def request(value=255, phrase="thing"):
    pixels = np.full((4, 6, 3), value, np.uint8)
    return GroundPhrase(View(pixels, Provenance(RootPixels(pixels))), phrase)


def test_it_is_loaded_when_needed_and_again_after_unloading(folder):
    expert = MeanExpert(folder)
    assert expert._loaded is None
    answers = expert.run([request(255), request(100)])
    assert [len(answer) for answer in answers] == [1, 0]
    check_result(request(), answers[0])
    assert expert._loaded is not None
    expert.unload()
    assert expert._loaded is None
    assert len(expert.run([request()])[0]) == 1
    assert expert.run([]) == []


def test_a_built_model_is_taken_as_it_is():
    expert = MeanExpert(linear(0.1))
    assert len(expert.run([request()])[0]) == 0
    expert.unload()
    assert len(expert.run([request()])[0]) == 0


def test_the_fingerprint_tells_weights_settings_and_precision_apart(folder):
    prints = [
        MeanExpert(folder).fingerprint,
        MeanExpert(folder, threshold=0.6).fingerprint,
        MeanExpert(folder, precision="bf16").fingerprint,
        MeanExpert(linear()).fingerprint,
        MeanExpert(linear(0.8)).fingerprint,
    ]
    save_file(linear(0.7).state_dict(), folder / "mean.safetensors")
    prints.append(MeanExpert(folder).fingerprint)
    assert len(set(prints)) == len(prints)
    assert MeanExpert(linear()).fingerprint == MeanExpert(linear()).fingerprint


def test_a_copy_takes_the_path_along_and_not_the_weights(folder):
    expert = MeanExpert(folder)
    expert.run([request()])
    twin = pickle.loads(pickle.dumps(expert))
    assert (twin.fingerprint, twin._loaded) == (expert.fingerprint, None)
    assert len(twin.run([request()])[0]) == 1


def test_warming_up_answers_one_request_of_each_kind(folder):
    expert = MeanExpert(folder)
    expert.warm_up()
    assert expert._loaded is not None


def test_precision_and_device_are_where_the_model_is(folder):
    expert = MeanExpert(folder, device="cpu", precision="bf16")
    assert expert.load().weight.dtype is torch.bfloat16
    assert expert.placement.precision == "bf16"


def test_a_batch_that_does_not_fit_is_made_smaller_by_the_pool(folder):
    expert = GreedyExpert(folder)
    pool = ExpertPool({"GroundPhrase": expert})
    answers = pool.answer([request(255 - index) for index in range(8)])
    assert [len(answer) for answer in answers] == [1] * 8
    assert pool.counters.failures == 0


def test_a_budget_counts_the_weights(folder):
    assert MeanExpert(folder, memory_mb=1).spare_bytes == 10**6 - 4
    assert MeanExpert(folder).spare_bytes is None

    class Large(MeanExpert):
        def _load(self, source):
            return torch.nn.Linear(1000, 1000)

    with pytest.raises(InvalidData, match="fit into memory_mb=1, but they take 4 MB in fp32"):
        Large(folder, memory_mb=1).load()


def test_what_networks_share_counts_once_in_a_budget(folder):
    class Shared(MeanExpert):
        def _modules(self, model):
            return [model, torch.nn.Sequential(model)] if isinstance(model, torch.nn.Module) else []

    assert Shared(folder, memory_mb=1).spare_bytes == 10**6 - 4


def test_a_model_read_in_the_right_precision_keeps_its_exact_buffers(folder):
    class Turned(MeanExpert):
        def _load(self, source):
            made = torch.nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
            made.register_buffer("angles", torch.tensor([1 / 3]), persistent=False)
            return made

    assert Turned(folder, precision="bf16").load().angles.dtype is torch.float32
    assert Turned(folder, precision="fp32").load().weight.dtype is torch.float32


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"device": "gpu"}, "Expected device to be auto, cpu, cuda"),
        ({"device": "meta"}, "Expected device to be auto, cpu, cuda"),
        ({"precision": "int4"}, "Expected precision to be one of"),
        ({"precision": "fp16", "device": "cpu"}, "Expected fp32 or bf16 on the CPU"),
        ({"max_batch": 0}, "Expected max_batch"),
        ({"memory_mb": True}, "Expected memory_mb"),
    ],
)
def test_values_out_of_range_are_refused_at_once(folder, keywords, message):
    with pytest.raises(InvalidData, match=message):
        MeanExpert(folder, **keywords)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_said_to_be_missing(folder):
    for device in ("cuda", "cuda:1"):
        with pytest.raises(InvalidData, match=r"Expected a CUDA device for device='cuda.*use|Use device=\"cpu\""):
            MeanExpert(folder, device=device)
    assert place("auto").device.type in ("cpu", "mps")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_is_used(folder):
    expert = MeanExpert(folder, device="cuda")
    assert len(expert.run([request()])[0]) == 1
    assert expert.load().weight.device.type == "cuda"


def test_something_else_than_a_model_is_refused():
    with pytest.raises(InvalidData, match="Expected model to be a folder, a file, a hub id or a built model of mean"):
        MeanExpert(3)


def test_missing_weights_say_where_they_were_looked_for_and_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(MissingWeights, match=r"hf download facebook/none --revision v1") as caught:
        find_folder("facebook/none@v1")
    assert str(tmp_path / "cache") in str(caught.value)
    with pytest.raises(MissingWeights, match="Expected config.json and model.safetensors in"):
        find_folder(tmp_path)
    with pytest.raises(MissingWeights, match=r"curl -L -o .*x4\.pth https://example\.org/x4\.pth"):
        find_file("x4.pth", url="https://example.org/x4.pth")
    with pytest.raises(MissingWeights, match="Expected a folder of weights at"):
        find_folder(tmp_path / "nowhere")
    with pytest.raises(InvalidData, match="Expected a folder, a file or a hub id"):
        find_folder("")


def test_a_snapshot_in_the_hubs_cache_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--someone--mean" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    refs = tmp_path / "models--someone--mean" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    save_file(linear().state_dict(), snapshot / "mean.safetensors")
    assert find_file("someone/mean", ("mean.safetensors",)) == snapshot / "mean.safetensors"
    assert len(MeanExpert("someone/mean").run([request()])[0]) == 1


def test_a_folder_with_one_file_of_the_kind_is_enough(tmp_path):
    (tmp_path / "other.pth").write_bytes(b"x")
    assert find_file(tmp_path, ("x4.pth",)) == tmp_path / "other.pth"
    (tmp_path / "another.pth").write_bytes(b"x")
    with pytest.raises(MissingWeights, match=r"it holds another\.pth, other\.pth"):
        find_file(tmp_path, ("x4.pth",))


def test_digests_see_changes_at_both_ends_and_in_between(tmp_path):
    file, digests = tmp_path / "weights", []
    data = bytearray(8 * 2**20)
    for place_changed in (None, 0, 4 * 2**20, len(data) - 1):
        changed = bytearray(data)
        if place_changed is not None:
            changed[place_changed : place_changed + 2**17] = b"\1" * len(changed[place_changed : place_changed + 2**17])
        file.write_bytes(changed)
        digests.append(files_digest(file))
    assert len(set(digests)) == 4
    assert module_digest(linear(0.5)) != module_digest(linear(0.25))
