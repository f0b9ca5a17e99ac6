import numpy as np
import pytest
from stubs import BrightExpert, BrokenExpert, SquareDataset

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
from visenv.errors import ExpertError, InvalidData, UnknownName
from visenv.experts_pool import ExpertPool, check_result, make_experts
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
