"""SAM 2 through its own package: the answers of its own predictor, in batches, in the image's pixels."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import Candidates, ExpertFailure, GroundPhrase, Prompt, SegmentPrompts, View
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.sam2 import Sam2Expert, loading
from visenv.experts.sam2.prompts import square_prompt
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks

SIDE = 128
POINT = Prompt(points=np.array([[10.0, 20.0]]))
SIGNED = Prompt(points=np.array([[10.0, 20], [60, 31], [4, 40]]), labels=np.array([1, 0, 1]))
BOX = Prompt(box=np.array([5.0, 6, 71, 43]))
BOTH = Prompt(points=np.array([[10.0, 20]]), box=np.array([5.0, 6, 71, 43]))
MASK = Prompt(mask=Masks.from_boxes([[10, 8, 50, 40]], (48, 80)))


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A small network of the package's own classes: its configuration, and a checkpoint as they are published."""
    folder = tmp_path_factory.mktemp("sam2")
    content = OmegaConf.to_container(OmegaConf.load(loading.find_config("sam2.1_hiera_t")))
    model = content["model"]
    model["image_size"] = SIDE
    encoder, attention, memory = model["image_encoder"], model["memory_attention"], model["memory_encoder"]
    encoder["trunk"] |= {"embed_dim": 16, "stages": [1, 1, 2, 1], "global_att_blocks": [3], "window_spec": [8, 4, 4, 2]}
    encoder["neck"] |= {"backbone_channel_list": [128, 64, 32, 16], "d_model": 64}
    encoder["neck"]["position_encoding"]["num_pos_feats"] = 64
    attention |= {"d_model": 64, "num_layers": 1}
    attention["layer"] |= {"d_model": 64, "dim_feedforward": 64}
    for kind in ("self_attention", "cross_attention"):
        attention["layer"][kind]["embedding_dim"] = 64
    memory["in_dim"] = memory["mask_downsampler"]["embed_dim"] = memory["fuser"]["layer"]["dim"] = 64
    config = folder / "tiny.yaml"
    OmegaConf.save(OmegaConf.create(content), config)
    torch.manual_seed(3)
    torch.save({"model": built(config).state_dict()}, folder / "tiny.pt")
    return folder / "tiny.pt", config


def built(config):
    with loading.importing_sam2():
        return loading.build(config)


def expert(files, **keywords):
    checkpoint, config = files
    return Sam2Expert(checkpoint, config=config, device="cpu", **keywords)


@pytest.fixture(scope="module")
def shared(files):
    return expert(files, max_images=4)


def view(seed=0, size=(80, 48)):
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


def ask(*prompts, seed=0, size=(80, 48)):
    return SegmentPrompts(view(seed, size), prompts)


def differing(one, other):
    """The largest share of an image's pixels in which masks of two answers differ, and the largest gap of scores."""
    pairs = list(zip(one.masks, other.masks, strict=True))
    pixels = max((float((a.to_dense() != b.to_dense()).mean(axis=(1, 2)).max()) for a, b in pairs), default=0.0)
    gaps = [float(np.abs(a - b).max()) for a, b in zip(one.scores, other.scores, strict=True)]
    return pixels, max(gaps, default=0.0)


def batches(made):
    """How many images each call of an expert's image encoder takes from now on."""
    seen = []
    made.load().image_encoder.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    return seen


