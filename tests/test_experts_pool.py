import pickle
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stubs import BrightExpert, BrokenExpert, SquareDataset

from visenv.byte_cache import ByteCache
from visenv.capabilities import (
    Candidates,
    ExpertFailure,
    GroundPhrase,
    PointPhrase,
    Points,
    Prompt,
    SegmentPrompts,
    Upscale,
    Upscaled,
)
from visenv.driving import drive_all
from visenv.errors import ExpertError, InvalidData, UnknownName
from visenv.experts_checks import check_result, result_bytes
from visenv.experts_making import make_experts
from visenv.experts_pool import ExpertPool
from visenv.masks import Masks
from visenv.types import Detections
from visenv.workspace import Workspace


@pytest.fixture
def view():
    return Workspace(SquareDataset().get(0).images).view("img_0", "squares/0")


def test_requests_are_answered_in_order_and_in_batches(view):
    expert = BrightExpert()
    pool = ExpertPool(make_experts(expert, None))
    requests = [GroundPhrase(view, str(i)) for i in range(6)] + [Upscale(view), PointPhrase(view, "p")]
    results = pool.answer(requests)
    assert [type(result) for result in results] == [Detections] * 6 + [Upscaled, Points]
    assert expert.batches == [4, 2, 1, 1]
    assert pool.counters.requests == 8
    assert pool.counters.batches == 4


def test_a_failing_request_fails_alone(view):
    expert = BrokenExpert()
    pool = ExpertPool(make_experts(expert, None))
    results = pool.answer([GroundPhrase(view, phrase) for phrase in ("a", "fail", "b", "c")])
    assert [isinstance(result, ExpertFailure) for result in results] == [False, True, False, False]
    assert results[1] == ExpertFailure("broken", "RuntimeError: no more memory")
    assert pool.counters.failures == 1
    assert pool.counters.retries == 1


def test_the_first_failure_of_an_expert_is_logged_with_its_traceback(view, caplog):
    pool = ExpertPool(make_experts(BrokenExpert(), None))
    pool.answer([GroundPhrase(view, "fail"), GroundPhrase(view, "a")])
    pool.answer([GroundPhrase(view, "fail")])
    assert pool.counters.failures == 2
    (record,) = caplog.records
    assert record.getMessage() == "Expert 'broken' failed: RuntimeError: no more memory"
    assert Path(traceback.extract_tb(record.exc_info[2])[-1].filename).name == "stubs.py"


def test_a_failure_that_passes_is_retried(view):
    class Flaky(BrightExpert):
        def run(self, requests):
            if not self.batches:
                self.batches.append(0)
                raise TimeoutError("busy")
            return super().run(requests)

    pool = ExpertPool(make_experts(Flaky(), None))
    assert isinstance(pool.answer([GroundPhrase(view, "a")])[0], Detections)


def test_a_capability_that_nobody_has_is_a_failure(view):
    class OnlyGround(BrightExpert):
        capabilities = ("GroundPhrase",)

    result = ExpertPool(make_experts(OnlyGround(), None)).answer([Upscale(view)])[0]
    assert isinstance(result, ExpertFailure)
    assert "no expert answers Upscale" in result.message


HEIGHT, WIDTH = 64, 96
OTHER = Masks.from_boxes(np.array([[0.0, 0, 2, 2]]), (5, 5))
RIGHT = Masks.from_boxes(np.array([[0.0, 0, 2, 2]]), (HEIGHT, WIDTH))


