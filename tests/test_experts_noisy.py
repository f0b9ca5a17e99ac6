"""The expert set ``noisy``: errs as its model says, the same way every time."""

import numpy as np
import pytest

from visenv.capabilities import GroundPhrase, PointPhrase, Prompt, SegmentPrompts, Upscale
from visenv.errors import InvalidData
from visenv.experts import noisy, oracle
from visenv.experts.noisy import ErrorModel
from visenv.experts_checks import check_result
from visenv.masks import Masks
from visenv.types import MaskTruth, Sample
from visenv.workspace import Workspace

EXACT = {"miss_small": 0, "miss_large": 0, "box_jitter": 0, "mask_jitter": 0, "false_positives": 0}


def sample_of(sides, size=400):
    """Squares of the given sides in a row, each on 50 x 50 pixels of its own."""
    masks = np.zeros((len(sides), size, size), dtype=bool)
    for index, side in enumerate(sides):
        y, x = divmod(index * 50, size)
        masks[index, y * 50 : y * 50 + side, x : x + side] = True
    return Sample("s", (np.zeros((size, size, 3), np.uint8),), "q", MaskTruth(Masks.from_dense(masks)))


def view_of(sample):
    return Workspace(sample.images).view("img_0", sample.sample_id)


def run(sample, request, **options):
    (expert,) = noisy.make({"s": sample}.__getitem__, **options)
    return expert.run([request])[0]


def same(a, b):
    return a.masks == b.masks and np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores)


def test_without_errors_it_is_the_oracle():
    sample = sample_of([5, 20, 40])
    request = GroundPhrase(view_of(sample), "q")
    (truth,) = oracle.make({"s": sample}.__getitem__)[0].run([request])
    found = run(sample, request, **EXACT)
    assert found.masks == truth.masks
    np.testing.assert_array_equal(found.boxes, truth.boxes)


def test_answers_do_not_depend_on_order_or_batch():
    sample = sample_of([20] * 7)
    view = view_of(sample)
    requests = [GroundPhrase(view, "a"), PointPhrase(view, "b"), GroundPhrase(view, "c"), GroundPhrase(view, "\ud800")]
    (first,) = noisy.make({"s": sample}.__getitem__)
    (second,) = noisy.make({"s": sample}.__getitem__)
    together = first.run(requests)
    backwards = [second.run([request])[0] for request in reversed(requests)][::-1]
    assert same(together[0], backwards[0])
    assert same(together[2], backwards[2])
    np.testing.assert_array_equal(together[1].points, backwards[1].points)
    assert first.fingerprint == second.fingerprint


def test_phrase_and_seed_change_the_errors():
    sample = sample_of([20] * 7)
    view = view_of(sample)
    one = run(sample, GroundPhrase(view, "a"))
    assert not same(one, run(sample, GroundPhrase(view, "b")))
    assert not same(one, run(sample, GroundPhrase(view, "a"), seed=1))
    fingerprints = {noisy.make(lambda _: sample, seed=seed)[0].fingerprint for seed in range(3)}
    assert len(fingerprints) == 3


def test_misses_follow_the_stated_probability():
    model = ErrorModel(miss_small=0.9, miss_large=0.1, miss_side=10.0)
    assert model.miss_probability(10.0) == pytest.approx(0.1 + 0.8 / np.e)
    sample = sample_of([4] * 7)
    options = {**EXACT, "miss_small": 0.9, "miss_large": 0.1, "miss_side": 10.0}
    view = view_of(sample)
    found = sum(len(run(sample, GroundPhrase(view, str(trial)), **options)) for trial in range(120)) / (120 * 7)
    assert 1 - found == pytest.approx(float(model.miss_probability(4.0)), abs=0.05)


def test_box_jitter_has_the_stated_spread():
    sample = sample_of([40] * 7)
    options = {**EXACT, "box_jitter": 0.1}
    view = view_of(sample)
    truth = sample.truth.target.boxes[1:, 2]
    shifts = [run(sample, GroundPhrase(view, str(trial)), **options).boxes[1:, 2] - truth for trial in range(60)]
    assert np.std(shifts) == pytest.approx(0.1 * 40, rel=0.2)
    assert abs(np.mean(shifts)) < 1


def test_false_positives_come_at_the_stated_rate():
    sample = sample_of([])
    view = view_of(sample)
    counts = [len(run(sample, GroundPhrase(view, str(n)), **{**EXACT, "false_positives": 1.5})) for n in range(150)]
    assert np.mean(counts) == pytest.approx(1.5, abs=0.35)


def test_mask_jitter_grows_and_shrinks():
    sample = sample_of([40] * 7)
    view = view_of(sample)
    options = {**EXACT, "mask_jitter": 0.1}
    areas = np.concatenate([run(sample, GroundPhrase(view, str(n)), **options).masks.areas for n in range(10)])
    assert (areas > 1600).any()
    assert (areas < 1600).any()


def test_candidates_are_three_and_scored_by_quality():
    sample = sample_of([40] * 3)
    prompts = (Prompt(points=np.array([[10.0, 10.0]])), Prompt(box=np.array([0.0, 0.0, 40.0, 40.0])))
    result = run(sample, SegmentPrompts(view_of(sample), prompts), mask_jitter=0.2)
    for masks, scores in zip(result.masks, result.scores, strict=True):
        assert len(masks) == len(scores) == 3
        assert ((scores >= 0) & (scores <= 1)).all()
        assert len(set(masks.areas.tolist())) > 1


def test_upscaling_is_exact():
    sample = sample_of([3])
    large = run(sample, Upscale(view_of(sample), 2))
    assert large.pixels.shape == (800, 800, 3)


@pytest.mark.parametrize(
    "options",
    [{"miss_small": 1.5}, {"miss_side": 0}, {"box_jitter": -1}, {"false_positives": float("nan")}, {"seed": -1}],
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(InvalidData, match="Expected"):
        noisy.make(lambda _: sample_of([3]), **options)


def test_a_point_on_nothing_gets_a_mask_of_nothing():
    """A false positive of the pointer, where the view shows no target."""
    sample = Sample("empty/0", (np.zeros((32, 32, 3), np.uint8),), "nothing", MaskTruth(Masks.empty((32, 32))))
    (expert,) = noisy.make(lambda _: sample)
    request = SegmentPrompts(view_of(sample), (Prompt(np.array([[5.0, 5.0]])),))
    (result,) = expert.run([request])
    check_result(request, result)
    assert not result.masks[0].areas.any()
