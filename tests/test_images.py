"""Loading, letterboxing, encoding and drawing."""

import base64
import io
import os
import struct
import warnings
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from visenv.errors import InvalidData, InvalidImage
from visenv.images import (
    Provenance,
    RootPixels,
    colour_of,
    draw_detections,
    draw_points,
    draw_windows,
    fit_within,
    letterbox,
    load_image,
    to_data_url,
    to_png_bytes,
)
from visenv.masks import Masks
from visenv.types import Detections


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def noise(height=12, width=17, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_of_size(width, height):
    """A PNG whose header claims a size and whose pixels are a few bytes of nothing."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


# --- loading ------------------------------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_pixels(tmp_path):
    pixels = noise()
    data = encoded(Image.fromarray(pixels))
    path = tmp_path / "a.png"
    path.write_bytes(data)
    sources = [path, str(path), data, bytearray(data), memoryview(data), Image.fromarray(pixels), pixels]
    for source in sources:
        loaded = load_image(source)
        assert loaded.dtype == np.uint8
        assert loaded.flags.writeable
        assert loaded.flags.c_contiguous
        np.testing.assert_array_equal(loaded, pixels)


def test_loading_an_array_copies_it():
    pixels = noise()
    load_image(pixels)[:] = 0
    np.testing.assert_array_equal(pixels, noise())


@pytest.mark.parametrize(
    ("form", "options"), [("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("TGA", {})]
)
def test_other_lossless_formats(form, options):
    pixels = noise()
    np.testing.assert_array_equal(load_image(encoded(Image.fromarray(pixels), form, **options)), pixels)


def test_sixteen_bits_are_scaled_and_not_clipped():
    values = np.array([[0, 256, 257, 32768, 33024, 65535]], dtype=np.uint16)
    expected = [0, 1, 1, 128, 128, 255]
    assert load_image(values)[0, :, 0].tolist() == expected
    for form in ("PNG", "TIFF"):
        loaded = load_image(encoded(Image.fromarray(values), form))
        assert loaded[0, :, 0].tolist() == expected
        assert (loaded == loaded[..., :1]).all()


def test_sixteen_bit_colour_is_scaled():
    deep = np.zeros((2, 2, 3), np.uint16)
    deep[0, 0] = (65535, 32768, 0)
    done, data = cv2.imencode(".png", deep[..., ::-1])
    assert done
    assert load_image(data.tobytes())[0, 0].tolist() == [255, 128, 0]


def test_cmyk_becomes_rgb():
    ink = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for loaded in (load_image(ink), load_image(encoded(ink, "JPEG", quality=95)), load_image(encoded(ink, "TIFF"))):
        red, green, blue = loaded[4, 4].astype(int)
        assert red > 240
        assert green < 20
        assert blue < 20


def test_palette_is_looked_up_and_its_transparency_laid_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    assert load_image(encoded(image))[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert load_image(encoded(image, transparency=1))[0].tolist() == [[10, 20, 30], [255, 255, 255]]


def test_grey_bilevel_and_alpha():
    assert load_image(Image.new("L", (2, 2), 77))[0, 0].tolist() == [77, 77, 77]
    assert load_image(Image.new("1", (2, 2), 1))[0, 0].tolist() == [255, 255, 255]
    assert load_image(Image.new("LA", (2, 2), (0, 0)))[0, 0].tolist() == [255, 255, 255]
    assert load_image(Image.new("RGBA", (2, 2), (0, 0, 0, 51)))[0, 0].tolist() == [204, 204, 204]
    assert load_image(np.array([[[10, 20, 30, 0]]], np.uint8))[0, 0].tolist() == [255, 255, 255]
    assert load_image(np.array([[True, False]]))[0, :, 0].tolist() == [255, 0]
    assert load_image(np.array([[0.0, 0.5, 1.0]]))[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    from PIL import ImageOps

    pixels = noise(5, 9)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(pixels), exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(load_image(data), expected)
    assert load_image(data).shape[:2] == ((9, 5) if orientation >= 5 else (5, 9))


def test_exif_orientation_of_sixteen_bits():
    values = np.arange(6, dtype=np.uint16).reshape(2, 3) * 257
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = load_image(encoded(Image.fromarray(values), exif=exif))
    np.testing.assert_array_equal(loaded[..., 0], np.rot90(values // 257, -1))


def test_orientation_zero_means_not_known_and_nonsense_is_refused():
    exif = Image.Exif()
    exif[0x0112] = 0
    assert load_image(encoded(Image.fromarray(noise()), exif=exif)).shape == (12, 17, 3)
    exif[0x0112] = 99
    with pytest.raises(InvalidImage, match="orientation from 1 to 8"):
        load_image(encoded(Image.fromarray(noise()), exif=exif))


def exif_jpeg(block):
    return encoded(Image.fromarray(noise()), "JPEG", exif=b"Exif\0\0" + block)


def test_exif_orientation_of_the_wrong_type_is_refused():
    with pytest.raises(InvalidImage, match="orientation from 1 to 8"):
        load_image(exif_jpeg(b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0abc\0" + b"\0" * 4))


@pytest.mark.parametrize("block", [b"garbage", b"II*\0\xff\xff\xff\xff", b"II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_block_without_a_readable_orientation_counts_as_none(block):
    np.testing.assert_array_equal(load_image(exif_jpeg(block)), load_image(exif_jpeg(b"")))


def test_first_of_several_frames():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for form in ("GIF", "TIFF", "WEBP", "PNG"):
        data = encoded(
            frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
        )
        opened = Image.open(io.BytesIO(data))
        opened.seek(1)
        for source in (data, opened):
            assert load_image(source)[0, 0].tolist() == [255, 0, 0], form


def test_size_is_checked_before_anything_is_decoded():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InvalidImage, match="Expected at most 80000000 pixels"):
            load_image(png_of_size(9000, 9000))
    with pytest.raises(InvalidImage, match="Too large|pixels"):
        load_image(png_of_size(60000, 60000))
    with pytest.raises(InvalidImage, match="at most 100 pixels"):
        load_image(noise(), max_pixels=100)
    limit = Image.MAX_IMAGE_PIXELS
    load_image(noise(), max_pixels=10**12)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_size_beyond_the_header_is_broken_not_allocated():
    with pytest.raises(InvalidImage, match="cut off"):
        load_image(png_of_size(300, 300))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_invalid(form, share):
    data = encoded(Image.fromarray(noise(64, 64)), form)
    with pytest.raises(InvalidImage):
        load_image(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of them"),
        (b"hello, I am text", "none of them"),
        (np.zeros((0, 5, 3), np.uint8), "at least one pixel"),
        (np.zeros((5, 0), np.uint8), "at least one pixel"),
        (np.zeros((2, 2, 2), np.uint8), r"\(2, 2, 2\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        (np.zeros((2, 2), np.int64), "int64"),
        (np.full((2, 2), np.nan), r"floats in \[0, 1\]"),
        (np.full((2, 2), 255.0), r"floats in \[0, 1\]"),
        (Image.new("RGB", (0, 4)), "at least one pixel"),
        (Image.new("F", (2, 2), 3.0), r"floats in \[0, 1\]"),
        (Image.new("I", (2, 2), 70000), "16 bits"),
        (None, "NoneType"),
        (7, "int"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason(source, message):
    with pytest.raises(InvalidImage, match=message):
        load_image(source)


def test_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(InvalidImage, match="There is no file"):
        load_image(tmp_path / "none.png")
    with pytest.raises(InvalidImage, match="Cannot read"):
        load_image(tmp_path)
    with pytest.raises(InvalidImage):
        load_image("a\0b.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_since_it_would_be_waited_for(tmp_path):
    os.mkfifo(tmp_path / "1.png")
    with pytest.raises(InvalidImage, match="pipe"):
        load_image(tmp_path / "1.png")


@given(st.binary(max_size=300), st.sampled_from(["", "PNG", "JPEG", "GIF", "TIFF", "WEBP"]), st.integers(0, 200))
def test_hostile_bytes_give_a_picture_or_invalid_image(junk, form, at):
    data = encoded(Image.fromarray(noise(16, 16)), form) if form else b""
    data = data[:at] + junk + data[at + len(junk) :]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pixels = load_image(data, max_pixels=1_000_000)
    except InvalidImage:
        return
    assert pixels.ndim == 3
    assert pixels.dtype == np.uint8


def test_max_side_shrinks_and_never_enlarges():
    assert load_image(noise(50, 100), max_side=10).shape == (5, 10, 3)
    assert load_image(noise(50, 100), max_side=1000).shape == (50, 100, 3)
    assert load_image(noise(1, 1000), max_side=10).shape == (1, 10, 3)
    with pytest.raises(InvalidData, match="at least 1 pixel"):
        load_image(noise(), max_side=0)


# --- sizes --------------------------------------------------------------------------------------------------------


def test_letterbox_centres_and_maps_points():
    pixels = np.full((100, 200, 3), 9, np.uint8)
    canvas, scale, (x, y) = letterbox(pixels, 128)
    assert (scale, x, y) == (0.64, 0, 32)
    assert (canvas[y : y + 64] == 9).all()
    assert (canvas[:32] == 0).all()
    assert (canvas[96:] == 0).all()
    canvas, scale, (x, y) = letterbox(pixels, (300, 100))
    assert canvas.shape == (100, 300, 3)
    assert (scale, x, y) == (1.0, 50, 0)


def test_letterbox_writes_over_all_of_out():
    out = np.full((64, 64, 3), 77, np.uint8)
    canvas, _, _ = letterbox(np.full((10, 20, 3), 5, np.uint8), 64, out=out)
    assert canvas is out
    assert not (out == 77).any()
    np.testing.assert_array_equal(out, letterbox(np.full((10, 20, 3), 5, np.uint8), 64)[0])
    with pytest.raises(InvalidData, match="Expected `out`"):
        letterbox(noise(), 32, out=out)
    with pytest.raises(InvalidData, match="at least 1 pixel"):
        letterbox(noise(), 0)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60), st.integers(1, 60))
def test_letterbox_keeps_content_inside_and_as_large_as_it_can_be(height, width, wide, tall):
    canvas, scale, (x, y) = letterbox(np.full((height, width, 3), 200, np.uint8), (wide, tall))
    ys, xs = np.nonzero(canvas[..., 0])
    assert canvas.shape == (tall, wide, 3)
    assert (xs.min(), ys.min()) == (x, y)
    assert xs.max() - xs.min() + 1 == max(1, round(width * scale))
    assert ys.max() - ys.min() + 1 == max(1, round(height * scale))
    assert np.isclose(width * scale, wide) or np.isclose(height * scale, tall)


def test_shrinking_averages_areas():
    checker = np.indices((96, 96)).sum(axis=0) % 2 * 255
    pixels = np.repeat(checker[..., None], 3, axis=2).astype(np.uint8)
    assert np.abs(letterbox(pixels, 32)[0].astype(int) - 127.5).max() < 16


def test_fit_within():
    pixels = noise(30, 40)
    assert fit_within(pixels, 40, 30) is pixels
    assert fit_within(pixels, 20, 30).shape == (15, 20, 3)
    with pytest.raises(InvalidData, match="at least 1 pixel"):
        fit_within(pixels, 0, 5)


# --- encoding and provenance --------------------------------------------------------------------------------------


def test_encodings_round_trip():
    pixels = noise()
    np.testing.assert_array_equal(load_image(to_png_bytes(pixels)), pixels)
    np.testing.assert_array_equal(load_image(to_png_bytes(pixels[2:9, 3:11])), pixels[2:9, 3:11])
    head, _, body = to_data_url(pixels).partition(",")
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(load_image(base64.b64decode(body)), pixels)
    head, _, body = to_data_url(np.full((8, 8, 3), 120, np.uint8), encoding="jpeg").partition(",")
    assert head == "data:image/jpeg;base64"
    assert np.abs(load_image(base64.b64decode(body)).astype(int) - 120).max() <= 3
    with pytest.raises(InvalidData, match="'png' or 'jpeg'"):
        to_data_url(pixels, encoding="gif")
    with pytest.raises(InvalidImage, match=r"\(0, 3, 3\)"):
        to_png_bytes(np.zeros((0, 3, 3), np.uint8))


def test_provenance_follows_pixels_and_steps():
    pixels = noise()
    root, same = RootPixels(pixels), RootPixels(pixels.copy())
    assert root.digest == same.digest
    assert root.digest != RootPixels(np.ascontiguousarray(pixels.swapaxes(0, 1))).digest
    assert RootPixels(pixels[:, ::2]).digest == RootPixels(pixels[:, ::2].copy()).digest
    crop = Provenance(root).then("crop 0 0 5 5")
    assert crop.key == Provenance(same).then("crop 0 0 5 5").key
    assert crop.key != Provenance(root).key
    assert crop.then("4x").steps == ("crop 0 0 5 5", "4x")


# --- drawing ------------------------------------------------------------------------------------------------------


def test_detections_are_tinted_where_their_masks_are_and_nowhere_else():
    pixels = np.full((40, 60, 3), 100, np.uint8)
    masks = Masks.from_boxes([[10, 10, 20, 20], [30, 20, 50, 35]], (40, 60))
    drawn = draw_detections(pixels, Detections(masks.boxes, masks), numbers=False, alpha=0.5)
    assert (pixels == 100).all()
    for index, (x, y) in enumerate(((15, 15), (40, 28))):
        expected = (np.array(colour_of(index)) + 100) / 2
        assert np.abs(drawn[y, x] - expected).max() <= 1
    outside = np.ones((40, 60), bool)
    outside[10:20, 10:20] = outside[20:35, 30:50] = False
    assert (drawn[outside] == 100).all()
    assert tuple(drawn[10, 10]) == colour_of(0)


def test_tint_follows_the_shape_of_a_mask_over_a_picture_with_texture():
    pixels = noise(60, 60)
    disc = cv2.circle(np.zeros((60, 60), np.uint8), (30, 28), 17, 1, -1) > 0
    masks = Masks.from_dense(disc)
    drawn = draw_detections(pixels, Detections(np.array([[-9.0, -9, -5, -5]]), masks), numbers=False, alpha=0.25)
    np.testing.assert_array_equal(drawn[~disc], pixels[~disc])
    expected = 0.75 * pixels[disc] + 0.25 * np.array(colour_of(0))
    assert np.abs(drawn[disc] - expected).max() <= 1


def test_numbers_boxes_and_no_masks():
    pixels = np.zeros((100, 100, 3), np.uint8)
    boxes = np.array([[20.0, 30.0, 80.0, 90.0]])
    plain = draw_detections(pixels, Detections(boxes), numbers=False)
    numbered = draw_detections(pixels, Detections(boxes))
    assert tuple(plain[89, 50]) == colour_of(0)
    assert (plain[90, 50] == 0).all()
    assert not np.array_equal(plain, numbered)
    later = draw_detections(pixels, Detections(boxes), first=4, numbers=False)
    assert tuple(later[89, 50]) == colour_of(3)
    np.testing.assert_array_equal(draw_detections(pixels, Detections(np.zeros((0, 4)))), pixels)


def test_masks_of_another_frame_are_refused():
    masks = Masks.from_boxes([[0, 0, 5, 5]], (10, 10))
    with pytest.raises(InvalidData, match=r"\(40, 60\)"):
        draw_detections(np.zeros((40, 60, 3), np.uint8), Detections(masks.boxes, masks))


def test_points_and_windows():
    pixels = np.zeros((100, 120, 3), np.uint8)
    drawn = draw_points(pixels, np.array([[30.0, 40.0], [500.0, -20.0]]), numbers=False)
    assert tuple(drawn[40, 30]) == colour_of(0)
    assert (pixels == 0).all()
    assert np.count_nonzero(drawn.any(axis=2)) < 100
    windows = [[0, 0, 70, 100], [50, 0, 120, 100]]
    view = draw_windows(pixels, windows, ["r1_c1", "r1_c2"])
    assert tuple(view[50, 0]) == colour_of(0)
    assert tuple(view[20, 118]) == colour_of(1)
    with pytest.raises(InvalidData, match="as many labels"):
        draw_windows(pixels, windows, ["one"])


@given(
    st.lists(st.tuples(*[st.floats(allow_nan=True, allow_infinity=True)] * 4), max_size=4),
    st.integers(1, 40),
    st.integers(1, 40),
)
def test_drawing_survives_any_numbers(rows, height, width):
    pixels = np.zeros((height, width, 3), np.uint8)
    boxes = np.array(rows, dtype=np.float64).reshape(-1, 4)
    for drawn in (
        draw_detections(pixels, Detections(boxes)),
        draw_points(pixels, boxes[:, :2]),
        draw_windows(pixels, boxes),
    ):
        assert drawn.shape == pixels.shape
        assert drawn.dtype == np.uint8
    assert not pixels.any()


def test_colours_differ_between_neighbours():
    colours = [colour_of(index) for index in range(200)]
    assert len(set(colours)) == 200
    for one, other in zip(colours, colours[1:], strict=False):
        assert np.abs(np.subtract(one, other)).max() > 40


def test_masks_are_blended_inside_their_crops_only(monkeypatch):
    """The cost must follow the objects: nothing as large as the frame may be blended."""
    sizes = []
    real = cv2.addWeighted

    def spy(source, *args):
        sizes.append(source.shape[0] * source.shape[1])
        return real(source, *args)

    monkeypatch.setattr("visenv._drawing.cv2", SimpleNamespace(**{**vars(cv2), "addWeighted": spy}))
    masks = Masks.from_boxes([[10, 10, 20, 20]], (1000, 1000))
    draw_detections(np.zeros((1000, 1000, 3), np.uint8), Detections(masks.boxes, masks))
    assert sizes == [100]
