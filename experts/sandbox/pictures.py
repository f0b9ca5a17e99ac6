"""Reading the picture that a program has written, in the process that trains: quickly, or not at all."""

from __future__ import annotations

import struct

from visenv.errors import InvalidImage
from visenv.images import load_image
from visenv.types import Pixels

MAX_PARTS = 10_000
"""Chunks of a PNG, segments of a JPEG: a picture of 16 million pixels has some thousands, and millions take minutes."""
_PNG, _JPEG, _BMP = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM"
_HEADER = struct.Struct(">I4s")
_SCAN, _ALONE = 0xDA, (0x01, *range(0xD0, 0xD9))
"""Segments of a JPEG: the one that pixels follow, and those that have no length."""


def read_picture(data: bytes, max_pixels: int) -> Pixels:
    """A picture as ``load_image`` reads it, of the formats whose readers are quick whatever the bytes are.

    Args:
        data: of the file.
        max_pixels: the most pixels (width times height).

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        InvalidImage: if it is no PNG, JPEG, WebP or BMP, broken, too large, or of too many parts.
    """
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if not (webp or data.startswith((_PNG, _JPEG, _BMP))):
        raise InvalidImage("Expected PNG, JPEG, WebP or BMP, but it is none of them.")
    many = _many_chunks(data) if data.startswith(_PNG) else data.startswith(_JPEG) and _many_segments(data)
    if many:
        raise InvalidImage(f"Expected at most {MAX_PARTS} parts, but the file has more.")
    return load_image(data, max_pixels=max_pixels)


def _many_chunks(data: bytes) -> bool:
    place = len(_PNG)
    for _ in range(MAX_PARTS):
        if place + _HEADER.size > len(data):
            return False
        length, _ = _HEADER.unpack_from(data, place)
        place += 12 + length
    return True


def _many_segments(data: bytes) -> bool:
    """Whether there are too many before the pixels, which are read by the JPEG library."""
    place = 2
    for _ in range(MAX_PARTS):
        if place + 4 > len(data):
            return False
        marker = data[place + 1]
        if data[place] != 0xFF or marker == _SCAN:
            return False
        # Any number of 0xFF may stand before a marker.
        place += 1 if marker == 0xFF else 2
        if marker not in (*_ALONE, 0xFF):
            place += max(2, int.from_bytes(data[place : place + 2], "big"))
    return True
