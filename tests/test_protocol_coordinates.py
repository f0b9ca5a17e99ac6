"""Coordinate frames: hand-computed conversions, and that nothing is lost on the way there and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData, UnknownName
from visenv.protocol.coordinates import ABSOLUTE, FAMILIES, FRAMES, NINES, THOUSAND, UNIT, frame_of

sizes = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
frames = st.sampled_from(list(FRAMES.values()))
shares = st.floats(0, 1)


@pytest.mark.parametrize(
    ("frame", "written"),
    [
        (ABSOLUTE, [160, 120, 640, 480]),
        (NINES, [250, 250, 999, 999]),  # 160 / 640 * 999 = 249.75
        (THOUSAND, [250, 250, 1000, 1000]),
        (UNIT, [0.25, 0.25, 1.0, 1.0]),
    ],
)
def test_a_box_in_every_frame(frame, written):
    assert frame.from_pixels([160, 120, 640, 480], (640, 480)).tolist() == written
    assert frame.write([[160, 120, 640, 480]], (640, 480)) == [written]


def test_pixels_are_those_of_the_image_as_it_was_shown():
    assert ABSOLUTE.from_pixels([[100, 50]], (200, 100), shown=(400, 400)).tolist() == [[200, 200]]
    assert ABSOLUTE.to_pixels([[200, 200]], (200, 100), shown=(400, 400)).tolist() == [[100, 50]]


def test_relative_frames_do_not_depend_on_the_size_shown():
    assert UNIT.to_pixels([0.5, 0.5], (200, 100), shown=(7, 9)).tolist() == [100, 50]


def test_whole_numbers_are_written_as_integers():
    written = THOUSAND.write([[0.3, 0.3]], (640, 480))
    assert written == [[0, 1]]
    assert all(isinstance(number, int) for number in written[0])
    assert THOUSAND.write([], (640, 480)) == []


@given(frames, sizes, sizes, st.lists(st.tuples(shares, shares, shares, shares), min_size=1, max_size=5))
def test_pixels_survive_up_to_half_a_step(frame, size, shown, boxes):
    pixels = np.array(boxes) * [*size, *size]
    back = frame.to_pixels(frame.from_pixels(pixels, size, shown), size, shown)
    units = shown if frame.extent is None else (frame.extent, frame.extent)
    step = np.array([size[0] / units[0], size[1] / units[1]] * 2) if frame.whole else np.zeros(4)
    assert back.shape == pixels.shape
    assert np.all(np.abs(back - pixels) <= step / 2 + 1e-6)


@given(frames.filter(lambda frame: frame.whole), sizes, st.tuples(shares, shares))
def test_what_a_model_wrote_survives(frame, size, point):
    units = size if frame.extent is None else (frame.extent, frame.extent)
    written = np.rint(np.array(point) * units)
    assert frame.from_pixels(frame.to_pixels(written, size), size).tolist() == written.tolist()


@pytest.mark.parametrize(
    "values", [[1, 2, 3], 5, [np.nan, 1], [np.inf, 1], ["a", "b"], [[1, 2], [3]], None, [10**400, 1]]
)
def test_what_is_no_point_or_box_is_refused(values):
    with pytest.raises(InvalidData):
        THOUSAND.to_pixels(values, (10, 10))


@pytest.mark.parametrize("size", [(0, 10), (-1, 10), (10,), (1, 2, 3), (np.nan, 1), (np.inf, 1), ("a", 1), 5])
def test_a_size_must_be_positive(size):
    with pytest.raises(InvalidData):
        THOUSAND.to_pixels([1, 1], size)


def test_families_and_frames_are_found_by_name():
    assert all(frame_of(name) is frame for name, frame in {**FAMILIES, **FRAMES}.items())
    assert frame_of("qwen2_5_vl") is ABSOLUTE
    with pytest.raises(UnknownName, match="qwen3_vl"):
        frame_of("qwen9")
