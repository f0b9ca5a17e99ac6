"""ReasonSeg from a folder, and what all loaders of folders promise about files that are not as they should be."""

import json
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visenv.datasets import reasonseg
from visenv.datasets.base import Dataset
from visenv.datasets.files import points_array, read_json, resolve_inside
from visenv.datasets.reasonseg import ReasonSeg, draw_shapes
from visenv.errors import DatasetError


def square(label, x0, y0, x1, y1):
    """A shape that covers the pixels from (x0, y0) to (x1, y1), both included."""
    return {"label": label, "points": [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]}


def write_sample(folder, name, shapes, text=("the thing",), size=(20, 10), encoding="utf-8", **fields):
    """A picture and its annotation, in the published layout."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), 50, np.uint8)).save(folder / f"{name}.jpg")
    annotation = {"text": list(text), "is_sentence": True, "shapes": shapes, **fields}
    (folder / f"{name}.json").write_bytes(json.dumps(annotation, ensure_ascii=False).encode(encoding))


@pytest.fixture
def root(tmp_path):
    """A data set in the published layout, with one sample of each oddity."""
    write_sample(tmp_path / "val", "b_plain", [square("target", 2, 1, 5, 3)])
    write_sample(
        tmp_path / "val", "a_café", [square("target", 0, 0, 1, 1)], text=["the café’s sign"], encoding="cp1252"
    )
    write_sample(tmp_path / "val", "c_null", [])
    write_sample(tmp_path / "val", "d_ignore", [square("target", 0, 0, 9, 4), square("Ignore area", 2, 2, 3, 3)])
    write_sample(tmp_path / "train", "t", [square("target", 0, 0, 1, 1)], text=["zero", "one", "two"])
    write_sample(tmp_path / "test", "u", [square("target", 0, 0, 1, 1)], text=["first", "second"])
    return tmp_path


def target(sample):
    return sample.truth.target.union().to_dense().any(axis=0) if len(sample.truth.target) else None


# --- the published layout -----------------------------------------------------------------------------------------


def test_samples_are_indexed_by_name_and_read_late(root):
    data = ReasonSeg(root, split="val")
    assert isinstance(data, Dataset)
    assert data.size == 4
    assert data.sample_ids == ("val/a_café", "val/b_plain", "val/c_null", "val/d_ignore")
    assert len(data.vocabulary) >= 8
    sample = data.get(1)
    assert (sample.sample_id, sample.query, sample.task) == ("val/b_plain", "the thing", "segmentation")
    assert sample.metadata == {"dataset": "reasonseg", "is_sentence": True, "original_size": [20, 10]}
    expected = np.zeros((10, 20), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(target(sample), expected)
    assert sample.truth.ignore is None
    assert data.find("val/b_plain").sample_id == sample.sample_id
    with pytest.raises(IndexError, match="0 to 3"):
        data.get(4)
    with pytest.raises(IndexError):
        data.get(-1)
    for unknown in ("val/none", "val/b_plain#x", "train/t", "val/../val/b_plain", ""):
        with pytest.raises(DatasetError, match="no sample"):
            data.find(unknown)


def test_null_and_ignore_and_cp1252(root):
    data = ReasonSeg(root, split="val")
    null = data.find("val/c_null")
    assert null.truth.is_null
    assert null.truth.target.shape == (10, 20)
    ignoring = data.find("val/d_ignore").truth
    assert ignoring.target.areas.tolist() == [50 - 4]
    assert ignoring.ignore.areas.tolist() == [4]
    assert data.find("val/a_café").query == "the café’s sign"


def test_evaluation_uses_the_first_text_and_training_draws_among_them(root):
    test = ReasonSeg(root, split="test")
    assert {test.draw(np.random.default_rng(seed)).query for seed in range(8)} == {"first"}
    train = ReasonSeg(root, split="train")
    assert train.sample_ids == ("train/t#0",)
    assert train.get(0).query == "zero"
    rng = np.random.default_rng(0)
    drawn = [train.draw(rng) for _ in range(40)]
    assert {(sample.sample_id, sample.query) for sample in drawn} == {
        ("train/t#0", "zero"),
        ("train/t#1", "one"),
        ("train/t#2", "two"),
    }
    for sample in drawn[:5]:
        assert train.find(sample.sample_id).query == sample.query
    with pytest.raises(DatasetError, match="3 texts"):
        train.find("train/t#3")
    again = np.random.default_rng(0)
    assert [train.draw(again).sample_id for _ in range(40)] == [sample.sample_id for sample in drawn]


def test_a_name_with_a_hash_is_still_a_name(tmp_path):
    write_sample(tmp_path / "val", "a#1", [])
    assert ReasonSeg(tmp_path, split="val").find("val/a#1").sample_id == "val/a#1"


def test_exif_turns_the_picture_and_the_annotation_is_in_the_upright_frame(tmp_path):
    write_sample(tmp_path / "val", "turned", [square("target", 0, 15, 9, 19)])
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(tmp_path / "val" / "turned.jpg", exif=exif)
    sample = ReasonSeg(tmp_path, split="val").get(0)
    assert sample.image.shape == (20, 10, 3)
    assert target(sample)[15:, :].all()
    assert target(sample).sum() == 50


@pytest.mark.parametrize(
    ("size", "shown"), [((3840, 2160), (1920, 1080)), ((2160, 3840), (1080, 1920)), ((1080, 1920), (1080, 1920))]
)
def test_large_pictures_and_their_masks_are_shrunk_to_the_published_limit(tmp_path, size, shown):
    write_sample(tmp_path / "val", "large", [square("target", 0, 0, size[0] // 2 - 1, size[1] // 4 - 1)], size=size)
    sample = ReasonSeg(tmp_path, split="val").get(0)
    assert sample.image.shape == (shown[1], shown[0], 3)
    assert sample.truth.target.shape == (shown[1], shown[0])
    assert sample.truth.target.boxes.tolist() == [[0, 0, shown[0] // 2, shown[1] // 4]]
    assert sample.metadata["original_size"] == list(size)


def test_pictures_may_be_png(tmp_path):
    write_sample(tmp_path / "val", "p", [])
    (tmp_path / "val" / "p.jpg").rename(tmp_path / "val" / "p.png")
    assert ReasonSeg(tmp_path, split="val").get(0).image.shape == (10, 20, 3)


# --- drawing ------------------------------------------------------------------------------------------------------


def test_shapes_are_drawn_from_the_largest_to_the_smallest():
    small, large = square("target", 2, 2, 3, 3), square("ignore", 0, 0, 5, 5)
    for shapes in ([small, large], [large, small]):
        drawn = draw_shapes(shapes, (8, 8))
        assert (drawn[2:4, 2:4] == 1).all()
        assert np.count_nonzero(drawn == 1) == 4
        assert np.count_nonzero(drawn == 2) == 32


def test_the_first_of_two_equal_shapes_is_drawn_last():
    one, other = square("target", 0, 0, 3, 3), square("ignore", 2, 0, 5, 3)
    assert draw_shapes([one, other], (8, 8))[0].tolist() == [1, 1, 1, 1, 2, 2, 0, 0]
    assert draw_shapes([other, one], (8, 8))[0].tolist() == [1, 1, 2, 2, 2, 2, 0, 0]


def test_outline_and_fill_with_points_cut_to_whole_pixels():
    shape = {"label": "target", "points": [[1.9, 1.9], [4.9, 1.2], [4.1, 3.99], [1.5, 3.5]]}
    expected = np.zeros((6, 7), np.uint8)
    expected[1:4, 1:5] = 1
    np.testing.assert_array_equal(draw_shapes([shape], (7, 6)), expected)
    line = {"label": "target", "points": [[1, 1], [4, 1]]}
    assert draw_shapes([line], (6, 3)).sum() == 4


def test_flags_are_left_out_and_labels_are_read_without_case():
    shapes = [square("flag", 0, 0, 7, 7), square("FLAG", 0, 0, 7, 7), square("Please IGNORE this", 1, 1, 2, 2)]
    assert np.unique(draw_shapes(shapes, (8, 8)), return_counts=True)[1].tolist() == [60, 4]
    assert (draw_shapes([square("flagpole", 0, 0, 7, 7)], (8, 8)) == 1).all()


def test_what_sticks_out_is_cut_off():
    far = {"label": "target", "points": [[-50, -50], [3, -50], [3, 900_000], [-50, 900_000]]}
    drawn = draw_shapes([far, square("ignore", 100, 100, 120, 120)], (8, 8))
    assert (drawn[:, :4] == 1).all()
    assert (drawn[:, 4:] == 0).all()


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 14)), min_size=1, max_size=8))
def test_every_corner_of_a_shape_is_covered(points):
    drawn = draw_shapes([{"label": "target", "points": [list(point) for point in points]}], (20, 15))
    assert all(drawn[y, x] == 1 for x, y in points)


# --- what is broken -----------------------------------------------------------------------------------------------


BROKEN = {
    "not_json": b"{",
    "a_list": b"[]",
    "no_text": b'{"shapes": []}',
    "empty_text": b'{"text": ["  "], "shapes": []}',
    "broken_text": b'{"text": ["half a pair: \\ud800"], "shapes": []}',
    "no_shapes": b'{"text": ["x"]}',
    "shape_is_text": b'{"text": ["x"], "shapes": ["y"]}',
    "no_label": b'{"text": ["x"], "shapes": [{"points": [[0, 0]]}]}',
    "no_points": b'{"text": ["x"], "shapes": [{"label": "target"}]}',
    "empty_points": b'{"text": ["x"], "shapes": [{"label": "target", "points": []}]}',
    "one_coordinate": b'{"text": ["x"], "shapes": [{"label": "target", "points": [[0]]}]}',
    "ragged": b'{"text": ["x"], "shapes": [{"label": "target", "points": [[0, 0], [1]]}]}',
    "words": b'{"text": ["x"], "shapes": [{"label": "target", "points": [["a", "b"]]}]}',
    "nan": b'{"text": ["x"], "shapes": [{"label": "target", "points": [[NaN, 0]]}]}',
    "absurd": b'{"text": ["x"], "shapes": [{"label": "target", "points": [[1e300, 0]]}]}',
    "huge_integer": b'{"text": ["x"], "shapes": [{"label": "target", "points": [[1' + b"0" * 400 + b", 0]]}]}",
    "nested": b"[" * 100_000,
    "neither_encoding": b'{"text": ["\x81\xff"], "shapes": []}',
    "empty": b"",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_annotation_costs_its_own_sample_only(root, kind):
    (root / "val" / f"z_{kind}.json").write_bytes(BROKEN[kind])
    Image.fromarray(np.zeros((10, 20, 3), np.uint8)).save(root / "val" / f"z_{kind}.jpg")
    data = ReasonSeg(root, split="val")
    assert data.size == 5
    with pytest.raises(DatasetError, match=f"z_{kind}"):
        data.get(4)
    assert [data.get(index).sample_id for index in range(4)] == list(data.sample_ids[:4])


def test_a_broken_or_missing_picture_costs_its_own_sample_only(root):
    whole = (root / "val" / "b_plain.jpg").read_bytes()
    (root / "val" / "b_plain.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "val" / "c_null.jpg").unlink()
    data = ReasonSeg(root, split="val")
    with pytest.raises(DatasetError, match="picture of sample val/b_plain"):
        data.get(1)
    with pytest.raises(DatasetError, match="no picture 'c_null.jpg'"):
        data.get(2)
    assert data.get(0).sample_id == "val/a_café"
    assert data.get(3).sample_id == "val/d_ignore"


def test_drawing_logs_a_broken_sample_once_and_goes_on(root, caplog):
    (root / "val" / "b_plain.json").write_bytes(b"{")
    data = ReasonSeg(root, split="val")
    with caplog.at_level(logging.WARNING):
        drawn = {data.draw(np.random.default_rng(seed)).sample_id for seed in range(40)}
    assert drawn == {"val/a_café", "val/c_null", "val/d_ignore"}
    assert [record.getMessage().count("b_plain") > 0 for record in caplog.records] == [True]


def test_drawing_from_nothing_but_broken_samples_is_an_error(tmp_path):
    write_sample(tmp_path / "val", "a", [])
    (tmp_path / "val" / "a.jpg").unlink()
    with pytest.raises(DatasetError, match="Every sample"):
        ReasonSeg(tmp_path, split="val").draw(np.random.default_rng(0))


def test_links_out_of_the_folder_are_refused(root, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    write_sample(outside, "secret", [])
    for suffix in (".json", ".jpg"):
        (root / "val" / f"e_link{suffix}").symlink_to(outside / f"secret{suffix}")
    (root / "val" / "c_null.jpg").unlink()
    (root / "val" / "c_null.jpg").symlink_to(outside / "secret.jpg")
    data = ReasonSeg(root, split="val")
    for sample_id in ("val/e_link", "val/c_null"):
        with pytest.raises(DatasetError, match="leads out of"):
            data.find(sample_id)
    assert data.find("val/b_plain").query == "the thing"


def test_a_linked_data_set_is_fine(root, tmp_path_factory):
    link = tmp_path_factory.mktemp("links") / "data"
    link.symlink_to(root)
    assert ReasonSeg(link, split="val").get(1).sample_id == "val/b_plain"


def test_the_factory_says_what_is_missing(root, tmp_path):
    made = reasonseg.make(path=str(root), family="grefseg", split="val", difficulty=3)
    assert made.size == 4
    for arguments, message in (
        ({"path": None}, 'dataset="reasonseg:/path'),
        ({"path": str(tmp_path / "none")}, "no folder"),
        ({"split": "testA"}, "train, val, test"),
        ({"family": "refcount"}, "reasonseg, grefseg, refseg"),
    ):
        with pytest.raises(DatasetError, match=message):
            reasonseg.make(**({"path": str(root), "family": "reasonseg", "split": "val", "difficulty": 1} | arguments))
    (tmp_path / "bare" / "val").mkdir(parents=True)
    with pytest.raises(DatasetError, match="no samples"):
        ReasonSeg(tmp_path / "bare", split="val")
    with pytest.raises(DatasetError, match="no folder"):
        ReasonSeg(tmp_path / "bare", split="test")


# --- the tools of all loaders -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "a/../../b",
        "/etc/passwd",
        "C:\\a",
        "..\\a",
        "a\\..\\..\\b",
        "\\\\server\\a",
        "",
        " ",
        "a\0b",
        "a\nb",
        "..",
        None,
        3,
    ],
)
def test_names_that_climb_out_are_refused(tmp_path, name):
    with pytest.raises(DatasetError, match="relative path inside"):
        resolve_inside(tmp_path, name)


@given(st.text(max_size=30))
def test_a_resolved_name_is_always_inside(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp()
    try:
        path = resolve_inside(root, name)
    except DatasetError:
        return
    assert path.resolve().is_relative_to(root.resolve())


def test_json_may_start_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa9"}')
    assert read_json(path) == {"a": "é"}
    with pytest.raises(DatasetError, match="Cannot read"):
        read_json(tmp_path)
    path.write_bytes(b"[NaN, -Infinity]")
    with pytest.raises(DatasetError, match="no number in JSON"):
        read_json(path)


@given(st.recursive(st.none() | st.floats() | st.integers() | st.text(max_size=3), st.lists, max_leaves=12))
def test_points_are_finite_pairs_or_refused(value):
    try:
        points = points_array(value, "here")
    except DatasetError:
        points = None
    assert points is None or (points.shape[1:] == (2,) and np.isfinite(points).all())
