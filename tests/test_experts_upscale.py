"""Upscaling: networks saved and read as users have them, in tiles that leave no seam; and Lanczos without any."""

import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from spandrel import ModelLoader
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from stubs import SquareDataset

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import ExpertFailure, GroundPhrase, Upscale, View
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.presets import load_preset
from visenv.experts.upscale import UpscaleExpert
from visenv.experts.upscale.tiles import Canvas, cuts, shares
from visenv.experts_checks import check_result
from visenv.images import Provenance, RootPixels
from visenv.types import ToolCall

pytestmark = pytest.mark.usefixtures("one_thread")


def esrgan(scale=4, seed=0):
    """The tensors of a tiny ESRGAN with random weights, large enough for what it adds to be seen."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=scale)
        for parameter in model.parameters():
            parameter.data.uniform_(-0.3, 0.3) if parameter.ndim > 1 else parameter.data.uniform_(0, 0.3)
    return model.state_dict()


def compact(scale=2, seed=0):
    """The tensors of a network that sees three pixels far."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Compact(num_in_ch=3, num_out_ch=3, num_feat=6, num_conv=1, upscale=scale)
    return model.state_dict()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("upscalers")
    torch.save({"params_ema": esrgan()}, folder / "RealESRGAN_x4plus.pth")
    torch.save({"params": compact()}, folder / "compact_x2.pth")
    save_file(esrgan(), folder / "esrgan.safetensors")
    return folder