# --- the same as the package's own predictor ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predictor(files):
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    model = built(files[1]).eval()
    model.load_state_dict(torch.load(files[0], weights_only=True)["model"])
    made = SAM2ImagePredictor(model)
    made._bb_feat_sizes = [(SIDE // cell,) * 2 for cell in (4, 8, 16)]  # It knows those of 1024 pixels alone.
    return made


def predicted(predictor, prompt):
    keywords = {}
    if len(prompt.points):
        labels = np.ones(len(prompt.points)) if prompt.labels is None else prompt.labels
        keywords |= {"point_coords": prompt.points, "point_labels": labels}
    if prompt.mask is not None:
        size = prompt.mask.shape[::-1]
        keywords["mask_input"] = square_prompt(prompt, size, SIDE, SIDE // 4).mask[None]
    return predictor.predict(box=prompt.located.box, multimask_output=True, return_logits=True, **keywords)


@pytest.mark.parametrize("size", [(80, 48), (75, 500), (128, 128), (300, 50)])
def test_answers_are_those_of_the_packages_predictor(shared, predictor, size):
    mask = Prompt(mask=Masks.from_boxes([[3, 8, 25, 40]], size[::-1]))
    refined = Prompt(points=np.array([[10.0, 20.0]]), mask=mask.mask)
    prompts = (POINT, SIGNED, BOX, BOTH, POINT, mask, refined)
    request = ask(*prompts, size=size)
    (answer,) = shared.run([request])
    check_result(request, answer)
    predictor.set_image(request.view.pixels)
    for prompt, masks, scores in zip(prompts, answer.masks, answer.scores, strict=True):
        logits, ious, _ = predicted(predictor, prompt)
        ours = masks.to_dense()
        assert ours.any(), "a test on empty masks shows nothing"
        assert not ours.all()
        assert np.abs(logits[ours != (logits > 0)]).max(initial=0) < 1e-4
        np.testing.assert_allclose(scores, ious.clip(0, 1), atol=1e-5)


def test_half_precision_is_close(files, shared):
    request = ask(POINT, SIGNED, BOX, MASK)
    (exact,), (half,) = shared.run([request]), expert(files, precision="bf16").run([request])
    pixels, scores = differing(exact, half)
    assert pixels < 0.1
    assert scores < 0.02


def test_half_precision_keeps_what_must_be_exact(files):
    model = expert(files, precision="bf16").load()
    assert model.image_encoder.trunk.patch_embed.proj.weight.dtype is torch.bfloat16
    assert model.sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix.dtype is torch.float32
    assert model.image_encoder.trunk.pos_embed.dtype is torch.float32


# --- batches and what is remembered ---------------------------------------------------------------------------------


def test_a_batch_is_as_good_as_single_requests(files, shared):
    requests = [ask(POINT, BOX), ask(SIGNED, seed=1, size=(60, 99)), ask(BOTH, MASK), ask(BOX, POINT, seed=2)]
    together = shared.run(requests)
    for request, answer in zip(requests, together, strict=True):
        check_result(request, answer)
        (alone,) = expert(files).run([request])
        pixels, scores = differing(alone, answer)
        assert pixels < 1e-3
        assert scores < 1e-5


def test_images_are_encoded_once_and_together(files):
    made = expert(files, max_images=3)
    seen = batches(made)
    requests = [ask(POINT, seed=seed) for seed in (0, 1, 0, 2, 3, 1)]
    first = made.run(requests)
    assert seen == [3, 1]
    again = made.run(requests)
    assert seen == [3, 1], "embeddings are remembered"
    for one, other in zip(first, again, strict=True):
        assert differing(one, other) == (0.0, 0.0)
    made.run([ask(BOX, seed=9), ask(BOX, seed=0)])
    assert seen == [3, 1, 1]


def test_what_is_remembered_fits_into_its_budget(files):
    made = expert(files, embeddings_mb=0)
    seen = batches(made)
    first, second = made.run([ask(POINT)]), made.run([ask(POINT)])
    assert seen == [1, 1]
    assert differing(first[0], second[0]) == (0.0, 0.0)
    one = 4 * (64 * 8 * 8 + 16 * 16 * 16 + 8 * 32 * 32)  # bytes of an image's three maps
    made = expert(files, embeddings_mb=2.5 * one / 1e6)
    seen = batches(made)
    for seed in (0, 1, 2, 2, 1, 0):
        made.run([ask(POINT, seed=seed)])
    assert seen == [1, 1, 1, 1], "of three, the oldest was forgotten"


def test_memory_mb_bounds_weights_and_embeddings_together(files):
    made = expert(files, memory_mb=20)
    made.load()
    assert made._embeddings.limit == made.spare_bytes < 20e6
    with pytest.raises(InvalidData, match="fit into memory_mb=1, but they take"):
        expert(files, memory_mb=1).load()
    few = expert(files, memory_mb=20, embeddings_mb=1)
    few.load()
    assert few._embeddings.limit == 10**6


def test_hundreds_of_prompts_are_decoded_in_parts(files):
    rng = np.random.default_rng(0)
    prompts = tuple(Prompt(points=rng.uniform(0, 48, (1, 2))) for _ in range(300))
    many = Prompt(points=rng.uniform(0, 48, (200, 2)), labels=rng.integers(0, 2, 200))
    made, sizes = expert(files, max_prompts=32), []
    made.load().sam_prompt_encoder.register_forward_hook(lambda _, __, output: sizes.append(len(output[0])))
    request = ask(*prompts, many)
    (answer,) = made.run([request])
    check_result(request, answer)
    assert max(sizes) == 32
    assert sum(sizes) == 301
    (alone,) = made.run([ask(prompts[137])])
    pixels, scores = differing(alone, Candidates(answer.masks[137:138], answer.scores[137:138]))
    assert pixels < 1e-3
    assert scores < 1e-5


def test_prompts_of_several_images_are_decoded_together_where_that_pays(files, shared):
    made = expert(files, max_images=4, max_prompts=64)
    made.load()
    requests = [ask(POINT, BOX, seed=0), ask(POINT, seed=1, size=(50, 61)), ask(BOX, seed=2)]
    apart = shared.run(requests)
    sizes = []
    made.load().sam_prompt_encoder.register_forward_hook(lambda _, __, output: sizes.append(len(output[0])))
    made.mixes_images = True
    together = made.run(requests)
    assert sorted(sizes) == [2, 2]
    for one, other in zip(apart, together, strict=True):
        pixels, scores = differing(one, other)
        assert pixels < 1e-3
        assert scores < 1e-5


# --- frames ---------------------------------------------------------------------------------------------------------


class PlantedDecoder(torch.nn.Module):
    """Answers a rectangle of cells for every prompt, whatever the image shows; surer with every candidate."""

    def __init__(self, cells):
        super().__init__()
        self.cells = cells
        self.conv_s0, self.conv_s1 = torch.nn.Conv2d(64, 8, 1), torch.nn.Conv2d(64, 16, 1)

    def forward(self, image_embeddings, sparse_prompt_embeddings, **_):
        x0, y0, x1, y1 = self.cells
        logits = torch.full((len(sparse_prompt_embeddings), 3, SIDE // 4, SIDE // 4), -1.0)
        logits[:, :, y0:y1, x0:x1] = 1.0
        return logits, torch.tensor([[-0.5, 0.5, 1.5]]).expand(len(logits), 3), None, None


def planted(files, cells):
    model = built(files[1])
    model.sam_mask_decoder = PlantedDecoder(cells)
    return Sam2Expert(model, device="cpu")


@pytest.mark.parametrize(
    ("size", "box"),
    [((320, 64), [50, 20, 150, 50]), ((32, 32), [5, 10, 15, 25]), ((64, 3200), [10, 1000, 30, 2500])],
)
def test_masks_lie_in_the_frame_of_the_image_asked_about(files, size, box):
    answer = planted(files, (5, 10, 15, 25)).run([ask(POINT, size=size)])[0]
    assert answer.masks[0].boxes.tolist() == [box] * 3
    whole = Masks.from_boxes([box], size[::-1])
    assert (answer.masks[0].iou(whole) > 0.95).all(), "its corners are rounded"
    assert answer.scores[0].tolist() == [0.0, 0.5, 1.0], "predicted IoUs are cut to what scores may be"


def test_prompts_are_carried_into_the_square(files):
    made, seen = planted(files, (0, 0, 4, 4)), []
    made.load().sam_prompt_encoder.register_forward_pre_hook(
        lambda _, __, keywords: seen.append(keywords["points"]), with_kwargs=True
    )
    inside = Prompt(points=np.array([[160.0, 16.0], [400, -3]]), labels=np.array([1, 0]), box=np.array([-9, 8, 80, 99]))
    made.run([ask(inside, size=(320, 64))])
    ((points, labels),) = seen
    assert points[0].tolist() == [[0, 16], [32, 128], [64, 32], [128, 0]]
    assert labels[0].tolist() == [2, 3, 1, 0]


@given(
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)),
    st.lists(st.tuples(st.floats(width=32), st.floats(width=32), st.integers(0, 1)), max_size=6),
    st.none() | st.tuples(*[st.floats(-50, 5000) | st.just(float("nan"))] * 4),
)
def test_no_prompt_leaves_the_square(size, points, box):
    prompt = Prompt(
        points=np.array([point[:2] for point in points]).reshape(-1, 2),
        labels=np.array([point[2] for point in points]),
        box=None if box is None else np.array(box),
    )
    made = square_prompt(prompt, size, 1024, 256)
    if made is None:
        assert not any(label and np.isfinite((x, y)).all() for x, y, label in points)
        return
    assert made.points.shape == (len(made.labels), 2)
    assert ((made.points >= 0) & (made.points <= 1024)).all()
    assert set(made.labels.tolist()) <= {0, 1, 2, 3}


def test_a_mask_to_be_refined_is_laid_on_the_coarse_grid():
    mask = Masks.from_boxes([[0, 0, 32, 16]], (64, 64))
    logits = square_prompt(Prompt(mask=mask), (64, 64), SIDE, 16).mask
    assert logits.shape == (16, 16)
    assert (logits[:4, :8] == 10).all()
    assert (logits[4:] == -10).all()
    assert (logits[:, 8:] == -10).all()
    half = square_prompt(Prompt(mask=Masks.from_boxes([[0, 0, 2, 4]], (64, 64))), (64, 64), SIDE, 16).mask
    assert abs(half[0, 0]) < 0.1, "half of a cell"


@pytest.mark.parametrize("size", [(1, 1), (500, 1), (1, 500), (7, 333), (7680, 4320)])
def test_images_of_any_size_are_taken(shared, size):
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    pixels.flags.writeable = False
    seen = View(pixels, Provenance(RootPixels(pixels)))
    centre = Prompt(points=np.array([[size[0] / 2, size[1] / 2]]))
    request = SegmentPrompts(seen, (centre, Prompt(box=np.array([0.0, 0, *size]))))
    (answer,) = shared.run([request])
    check_result(request, answer)
    assert [len(masks) for masks in answer.masks] == [3, 3]


def test_a_patch_is_a_view_of_its_parent(files):
    parent = view(size=(200, 100)).pixels
    patch = parent[20:70, 30:110]
    request = SegmentPrompts(View(patch, Provenance(RootPixels(parent)).then("patch")), (POINT,))
    (answer,) = expert(files).run([request])
    (same,) = expert(files).run([SegmentPrompts(View(patch.copy(), Provenance(RootPixels(patch.copy()))), (POINT,))])
    assert differing(answer, same) == (0.0, 0.0)


# --- prompts that say little ----------------------------------------------------------------------------------------


def test_prompts_that_say_nothing_get_nothing(files):
    made = expert(files)
    seen = batches(made)
    nothing = [
        Prompt(),
        Prompt(points=np.array([[np.nan, 3.0]])),
        Prompt(points=np.array([[5.0, 5.0]]), labels=np.array([0])),
        Prompt(box=np.array([np.nan, 0, 5, 5])),
        Prompt(box=np.array([90.0, 0, 120, 5])),
        Prompt(mask=Masks.from_crops([np.zeros((1, 1), bool)], [[0, 0]], (48, 80))),
    ]
    empty, answer, mixed = made.run([ask(), ask(*nothing), ask(nothing[0], POINT)])
    assert empty == Candidates((), ())
    assert seen == [1], "only one of the requests needs the image"
    for masks, scores in zip(answer.masks, answer.scores, strict=True):
        assert masks.areas.tolist() == [0, 0, 0]
        assert scores.tolist() == [0, 0, 0]
    assert mixed.masks[0].areas.tolist() == [0, 0, 0]
    (alone,) = made.run([ask(POINT)])
    assert differing(alone, Candidates(mixed.masks[1:], mixed.scores[1:])) == (0.0, 0.0)


def test_what_is_not_finite_is_left_out(shared):
    noisy = Prompt(points=np.array([[10.0, 20.0], [np.inf, 3], [np.nan, 3]]), labels=np.array([1, 1, 0]))
    a, b = shared.run([ask(POINT), ask(noisy)])
    assert differing(a, b) == (0.0, 0.0)


def test_a_bad_prompt_fails_its_request_alone(shared):
    wrong = Prompt(mask=Masks.from_boxes([[0, 0, 5, 5]], (10, 10)))
    good, bad, unlabelled = shared.run([ask(POINT), ask(wrong), ask(Prompt(POINT.points, labels=np.array([1, 1])))])
    assert isinstance(good, Candidates)
    assert isinstance(bad, ExpertFailure)
    assert "one mask over the image's (height, width) (48, 80)" in bad.message
    assert "1 points and 2 labels" in unlabelled.message
    with pytest.raises(InvalidData, match="sam2"):
        shared.run([GroundPhrase(view(), "car")])


# --- loading --------------------------------------------------------------------------------------------------------


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


# --- in an environment ----------------------------------------------------------------------------------------------


def test_an_episode_is_played_with_it(files):
    experts = {"*": "classical", "SegmentPrompts": expert(files)}
    env = gym.make("VisHarness/RefSeg-v0", experts=experts, dataset="scenes", split="val")
    _, info = env.reset(seed=3)
    phrase = info["query"]
    steps = [("PhraseToPoint", {"phrase": phrase}), ("PointToBoxMask", {"mode": "confidence"}), ("MergeBoxMask", {})]
    for name, arguments in steps:
        _, _, _, _, info = env.step({"name": name, "arguments": {"images": ["img_0"], **arguments}})
        assert info["error"] is None, info["error"]
    _, _, terminated, _, info = env.step({"name": "Answer", "arguments": {"text": "done"}})
    assert terminated
    assert info["termination"] == "answer"
    assert len(env.unwrapped.episode.outcome.detections) >= 1


def test_the_pool_keeps_answers_apart(files):
    pool = ExpertPool({"SegmentPrompts": expert(files)})
    first, same, other = pool.answer([ask(POINT), ask(POINT), ask(BOX)])
    assert first is same
    assert differing(first, other)[1] > 0
    assert pool.counters.failures == 0


@pytest.mark.slow
def test_a_compiled_encoder_answers_the_same(files, shared):
    (expected,) = shared.run([ask(POINT, BOX)])
    (answer,) = expert(files, compile=True).run([ask(POINT, BOX)])
    assert differing(expected, answer)[0] < 1e-3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_gpu_answers_as_the_cpu_does(files, shared):
    requests = [ask(POINT, BOX, MASK), ask(SIGNED, POINT, seed=1)]
    checkpoint, config = files
    for precision, pixels_off, scores_off in (("fp32", 0.01, 1e-3), ("bf16", 0.1, 0.02), ("fp16", 0.1, 0.02)):
        made = Sam2Expert(checkpoint, config=config, device="cuda", precision=precision)
        for one, other in zip(shared.run(requests), made.run(requests), strict=True):
            pixels, scores = differing(one, other)
            assert pixels < pixels_off
            assert scores < scores_off
