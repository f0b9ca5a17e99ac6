"""The benchmark of neural experts, on one that costs nothing."""

import numpy as np
from stubs import BrightExpert

from benchmarks import bench_neural
from benchmarks._neural import Case
from visenv.capabilities import GroundPhrase, View
from visenv.images import Provenance, RootPixels


class Counted(BrightExpert):
    """Remembers how it was called."""

    capabilities = ("GroundPhrase",)
    made: list = []

    def __init__(self, max_batch, precision="auto"):
        super().__init__()
        self.max_batch, self.precision = max_batch, precision
        self.made.append(self)


def requests(count, seed):
    images = np.random.default_rng(seed).integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
    return [GroundPhrase(View(image, Provenance(RootPixels(image))), "thing") for image in images]


def case(small):
    assert small
    return Case("a stub", Counted, requests, (("PhraseToBoxMask", {"phrase": "light"}),))


def test_every_family_is_measured_by_batch_size_by_precision_and_while_episodes_play(monkeypatch):
    monkeypatch.setattr(bench_neural, "FAMILIES", {"bright": f"{__name__}:case"})
    monkeypatch.setattr(Counted, "made", [])
    rows = bench_neural.run(repeats=1, quick=True)
    assert [(row["benchmark"], row["alternative"]) for row in rows] == [
        ("bright, batches of 2", "one by one"),
        ("bright, batches of 4", "one by one"),
        ("bright, bf16", "fp32"),
        ("bright, while 8 play", "one by one"),
    ]
    assert all(row["ours_s"] > 0 and row["alternative_s"] > 0 for row in rows)
    by_batch, half, full, together, alone = Counted.made
    assert by_batch.batches == [2, 1, 1, 1, 1, 2, 2, 4]
    assert (half.precision, full.precision) == ("bf16", "fp32")
    assert together.batches == [2, 8]
    assert alone.batches == [1] * 9


def test_families_that_are_named_can_be_made():
    for where in bench_neural.FAMILIES.values():
        module, _, function = where.partition(":")
        made = getattr(__import__(module, fromlist=[function]), function)(True)
        assert len(made.requests(3, 0)) == 3
        assert made.turns