def picture(height, width, seed=0):
    """Smooth, so that nothing but a seam would make an edge."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = [np.sin(rows / rng.uniform(4, 30) + columns / rng.uniform(4, 30) + phase) for phase in rng.uniform(0, 6, 3)]
    return np.rint(127 + 100 * np.stack(waves, axis=2)).astype(np.uint8)


def request(pixels, factor=4):
    return Upscale(View(pixels, Provenance(RootPixels(pixels))), factor)


def grown(expert, pixels, factor=4):
    asked = request(pixels, factor)
    (answer,) = expert.run([asked])
    check_result(asked, answer)
    assert answer.fingerprint == expert.fingerprint
    return answer.pixels


SIZES = [(1, 1), (1, 300), (333, 7), (41, 57), (64, 64)]


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_network_gives_what_it_gives_alone(size, files):
    pixels = picture(*size)
    expert = UpscaleExpert(files / "RealESRGAN_x4plus.pth", device="cpu")
    network = ModelLoader().load_from_file(files / "RealESRGAN_x4plus.pth")
    expected = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)[0].permute(1, 2, 0)
    found = grown(expert, pixels)
    np.testing.assert_allclose(found, expected.numpy() * 255, atol=1)
    assert np.ptp(found) > 50, "The network says something."


def test_a_file_of_tensors_a_folder_and_a_descriptor_are_the_same(files, tmp_path):
    pixels = picture(20, 30)
    expected = grown(UpscaleExpert(files / "RealESRGAN_x4plus.pth"), pixels)
    (tmp_path / "model.safetensors").write_bytes((files / "esrgan.safetensors").read_bytes())
    descriptor = ModelLoader().load_from_file(files / "esrgan.safetensors")
    for source in (files, files / "esrgan.safetensors", tmp_path, descriptor):
        np.testing.assert_array_equal(grown(UpscaleExpert(source), pixels), expected)


@pytest.mark.parametrize("name", ["RealESRGAN_x4plus.pth", "compact_x2.pth"])
def test_a_batch_is_so_many_batches_of_one(name, files):
    """Within one of 255 levels: the sums of a batch are added in another order."""
    expert = UpscaleExpert(files / name, tile=32, overlap=8, max_batch=3)
    requests = [request(picture(*size, seed), factor) for seed, size in enumerate(SIZES) for factor in (4, 2)]
    for asked, answer in zip(requests, expert.run(requests), strict=True):
        check_result(asked, answer)
        (alone,) = expert.run([asked])
        np.testing.assert_allclose(answer.pixels.astype(int), alone.pixels.astype(int), atol=1)


@pytest.mark.parametrize(
    ("name", "factor", "made"),
    [("compact_x2.pth", 1, 1), ("compact_x2.pth", 2, 2), ("compact_x2.pth", 3, 4), ("compact_x2.pth", 4, 4)]
    + [("compact_x2.pth", 8, 8), ("RealESRGAN_x4plus.pth", 2, 4), ("RealESRGAN_x4plus.pth", 3, 4)],
)
def test_any_factor_is_reached(name, factor, made, files):
    expert, pixels = UpscaleExpert(files / name), picture(12, 10)
    found, whole = grown(expert, pixels, factor), grown(expert, pixels, made)
    assert found.shape == (12 * factor, 10 * factor, 3)
    if made % factor == 0:
        step = made // factor
        mean = whole.reshape(12 * factor, step, 10 * factor, step, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(found, mean, atol=0.51)
    if factor == 1:
        np.testing.assert_array_equal(found, pixels)


def test_two_passes_are_one_after_the_other(files):
    expert, pixels = UpscaleExpert(files / "compact_x2.pth"), picture(12, 10)
    np.testing.assert_array_equal(grown(expert, pixels, 4), grown(expert, grown(expert, pixels, 2), 2))


def test_pictures_of_one_size_share_passes(files):
    expert = UpscaleExpert(files / "compact_x2.pth", tile=32, overlap=8, max_batch=4)
    sizes = []
    network = expert.network.load().descriptor.model
    network.register_forward_hook(lambda module, arguments, output: sizes.append(tuple(arguments[0].shape)))
    expert.run([request(picture(20, 20, seed), 2) for seed in range(3)] + [request(picture(32, 56), 2)])
    assert sorted(sizes) == [(2, 3, 32, 32), (3, 3, 20, 20)]


# --- tiles ------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(32, 64), st.integers(0, 10**6))
def test_tiles_give_what_the_whole_gives(height, width, tile, seed):
    """The network sees 3 pixels far; of an overlap of 16, the outer 4 are thrown away."""
    pixels = picture(height, width, seed)
    network = ModelLoader().load_from_state_dict(compact(seed=seed))
    tiled = grown(UpscaleExpert(network, tile=tile, overlap=16), pixels, 2)
    whole = grown(UpscaleExpert(network, tile=1000), pixels, 2)
    np.testing.assert_allclose(tiled.astype(int), whole.astype(int), atol=1)


def test_what_tiles_disagree_on_changes_gradually():
    """Tiles that differ by 200 levels: within an overlap of 16 at twice the size, a step is at most 200 / 16 levels."""
    canvas = Canvas(np.zeros((20, 60, 3), np.uint8), 32, 16, 2)
    assert len(canvas) == 3
    for index in range(3):
        assert canvas.part(index).shape == (20, 32, 3)
        canvas.add(np.full((40, 64, 3), (0, 200, 0)[index] / 255, np.float32))
    line = canvas.result[:, :, 0].astype(int)
    assert (line == line[0]).all()
    assert line[0, 0] == 0
    assert line[0].max() == 200
    assert np.abs(np.diff(line[0])).max() <= 13


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 400), st.integers(16, 90), st.data(), st.integers(1, 4))
def test_every_pixel_is_covered_and_shares_are_one_in_sum(length, tile, data, scale):
    overlap = data.draw(st.integers(0, tile // 2))
    starts, parts = cuts(length, tile, overlap), shares(length, tile, overlap, scale)
    total, side = np.zeros(length * scale), min(tile, length)
    for start, part in zip(starts, parts, strict=True):
        assert 0 <= start <= length - side
        total[start * scale : (start + side) * scale] += part
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert all(after - before <= tile - overlap + 1 for before, after in zip(starts, starts[1:], strict=False))
    assert (parts >= 0).all()


def test_a_picture_of_8k_goes_through_a_row_of_tiles_at_a_time():
    canvas = Canvas(np.zeros((4320, 7680, 3), np.uint8), 512, 48, 2)
    assert canvas._row.nbytes < 200e6
    assert len(canvas) == 10 * 17


@pytest.mark.slow
def test_a_picture_of_8k_is_enlarged(files, monkeypatch):
    expert = UpscaleExpert(files / "compact_x2.pth", tile=1024, overlap=32, max_batch=1)

    def doubled(tiles):
        return tiles.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    monkeypatch.setattr(expert.network.load().descriptor.model, "forward", doubled)
    pixels = np.empty((4320, 7680, 3), np.uint8)
    pixels[:] = (np.arange(7680) % 251)[None, :, None]
    found = grown(expert, pixels, 2)
    np.testing.assert_array_equal(
        found[::101, ::2], pixels[: -(-8640 // 101) * 101 // 2 + 1][np.arange(0, 8640, 101) // 2]
    )


class FullDevice(torch.nn.Module):
    """A network that takes no more than two tiles at a time."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.sizes = inner, []

    def forward(self, tiles):
        self.sizes.append(len(tiles))
        if len(tiles) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.inner(tiles)


