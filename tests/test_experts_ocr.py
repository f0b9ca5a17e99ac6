"""Reading text: real words from real pictures, in their frame, without a download."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

import visenv.experts.ocr as ocr
from visenv.capabilities import Embed, ReadText, View
from visenv.errors import InvalidData, MissingWeights
from visenv.experts.ocr import OcrExpert, reading_order
from visenv.experts_checks import check_result
from visenv.experts_pool import ExpertPool
from visenv.images import Provenance, RootPixels

PAGE = (
    "Region-based segmentation",
    "Let us first determine markers of the coins and the",
    "background. These markers are pixels that we can label",
    "unambiguously as either object or background. Here,",
    "the markers are found at the two extreme parts of the",
    "histogram of grey values:",
)
"""What is written on the photographed page that scikit-image ships, without the line of code under it."""


@pytest.fixture(scope="module")
def expert():
    return OcrExpert(threads=1)


@pytest.fixture(scope="module")
def page():
    from skimage import data as skimage_data

    return np.stack([skimage_data.page()] * 3, axis=2)


@pytest.fixture(scope="module")
def page_lines(expert, page):
    return read(expert, page)


@pytest.fixture(scope="module")
def drawn_lines(expert):
    return read(expert, drawn())


def request(pixels):
    return ReadText(View(pixels, Provenance(RootPixels(pixels))))


def read(expert, pixels):
    asked = request(np.asarray(pixels))
    (found,) = expert.run([asked])
    check_result(asked, found)
    return found


def drawn(size=(400, 220)):
    """Two words beside each other, and a line under them."""
    picture = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=28)
    pen.text((20, 20), "Hello World", font=font, fill="black")
    pen.text((250, 23), "right", font=font, fill="navy")
    pen.text((20, 120), "second line 42", font=font, fill="darkred")
    return picture


def test_a_photographed_page_is_read_word_by_word(page_lines):
    found = page_lines
    assert found.texts[: len(PAGE)] == PAGE
    assert found.texts[-1].startswith("markers = np.zeros")
    assert (np.diff(found.boxes[:, 1]) > 0).all()
    assert (found.scores > 0.9).all()


def test_drawn_words_are_read_where_they_are_in_reading_order(drawn_lines):
    found = drawn_lines
    assert found.texts == ("Hello World", "right", "second line 42")
    assert np.abs(found.boxes[:, :2] - [[20, 27], [250, 27], [20, 125]]).max() < 30
    first = found.corners[0]
    assert first[0, 0] < 30
    assert 150 < first[1, 0] < 200
    assert first[0, 1] < first[3, 1]


@pytest.mark.parametrize("angle", [90, 180, 270, 20])
def test_turned_text_is_read_and_its_corners_turn_with_it(expert, drawn_lines, angle):
    upright, picture = drawn_lines, drawn()
    turned = picture.rotate(angle, expand=True, fillcolor="white")
    found = read(expert, turned)
    assert set(found.texts) == set(upright.texts)
    # In the picture turned back, each line has its corners where they were, the first again at its top left.
    radians = np.deg2rad(angle)
    back = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    for text, corners in zip(found.texts, found.corners, strict=True):
        there = (corners - np.array(turned.size) / 2) @ back + np.array(picture.size) / 2
        assert np.abs(there - upright.corners[upright.texts.index(text)]).max() < 12, text


def test_company_changes_nothing(expert, page, page_lines, drawn_lines):
    pictures = [np.asarray(drawn()), page, np.zeros((20, 30, 3), np.uint8)]
    together = expert.run([request(pixels) for pixels in pictures])
    for alone, both in zip((drawn_lines, page_lines), together, strict=False):
        assert alone.texts == both.texts
        assert np.array_equal(alone.corners, both.corners)
        assert np.array_equal(alone.scores, both.scores)
    assert together[2].texts == ()


@pytest.mark.parametrize(("shape", "value"), [((1, 1), 0), ((1, 500), 255), ((400, 2), 0), ((37, 41), 255)])
def test_images_without_text_have_none(expert, shape, value):
    found = read(expert, np.full((*shape, 3), value, np.uint8))
    assert found.texts == ()
    assert found.corners.shape == (0, 4, 2)
    assert found.boxes.shape == (0, 4)


def test_a_large_picture_is_searched_small_and_read_in_its_own_frame(expert):
    picture = Image.new("RGB", (7680, 4320), "white")
    font = ImageFont.load_default(size=200)
    ImageDraw.Draw(picture).text((5000, 3000), "BIG WORDS", font=font, fill="black")
    found = read(expert, picture)
    left, top, right, bottom = ImageDraw.Draw(picture).textbbox((5000, 3000), "BIG WORDS", font=font)
    assert found.texts == ("BIG WORDS",)
    assert np.abs(found.boxes[0] - [left, top, right, bottom]).max() < 100


def test_odd_strips_are_searched_at_a_bounded_size():
    for shape in ((1, 1), (1, 8000), (8000, 3), (501, 333), (4320, 7680)):
        small, scale = ocr._searched(np.zeros((*shape, 3), np.uint8), 2000)
        height, width = small.shape[:2]
        assert max(height, width) <= 2000
        assert min(height, width) >= 32
        assert max(height, width) <= 4 * min(height, width)
        assert np.all(scale * (width, height) >= np.array(shape[::-1]) - 1e-9)


def test_what_was_read_is_remembered_by_the_pool(expert, drawn_lines):
    pool, pixels = ExpertPool({"ReadText": expert}), np.array(drawn())
    (first,) = pool.answer([request(pixels)])
    (again,) = pool.answer([request(pixels.copy())])
    assert first.texts == drawn_lines.texts
    assert again is first
    assert pool.counters.cache_hits == 1


def test_a_copy_and_one_that_was_unloaded_load_the_networks_again(expert, drawn_lines):
    twin = pickle.loads(pickle.dumps(expert))
    assert twin.fingerprint == expert.fingerprint
    twin.warm_up()
    engine = twin.load()
    assert engine is twin.load()
    assert engine is not expert.load()
    twin.unload()
    assert read(twin, drawn()).texts == drawn_lines.texts
    assert twin.load() is not engine


def test_what_changes_results_changes_the_fingerprint(expert, tmp_path):
    for file in expert._files.values():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    assert OcrExpert(tmp_path).fingerprint == OcrExpert().fingerprint == expert.fingerprint
    others = [OcrExpert(score_threshold=0.7), OcrExpert(max_side=1000)]
    (tmp_path / expert._files["Rec"].name).write_bytes(b"other weights")
    others.append(OcrExpert(tmp_path))
    assert len({expert.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_a_rapidocr_that_was_built_already_is_used_with_a_threshold_of_ones_own(expert, page, page_lines):
    given = OcrExpert(expert.load(), score_threshold=0.98)
    assert given.load() is expert.load()
    found = read(given, page)
    assert found.texts == tuple(
        text for text, score in zip(page_lines.texts, page_lines.scores, strict=True) if score >= 0.98
    )
    assert 3 <= len(found.texts) < len(page_lines.texts)
    with pytest.raises(TypeError, match="Expected an OcrExpert of files"):
        pickle.dumps(given)


def test_missing_networks_and_wrong_values_are_said_at_once(tmp_path):
    with pytest.raises(MissingWeights, match=r"Expected one \*det\*\.onnx \(it finds lines\).*there is no such file"):
        OcrExpert(tmp_path)
    for name in ("a_det.onnx", "b_det.onnx"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(MissingWeights, match=r"it holds a_det\.onnx, b_det\.onnx"):
        OcrExpert(str(tmp_path))
    for keywords, message in (
        ({"score_threshold": 2}, "score_threshold from 0 to 1"),
        ({"max_side": 10}, "max_side to be a whole number of at least 64"),
        ({"max_batch": True}, "max_batch"),
        ({"model": 3}, "Expected model to be a folder, a RapidOCR or None"),
    ):
        with pytest.raises(InvalidData, match=message):
            OcrExpert(**keywords)
    with pytest.raises(InvalidData, match="ocr does not answer Embed"):
        OcrExpert().run([Embed(request(np.zeros((2, 2, 3), np.uint8)).view)])


OFFLINE = """
import sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"{event} {args}")
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        raise RuntimeError(f"wrote {args[0]}")
    if event in ("os.mkdir", "os.rename", "os.remove"):
        raise RuntimeError(f"{event} {args}")
