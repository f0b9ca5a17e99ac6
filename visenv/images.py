"""Pictures: loading, provenance, letterboxing and drawing.

Drawing lives in a module of its own and is offered here under the same roof: ``draw_detections``, ``draw_points``,
``draw_windows`` and ``colour_of``.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import stat
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from visenv._drawing import colour_of, draw_detections, draw_points, draw_windows
from visenv.errors import InvalidData, InvalidImage
from visenv.types import Pixels

__all__ = [
    "MAX_PIXELS",
    "ImageSource",
    "Provenance",
    "RootPixels",
    "colour_of",
    "draw_detections",
    "draw_points",
    "draw_windows",
    "fit_within",
    "letterbox",
    "load_image",
    "to_data_url",
    "to_png_bytes",
]

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[Any]"
"""What ``load_image`` takes: a path, the bytes of a file, a Pillow image, or an array."""

MAX_PIXELS = 80_000_000
"""The largest picture that is decoded unless told otherwise; below the size at which Pillow starts to warn."""

# Formats whose decoders stay inside the process: no PostScript interpreter, no WMF renderer.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "TGA")
_SLOW_BYTES, _SLOW_PIXELS = 1 << 18, 1_000_000
"""Of a picture that Pillow decodes in Python: a few MiB of PPM as text take it minutes."""
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, eq=False)
class RootPixels:
    """An input image, whose digest is taken once, when it is first asked for."""

    pixels: Pixels

    @cached_property
    def digest(self) -> str:
        """A digest of shape and pixels: SHA-256, which processors compute in hardware, cut to 128 bits."""
        data = np.ascontiguousarray(self.pixels)
        digest = hashlib.sha256(repr(data.shape).encode())
        digest.update(data.data)
        return digest.hexdigest()[:32]


@dataclass(frozen=True, eq=False)
class Provenance:
    """Where an image's pixels come from: a root, and what was done to it since."""

    root: RootPixels
    steps: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Equal for equal pixels, whatever data set or episode they are in."""
        return "/".join((self.root.digest, *self.steps))

    def then(self, step: str) -> Provenance:
        """The provenance of an image made from this one by ``step``."""
        return Provenance(self.root, (*self.steps, step))


# --- loading ------------------------------------------------------------------------------------------------------


def load_image(source: ImageSource, *, max_pixels: int = MAX_PIXELS, max_side: int | None = None) -> Pixels:
    """Read a picture, upright and as 8-bit RGB.

    The EXIF orientation is applied, 16 bits are scaled to 8 (not clipped), grey, palette and CMYK become RGB, what is
    transparent is laid over white, and of several frames the first is read. The size is checked from the header, before
    anything is decoded.

    Args:
        source: a path, the bytes of a file, a Pillow image, or an array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of
            bool, uint8, uint16, or floats in [0, 1].
        max_pixels: the most pixels (width times height) that are read.
        max_side: shrink to this longest side, in pixels, by area averaging.

    Returns:
        (H, W, 3) uint8 RGB, contiguous and writable; never memory of ``source``.

    Raises:
        InvalidImage: if it is missing, not a picture, broken, cut off, empty, too large or of a kind that takes too
            long to decode (a large PPM as text, a large compressed BMP), or its EXIF orientation is nonsense. An EXIF
            block in which no orientation can be read counts as none, as in every viewer.

    Example:
        >>> load_image(np.array([[0, 257 * 200]], dtype=np.uint16))[0, :, 0].tolist()
        [0, 200]
    """
    if isinstance(source, np.ndarray):
        pixels = _from_array(source, max_pixels)
    elif isinstance(source, Image.Image):
        pixels = _decode(source, "the Pillow image", max_pixels)
    elif isinstance(source, (bytes, bytearray, memoryview)):
        pixels = _open(io.BytesIO(source), bytes(source[:256]), f"{len(source)} bytes", max_pixels)
    elif isinstance(source, (str, os.PathLike)):
        pixels = _open_path(os.fspath(source), max_pixels)
    else:
        kinds = "a path, bytes, a Pillow image or an array"
        raise InvalidImage(f"Expected {kinds}, but got {type(source).__name__}.")
    if max_side is None:
        return pixels
    return _shrunk(pixels, min(1.0, _checked_side(max_side) / max(pixels.shape[:2])))


def _open_path(path: str, max_pixels: int) -> Pixels:
    try:
        # To open a pipe would wait for somebody to write into it.
        if stat.S_ISFIFO(os.stat(path).st_mode):
            raise InvalidImage(f"Cannot read {path!r}: it is a pipe. Give the bytes that come out of it.")
        with open(path, "rb") as file:
            return _open(file, file.peek(256)[:256], repr(path), max_pixels)
    except FileNotFoundError:
        raise InvalidImage(f"There is no file {path!r}: check the path.") from None
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidImage):
            raise
        raise InvalidImage(f"Cannot read {path!r}: {error}") from error


def _open(file: Any, head: bytes, what: str, max_pixels: int) -> Pixels:
    """Decode an open file; ``head`` is how it begins, ``what`` how messages call it."""
    if not head:
        raise InvalidImage(f"Expected a picture, but {what} is empty.")
    if b"<svg" in head.lower() or head.lstrip().startswith(b"<?xml"):
        raise InvalidImage(f"Expected a raster picture, but {what} looks like SVG: render it to PNG first.")
    try:
        image = Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        raise InvalidImage(f"Expected one of {', '.join(_FORMATS)}, but {what} is none of them.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidImage(f"Too large to decode: {what}. {error}") from error
    except Exception as error:
        raise InvalidImage(f"Cannot read the header of {what}: {type(error).__name__}: {error}") from error
    with image:
        _check_slow(image, file, what)
        return _decode(image, what, max_pixels)


def _check_slow(image: Image.Image, file: Any, what: str) -> None:
    """Refuse what takes a decoder in Python too long, such as PPM as text and compressed BMP."""
    # Pillow's registry holds the decoders that are written in Python.
    if not any(part[0] in Image.DECODERS for part in getattr(image, "tile", ())):
        return
    place = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(place)
    if size > _SLOW_BYTES or image.width * image.height > _SLOW_PIXELS:
        raise InvalidImage(
            f"Expected another kind of {image.format}, since this one is slow to decode, in {what}: save it as PNG."
        )


def _decode(image: Image.Image, what: str, max_pixels: int) -> Pixels:
    """Decode a Pillow image, its size checked first."""
    _check_size(image.width, image.height, what, max_pixels)
    # Decoders meet hostile bytes here and raise whatever they like; all of it means "this picture is broken".
    try:
        image.seek(0)
        image.load()
    except Exception as error:
        raise InvalidImage(
            f"Broken or cut off: {what} ({image.format}, {image.width}x{image.height}) cannot be decoded: {error}"
        ) from error
    turn = _TURNS.get(_orientation(image, what))
    try:
        upright = image if turn is None else image.transpose(turn)
        return _to_rgb(upright, what)
    except InvalidImage:
        raise
    except Exception as error:
        raise InvalidImage(f"Cannot convert {what} from mode {image.mode!r} to RGB: {error}") from error


def _orientation(image: Image.Image, what: str) -> int:
    """The EXIF orientation, 1 where none is given (some cameras write 0 for "not known")."""
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception as error:
        raise InvalidImage(
            f"The EXIF block of {what} is broken ({error}), so which way is up is not known: strip or repair it."
        ) from error
    if not isinstance(value, int) or not 0 <= value <= 8:
        raise InvalidImage(
            f"Expected an EXIF orientation from 1 to 8 in {what}, but got {value!r}: correct or strip it."
        )
    return value or 1


def _to_rgb(image: Image.Image, what: str) -> Pixels:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        return _from_array(_grey_samples(image, what), image.width * image.height)
    if image.has_transparency_data or image.mode in ("LA", "La", "PA", "RGBa"):
        rgba = image.convert("RGBA") if image.mode != "La" else image.convert("LA").convert("RGBA")
        return _over_white(np.asarray(rgba))
    if image.mode in ("1", "L"):
        return np.ascontiguousarray(np.repeat(np.asarray(image.convert("L"))[:, :, None], 3, axis=2))
    return np.array(image.convert("RGB"))


def _grey_samples(image: Image.Image, what: str) -> NDArray[Any]:
    """Samples deeper than 8 bits, as uint16 or as floats in [0, 1]."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise InvalidImage(f"Expected floats in [0, 1] in {what}, but got others: rescale the picture first.")
        return values
    # Pillow gives 16-bit PNG and PGM as 32-bit integers on some versions.
    if values.min() < 0 or values.max() > 65535:
        raise InvalidImage(f"Expected samples of at most 16 bits in {what}, but they reach {values.max()}.")
    return values.astype(np.uint16)


