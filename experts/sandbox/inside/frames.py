"""How a sandbox and its owner talk: a head in JSON that says how long the parts are, and the parts."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

HEAD_BYTES = 1 << 16
"""The longest head."""
_LENGTH = struct.Struct("<I")


def pack(head: Mapping[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """A frame as bytes."""
    text = json.dumps({**head, "sizes": [len(part) for part in parts]}).encode()
    return b"".join((_LENGTH.pack(len(text)), text, *parts))


def unpack(read: Callable[[int], bytes], limits: Sequence[int]) -> tuple[dict[str, Any], list[bytes]]:
    """Read a frame.

    Args:
        read: gives exactly so many bytes, or raises.
        limits: the most bytes of each part; there must be as many parts.

    Raises:
        ValueError: if it is no frame, or a part is too long.
    """
    (length,) = _LENGTH.unpack(read(_LENGTH.size))
    if length > HEAD_BYTES:
        raise ValueError(f"a head of {length} bytes")
    head = json.loads(read(length))
    sizes = head.pop("sizes") if isinstance(head, dict) else None
    if not isinstance(sizes, list) or len(sizes) != len(limits):
        raise ValueError("no sizes of parts")
    for size, limit in zip(sizes, limits):  # noqa: B905 - the oldest Python that a container may have
        if type(size) is not int or not 0 <= size <= limit:
            raise ValueError("a part of another size than allowed")
    return head, [read(size) for size in sizes]
