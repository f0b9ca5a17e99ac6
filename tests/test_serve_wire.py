"""Messages on the network: what goes in comes out, and whatever else comes raises one error."""

import dataclasses
import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from visenv.capabilities import (
    CAPABILITIES,
    RESULTS,
    Candidates,
    Depth,
    Describe,
    Description,
    Embed,
    Embedding,
    EstimateDepth,
    ExpertFailure,
    FindVisualPrompts,
    GroundPhrase,
    Passages,
    PointPhrase,
    Points,
    Prompt,
    Ran,
    ReadText,
    RunCode,
    Search,
    SegmentPrompts,
    TextLines,
    Upscale,
    Upscaled,
    View,
)
from visenv.errors import ExpertError
from visenv.images import Provenance, RootPixels
from visenv.masks import Masks
from visenv.serve.codec import (
    digest_of,
    images_named,
    pack_requests,
    pack_results,
    unpack_requests,
    unpack_results,
    views_of,
)
from visenv.serve.wire import MAGIC, PROTOCOL, Limits, WireError, Writer, pack, unpack
from visenv.types import Detections

# --- whatever there is to send ------------------------------------------------------------------------------------

SIDES = st.integers(1, 9)
NUMBERS = st.floats(-1e6, 1e6)
SCORES = st.floats(0, 1)
TEXTS = st.text(max_size=12)


def array(shape, elements, dtype=np.float64):
    return arrays.arrays(dtype, shape, elements=elements)


@st.composite
def views(draw):
    height, width = draw(SIDES), draw(SIDES)
    pixels = draw(array((height, width, 3), st.integers(0, 255), np.uint8))
    provenance = Provenance(RootPixels(pixels))
    for step in draw(st.lists(TEXTS, max_size=2)):
        provenance = provenance.then(step)
    return View(pixels, provenance, draw(TEXTS), draw(TEXTS), draw(array((3, 3), NUMBERS)))


@st.composite
def masks_over(draw, shape, count):
    return Masks.from_dense(draw(array((count, *shape), st.booleans(), np.bool_)))


@st.composite
def prompts_on(draw, shape):
    points = draw(array((draw(st.integers(0, 3)), 2), NUMBERS))
    labels = draw(st.none() | array(len(points), st.integers(0, 1), np.int64))
    box = draw(st.none() | array((4,), NUMBERS))
    return Prompt(points, labels, box, draw(st.none() | masks_over(shape, 1)))


@st.composite
def requests(draw):
    kind = draw(st.sampled_from(sorted(CAPABILITIES)))
    view = draw(views())
    if kind in ("GroundPhrase", "PointPhrase"):
        return CAPABILITIES[kind](view, draw(TEXTS))
    if kind == "SegmentPrompts":
        return SegmentPrompts(view, tuple(draw(st.lists(prompts_on(view.pixels.shape[:2]), max_size=3))))
    if kind == "Upscale":
        return Upscale(view, draw(st.integers(1, 4)))
    if kind == "Embed":
        return Embed(view, tuple(draw(st.lists(TEXTS, max_size=3))))
    if kind == "Describe":
        others = tuple(draw(st.lists(views(), max_size=2)))
        return Describe(view, "compare" if others else draw(st.sampled_from(["caption", "visual_prompt"])), "x", others)
    if kind == "Search":
        return Search(draw(TEXTS), draw(st.integers(1, 9)), view)
    if kind == "RunCode":
        return RunCode(view, draw(TEXTS), draw(st.sampled_from(["input.png", "a.jpg"])))
    return CAPABILITIES[kind](view)


