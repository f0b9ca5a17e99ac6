"""The benchmarks of merge and masks run, compare the same results, and report what `visenv bench` prints."""

import pytest

from benchmarks import bench_masks, bench_merge
from visenv.masks import Masks
from visenv.types import Detections


@pytest.mark.parametrize("module", [bench_merge, bench_masks])
def test_a_quick_run_reports_every_figure(module):
    rows = module.run(repeats=1, quick=True)
    assert len({row["benchmark"] for row in rows}) == len(rows) >= 2
    for row in rows:
        assert set(row) == {"benchmark", "ours_s", "alternative", "alternative_s", "ratio", "detail"}
        assert row["ratio"] == row["alternative_s"] / row["ours_s"] > 0


def test_the_scene_is_the_published_one():
    sources = bench_merge.crowded_scene()
    assert len(sources) == 12
    assert sum(len(source.detections) for source in sources) == 551


def test_a_wrong_result_is_no_figure():
    one = Detections([[0, 0, 1, 1]], Masks.from_boxes([[0, 0, 1, 1]], (2, 2)))
    other = Detections([[0, 0, 1, 1]], Masks.from_boxes([[0, 0, 2, 1]], (2, 2)))
    with pytest.raises(RuntimeError, match="differ"):
        bench_merge.check_same(one, other)