def _from_array(array: NDArray[Any], max_pixels: int) -> Pixels:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise InvalidImage(f"Expected an array (H, W) or (H, W, 1|3|4), but got shape {array.shape}.")
    _check_size(array.shape[1], array.shape[0], "the array", max_pixels)
    if array.dtype == np.uint8:
        data = array
    elif array.dtype == np.bool_:
        data = array.astype(np.uint8) * np.uint8(255)
    elif array.dtype == np.uint16:
        data = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise InvalidImage("Expected floats in [0, 1], but got others: rescale them, or pass uint8.")
        data = np.rint(array * 255).astype(np.uint8)
    else:
        raise InvalidImage(f"Expected bool, uint8, uint16 or floats in [0, 1], but got {array.dtype}.")
    if data.ndim == 2 or data.shape[2] == 1:
        return np.ascontiguousarray(np.repeat(data.reshape(*data.shape[:2], 1), 3, axis=2))
    return _over_white(data) if data.shape[2] == 4 else np.array(data, order="C")


def _over_white(rgba: NDArray[np.uint8]) -> Pixels:
    """(H, W, 4) with straight alpha, laid over white."""
    colour, alpha = rgba[..., :3].astype(np.uint32), rgba[..., 3:].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _check_size(width: int, height: int, what: str, max_pixels: int) -> None:
    if width < 1 or height < 1:
        raise InvalidImage(f"Expected at least one pixel, but {what} is {width}x{height}.")
    if width * height > max_pixels:
        raise InvalidImage(
            f"Expected at most {max_pixels} pixels, but {what} has {width}x{height}: shrink it, or raise max_pixels."
        )