@st.composite
def results(draw):
    kind = draw(st.sampled_from([*RESULTS.values(), ExpertFailure, ExpertError]))
    count, shape = draw(st.integers(0, 3)), (draw(SIDES), draw(SIDES))
    if kind is Detections:
        found = draw(st.none() | masks_over(shape, count))
        labels = draw(st.none() | st.tuples(*[TEXTS] * count))
        return Detections(draw(array((count, 4), NUMBERS)), found, draw(array(count, SCORES)), labels)
    if kind is Points:
        return Points(draw(array((count, 2), NUMBERS)), draw(array(count, SCORES)))
    if kind is Candidates:
        return Candidates(
            tuple(draw(masks_over(shape, 2)) for _ in range(count)),
            tuple(draw(array(2, SCORES)) for _ in range(count)),
        )
    if kind is Upscaled:
        return Upscaled(draw(array((*shape, 3), st.integers(0, 255), np.uint8)), draw(TEXTS))
    if kind is Depth:
        return Depth(draw(array(shape, st.floats(0, 1, width=32), np.float32)))
    if kind is Embedding:
        numbers = st.floats(-1, 1, width=32)
        return Embedding(draw(array(4, numbers, np.float32)), draw(array((count, 4), numbers, np.float32)))
    if kind is Description:
        return Description(draw(TEXTS))
    if kind is TextLines:
        corners, scores = draw(array((count, 4, 2), NUMBERS)), draw(array(count, SCORES))
        return TextLines(tuple(draw(TEXTS) for _ in range(count)), corners, scores)
    if kind is Passages:
        titles, texts = (tuple(draw(TEXTS) for _ in range(count)) for _ in range(2))
        return Passages(titles, texts, draw(array(count, NUMBERS)))
    if kind is Ran:
        made = draw(st.none() | array((*shape, 3), st.integers(0, 255), np.uint8))
        return Ran(made, draw(TEXTS), draw(TEXTS))
    return kind(draw(TEXTS), draw(TEXTS))


def same(one, other):
    """Whether two values agree in type and in every number, down to the last bit."""
    if isinstance(one, Provenance):
        return isinstance(other, Provenance) and one.key == other.key
    if isinstance(one, ExpertError):
        return type(other) is ExpertError and (one.expert, one.message) == (other.expert, other.message)
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one) if field.name != "sample_id"]
        return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def sent(asked, with_pixels=True, **facts):
    """A message of requests, and the pixels that it names."""
    every = [view for request in asked for view in views_of(request)]
    digests = {view.provenance.key: digest_of(view.pixels) for view in every}
    pixels = {digest_of(view.pixels): view.pixels for view in every}
    return pack_requests(asked, digests, pixels if with_pixels else {}, **facts), pixels


# --- there and back -----------------------------------------------------------------------------------------------


@given(st.lists(requests(), max_size=4))
def test_requests_come_back_as_they_were(asked):
    # Equal provenance says equal pixels: here, names are drawn, so that two images may claim to be one.
    asked = list({request.view.provenance.key: request for request in asked}.values())
    message, _ = sent(asked, fingerprint="f")
    reader = unpack(message)
    back = unpack_requests(reader, images_named(reader))
    assert reader.header["fingerprint"] == "f"
    assert len(back) == len(asked)
    assert all(map(same, asked, back))


@given(st.lists(results(), max_size=4))
def test_results_come_back_as_they_were(answered):
    back = unpack_results(unpack(pack_results(answered)))
    assert len(back) == len(answered)
    assert all(map(same, answered, back))


def test_every_capability_and_every_result_has_a_way():
    view = a_view()
    asked = [GroundPhrase(view, ""), PointPhrase(view, ""), SegmentPrompts(view, ()), Upscale(view)]
    asked += [
        EstimateDepth(view),
        Embed(view),
        Describe(view),
        ReadText(view),
        FindVisualPrompts(view),
        Search(""),
        RunCode(view, ""),
    ]
    assert {request.capability for request in asked} == set(CAPABILITIES)
    reader = unpack(sent(asked)[0])
    assert [type(request) for request in unpack_requests(reader, images_named(reader))] == list(RESULTS)


