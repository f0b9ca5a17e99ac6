"""Messages on the network: a short JSON header and raw binary buffers behind it; nothing in them is ever executed.

A message is the four bytes ``VSNV``, the protocol's version, the length of the header, the number of buffers, their
lengths, the header (JSON, UTF-8), and the buffers, each at a multiple of 16 bytes, so that arrays are read where they
lie. What comes from the network may be anything: every length is checked against what is there before it is used, and
whatever is wrong raises ``WireError``.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from visenv.errors import InvalidData
from visenv.images import MAX_PIXELS

PROTOCOL = 1
"""Of messages; raised with every change that an older reader would misread."""
MAGIC = b"VSNV"
_FIXED = struct.Struct("<4sHHII")
_ALIGNED = 16
DTYPES = ("|u1", "|b1", "<i8", "<f4", "<f8")
"""What arrays may be of."""
MAX_AXES = 4

Buffer: TypeAlias = "bytes | bytearray | memoryview | NDArray[np.uint8]"
"""Contiguous bytes."""
T = TypeVar("T")


class WireError(InvalidData):
    """A message from the network is broken, too large, or of another version."""


@dataclass(frozen=True)
class Limits:
    """What a message may hold."""

    body_bytes: int = 256 * 2**20
    """Of the whole message."""
    header_bytes: int = 8 * 2**20
    """Of its header."""
    requests: int = 4096
    """Requests, or results."""
    image_pixels: int = MAX_PIXELS
    """Pixels of one image."""
    mask_text: int = 16 * 2**20
    """Bytes of one mask."""
    decoded_bytes: int = 2**30
    """What all masks of a message may take in memory."""


class Writer:
    """Collects the buffers of a message while its header is being written."""

    def __init__(self) -> None:
        self.buffers: list[memoryview] = []

    def buffer(self, data: Buffer) -> int:
        """Add a buffer.

        Returns:
            Its number, for the header.
        """
        self.buffers.append(_view(data))
        return len(self.buffers) - 1

    def array(self, values: Any) -> list[Any]:
        """Add an array.

        Args:
            values: numbers or booleans; floats of another width than 32 bits become 64 bits wide, integers other than
                uint8 too.

        Returns:
            What stands for it in the header.
        """
        array = np.asarray(values)
        kind = array.dtype.newbyteorder("<").str
        if kind not in DTYPES:
            kind = {"f": "<f4" if array.dtype.itemsize == 2 else "<f8", "i": "<i8", "u": "<i8"}.get(
                array.dtype.kind, ""
            )
            if not kind:
                raise InvalidData(f"Expected an array of numbers, but got {array.dtype}.")
        array = np.ascontiguousarray(array, kind).reshape(array.shape)
        return [self.buffer(array.reshape(-1).view(np.uint8)), kind, *array.shape]

    def message(self, header: Mapping[str, Any]) -> bytes:
        """The whole message.

        Args:
            header: JSON values.
        """
        return pack(header, self.buffers)


def pack(header: Mapping[str, Any], buffers: Sequence[Buffer] = ()) -> bytes:
    """A message.

    Args:
        header: JSON values.
        buffers: contiguous bytes.

    Example:
        >>> message = pack({"hello": 1}, [b"raw"])
        >>> reader = unpack(message)
        >>> reader.header, bytes(reader.buffer(0))
        ({'hello': 1}, b'raw')
    """
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode("ascii")
    views = [_view(buffer) for buffer in buffers]
    sizes = [len(view) for view in views]
    fixed = _FIXED.pack(MAGIC, PROTOCOL, 0, len(text), len(sizes))
    parts: list[bytes | memoryview] = [fixed, struct.pack(f"<{len(sizes)}Q", *sizes), text]
    position = sum(len(part) for part in parts)
    for size, view in zip(sizes, views, strict=True):
        parts += [bytes(-position % _ALIGNED), view]
        position += -position % _ALIGNED + size
    return b"".join(parts)


def _view(data: Buffer) -> memoryview:
    array = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8) if len(data) else None
    return memoryview(b"") if array is None or not array.size else array.data


def unpack(message: Buffer, limits: Limits = Limits()) -> Reader:  # noqa: B008 - frozen
    """Read a message; nothing is copied.

    Args:
        message: as it came.
        limits: of what it may hold.

    Raises:
        WireError: if it is no message, broken, too large, or of another version.
    """
    data = _view(message)
    if len(data) > limits.body_bytes:
        raise WireError(f"Expected a message of at most {limits.body_bytes} bytes, but got {len(data)}.")
    if len(data) < _FIXED.size or bytes(data[:4]) != MAGIC:
        raise WireError("Expected a message of visenv, but got something else: is that the address of its server?")
    _, version, _, header_size, count = _FIXED.unpack(data[: _FIXED.size])
    if version != PROTOCOL:
        raise WireError(
            f"Expected a message of protocol {PROTOCOL}, but got one of {version}: use the same version of visenv on "
            "both sides."
        )
    start = _FIXED.size + 8 * count
    if header_size > limits.header_bytes or start + header_size > len(data):
        raise WireError(f"Expected a header of at most {limits.header_bytes} bytes, all there, but got {header_size}.")
    sizes = struct.unpack(f"<{count}Q", data[_FIXED.size : start])
    position, places = start + header_size, []
    for size in sizes:
        position += -position % _ALIGNED
        places.append((position, position + size))
        position += size
    if position != len(data):
        raise WireError(f"Expected a message of {position} bytes, but got {len(data)}: it was cut, or is damaged.")
    try:
        header = json.loads(bytes(data[start : start + header_size]), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise WireError(f"Expected a header in JSON, but it cannot be read: {error!s:.200}") from None
    if not isinstance(header, dict):
        raise WireError(f"Expected a header of names and values, but got a {type(header).__name__}.")
    return Reader(header, data, tuple(places), limits)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")


@dataclass
class Reader:
    """A message that was unpacked: its header, and its buffers where they lie."""

    header: dict[str, Any]
    data: memoryview
    places: tuple[tuple[int, int], ...]
    """Where each buffer begins and ends."""
    limits: Limits = field(default_factory=Limits)
    decoded: int = 0
    """Bytes that what was read so far takes in memory beyond the message."""

    def charge(self, size: int) -> None:
        """Take note that reading on takes so many bytes of memory.

        Raises:
            WireError: if that is too much for one message.
        """
        self.decoded += size
        if self.decoded > self.limits.decoded_bytes:
            raise WireError(f"Expected masks of at most {self.limits.decoded_bytes} bytes once they are decoded.")

    @property
    def fields(self) -> Fields:
        """The header, to be read with checks."""
        return Fields(self.header, self)

    def buffer(self, number: Any) -> memoryview:
        """A buffer.

        Raises:
            WireError: if there is no such buffer.
        """
        if type(number) is not int or not 0 <= number < len(self.places):
            raise WireError(f"Expected the number of one of {len(self.places)} buffers, but got {number!r:.80}.")
        first, last = self.places[number]
        return self.data[first:last]

    def array(self, value: Any) -> NDArray[Any]:
        """An array, read-only.

        Args:
            value: what ``Writer.array`` returned, as it came.

        Raises:
            WireError: if it is none of those, or of another size than its buffer.
        """
        if not isinstance(value, list) or not 2 <= len(value) <= 2 + MAX_AXES or value[1] not in DTYPES:
            raise WireError(f"Expected an array as [buffer, type, …sides], but got {value!r:.80}.")
        data, dtype, shape = self.buffer(value[0]), np.dtype(value[1]), value[2:]
        if not all(type(side) is int and 0 <= side < 2**31 for side in shape):
            raise WireError(f"Expected the sides of an array, but got {shape!r:.80}.")
        if math.prod(shape) * dtype.itemsize != len(data):
            raise WireError(f"Expected {math.prod(shape)} values of {dtype} in a buffer, but got {len(data)} bytes.")
        raw = np.frombuffer(data, np.uint8) if len(data) else np.zeros(0, np.uint8)
        if dtype == np.bool_ and raw.size and raw.max() > 1:
            raise WireError("Expected booleans of 0 and 1, but got other bytes.")
        array = raw.view(dtype).reshape(shape)
        array.flags.writeable = False
        return array


@dataclass(frozen=True)
class Fields:
    """Named values of a header, each read with its type checked."""

    values: Any
    reader: Reader

    def __post_init__(self) -> None:
        if not isinstance(self.values, dict):
            raise WireError(f"Expected names and values, but got {self.values!r:.80}.")

    def _value(self, name: str, kind: type[T], least: int = 0) -> T:
        value = self.values.get(name)
        # bool is an int, but no number
        if type(value) is not kind or (isinstance(value, int) and not least <= value < 2**53):
            raise WireError(f"Expected {name} to be of type {kind.__name__}, but got {value!r:.80}.")
        return value

    def text(self, name: str) -> str:
        """A text."""
        return self._value(name, str)

    def number(self, name: str, least: int = 0) -> int:
        """A whole number of at least ``least``."""
        return self._value(name, int, least)

    def flag(self, name: str) -> bool:
        """True or false."""
        return self._value(name, bool)

    def texts(self, name: str) -> tuple[str, ...]:
        """Some texts."""
        values = self._value(name, list)
        if not all(isinstance(value, str) for value in values):
            raise WireError(f"Expected {name} to be texts, but got {values!r:.80}.")
        return tuple(values)

    def list_of(self, name: str, read: Callable[[Any], T], most: int) -> list[T]:
        """A list, each of whose values is read by ``read``."""
        values = self._value(name, list)
        if len(values) > most:
            raise WireError(f"Expected at most {most} {name}, but got {len(values)}.")
        return [read(value) for value in values]

    def inner(self, name: str) -> Fields:
        """Names and values inside."""
        return Fields(self.values.get(name), self.reader)

    def inners(self, name: str, most: int) -> list[Fields]:
        """A list of names and values."""
        return self.list_of(name, lambda value: Fields(value, self.reader), most)

    def optional(self, name: str, read: Callable[[str], T]) -> T | None:
        """What ``read`` reads under a name, or None where nothing is."""
        return None if self.values.get(name) is None else read(name)

    def array(self, name: str) -> NDArray[Any]:
        """An array; read-only."""
        return self.reader.array(self.values.get(name))

    def arrays(self, name: str, most: int) -> list[NDArray[Any]]:
        """Some arrays; read-only."""
        return self.list_of(name, self.reader.array, most)
