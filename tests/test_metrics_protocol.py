"""What all metrics have in common: merging, pickling, resampling, coverage, bounds."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.masks import Masks
from visenv.rewards import metrics
from visenv.rewards.metrics import (
    AnswerAccuracy,
    CIoU,
    CocoAP,
    CountError,
    DenseF1,
    GIoU,
    MacroDenseF1,
    MendedPictures,
    Metric,
    MIoU,
    NullAccuracy,
    PairAccuracy,
    PointLocalisation,
    PrecisionAt,
    SubTaskAccuracy,
)
from visenv.types import AnswerTruth, BoxesTruth, Detections, ImageTruth, MaskTruth, Outcome, PointsTruth

MAKERS = {
    "GIoU": GIoU,
    "CIoU": CIoU,
    "NullAccuracy": NullAccuracy,
    "PrecisionAt": lambda: PrecisionAt([0.3, 0.6]),
    "MIoU": MIoU,
    "CountError": CountError,
    "PointLocalisation": PointLocalisation,
    "DenseF1 micro": DenseF1,
    "DenseF1 macro": lambda: DenseF1("macro"),
    "MacroDenseF1": MacroDenseF1,
    "CocoAP": CocoAP,
    "AnswerAccuracy": AnswerAccuracy,
    "SubTaskAccuracy": SubTaskAccuracy,
    "PairAccuracy": PairAccuracy,
    "MendedPictures": MendedPictures,
}
SIZE = (12, 12)
PICTURES = np.random.default_rng(0).integers(0, 256, (6, *SIZE, 3), dtype=np.uint8)
BOX = st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(1, 4), st.integers(1, 4))
BOXES = st.lists(BOX.map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]), max_size=4)
ENDS = st.sampled_from(["answer", "max_turns", "token_budget", "invalid", None])
SAMPLE = st.tuples(st.none() | BOXES, BOXES, ENDS, st.sampled_from(["", "red", "the red umbrella"]))


def build(sample, truths):
    """An outcome, and a truth of a kind that is asked for, from a few boxes."""
    found, true, termination, text = sample
    found = None if found is None else np.array(found, float).reshape(-1, 4)
    detections = None if found is None else Detections(found, Masks.from_boxes(found, SIZE))
    true = np.array(true, float).reshape(-1, 4)
    truth = {
        MaskTruth: MaskTruth(Masks.from_boxes(true, SIZE)),
        BoxesTruth: BoxesTruth(true, ("car",) * len(true)),
        PointsTruth: PointsTruth(true[:, :2]),
        ImageTruth: ImageTruth(PICTURES[len(true)], ("blur",) * (len(true) % 2), ("red umbrella",) * (len(true) > 1)),
        AnswerTruth: AnswerTruth(("red umbrella",), group=str(len(true) // 2) if len(true) else None),
    }[truths[0]]
    image = None if found is None else PICTURES[len(found)]
    return Outcome(detections, text if termination == "answer" else None, termination, 2, image), truth


def filled(make, samples):
    metric = make()
    for sample in samples:
        metric.update(*build(sample, metric.truths))
    return metric


def test_every_public_metric_is_tested_here():
    public = {name for name in metrics.__all__ if name not in ("Metric", "update_all")}
    assert public == {type(make()).__name__ for make in MAKERS.values()}


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=20)
@given(samples=st.lists(SAMPLE, max_size=6), cut=st.integers(0, 6))
def test_merging_parts_is_scoring_all(name, samples, cut):
    make = MAKERS[name]
    whole = filled(make, samples)
    first, second = filled(make, samples[:cut]), filled(make, samples[cut:])
    assert first.merge(second) is first
    np.testing.assert_equal(first.compute(), whole.compute())
    np.testing.assert_array_equal(first.values, whole.values)
    other_way = filled(make, samples[cut:]).merge(filled(make, samples[:cut])).compute()
    assert other_way == pytest.approx(whole.compute(), nan_ok=True)


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=20)
@given(samples=st.lists(SAMPLE, min_size=1, max_size=6), data=st.data())
def test_figures_are_flat_floats_within_bounds_and_survive_pickling(name, samples, data):
    metric = filled(MAKERS[name], samples)
    figures = metric.compute()
    assert all(type(key) is str and type(value) is float for key, value in figures.items())
    low, high = metric.bounds
    assert all(low <= value <= high for value in metric.values if not np.isnan(value))
    assert len(metric) == len(metric.values) == len(samples)
    np.testing.assert_equal(pickle.loads(pickle.dumps(metric)).compute(), figures)

    indices = data.draw(st.lists(st.integers(0, len(samples) - 1), min_size=1, max_size=8))
    again = filled(MAKERS[name], [samples[index] for index in indices])
    np.testing.assert_equal(metric.resample(indices).compute(), again.compute())
    np.testing.assert_equal(metric.compute(), figures)


@pytest.mark.parametrize("name", MAKERS)
def test_reset_forgets_samples_and_keeps_settings(name):
    metric = filled(MAKERS[name], [([[0, 0, 2, 2]], [[0, 0, 2, 2]], "answer", "red")])
    before = repr(metric)
    metric.reset()
    assert len(metric) == 0
    assert repr(metric) == before == repr(MAKERS[name]())
    np.testing.assert_equal(metric.compute(), MAKERS[name]().compute())


@pytest.mark.parametrize("name", MAKERS)
def test_every_figure_stands_beside_what_it_covers(name):
    good = ([[0, 0, 2, 2]], [[0, 0, 2, 2]], "answer", "red")
    bad = (None, [[0, 0, 2, 2]], "max_turns", "")
    metric = filled(MAKERS[name], [good, bad, bad])
    figures = metric.compute()
    headline = "T_acc" if name == "NullAccuracy" else metric.name
    assert (figures[f"{headline}_n"], figures[f"{headline}_failed"]) == (3, 2)
    covering = {key.removesuffix("_n") for key in figures if key.endswith("_n")}
    assert covering == {key.removesuffix("_failed") for key in figures if key.endswith("_failed")}
    assert metric.name in covering <= figures.keys()
    assert isinstance(metric.higher_is_better, bool)


@pytest.mark.parametrize("name", MAKERS)
def test_the_perfect_outcome_scores_the_best(name):
    metric = MAKERS[name]()
    boxes = np.array([[0.0, 0.0, 4.0, 4.0], [6.0, 6.0, 9.0, 9.0]])
    masks = Masks.from_boxes(boxes, SIZE)
    outcome = Outcome(Detections(boxes, masks), "red umbrella", "answer", 2, PICTURES[0])
    centres = PointsTruth((boxes[:, :2] + boxes[:, 2:]) / 2)
    answer, clean = AnswerTruth(("red umbrella",)), ImageTruth(PICTURES[0], ("blur",), ("red umbrella",))
    for truth in (MaskTruth(masks), BoxesTruth(boxes, ("car", "car")), centres, answer, clean):
        if metric.accepts(truth):
            metric.update(outcome, truth)
    best = metric.bounds[1] if metric.higher_is_better else metric.bounds[0]
    assert len(metric)
    assert metric.values.tolist() == [best] * len(metric)
    assert metric.compute()["T_acc" if name == "NullAccuracy" else metric.name] == best


@pytest.mark.parametrize("name", MAKERS)
def test_other_truths_are_refused(name):
    metric = MAKERS[name]()
    other = (
        PointsTruth([[1, 1]]) if MaskTruth in metric.truths or AnswerTruth in metric.truths else AnswerTruth(("red",))
    )
    assert not metric.accepts(other)
    with pytest.raises(InvalidData, match="accepts"):
        metric.update(Outcome(None, None, "answer", 1), other)
    assert len(metric) == 0


@pytest.mark.parametrize(
    ("termination", "found", "failed"),
    [
        ("answer", False, 0),
        ("answer", True, 0),
        ("max_turns", True, 0),
        ("token_budget", True, 0),
        ("max_turns", False, 1),
        ("token_budget", False, 1),
        ("invalid", True, 1),
        ("invalid", False, 1),
        (None, True, 1),
    ],
)
def test_an_episode_fails_if_it_is_invalid_or_runs_out_with_nothing_to_show(termination, found, failed):
    metric = CountError()
    metric.update(Outcome(Detections([[0, 0, 1, 1]]) if found else None, None, termination, 3), PointsTruth([[1, 1]]))
    assert metric.compute()["MAE_failed"] == failed
    assert metric.compute()["MAE"] == (0 if found else 1)


def test_merging_needs_the_same_kind_and_settings():
    with pytest.raises(InvalidData, match="merge"):
        GIoU().merge(CIoU())
    with pytest.raises(InvalidData, match="merge"):
        PrecisionAt([0.5]).merge(PrecisionAt([0.6]))
    with pytest.raises(InvalidData, match="macro"):
        DenseF1().merge(DenseF1("macro"))


def test_a_metric_of_ones_own_needs_three_methods():
    class Turns(Metric[int]):
        name = "turns"
        higher_is_better = False
        bounds = (1.0, float("inf"))
        truths = (MaskTruth, PointsTruth)

        def _measure(self, outcome, truth):
            return outcome.turns

        def _summarize(self, records):
            return {"turns": float(np.mean(records))}

        def _value(self, record):
            return float(record)

    metric = Turns()
    metric.update(Outcome(None, "none", "answer", 4), PointsTruth([[1, 1]]))
    metric.update(Outcome(None, None, "max_turns", 10), MaskTruth(Masks.empty(SIZE)))
    assert metric.compute() == {"turns": 7.0, "turns_n": 2.0, "turns_failed": 1.0}
