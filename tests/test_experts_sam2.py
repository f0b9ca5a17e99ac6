"""SAM 2 through its own package: the answers of its own predictor, in batches, in the image's pixels."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from tiny_sam2 import BOTH, BOX, MASK, POINT, SIDE, SIGNED, ask, batches, differing, expert, own_predictor, saved

import visenv  # noqa: F401 - registers the ids
from visenv.capabilities import Candidates, Prompt
from visenv.errors import InvalidData
from visenv.experts.sam2 import Sam2Expert
from visenv.experts.sam2.prompts import square_prompt
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool
from visenv.masks import Masks

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


# --- the same as the package's own predictor --------------------------------------------------------------------------


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


# --- batches and what is remembered -----------------------------------------------------------------------------------


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


# --- in an environment ------------------------------------------------------------------------------------------------


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
