"""YOLO experts: saved as users have them, read back without running anything, copied."""

import os
import pickle
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_yolo import KINDS, SIDE, VIEWS, assert_same, ground, made_networks, make_network, options, saved

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import PointPhrase
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.yolo import YoloExpert, save_yolo
from visenv.experts.yolo.checkpoints import Checkpoint, build, check_plan, checkpoint_of
from visenv.experts.yolo.quiet import import_tasks
from visenv.experts_checks import check_result

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def networks():
    return made_networks()


@pytest.fixture(scope="module")
def folders(networks, tmp_path_factory):
    return saved(networks, tmp_path_factory)


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


def test_a_class_of_ultralytics_is_not_made_by_a_checkpoint(networks, tmp_path, monkeypatch):
    sentinel, file = tmp_path / "sentinel", tmp_path / "model.pt"
    plan = {**networks["detect"].yaml, "activation": f"open({str(sentinel)!r}, 'w')"}
    torch.save({"model": networks["detect"], "extra": Reduced(import_tasks().DetectionModel, plan)}, file)
    YoloExpert(file).load()
    assert not sentinel.exists()
    # Whoever makes what the file asks for opens the file that is named there, and keeps it as the usual activation.
    layer = import_tasks().Conv
    monkeypatch.setattr(layer, "default_act", layer.default_act)
    with pytest.raises(TypeError, match="TextIOWrapper"):
        torch.load(file, weights_only=False)
    assert sentinel.exists()


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