def a_view(height=6, width=8, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return View(pixels, Provenance(RootPixels(pixels)))


def test_an_image_travels_once_as_raw_bytes():
    view = a_view(200, 300)
    window = View(view.pixels[:100, :150], view.provenance.then("0,0,150,100"), "img_0_r1_c1")
    once, _ = sent([GroundPhrase(view, "a")])
    thrice, pixels = sent([GroundPhrase(view, "a"), PointPhrase(view, "b"), Upscale(view, 2)])
    assert 180_000 < len(once) < 180_800
    assert len(thrice) < len(once) + 300
    assert len(sent([Upscale(view), Upscale(window)])[0]) < len(once) + 45_800
    assert len(sent([GroundPhrase(view, "a")], with_pixels=False)[0]) < 800
    reader = unpack(sent([GroundPhrase(view, "a")], with_pixels=False)[0])
    assert images_named(reader) == dict.fromkeys(pixels)


def test_masks_travel_as_runs():
    masks = Masks.from_boxes([[10, 10, 900, 700]], (1080, 1920))
    assert len(pack_results([Detections(masks.boxes, masks)])) < 8000


def test_an_out_of_memory_error_stays_one():
    error = ExpertError("sam2", "no more")
    error.__cause__ = MemoryError()
    (back,) = unpack_results(unpack(pack_results([error])))
    assert isinstance(back.__cause__, MemoryError)


def test_odd_types_become_ones_that_are_known():
    half = Depth(np.zeros((2, 2), np.float16))
    (back,) = unpack_results(unpack(pack_results([half])))
    assert back.nearness.dtype == np.float32
    prompt = Prompt([[1, 2]], np.array([1], np.int8), np.array([0, 0, 4, 4], np.uint16))
    reader = unpack(sent([SegmentPrompts(a_view(), (prompt,))])[0])
    (request,) = unpack_requests(reader, images_named(reader))
    assert request.prompts[0].key == prompt.key
    big_endian = Points(np.array([[1.0, 2.0]]).astype(">f8"), np.ones(1))
    assert same(unpack_results(unpack(pack_results([big_endian])))[0], Points([[1.0, 2.0]], [1.0]))


def test_what_comes_cannot_be_written_to():
    reader = unpack(bytearray(sent([GroundPhrase(a_view(), "a")])[0]))
    (request,) = unpack_requests(reader, images_named(reader))
    with pytest.raises(ValueError, match="read-only"):
        request.view.pixels[0] = 0


# --- provenance ---------------------------------------------------------------------------------------------------


def sealed(request):
    reader = unpack(sent([request])[0])
    return unpack_requests(reader, images_named(reader), seal=True)[0].view.provenance.key


def test_a_seal_is_the_same_for_the_same_view():
    view = a_view()
    assert sealed(GroundPhrase(view, "a")) == sealed(PointPhrase(view, "b"))


def test_a_seal_tells_pixels_apart_that_claim_to_be_the_same():
    view, other = a_view(), a_view(seed=1)
    claimed = View(other.pixels, view.provenance)
    assert claimed.provenance.key == view.provenance.key
    assert sealed(GroundPhrase(claimed, "a")) != sealed(GroundPhrase(view, "a"))


def test_a_seal_tells_apart_where_the_same_pixels_lie():
    view = a_view()
    enlarged = View(view.pixels, view.provenance, to_root=np.diag([0.25, 0.25, 1.0]))
    assert sealed(GroundPhrase(enlarged, "a")) != sealed(GroundPhrase(view, "a"))


def test_pixels_that_are_not_those_of_their_digest_are_refused():
    view = a_view()
    lie = pack_requests([GroundPhrase(view, "a")], {view.provenance.key: "0" * 32}, {"0" * 32: view.pixels})
    with pytest.raises(WireError, match="Expected the pixels of the image"):
        images_named(unpack(lie))


# --- hostile input ------------------------------------------------------------------------------------------------


def read_all(data):
    """Whatever a server and a client do with what comes."""
    reader = unpack(data)
    if "requests" in reader.header:
        unpack_requests(reader, images_named(reader), seal=True)
    else:
        unpack_results(reader)


def outcome(data):
    """The length of what is said about a broken message; 0 if it can be read. Any other error is raised."""
    try:
        read_all(data)
    except WireError as error:
        return len(str(error))
    return 0


@st.composite
def messages(draw):
    if draw(st.booleans()):
        asked = draw(st.lists(requests(), min_size=1, max_size=2))
        return sent(list({request.view.provenance.key: request for request in asked}.values()))[0]
    return pack_results(draw(st.lists(results(), min_size=1, max_size=2)))


@given(messages(), st.data())
def test_bytes_that_were_changed_raise_one_error_or_are_read(message, data):
    changed = bytearray(message)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(bytes(changed)) < 2000


@given(messages(), st.data())
def test_messages_that_were_cut_or_made_longer_raise(message, data):
    cut = data.draw(st.integers(0, len(message) - 1))
    for broken in (message[:cut], message + b"\0" * data.draw(st.integers(1, 40))):
        with pytest.raises(WireError):
            read_all(broken)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_message_raise(data):
    with pytest.raises(WireError):
        read_all(data)
    with pytest.raises(WireError):
        read_all(MAGIC + struct.pack("<H", PROTOCOL) + data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(messages(), st.data())
def test_values_of_other_types_in_a_header_raise_one_error_or_are_read(message, data):
    reader = unpack(message)
    header = json.loads(json.dumps(reader.header))
    at, steps = header, data.draw(st.integers(1, 5))
    for _ in range(steps):
        keys = sorted(at) if isinstance(at, dict) else range(len(at))
        if not keys:
            break
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(at[key], (dict, list)) or not at[key] or _ == steps - 1:
            at[key] = data.draw(JSON.filter(lambda value: value == value and value not in (np.inf, -np.inf)))
            break
        at = at[key]
    try:
        text = json.dumps(header, allow_nan=False)
    except ValueError:
        return
    buffers = [bytes(reader.buffer(number)) for number in range(len(reader.places))]
    assert outcome(pack(json.loads(text), buffers)) < 2000


def frame(header, sizes=(), body=b"", version=PROTOCOL):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    fixed = struct.pack("<4sHHII", MAGIC, version, 0, len(text), len(sizes))
    return fixed + struct.pack(f"<{len(sizes)}Q", *sizes) + text + body


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (frame({}, version=2), "protocol 1"),
        (frame(b"[1]"), "a list"),
        (frame(b"[" * 100_000), "JSON"),
        (frame(b'{"a": NaN}'), "JSON"),
        (frame(b'{"a": ' + b"9" * 10_000 + b"}"), "JSON"),
        (frame(b"\xff\xfe"), "JSON"),
        (frame({}, (2**63,)), "cut, or is damaged"),
        (frame({}, (2**63, 2**63)), "cut, or is damaged"),
        (struct.pack("<4sHHII", MAGIC, PROTOCOL, 0, 2**32 - 1, 2**32 - 1), "header"),
        (frame({"results": [{"kind": "Depth", "nearness": [0, "<f4", 2**31 - 1, 2**31 - 1]}]}), "buffers"),
        (frame({"results": [{"kind": "Depth", "nearness": [True, "<f4"]}]}), "buffers"),
        (frame({"results": [{"kind": "Depth", "nearness": [0, "|O", 1]}]}), "array as"),
        (frame({"results": [{"kind": "__class__"}]}), "kind of result"),
        (frame({"results": {}}), "results"),
        (frame({"requests": [], "views": [], "images": []}), "names and values"),
        (frame({"requests": [{"kind": "Upscale", "view": 0, "factor": 2}], "views": [], "images": {}}), "0 images"),
    ],
)
def test_broken_messages_say_what_is_wrong(message, words):
    with pytest.raises(WireError, match=words):
        read_all(message)