def test_passes_that_do_not_fit_are_made_in_halves(files):
    expert = UpscaleExpert(files / "compact_x2.pth", max_batch=8)
    expected = expert.run([request(picture(20, 20, seed), 2) for seed in range(5)])
    descriptor = expert.network.load().descriptor
    descriptor._model = full = FullDevice(descriptor.model)
    found = expert.run([request(picture(20, 20, seed), 2) for seed in range(5)])
    assert full.sizes == [5, 2, 3, 1, 2]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.pixels.astype(int), other.pixels.astype(int), atol=1)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_what_would_be_too_large_fails_alone(files):
    for expert in (UpscaleExpert(files / "RealESRGAN_x4plus.pth"), UpscaleExpert("lanczos")):
        large = np.zeros((4320, 7680, 3), np.uint8)
        wrong = [request(large), request(picture(4, 4), 0), request(picture(4, 4), 2.5), request(picture(4, 4))]
        first, second, third, good = expert.run(wrong)
        assert isinstance(first, ExpertFailure)
        assert "at most 200000000 pixels, but 7680x4320 x 4 is larger" in first.message
        assert "a whole factor of at least 1, but got 0" in second.message
        assert "but got 2.5" in third.message
        assert good.pixels.shape == (16, 16, 3)
        with pytest.raises(InvalidData, match="upscale does not answer GroundPhrase"):
            expert.run([GroundPhrase(request(picture(4, 4)).view, "dog")])


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "hostile")


def test_a_hostile_checkpoint_is_refused_and_does_not_run(tmp_path):
    sentinel, file = tmp_path / "sentinel", tmp_path / "RealESRGAN_x4plus.pth"
    torch.save({"params_ema": esrgan(), "extra": Payload(sentinel)}, file)
    with pytest.raises(InvalidData, match="holds something else, and was not read"):
        UpscaleExpert(file).load()
    scripted = torch.jit.script(torch.nn.Conv2d(3, 3, 1))
    scripted.save(tmp_path / "scripted.pt")
    with pytest.raises(InvalidData, match="was not read"):
        UpscaleExpert(tmp_path / "scripted.pt").load()
    assert not sentinel.exists()


def test_files_that_are_something_else_are_refused(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"a.weight": torch.zeros(3)}, tmp_path / "other.pth")
    torch.save(compact(scale=1), tmp_path / "same_size.pth")
    torch.save(ESRGAN(in_nc=1, out_nc=1, num_filters=4, num_blocks=1).state_dict(), tmp_path / "grey.pth")
    for name, message in {
        "text.pth": "was not read",
        "text.safetensors": "was not read",
        "other.pth": "spandrel .* knows",
        "same_size.pth": "1 times as large",
        "grey.pth": "makes 1 channels 1",
    }.items():
        with pytest.raises(InvalidData, match=message):
            UpscaleExpert(tmp_path / name).load()
    with pytest.raises(InvalidData, match="Expected a model that enlarges images, but got Linear"):
        UpscaleExpert(torch.nn.Linear(2, 2))


def test_missing_weights_say_where_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    url = "https://github.com/xinntao/Real-ESRGAN/releases/download/v0.1.0/RealESRGAN_x4plus.pth"
    with pytest.raises(MissingWeights, match=f"curl -L -o RealESRGAN_x4plus.pth {url}"):
        UpscaleExpert("RealESRGAN_x4plus.pth")
    (spec,) = (spec for spec in load_preset("visharness").experts if spec.expert == "upscale")
    with pytest.raises(MissingWeights, match=url):
        spec.load_class()(**spec.keywords)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"tile": 8}, "Expected tile"),
        ({"tile": 64, "overlap": 33}, "Expected overlap"),
        ({"max_batch": 0}, "Expected max_batch"),
        ({"device": "gpu"}, "Expected device"),
    ],
)
def test_values_out_of_range_are_refused_at_once(keywords, message, files):
    with pytest.raises(InvalidData, match=message):
        UpscaleExpert(files / "compact_x2.pth", **keywords)


