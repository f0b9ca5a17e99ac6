"""The split into patches: the published rule by hand, and what holds for any image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData
from visenv.tools.split import PatchWindow, count_windows, split_windows

SIDES = st.integers(1, 700)


def test_two_patches_by_hand():
    # Cells of 200 grow by int(0.2 * 200) = 40; the height is one cell already.
    assert split_windows(400, 200, 200) == [PatchWindow(1, 1, 0, 0, 240, 200), PatchWindow(1, 2, 160, 0, 400, 200)]


def test_a_small_remainder_goes_to_the_last_patch():
    # 29 of 100 is under 0.3: the last cell is 100 to 229 and grows by int(0.2 * 129) = 25. 30 of 100 is not.
    assert [window.box for window in split_windows(229, 50, 100)] == [(0, 0, 120, 50), (75, 0, 229, 50)]
    assert [window.box for window in split_windows(230, 50, 100)] == [
        (0, 0, 120, 50),
        (80, 0, 220, 50),
        (194, 0, 230, 50),
    ]


def test_overlap_is_rounded_down():
    assert [window.x1 for window in split_windows(14, 7, 7)] == [8, 14]
    assert [window.x1 for window in split_windows(8, 4, 4)] == [4, 8]


def test_a_patch_of_the_whole_image():
    for patch_size in (300, 301, 4096, 10**12):
        assert split_windows(300, 200, patch_size) == [PatchWindow(1, 1, 0, 0, 300, 200)]


def test_a_published_example():
    windows = split_windows(2956, 1536, 400)
    assert len(windows) == 32
    assert max(window.x1 - window.x0 for window in windows) > 400
    assert (windows[7].row, windows[7].column, windows[7].x1) == (1, 8, 2956)
    assert len(split_windows(1920, 1080, 450)) == 12


def test_names_run_in_rows():
    places = [(window.row, window.column) for window in split_windows(300, 200, 100)]
    assert places == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]


def walked_axis(side, patch_size, overlap, min_remainder):
    """The rule as a walk along the axis."""
    spans, start = [], 0
    while start < side:
        end = start + patch_size
        if end >= side or side - end < patch_size * min_remainder:
            end = side
        margin = int((end - start) * overlap)
        spans.append((max(0, start - margin), min(side, end + margin)))
        start = end
    return spans


@given(SIDES, SIDES, st.integers(1, 800), st.floats(0, 1), st.floats(0, 1))
def test_windows_are_those_of_a_walk(width, height, patch_size, overlap, min_remainder):
    patch_size = max(patch_size, width // 40, height // 40, 1)
    columns = walked_axis(width, patch_size, overlap, min_remainder)
    rows = walked_axis(height, patch_size, overlap, min_remainder)
    windows = split_windows(width, height, patch_size, overlap, min_remainder)
    assert [window.box for window in windows] == [(x0, y0, x1, y1) for y0, y1 in rows for x0, x1 in columns]
    assert count_windows(width, height, patch_size, min_remainder) == len(windows)


@given(SIDES, SIDES, st.integers(20, 800))
def test_windows_cover_the_image(width, height, patch_size):
    covered = np.zeros((height, width), bool)
    for window in split_windows(width, height, patch_size):
        assert 0 <= window.x0 < window.x1 <= width
        assert 0 <= window.y0 < window.y1 <= height
        covered[window.y0 : window.y1, window.x0 : window.x1] = True
    assert covered.all()


def test_counting_makes_no_windows():
    assert count_windows(10**9, 10**9, 1) == 10**18


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "100", None, True, float("nan")])
def test_sizes_that_are_none(wrong):
    for arguments in ((wrong, 10, 10), (10, wrong, 10), (10, 10, wrong)):
        with pytest.raises(InvalidData, match="whole number"):
            split_windows(*arguments)
        with pytest.raises(InvalidData, match="whole number"):
            count_windows(*arguments)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan"), "0.2", None])
def test_shares_that_are_none(wrong):
    with pytest.raises(InvalidData, match="overlap"):
        split_windows(100, 100, 10, overlap=wrong)
    with pytest.raises(InvalidData, match="min_remainder"):
        split_windows(100, 100, 30, min_remainder=wrong)
    with pytest.raises(InvalidData, match="min_remainder"):
        count_windows(100, 100, 10, wrong)


def test_numpy_integers_are_integers():
    assert split_windows(np.int64(40), np.int32(20), np.uint8(20)) == split_windows(40, 20, 20)
