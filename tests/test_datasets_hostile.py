"""Files that are hostile, huge or cut off: refused with a sentence, and nothing in them is run."""

import contextlib
import json
import os
import pickle
import struct
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visenv.datasets import files, streams
from visenv.datasets.files import Picture, read_json, resolve_inside
from visenv.datasets.instances import Instances
from visenv.datasets.pickles import read_pickle
from visenv.datasets.streams import json_elements, json_lines, read_element
from visenv.errors import DatasetError

# --- pickles --------------------------------------------------------------------------------------------------------


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_something_is_refused_and_runs_nothing(protocol, tmp_path):
    target = tmp_path / "made"
    file = tmp_path / "refs.p"
    file.write_bytes(pickle.dumps([{"a": Runs(target)}], protocol=protocol))
    with pytest.raises(DatasetError, match="asks for .*mkdir.*Nothing in it was run"):
        read_pickle(file)
    assert not target.exists()
    pickle.loads(file.read_bytes())
    assert target.exists(), "the pickle does run where it is loaded as it should not be"


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"c__builtin__\neval\n(S'1+1'\ntR.",
        b"\x80\x02cbuiltins\ngetattr\nq\x00.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        b"(S'true'\nios\nsystem\n.",
        b"Pid\n.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_no_name_is_looked_up(data, tmp_path):
    (tmp_path / "refs.p").write_bytes(data)
    with pytest.raises(DatasetError, match="refused"):
        read_pickle(tmp_path / "refs.p")


@pytest.mark.parametrize("data", [b"\x80\x02]r\xff\xff\xff\x7f.", b"]p2147483647\n.", b"]p" + b"9" * 5000 + b"\n."])
def test_a_pickle_that_would_fill_the_memory_is_refused(data, tmp_path):
    (tmp_path / "refs.p").write_bytes(data)
    with pytest.raises(DatasetError, match="refused"):
        read_pickle(tmp_path / "refs.p")


def test_numbers_of_numpy_are_no_plain_data(tmp_path):
    (tmp_path / "refs.p").write_bytes(pickle.dumps([np.int64(3)]))
    with pytest.raises(DatasetError, match="numpy"):
        read_pickle(tmp_path / "refs.p")


@given(st.binary(max_size=60))
def test_any_bytes_are_plain_data_or_refused(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "any.p"
    file.write_bytes(data)
    try:
        read_pickle(file)
    except DatasetError:
        return


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


def plain(scalars):
    return st.recursive(
        scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner)
    )


# Before protocol 3, bytes are written as a call.
@given(
    st.tuples(plain(SCALARS), st.sampled_from([0, 1, 2]))
    | st.tuples(plain(SCALARS | st.binary()), st.sampled_from([3, 4, 5]))
)
def test_plain_data_comes_back(tmp_path_factory, value_and_protocol):
    value, protocol = value_and_protocol
    file = tmp_path_factory.getbasetemp() / "plain.p"
    file.write_bytes(pickle.dumps(value, protocol=protocol))
    assert read_pickle(file) == value


def test_a_pickle_that_is_cut_off_or_too_large_is_refused(tmp_path, monkeypatch):
    whole = pickle.dumps([{"ref_id": number} for number in range(50)])
    file = tmp_path / "refs.p"
    for end in range(0, len(whole), 7):
        file.write_bytes(whole[:end])
        with pytest.raises(DatasetError, match="refused"):
            read_pickle(file)
    file.write_bytes(whole)
    monkeypatch.setattr("visenv.datasets.pickles.MAX_PICKLE_BYTES", 20)
    with pytest.raises(DatasetError, match="at most 20 bytes"):
        read_pickle(file)


# --- sizes ----------------------------------------------------------------------------------------------------------


def test_a_line_of_two_gigabytes_is_refused_before_it_is_read(tmp_path):
    """Sparse files: they take no room, and reading one whole would take gigabytes of memory."""
    file = tmp_path / "huge.json"
    with open(file, "wb") as out:
        out.write(b'{"text": "')
        out.truncate(2**31)
    with pytest.raises(DatasetError, match=f"at most {files.MAX_FILE_BYTES} bytes"):
        read_json(file)
    with pytest.raises(DatasetError, match="broken"):
        list(json_elements(file))
    with pytest.raises(DatasetError, match=f"at most {files.MAX_ANNOTATION_BYTES} bytes a line"):
        list(json_lines(file))


def test_one_endless_value_in_a_large_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "_CHUNK", 1000)
    file = tmp_path / "long.json"
    file.write_text('{"annotations": ["' + "a" * 50_000 + '"]}')
    with pytest.raises(DatasetError, match="one value has more than 10000 bytes"):
        list(json_elements(file, limit=10_000))
    assert len(next(json_elements(file)).value) == 50_000
    file.write_text('{"annotations": [' + ",".join(["1"] * 50_000) + "]}")
    assert sum(element.value for element in json_elements(file, limit=10_000)) == 50_000