# --- sizes --------------------------------------------------------------------------------------------------------


def letterbox(
    pixels: Pixels, size: int | tuple[int, int], *, out: Pixels | None = None
) -> tuple[Pixels, float, tuple[int, int]]:
    """Fit a picture into a canvas, its aspect kept, centred, the rest black.

    Args:
        pixels: (H, W, 3) uint8.
        size: the canvas: a side, or (width, height), in pixels.
        out: (height, width, 3) uint8 to write into; a new array if left out.

    Returns:
        The canvas; the scale; and the offset (x, y): a point ``p`` of the picture is at ``p * scale + offset``, up to
        the rounding of the sides to whole pixels.

    Raises:
        InvalidData: if the size is not positive or ``out`` has another shape.

    Example:
        >>> canvas, scale, offset = letterbox(np.full((10, 20, 3), 9, np.uint8), 40)
        >>> canvas.shape, scale, offset
        ((40, 40, 3), 2.0, (0, 10))
    """
    width, height = (size, size) if isinstance(size, int) else size
    _checked_side(width), _checked_side(height)
    if out is None:
        out = np.empty((height, width, 3), np.uint8)
    elif out.shape != (height, width, 3) or out.dtype != np.uint8:
        raise InvalidData(f"Expected `out` to be uint8 {(height, width, 3)}, but got {out.dtype} {out.shape}.")
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    wide, tall = _scaled_size(pixels, scale)
    x, y = (width - wide) // 2, (height - tall) // 2
    out[:y], out[y + tall :], out[y : y + tall, :x], out[y : y + tall, x + wide :] = 0, 0, 0, 0
    out[y : y + tall, x : x + wide] = _resized(pixels, scale)
    return out, scale, (x, y)


def fit_within(pixels: Pixels, max_width: int, max_height: int) -> Pixels:
    """Shrink a picture until it fits, its aspect kept; one that fits already is returned as it is.

    Args:
        pixels: (H, W, 3) uint8.
        max_width: in pixels.
        max_height: in pixels.

    Raises:
        InvalidData: if a limit is not positive.

    Example:
        >>> fit_within(np.zeros((1080, 3840, 3), np.uint8), 1920, 1080).shape
        (540, 1920, 3)
    """
    scale = min(_checked_side(max_width) / pixels.shape[1], _checked_side(max_height) / pixels.shape[0])
    return _shrunk(pixels, min(1.0, scale))


def _shrunk(pixels: Pixels, scale: float) -> Pixels:
    return pixels if scale >= 1 else _resized(pixels, scale)


def _resized(pixels: Pixels, scale: float) -> Pixels:
    size = _scaled_size(pixels, scale)
    if size == (pixels.shape[1], pixels.shape[0]):
        return pixels
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size, interpolation=interpolation), dtype=np.uint8)


def _scaled_size(pixels: Pixels, scale: float) -> tuple[int, int]:
    """(width, height) in whole pixels."""
    return max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))


def _checked_side(side: int) -> int:
    if side < 1:
        raise InvalidData(f"Expected a side of at least 1 pixel, but got {side}.")
    return side


# --- encoding -----------------------------------------------------------------------------------------------------


def to_png_bytes(pixels: Pixels, *, compression: int = 1) -> bytes:
    """A picture as a PNG file.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        compression: 0 (fast, large) to 9 (slow, small).

    Raises:
        InvalidImage: if it is not such an array, or empty.

    Example:
        >>> load_image(to_png_bytes(np.full((2, 3, 3), 7, np.uint8))).shape
        (2, 3, 3)
    """
    return _encoded(pixels, ".png", [cv2.IMWRITE_PNG_COMPRESSION, compression])


def to_data_url(pixels: Pixels, *, encoding: Literal["png", "jpeg"] = "png", quality: int = 90) -> str:
    """A picture as a ``data:`` URL, for a page or a chat message.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        encoding: ``png`` (exact) or ``jpeg`` (smaller).
        quality: of JPEG, 1 to 100.

    Raises:
        InvalidImage: if it is not such an array, or empty.
        InvalidData: for another encoding.

    Example:
        >>> to_data_url(np.zeros((1, 1, 3), np.uint8))[:22]
        'data:image/png;base64,'
    """
    if encoding == "png":
        data = to_png_bytes(pixels)
    elif encoding == "jpeg":
        data = _encoded(pixels, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])
    else:
        raise InvalidData(f"Expected encoding 'png' or 'jpeg', but got {encoding!r}.")
    return f"data:image/{encoding};base64,{base64.b64encode(data).decode('ascii')}"


def _encoded(pixels: Pixels, suffix: str, options: list[int]) -> bytes:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise InvalidImage(f"Expected pixels (H, W, 3) uint8, but got {pixels.dtype} {pixels.shape}.")
    done, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise InvalidImage(f"A picture of {pixels.shape[1]}x{pixels.shape[0]} cannot be written as {suffix[1:]}.")
    return data.tobytes()