def test_limits_hold():
    view = a_view(20, 20)
    message, pixels = sent([Upscale(view, 3)] * 3)
    for limits, words in (
        (Limits(body_bytes=len(message) - 1), "at most"),
        (Limits(header_bytes=100), "header"),
        (Limits(requests=2), "at most 2 requests"),
        (Limits(image_pixels=399), "at most 399 pixels"),
        (Limits(image_pixels=3599), "factor"),
    ):
        with pytest.raises(WireError, match=words):
            unpack_requests(unpack(message, limits), images_named(unpack(message, limits)))
    assert len(unpack_requests(unpack(message, Limits(image_pixels=3600)), pixels)) == 3


def test_masks_that_would_fill_the_memory_are_refused():
    """A few bytes can stand for a mask of millions of pixels: they are counted before anything is decoded."""
    size, image = (2**13, 2**12), np.zeros((2**13, 2**12, 3), np.uint8)
    text = Masks.from_boxes([[0, 0, 2**12, 2**13]], size).to_coco_rles()[0]["counts"].encode()
    writer = Writer()
    mask = {"size": list(size), "lengths": writer.array([len(text)]), "counts": writer.buffer(text)}
    prompt = {"points": writer.array(np.zeros((0, 2))), "mask": mask}
    place = {"digest": "d", "steps": [], "name": "", "root": "", "to_root": writer.array(np.eye(3))}

    def message(prompts):
        views = [{"image": "i", "size": list(size), **place}]
        asked = [{"kind": "SegmentPrompts", "view": 0, "prompts": prompts}]
        return unpack(writer.message({"requests": asked, "views": views, "images": {}}))

    (request,) = unpack_requests(message([prompt]), {"i": image})
    assert request.prompts[0].mask.areas.tolist() == [2**25]
    tracemalloc.start()
    with pytest.raises(WireError, match="once they are decoded"):
        unpack_requests(message([prompt] * 100), {"i": image})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
