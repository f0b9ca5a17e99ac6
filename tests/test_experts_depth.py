"""Estimating depth: tiny models with random weights, and planted maps."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from tiny_models import view
from tiny_pairs import depth_anything, dpt, glpn, zoedepth

from visenv.capabilities import Embed, EstimateDepth, View
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.depth import DepthExpert
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels

SHAPES = ((40, 30), (30, 40), (61, 97), (40, 30), (1, 1), (3, 200), (500, 2))
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {
        "depth_anything": depth_anything(tmp_path_factory.mktemp("relative")),
        "metric": depth_anything(tmp_path_factory.mktemp("metric"), depth_estimation_type="metric", max_depth=20),
        "dpt": dpt(tmp_path_factory.mktemp("dpt")),
        "glpn": glpn(tmp_path_factory.mktemp("glpn")),
        "zoedepth": zoedepth(tmp_path_factory.mktemp("zoedepth")),
    }


@pytest.fixture(scope="module")
def experts(folders):
    return {name: DepthExpert(folder, device="cpu") for name, folder in folders.items()}


def image(width, height):
    pixels = np.zeros((height, width, 3), np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


def planted(monkeypatch, expert, make):
    """Let the network write what ``make`` returns for its input of (N, 3, H, W)."""
    network, _ = expert.load()
    asked = []

    def forward(pixel_values):
        from transformers.modeling_outputs import DepthEstimatorOutput

        asked.append(tuple(pixel_values.shape))
        return DepthEstimatorOutput(predicted_depth=make(*pixel_values.shape))

    monkeypatch.setattr(network, "forward", forward)
    return asked


def nearness(expert, asked_view):
    request = EstimateDepth(asked_view)
    (found,) = expert.run([request])
    check_result(request, found)
    return found.nearness


@pytest.mark.parametrize("name", ["depth_anything", "metric", "dpt", "glpn", "zoedepth"])
def test_a_batch_is_as_many_of_one_at_every_size(experts, name):
    requests = [EstimateDepth(view(*shape, seed=seed)) for seed, shape in enumerate(SHAPES)]
    together = ExpertPool({"EstimateDepth": experts[name]}).answer(requests)
    for request, found in zip(requests, together, strict=True):
        check_result(request, found)
        assert np.abs(found.nearness - nearness(experts[name], request.view)).max() < 1e-4
        assert found.nearness.dtype == np.float32
    assert np.ptp(together[2].nearness) in (0, 1)
    assert [expert.output for expert in experts.values()] == [
        "nearness",
        "distance",
        "nearness",
        "distance",
        "distance",
    ]


def ramp(count, channels, height, width):
    """From 1 on the left to 2 on the right."""
    return torch.linspace(1, 2, width).expand(count, height, width)


@pytest.mark.parametrize("size", [(64, 48), (97, 61), (33, 250)])
def test_relative_models_write_nearness_and_it_is_put_where_it_belongs(experts, monkeypatch, size):
    planted(monkeypatch, experts["depth_anything"], ramp)
    found = nearness(experts["depth_anything"], image(*size))
    assert (np.diff(found, axis=1) >= -1e-5).all()
    assert np.abs(np.diff(found, axis=0)).max() < 1e-5
    # Slivers are padded to a quarter of their length, and the padding is not part of the map.
    assert found[0, size[0] // 2] == pytest.approx(0.5, abs=0.06)


def test_distances_are_inverted(experts, monkeypatch):
    planted(monkeypatch, experts["metric"], ramp)
    found = nearness(experts["metric"], image(200, 100))
    assert np.allclose(found[:, 0], 1, atol=1e-5)
    assert np.allclose(found[:, -1], 0, atol=1e-5)
    # Halfway: (1/1.5 - 1/2) / (1/1 - 1/2) = 1/3, as the map is read along its inverse.
    assert found[50, 100] == pytest.approx(1 / 3, abs=0.02)


def test_what_a_model_writes_can_be_told(folders, monkeypatch):
    expert = DepthExpert(folders["dpt"], device="cpu", output="distance")
    assert (expert.output, DepthExpert(folders["dpt"]).output) == ("distance", "nearness")
    assert expert.fingerprint != DepthExpert(folders["dpt"], device="cpu").fingerprint
    planted(monkeypatch, expert, ramp)
    assert nearness(expert, image(40, 30))[0, 0] > 0.999
    with pytest.raises(InvalidData, match="Expected output to be one of auto, nearness, distance"):
        DepthExpert(folders["dpt"], output="metric")


def test_constant_maps_are_far_and_numbers_that_are_none_too(experts, monkeypatch):
    expert = experts["depth_anything"]
    for value in (0.0, 7.0, float("nan"), float("inf")):
        planted(monkeypatch, expert, lambda n, c, h, w, value=value: torch.full((n, h, w), value))
        assert (nearness(expert, image(40, 30)) == 0).all()
        assert (nearness(experts["metric"], image(1, 1)) == 0).all()

    def holed(*shape):
        values = ramp(*shape).clone()
        values[:, :, 0] = float("nan")
        return values

    planted(monkeypatch, expert, holed)
    found = nearness(expert, image(56, 56))
    assert found[0, 0] == 0
    assert found[0, -1] == 1


def test_images_of_one_size_after_processing_run_together(experts, monkeypatch):
    asked = planted(monkeypatch, experts["depth_anything"], ramp)
    experts["depth_anything"].run([EstimateDepth(image(*size)) for size in ((40, 30), (30, 40), (40, 30), (42, 30))])
    assert sorted(shape[0] for shape in asked) == [1, 3]


def test_a_large_image_is_seen_small_and_answered_at_its_own_size(experts, monkeypatch):
    asked = planted(monkeypatch, experts["depth_anything"], ramp)
    found = nearness(experts["depth_anything"], image(7680, 4320))
    assert found.shape == (4320, 7680)
    assert max(asked[0]) < 200
    assert found[2000, 3840] == pytest.approx(0.5, abs=0.01)


def test_the_padding_of_a_processor_and_of_slivers_is_taken_off(experts, monkeypatch):
    def framed(count, channels, height, width):
        """Near on the left of the image, farther on its right, farthest in the padding: a sixth on each side."""
        values = torch.full((count, height, width), 9.0)
        values[:, :, width // 6 : width // 2] = 1.0
        values[:, :, width // 2 : width * 5 // 6] = 4.0
        return values

    planted(monkeypatch, experts["zoedepth"], framed)
    found = nearness(experts["zoedepth"], image(64, 64))
    assert found.shape == (64, 64)
    assert (found[:, 6:26] > 0.4).all()
    assert (found[:, 38:58] < 0.3).all()


def test_models_that_keep_the_size_of_images_get_no_huge_ones(experts, monkeypatch):
    asked = planted(monkeypatch, experts["glpn"], ramp)
    assert nearness(experts["glpn"], image(7680, 4320)).shape == (4320, 7680)
    assert max(asked[0]) <= 2048


def test_slivers_stay_bounded(experts, monkeypatch):
    asked = planted(monkeypatch, experts["depth_anything"], ramp)
    for size in ((8000, 1), (1, 8000), (8000, 7)):
        assert nearness(experts["depth_anything"], image(*size)).shape == size[::-1]
    assert max(max(shape) for shape in asked) <= 4 * 56


def test_given_copied_and_reloaded_ones_answer_alike(folders, experts):
    expert, asked = experts["depth_anything"], view(61, 97)
    expected = nearness(expert, asked)
    given = DepthExpert(expert.load(), device="cpu")
    twin = pickle.loads(pickle.dumps(expert))
    assert (twin.fingerprint, twin._loaded, twin._processor) == (expert.fingerprint, None, None)
    copied = pickle.loads(pickle.dumps(given))
    for other in (given, twin, copied):
        assert np.allclose(nearness(other, asked), expected, atol=1e-5)
        other.unload()
        assert np.allclose(nearness(other, asked), expected, atol=1e-5)
    assert copied.fingerprint == given.fingerprint
    assert DepthExpert(folders["depth_anything"], precision="bf16", device="cpu").fingerprint != expert.fingerprint


def test_bf16_and_warming_up(folders):
    expert = DepthExpert(folders["depth_anything"], device="cpu", precision="bf16")
    expert.warm_up()
    found = nearness(expert, view(61, 97))
    assert np.isfinite(found).all()


def test_missing_and_wrong_files_are_said_at_once(folders, tmp_path):
    with pytest.raises(MissingWeights, match="hf download depth-anything/Depth-Anything-V2-Small-hf"):
        DepthExpert("depth-anything/Depth-Anything-V2-Small-hf")
    copy = shutil.copytree(folders["dpt"], tmp_path / "copy")
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(MissingWeights, match="preprocessor_config.json"):
        DepthExpert(copy)
    copy = shutil.copytree(folders["dpt"], tmp_path / "other")
    shutil.copy(folders["depth_anything"] / "model.safetensors", copy / "model.safetensors")
    with pytest.raises(InvalidData, match="Expected all weights|cannot be read"):
        DepthExpert(copy).load()
    (copy / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(InvalidData, match='known to estimate depth .*\'clip\'.*output="nearness" or "distance"'):
        DepthExpert(copy)
    with pytest.raises(InvalidData, match="depth does not answer Embed"):
        DepthExpert(folders["dpt"], device="cpu").run([Embed(view())])


def test_a_processor_that_makes_distances_itself_is_known():
    """Depth Pro's network writes inverse distances, and its processor turns them over."""
    from transformers import DepthProConfig, DepthProImageProcessor
    from transformers.models.depth_pro.modeling_depth_pro import DepthProDepthEstimatorOutput

    class Planted(torch.nn.Module):
        config = DepthProConfig()

        def forward(self, pixel_values):
            depth = ramp(*pixel_values.shape)
            return DepthProDepthEstimatorOutput(predicted_depth=depth, field_of_view=torch.full((len(depth),), 60.0))

    expert = DepthExpert((Planted(), DepthProImageProcessor(size={"height": 32, "width": 32})), device="cpu")
    found = nearness(expert, image(64, 64))
    assert expert.output == "distance"
    assert found[30, 1] < 0.1 < found[30, 32] < 0.9 < found[30, 62]


def test_a_preset_names_it(folders, tmp_path):
    from visenv.experts.presets import load_preset

    (expert,) = load_preset({"experts": [{"expert": "depth", "model": str(folders["dpt"]), "device": "cpu"}]}).make()
    assert isinstance(expert, DepthExpert)
