"""From what models write to pixels: every published format, cut off anywhere, and anything at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from visenv.errors import InvalidData, UnknownName
from visenv.experts.models.point_formats import POINT_FORMATS, point_format

SIZE = (400, 200)


def points(name, text, size=SIZE, shown=None):
    return POINT_FORMATS[name].points(text, size, shown).tolist()


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        # Molmo: per cent
        ("molmo", ' <point x="61.5" y="40.6" alt="a cat">a cat</point>', [[246.0, 81.2]]),
        ("molmo", '<points x1="10" y1="20.5" x2="30.0" y2="40" alt="b">b</points>', [[40, 41], [120, 80]]),
        ("molmo", "<POINT X='50' Y='50'/>", [[200, 100]]),
        ("molmo", '<point x="10" y="20" alt="a">a</point> and <point x="30" y="40">', [[40, 40], [120, 80]]),
        ("molmo", '<points x1="10" y1="20" x2="30" y2="4', [[40, 40]]),
        # Molmo 2: per mille, each point numbered, after the number of the image
        ("molmo", '<points coords="1 1 073 160 2 1000 600" alt="boats">the boats</points>', [[29.2, 32], [399.5, 120]]),
        ("molmo", 'Counting the <points coords="1 1 500 500"/> shows 1.', [[200, 100]]),
        ("molmo", '<points coords="1 1 500 500 2 250 2', [[200, 100]]),
        ("molmo", '<points coords="1 1 500 500 2 250 250', [[200, 100]]),
        ("molmo", '<points coords="1 1 500 500 2 250 250 ', [[200, 100], [100, 50]]),
        ("molmo", '<points coords="1 500 500 2 250 250">', [[200, 100], [100, 50]]),
        ("molmo", '<points coords="1 1 500 500;2 1 250 250">', [[200, 100], [100, 50]]),
        ("molmo", "There are none.", []),
        # Qwen3-VL: JSON from 0 to 1000
        ("qwen3_vl", '```json\n[{"point_2d": [250, 500], "label": "cup"}]\n```', [[100, 100]]),
        ("qwen3_vl", '[{"point_2d": [250, 500]}, {"point_2d": [500, 25', [[100, 100]]),
        ("qwen3_vl", '{"points": [[250, 500], [500, 250]]}', [[100, 100], [200, 50]]),
        ("qwen3_vl", '[{"bbox_2d": [0, 0, 500, 1000], "label": "cup"}]', [[100, 100]]),
        ("qwen3_vl", '[{"bbox_2d": [0, 0, 9, 9], "point_2d": [250, 500]}]', [[100, 100]]),
        ("qwen3_vl", "[{'point_2d': [250.5, 500]}]", [[100.2, 100]]),
        ("qwen3_vl", '[{"point_2d": ["a", "b"]}, {"point_2d": []}, {"point_2d": [1, 2, 3]}]', []),
        ("qwen3_vl", "[]", []),
        # Qwen2-VL: brackets from 0 to 1000
        ("qwen2_vl", "the cup(250,500)", [[100, 100]]),
        ("qwen2_vl", "the cup (0, 0), (500,1000) and (500,250)", [[100, 100], [200, 50]]),
    ],
)
def test_every_published_format_is_read(name, text, expected):
    assert np.allclose(np.reshape(points(name, text), (-1, 2)), np.reshape(expected, (-1, 2)))
    assert len(points(name, text)) == len(expected)


def test_pixels_of_the_resized_image_become_pixels_of_the_image():
    text = '[{"point_2d": [322, 98], "label": "cup"}] <points x1="161" y1="49" alt="cup">cup</points>'
    assert np.allclose(points("qwen2_5_vl", text, shown=(644, 196)), [[200, 100], [100, 50]])
    assert points("qwen2_5_vl", text) == [[322, 98], [161, 49]]


def test_points_beyond_the_image_are_left_out_and_each_is_kept_once():
    text = '[{"point_2d": [1000, 1000]}, {"point_2d": [1001, 5]}, {"point_2d": [-1, 5]}, {"point_2d": [0, 0]}'
    assert points("qwen3_vl", text + ', {"point_2d": [0, 0]}]') == [[399.5, 199.5], [0, 0]]
    assert points("qwen3_vl", '{"point_2d": [1000, 1000]}', size=(1, 1)) == [[0.5, 0.5]]


def test_the_format_is_that_of_the_model_or_as_told():
    for kind, expected in (("molmo2", "molmo"), ("qwen3_vl_moe", "qwen3_vl"), ("qwen2_5_vl", "qwen2_5_vl")):
        assert point_format("auto", kind).name == expected
    assert point_format("molmo", "llava").name == "molmo"
    with pytest.raises(InvalidData, match="known to point.*'llava'.*point_format= one of molmo"):
        point_format("auto", "llava")
    with pytest.raises(UnknownName, match="Unknown point format 'xml'"):
        point_format("xml")


def test_every_prompt_takes_a_phrase():
    for known in POINT_FORMATS.values():
        assert "the red {cup}" in known.prompt.replace("{phrase}", "the red {cup}")
        assert "{phrase}" in known.prompt


pieces = st.sampled_from(
    [
        "<point",
        "<points ",
        'x="',
        'y="',
        'x1="',
        'y1="',
        'coords="',
        '"',
        ">",
        "</points>",
        "[",
        "]",
        "{",
        "}",
        "(",
        ")",
    ]
    + [
        '"point_2d"',
        '"bbox_2d"',
        ":",
        ",",
        ";",
        " ",
        "\t",
        "1",
        "500",
        "-3",
        "1e999",
        "9" * 400,
        "nan",
        "٣",
        "\n",
        "```json",
    ]
)


@pytest.mark.parametrize("name", POINT_FORMATS)
@given(
    text=st.one_of(st.text(), st.lists(pieces, max_size=60).map("".join)), size=st.tuples(*[st.integers(1, 9000)] * 2)
)
def test_anything_is_read_without_an_error_and_every_point_is_in_the_image(name, text, size):
    found = POINT_FORMATS[name].points(text, size, (28, 56))
    assert found.shape == (len(found), 2)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found < size)).all()
    assert len({tuple(point) for point in found.tolist()}) == len(found)


places = st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999)), min_size=1, max_size=8, unique=True)


@given(places, st.floats(0, 1))
def test_an_answer_cut_off_anywhere_has_the_points_before_the_cut(where, share):
    molmo = (
        '<points coords="1 ' + " ".join(f"{n} {x:03d} {y:03d}" for n, (x, y) in enumerate(where, 1)) + '">them</points>'
    )
    qwen = "[" + ", ".join(f'{{"point_2d": [{x}, {y}]}}' for x, y in where) + "]"
    for name, text in (("molmo", molmo), ("qwen3_vl", qwen)):
        whole = points(name, text, size=(1000, 1000))
        assert whole == [[float(x), float(y)] for x, y in where]
        part = points(name, text[: int(share * len(text))], size=(1000, 1000))
        assert part == whole[: len(part)]


@pytest.mark.parametrize("name", POINT_FORMATS)
@pytest.mark.parametrize("piece", ['"point_2d": [', '<points coords="1 1 ', '<point x="1" ', "[[", "(1, 2", 'x1="1"'])
def test_endless_repetition_is_read_quickly(name, piece):
    points(name, piece * 3000)