@pytest.mark.parametrize(
    ("make", "result", "message"),
    [
        (lambda v: GroundPhrase(v, "a"), None, "expected Detections"),
        (lambda v: GroundPhrase(v, "a"), Detections(OTHER.boxes, OTHER), r"\(64, 96\)"),
        (lambda v: GroundPhrase(v, "a"), Detections(OTHER.boxes), "with masks"),
        (lambda v: PointPhrase(v, "a"), Points(np.array([[np.nan, 1]]), np.ones(1)), "finite points"),
        (lambda v: PointPhrase(v, "a"), Points(np.ones((3, 2)), np.full(3, 2.0)), "scores from 0 to 1"),
        (lambda v: SegmentPrompts(v, (Prompt(np.ones((1, 2))),)), Candidates((), ()), "for 1 prompts"),
        (lambda v: SegmentPrompts(v, (Prompt(),)), Candidates((OTHER,), (np.ones(1),)), "masks over"),
        (lambda v: SegmentPrompts(v, (Prompt(),)), Candidates((RIGHT,), (np.ones(2),)), "a score a candidate"),
        (lambda v: GroundPhrase(v, "a"), Detections(RIGHT.boxes, RIGHT, np.array([np.nan])), "scores from 0 to 1"),
        (lambda v: GroundPhrase(v, "a"), Detections(RIGHT.boxes, RIGHT, np.array([7.0])), "scores from 0 to 1"),
        (
            lambda v: SegmentPrompts(v, (Prompt(),)),
            Candidates((RIGHT,), (np.array([-np.inf]),)),
            "scores from 0 to 1",
        ),
        (lambda v: Upscale(v), Upscaled(np.zeros((5, 5, 3), np.uint8)), "enlarged image"),
        (lambda v: Upscale(v), Upscaled(np.zeros((4 * HEIGHT, 4 * WIDTH, 3))), "float64"),
    ],
)
def test_garbage_is_refused(view, make, result, message):
    with pytest.raises(InvalidData, match=message):
        check_result(make(view), result)


def test_too_few_results_are_a_failure(view):
    class Short(BrightExpert):
        def run(self, requests):
            return []

    results = ExpertPool(make_experts(Short(), None)).answer([GroundPhrase(view, "a"), GroundPhrase(view, "b")])
    assert all(isinstance(result, ExpertFailure) and "expected 1 results" in result.message for result in results)


def test_experts_can_be_mixed():
    one, other = BrightExpert(), BrokenExpert()
    routed = make_experts({"*": one, "Upscale": other}, None)
    assert routed["Upscale"] is other
    assert routed["GroundPhrase"] is one
    assert set(make_experts([one, other], None).values()) == {one}


def test_bad_experts_are_named():
    with pytest.raises(UnknownName, match="Did you mean 'classical'"):
        make_experts("clasical", None)
    with pytest.raises(InvalidData, match="Expected a capability"):
        make_experts({"Ground": BrightExpert()}, None)
    with pytest.raises(InvalidData, match="Expected an expert"):
        make_experts([object()], None)
    with pytest.raises(InvalidData, match="Expected an expert"):
        make_experts(BrightExpert, None)


def test_points_are_arrays_of_one_shape():
    assert Points([[3, 4]], [1]).points.dtype == np.float64
    assert Points([], []).points.shape == (0, 2)
    for points, scores in (([[1, 2], [3, 4]], [1.0]), ([1, 2], [1.0, 1.0]), ([[1, 2, 3]], [1.0])):
        with pytest.raises(InvalidData, match="as many scores"):
            Points(points, scores)


def test_a_failure_can_be_raised():
    error = ExpertFailure("sam", "no weights").to_error()
    assert isinstance(error, ExpertError)
    assert error.expert == "sam"


def test_one_hopeless_request_does_not_shrink_everybodys_batches(view):
    class Small(BrightExpert):
        def run(self, requests):
            if any(request.phrase == "huge" for request in requests):
                raise MemoryError
            return super().run(requests)

    expert = Small()
    pool = ExpertPool(make_experts(expert, None), cache_bytes=0)
    requests = [GroundPhrase(view, phrase) for phrase in ("a", "huge", "b", "c")]
    assert [isinstance(result, ExpertFailure) for result in pool.answer(requests)] == [False, True, False, False]
    expert.batches.clear()
    pool.answer([GroundPhrase(view, phrase) for phrase in "abcd"])
    assert expert.batches == [4]