def test_a_file_that_grows_while_it_is_read_has_a_limit_too(tmp_path):
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)

    def write():
        with contextlib.suppress(BrokenPipeError), open(fifo, "wb") as out:
            out.write(b"[" + b"1," * 500_000)

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(DatasetError, match="at most 100 bytes"):
        read_json(fifo, 100)
    writer.join()


# --- pictures -------------------------------------------------------------------------------------------------------


def png_bomb(side):
    """A PNG of a few bytes whose header claims side x side pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [20_000, 60_000, 2**31 - 1])
def test_a_picture_that_is_a_bomb_is_refused(side, tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_bomb(side))
    with pytest.raises(DatasetError, match="picture of sample x cannot be used"):
        Picture(tmp_path / "bomb.png", "sample x")


def test_a_picture_that_is_cut_off_is_refused(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    for end in (0, 10, len(whole) // 2):
        (tmp_path / "a.jpg").write_bytes(whole[:end])
        with pytest.raises(DatasetError, match="cannot be used"):
            Picture(tmp_path / "a.jpg", "sample x")


def test_links_that_lead_out_or_round_in_circles_are_refused(tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    (tmp_path / "secret").write_text("{}")
    (inside / "out").symlink_to(tmp_path / "secret")
    (inside / "folder").symlink_to(tmp_path)
    (inside / "circle").symlink_to(inside / "circle")
    for name in ("out", "folder/secret"):
        with pytest.raises(DatasetError, match="leads out of"):
            resolve_inside(inside, name)
    with pytest.raises(DatasetError, match="Cannot follow|Cannot read"):
        read_json(resolve_inside(inside, "circle"))


# --- JSON in parts --------------------------------------------------------------------------------------------------


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


def second_level(value):
    if isinstance(value, list):
        return [("", each) for each in value]
    pairs = [(key, each if isinstance(each, list) else [each]) for key, each in value.items()]
    return [(key, each) for key, group in pairs for each in group]


@given(
    st.lists(JSON, max_size=5) | st.dictionaries(st.text(max_size=4), JSON, max_size=5),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.sampled_from([1, 3, 10, 1000]),
)
def test_elements_are_those_of_the_whole_file(tmp_path_factory, value, escaped, indent, chunk):
    file = tmp_path_factory.getbasetemp() / "any.json"
    file.write_text(json.dumps(value, ensure_ascii=escaped, indent=indent), encoding="utf-8", errors="surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_CHUNK", chunk)
        try:
            elements = list(json_elements(file))
        except DatasetError:
            with pytest.raises(DatasetError):
                read_json(file)
            return
    assert [(each.key, each.value) for each in elements] == second_level(value)
    for element in elements:
        assert read_element(file, element.start, element.length) == element.value


@given(st.text(alphabet='[]{}:,"\\ 01.eE-nulltrue\n\x00é', max_size=30), st.sampled_from([1, 4, 1000]))
def test_what_is_no_json_is_refused(tmp_path_factory, text, chunk):
    file = tmp_path_factory.getbasetemp() / "broken.json"
    file.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "_CHUNK", chunk)
        try:
            elements = list(json_elements(file))
        except DatasetError:
            return
    whole = json.loads(text)
    if not isinstance(whole, dict) or text.count(":") == len(whole):
        assert [(each.key, each.value) for each in elements] == second_level(whole)


@pytest.mark.parametrize("text", ["[NaN]", '{"a": Infinity}', "[" * 100_000, '{"a": ' + "[" * 100_000, '{"a":1,}', "3"])
def test_what_python_would_let_pass_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DatasetError, match="broken"):
        list(json_elements(tmp_path / "a.json"))


def test_lines_have_numbers_and_places(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": "\xc3\xa9"}\n\n  \n{"a": "\xe9"}\r\n[1]')
    lines = list(json_lines(file))
    assert [(line.key, line.value) for line in lines] == [("1", {"a": "é"}), ("4", {"a": "é"}), ("5", [1])]
    assert [read_element(file, line.start, line.length) for line in lines] == [line.value for line in lines]
    file.write_bytes(b"{}\n{\n")
    with pytest.raises(DatasetError, match="line 2"):
        list(json_lines(file))
    with pytest.raises(DatasetError, match="Cannot read"):
        list(json_lines(tmp_path))


def test_a_file_that_was_changed_under_an_index_is_noticed(tmp_path):
    file = tmp_path / "instances.json"
    image = {"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}
    document = {"images": [image], "annotations": [{"id": 4, "image_id": 1, "bbox": [0, 0, 3, 3]}]}
    file.write_text(json.dumps(document))
    instances = Instances(file)
    assert instances.annotation(0)["bbox"] == [0, 0, 3, 3]
    file.write_text(json.dumps(document, indent=2))
    with pytest.raises(DatasetError, match="was the file changed"):
        instances.annotation(0)


BROKEN_INSTANCES = {
    "no annotations": ({"images": [{"id": 1, "file_name": "a", "width": 1, "height": 1}]}, "lists 'images' and"),
    "no id": ({"images": [], "annotations": [{"image_id": 1}]}, "'id'"),
    "id a text": ({"images": [], "annotations": [{"id": "1", "image_id": 1}]}, "'id'"),
    "id huge": ({"images": [], "annotations": [{"id": 2**70, "image_id": 1}]}, "'id'"),
    "no dict": ({"images": [], "annotations": [3]}, "'id'"),
    "an id twice": ({"images": [{}], "annotations": [{"id": 1, "image_id": 1}] * 2}, "file_name"),
    "no size": ({"images": [{"id": 1, "file_name": "a"}], "annotations": []}, "'width'"),
    "an absurd size": ({"images": [{"id": 1, "file_name": "a", "width": 0, "height": 10**9}]}, "'width' and 'height'"),
    "a huge frame": (
        {"images": [{"id": 1, "file_name": "a", "width": 10**5, "height": 10**5}]},
        "'width' and 'height'",
    ),
    "no name": ({"categories": [{"id": 1}]}, "'name'"),
}


@pytest.mark.parametrize("case", BROKEN_INSTANCES)
def test_broken_instances_are_said(case, tmp_path):
    document, message = BROKEN_INSTANCES[case]
    (tmp_path / "instances.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=message):
        Instances(tmp_path / "instances.json")


def test_an_annotation_twice_is_said(tmp_path):
    image = {"id": 1, "file_name": "a", "width": 1, "height": 1}
    document = {"images": [image], "annotations": [{"id": 4, "image_id": 1}, {"id": 4, "image_id": 1}]}
    (tmp_path / "instances.json").write_text(json.dumps(document))
    with pytest.raises(DatasetError, match="Two annotations .* id 4"):
        Instances(tmp_path / "instances.json")
