"""SAM 2 and its files: checkpoints, configurations and values, honest and hostile."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest
import torch
from omegaconf import OmegaConf
from tiny_sam2 import BOX, MASK, POINT, ask, built, differing, expert, own_predictor, saved

import visenv  # noqa: F401 - registers the ids
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.sam2 import Sam2Expert, loading
from visenv.experts_checks import check_result

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("sam2"))


@pytest.fixture(scope="module")
def shared(files):
    return expert(files, max_images=4)


@pytest.fixture(scope="module")
def predictor(files):
    return own_predictor(files)


def test_a_copy_loads_the_weights_again(files):
    made = expert(files)
    (before,) = made.run([ask(POINT)])
    twin = pickle.loads(pickle.dumps(made))
    assert len(pickle.dumps(made)) < 10_000
    (after,) = twin.run([ask(POINT)])
    assert differing(before, after) == (0.0, 0.0)
    made.unload()
    assert len(made._embeddings) == 0
    assert differing(before, made.run([ask(POINT)])[0]) == (0.0, 0.0)
    made.warm_up()


def test_a_network_or_predictor_that_is_built_already_is_taken(files, predictor, shared):
    request = ask(POINT, BOX)
    (expected,) = shared.run([request])
    for model in (predictor.model, predictor):
        made = Sam2Expert(model, device="cpu")
        assert differing(expected, made.run([request])[0])[0] < 1e-3
        assert hasattr(predictor.model.memory_attention, "layers"), "it stays whole"
    with pytest.raises(InvalidData, match="config only for a checkpoint"):
        Sam2Expert(predictor.model, config=files[1], device="cpu")
    with pytest.raises(InvalidData, match="or a built model of sam2, but got Linear"):
        Sam2Expert(torch.nn.Linear(1, 1))


def test_loading_leaves_the_users_random_numbers_alone(files):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    expert(files).load()
    assert torch.equal(torch.rand(3), expected)


def published(name):
    """The configuration of a published checkpoint."""
    short = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
    version, _, size = name.removesuffix(".pt").partition("_hiera_")
    return loading.find_config(f"{version}_hiera_{short[size]}")


@pytest.mark.parametrize("name", list(loading.CHECKPOINTS.values()))
def test_a_published_checkpoint_is_told_by_its_shapes(name):
    config = published(name)
    model = OmegaConf.to_container(OmegaConf.load(config))["model"]
    trunk, names = model["image_encoder"]["trunk"], "image_encoder.trunk."
    blocks = sum(trunk.get("stages", (2, 3, 16, 3)))  # What Hiera takes if nothing is said.
    weights = {f"{names}blocks.{index}.norm1.weight": torch.zeros(1) for index in range(blocks)}
    weights[f"{names}patch_embed.proj.weight"] = torch.zeros(trunk["embed_dim"], 3, 7, 7)
    weights |= {"no_obj_embed_spatial": torch.zeros(1)} if model.get("no_obj_embed_spatial") else {}
    assert loading.published_config(weights) == config


@pytest.mark.slow
@pytest.mark.parametrize("name", list(loading.CHECKPOINTS.values()))
def test_a_checkpoint_of_every_published_size_is_loaded(name, tmp_path):
    torch.save({"model": built(published(name)).state_dict()}, tmp_path / "renamed.pt")
    made = Sam2Expert(tmp_path / "renamed.pt", device="cpu")
    request = ask(POINT, MASK)
    check_result(request, made.run([request])[0])


def test_a_checkpoint_that_fits_no_published_size_in_all_says_what_does_not(tmp_path):
    trunk = "image_encoder.trunk."
    weights = {f"{trunk}blocks.{index}.norm9.weight": torch.zeros(96) for index in range(12)}
    weights[f"{trunk}patch_embed.proj.weight"] = torch.zeros(96, 3, 7, 7)
    torch.save({"model": weights}, tmp_path / "sam2.1_hiera_tiny.pt")
    with pytest.raises(InvalidData, match=r"published configuration of its size.*weights are missing, .*are too many"):
        Sam2Expert(tmp_path, device="cpu").load()


def test_a_checkpoint_of_another_configuration_is_refused(files, tmp_path):
    with pytest.raises(InvalidData, match=r"none of|has 5 blocks, 16 wide: name its configuration with config="):
        Sam2Expert(files[0], device="cpu").load()
    with pytest.raises(
        InvalidData, match=r"(?s)Expected .*tiny\.pt to fit the configuration .*hiera_t.*: size mismatch"
    ):
        Sam2Expert(files[0], config="sam2.1_hiera_t", device="cpu").load()
    with pytest.raises(InvalidData, match=r"Expected config to be a YAML file or one of sam2_hiera_b\+, "):
        Sam2Expert(files[0], config="sam9", device="cpu")


class Evil:
    def __reduce__(self):
        return (os.mkdir, (os.environ["VISENV_TEST_TRACE"],))


def test_a_checkpoint_never_runs_code(files, tmp_path, monkeypatch):
    monkeypatch.setenv("VISENV_TEST_TRACE", str(tmp_path / "it-ran"))
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InvalidData, match="it was not run"):
        Sam2Expert(tmp_path / "evil.pt", device="cpu").load()
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read|no checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no checkpoint|cannot be read"),
        ([1, 2], 'Expected {"model": weights by name}'),
        ({"model": {"a": 3}}, 'Expected {"model": weights by name}'),
        ({"vision_encoder.weight": torch.zeros(1)}, "a mapping with vision_encoder.weight"),
    ],
)
def test_files_that_are_no_checkpoint_are_refused(tmp_path, content, message):
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(InvalidData, match=message):
        Sam2Expert(path, device="cpu").load()


@pytest.mark.parametrize(
    "text",
    [
        "model: {_target_: x, memory_attention: {_target_: os.system, command: 'true'}}",
        "model: {_target_: x, memory_attention: {_target_: sam2.modeling.sam2_base.torch.hub.load}}",
        "model: {_target_: x, memory_attention: {_target_: sam2.modeling.sam2_base.SAM2Transformer}}",
    ],
)
def test_a_configuration_makes_nothing_but_networks_of_the_package(files, tmp_path, text):
    (tmp_path / "evil.yaml").write_text(text)
    with pytest.raises(InvalidData, match="Expected networks of sam2.modeling in"):
        Sam2Expert(files[0], config=tmp_path / "evil.yaml", device="cpu").load()


def test_a_configuration_of_something_else_says_what_is_wrong(files, tmp_path):
    content = OmegaConf.to_container(OmegaConf.load(files[1]))
    content["model"] |= {"fill_hole_area": 8}
    OmegaConf.save(OmegaConf.create(content), tmp_path / "video.yaml")
    with pytest.raises(InvalidData, match="SAM2Base cannot be made of it: .*fill_hole_area"):
        Sam2Expert(files[0], config=tmp_path / "video.yaml", device="cpu").load()


@pytest.mark.parametrize("text", ["[1, 2]", "model: 3", "model: ${nowhere}", "a: [", "- {"])
def test_files_that_are_no_configuration_are_refused(files, tmp_path, text):
    (tmp_path / "wrong.yaml").write_text(text)
    with pytest.raises(InvalidData, match="Expected a (mapping|configuration)|Expected YAML"):
        Sam2Expert(files[0], config=tmp_path / "wrong.yaml", device="cpu").load()


def test_a_folder_of_several_checkpoints_is_ambiguous(tmp_path):
    for size in ("tiny", "large"):
        (tmp_path / f"sam2.1_hiera_{size}.pt").write_bytes(b"")
    with pytest.raises(InvalidData, match="but it holds sam2.1_hiera_tiny.pt, sam2.1_hiera_large.pt: name the file"):
        Sam2Expert(tmp_path)
    assert Sam2Expert(tmp_path / "sam2.1_hiera_large.pt").fingerprint.startswith("sam2-")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty cache of the hub's."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_snapshot_of_the_hub_holds_the_checkpoint_beside_the_files_of_transformers(hub, files):
    folder = hub / "models--facebook--sam2.1-hiera-large"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    (snapshot / "config.json").write_text("{}")
    (snapshot / "model.safetensors").write_bytes(b"")
    with pytest.raises(MissingWeights, match=r"Expected sam2\.1_hiera_large\.pt in .*hf download facebook/sam2\.1-hie"):
        Sam2Expert("facebook/sam2.1-hiera-large", config=files[1])
    (snapshot / "sam2.1_hiera_large.pt").symlink_to(files[0])
    made = Sam2Expert("facebook/sam2.1-hiera-large", config=files[1], device="cpu")
    check_result(ask(POINT), made.run([ask(POINT)])[0])


def test_without_weights_an_environment_says_what_to_fetch(hub):
    with pytest.raises(MissingWeights, match=r"hf download facebook/sam2\.1-hiera-large"):
        gym.make("VisHarness/ReasonSeg-v0", experts="sam2")
    with pytest.raises(MissingWeights, match=r"curl -L -o .*large\.pt https://dl\.fbaipublicfiles\.com/.*large\.pt"):
        Sam2Expert(hub / "sam2.1_hiera_large.pt")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"max_images": 0}, "Expected max_images to be a number of at least 1"),
        ({"max_prompts": True}, "Expected max_prompts"),
        ({"embeddings_mb": -1}, "Expected embeddings_mb to be a number of at least 0"),
        ({"mask_threshold": float("nan")}, "Expected mask_threshold"),
    ],
)
def test_values_out_of_range_are_refused(files, keywords, message):
    with pytest.raises(InvalidData, match=message):
        expert(files, **keywords)


def test_a_threshold_decides_masks_and_fingerprint(files, shared):
    strict = expert(files, mask_threshold=0.02)
    assert strict.fingerprint != shared.fingerprint
    (loose,), (tight,) = shared.run([ask(POINT)]), strict.run([ask(POINT)])
    assert (tight.masks[0].areas < loose.masks[0].areas).all()


HYDRA = """
import sys
from visenv.experts.sam2 import Sam2Expert
Sam2Expert(sys.argv[1], config=sys.argv[2], device="cpu").load()
from hydra import initialize
from hydra.core.global_hydra import GlobalHydra
assert not GlobalHydra.instance().is_initialized()
with initialize(version_base=None, config_path=None):
    Sam2Expert(sys.argv[1], config=sys.argv[2], device="cpu").load()
from sam2.build_sam import build_sam2
build_sam2("configs/sam2.1/sam2.1_hiera_t.yaml", device="cpu")
"""


def test_hydra_is_left_to_the_user_and_to_the_package(files):
    """Our loading sets nothing up for the process, and the package's own builder works after it."""
    paths = os.pathsep.join([str(Path(__file__).resolve().parent.parent), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": paths}
    arguments = [sys.executable, "-c", HYDRA, *map(str, files)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