def test_what_depends_on_the_sample_is_kept_apart_by_sample_and_image():
    first, second = SquareDataset().get(0), SquareDataset().get(1)
    twice = replace(first, images=(first.images[0], first.images[0].copy()))
    other = replace(second, sample_id="other", images=first.images)
    samples = {sample.sample_id: sample for sample in (twice, other)}
    views = [Workspace(twice.images).view(name, twice.sample_id) for name in ("img_0", "img_1")]
    views.append(Workspace(other.images).view("img_0", "other"))
    assert len({view.provenance.key for view in views}) == 1
    for name in ("oracle", "noisy"):
        alone = [ExpertPool(make_experts(name, samples.get)).answer([GroundPhrase(v, "x")])[0] for v in views]
        together = ExpertPool(make_experts(name, samples.get)).answer([GroundPhrase(v, "x") for v in views])
        for one, also in zip(alone, together, strict=True):
            assert one.boxes.tolist() == also.boxes.tolist()
    assert [
        len(found)
        for found in ExpertPool(make_experts("oracle", samples.get)).answer([GroundPhrase(v, "x") for v in views])
    ] == [1, 0, 1]


def test_results_that_are_shared_cannot_be_changed(view):
    prompts = (Prompt(np.ones((1, 2))),)
    pool = ExpertPool(make_experts(BrightExpert(), None))
    found, points, candidates, larger = pool.answer(
        [GroundPhrase(view, "a"), PointPhrase(view, "a"), SegmentPrompts(view, prompts), Upscale(view)]
    )
    arrays = [found.boxes, found.scores, points.points, points.scores, *candidates.scores, larger.pixels]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    assert found.boxes is pool.answer([GroundPhrase(view, "a")])[0].boxes


def test_the_cache_stays_within_its_bytes(view):
    result = ExpertPool(make_experts(BrightExpert(), None)).answer([GroundPhrase(view, "a")])[0]
    size = result_bytes(result)
    assert size >= result.boxes.nbytes + result.masks.crops[0].nbytes
    cache = ByteCache(2 * size)
    for key in "abac":
        cache.put(key, result, size)
    assert (cache.size, len(cache)) == (2 * size, 2)
    assert cache.get("b") is None
    assert cache.get("a") is result
    nothing = ByteCache(0)
    nothing.put("a", result, size)
    assert (len(nothing), nothing.size, nothing.get("a")) == (0, 0, None)
    larger = Upscaled(np.zeros((100, 100, 3), np.uint8))
    assert result_bytes(larger) >= 30_000
    cache.put("d", larger, result_bytes(larger))
    assert len(cache) == 2


def test_a_pool_is_pickled_without_what_it_remembers(view):
    expert = BrightExpert()
    pool = ExpertPool(make_experts(expert, None))
    pool.answer([GroundPhrase(view, "a")])
    again = pickle.loads(pickle.dumps(pool))
    assert (len(again._cache), again._cache.size, again._cache.limit) == (0, 0, pool._cache.limit)
    again.answer([GroundPhrase(view, "a")] * 2)
    assert (again.counters.batches, again.counters.duplicates) == (2, 1)
    pool.answer([GroundPhrase(view, "a")])
    assert pool.counters.cache_hits == 1


def test_steps_that_ask_twice_take_part_in_two_rounds_and_a_bug_closes_the_others(view):
    closed = []

    def asking(*phrases, bug=False):
        try:
            found = 0
            for phrase in phrases:
                found += len((yield [GroundPhrase(view, phrase)] * 2))
            if bug:
                raise ZeroDivisionError
            return found
        finally:
            closed.append(phrases)

    expert = BrightExpert()
    pool = ExpertPool(make_experts(expert, None))
    assert drive_all([asking("a", "b"), asking(), asking("c"), asking("a", "d")], pool) == [4, 0, 2, 4]
    assert expert.batches == [2, 2]
    assert drive_all([], pool) == []
    closed.clear()
    steps = [asking("a", "b"), asking("e", bug=True), asking("c", "d")]
    with pytest.raises(ZeroDivisionError):
        drive_all(steps, pool)
    assert sorted(closed) == [("a", "b"), ("c", "d"), ("e",)]
