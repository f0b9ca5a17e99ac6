"""Bootstrap intervals of figures, against drawing the samples anew one set after another."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from tests.test_metrics_protocol import MAKERS, build
from visenv.errors import InvalidData
from visenv.rewards.metrics import CIoU, CountError, Metric, update_all
from visenv.rewards.metrics.bootstrap import percentile_interval, resampling_weights
from visenv.types import Detections, Outcome, PointsTruth

ENDS = ["answer", "answer", "max_turns", "invalid"]
TEXTS = ["", "red", "the red umbrella"]


def random_samples(rng, count):
    def boxes(most):
        corners = rng.integers(0, 8, (rng.integers(0, most), 2))
        return np.concatenate([corners, corners + rng.integers(1, 5, corners.shape)], axis=1).tolist()

    return [
        (None if rng.random() < 0.2 else boxes(5), boxes(4), str(rng.choice(ENDS)), str(rng.choice(TEXTS)))
        for _ in range(count)
    ]


def filled(name, count, seed=0):
    metric = MAKERS[name]()
    for sample in random_samples(np.random.default_rng(seed), count):
        metric.update(*build(sample, metric.truths))
    return metric


# Of pairs, pairs are drawn and not samples: ``tests/test_metrics_answers.py`` compares these.
@pytest.mark.parametrize("name", [name for name in MAKERS if name != "PairAccuracy"])
def test_intervals_are_those_of_resampled_samples(name):
    metric = filled(name, 9)
    (weights,) = resampling_weights(9, 30, seed=5)
    again = [metric.resample(np.repeat(np.arange(9), row.astype(int))).compute() for row in weights]
    figures = metric.resampled(30, seed=5)
    for key, values in figures.items():
        np.testing.assert_allclose(values, [one[key] for one in again], rtol=1e-12, atol=1e-15, err_msg=key)
    expected = {key: percentile_interval(values, 0.8) for key, values in figures.items()}
    assert metric.intervals(30, 0.8, seed=5) == {key: ends for key, ends in expected.items() if ends is not None}


@pytest.mark.parametrize("name", MAKERS)
def test_every_figure_has_an_interval_that_holds_it_and_counts_have_none(name):
    metric = filled(name, 60)
    figures, intervals = metric.compute(), metric.intervals()
    plain = {key for key, value in figures.items() if not key.endswith(("_n", "_failed")) and np.isfinite(value)}
    assert intervals.keys() == plain - metric.counts
    for key, (low, high) in intervals.items():
        assert low <= high
        # The point estimate of a bounded figure may lie at the very edge of what resamples give.
        assert low - 0.05 * (1 + high) <= figures[key] <= high + 0.05 * (1 + high), key


def test_the_interval_of_a_mean_is_that_of_scipy():
    metric = filled("GIoU", 80)
    theirs = bootstrap((metric.values,), np.mean, n_resamples=9000, method="percentile", rng=np.random.default_rng(1))
    low, high = metric.intervals(9000)["gIoU"]
    assert low == pytest.approx(theirs.confidence_interval.low, abs=0.006)
    assert high == pytest.approx(theirs.confidence_interval.high, abs=0.006)


def test_the_interval_of_a_ratio_draws_samples_not_values():
    # One huge sample decides cIoU: without it the ratio is 1, with it nearly 0.
    metric = CIoU()
    metric._records, metric._failed = list(filled("CIoU", 0)._records), []
    truths = filled("CIoU", 1)._records
    record = truths[0]._replace(intersection=10, union=10, null=False)
    metric._records = [record] * 20 + [record._replace(intersection=0, union=100_000)]
    metric._failed = [False] * 21
    low, high = metric.intervals()["cIoU"]
    assert low < 0.01
    assert high == 1.0


def test_rmse_by_hand():
    metric = CountError()
    for count in (1, 3):
        boxes = [[index, 0, index + 1, 1] for index in range(count)]
        metric.update(Outcome(Detections(boxes), "", "answer", 1), PointsTruth([[1, 1]]))
    # Errors 0 and 2: of resamples of two, RMSE is 0, sqrt(2) or 2.
    assert set(metric.resampled(200)["RMSE"].round(12)) == {0.0, round(2**0.5, 12), 2.0}
    assert metric.intervals(400)["RMSE"] == (0.0, 2.0)


def test_merging_and_pickling_keep_intervals():
    whole = filled("DenseF1 macro", 40)
    parts = whole.resample(range(15)), whole.resample(range(15, 40))
    assert parts[0].merge(parts[1]).intervals() == whole.intervals()


def test_less_than_two_samples_have_no_interval():
    assert filled("GIoU", 0).intervals() == filled("GIoU", 1).intervals() == {}


def test_weights_are_draws_with_replacement():
    parts = list(resampling_weights(3_000_000, 3))
    assert [part.shape for part in parts] == [(1, 3_000_000)] * 3
    assert all(part.sum() == 3_000_000 for part in parts)
    first = np.concatenate(list(resampling_weights(50, 400)))
    np.testing.assert_array_equal(first, np.concatenate(list(resampling_weights(50, 400))))
    assert first.mean() == 1.0
    # Of N draws each sample is drawn Binomial(N, 1/N) times.
    assert first.var() == pytest.approx(1 - 1 / 50, rel=0.05)


@pytest.mark.parametrize("call", [lambda metric: metric.intervals(0), lambda metric: metric.intervals(10, 1.0)])
def test_impossible_settings_are_refused(call):
    with pytest.raises(InvalidData):
        call(filled("GIoU", 3))


def test_a_metric_of_ones_own_has_intervals_too():
    class Turns(Metric[int]):
        name = "turns"
        higher_is_better = False
        bounds = (1.0, float("inf"))
        truths = (PointsTruth,)

        def _measure(self, outcome, truth):
            return outcome.turns

        def _summarize(self, records):
            return {"turns": float(np.mean(records))}

        def _value(self, record):
            return float(record)

    metric = Turns()
    for turns in (1, 5):
        metric.update(Outcome(None, "", "answer", turns), PointsTruth([[0, 0]]))
    assert metric.intervals(200) == {"turns": (1.0, 5.0)}


def test_a_region_is_measured_once_for_all_metrics(monkeypatch):
    names = ["GIoU", "CIoU", "NullAccuracy", "PrecisionAt", "MIoU"]
    together, alone = ([MAKERS[name]() for name in names] for _ in range(2))
    calls = []
    from visenv.rewards.metrics import regions

    measure = regions.measure_region
    monkeypatch.setattr(regions, "measure_region", lambda *args: calls.append(1) or measure(*args))
    for sample in random_samples(np.random.default_rng(3), 10):
        outcome, truth = build(sample, together[0].truths)
        calls.clear()
        update_all(together, outcome, truth)
        assert len(calls) == 1
        for metric in alone:
            metric.update(outcome, truth)
    np.testing.assert_equal([one.compute() for one in together], [one.compute() for one in alone])


def test_metrics_of_other_settings_share_nothing():
    from visenv.rewards.metrics import DenseF1

    plain, loose = DenseF1(), DenseF1(epsilon=1000.0)
    sample = ([[0, 0, 2, 2]], [[0, 0, 2, 2]], "answer", "")
    update_all([plain, loose], *build(sample, plain.truths))
    assert plain.compute()["F1@0.50"] == 1.0
    assert loose.compute()["F1@0.50"] == 0.0