sys.dont_write_bytecode = True
sys.addaudithook(refuse)
import numpy as np
from PIL import Image
from visenv.capabilities import ReadText, View
from visenv.experts.ocr import OcrExpert
from visenv.images import Provenance, RootPixels
pixels = np.asarray(Image.open(sys.argv[1]).convert("RGB"))
print(*OcrExpert().run([ReadText(View(pixels, Provenance(RootPixels(pixels))))])[0].texts, sep="|")
assert "torch" not in sys.modules
"""


def test_nothing_is_fetched_and_nothing_written(tmp_path):
    drawn().save(tmp_path / "words.png")
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home), "OMP_NUM_THREADS": "1"}
    environment.pop("ORT_DISABLE_TELEMETRY", None)  # the expert sets it, in this process too
    ran = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(tmp_path / "words.png")],
        env=environment | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "Hello World|right|second line 42"
    assert list(home.iterdir()) == []


boxes = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(1, 30), st.integers(1, 30)).map(
        lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
    ),
    max_size=12,
)


@given(boxes, st.randoms(use_true_random=False))
def test_the_order_of_reading_depends_on_the_boxes_alone(found, random):
    order = reading_order(np.array(found).reshape(-1, 4))
    assert sorted(order) == list(range(len(found)))
    shuffled = list(found)
    random.shuffle(shuffled)
    other = reading_order(np.array(shuffled).reshape(-1, 4))
    assert [found[index] for index in order] == [shuffled[index] for index in other]


def test_words_of_a_slanted_line_stay_together():
    line = [[0, 10, 40, 30], [50, 6, 90, 26], [100, 2, 140, 22]]
    under = [[0, 40, 60, 60]]
    assert reading_order(np.array(under + line[::-1])) == [3, 2, 1, 0]


def test_a_preset_names_it():
    from visenv.experts.presets import load_preset

    preset = load_preset({"experts": [{"expert": "ocr", "score_threshold": 0.7}]}).using(device="cuda")
    (expert,) = preset.make()
    assert (type(expert), expert.score_threshold) == (OcrExpert, 0.7)