# --- living with it ---------------------------------------------------------------------------------------------------


def test_it_is_unloaded_copied_and_told_apart(files):
    pixels = picture(9, 11)
    expert = UpscaleExpert(files / "compact_x2.pth")
    first = grown(expert, pixels)
    expert.unload()
    np.testing.assert_array_equal(grown(expert, pixels), first)
    given = UpscaleExpert(ModelLoader().load_from_file(files / "compact_x2.pth"))
    for each in (expert, given):
        twin = pickle.loads(pickle.dumps(each))
        assert twin.fingerprint == each.fingerprint
        np.testing.assert_array_equal(grown(twin, pixels), first)
    prints = {
        UpscaleExpert(files / name, **keywords).fingerprint
        for name, keywords in [
            ("compact_x2.pth", {}),
            ("compact_x2.pth", {"tile": 256}),
            ("compact_x2.pth", {"overlap": 16}),
            ("compact_x2.pth", {"precision": "bf16"}),
            ("RealESRGAN_x4plus.pth", {}),
        ]
    }
    assert len(prints | {UpscaleExpert("lanczos").fingerprint}) == 6
    expert.warm_up()


def test_bf16_is_close_to_fp32(files):
    pixels = picture(40, 50)
    exact = grown(UpscaleExpert(files / "compact_x2.pth", device="cpu"), pixels, 2).astype(int)
    short = grown(UpscaleExpert(files / "compact_x2.pth", device="cpu", precision="bf16"), pixels, 2).astype(int)
    assert np.abs(exact - short).mean() < 1.5
    assert np.abs(exact - short).max() < 8


def test_a_precision_that_a_network_lacks_is_refused_or_passed_over(files):
    descriptor = ModelLoader().load_from_file(files / "compact_x2.pth")
    descriptor.supports_bfloat16 = False
    with pytest.raises(InvalidData, match="Expected precision to be fp32 or auto"):
        UpscaleExpert(descriptor, precision="bf16", device="cpu").load()


# --- without a network ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("factor", [1, 2, 4])
def test_lanczos_keeps_what_is_flat_and_enlarges_the_rest(size, factor):
    expert = UpscaleExpert("lanczos")
    flat = np.full((*size, 3), (10, 120, 250), np.uint8)
    np.testing.assert_array_equal(
        grown(expert, flat, factor), np.full((size[0] * factor, size[1] * factor, 3), flat[0, 0])
    )
    pixels = picture(*size)
    found = grown(expert, pixels, factor).astype(int)
    blocks = found.reshape(size[0], factor, size[1], factor, 3).mean(axis=(1, 3))
    assert np.abs(blocks - pixels).max() < 12


def test_lanczos_needs_no_torch():
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from visenv.capabilities import Upscale, View\n"
        "from visenv.images import Provenance, RootPixels\n"
        "from visenv.experts.upscale import UpscaleExpert\n"
        "pixels = np.zeros((3, 4, 3), np.uint8)\n"
        "expert = UpscaleExpert('lanczos')\n"
        "expert.warm_up()\n"
        "print(expert.run([Upscale(View(pixels, Provenance(RootPixels(pixels))))])[0].pixels.shape)\n"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(12, 16, 3)", done.stderr


def test_an_episode_asks_it(files):
    experts = {"*": "classical", "Upscale": UpscaleExpert(files / "RealESRGAN_x4plus.pth")}
    env = gym.make("VisHarness/RefSeg-v0", dataset=SquareDataset(), experts=experts)
    env.reset(seed=0)
    *_, info = env.step(ToolCall("SuperResolution", {"images": ["img_0"]}))
    assert info["error"] is None
    assert env.unwrapped.episode.workspace.images["img_0_4x"].pixels.shape == (256, 384, 3)
